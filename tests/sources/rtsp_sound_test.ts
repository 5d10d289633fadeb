/**
 * Sound that MP4 players do not take, from a server that is not ours: recorded, made AAC, decoded, and
 * held against the pictures it came with. The camera's picture turns white when its tone begins.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { ALL_FORMATS, BufferSource, EncodedPacketSink, Input } from "mediabunny";
import * as v from "valibot";
import { recordCamera } from "../../core/capture/recorder.ts";
import { systemClock } from "../../core/clock.ts";
import { createEncoders } from "../../core/encode/mod.ts";
import { cameraTypes } from "../../core/sources/mod.ts";
import { createMemorySpool, recorderOptions } from "../support/capture_fakes.ts";
import { runFfmpeg } from "../support/ffmpeg.ts";
import { gst, startGstServer } from "../support/gst_rtsp_server.ts";
import { needs } from "../support/programs.ts";
import { createTestLog } from "./world.ts";

const ffmpeg = needs("ffmpeg");
const FPS = 25;
const PICTURES = 6 * FPS;
/** White and loud for the first half of each of these. */
const PERIOD_S = 0.96;

/** A film of flashes, each with its beep; the sound as it is sampled. */
async function flashesAndBeeps(path: string): Promise<void> {
  const half = PERIOD_S / 2;
  const { outputs } = await runFfmpeg({
    args: [
      ...["-f", "lavfi", "-i"],
      `color=black:s=160x96:r=${FPS},drawbox=c=white:t=fill:enable='lt(mod(t,${PERIOD_S}),${half})'`,
      ...["-f", "lavfi", "-i"],
      `aevalsrc='0.5*sin(2*PI*440*t)*lt(mod(t,${PERIOD_S}),${half})':s=8000`,
      ...["-t", "30", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", String(FPS), "-bf", "0"],
      ...["-c:a", "pcm_s16le", "out.mov"],
    ],
    inputs: {},
    outputs: ["out.mov"],
  });
  await Deno.writeFile(path, outputs["out.mov"] ?? new Uint8Array());
}

/** Times of all packets of a track, s. */
async function timesOf(input: Input, kind: "video" | "audio"): Promise<number[]> {
  const track = kind === "video"
    ? await input.getPrimaryVideoTrack()
    : await input.getPrimaryAudioTrack();
  assert.ok(track, `the clip has no ${kind}`);
  const times: number[] = [];
  for await (const { timestamp } of new EncodedPacketSink(track).packets()) times.push(timestamp);
  return times;
}

/** When it turns white and when it turns loud in a clip, s. */
async function onsetsOf(clip: Uint8Array): Promise<{ white: number[]; loud: number[] }> {
  using input = new Input({ source: new BufferSource(clip), formats: ALL_FORMATS });
  const pictures = await timesOf(input, "video");
  const frames = await timesOf(input, "audio");
  const { outputs } = await runFfmpeg({
    args: [
      ...["-i", "in.mp4", "-map", "0:v", "-fps_mode", "passthrough", "-vf"],
      ...["scale=1:1,format=gray", "-f", "rawvideo", "video.raw"],
      ...["-map", "0:a", "-f", "s16le", "audio.raw"],
    ],
    inputs: { "in.mp4": clip },
    outputs: ["video.raw", "audio.raw"],
  });
  const luma = outputs["video.raw"] ?? new Uint8Array();
  const white = pictures.filter((_, i) =>
    i > 0 && (luma[i] ?? 0) > 128 && (luma[i - 1] ?? 255) < 128
  );
  const raw = new Uint8Array(outputs["audio.raw"] ?? []);
  const samples = new Int16Array(raw.buffer, 0, raw.length >> 1);
  const loud: number[] = [];
  let quiet = 0;
  for (const [i, value] of samples.entries()) {
    if (Math.abs(value) < 3000) quiet++;
    else {
      if (quiet > 2000) loud.push((frames[Math.floor(i / 1024)] ?? NaN) + (i % 1024) / 8000);
      quiet = 0;
    }
  }
  return { white, loud };
}

Deno.test({
  name:
    `GStreamer's RTSP server: G.711 and raw sound is recorded as AAC, by the system's ffmpeg and in ` +
    `this process, within 40 ms of its pictures${gst.reason || ffmpeg.reason}`,
  ignore: gst.ignore || ffmpeg.ignore,
  fn: async (t) => {
    const folder = await Deno.makeTempDir();
    try {
      const film = join(folder, "film.mov");
      await flashesAndBeeps(film);
      const launch = (sound: string) =>
        `( filesrc location=${film} ! qtdemux name=d d.video_0 ! queue ! h264parse ! ` +
        `rtph264pay name=pay0 pt=96 config-interval=0 d.audio_0 ! queue ! audioconvert ! ${sound} )`;
      await using server = await startGstServer({
        shared: false,
        streams: {
          "/a-law": launch("alawenc ! rtppcmapay name=pay1 pt=8"),
          "/mu-law": launch("mulawenc ! rtppcmupay name=pay1 pt=0"),
          "/raw": launch("rtpL16pay name=pay1 pt=97"),
        },
      });
      const cases = [
        ["/a-law", "system"],
        ["/mu-law", "wasm"],
        ["/raw", "system"],
      ] as const;
      // All at once: each lasts as long as the film does.
      const recorded = await Promise.all(cases.map(async ([path, use]) => {
        await using encoders = await createEncoders({ use, workers: 1, log: createTestLog() });
        const spool = createMemorySpool();
        const options = recorderOptions(systemClock, {
          source: cameraTypes.rtsp.open(
            v.parse(cameraTypes.rtsp.options, { url: `rtsp://127.0.0.1:${server.port}${path}` }),
            { clock: systemClock, random: () => 0.5, log: createTestLog() },
          ),
          ...{
            spool,
            clipMs: 3_600_000,
            soundEncoder: (sound) => Promise.resolve(encoders.forSound(sound)),
          },
        });
        const stop = new AbortController();
        const recording = recordCamera(options, stop.signal);
        while (options.status.framesCaptured < PICTURES) await systemClock.sleep(50);
        stop.abort();
        await recording;
        const warnings = options.log.lines.filter((line) => /^(warn|error)/.test(line));
        return { path, clip: spool.finished[0]?.bytes, warnings };
      }));
      for (const { path, clip, warnings } of recorded) {
        await t.step(path, async () => {
          assert.deepEqual(warnings, []);
          assert.ok(clip);
          const { white, loud } = await onsetsOf(clip);
          assert.ok(white.length >= 4, `${white.length} flashes`);
          let pairs = 0;
          for (const at of white) {
            const nearest = loud.toSorted((a, b) => Math.abs(a - at) - Math.abs(b - at))[0] ?? NaN;
            // The last beep may have come after the end.
            if (at > (loud.at(-1) ?? 0) + 0.2 || at < (loud[0] ?? 0) - 0.2) continue;
            pairs++;
            assert.ok(Math.abs(nearest - at) <= 0.04, `flash at ${at} s, beep at ${nearest} s`);
          }
          assert.ok(pairs >= 3, `${pairs} beeps of ${white.length} flashes`);
        });
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
