/**
 * What can be told of a Bicep file without its compiler, which no registry that this project uses has:
 * that brackets and texts are closed, that every name is declared once and every name used is
 * declared, and how resources are typed. Of expressions it reads words only.
 *
 * The language: https://learn.microsoft.com/azure/azure-resource-manager/bicep/file
 *
 * @module
 */

/** One declared resource. */
export interface BicepResource {
  readonly name: string;
  /** Such as `Microsoft.Storage/storageAccounts`. */
  readonly type: string;
  /** Such as `2023-05-01`. */
  readonly apiVersion: string;
  readonly isExisting: boolean;
}

/** What a file declares. */
export interface BicepFile {
  readonly params: readonly string[];
  readonly resources: readonly BicepResource[];
  readonly outputs: readonly string[];
}

/** Functions and words of the language that the recipes use. */
const KNOWN = new Set(
  ("param var resource output existing if for in string int bool object array true false null " +
    "resourceGroup subscription uniqueString take guid subscriptionResourceId base64 replace json " +
    "description minLength maxLength minValue secure").split(" "),
);

const CLOSERS: Readonly<Record<string, string>> = { "}": "{", "]": "[", ")": "(" };

/** Reads a file. @throws with the line of the first thing that is wrong */
export function readBicep(text: string): BicepFile {
  const words: { text: string; line: number; isKey: boolean; isMember: boolean }[] = [];
  const open: { text: string; line: number }[] = [];
  let line = 1;
  let at = 0;
  const fail = (what: string, where = line): never => {
    throw new Error(`line ${where}: ${what}`);
  };
  /** Reads code until the bracket that closes an interpolation, or the end. */
  const readCode = (isInterpolation: boolean) => {
    const depth = open.length;
    while (at < text.length) {
      const char = text[at] ?? "";
      if (char === "\n") line++, at++;
      else if (text.startsWith("//", at)) at = endOfLine(text, at);
      else if (char === "'") readText();
      else if (char in CLOSERS) {
        if (isInterpolation && char === "}" && open.length === depth) return void at++;
        const opened = open.pop();
        if (opened?.text !== CLOSERS[char]) {
          fail(`"${char}" closes "${opened?.text ?? ""}" of line ${opened?.line ?? line}`);
        }
        at++;
      } else if ("{[(".includes(char)) open.push({ text: char, line }), at++;
      else if (/[A-Za-z_]/.test(char)) {
        const word = /^\w+/.exec(text.slice(at, at + 200))?.[0] ?? char;
        words.push({
          ...{ text: word, line },
          isKey: /^\s*:/.test(text.slice(at + word.length, at + word.length + 9)),
          isMember: text[at - 1] === ".",
        });
        at += word.length;
      } else if (/\d/.test(char)) at += /^\w+/.exec(text.slice(at, at + 200))?.[0].length ?? 1;
      else at++;
    }
    if (isInterpolation) fail('a "${" that is not closed');
  };
  const readText = () => {
    const from = line;
    at++;
    for (;;) {
      const char = text[at];
      if (char === undefined || char === "\n") return fail("a text that is not closed", from);
      if (char === "'") return void at++;
      if (char === "\\") at += 2;
      else if (text.startsWith("${", at)) at += 2, readCode(true);
      else at++;
    }
  };
  readCode(false);
  const left = open.at(-1);
  if (left !== undefined) fail(`"${left.text}" is not closed`, left.line);

  const declared = new Set<string>();
  const declare = (pattern: RegExp): RegExpMatchArray[] =>
    [...text.matchAll(pattern)].map((match) => {
      const name = match[1] ?? "";
      if (declared.has(name)) fail(`"${name}" is declared twice`, lineOf(text, match.index));
      declared.add(name);
      return match;
    });
  const params = declare(/^param (\w+) /gm).map(([, name]) => name ?? "");
  declare(/^var (\w+) = /gm);
  const resources = declare(/^resource (\w+) .*$/gm).map(([whole, name = ""]) => {
    const [, type = "", apiVersion = "", rest = ""] =
      /^resource \w+ '([\w.]+(?:\/\w+)+)@(\d{4}-\d\d-\d\d(?:-preview)?)' (existing )?=/.exec(
        whole,
      ) ??
        fail(`not how a resource is declared: ${whole}`);
    return { name, type, apiVersion, isExisting: rest !== "" };
  });
  // Outputs have names of their own.
  const outputs = [...text.matchAll(/^output (\w+) \w+ = /gm)].map(([, name]) => name ?? "");
  for (const { text: word, line: where, isKey, isMember } of words) {
    if (isKey || isMember || KNOWN.has(word) || declared.has(word) || outputs.includes(word)) {
      continue;
    }
    fail(`"${word}" is not declared`, where);
  }
  return { params, resources, outputs };
}

function endOfLine(text: string, at: number): number {
  const end = text.indexOf("\n", at);
  return end < 0 ? text.length : end;
}

function lineOf(text: string, at: number): number {
  return text.slice(0, at).split("\n").length;
}
