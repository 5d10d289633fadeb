/**
 * What is wrong with a configuration, in words: each problem names the path, the value and what was
 * expected there. Works from valibot's issues, whatever message a schema gave them, so that every
 * room's options read alike. The value of a secret is never shown.
 *
 * @module
 */
import type * as v from "valibot";
import { MASK, redact } from "../redact.ts";
import { entriesOf, isValibotSchema } from "./schema.ts";
import {
  choicesOf,
  formatPath,
  markOf,
  type Path,
  placesOf,
  schemaAt,
  unwrapped,
} from "./shape.ts";

/** One thing that is wrong. */
export interface Problem {
  readonly path: Path;
  /** The whole sentence, beginning with the path. */
  readonly text: string;
  /** Where in the file, from 1. */
  readonly line?: number;
  readonly column?: number;
}

/** A configuration that cannot be used; `problems` has everything that is wrong with it. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  /** What the program exits with: `EX_CONFIG` of `sysexits.h`. */
  readonly exitCode = 78;
  readonly problems: readonly Problem[];

  constructor(path: string, problems: readonly Problem[]) {
    const lines = problems.map(({ path: at, text, line }) =>
      // The sentence about a slip of syntax begins with its line.
      `  ${text}${line === undefined || at.length === 0 ? "" : ` (line ${line})`}`
    );
    const count = problems.length === 1 ? "a problem" : `${problems.length} problems`;
    super(`${path} has ${count}:\n${lines.join("\n")}`);
    this.problems = problems;
  }
}

/** The number of single-character changes from one word to another, a swap counting as one. */
function distance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const above = rows[i - 1] ?? [];
      let best = Math.min(
        (above[j] ?? 0) + 1,
        (row[j - 1] ?? 0) + 1,
        (above[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
      );
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, (rows[i - 2]?.[j - 2] ?? 0) + 1);
      }
      row.push(best);
    }
    rows.push(row);
  }
  return rows[a.length]?.[b.length] ?? Infinity;
}

/** The known word that was most likely meant, if any is near. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[-_ ]/g, "");
  let best: { word: string; distance: number } | undefined;
  for (const candidate of known) {
    const found = distance(plain(word), plain(candidate));
    if (best === undefined || found < best.distance) best = { word: candidate, distance: found };
  }
  const limit = Math.max(1, Math.floor(word.length / 3));
  return best !== undefined && best.distance <= limit ? best.word : undefined;
}

function didYouMean(word: string, known: readonly string[]): string {
  const meant = nearest(word, known);
  return meant === undefined ? "" : `; did you mean ${JSON.stringify(meant)}?`;
}

/** The value as a person would recognise it: short, and without what looks like a secret. */
function shown(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list";
  if (typeof value === "object" && value !== null) return "an object";
  const text = JSON.stringify(typeof value === "string" ? redact(value) : value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 76)}…"` : text;
}

/** What a schema takes, for a sentence that goes on after "expected". */
function expectation(schema: v.GenericSchema): string {
  const inner = unwrapped(schema);
  const message = "message" in inner ? inner.message : undefined;
  if (typeof message === "string" && message.startsWith("expected ")) {
    return message.slice("expected ".length);
  }
  const choices = choicesOf(inner);
  if (choices.length > 0) return alternatives(choices.map(expectation));
  if (inner.type === "picklist" && "options" in inner && Array.isArray(inner.options)) {
    return alternatives(inner.options.map((option) => JSON.stringify(option)));
  }
  if (inner.type === "literal" && "literal" in inner) return JSON.stringify(inner.literal);
  return KINDS[inner.type] ?? (entriesOf(inner) === undefined ? inner.expects : "an object");
}

const KINDS: Readonly<Record<string, string>> = {
  string: "a text",
  integer: "a whole number",
  number: "a number",
  boolean: "true or false",
  array: "a list",
  record: "an object",
  object: "an object",
  Array: "a list",
  Object: "an object",
};

function alternatives(choices: readonly string[]): string {
  const last = choices.at(-1) ?? "";
  return choices.length < 2 ? last : `${choices.slice(0, -1).join(", ")} or ${last}`;
}

/** The words that a picklist, a variant's `type` or a union of literals allows. */
function wordsOf(schema: v.GenericSchema): readonly string[] {
  const inner = unwrapped(schema);
  if (inner.type === "picklist" && "options" in inner && Array.isArray(inner.options)) {
    return inner.options.filter((option) => typeof option === "string");
  }
  if (inner.type === "literal" && "literal" in inner && typeof inner.literal === "string") {
    return [inner.literal];
  }
  return choicesOf(inner).flatMap((choice) => wordsOf(choice));
}

function valueAt(file: unknown, path: Path): unknown {
  let value = file;
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = Object.getOwnPropertyDescriptor(value, key)?.value;
  }
  return value;
}

