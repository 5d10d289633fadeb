/**
 * The text of a configuration file: JSON with comments. Says where in the file something is, and
 * shows the line of a syntax error.
 *
 * @module
 */
import { basename } from "node:path";
import { type Node, type ParseError, parseTree, printParseErrorCode } from "jsonc-parser";
import { ConfigError, type Problem } from "./problems.ts";
import { formatPath, type Path } from "./shape.ts";

const SYNTAX: Readonly<Record<string, string>> = {
  InvalidSymbol: "a word that is not JSON: texts stand in double quotes",
  InvalidNumberFormat: "a number that is not written as JSON writes it",
  PropertyNameExpected: "expected a key in double quotes",
  ValueExpected: "expected a value",
  ColonExpected: 'expected ":" after the key',
  CommaExpected: 'expected "," before this',
  CloseBraceExpected: 'expected "}"',
  CloseBracketExpected: 'expected "]"',
  EndOfFileExpected: "expected the end of the file",
  UnexpectedEndOfComment: 'a comment that is not closed: expected "*/"',
  UnexpectedEndOfString: 'a text that is not closed: expected "',
  InvalidEscapeCharacter: String
    .raw`a "\" that JSON does not know: write "\\" for one`,
  InvalidCharacter: "a character that must be written as an escape",
};

/**
 * The tree of a file's text; comments and trailing commas are allowed.
 *
 * @throws {ConfigError} with the place of every error, and its line shown
 */
export function parseText(text: string, path: string): Node {
  const errors: ParseError[] = [];
  const source = text.replace(/^\uFEFF/, " ");
  const empty = new ConfigError(path, [{
    path: [],
    text: `${basename(path)} is empty, expected an object: { … }; make one with: camsink init`,
  }]);
  if (source.trim() === "") throw empty;
  const tree = parseTree(source, errors, { allowTrailingComma: true });
  if (errors.length > 0) {
    const lines = source.split(/\r?\n/);
    // One slip makes the parser stumble several times: the first on each line is the true one.
    const seen = new Set<number>();
    const problems = errors.flatMap(({ error, offset }): Problem[] => {
      const { line, column } = positionAt(source, offset);
      if (seen.has(line)) return [];
      seen.add(line);
      const what = SYNTAX[printParseErrorCode(error)] ?? printParseErrorCode(error);
      return [{
        path: [],
        text: `${line}:${column}: ${what}\n${excerpt(lines[line - 1] ?? "", column)}`,
        line,
        column,
      }];
    });
    throw new ConfigError(path, problems);
  }
  if (tree === undefined) throw empty;
  return tree;
}

/** The line with a marker below the place. What may be a secret is not shown. */
function excerpt(line: string, column: number): string {
  const key = /^.*?(?:token|password|secret|cookie|connection\w*|sas\w*|url)["']?\s*:/i.exec(line)
    ?.[0];
  // In a file that does not parse, a secret is only known by the key before it.
  const safe = key === undefined ? line : `${key} …`;
  const from = Math.max(0, column - 61);
  const lines = [safe.slice(from, from + 100).replaceAll("\t", " ")];
  if (column <= safe.length + 1) lines.push("^".padStart(column - from));
  return lines.map((text) => `    ${text}`).join("\n");
}

function positionAt(text: string, offset: number): { line: number; column: number } {
  const before = text.slice(0, offset);
  return {
    line: before.split("\n").length,
    column: offset - (before.lastIndexOf("\n") + 1) + 1,
  };
}

/** JSON lets a key stand twice and the last one win: surely not what was meant. */
export function* repeatedKeys(node: Node, text: string, path: Path = []): Generator<Problem> {
  const seen = new Map<string, number>();
  for (const [index, child] of (node.children ?? []).entries()) {
    if (node.type === "array") {
      yield* repeatedKeys(child, text, [...path, index]);
      continue;
    }
    const [key, value] = child.children ?? [];
    if (child.type !== "property" || key === undefined || value === undefined) continue;
    const name = String(key.value);
    const here = [...path, name];
    const { line, column } = positionAt(text, key.offset);
    const first = seen.get(name);
    if (first !== undefined) {
      yield {
        path: here,
        text: `${formatPath(here)}: this key stands here twice, first on line ${first}`,
        line,
        column,
      };
    } else if (name === "__proto__") {
      yield { path: here, text: `${formatPath(here)}: this name cannot be used`, line, column };
    }
    seen.set(name, first ?? line);
    yield* repeatedKeys(value, text, here);
  }
}

/** Adds where in the file the problem is: at its key, or at the nearest one that there is. */
export function located(problem: Problem, tree: Node, text: string): Problem {
  if (problem.line !== undefined || problem.path.length === 0) return problem;
  let at = tree;
  let offset = tree.offset;
  for (const step of problem.path) {
    const next = at.type === "array"
      ? at.children?.[Number(step)]
      : at.children?.findLast((child) => child.children?.[0]?.value === step);
    const value = next?.type === "property" ? next.children?.[1] : next;
    if (next === undefined || value === undefined) break;
    offset = next.offset;
    at = value;
  }
  return { ...problem, ...positionAt(text, offset) };
}
