/**
 * The recovery against clips that were cut at every byte, damaged, and made up.
 *
 * @module
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { createMp4Writer } from "../../core/media/mp4_writer.ts";
import { type RandomAccess, recoverMp4 } from "../../core/media/mp4_recovery.ts";
import {
  concat,
  demuxWithMediabunny,
  demuxWithMp4box,
  groupUnits,
  readRecording,
  type Recording,
  STARTED_AT,
  writeClip,
} from "../support/media_samples.ts";

const bFrames = await readRecording("h264_b_frames_aac.mp4");
const larger = await readRecording("h264_larger.mp4");

/** A file in memory that counts what is read of it. */
function memoryFile(data: Uint8Array): RandomAccess & { readBytes: number; largestRead: number } {
  const file = {
    sizeBytes: data.length,
    readBytes: 0,
    largestRead: 0,
    read: (offset: number, length: number) => {
      const part = data.slice(offset, Math.min(data.length, offset + length));
      file.readBytes += part.length;
      file.largestRead = Math.max(file.largestRead, part.length);
      return Promise.resolve(part);
    },
  };
  return file;
}

/** Does with a torn file what a recovery says. */
async function repair(torn: Uint8Array): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const plan = await recoverMp4(memoryFile(torn));
  if (plan.state === "finished") return torn.slice();
  if (plan.state === "empty") return undefined;
  const file = concat([torn.subarray(0, plan.keepBytes), ...plan.tail]);
  file.set(plan.patch.bytes, plan.patch.offset);
  return file;
}

/** The clip as the writer finishes it after its first `count` fragments. */
function finishedAfter(recording: Recording, count: number, fragmentUs: number): Uint8Array {
  const writer = createMp4Writer({
    tracks: recording.tracks,
    startedAt: STARTED_AT,
    camera: "Front door",
    product: "camsink test",
  });
  const pieces = [writer.header()];
  const groups = groupUnits(recording.units, fragmentUs);
  for (const [i, units] of groups.slice(0, count).entries()) {
    const nextDtsUs = new Map<number, number>();
    for (const { trackId, dtsUs } of groups.slice(i + 1).flat()) {
      if (!nextDtsUs.has(trackId)) nextDtsUs.set(trackId, dtsUs);
    }
    pieces.push(...writer.fragment(units, { nextDtsUs }));
  }
  const end = writer.finish();
  const file = concat([...pieces, ...end.tail]);
  file.set(end.patch.bytes, end.patch.offset);
  return file;
}

Deno.test("cut at every byte, a clip becomes what the writer makes of its whole fragments", async () => {
  const fragmentUs = 100_000;
  const small = { tracks: bFrames.tracks, units: bFrames.units.slice(0, 30) };
  const clip = writeClip(small, { fragmentUs });
  const wanted = clip.fragmentEnds.map((_, i) => finishedAfter(small, i + 1, fragmentUs));
  assert.ok(wanted.length > 3);
  for (let cut = 0; cut < clip.torn.length; cut++) {
    const whole = clip.fragmentEnds.filter((end) => end <= cut).length;
    const repaired = await repair(clip.torn.subarray(0, cut));
    assert.deepEqual(repaired, whole === 0 ? undefined : wanted[whole - 1], `cut at ${cut}`);
  }
});

Deno.test("interrupted at any byte while it was finished, a clip loses nothing", async () => {
  const { torn, finished } = writeClip(bFrames);
  const tail = finished.subarray(torn.length);
  for (let cut = 0; cut <= tail.length; cut += 7) {
    assert.deepEqual(await repair(concat([torn, tail.subarray(0, cut)])), finished);
  }
  // The patch may be there before the tail, and itself be half written.
  const patched = concat([torn, tail]);
  for (let at = 0; at < 64; at++) {
    patched[at] = finished[at] ?? 0;
    assert.deepEqual(await repair(patched), finished);
    assert.deepEqual(await repair(patched.subarray(0, torn.length + 100)), finished);
  }
});

Deno.test("a long clip cut anywhere keeps every whole fragment, and little of it is read", async () => {
  // Ten minutes, made of the same three seconds.
  const units = Array.from({ length: 200 }, (_, round) =>
    bFrames.units.map((unit) => ({
      ...unit,
      ptsUs: unit.ptsUs + round * 3_200_000,
      dtsUs: unit.dtsUs + round * 3_200_000,
    }))).flat();
  const clip = writeClip({ tracks: bFrames.tracks, units });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: clip.torn.length }), async (cut) => {
      const file = memoryFile(clip.torn.subarray(0, cut));
      const plan = await recoverMp4(file);
      const whole = clip.fragmentEnds.filter((end) => end <= cut);
      assert.equal(plan.state, whole.length === 0 ? "empty" : "torn");
      if (plan.state !== "torn") return;
      assert.equal(plan.keepBytes, whole.at(-1));
      assert.ok(file.readBytes < 20_000 + cut / 5, `${file.readBytes} of ${cut} bytes were read`);
    }),
    { seed: 5, numRuns: 40 },
  );
});

