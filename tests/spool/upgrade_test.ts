/**
 * A spool that an older Camsink left is taken over by this one, and one of a newer is refused.
 *
 * `fixtures/spool/first_form_killed.tar.gz` is a real one: the first version that recorded end to end
 * (commit 5309f33; no tags in its catalogue) recorded a simulated camera of 160x96 in clips of 5 s,
 * into a local folder and into an Azure that was away, and was ended by `kill -9` in its fourth clip.
 * The catalogue is mostly in SQLite's log, where the kill left it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { needs } from "../support/programs.ts";
import { cliCommand, inTempFolder, runCli } from "../support/run_cli.ts";
import { walkFiles } from "../support/walk_files.ts";

const OLD = fileURLToPath(new URL("../fixtures/spool/first_form_killed.tar.gz", import.meta.url));
const FINISHED = ["20261124T221225Z.mp4", "20261124T221230Z.mp4", "20261124T221235Z.mp4"];
const TORN = "20261124T221240Z.mp4";

const tar = needs("tar");

/** The old spool in `folder`, and a configuration for it with the sinks that it knows. */
async function unpack(folder: string): Promise<void> {
  const { success } = await new Deno.Command("tar", { args: ["-xzf", OLD, "-C", folder] }).output();
  assert.ok(success);
  await Deno.writeTextFile(
    `${folder}/camsink.json`,
    JSON.stringify({
      // Nothing listens there: what comes is the old spool's alone.
      cameras: { "Back yard": { type: "snapshot", url: "http://127.0.0.1:9/snap.jpg" } },
      spool: { path: "./spool" },
      sinks: {
        local: { type: "local-folder", path: "./local" },
        azure: { type: "local-folder", path: "./azure" },
      },
    }),
  );
}

async function clipsIn(folder: string): Promise<string[]> {
  const paths = await Array.fromAsync(walkFiles(folder)).catch(() => []);
  return paths.filter((path) => path.endsWith(".mp4"))
    .map((path) => path.slice(path.lastIndexOf("/") + 1)).sort();
}

Deno.test({
  name:
    "the spool of an older version is taken over: its torn clip is mended, each sink gets what it lacks " +
    `and nothing twice${tar.reason}`,
  ignore: tar.ignore,
  fn: () =>
    inTempFolder(async (cwd) => {
      await unpack(cwd);
      const child = cliCommand(["capture", "--json"], { cwd }).spawn();
      const said = Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
      ]);
      try {
        const signal = AbortSignal.timeout(120_000);
        const arrived = async () =>
          (await clipsIn(`${cwd}/azure`)).length >= 4 &&
          (await clipsIn(`${cwd}/local`)).length >= 1;
        while (!signal.aborted && !await arrived()) {
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
      } finally {
        child.kill("SIGTERM");
        await child.status;
      }
      const text = (await said).join("\n");
      assert.equal((await child.status).code, 0, text);
      assert.deepEqual(await clipsIn(`${cwd}/azure`), [...FINISHED, TORN], text);
      // It had the others, and its receipts were not forgotten.
      assert.deepEqual(await clipsIn(`${cwd}/local`), [TORN], text);
      assert.doesNotMatch(text, /made anew/);
      assert.deepEqual(await Array.fromAsync(Deno.readDir(`${cwd}/spool/open`)), []);

      const listed = await runCli(["clips", "--json"], { cwd });
      assert.equal(listed.code, 0, listed.stderr);
      for (const name of [...FINISHED, TORN]) assert.match(listed.stdout, new RegExp(name));
      const verified = await runCli(["verify"], { cwd });
      // The folder of then is not here: what receipts are left says so.
      assert.equal(verified.code, 1, verified.stderr);
      assert.deepEqual(
        [...verified.stdout.matchAll(/missing +(\w+) +\S+\/(\S+)/g)].map(([, sink, name]) =>
          `${sink} ${name}`
        ),
        FINISHED.map((name) => `local ${name}`),
      );
    }),
});

Deno.test({
  name: `a spool or a catalogue of a newer version is refused with exit code 78 and left as it is` +
    tar.reason,
  ignore: tar.ignore,
  fn: () =>
    inTempFolder(async (cwd) => {
      await unpack(cwd);
      const path = `${cwd}/spool/catalogue.db`;
      const db = new DatabaseSync(path);
      db.exec("PRAGMA user_version = 2; PRAGMA wal_checkpoint(TRUNCATE);");
      db.close();
      const before = await Deno.readFile(path);
      for (const args of [["capture", "--json"], ["clips"]]) {
        const { code, stdout, stderr } = await runCli(args, { cwd });
        assert.equal(code, 78, stdout + stderr);
        assert.match(
          stdout + stderr,
          /catalogue.* has version 2, but this release knows only up to 1: use the release that made it/,
        );
      }
      assert.deepEqual(await Deno.readFile(path), before);
      assert.equal((await clipsIn(`${cwd}/spool`)).length, 3);

      await Deno.writeTextFile(`${cwd}/spool/format.json`, '{ "spool": 2 }');
      const { code, stdout, stderr } = await runCli(["capture", "--json"], { cwd });
      assert.equal(code, 78, stdout + stderr);
      assert.match(stdout + stderr, /format 2, but this release knows only up to 1/);
    }),
});
