/**
 * Pictures and sound of a camera that codes both, cut into clips: whatever their rates, the order in
 * which they come and the depth of reordering, every unit is in exactly one clip and in step with
 * the others there, as two demuxers that others wrote see it.
 *
 * @module
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { createClipWriter } from "../../core/capture/clip_writer.ts";
import type { AccessUnit, Track } from "../../core/types.ts";
import {
  createMemorySpool,
  createNotes,
  newStatus,
  SOUND_TRACK,
  VIDEO_TRACK,
} from "../support/capture_fakes.ts";
import { demuxWithMediabunny, demuxWithMp4box } from "../support/media_samples.ts";

const NOON = Date.UTC(2026, 7, 21, 12, 0, 0);

/** The same pictures by other parameter sets: a level higher. */
const OTHER_VIDEO: Track = {
  ...VIDEO_TRACK,
  config: VIDEO_TRACK.config.map((byte, i) => (i === 3 || i === 11 ? 0x0d : byte)),
};

/** A camera and how its units come. */
interface Camera {
  readonly originUs: number;
  readonly lengthUs: number;
  readonly pictureUs: number;
  /** Pictures of a GOP. */
  readonly gop: number;
  /** B-pictures between two others; shown before the one that is decoded before them. */
  readonly reordered: number;
  readonly soundRateHz: number;
  /** How much later than its pictures sound comes; negative for earlier. */
  readonly soundLagUs: number;
  readonly clipMs: number;
  readonly fragmentUs: number;
  readonly startMs: number;
  /** The GOP that brings new parameter sets; beyond the last for none. */
  readonly changesAt: number;
}

const cameras: fc.Arbitrary<Camera> = fc.record({
  originUs: fc.integer({ min: 0, max: 47_721_858_844 }),
  lengthUs: fc.integer({ min: 3_000_000, max: 14_000_000 }),
  pictureUs: fc.integer({ min: 33_366, max: 250_000 }),
  gop: fc.integer({ min: 1, max: 25 }),
  reordered: fc.integer({ min: 0, max: 3 }),
  soundRateHz: fc.constantFrom(8000, 16_000, 44_100, 48_000),
  soundLagUs: fc.integer({ min: -1_500_000, max: 1_500_000 }),
  clipMs: fc.integer({ min: 1000, max: 8000 }),
  fragmentUs: fc.constantFrom(250_000, 1_000_000),
  startMs: fc.integer({ min: 0, max: 8000 }),
  changesAt: fc.integer({ min: 1, max: 8 }),
});

/** A unit's number stands in its last four bytes. */
function unitOf(
  trackId: number,
  number: number,
  fields: Pick<AccessUnit, "ptsUs" | "dtsUs" | "isKey" | "capturedAtMs">,
): AccessUnit {
  const data = Uint8Array.of(0, 0, 0, 5, fields.isKey ? 0x65 : 0x41, 0, 0, 0, 0);
  new DataView(data.buffer).setUint32(5, number);
  return { trackId, data, ...fields };
}

function picturesOf(camera: Camera): AccessUnit[] {
  const { originUs, lengthUs, pictureUs, gop, reordered, startMs, changesAt } = camera;
  const count = Math.floor(lengthUs / pictureUs);
  const delay = reordered === 0 ? 0 : 1;
  return Array.from({ length: count }, (_, n) => {
    const gopStart = n - n % gop;
    const gopEnd = Math.min(gopStart + gop, count);
    // Within a GOP: key, then groups of one picture and the B-pictures shown before it.
    const group = n === gopStart ? 0 : (n - gopStart - 1) % (reordered + 1);
    const groupStart = n - group;
    const groupLength = Math.min(reordered + 1, gopEnd - groupStart);
    const shown = n === gopStart ? n : group === 0 ? groupStart + groupLength - 1 : n - 1;
    const dtsUs = originUs + n * pictureUs;
    return {
      ...unitOf(1, n, {
        ptsUs: originUs + (shown + delay) * pictureUs,
        dtsUs,
        isKey: n === gopStart,
        capturedAtMs: NOON + startMs + Math.round((dtsUs - originUs) / 1000),
      }),
      ...(n === changesAt * gop ? { track: OTHER_VIDEO } : {}),
    };
  });
}

function soundOf({ originUs, lengthUs, soundRateHz, startMs }: Camera): AccessUnit[] {
  const frames = Math.floor(lengthUs / 1e6 * soundRateHz / 1024);
  return Array.from({ length: frames }, (_, n) => {
    const us = originUs + Math.round(n * 1024 * 1e6 / soundRateHz);
    const capturedAtMs = NOON + startMs + Math.round((us - originUs) / 1000);
    return unitOf(2, n, { ptsUs: us, dtsUs: us, isKey: true, capturedAtMs });
  });
}

