/**
 * `camsink status` as a program beside a recording: what it shows and its exit code.
 *
 * @module
 */
import assert from "node:assert/strict";
import { startSnapshotCamera } from "../../simulators/snapshot_camera.ts";
import { cliCommand, inTempFolder, runCli } from "../support/run_cli.ts";

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
      // Its file is written every five seconds.
      let seen = await runCli(["status", "--json"], { cwd });
      for (let tries = 0; tries < 30 && seen.code !== 0; tries++) {
        seen = await runCli(["status", "--json"], { cwd });
      }
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
