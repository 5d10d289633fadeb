/**
 * Clips as players meet them: ffmpeg, GStreamer and a browser open them while they are being recorded
 * (cut in the middle of a fragment), recovered, and finished.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { recoverMp4 } from "../../core/media/mp4_recovery.ts";
import { concat, readRecording, writeClip } from "../support/media_samples.ts";
import { findProgram, needs } from "../support/programs.ts";

const recordings = {
  "H.264 with B-frames and AAC": await readRecording("h264_b_frames_aac.mp4"),
  "H.265 and Opus": await readRecording("h265_opus.mp4"),
} as const;

type State = "being recorded" | "recovered" | "finished";

/** The clip in one of its states. The torn ones end within the last fragment. */
async function clipIn(
  state: State,
  recording: (typeof recordings)[keyof typeof recordings],
): Promise<{ readonly file: Uint8Array<ArrayBuffer>; readonly minFrames: number }> {
  const { torn, finished, fragmentEnds } = writeClip(recording);
  const cut = torn.slice(0, (fragmentEnds[2] ?? 0) - 100);
  if (state === "finished") return { file: finished, minFrames: 45 };
  if (state === "being recorded") return { file: cut, minFrames: 29 };
  const plan = await recoverMp4({
    sizeBytes: cut.length,
    read: (offset, length) => Promise.resolve(cut.slice(offset, offset + length)),
  });
  assert.ok(plan.state === "torn");
  const file = concat([cut.subarray(0, plan.keepBytes), ...plan.tail]);
  file.set(plan.patch.bytes, plan.patch.offset);
  return { file, minFrames: plan.clip.frames };
}

