/**
 * How a camera's units become clips.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createClipWriter } from "../../core/capture/clip_writer.ts";
import { recoverMp4 } from "../../core/media/mp4_recovery.ts";
import type { AccessUnit } from "../../core/types.ts";
import {
  createMemorySpool,
  createNotes,
  type MemoryClip,
  newStatus,
  SOUND_TRACK,
  VIDEO_TRACK,
  videoUnit,
} from "../support/capture_fakes.ts";
import { demuxWithMp4box } from "../support/media_samples.ts";

const NOON = Date.UTC(2026, 7, 21, 12, 0, 0);
const HOUR_MS = 3_600_000;

function setUp({ clipMs = 10_000, sound = false } = {}) {
  const spool = createMemorySpool();
  const status = newStatus();
  const log = createNotes();
  const writer = createClipWriter({
    ...{ camera: "Yard", slug: "yard", clipMs, fragmentUs: 500_000, product: "test" },
    ...{ spool, status, log },
    tracks: sound ? [VIDEO_TRACK, SOUND_TRACK] : [VIDEO_TRACK],
  });
  return { spool, status, log, writer };
}

/** Writes a unit every `stepMs` from `fromMs` to before `toMs`, a key one every `gopMs`. */
async function* pictures(
  fromMs: number,
  toMs: number,
  { stepMs = 500, gopMs = 2000, wallMs = NOON } = {},
): AsyncGenerator<AccessUnit> {
  for (let ms = fromMs; ms < toMs; ms += stepMs) {
    yield videoUnit(ms, { isKey: (ms - fromMs) % gopMs === 0, capturedAtMs: wallMs + ms });
  }
}

function secondsOf(clip: MemoryClip): readonly [from: number, to: number] {
  return [(clip.start.getTime() - NOON) / 1000, ((clip.end?.end.getTime() ?? NaN) - NOON) / 1000];
}

/** The pictures that a player finds, after the clip was seen to be whole. */
async function samplesOf({ bytes }: MemoryClip, trackId = 1) {
  const found = await recoverMp4({
    sizeBytes: bytes.length,
    read: (offset, length) => Promise.resolve(bytes.slice(offset, offset + length)),
  });
  assert.equal(found.state, "finished");
  return demuxWithMp4box(bytes).tracks.get(trackId) ?? [];
}

Deno.test("clips end at wall-clock multiples of their length, without a hole between them", async () => {
  const { spool, status, writer } = setUp();
  for await (const unit of pictures(4000, 24_000)) await writer.write(unit);
  await writer.finish();
  assert.deepEqual(spool.finished.map(secondsOf), [[4, 10], [10, 20], [20, 24]]);
  const samples = await Promise.all(spool.finished.map((clip) => samplesOf(clip)));
  assert.deepEqual(samples.map(({ length }) => length), [12, 20, 8]);
  assert.deepEqual(spool.finished.map(({ end }) => end?.frames), [12, 20, 8]);
  assert.equal(status.framesRecorded, 40);
  assert.equal(status.clipsFinished, 3);
});

Deno.test("a clip ends at the key unit nearest to the boundary when key units are rare", async () => {
  const { spool, writer } = setUp({ clipMs: 60_000 });
  for await (const unit of pictures(2000, 130_000, { gopMs: 8000 })) await writer.write(unit);
  await writer.finish();
  // Key units stand at 50, 58, 66, …: 58 is nearer to 60 than 66 is.
  assert.deepEqual(spool.finished.map(secondsOf), [[2, 58], [58, 122], [122, 130]]);
});

Deno.test("a change in the distance of key units does not cut a clip twice at one boundary", async () => {
  const { spool, writer } = setUp({ clipMs: 60_000 });
  for await (const unit of pictures(2000, 58_000, { gopMs: 8000 })) await writer.write(unit);
  for await (const unit of pictures(58_000, 70_000, { gopMs: 500 })) await writer.write(unit);
  await writer.finish();
  assert.deepEqual(spool.finished.map(secondsOf), [[2, 58], [58, 70]]);
});

Deno.test("units before the first key unit are not recorded", async () => {
  const { spool, status, writer } = setUp();
  await writer.write(videoUnit(0, { isKey: false, capturedAtMs: NOON }));
  await writer.write(videoUnit(500, { capturedAtMs: NOON + 500 }));
  await writer.finish();
  assert.equal((await samplesOf(spool.finished[0] as MemoryClip)).length, 1);
  assert.equal(status.framesRecorded, 1);
});

