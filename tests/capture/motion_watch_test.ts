/** Events of what is seen in pictures: with pictures made by hand, and of real video with both engines. */
import assert from "node:assert/strict";
import { createEventGate } from "../../core/capture/event_gate.ts";
import { watchMotion } from "../../core/capture/motion_watch.ts";
import { recordCamera } from "../../core/capture/recorder.ts";
import {
  createEncoders,
  type EngineName,
  type PictureDecoderOptions,
} from "../../core/encode/mod.ts";
import type { AccessUnit, CameraEvent, Source } from "../../core/types.ts";
import {
  createMemorySpool,
  createNotes,
  JPEG_TRACK,
  recorderOptions,
  VIDEO_TRACK,
  videoUnit,
} from "../support/capture_fakes.ts";
import { readClip } from "../support/clip_frames.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { readFixture, STARTED_AT } from "../support/media_samples.ts";
import { GOP_MS, movingScene } from "../support/moving_scene.ts";
import { needs } from "../support/programs.ts";
import { until } from "../support/until.ts";
import { createTestLog } from "../encode/support.ts";

/** A watch over coded video whose decoder a test works by hand. */
async function createWorld({ afterMs = 20_000 } = {}) {
  const gate = createEventGate({ beforeMs: 0, afterMs });
  const events: CameraEvent[] = [];
  const pushed: number[] = [];
  const log = createNotes();
  const clock = createFakeClock();
  const status: { eventsUnheard?: string } = {};
  const world = { opened: 0, closed: 0, error: undefined as unknown };
  let decoder: PictureDecoderOptions | undefined;
  const hearer = {
    note: (event: CameraEvent) => void events.push(event),
    get isHeard() {
      return gate.isHeard;
    },
    set isHeard(value) {
      gate.isHeard = value;
    },
  };
  const watch = watchMotion(hearer, {
    ...{ log, clock, afterMs, status },
    pictureDecoder(options) {
      world.opened++;
      if (world.error !== undefined) return Promise.reject(world.error);
      decoder = options;
      return Promise.resolve({
        push: ({ capturedAtMs }) => void pushed.push(capturedAtMs),
        [Symbol.asyncDispose]() {
          world.closed++;
          return Promise.resolve();
        },
      });
    },
  });
  const look = (ms: number, unit: Partial<AccessUnit> = {}) =>
    watch.look(videoUnit(ms, unit), VIDEO_TRACK);
  look(0); // opens it
  await clock.advance(0);
  return Object.assign(world, {
    ...{ watch, look, hearer, events, pushed, log, clock, status },
    blind: (reason: string) => decoder?.onBlind(reason),
    /** The picture of that time comes out of the decoder; a bright square may be in it. */
    see(atMs: number, squareX?: number) {
      const pixels = new Uint8Array(160 * 90).fill(100);
      for (let i = 0; squareX !== undefined && i < 400; i++) {
        pixels[160 * (20 + Math.floor(i / 20)) + squareX + i % 20] = 200;
      }
      decoder?.onPicture({ widthPx: 160, heightPx: 90, pixels, capturedAtMs: atMs });
    },
  });
}

Deno.test("everything is recorded until enough key pictures were seen", async () => {
  const { look, see, hearer } = await createWorld();
  const heard = Array.from({ length: 9 }, (_, index) => {
    look(index * 2000);
    see(index * 2000);
    return hearer.isHeard;
  });
  assert.deepEqual(heard, [...Array(7).fill(false), true, true]);
});

Deno.test("what changed between two key pictures is an event from the one to the other", async () => {
  const { see, events } = await createWorld();
  for (let ms = 0; ms < 20_000; ms += 2000) see(ms);
  see(20_000, 50);
  see(22_000, 90);
  see(24_000, 90);
  assert.deepEqual(events, [
    { kind: "motion", startMs: 18_000, endMs: 20_000 },
    { kind: "motion", startMs: 20_000, endMs: 22_000 },
  ]);
});

