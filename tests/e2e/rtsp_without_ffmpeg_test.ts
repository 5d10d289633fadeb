/**
 * RTSP on a machine without ffmpeg: the real program, with a PATH that has no program on it, records
 * GStreamer's RTSP server; the delivered clips are decoded, and the marks in them are read.
 *
 * @module
 */
import assert from "node:assert/strict";
import { captureUntil, haveFinished } from "../support/capture_until.ts";
import { runFfmpeg } from "../support/ffmpeg.ts";
import { gst, startGstServer } from "../support/gst_rtsp_server.ts";
import { demuxWithMp4box } from "../support/media_samples.ts";
import { cliCommand, inTempFolder } from "../support/run_cli.ts";
import { sceneFile } from "../support/scene_file.ts";
import { countUnits, largestSkewMs, readMarks, type RecordedUnit } from "../support/scene_marks.ts";
import { walkFiles } from "../support/walk_files.ts";

const SCENE = { widthPx: 320, heightPx: 192, fps: 15, gopPictures: 15, gops: 2 } as const;
/** Codecs as a clip must name them; the sound of the last one is the camera's G.711. */
const CAMERAS = {
  "h264-aac": { video: /^avc1\./, scene: "h264", sound: "aacparse ! rtpmp4gpay" },
  "h265-aac": { video: /^hvc1\./, scene: "h265", sound: "aacparse ! rtpmp4gpay" },
  "h264-g711": {
    ...{ video: /^avc1\./, scene: "h264" },
    sound: "avdec_aac ! audioconvert ! audioresample ! audio/x-raw,rate=8000,channels=1 ! " +
      "mulawenc ! rtppcmupay",
  },
} as const;

/** The codecs as the file names them (ISO/IEC 14496-15: `hvc1` is what all players take). */
function codecsOf(clip: Uint8Array<ArrayBuffer>): (string | undefined)[] {
  return demuxWithMp4box(clip).iso.getInfo().tracks.map(({ codec }) => codec);
}

Deno.test({
  name:
    `without ffmpeg on the PATH, H.264 and H.265 with AAC or G.711 are recorded over TCP${gst.reason}`,
  ignore: gst.ignore,
  fn: (t) =>
    inTempFolder(async (folder) => {
      for (const codec of ["h264", "h265"] as const) {
        const scene = {
          name: "Yard",
          ...SCENE,
          codec,
          audio: { codec: "aac" },
          seconds: 60,
        } as const;
        await Deno.writeFile(`${folder}/${codec}.mp4`, await sceneFile(scene));
      }
      await using server = await startGstServer({
        shared: false,
        protocols: "tcp",
        streams: Object.fromEntries(
          Object.entries(CAMERAS).map(([name, { scene, sound }]) => [
            `/${name}`,
            `( filesrc location=${folder}/${scene}.mp4 ! qtdemux name=d d.video_0 ! queue ! ` +
            `${scene}parse ! rtp${scene}pay name=pay0 pt=96 config-interval=0 ` +
            `d.audio_0 ! queue ! ${sound} name=pay1 )`,
          ]),
        ),
      });
      await Deno.mkdir(`${folder}/no-programs`);
      await Deno.writeTextFile(
        `${folder}/camsink.json`,
        JSON.stringify({
          cameras: Object.fromEntries(
            Object.keys(CAMERAS).map((name) => [
              name,
              { type: "rtsp", url: `rtsp://127.0.0.1:${server.port}/${name}` },
            ]),
          ),
          clip: { length: "2s" },
          spool: { path: "./spool" },
          sinks: { local: { type: "local-folder", path: "./clips" } },
        }),
      );
      const { code, lines, stdout, stderr } = await captureUntil(
        cliCommand(["capture", "--json"], { cwd: folder, env: { PATH: `${folder}/no-programs` } }),
        haveFinished({ cameras: 3, clips: 2 }),
      );
      assert.equal(code, 0, stdout + stderr);
      const summary = lines.at(-1) as unknown as {
        cameras: { name: string; framesDropped: number }[];
      };
      for (const [name, { video: videoCodec }] of Object.entries(CAMERAS)) {
        await t.step(name, async () => {
          const camera = summary.cameras.find((one) => one.name === name);
          assert.ok(camera);
          const paths = (await Array.fromAsync(walkFiles(`${folder}/clips/${name}`)))
            .filter((path) => path.endsWith(".mp4")).sort();
          assert.ok(paths.length >= 2, `${paths.length} clips`);
          const video: RecordedUnit[] = [];
          const audio: RecordedUnit[] = [];
          for (const path of paths) {
            const clip = await Deno.readFile(path);
            const [picture, sound] = codecsOf(clip);
            assert.match(picture ?? "", videoCodec);
            assert.equal(sound, "mp4a.40.2");
            const { log } = await runFfmpeg({
              args: ["-v", "error", "-xerror", "-i", "in.mp4", "-f", "null", "-"],
              inputs: { "in.mp4": clip },
            });
            assert.equal(log.trim(), "", path);
            const marks = await readMarks(clip);
            assert.equal(marks.video[0]?.isKey, true);
            video.push(...marks.video);
            audio.push(...marks.audio);
            if (name.endsWith("aac")) {
              assert.ok(largestSkewMs(marks) <= 40, `${path}: ${largestSkewMs(marks)} ms`);
            }
          }
          // What was made AAC here has no marks.
          for (const units of name.endsWith("aac") ? [video, audio] : [video]) {
            const { lost, duplicated, reordered, unmarked, count } = countUnits(units);
            assert.deepEqual([duplicated, reordered, unmarked], [[], [], 0]);
            // Where the machine was too slow, that is counted.
            if (camera.framesDropped === 0) assert.deepEqual(lost, []);
            assert.ok(count >= 2 * SCENE.fps, `${count} units`);
          }
          assert.ok(audio.length >= 10, `${audio.length} frames of sound`);
        });
      }
    }),
});
