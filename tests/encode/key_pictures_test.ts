/** Key pictures made small and gray: by runs that a test works by hand, and by both engines for real. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { PictureLaneOptions } from "../../core/encode/engine.ts";
import {
  asFirstPicture,
  beginsSequence,
  createPictureDecoder,
  type GrayPicture,
  graySize,
  timesToGive,
} from "../../core/encode/key_pictures.ts";
import { createEncoders, type Encoders } from "../../core/encode/mod.ts";
import { type EncodersOnDemand, encodersOnDemand } from "../../core/encode/on_demand.ts";
import { joinLengthPrefixed, splitLengthPrefixed } from "../../core/media/annexb.ts";
import { H264_NAL, h264NalType } from "../../core/media/h264.ts";
import { parseJpeg } from "../../core/media/jpeg.ts";
import type { AccessUnit, VideoTrack } from "../../core/types.ts";
import { JPEG_TRACK, VIDEO_TRACK, videoUnit } from "../support/capture_fakes.ts";
import { createFakeClock, type FakeClock } from "../support/fake_clock.ts";
import { runFfmpeg } from "../support/ffmpeg.ts";
import { readFixture, readRecording } from "../support/media_samples.ts";
import { movingScene } from "../support/moving_scene.ts";
import { needs } from "../support/programs.ts";
import { createTestLog } from "./support.ts";

/** A decoder whose runs a test answers for; `marks` are the pictures that each was given. */
function createWorld() {
  const runs: { readonly options: PictureLaneOptions; marks: number[]; killed: boolean }[] = [];
  const pictures: GrayPicture[] = [];
  const blind: string[] = [];
  const clock = createFakeClock();
  const decoder = createPictureDecoder({
    onPicture: (picture) => pictures.push(picture),
    onBlind: (reason) => blind.push(reason),
    clock,
    openLane(options) {
      const run: typeof runs[number] = { options, marks: [], killed: false };
      runs.push(run);
      return {
        decode: (data) => void run.marks.push(data.at(-1) ?? -1),
        kill() {
          run.killed = true;
          return Promise.resolve();
        },
      };
    },
  });
  let marks = 0;
  return {
    ...{ runs, pictures, blind, clock, decoder },
    /** The next picture comes; its buffer is used again at once. */
    push(track = VIDEO_TRACK) {
      const unit = videoUnit(marks * 2000, { mark: marks++ });
      decoder.push(unit, track);
      unit.data.fill(255);
    },
    answer: () => runs.at(-1)?.options.onPicture(new Uint8Array(160 * 90)),
  };
}

Deno.test("one picture is decoded at a time, and of those that wait the newest", () => {
  const { runs, pictures, push, answer } = createWorld();
  push();
  for (let more = 0; more < 5; more++) push();
  assert.deepEqual(runs.map(({ marks }) => marks), [[0]]);
  answer();
  assert.deepEqual(runs[0]?.marks, [0, 5]);
  answer();
  assert.deepEqual(pictures.map(({ capturedAtMs }) => capturedAtMs), [0, 10_000]);
  assert.deepEqual(runs[0]?.marks, [0, 5]);
  push();
  assert.deepEqual(runs[0]?.marks, [0, 5, 6]);
});

Deno.test("a run that dies is replaced after a pause that grows, until a picture comes", async () => {
  const { runs, blind, clock, pictures, push, answer } = createWorld();
  push();
  runs[0]?.options.onEnd(new Error("no such decoder"));
  assert.deepEqual(blind, ["no such decoder"]);
  push();
  assert.equal(runs.length, 1);
  await clock.advance(1000);
  push();
  assert.equal(runs.length, 2);
  runs[1]?.options.onEnd();
  await clock.advance(1000);
  push();
  assert.equal(runs.length, 2);
  await clock.advance(1000);
  push();
  assert.equal(runs.length, 3);
  answer();
  assert.equal(pictures.length, 1);
  push();
  runs[2]?.options.onEnd(new Error("killed"));
  await clock.advance(1000);
  push();
  assert.equal(runs.length, 4);
  runs[0]?.options.onPicture(new Uint8Array()); // one that is over says nothing more
  assert.equal(pictures.length, 1);
});