Deno.test("an event lasts until the next key picture has been seen, where less is recorded after it", async () => {
  const { see, events } = await createWorld({ afterMs: 1000 });
  for (let ms = 0; ms < 40_000; ms += 4000) see(ms);
  see(40_000, 50);
  // Recorded is one second more: the next key picture comes at 44, and is decoded by 45.
  assert.deepEqual(events, [{ kind: "motion", startMs: 36_000, endMs: 44_000 }]);
});

Deno.test("what changed while the camera was away happened when it was back", async () => {
  const { see, events } = await createWorld();
  for (let ms = 0; ms < 20_000; ms += 2000) see(ms);
  see(3_600_000, 50);
  assert.deepEqual(events, [{ kind: "motion", startMs: 3_600_000, endMs: 3_600_000 }]);
});

Deno.test("JPEGs that are not looked into otherwise are decoded too", async () => {
  const { watch, pushed } = await createWorld();
  const baseline = readFixture("picture.jpg");
  const progressive = baseline.slice();
  const frameHeader = baseline.findIndex((byte, i) => byte === 0xff && baseline[i + 1] === 0xc0);
  progressive[frameHeader + 1] = 0xc2;
  watch.look(videoUnit(2000, { data: baseline }), JPEG_TRACK);
  assert.deepEqual(pushed, []);
  watch.look(videoUnit(4000, { data: progressive }), JPEG_TRACK);
  assert.deepEqual(pushed, [4000]);
});

Deno.test("only key pictures are decoded, and one a second at most", async () => {
  const { look, pushed } = await createWorld();
  for (let ms = 2000; ms < 6000; ms += 200) look(ms, { isKey: ms % 400 === 0 });
  assert.deepEqual(pushed, [2000, 3200, 4400, 5600]);
});

Deno.test("while nothing can be decoded everything is recorded, and that is said once and shown", async () => {
  const { see, blind, hearer, log, status } = await createWorld();
  for (let ms = 0; ms < 20_000; ms += 2000) see(ms);
  assert.equal(hearer.isHeard, true);
  for (let round = 0; round < 3; round++) {
    blind("ffmpeg ended with code 1");
    assert.equal(hearer.isHeard, false);
    const shown = "motion cannot be seen (ffmpeg ended with code 1): everything is recorded";
    assert.equal(status.eventsUnheard, shown);
    see(20_000 + round * 2000);
    assert.equal(hearer.isHeard, true);
    assert.equal(status.eventsUnheard, undefined);
  }
  const warned = log.lines.filter((line) => line.startsWith("warn"));
  assert.equal(warned.length, 1);
  assert.match(warned.join(), /cannot be seen: ffmpeg ended with code 1; everything is recorded/);
  assert.ok(log.lines.includes("info motion can be seen again"));
});

Deno.test("a decoder that falls behind is not taken for peace", async () => {
  const { look, see, hearer } = await createWorld();
  for (let ms = 2000; ms < 22_000; ms += 2000) see(ms);
  for (let ms = 22_000; ms < 28_000; ms += 2000) look(ms);
  assert.equal(hearer.isHeard, true);
  look(28_000);
  assert.equal(hearer.isHeard, false);
  see(28_000);
  assert.equal(hearer.isHeard, true);
});

Deno.test("where there is no decoder everything is recorded, and it is asked for again", async () => {
  const world = await createWorld();
  const log = createNotes();
  const clock = createFakeClock();
  let asked = 0;
  const watch = watchMotion(world.hearer, {
    ...{ log, clock, afterMs: 1000, status: world.status },
    pictureDecoder() {
      asked++;
      return Promise.reject(new Error("no ffmpeg"));
    },
  });
  for (let ms = 0; ms < 90_000; ms += 2000) {
    watch.look(videoUnit(ms), VIDEO_TRACK);
    await clock.advance(2000);
  }
  assert.equal(world.hearer.isHeard, false);
  assert.equal(asked, 2);
  const warned = log.lines.filter((line) => line.startsWith("warn"));
  assert.deepEqual(warned, [
    "warn motion cannot be seen: no ffmpeg; everything is recorded until it works",
  ]);
});

