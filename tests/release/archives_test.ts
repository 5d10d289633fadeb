/** The archives that releases are made of, read by the programs that people read them with. */
import assert from "node:assert/strict";
import { type ArchiveFile, tarGz, zip } from "../../release/archives.ts";
import { renameChunks } from "../../release/chunk_names.ts";
import { needs } from "../support/programs.ts";
import { inTempFolder } from "../support/run_cli.ts";

const file = (path: string, text: string, isProgram = false): ArchiveFile => ({
  path,
  bytes: new TextEncoder().encode(text),
  isProgram,
});
const FILES = [
  file("b/empty.txt", ""),
  file("run", "#!/bin/sh\necho it runs\n", true),
  file("a.txt", "x".repeat(100_000)),
];
const TIME = { timeS: Date.UTC(2026, 7, 21, 14, 5, 6) / 1000 };

async function assertUnpacked(folder: string): Promise<void> {
  for (const { path, bytes } of FILES) {
    assert.deepEqual(await Deno.readFile(`${folder}/${path}`), bytes);
  }
  const { stdout } = await new Deno.Command(`${folder}/run`).output();
  assert.equal(new TextDecoder().decode(stdout), "it runs\n");
  const { mtime } = await Deno.stat(`${folder}/a.txt`);
  assert.equal(mtime?.toISOString().slice(0, 16), "2026-08-21T14:05");
}

async function run(program: string, args: string[], cwd: string): Promise<void> {
  const { code, stderr } = await new Deno.Command(program, {
    args,
    cwd,
    env: { TZ: "UTC" },
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
}

const tar = needs("tar", "gzip");
Deno.test({
  name: `tar unpacks what was packed, with its times and what may be run${tar.reason}`,
  ignore: tar.ignore,
  fn: () =>
    inTempFolder(async (folder) => {
      await Deno.writeFile(`${folder}/files.tar.gz`, await tarGz(FILES, TIME));
      await run("tar", ["xzf", "files.tar.gz"], folder);
      await assertUnpacked(folder);
    }),
});

const python = needs("python3");
Deno.test({
  name: `a ZIP file passes the test of another implementation${python.reason}`,
  ignore: python.ignore,
  fn: () =>
    inTempFolder(async (folder) => {
      await Deno.writeFile(`${folder}/files.zip`, await zip(FILES, TIME));
      await run("python3", ["-m", "zipfile", "-t", "files.zip"], folder);
      await run("python3", ["-m", "zipfile", "-e", "files.zip", "."], folder);
      for (const { path, bytes } of FILES) {
        assert.deepEqual(await Deno.readFile(`${folder}/${path}`), bytes);
      }
    }),
});

Deno.test("an archive does not depend on the order in which files are given", async () => {
  assert.deepEqual(await tarGz(FILES, TIME), await tarGz([...FILES].reverse(), TIME));
  assert.deepEqual(await zip(FILES, TIME), await zip([...FILES].reverse(), TIME));
});

Deno.test("a path that an archive cannot hold is refused", async () => {
  await assert.rejects(tarGz([file("ü", "")], TIME), /up to 100 characters of ASCII/);
  await assert.rejects(tarGz([file("a".repeat(101), "")], TIME), /up to 100/);
});

Deno.test("parts of a bundle are named after their contents, whatever the bundler called them", () => {
  const bundle = (a: string, b: string) => [
    file("cli.js", `import"./chunk-${a}.js";import("./x-${b}.js");`),
    file(`chunk-${a}.js`, "export let a=1;"),
    // The two name each other, as parts may that are loaded when they are needed.
    file(`x-${b}.js`, `import{a}from"./chunk-${a}.js";import("./x-${b}.js");`),
  ];
  const sort = (files: ArchiveFile[]) => files.sort((x, y) => x.path < y.path ? -1 : 1);
  const one = sort(renameChunks(bundle("AAAAAAAA", "BBBBBBBB")));
  assert.deepEqual(one, sort(renameChunks(bundle("ZZZZZZZZ", "CCCCCCCC"))));
  const names = one.map(({ path }) => path);
  const [, mentioned] = /import"\.\/(chunk-\w+\.js)"/.exec(
    new TextDecoder().decode(one.find(({ path }) => path === "cli.js")?.bytes),
  ) ?? [];
  assert.ok(names.includes(mentioned ?? ""), `${mentioned} is none of ${names}`);
});