/** Both, as they come in. */
function interleaved(
  pictures: readonly AccessUnit[],
  sound: readonly AccessUnit[],
  lagUs: number,
): AccessUnit[] {
  const comesAtUs = (unit: AccessUnit) => unit.dtsUs + (unit.trackId === 2 ? lagUs : 0);
  return [...pictures, ...sound].sort((a, b) => comesAtUs(a) - comesAtUs(b));
}

async function record(camera: Camera) {
  const { clipMs, fragmentUs, soundRateHz, soundLagUs } = camera;
  const soundTrack: Track = {
    ...SOUND_TRACK,
    ...(SOUND_TRACK.kind === "audio" ? { sampleRateHz: soundRateHz } : {}),
  };
  const spool = createMemorySpool();
  const writer = createClipWriter({
    ...{ camera: "Yard", slug: "yard", clipMs, fragmentUs, product: "test" },
    ...{ spool, status: newStatus(), log: createNotes(), tracks: [VIDEO_TRACK, soundTrack] },
  });
  const pictures = picturesOf(camera);
  const sound = soundOf(camera);
  for (const unit of interleaved(pictures, sound, soundLagUs)) await writer.write(unit);
  await writer.finish();
  assert.ok(spool.clips.every(({ state }) => state === "finished"));
  return { pictures, sound, clips: spool.finished };
}

type Demuxed = Awaited<ReturnType<typeof demuxWithMediabunny>>;

const numberIn = (data: Uint8Array) =>
  new DataView(data.buffer, data.byteOffset).getUint32(data.length - 4);

/** Every unit once, in order, and all of a clip in step. */
function assertWhole(
  clips: readonly Demuxed[],
  { pictures, sound }: { pictures: readonly AccessUnit[]; sound: readonly AccessUnit[] },
  soundRateHz: number,
): void {
  const firstShownUs = pictures[0]?.ptsUs ?? 0;
  const numbers = (id: number) =>
    clips.flatMap((clip) => (clip.get(id) ?? []).map(({ data }) => numberIn(data)));
  assert.deepEqual(numbers(1), pictures.map((_, n) => n));
  assert.deepEqual(
    numbers(2),
    sound.flatMap(({ ptsUs }, n) => ptsUs >= firstShownUs ? [n] : []),
  );
  for (const [nth, clip] of clips.entries()) {
    const key = clip.get(1)?.[0];
    const next = clips[nth + 1]?.get(1)?.[0];
    assert.ok(key?.isKey);
    const zeroUs = pictures[numberIn(key.data)]?.ptsUs ?? NaN;
    const endUs = next ? pictures[numberIn(next.data)]?.ptsUs ?? NaN : Infinity;
    for (const { data, ptsTicks } of clip.get(1) ?? []) {
      assert.equal(ptsTicks, (pictures[numberIn(data)]?.ptsUs ?? NaN) - zeroUs);
    }
    for (const { data, ptsTicks } of clip.get(2) ?? []) {
      const ptsUs = sound[numberIn(data)]?.ptsUs ?? NaN;
      assert.ok(ptsUs >= zeroUs && ptsUs < endUs, "sound belongs to the clip in which it begins");
      assert.equal(ptsTicks, Math.round((ptsUs - zeroUs) * soundRateHz / 1e6));
    }
  }
}

Deno.test("pictures and sound: every unit is in one clip and in step there, by two demuxers", async () => {
  await fc.assert(
    fc.asyncProperty(cameras, async (camera) => {
      const { clips, ...units } = await record(camera);
      const files = clips.map(({ bytes }) => bytes);
      const byMp4box = files.map((file) => demuxWithMp4box(file).tracks);
      assertWhole(byMp4box, units, camera.soundRateHz);
      assertWhole(await Promise.all(files.map(demuxWithMediabunny)), units, camera.soundRateHz);
    }),
    { seed: 7, numRuns: 60 },
  );
});

Deno.test("clips end at the wall clock's multiples whether sound comes early or late", async () => {
  const camera = {
    ...{ originUs: 0, lengthUs: 30_000_000, pictureUs: 40_000, gop: 25, reordered: 2 },
    ...{ soundRateHz: 48_000, clipMs: 10_000, fragmentUs: 1_000_000, startMs: 4000, changesAt: 99 },
  };
  for (const soundLagUs of [-900_000, 0, 900_000]) {
    const { clips } = await record({ ...camera, soundLagUs });
    assert.deepEqual(
      clips.map(({ start, end }) => [start.getTime() - NOON, (end?.end.getTime() ?? NaN) - NOON]),
      [[4000, 10_000], [10_000, 20_000], [20_000, 30_000], [30_000, 34_000]],
    );
  }
});