/** The words known for `type` in the variant that holds it. */
function knownTypes(shape: v.GenericSchema, file: unknown, path: Path): readonly string[] {
  if (path.at(-1) !== "type") return [];
  const holder = schemaAt(shape, file, path.slice(0, -1));
  if (holder === undefined) return [];
  return choicesOf(unwrapped(holder)).flatMap((choice) => {
    const type = entriesOf(choice)?.type;
    return isValibotSchema(type) ? wordsOf(type) : [];
  });
}

/** What an issue expects, in the words of its schema where it has any. */
function expected(
  issue: v.BaseIssue<unknown>,
  schema: v.GenericSchema | undefined,
): { readonly expected: string } | { readonly sentence: string } {
  if (issue.message.startsWith("expected ")) {
    return { expected: issue.message.slice("expected ".length) };
  }
  // valibot's own words, as `Invalid type: Expected string but received 5`.
  const isOwn = /^Invalid [\w ]+: (Expected|Received) /.test(issue.message);
  if (!isOwn) return { sentence: issue.message };
  if (/^Invalid (type|key):/.test(issue.message) && schema !== undefined) {
    return { expected: expectation(schema) };
  }
  const bound = /^([<>]=?)(.+)$/.exec(issue.expected ?? "");
  if (bound) {
    const words: Record<string, string> = {
      ">=": "at least",
      "<=": "at most",
      ">": "more than",
      "<": "less than",
    };
    const length = /^Invalid length/.test(issue.message) ? " characters or entries" : "";
    return { expected: `${words[bound[1] ?? ""]} ${bound[2]}${length}` };
  }
  if (issue.expected === "!0") return { expected: "something that is not empty" };
  if (issue.expected) return { expected: KINDS[issue.expected] ?? issue.expected };
  const kind = /^Invalid ([\w ]+):/.exec(issue.message)?.[1] ?? "value";
  return { expected: KINDS[kind] ?? `a valid ${kind}` };
}

/** Whether only an object fits: not a list, and no choice that would take one. */
function holdsNames(schema: v.GenericSchema): boolean {
  const inner = unwrapped(schema);
  const choices = choicesOf(inner);
  return choices.length > 0
    ? choices.every(holdsNames)
    : ["strict_object", "loose_object", "object", "record"].includes(inner.type);
}

/** Everything that is wrong, in the order of the file's structure. */
export function problemsOf(
  issues: readonly v.BaseIssue<unknown>[],
  shape: v.GenericSchema,
  file: unknown,
): Problem[] {
  const problems: Problem[] = [];
  const add = (path: Path, rest: string) => {
    const text = path.length === 0 ? rest : `${formatPath(path)}: ${rest}`;
    if (!problems.some((problem) => problem.text === text)) problems.push({ path, text });
  };
  for (const place of placesOf(shape, file)) {
    if (place.knownKeys === undefined) continue;
    const key = String(place.path.at(-1));
    const known = place.knownKeys;
    const meant = didYouMean(key, known);
    const help = meant !== "" || known.length > 12
      ? meant
      : `; known here: ${known.filter((name) => name !== "$schema").join(", ")}`;
    add(place.path, `unknown key ${JSON.stringify(key)}${help}`);
  }
  // For valibot a list is an object too.
  for (const { path, value, schema } of placesOf(shape, file)) {
    if (!Array.isArray(value) || schema === undefined || !holdsNames(schema)) continue;
    add(path, `got ${shown(value)}, expected an object: { … }`);
  }
  const withValueProblem = new Set<string>();
  for (const issue of issues) {
    // Unknown keys were found above, all of them: valibot stops at an object's first.
    if (issue.expected === "never") continue;
    const path = (issue.path ?? []).map((item) => item.key as string | number);
    const value = valueAt(file, path);
    const schema = schemaAt(shape, file, path);
    const types = knownTypes(shape, file, path);
    const said = expected(issue, schema);
    const isContainer = typeof value === "object" && value !== null;
    // The second complaint about one value is mostly an echo of the first.
    const id = formatPath(path);
    if (!isContainer && path.length > 0) {
      if (withValueProblem.has(id)) continue;
      withValueProblem.add(id);
    }
    const mark = schema === undefined ? undefined : markOf(schema);
    const got = mark === "secret" && value !== undefined && value !== ""
      ? `"${MASK}"`
      : shown(value);
    if ("sentence" in said) {
      const plain = redact(said.sentence);
      add(path, isContainer || value === undefined ? plain : `got ${got}: ${plain}`);
    } else if (value === undefined && path.length > 0) {
      add(path, `missing, expected ${said.expected}`);
    } else {
      // A rule about several keys of an object, where the object itself is no news.
      if (isContainer && !Array.isArray(value) && schema !== undefined && holdsNames(schema)) {
        add(path, `expected ${said.expected}`);
        continue;
      }
      const words = types.length > 0 ? types : schema === undefined ? [] : wordsOf(schema);
      const meant = typeof value === "string" && words.length > 1 ? didYouMean(value, words) : "";
      const isPlugin = meant === "" && path[0] === "sinks" && path[2] === "type";
      const help = isPlugin ? "; a plugin is added first: camsink plugin add PATH" : meant;
      add(path, `got ${got}, expected ${said.expected}${help}`);
    }
  }
  return problems;
}
