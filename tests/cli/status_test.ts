/**
 * `camsink status` as a program beside a recording: what it shows and its exit code.
 *
 * @module
 */
import assert from "node:assert/strict";
import { startSnapshotCamera } from "../../simulators/snapshot_camera.ts";
import { quickStatus } from "../../commands/status.ts";
import { cliCommand, inTempFolder, runCli } from "../support/run_cli.ts";
import { fileURLToPath } from "node:url";

Deno.test("status without a recording says so and exits 1", () =>
  inTempFolder(async (cwd) => {
    const { code, stdout, stderr } = await runCli(["status"], { cwd });
    assert.equal(code, 1, stderr);
    assert.match(stdout, /no capture runs/);
    const asJson = await runCli(["status", "--json"], { cwd });
    assert.equal(asJson.code, 1);
    assert.deepEqual(JSON.parse(asJson.stdout).problems, ["no capture runs"]);
  }));

Deno.test("status beside a recording shows it and exits 0, and 1 when it was killed or is over", () =>
  inTempFolder(async (cwd) => {
    await using camera = await startSnapshotCamera({ name: "Yard", widthPx: 320, heightPx: 180 });
    const secret = "very-secret-password";
    await Deno.writeTextFile(
      `${cwd}/camsink.jsonc`,
      JSON.stringify({
        cameras: {
          yard: {
            type: "snapshot",
            url: camera.url,
            fps: 5,
            username: "me",
            password: "env:CAMERA_PASSWORD",
          },
        },
        spool: { path: "./elsewhere" },
        sinks: { local: { type: "local-folder", path: "./clips" } },
        alerts: { heartbeat: "http://127.0.0.1:1/very-secret-token" },
      }),
    );
    const child = cliCommand(["capture"], { cwd, env: { CAMERA_PASSWORD: secret } }).spawn();
    const said = new Response(child.stdout).text();
    const complained = new Response(child.stderr).text();
    try {
      // Its file is written every five seconds, from the start on.
      let isOver = false;
      child.status.then(() => isOver = true);
      let seen = await runCli(["status", "--json"], { cwd });
      while (seen.code !== 0 && !isOver) seen = await runCli(["status", "--json"], { cwd });
      assert.equal(seen.code, 0, seen.stdout + seen.stderr);
      const { ok, cameras, sinks, problems, pid } = JSON.parse(seen.stdout);
      assert.equal(ok, true);
      assert.equal(pid, child.pid);
      assert.equal(cameras[0].name, "yard");
      assert.equal(cameras[0].state, "recording");
      assert.equal(sinks[0].name, "local");
      assert.deepEqual(problems, []);
      const text = await runCli(["status"], { cwd });
      assert.equal(text.code, 0, text.stdout);
      assert.match(text.stdout, /yard +recording/);
      assert.match(text.stdout, /every camera is being recorded/);
      const kept = await Deno.readTextFile(`${cwd}/elsewhere/status.json`);
      assert.ok(!`${kept}${seen.stdout}${text.stdout}`.includes("very-secret"));

      // The file of one that was killed grows old.
      const snapshot = JSON.parse(kept);
      await Deno.mkdir(`${cwd}/old`);
      await Deno.writeTextFile(
        `${cwd}/old/status.json`,
        JSON.stringify({
          ...snapshot,
          writtenAt: new Date(Date.parse(snapshot.writtenAt) - 40_000).toISOString(),
        }),
      );
      const old = await runCli(["status", "--spool", "old"], { cwd });
      assert.equal(old.code, 1);
      assert.match(old.stdout, /no capture runs, or it hangs/);
    } finally {
      child.kill("SIGTERM");
      await child.status;
    }
    assert.ok(!`${await said}${await complained}`.includes("very-secret"));
    const after = await runCli(["status"], { cwd });
    assert.equal(after.code, 1);
    assert.match(after.stdout, /no capture runs/);
  }));

const SNAPSHOT = {
  ...{ version: 1, product: "camsink", pid: 1, startedAt: "2026-08-21T14:05:00.000Z" },
  cameras: [{
    ...{ name: "Yard", state: "recording", fps: 5, clipsFinished: 1, bytesFinished: 1 },
    framesDropped: 0,
  }],
  ...{ silentAccounts: [], sinks: [], alerts: [] },
};

