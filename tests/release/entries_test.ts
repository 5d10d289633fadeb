/** What a release must have as files of their own, held against what the program loads by path. */
import assert from "node:assert/strict";
import { ENTRIES } from "../../release/entries.ts";
import { ROOT } from "../support/release.ts";
import { walkFiles } from "../support/walk_files.ts";

const ROOMS = ["core", "sinks", "plugins", "commands", "kit", "simulators"];

Deno.test("every module that the program loads by path is in a release", async () => {
  const loaded = new Set<string>();
  for (const room of ROOMS) {
    for await (const path of walkFiles(`${ROOT}${room}`)) {
      if (!path.endsWith(".ts")) continue;
      const text = await Deno.readTextFile(path);
      for (const [, name = ""] of text.matchAll(/programFile\("([^"]+\.ts)"\)/g)) loaded.add(name);
      // Beside a bundle there is no such file: only `programFile` knows where it lies.
      assert.doesNotMatch(text, /new Worker\(\s*new URL\(/, path);
    }
  }
  assert.ok(loaded.size >= 4, `${loaded.size} found: has programFile another name?`);
  for (const name of loaded) assert.ok(ENTRIES.includes(name), `${name} is not in ENTRIES`);
});