Deno.test("a run that keeps a picture is ended while others come", () => {
  const { runs, blind, push } = createWorld();
  for (let picture = 0; picture <= 8; picture++) push();
  assert.equal(runs[0]?.killed, true);
  assert.match(blind.join(), /nothing back of one while 8 more came/);
});

Deno.test("a new description is decoded by a run of its own", async () => {
  const { runs, decoder, push, answer } = createWorld();
  push();
  answer();
  push({ ...VIDEO_TRACK });
  answer();
  assert.equal(runs.length, 1);
  push({ ...VIDEO_TRACK, widthPx: 640 });
  assert.deepEqual(runs.map(({ killed }) => killed), [true, false]);
  assert.equal(runs[1]?.options.track.widthPx, 640);
  await decoder[Symbol.asyncDispose]();
  assert.equal(runs[1]?.killed, true);
  push();
  assert.equal(runs.length, 2);
});

Deno.test("pictures are made so small that the longer side is 160, and never larger", () => {
  assert.deepEqual(graySize({ widthPx: 1920, heightPx: 1080 }), { widthPx: 160, heightPx: 90 });
  assert.deepEqual(graySize({ widthPx: 960, heightPx: 1280 }), { widthPx: 120, heightPx: 160 });
  assert.deepEqual(graySize({ widthPx: 64, heightPx: 2 }), { widthPx: 64, heightPx: 2 });
});

Deno.test("H.265's clean random access pictures are made broken-link ones, and nothing else is", () => {
  const unit = Uint8Array.of(0, 0, 0, 2, 39 << 1, 1, 0, 0, 0, 3, (21 << 1) | 1, 1, 9);
  const made = asFirstPicture(unit, { codec: "h265" });
  assert.deepEqual([...made], [0, 0, 0, 2, 39 << 1, 1, 0, 0, 0, 3, (16 << 1) | 1, 1, 9]);
  const idr = Uint8Array.of(0, 0, 0, 2, 0x65, 9);
  assert.deepEqual([...asFirstPicture(idr, { codec: "h264" })], [...idr]);
  assert.deepEqual([...asFirstPicture(Uint8Array.of(0, 0, 0, 200, 42), { codec: "h265" })], [
    ...[0, 0, 0, 200, 32],
  ]);
});

const ffmpeg = needs("ffmpeg");
const SCENES = [
  { codec: "h264", reordered: false },
  { codec: "h264", reordered: true },
  { codec: "h264", reordered: true, isOpen: true },
  { codec: "h265", reordered: false },
  { codec: "h265", reordered: true },
] as const;

for (const use of ["system", "wasm"] as const) {
  const needed = use === "system" ? ffmpeg : { ignore: false, reason: "" };
  Deno.test({
    name: `${use}: each key picture comes out before the next one is there${needed.reason}`,
    ignore: needed.ignore,
    async fn(t) {
      await using encoders = await createEncoders({ use, workers: 1, log: createTestLog() });
      for (const scene of SCENES) {
        const isOpen = "isOpen" in scene;
        const name = Object.entries(scene).map(([key, value]) => `${key} ${value}`).join();
        await t.step(name, async () => {
          const { track, units, file } = await movingScene([false, true, true, true], scene);
          assert.equal(timesToGive(track) > 1, scene.reordered);
          const keys = units.filter(({ isKey }) => isKey);
          assert.deepEqual(
            keys.map(({ data }) => beginsSequence(data, track)),
            [true, !isOpen, !isOpen, !isOpen],
          );
          const expected = await keyPictures(file);
          let heard = Promise.withResolvers<GrayPicture>();
          await using decoder = encoders.forKeyPictures({
            onPicture: (picture) => heard.resolve(picture),
            onBlind: (reason) => heard.reject(new Error(reason)),
          });
          let index = 0;
          for (const unit of keys) {
            decoder.push({ ...unit, data: isOpen ? withoutSei(unit.data) : unit.data }, track);
            const picture = await heard.promise;
            heard = Promise.withResolvers<GrayPicture>();
            assert.equal(picture.capturedAtMs, unit.capturedAtMs);
            const nearest = expected
              .map((other, at) => ({ at, distance: distance(picture.pixels, other) }))
              .sort((a, b) => a.distance - b.distance)[0];
            assert.equal(nearest?.at, index++);
            assert.ok(nearest.distance < 1.5, `${nearest.distance} of 255 off`);
          }
          assert.equal(index, 4);
        });
      }
    },
  });

  Deno.test({
    name: `${use}: a damaged key picture is told of, and the next one is seen${needed.reason}`,
    ignore: needed.ignore,
    async fn() {
      const clock = createFakeClock();
      await using encoders = await createEncoders({ use, workers: 1, log: createTestLog(), clock });
      const { tracks: [track], units } = await readRecording("h264_b_frames_aac.mp4");
      const [key] = units.filter(({ trackId, isKey }) => trackId === track?.id && isKey);
      assert.ok(track?.kind === "video" && key);
      await assertSeesAfterDamage(encoders, { key, track, clock });
    },
  });
}

