/**
 * The whole program with a Google Home account: what the simulated home recorded arrives in a folder,
 * byte for byte and once, also over a restart.
 *
 * @module
 */
import assert from "node:assert/strict";
import { startGoogleHomeSimulator } from "../../simulators/mod.ts";
import { captureUntil, haveFinished } from "../support/capture_until.ts";
import { readFixture } from "../support/media_samples.ts";
import { cliCommand, type CliResult, inTempFolder, runCli } from "../support/run_cli.ts";
import { walkFiles } from "../support/walk_files.ts";

Deno.test("recordings of a Google Home are fetched once each, also over a restart", () =>
  inTempFolder(async (folder) => {
    const footage = readFixture("h264_larger.mp4");
    await using home = await startGoogleHomeSimulator({
      cameras: [{ name: "Porch", id: "DEVICE_0123456789ABCDEF" }],
      footage: () => footage,
    });
    const see = (agoMs: number, lengthMs: number) => {
      const startMs = Math.floor(Date.now() / 1000) * 1000 - agoMs;
      home.addEvent({ camera: "Porch", startMs, endMs: startMs + lengthMs });
    };
    see(7_200_000, 90_000);
    see(600_000, 15_000);
    const { email, androidId, masterToken } = home.credentials;
    await Deno.writeTextFile(
      `${folder}/camsink.json`,
      JSON.stringify({
        accounts: {
          home: {
            type: "google-home",
            masterToken: "env:MASTER_TOKEN",
            email,
            androidId,
            endpoints: home.endpoints,
          },
        },
        spool: { path: "./spool" },
        sinks: { local: { type: "local-folder", path: "./clips" } },
      }),
    );
    const options = { cwd: folder, env: { MASTER_TOKEN: masterToken } };
    const heard = (result: CliResult) => {
      assert.equal(result.code, 0, result.stderr + result.stdout);
      assert.ok(!(result.stdout + result.stderr).includes(masterToken.slice(7)));
      return result.stdout;
    };
    const clips = async () =>
      (await Array.fromAsync(walkFiles(`${folder}/clips`)))
        .map((path) => path.slice(`${folder}/clips/`.length)).sort();

    const capture = async (clips: number) =>
      heard(
        await captureUntil(
          cliCommand(["capture", "--json"], options),
          haveFinished({ cameras: 1, clips }),
        ),
      );

    assert.match(heard(await runCli(["check", "--json"], options)), /2 recordings|3 recordings/);
    home.fail("cut"); // the recording's very first answer, a manifest, breaks off
    await capture(3);
    const first = await clips();
    assert.equal(first.length, 3);
    for (const key of first) {
      assert.match(key, /^porch-[0-9a-z]+\/\d{4}\/\d\d\/\d\d\/\d{8}T\d{6}Z\.mp4$/);
      assert.deepEqual(await Deno.readFile(`${folder}/clips/${key}`), footage);
    }
    see(300_000, 10_000);
    const before = home.requests.get("clip") ?? 0;
    await capture(1);
    assert.equal((await clips()).length, 4);
    assert.equal(home.requests.get("clip"), before + 1);
  }));
