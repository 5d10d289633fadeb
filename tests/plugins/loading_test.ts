/**
 * The ways by which a plugin is loaded: a file in TypeScript or JavaScript, a folder with `deno.json`,
 * and a package, which comes from a registry that runs here. Each is added and checked with the real
 * program; `import … from "camsink"` works in all without anything installed.
 */
import assert from "node:assert/strict";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import project from "../../deno.json" with { type: "json" };
import { runBare } from "../support/release.ts";
import { inTempFolder, runCli } from "../support/run_cli.ts";
import { startToyRegistry, TOY_CONFIG, TOY_SINK, writeToyFolder } from "../support/toy_plugin.ts";

/** Where packages were fetched to already. */
async function denoFolder(): Promise<string> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
  const { denoDir } = JSON.parse(new TextDecoder().decode(stdout)) as { denoDir: string };
  return denoDir;
}

async function addAndCheck(
  from: string,
  { cwd, env = {}, run = (args) => runCli(args, { cwd, env }) }: {
    readonly cwd: string;
    readonly env?: Record<string, string>;
    readonly run?: (
      args: readonly string[],
    ) => Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }>;
  },
): Promise<string> {
  await writeFile(`${cwd}/camsink.jsonc`, TOY_CONFIG);
  await rm(`${cwd}/camsink.plugins.json`, { force: true });
  const added = await run(["plugin", "add", from, "--yes"]);
  assert.equal(added.code, 0, added.stderr);
  const checked = await run(["check", "--json"]);
  assert.match(
    checked.stdout,
    /"what":"sink","name":"mine","ok":true/,
    checked.stdout + checked.stderr,
  );
  return added.stderr;
}

Deno.test("a plugin is a file in JavaScript", () =>
  inTempFolder(async (cwd) => {
    await writeFile(`${cwd}/toy.js`, TOY_SINK);
    await addAndCheck("./toy.js", { cwd });
  }));

Deno.test("a plugin is a folder with nothing but a mod.ts, as the tutorial begins", () =>
  inTempFolder(async (cwd) => {
    await mkdir(`${cwd}/toy`);
    assert.match(
      (await runCli(["plugin", "add", "./toy", "--yes"], { cwd })).stderr,
      /the folder .*toy has no deno\.json and no mod\.ts/,
    );
    await writeFile(`${cwd}/toy/mod.ts`, TOY_SINK);
    await addAndCheck("./toy", { cwd });
  }));

Deno.test("a plugin is a folder with deno.json, whose version is shown", () =>
  inTempFolder(async (cwd) => {
    await writeToyFolder(`${cwd}/toy`);
    assert.match(await addAndCheck("./toy", { cwd }), /4\.5\.6/);
  }));

Deno.test("a plugin is a package of a registry, pinned to its version", () =>
  inTempFolder(async (cwd) => {
    await mkdir(`${cwd}/home`);
    await using _registry = await startToyRegistry(`${cwd}/home`);
    const env = { HOME: `${cwd}/home`, DENO_DIR: await denoFolder() };
    assert.match(await addAndCheck("npm:@camsink-test/sink-toy", { cwd, env }), /1\.2\.3/);
    const kept = await readFile(`${cwd}/camsink.plugins.json`, "utf8");
    assert.match(kept, /"from": "npm:@camsink-test\/sink-toy@1\.2\.3"/);
    const { stderr } = await runCli(["plugin", "add", "npm:@camsink-test/none", "--yes"], {
      cwd,
      env,
    });
    assert.match(stderr, /cannot load the plugin npm:@camsink-test\/none/);
  }));

Deno.test("the installed command takes a file, a folder and a package", () =>
  inTempFolder(async (cwd) => {
    await using _registry = await startToyRegistry(cwd);
    // It has a lock file of its own, for which it asks the registry: the network's settings stay.
    const env = {
      ...Deno.env.toObject(),
      ...{ HOME: cwd, DENO_DIR: await denoFolder(), NO_COLOR: "1", XDG_CONFIG_HOME: cwd },
    };
    const root = new URL("../../", import.meta.url);
    // As the README has it.
    const installed = await runBare([
      ...[Deno.execPath(), "install", "-g", "--root", cwd, "--name", "camsink", "--frozen=false"],
      ...["--config", new URL("deno.json", root).pathname],
      ...project.tasks.camsink.command.split(" ").filter((word) => word.startsWith("--")),
      new URL("cli.ts", root).pathname,
    ], { cwd, env });
    assert.equal(installed.code, 0, installed.stderr);
    const run = (args: readonly string[]) => runBare([`${cwd}/bin/camsink`, ...args], { cwd, env });
    await writeFile(`${cwd}/toy.ts`, TOY_SINK);
    await writeToyFolder(`${cwd}/toy`);
    for (const from of ["./toy.ts", "./toy", "npm:@camsink-test/sink-toy"]) {
      await addAndCheck(from, { cwd, run });
    }
  }));