Deno.test("wasm: a camera that goes while its picture is decoded does not take another's with it", async () => {
  const { track, units } = await movingScene([false, true, true, true]);
  const [key] = units;
  assert.ok(key);
  await using encoders = await createEncoders({ use: "wasm", workers: 1, log: createTestLog() });
  const going = encoders.forKeyPictures({
    onPicture: () => assert.fail("it has gone"),
    onBlind: () => assert.fail("it has gone"),
  });
  const heard = Promise.withResolvers<GrayPicture>();
  await using staying = encoders.forKeyPictures({
    onPicture: heard.resolve,
    onBlind: (reason) => heard.reject(new Error(reason)),
  });
  going.push(key, track);
  staying.push(key, track);
  await going[Symbol.asyncDispose]();
  assert.equal((await heard.promise).capturedAtMs, key.capturedAtMs);
});

Deno.test("a JPEG comes out small and gray too", async () => {
  await using encoders = await createEncoders({ use: "wasm", workers: 1, log: createTestLog() });
  const data = readFixture("picture.jpg");
  const { widthPx, heightPx } = parseJpeg(data);
  const heard = Promise.withResolvers<GrayPicture>();
  await using decoder = encoders.forKeyPictures({
    onPicture: heard.resolve,
    onBlind: (reason) => heard.reject(new Error(reason)),
  });
  decoder.push(videoUnit(0, { data }), { ...JPEG_TRACK, widthPx, heightPx });
  const picture = await heard.promise;
  assert.equal(picture.pixels.length, picture.widthPx * picture.heightPx);
  assert.ok(new Set(picture.pixels).size > 20);
});

/** The real ffmpeg, as if it had been built without decoders of video but that of JPEGs. */
async function withoutDecoders(): Promise<{ readonly path: string } & AsyncDisposable> {
  const folder = await Deno.makeTempDir({ prefix: "camsink-ffmpeg-" });
  const path = join(folder, "ffmpeg");
  await Deno.writeTextFile(
    path,
    `#!/bin/sh
case "$*" in *-encoders*) exec ffmpeg "$@";; *) exec ffmpeg -codec_whitelist mjpeg "$@";; esac
`,
    { mode: 0o755 },
  );
  return { path, [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }) };
}

const scripted = Deno.build.os === "windows"
  ? { ignore: true, reason: " (skipped: no sh)" }
  : ffmpeg;