for (const jumpMs of [HOUR_MS, -HOUR_MS]) {
  const name = jumpMs > 0 ? "ahead" : "back";
  Deno.test(`when the clock jumps an hour ${name}, a new clip begins and lengths stay true`, async () => {
    const { spool, writer } = setUp({ clipMs: 60_000 });
    for await (const unit of pictures(0, 20_000)) await writer.write(unit);
    for await (const unit of pictures(20_000, 50_000, { wallMs: NOON + jumpMs })) {
      await writer.write(unit);
    }
    await writer.finish();
    const jumpS = jumpMs / 1000;
    assert.deepEqual(spool.finished.map(secondsOf), [[0, 20], [20 + jumpS, 50 + jumpS]]);
    assert.equal(new Set(spool.clips.map(({ key }) => key)).size, 2);
  });
}

Deno.test("a clock that keeps being put back does not make a clip longer than twice its length", async () => {
  const { spool, writer } = setUp();
  for (let ms = 0; ms < 60_000; ms += 500) {
    await writer.write(videoUnit(ms, { capturedAtMs: NOON + ms % 5000 }));
  }
  await writer.finish();
  const lengths = spool.finished.map(secondsOf).map(([from, to]) => to - from);
  assert.ok(Math.max(...lengths) <= 20, `${lengths}`);
  assert.equal(lengths.reduce((sum, length) => sum + length, 0), 60);
});

Deno.test("sound that came before the cut but belongs after it goes into the next clip", async () => {
  const { spool, writer } = setUp({ sound: true });
  const sound = (ms: number) =>
    videoUnit(ms, { trackId: 2, data: Uint8Array.of(ms % 251), capturedAtMs: NOON + ms });
  for (let ms = 8000; ms < 12_000; ms += 100) {
    // Sound is 300 ms ahead of the pictures.
    await writer.write(sound(ms + 300));
    await writer.write(videoUnit(ms, { isKey: ms % 2000 === 0, capturedAtMs: NOON + ms }));
  }
  await writer.finish();
  const sounds = await Promise.all(spool.finished.map((clip) => samplesOf(clip, 2)));
  const marks = sounds.map((samples) => samples.map(({ data }) => data[0]));
  const expected = (fromMs: number, toMs: number) =>
    Array.from({ length: (toMs - fromMs) / 100 }, (_, n) => (fromMs + n * 100) % 251);
  // What came before the first picture is not recorded.
  assert.deepEqual(marks, [expected(8400, 10_000), expected(10_000, 12_300)]);
});

Deno.test("a fragment that the disk refused goes out with the clip's end", async () => {
  const { spool, status, writer } = setUp();
  let appends = 0;
  spool.fail = (operation) => {
    if (operation === "append" && ++appends === 4) throw new Error("no room");
  };
  await assert.rejects(async () => {
    for await (const unit of pictures(0, 8000)) await writer.write(unit);
  }, /no room/);
  await writer.finish();
  const [clip] = spool.finished;
  assert.ok(clip);
  const samples = await samplesOf(clip);
  assert.equal(samples.length, clip.end?.frames);
  assert.equal(status.framesRecorded, samples.length);
  assert.ok(samples.every(({ data }) => data.at(-2) === 0x65 || data.at(-2) === 0x41));
});

Deno.test("a clip whose header could not be written is not published", async () => {
  const { spool, writer } = setUp();
  spool.fail = (operation) => {
    if (operation === "append") throw new Error("no room");
  };
  await assert.rejects(writer.write(videoUnit(0, { capturedAtMs: NOON })), /no room/);
  await writer.finish();
  assert.deepEqual(spool.clips.map(({ state }) => state), ["discarded"]);
});

Deno.test("pictures of a clip that cannot be finished do not stop the next clip", async () => {
  const { spool, status, log, writer } = setUp();
  spool.fail = (operation, clip) => {
    if (operation === "finish" && clip.start.getTime() === NOON) throw new Error("a bad disk");
  };
  for await (const unit of pictures(0, 20_000)) await writer.write(unit);
  await writer.finish();
  assert.deepEqual(spool.clips.map(({ state }) => state), ["torn", "finished"]);
  assert.equal(status.clipsFinished, 1);
  assert.equal(log.lines.filter((line) => /^error .*bad disk/.test(line)).length, 1);
});

Deno.test("units that come after the end are not recorded", async () => {
  const { spool, writer } = setUp();
  await writer.write(videoUnit(0, { capturedAtMs: NOON }));
  await writer.finish();
  await writer.write(videoUnit(500, { capturedAtMs: NOON + 500 }));
  assert.equal(spool.clips.length, 1);
});