Deno.test("the decoder is closed with the watch, and nothing is told after it", async () => {
  const world = await createWorld();
  for (let ms = 0; ms < 20_000; ms += 2000) world.see(ms);
  await world.watch[Symbol.asyncDispose]();
  assert.equal(world.closed, 1);
  world.see(20_000, 50);
  assert.deepEqual(world.events, []);
});

const ffmpeg = needs("ffmpeg");
const STILL_GOPS = 12;
const MOVING_GOPS = 4;
/** Still, then moving, then still again. */
const MOVES = Array.from(
  { length: STILL_GOPS + MOVING_GOPS + 8 },
  (_, gop) => gop >= STILL_GOPS && gop < STILL_GOPS + MOVING_GOPS,
);

for (
  const [use, codec] of [
    ["system", "h264"],
    ["system", "h265"],
    ["wasm", "h264"],
    ["wasm", "h265"],
  ] as const
) {
  const needed = use === "system" ? ffmpeg : { ignore: false, reason: "" };
  Deno.test({
    name: `${use}: of ${codec} only what is around the motion is recorded${needed.reason}`,
    ignore: needed.ignore,
    fn: () => recordsAroundMotion(use, codec),
  });
}

async function recordsAroundMotion(use: EngineName, codec: "h264" | "h265"): Promise<void> {
  const { track, units } = await movingScene(MOVES, { codec });
  await using encoders = await createEncoders({ use, workers: 1, log: createTestLog() });
  const opened = Promise.withResolvers<void>();
  const stop = new AbortController();
  let pushed = 0;
  let seen = 0;
  let released = 0;
  const source: Source = {
    open: () =>
      Promise.resolve({
        tracks: [track],
        async *[Symbol.asyncIterator]() {
          for (const unit of units) {
            const data = unit.data.slice();
            yield {
              ...unit,
              data,
              release() {
                released++;
                data.fill(0); // as a pool would
              },
            };
            if (!unit.isKey) continue;
            await opened.promise;
            await until(() => seen === pushed, () => `${pushed} pushed, ${seen} seen`, 1);
          }
          stop.abort();
        },
        [Symbol.asyncDispose]: () => Promise.resolve(),
      }),
  };
  const events: CameraEvent[] = [];
  const spool = createMemorySpool();
  const options = recorderOptions(createFakeClock(STARTED_AT.getTime()), {
    ...{ source, spool, clipMs: 60_000 },
    events: { plan: { beforeMs: GOP_MS, afterMs: 1.5 * GOP_MS }, motion: true },
    onEvent: (event) => events.push(event),
    async pictureDecoder(picture) {
      const decoder = encoders.forKeyPictures({
        ...picture,
        onPicture(gray) {
          picture.onPicture(gray);
          seen++;
        },
      });
      setTimeout(opened.resolve); // when the watch has it
      return await Promise.resolve({
        push(unit, track) {
          pushed++;
          decoder.push(unit, track);
        },
        [Symbol.asyncDispose]: () => decoder[Symbol.asyncDispose](),
      });
    },
  });
  await recordCamera(options, stop.signal);

  const gopOf = (ms: number) => (ms - STARTED_AT.getTime()) / GOP_MS;
  assert.deepEqual(
    events.map(({ startMs, endMs = NaN }) => [gopOf(startMs), gopOf(endMs)]),
    Array.from({ length: MOVING_GOPS + 1 }, (_, i) => [STILL_GOPS + i - 1, STILL_GOPS + i]),
  );
  // While it learned everything was recorded; then there is the clip of the motion, and no other.
  const [learning, motion, ...others] = spool.finished;
  assert.ok(learning && motion && others.length === 0);
  assert.ok(gopOf(learning.end?.end.getTime() ?? NaN) <= STILL_GOPS - 2);
  assert.deepEqual(motion.end?.tags, ["motion"]);
  const { frames } = await readClip(motion.bytes);
  const shown = frames.map(({ strip }) => strip?.counter);
  // From two GOPs before the first that moves (it may have begun after that key picture) to 1.5 after.
  const [from, to] = [STILL_GOPS - 2, STILL_GOPS + MOVING_GOPS + 2];
  assert.deepEqual(shown, Array.from({ length: 4 * (to - from) }, (_, i) => 4 * from + i));
  assert.ok(released > 0);
}