async function withFile(
  data: Uint8Array,
  use: (path: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "camsink-players-" });
  try {
    const path = join(folder, "clip.mp4");
    await Deno.writeFile(path, data);
    await use(path);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function run(
  program: string,
  args: readonly string[],
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command(findProgram(program) ?? program, {
    args: [...args],
    stdin: "null",
    signal: AbortSignal.timeout(60_000), // a player that hangs fails its test
  }).output();
  const decode = (data: Uint8Array) => new TextDecoder().decode(data);
  return { code, stdout: decode(stdout), stderr: decode(stderr) };
}

const ffmpeg = needs("ffmpeg", "ffprobe");
const gstreamer = needs("gst-launch-1.0");
const browser = needs("chromium");

for (const [name, recording] of Object.entries(recordings)) {
  for (const state of ["being recorded", "recovered", "finished"] as const) {
    Deno.test({
      name: `ffmpeg decodes every whole fragment of a clip of ${name} ${state}${ffmpeg.reason}`,
      ignore: ffmpeg.ignore,
      fn: async () => {
        const { file, minFrames } = await clipIn(state, recording);
        await withFile(file, async (path) => {
          const { code, stdout, stderr } = await run("ffmpeg", [
            ...["-hide_banner", "-v", "error", "-i", path, "-map", "0:v", "-f", "framemd5", "-"],
          ]);
          assert.equal(code, 0, stderr);
          if (state !== "being recorded") assert.equal(stderr, "");
          const frames = stdout.split("\n").filter((line) => /^0,/.test(line)).length;
          assert.ok(frames >= minFrames, `${frames} of ${minFrames} pictures`);
        });
      },
    });

    Deno.test({
      name: `GStreamer decodes a clip of ${name} ${state}${gstreamer.reason}`,
      ignore: gstreamer.ignore,
      fn: async () => {
        const { file, minFrames } = await clipIn(state, recording);
        await withFile(file, async (path) => {
          const { code, stdout, stderr } = await run("gst-launch-1.0", [
            ...["-v", "filesrc", `location=${path}`, "!", "qtdemux", "name=d", "d.video_0", "!"],
            ...["decodebin", "!", "identity", "silent=false", "!", "fakesink"],
          ]);
          if (state !== "being recorded") assert.equal(code, 0, stderr);
          const frames = stdout.split("\n").filter((line) =>
            /last-message = chain/.test(line)
          ).length;
          assert.ok(frames >= minFrames, `${frames} of ${minFrames} pictures\n${stderr}`);
        });
      },
    });
  }
}

Deno.test({
  name: `ffprobe shows start, camera and product of a clip${ffmpeg.reason}`,
  ignore: ffmpeg.ignore,
  fn: async () => {
    const { file } = await clipIn("finished", recordings["H.265 and Opus"]);
    await withFile(file, async (path) => {
      const { stdout } = await run("ffprobe", [
        ...["-v", "error", "-show_entries", "format=duration:format_tags:stream=codec_tag_string"],
        ...["-of", "json", path],
      ]);
      const found: unknown = JSON.parse(stdout);
      assert.partialDeepStrictEqual(found, {
        streams: [{ codec_tag_string: "hvc1" }, { codec_tag_string: "Opus" }],
        format: {
          duration: "3.020000",
          tags: {
            creation_time: "2026-08-21T14:05:00.000000Z",
            date: "2026-08-21T14:05:00.250Z",
            title: "Front door",
            encoder: "camsink test",
          },
        },
      });
    });
  },
});

Deno.test({
  name: `a browser plays a clip being recorded, recovered and finished${browser.reason}`,
  ignore: browser.ignore,
  fn: async (t) => {
    const clips = new Map<string, Uint8Array<ArrayBuffer>>();
    const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
      const clip = clips.get(new URL(request.url).pathname);
      if (!clip) {
        return new Response("<!doctype html><video muted></video>", {
          headers: { "content-type": "text/html" },
        });
      }
      const [, from = "0", to = ""] =
        /bytes=(\d+)-(\d*)/.exec(request.headers.get("range") ?? "") ??
          [];
      const end = to === "" ? clip.length - 1 : Math.min(Number(to), clip.length - 1);
      return new Response(clip.slice(Number(from), end + 1), {
        status: 206,
        headers: {
          "content-type": "video/mp4",
          "accept-ranges": "bytes",
          "content-range": `bytes ${from}-${end}/${clip.length}`,
        },
      });
    });
    const launched = await chromium.launch({
      executablePath: findProgram("chromium"),
      args: [
        ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
        ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
      ],
    });
    try {
      const page = await launched.newPage();
      await page.goto(`http://127.0.0.1:${server.addr.port}/`);
      for (const state of ["being recorded", "recovered", "finished"] as const) {
        await t.step(state, async () => {
          const clip = await clipIn(state, recordings["H.264 with B-frames and AAC"]);
          const path = `/${encodeURIComponent(state)}.mp4`;
          clips.set(path, clip.file);
          // Runs in the page, as text: the types of the DOM are not known here.
          const seen: unknown = await page.evaluate(`(async () => {
            const video = document.querySelector("video");
            video.src = ${JSON.stringify(path)};
            await video.play();
            await new Promise((resolve, reject) => {
              video.ontimeupdate = () => video.currentTime > 0.6 && resolve();
              video.onerror = () => reject(new Error(video.error.message));
            });
            const canvas = document.createElement("canvas");
            canvas.width = video.videoWidth;
            canvas.height = video.videoHeight;
            const context = canvas.getContext("2d");
            context.drawImage(video, 0, 0);
            const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
            let sum = 0;
            for (let i = 0; i < data.length; i += 4) sum += data[i] + data[i + 1] + data[i + 2];
            return {
              width: video.videoWidth,
              height: video.videoHeight,
              time: video.currentTime,
              brightness: sum / (data.length / 4 * 3),
            };
          })()`);
          assert.ok(typeof seen === "object" && seen !== null);
          assert.partialDeepStrictEqual(seen, { width: 160, height: 96 });
          assert.ok("time" in seen && Number(seen.time) > 0.6);
          assert.ok("brightness" in seen && Number(seen.brightness) > 40, "the picture is black");
        });
      }
    } finally {
      await launched.close();
      await server.shutdown();
    }
  },
});
