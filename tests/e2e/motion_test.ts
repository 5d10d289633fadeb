/**
 * `"mode": "motion"` with a live camera of coded video, by the real program: before a picture that
 * stands still the recording ends, which it never would if nobody looked.
 *
 * @module
 */
import assert from "node:assert/strict";
import { captureUntil, haveFinished } from "../support/capture_until.ts";
import { gst, startGstServer } from "../support/gst_rtsp_server.ts";
import { cliCommand, inTempFolder } from "../support/run_cli.ts";

for (
  const { engine, env } of [{ engine: "wasm", env: { PATH: "./no-programs" } }, { engine: "auto" }]
) {
  Deno.test({
    name: `motion is looked for in a camera's H.264 (engine: ${engine})${gst.reason}`,
    ignore: gst.ignore,
    fn: () =>
      inTempFolder(async (folder) => {
        await using server = await startGstServer({
          protocols: "tcp",
          streams: {
            "/still": "( videotestsrc is-live=true pattern=blue ! " +
              "video/x-raw,width=320,height=192,framerate=15/1 ! " +
              "x264enc tune=zerolatency key-int-max=15 ! rtph264pay name=pay0 pt=96 )",
          },
        });
        await Deno.writeTextFile(
          `${folder}/camsink.json`,
          JSON.stringify({
            cameras: {
              still: {
                ...{ type: "rtsp", url: `rtsp://127.0.0.1:${server.port}/still` },
                events: { mode: "motion", before: "1s", after: "1s" },
              },
            },
            clip: { length: "1h" },
            spool: { path: "./spool" },
            sinks: { local: { type: "local-folder", path: "./clips" } },
          }),
        );
        const { code, lines, stdout, stderr } = await captureUntil(
          cliCommand(["capture", "--json"], { cwd: folder, ...(env === undefined ? {} : { env }) }),
          haveFinished({ cameras: 1 }),
        );
        assert.equal(code, 0, stdout + stderr);
        assert.deepEqual(lines.filter(({ event }) => event === "events-unheard"), []);
      }),
  });
}