Deno.test("two foreign demuxers read a recovered clip, and its contents are told truly", async () => {
  const clip = writeClip(bFrames);
  const cut = clip.torn.subarray(0, (clip.fragmentEnds[1] ?? 0) + 50);
  const plan = await recoverMp4(memoryFile(cut));
  assert.ok(plan.state === "torn");
  const file = await repair(cut);
  assert.ok(file);
  const { tracks } = demuxWithMp4box(file);
  assert.equal(tracks.get(1)?.length, plan.clip.frames);
  assert.equal((await demuxWithMediabunny(file)).get(1)?.length, plan.clip.frames);
  assert.equal(plan.fragments, 2);
  assert.equal(plan.clip.bytes, file.length);
  assert.equal(plan.clip.camera, "Front door");
  assert.equal(plan.clip.start.getTime(), STARTED_AT.getTime());
  assert.equal(
    plan.clip.end.getTime() - STARTED_AT.getTime(),
    Math.round(plan.clip.durationUs / 1000),
  );
  assert.ok(Math.abs(plan.clip.durationUs - 2_060_000) < 150_000);
});

Deno.test("a finished clip is recognised, and what it holds is read from it", async () => {
  const { finished } = writeClip(bFrames);
  const plan = await recoverMp4(memoryFile(finished));
  assert.ok(plan.state === "finished");
  assert.equal(plan.clip.frames, bFrames.units.filter((unit) => unit.trackId === 1).length);
  assert.equal(plan.clip.bytes, finished.length);
  assert.ok(Math.abs(plan.clip.durationUs - 3_064_000) < 100_000);
});

Deno.test("a sample description that began inside the clip survives", async () => {
  const before = bFrames.units.filter((unit) => unit.trackId === 1);
  const end = (before.at(-1)?.ptsUs ?? 0) + 100_000;
  const after = larger.units.map((unit, i) => ({
    ...unit,
    ptsUs: unit.ptsUs - 5_000_000 + end,
    dtsUs: unit.dtsUs - 5_000_000 + end,
    ...(i === 0 && larger.tracks[0] ? { track: larger.tracks[0] } : {}),
  }));
  const recording = { tracks: bFrames.tracks.slice(0, 1), units: [...before, ...after] };
  for (const fragmentUs of [500_000, 1_300_000]) {
    const { torn, finished } = writeClip(recording, { fragmentUs });
    assert.deepEqual(await repair(torn), finished);
  }
});

Deno.test("data that the disk never wrote is not taken for a fragment", async () => {
  const clip = writeClip(bFrames);
  for (const [last, unwritten] of [[2, 700], [3, 204]] as const) {
    const [before = 0, end = 0] = clip.fragmentEnds.slice(last - 1);
    const zeroed = clip.torn.slice(0, end);
    zeroed.fill(0, end - unwritten);
    const plan = await recoverMp4(memoryFile(zeroed));
    assert.ok(plan.state === "torn");
    assert.equal(plan.keepBytes, before);
  }
});

Deno.test("files that are no clips are given up with a reason", async () => {
  const cases: readonly [string, Uint8Array, RegExp][] = [
    ["empty", new Uint8Array(), /does not begin/],
    ["zeros", new Uint8Array(5000), /does not begin/],
    [
      "another MP4",
      Deno.readFileSync(
        new URL("../fixtures/media/h265_opus.mp4", import.meta.url),
      ),
      /does not begin/,
    ],
    ["only the start", writeClip(bFrames).torn.subarray(0, 200), /before its description/],
    ["no fragment", writeClip({ ...bFrames, units: [] }).torn, /no whole fragment/],
  ];
  for (const [name, data, reason] of cases) {
    const plan = await recoverMp4(memoryFile(data));
    assert.ok(plan.state === "empty", name);
    assert.match(plan.reason, reason, name);
  }
});

Deno.test("whatever bytes are changed, one of the three answers comes out and reads stay bounded", async () => {
  const { torn, finished } = writeClip(bFrames, { fragmentUs: 200_000 });
  const patch = fc.record({
    at: fc.oneof(fc.nat(2000), fc.nat(torn.length + 500)),
    bytes: fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 8 }),
      fc.constantFrom(
        Uint8Array.of(0xff, 0xff, 0xff, 0xff),
        Uint8Array.of(0, 0, 0, 0),
        Uint8Array.of(0, 0, 0, 1),
        Uint8Array.of(0x7f, 0xff, 0xff, 0xff),
      ),
    ),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.boolean(),
      fc.array(patch, { minLength: 1, maxLength: 4 }),
      async (done, patches) => {
        const data = (done ? finished : torn).slice();
        for (const { at, bytes } of patches) {
          if (at + bytes.length <= data.length) data.set(bytes, at);
        }
        const file = memoryFile(data);
        const plan = await recoverMp4(file);
        assert.ok(file.largestRead <= data.length);
        if (plan.state === "torn") {
          assert.ok(plan.keepBytes <= data.length);
          assert.ok(plan.clip.durationUs >= 0 && plan.clip.end >= plan.clip.start);
        }
      },
    ),
    { seed: 7, numRuns: 3000 },
  );
});
