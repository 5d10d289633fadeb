/**
 * The law of the rooms: who may import whom. `docs/architecture.md` says it in words; here it is
 * checked for every file, with the exact import that breaks it.
 *
 * Imports are read with a regular expression, not a parser: `deno fmt` gives them one shape.
 *
 * @module
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../", import.meta.url));

/** Folders that hold no source of the program. */
const SKIPPED = new Set(["node_modules", "dist", "spool", "clips", "coverage", "demo", "tests"]);

/**
 * Each room with the rooms it may import besides itself; a path belongs to the longest prefix.
 * Rooms further down may use those further up, never the other way round.
 */
const ROOMS: Readonly<Record<string, readonly string[] | "anything">> = {
  "core/types.ts": [],
  "core/clock.ts": ["core/types.ts"],
  "core/exit_codes.ts": [],
  "core/libc.ts": [],
  "core/program.ts": [],
  "core/config/key_vault.ts": [],
  "core/config/values.ts": ["core/types.ts", "core/config/key_vault.ts"],
  "core/config/plain_schema.ts": ["core/types.ts", "core/config/values.ts"],
  "core/redact.ts": ["core/config/values.ts"],
  "core/log.ts": ["core/types.ts", "core/config/values.ts", "core/redact.ts"],
  "core/status/": ["core/types.ts", "core/clock.ts", "core/config/values.ts"],
  "core/config/": [
    "core/types.ts",
    "core/config/values.ts",
    "core/config/plain_schema.ts",
    "core/exit_codes.ts",
    "core/redact.ts",
  ],
  "core/media/": ["core/types.ts"],
  "core/sources/": [
    "core/types.ts",
    "core/clock.ts",
    "core/libc.ts",
    "core/config/values.ts",
    "core/media/",
    "core/sources/hosts.ts",
  ],
  // Plugins may ask, too, what is public.
  "core/sources/hosts.ts": ["core/types.ts"],
  "core/encode/": [
    "core/types.ts",
    "core/clock.ts",
    "core/program.ts",
    "core/config/values.ts",
    "core/media/",
  ],
  "core/spool/": [
    "core/types.ts",
    "core/clock.ts",
    "core/exit_codes.ts",
    "core/config/values.ts",
    "core/media/",
  ],
  "core/delivery/": [
    "core/types.ts",
    "core/clock.ts",
    "core/config/values.ts",
    "core/spool/",
    "core/status/",
  ],
  "core/plugins/": [
    "core/types.ts",
    "core/clock.ts",
    "core/exit_codes.ts",
    "core/program.ts",
    "core/config/values.ts",
    "core/config/plain_schema.ts",
    "core/config/",
    "core/redact.ts",
    "core/log.ts",
  ],
  "core/capture/": [
    "core/types.ts",
    "core/clock.ts",
    "core/config/values.ts",
    "core/media/",
    "core/encode/",
    "core/spool/",
    "core/status/",
  ],
  // Helpers for authors of sinks.
  "core/authoring.ts": ["core/types.ts"],
  "mod.ts": [
    "core/types.ts",
    "core/clock.ts",
    "core/config/values.ts",
    "core/config/plain_schema.ts",
    "core/authoring.ts",
    "core/sources/hosts.ts",
    "kit/contract.ts",
  ],
  // A built-in sink lives by what any plugin has.
  "sinks/": ["mod.ts", "core/types.ts", "core/config/values.ts"],
  "plugins/": ["mod.ts"],
  "plugins/telegram/camsink.test.ts": ["mod.ts", "simulators/"],
  // What an author writes for the kit, and the kit itself.
  "kit/contract.ts": [],
  "kit/": [
    "core/types.ts",
    "core/clock.ts",
    "core/redact.ts",
    "core/config/plain_schema.ts",
    "core/plugins/",
    "kit/contract.ts",
    "simulators/",
  ],
  // A simulator that shared code with the adapter would share its mistakes.
  "simulators/": ["core/types.ts", "core/clock.ts", "core/program.ts"],
  "commands/": "anything",
  "cli.ts": "anything",
  // Makes the files to download out of the program, and is no part of it.
  "release/": [],
  "bench/": "anything",
};

interface SourceFile {
  /** From the root, with slashes. */
  readonly path: string;
  readonly text: string;
}

function* walk(folder: string): Generator<SourceFile> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      if (!SKIPPED.has(entry.name) && !entry.name.startsWith(".")) yield* walk(path);
    } else if (/\.(ts|js|mjs)$/.test(entry.name)) {
      yield {
        path: relative(ROOT, path).split(sep).join("/"),
        text: readFileSync(path, "utf8"),
      };
    }
  }
}