async function writeSnapshot(spool: string, ageMs = 0, camera = {}): Promise<void> {
  await Deno.mkdir(spool, { recursive: true });
  const writtenAt = new Date(Date.now() - ageMs).toISOString();
  const cameras = SNAPSHOT.cameras.map((usual) => ({ ...usual, ...camera }));
  const snapshot = { ...SNAPSHOT, cameras, writtenAt };
  await Deno.writeTextFile(`${spool}/status.json`, JSON.stringify(snapshot));
}

Deno.test("the quick way to the status says exactly what the long way says", () =>
  inTempFolder(async (cwd) => {
    // Ahead of the clock, so that it stays fresh however slow this machine is.
    await writeSnapshot(`${cwd}/a spool`, -20_000);
    await Deno.writeTextFile(
      `${cwd}/camsink.jsonc`,
      `{ // with a comment
        "cameras": { "Yard": { "type": "snapshot", "url": "http://127.0.0.1:9/" } },
        "spool": { "path": "./a spool" },
        "sinks": { "local": { "type": "local-folder", "path": "./clips" } },
      }`,
    );
    // A flag that the quick way does not know makes the difference.
    const quick = await runCli(["status", "--json"], { cwd });
    const long = await runCli(["status", "--json", "--log-level", "warn"], { cwd });
    assert.equal(quick.code, 0, quick.stdout + quick.stderr);
    assert.deepEqual(quick, long);
    assert.equal(JSON.parse(quick.stdout).spoolPath, `${cwd}/a spool`);
  }));

Deno.test("status shows why a camera is recorded all the time", () =>
  inTempFolder(async (cwd) => {
    const eventsUnheard = "motion cannot be seen (no ffmpeg): everything is recorded";
    await writeSnapshot(`${cwd}/spool`, -20_000, { eventsUnheard });
    const { code, stdout } = await runCli(["status", "--spool", "spool"], { cwd });
    assert.equal(code, 0, stdout);
    assert.match(stdout, /Yard +recording.*\n +motion cannot be seen \(no ffmpeg\): everything is/);
  }));

Deno.test("the quick way leaves to the long one what only that can explain", () =>
  inTempFolder(async (cwd) => {
    await writeSnapshot(`${cwd}/old`, 3_600_000);
    await Deno.writeTextFile(`${cwd}/bad.jsonc`, '{ "spool": 5 }');
    await Deno.writeTextFile(`${cwd}/torn.jsonc`, "[");
    for (
      const argv of [
        ["--spool", `${cwd}/none`],
        ["--spool", `${cwd}/old`],
        ["--spool"],
        ["--spool", "--json"],
        ["--unknown"],
        ["--json", "--json"],
        ["--help"],
        ["--config", `${cwd}/none.jsonc`],
        ["--config", `${cwd}/bad.jsonc`],
        ["--config", `${cwd}/torn.jsonc`],
      ]
    ) {
      assert.equal(await quickStatus(argv), undefined, argv.join(" "));
    }
  }));

Deno.test("the quick way loads no parser of command lines, no camera and no sink", async () => {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", fileURLToPath(new URL("../../commands/status.ts", import.meta.url))],
  }).output();
  const { modules } = JSON.parse(new TextDecoder().decode(stdout)) as {
    modules: {
      specifier: string;
      dependencies?: { code?: { specifier: string }; isDynamic?: boolean }[];
    }[];
  };
  const byName = new Map(modules.map((module) => [module.specifier, module]));
  const reached = new Set<string>();
  const visit = (name: string) => {
    if (reached.has(name)) return;
    reached.add(name);
    for (const { code, isDynamic } of byName.get(name)?.dependencies ?? []) {
      if (code !== undefined && !isDynamic) visit(code.specifier);
    }
  };
  visit([...byName.keys()].find((name) => name.endsWith("/commands/status.ts")) ?? "");
  assert.ok(reached.size > 5);
  assert.deepEqual(
    [...reached].filter((name) => /optique|core\/sources|\/sinks\/|plugin|azure|schema/.test(name)),
    [],
  );
});