Deno.test({
  name: "key pictures that the installed ffmpeg has no decoder for are decoded by ffmpeg.wasm, " +
    `which is said once${scripted.reason}`,
  ignore: scripted.ignore,
  async fn() {
    await using crippled = await withoutDecoders();
    const log = createTestLog();
    await using encoders = encodersOnDemand({ path: crippled.path, workers: 1, log });
    for (const codec of ["h264", "h264", "h265"] as const) {
      const { track, units } = await movingScene([false, true, true, true], { codec });
      let heard = Promise.withResolvers<GrayPicture>();
      await using decoder = await encoders.forKeyPictures({
        onPicture: (picture) => heard.resolve(picture),
        onBlind: (reason) => heard.reject(new Error(reason)),
      });
      for (const unit of units.filter(({ isKey }) => isKey)) {
        decoder.push(unit, track);
        assert.equal((await heard.promise).capturedAtMs, unit.capturedAtMs);
        heard = Promise.withResolvers<GrayPicture>();
      }
    }
    assert.equal(log.lines.length, 2, log.lines.join("\n"));
    assert.match(
      log.lines[0] ?? "",
      /^warn: .* does not decode h264 \(.*\): .* with ffmpeg\.wasm$/,
    );
    assert.match(log.lines[1] ?? "", /^warn: .* does not decode h265 /);
  },
});

Deno.test({
  name: "where the installed ffmpeg alone is to be used, a decoder that it lacks is told of" +
    scripted.reason,
  ignore: scripted.ignore,
  async fn() {
    await using crippled = await withoutDecoders();
    const log = createTestLog();
    const { track, units: [key] } = await movingScene([false, true, true, true]);
    await using encoders = encodersOnDemand({ use: "system", path: crippled.path, log });
    const heard = Promise.withResolvers<string>();
    await using decoder = await encoders.forKeyPictures({
      onPicture: () => heard.resolve("seen"),
      onBlind: heard.resolve,
    });
    assert.ok(key);
    decoder.push(key, track);
    assert.match(await heard.promise, /^ffmpeg ended with code 1: /);
  },
});

Deno.test({
  name: `a first picture that is damaged is not held against the installed ffmpeg${ffmpeg.reason}`,
  ignore: ffmpeg.ignore,
  async fn() {
    const clock = createFakeClock();
    const log = createTestLog();
    await using encoders = encodersOnDemand({ workers: 1, log, clock });
    const { track, units: [key] } = await movingScene([false, true, true, true]);
    assert.ok(key);
    await assertSeesAfterDamage(encoders, { key, track, clock });
    assert.deepEqual(log.lines, []);
  },
});

/** A damaged key picture is told of, and the whole one that follows it is seen. */
async function assertSeesAfterDamage(
  encoders: Pick<Encoders | EncodersOnDemand, "forKeyPictures">,
  { key, track, clock }: { key: AccessUnit; track: VideoTrack; clock: FakeClock },
): Promise<void> {
  let heard = Promise.withResolvers<string>();
  await using decoder = await encoders.forKeyPictures({
    onPicture: () => heard.resolve("seen"),
    onBlind: () => heard.resolve("blind"),
  });
  const damaged = { ...key, data: Uint8Array.of(0, 0, 0, 9, 0x65, ...Array(8).fill(0xff)) };
  decoder.push(damaged, track);
  assert.equal(await heard.promise, "blind");
  heard = Promise.withResolvers<string>();
  await clock.advance(1000);
  decoder.push(key, track);
  assert.equal(await heard.promise, "seen");
}

/** Some cameras leave out that decoding may begin here. */
function withoutSei(data: Uint8Array): Uint8Array {
  const nals = splitLengthPrefixed(data);
  return joinLengthPrefixed(nals.filter(([first = 0]) => h264NalType(first) !== H264_NAL.sei));
}

/** What another run of ffmpeg makes of a file's key pictures. */
async function keyPictures(file: Uint8Array): Promise<Uint8Array[]> {
  const { outputs } = await runFfmpeg({
    args: [
      ...["-skip_frame", "nokey", "-i", "in.mp4", "-fps_mode", "passthrough"],
      ...["-vf", "scale=160:90:flags=area,format=gray", "-f", "rawvideo", "out.raw"],
    ],
    inputs: { "in.mp4": file },
    outputs: ["out.raw"],
  });
  const raw = outputs["out.raw"] ?? new Uint8Array();
  const size = 160 * 90;
  return Array.from(
    { length: raw.length / size },
    (_, i) => raw.subarray(i * size, (i + 1) * size),
  );
}

function distance(a: Uint8Array, b: Uint8Array): number {
  return a.reduce((sum, value, i) => sum + Math.abs(value - (b[i] ?? 0)), 0) / a.length;
}