const FILES: readonly SourceFile[] = [...walk(ROOT)];

/** The specifiers that a file imports, statically, dynamically or for types. */
function importsOf({ text }: SourceFile, { types = true } = {}): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  const patterns = [
    types
      ? /^(?:import|export)\b[^"';]*\bfrom\s+"([^"\s]+)"/gm
      : /^(?:import|export)\b(?! type\b)[^"';]*\bfrom\s+"([^"\s]+)"/gm,
    /^import\s+"([^"\s]+)"/gm,
    /\bimport\(\s*"([^"\s]+)"\s*[,)]/g,
  ];
  return patterns.flatMap((pattern) => [...code.matchAll(pattern)].map(([, name]) => name ?? ""));
}

/** A relative import as a path from the root. */
function target(file: SourceFile, specifier: string): string {
  const path = resolve(ROOT, dirname(file.path), specifier);
  return relative(ROOT, path).split(sep).join("/");
}

function roomOf(path: string): string | undefined {
  return Object.keys(ROOMS)
    .filter((room) => path === room || (room.endsWith("/") && path.startsWith(room)))
    .sort((a, b) => b.length - a.length)[0];
}

const localImports = (file: SourceFile, options = {}) =>
  importsOf(file, options).filter((name) => name.startsWith(".")).map((name) => target(file, name));

Deno.test("every source file belongs to a room", () => {
  assert.deepEqual(FILES.filter(({ path }) => !roomOf(path)).map(({ path }) => path), []);
});

Deno.test("every room imports only the rooms that it may", () => {
  const broken: string[] = [];
  for (const file of FILES) {
    const room = roomOf(file.path) ?? "";
    const allowed = ROOMS[room] ?? [];
    if (allowed === "anything") continue;
    for (const path of localImports(file)) {
      const other = roomOf(path);
      if (other !== room && !(other && allowed.includes(other))) {
        broken.push(`${file.path} must not import ${path}`);
      }
    }
  }
  assert.deepEqual(broken, []);
});

Deno.test("only cli.ts and the benches import commands", () => {
  const broken = FILES.filter(({ path }) => !/^(commands\/|cli\.ts$|bench\/)/.test(path))
    .filter((file) => localImports(file).some((path) => path.startsWith("commands/")));
  assert.deepEqual(broken.map(({ path }) => path), []);
});

Deno.test("no file imports itself by way of others, except for types", () => {
  const byPath = new Map(FILES.map((file) => [file.path, file]));
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path);
    assert.equal(at, -1, `a cycle: ${[...trail.slice(at), path].join(" → ")}`);
    const file = byPath.get(path);
    if (!file || done.has(path)) return;
    for (const next of localImports(file, { types: false })) visit(next, [...trail, path]);
    done.add(path);
  };
  for (const { path } of FILES) visit(path, []);
});

Deno.test("every file opens by saying what it is for", () => {
  const silent = FILES.filter(({ text }) => {
    const [opening = ""] = /^\s*(?:#!.*\n)?\s*\/\*\*[\s\S]*?\*\//.exec(text) ?? [];
    return !opening.includes("@module") || opening.replaceAll(/[\s*/]|@module/g, "").length < 40;
  });
  assert.deepEqual(silent.map(({ path }) => path), []);
});

Deno.test("packages come from the import map, never from jsr: or a web address", () => {
  const { imports } = JSON.parse(readFileSync(join(ROOT, "deno.json"), "utf8"));
  const known = (name: string) =>
    Object.keys(imports).some((key) =>
      name === key || name.startsWith(key.endsWith("/") ? key : `${key}/`)
    );
  const broken: string[] = [];
  for (const file of FILES) {
    for (const name of importsOf(file)) {
      if (name.startsWith(".") || name.startsWith("node:") || known(name)) continue;
      broken.push(`${file.path} imports ${name}`);
    }
  }
  assert.deepEqual(broken, []);
});

Deno.test("every package in the import map is pinned to one version", () => {
  const { imports } = JSON.parse(readFileSync(join(ROOT, "deno.json"), "utf8"));
  const loose = Object.values<string>(imports)
    .filter((name) => !name.startsWith("./") && !/@\d+\.\d+\.\d+[^/]*(\/.*)?$/.test(name));
  assert.deepEqual(loose, []);
});

Deno.test("no file has more than 600 lines", () => {
  const long = FILES.map(({ path, text }) => ({ path, lines: text.split("\n").length }))
    .filter(({ lines }) => lines > 601);
  assert.deepEqual(long, []);
});
