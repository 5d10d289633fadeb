/**
 * Live video from end to end: the real program records the simulated cloud's NexusTalk stream; in the
 * delivered clips every picture and every sound is there once, in step, and decodes.
 *
 * @module
 */
import assert from "node:assert/strict";
import { startNestSimulator } from "../../simulators/mod.ts";
import { captureUntil, haveFinished } from "../support/capture_until.ts";
import { runFfmpeg } from "../support/ffmpeg.ts";
import { cliCommand, inTempFolder } from "../support/run_cli.ts";
import { countUnits, largestSkewMs, readMarks, type RecordedUnit } from "../support/scene_marks.ts";
import { walkFiles } from "../support/walk_files.ts";

Deno.test("a live stream is recorded whole: no picture or sound lost, in step within 40 ms", async () => {
  await inTempFolder(async (folder) => {
    await using cloud = await startNestSimulator({
      cameras: [{ name: "Yard", widthPx: 640, heightPx: 360, live: { fps: 10, gopPictures: 10 } }],
    });
    await cloud.camera("Yard").ready();
    await Deno.writeTextFile(`${folder}/ca.pem`, cloud.caPem ?? "");
    // A redirect at the start is what real servers do; the session goes on through it.
    cloud.faults.add({ kind: "redirect", at: "start", count: 1 });
    await Deno.writeTextFile(
      `${folder}/camsink.json`,
      JSON.stringify({
        accounts: {
          home: {
            ...{ type: "nest", accessToken: "env:NEST_TOKEN", endpoints: cloud.endpoints },
            ...{ ca: "./ca.pem", video: "stream" },
          },
        },
        clip: { length: "3s" },
        spool: { path: "./spool" },
        sinks: { local: { type: "local-folder", path: "./clips" } },
      }),
    );
    const result = await captureUntil(
      cliCommand(["capture", "--json"], {
        cwd: folder,
        env: { NEST_TOKEN: cloud.credentials.accessToken },
      }),
      haveFinished({ cameras: 1, clips: 2 }),
    );
    assert.equal(result.code, 0, result.stderr + result.stdout);
    const paths = (await Array.fromAsync(walkFiles(`${folder}/clips`))).filter((path) =>
      path.endsWith(".mp4")
    ).sort();
    assert.ok(paths.length >= 2, `${paths.length} clips`);
    const video: RecordedUnit[] = [];
    const audio: RecordedUnit[] = [];
    for (const path of paths) {
      const clip = await Deno.readFile(path);
      const marks = await readMarks(clip);
      video.push(...marks.video);
      audio.push(...marks.audio);
      assert.equal(marks.video[0]?.isKey, true);
      assert.ok(largestSkewMs(marks) <= 40, `${path}: ${largestSkewMs(marks)} ms`);
      const { log } = await runFfmpeg({
        args: ["-v", "error", "-xerror", "-i", "in.mp4", "-f", "null", "-"],
        inputs: { "in.mp4": clip },
      });
      assert.equal(log, "", path);
    }
    for (const units of [video, audio]) {
      const { lost, duplicated, reordered, unmarked, count } = countUnits(units);
      assert.deepEqual(
        { lost, duplicated, reordered, unmarked },
        { lost: [], duplicated: [], reordered: [], unmarked: 0 },
      );
      assert.ok(count >= 30, `${count} units`);
    }
    assert.ok(video.every(({ mark }) => mark?.camera === "Yard"));
  });
});
