/**
 * A recording that keeps a picture now and then and plays them fast.
 *
 * @module
 */
import assert from "node:assert/strict";
import { recordCamera } from "../../core/capture/recorder.ts";
import { createTimelapse } from "../../core/capture/timelapse.ts";
import { inspectMp4 } from "../../core/media/mp4_inspect.ts";
import type { AccessUnit, VideoTrack } from "../../core/types.ts";
import {
  createFakeCamera,
  createMemorySpool,
  createNotes,
  JPEG_TRACK,
  type MemorySpool,
  newStatus,
  recorderOptions,
  relabel,
  VIDEO_TRACK,
  videoUnit,
} from "../support/capture_fakes.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { demuxWithMp4box } from "../support/media_samples.ts";

const NOON = Date.UTC(2026, 7, 21, 12, 0, 0);
const HOUR_MS = 3_600_000;
const PLAN = { everyMs: 10_000, fps: 20, clipMs: HOUR_MS, only: false } as const;

function start(plan: Partial<typeof PLAN> = {}, spool: MemorySpool = createMemorySpool()) {
  const clock = createFakeClock(NOON);
  const status = newStatus("Yard (timelapse)");
  const log = createNotes();
  const timelapse = createTimelapse({
    ...{
      camera: "Yard (timelapse)",
      slug: "yard-timelapse",
      encoder: () => Promise.resolve(relabel),
      spool,
    },
    ...{ plan: { ...PLAN, ...plan }, status, product: "test", clock, log },
  });
  return {
    ...{ spool, status, timelapse, lines: log.lines },
    /** A picture every `stepMs`, a key one every `gopMs`. */
    async shoot(
      fromMs: number,
      toMs: number,
      { track = JPEG_TRACK, stepMs = 500, gopMs = 500 }: {
        track?: VideoTrack;
        stepMs?: number;
        gopMs?: number;
      } = {},
    ) {
      for (let ms = fromMs; ms < toMs; ms += stepMs) {
        const unit: AccessUnit = videoUnit(ms, {
          isKey: ms % gopMs === 0,
          capturedAtMs: NOON + ms,
          mark: ms / 1000 % 200,
        });
        timelapse.offer(unit, track);
        if (ms % 60_000 === 0) await clock.advance(0);
      }
      await clock.advance(0);
    },
  };
}

const minutes = ({ spool }: { spool: MemorySpool }) =>
  spool.finished.map(({ start, end }) => [
    (start.getTime() - NOON) / 60_000,
    ((end?.end.getTime() ?? NaN) - NOON) / 60_000,
  ]);

for (
  const [kind, track, gopMs] of [["JPEGs", JPEG_TRACK, 500], [
    "coded video",
    VIDEO_TRACK,
    2000,
  ]] as const
) {
  Deno.test(`of ${kind} a picture every ten seconds is kept, an hour in eighteen seconds`, async () => {
    const test = start();
    await test.shoot(0, 2.5 * HOUR_MS, { track, gopMs });
    await test.timelapse.finish();
    assert.deepEqual(minutes(test), [[0, 60], [60, 120], [120, 150]]);
    assert.deepEqual(test.spool.finished.map(({ end }) => end?.frames), [360, 360, 180]);
    for (const { bytes } of test.spool.finished.slice(0, 2)) {
      const { frames, durationMs } = inspectMp4(bytes);
      assert.equal(frames, 360);
      assert.ok(Math.abs(durationMs - 18_000) <= 100, `${durationMs} ms`);
    }
    assert.equal(test.status.framesCaptured, 900);
    assert.equal(test.status.framesRecorded, 900);
    assert.equal(test.status.framesDropped, 0);
  });
}

Deno.test("of coded video only key pictures are kept, each a key picture of the timelapse", async () => {
  const test = start();
  await test.shoot(0, 120_000, { track: VIDEO_TRACK, gopMs: 4000 });
  await test.timelapse.finish();
  const samples = demuxWithMp4box(test.spool.finished[0]?.bytes ?? new Uint8Array()).tracks.get(1);
  assert.equal(samples?.length, 12);
  assert.ok(samples.every(({ isKey }) => isKey));
  assert.deepEqual(
    samples.map(({ data }) => data.at(-1)),
    [0, 12, 20, 32, 40, 52, 60, 72, 80, 92, 100, 112],
  );
});

Deno.test("a camera that changes from JPEGs to coded video goes on in a new clip", async () => {
  const test = start();
  await test.shoot(0, 300_000);
  await test.shoot(300_000, 600_000, { track: VIDEO_TRACK });
  await test.timelapse.finish();
  assert.deepEqual(minutes(test), [[0, 5], [5, 10]]);
});

Deno.test("a disk that refuses is told of once, and the timelapse goes on when it is well", async () => {
  const spool = createMemorySpool();
  const test = start({}, spool);
  spool.fail = () => {
    throw new Error("the disk is full");
  };
  await test.shoot(0, 600_000);
  spool.fail = () => {};
  await test.shoot(600_000, 1_200_000);
  await test.timelapse.finish();
  assert.equal(test.lines.filter((line) => /^warn the timelapse/.test(line)).length, 1);
  assert.ok((test.spool.finished[0]?.end?.frames ?? 0) >= 54);
});

for (const only of [false, true]) {
  Deno.test(`a lost session does not cut a timelapse${only ? " that is a camera's only recording" : ""}`, async () => {
    const clock = createFakeClock(NOON);
    const camera = createFakeCamera(clock, [JPEG_TRACK]);
    const spool = createMemorySpool();
    const own = newStatus("Yard (timelapse)");
    const options = recorderOptions(clock, { source: camera, spool });
    const stop = new AbortController();
    const running = recordCamera({
      ...options,
      timelapse: {
        plan: { ...PLAN, only },
        camera: only ? "Yard" : own.name,
        slug: only ? "yard" : "yard-timelapse",
        status: only ? options.status : own,
      },
    }, stop.signal);
    const shoot = async (forMs: number) => {
      for (let ms = 0; ms < forMs; ms += 500) {
        camera.picture();
        await clock.advance(500);
      }
    };
    await shoot(200_000);
    assert.equal(options.status.state, "recording");
    camera.end(new Error("gone"));
    await clock.advance(5000);
    await shoot(195_000);
    stop.abort(new DOMException("stopped", "AbortError"));
    for (let step = 0; step < 50; step++) await clock.advance(100);
    await running;
    const lapses = spool.finished.filter(({ slug }) => slug === (only ? "yard" : "yard-timelapse"));
    assert.equal(lapses.length, 1);
    assert.ok(Math.abs((lapses[0]?.end?.frames ?? 0) - 40) <= 1, `${lapses[0]?.end?.frames}`);
    assert.equal(spool.finished.length > 1, !only);
    assert.equal(options.status.gaps.count, 1);
  });
}
