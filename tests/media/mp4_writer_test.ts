/**
 * The clip writer against the standard and against two demuxers that others wrote.
 *
 * @module
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type Box, parseBoxes } from "../../core/media/mp4_boxes.ts";
import { MediaError } from "../../core/media/media_error.ts";
import { createMp4Writer } from "../../core/media/mp4_writer.ts";
import type { AccessUnit, Track } from "../../core/types.ts";
import {
  concat,
  demuxWithMediabunny,
  demuxWithMp4box,
  readRecording,
  type Recording,
  STARTED_AT,
  writeClip,
} from "../support/media_samples.ts";

const bFrames = await readRecording("h264_b_frames_aac.mp4");
const h265 = await readRecording("h265_opus.mp4");
const larger = await readRecording("h264_larger.mp4");

/** Boxes that hold boxes, and how many bytes stand before those. */
const CONTAINERS: Readonly<Record<string, number>> = {
  moov: 0,
  trak: 0,
  edts: 0,
  mdia: 0,
  minf: 0,
  dinf: 0,
  stbl: 0,
  mvex: 0,
  moof: 0,
  traf: 0,
  udta: 0,
  meta: 4,
  stsd: 8,
};

function tree(boxes: readonly Box[]): string {
  return boxes.map(({ type, body }) => {
    const skip = CONTAINERS[type];
    return skip === undefined ? type : `${type}(${tree(parseBoxes(body.subarray(skip)))})`;
  }).join(" ");
}

/** What a demuxer should find; while a clip is recorded, later by the reordering delay. */
function expected(recording: Recording, state: "torn" | "finished"): Map<number, object[]> {
  const origin = Math.min(...recording.units.map((unit) => unit.ptsUs));
  const delayUs = state === "finished" ? 0 : Math.max(...recording.tracks.map(({ id }) => {
    const own = recording.units.filter((unit) => unit.trackId === id);
    return Math.min(...own.map((unit) => unit.ptsUs)) - Math.min(...own.map((unit) => unit.dtsUs));
  }));
  return new Map(recording.tracks.map((track) => {
    const scale = track.kind === "video"
      ? 1_000_000
      : track.codec === "opus"
      ? 48_000
      : track.sampleRateHz;
    return [
      track.id,
      recording.units.filter((unit) => unit.trackId === track.id).map((unit) => ({
        ptsTicks: Math.round(((unit.ptsUs - origin) * scale) / 1e6) +
          Math.round((delayUs * scale) / 1e6),
        isKey: unit.isKey,
        data: [...unit.data],
      })),
    ];
  }));
}

function comparable(
  found: Map<
    number,
    readonly { readonly ptsTicks: number; readonly isKey: boolean; readonly data: Uint8Array }[]
  >,
): Map<number, object[]> {
  return new Map(
    [...found].filter(([, samples]) => samples.length > 0).map(([id, samples]) => [
      id,
      samples.map(({ ptsTicks, isKey, data }) => ({ ptsTicks, isKey, data: [...data] })),
    ]),
  );
}

Deno.test("a clip being recorded is ftyp, free, moov with mvex, and prft, moof, mdat per fragment", () => {
  const { torn } = writeClip(bFrames);
  const stbl = (entry: string) => `stbl(stsd(${entry}) stts stsc stsz stco)`;
  const trak = (kind: string, entry: string) =>
    `trak(tkhd mdia(mdhd hdlr minf(${kind} dinf(dref) ${stbl(entry)})))`;
  const moov = `moov(mvhd ${trak("vmhd", "avc1")} ${
    trak("smhd", "mp4a")
  } mvex(trex trex) udta(meta(hdlr ilst)))`;
  // Reordered pictures: both tracks are moved.
  const delays = "uuid uuid";
  const fragment = "prft moof(mfhd traf(tfhd tfdt trun) traf(tfhd tfdt trun)) mdat";
  // The sound ends before the pictures do.
  const lastFragment = "prft moof(mfhd traf(tfhd tfdt trun)) mdat";
  assert.equal(
    tree(parseBoxes(torn)),
    `ftyp free ${moov} ${delays} ${fragment} ${fragment} ${fragment} ${lastFragment}`,
  );
});

Deno.test("a finished clip is ftyp, one mdat and one moov with all sample tables", () => {
  const { finished, torn } = writeClip(bFrames);
  const boxes = parseBoxes(finished);
  assert.equal(
    tree(boxes),
    "ftyp mdat moov(mvhd " +
      // The sound's first frame stands before the first picture, which is delayed by an edit.
      "trak(tkhd edts(elst) mdia(mdhd hdlr minf(vmhd dinf(dref) stbl(stsd(avc1) stts ctts stss stsc stsz stco)))) " +
      "trak(tkhd mdia(mdhd hdlr minf(smhd dinf(dref) stbl(stsd(mp4a) stts stsc stsz stco)))) " +
      "udta(meta(hdlr ilst)))",
  );
  const differing = finished.subarray(0, torn.length).reduce(
    (count, byte, i) => count + (byte === torn[i] ? 0 : 1),
    0,
  );
  assert.ok(differing <= 16, "finishing changes only the 16 bytes of free");
});

for (
  const [name, recording] of [["H.264 with B-frames and AAC", bFrames], [
    "H.265 and Opus",
    h265,
  ]] as const
) {
  for (const state of ["torn", "finished"] as const) {
    Deno.test(`${name}: two foreign demuxers read the ${state} clip to the tick`, async () => {
      const file = writeClip(recording, { fragmentUs: 700_000 })[state];
      assert.deepEqual(comparable(await demuxWithMediabunny(file)), expected(recording, state));
      const { tracks } = demuxWithMp4box(file);
      assert.deepEqual(comparable(tracks), expected(recording, state));
      for (const samples of tracks.values()) {
        for (const [i, sample] of samples.entries()) {
          assert.ok((sample.dtsTicks ?? 0) >= (samples[i - 1]?.dtsTicks ?? 0));
        }
      }
    });
  }
}

/** Streams of units with odd times: gaps, jitter, late tracks, large sessions. */
const streams: fc.Arbitrary<Recording & { readonly fragmentUs: number }> = fc.record({
  originUs: fc.integer({ min: 0, max: 2 ** 50 }),
  videoGapsUs: fc.array(
    fc.oneof(fc.integer({ min: 0, max: 200_000 }), fc.integer({ min: 0, max: 600_000_000 })),
    { minLength: 1, maxLength: 40 },
  ),
  audioGapsUs: fc.array(fc.integer({ min: 0, max: 90_000 }), { maxLength: 60 }),
  audioDelayUs: fc.integer({ min: 0, max: 3_000_000 }),
  keys: fc.array(fc.boolean(), { minLength: 40, maxLength: 40 }),
  sizes: fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 101, maxLength: 101 }),
  reorderUs: fc.constantFrom(0, 33_333, 80_000),
  fragmentUs: fc.constantFrom(40_000, 1_000_000, 1_000_000_000),
}).map((plan) => {
  const units: AccessUnit[] = [];
  let at = plan.originUs;
  for (const [i, gap] of plan.videoGapsUs.entries()) {
    // Shown one delay after it is decoded; every second delta picture is shown as it is decoded.
    const isKey = i === 0 || plan.keys[i] === true;
    const offset = isKey || i % 2 === 0 ? plan.reorderUs : 0;
    units.push({
      trackId: 1,
      data: payload(plan.sizes[i] ?? 1, i),
      ptsUs: at + offset,
      dtsUs: at,
      isKey,
      capturedAtMs: 0,
    });
    at += gap;
  }
  at = plan.originUs + plan.reorderUs + plan.audioDelayUs;
  for (const [i, gap] of plan.audioGapsUs.entries()) {
    units.push({
      trackId: 2,
      data: payload(plan.sizes[40 + i] ?? 1, i),
      ptsUs: at,
      dtsUs: at,
      isKey: true,
      capturedAtMs: 0,
    });
    at += gap;
  }
  units.sort((a, b) => a.dtsUs - b.dtsUs);
  return { tracks: bFrames.tracks, units, fragmentUs: plan.fragmentUs };
});

/** A NAL unit with a length in front, so that demuxers that look inside find what they expect. */
function payload(size: number, seed: number): Uint8Array {
  const out = new Uint8Array(4 + size).fill(seed + 1);
  new DataView(out.buffer).setUint32(0, size);
  return out;
}

Deno.test("whatever the times, mp4box.js reads every unit of both states to the tick", () => {
  fc.assert(
    fc.property(streams, (stream) => {
      const { torn, finished } = writeClip(stream, { fragmentUs: stream.fragmentUs });
      // The clip's zero is the first fragment's first presentation.
      const zero = stream.units[0]?.dtsUs ?? 0;
      const first = stream.units.filter((unit) => unit.dtsUs - zero < stream.fragmentUs);
      const origin = Math.min(...first.map((unit) => unit.ptsUs));
      const shift = Math.min(...first.filter((unit) => unit.trackId === 1).map((u) => u.ptsUs)) -
        zero;
      for (const [file, delayUs] of [[torn, shift], [finished, 0]] as const) {
        const { tracks } = demuxWithMp4box(file);
        for (const [id, scale] of [[1, 1_000_000], [2, 16_000]] as const) {
          const ticks = (us: number) => Math.round((us * scale) / 1e6);
          assert.deepEqual(
            (tracks.get(id) ?? []).map((sample) => ({ ...sample, data: [...sample.data] })),
            stream.units.filter((unit) => unit.trackId === id).map((unit) => ({
              dtsTicks: ticks(Math.max(0, unit.dtsUs - origin + (id === 1 ? shift : 0))) +
                ticks(id === 1 ? 0 : delayUs),
              ptsTicks: ticks(Math.max(0, unit.ptsUs - origin)) + ticks(delayUs),
              isKey: unit.isKey,
              data: [...unit.data],
            })),
          );
        }
      }
    }),
    { seed: 4, numRuns: 150 },
  );
});

Deno.test("times do not drift over 24 h of pictures and sound at odd rates", () => {
  const halfHour = 1_800_000_000;
  const units: AccessUnit[] = [];
  for (let k = 0; k <= 48; k++) {
    const ptsUs = 777 + Math.round((k * halfHour * 30_000) / 30_001);
    units.push({
      trackId: 1,
      data: payload(1, k),
      ptsUs,
      dtsUs: ptsUs,
      isKey: true,
      capturedAtMs: 0,
    });
    const audioUs = 777 +
      Math.round((Math.round((k * halfHour * 16_000) / 1e6 / 1024) * 1024 * 1e6) / 16_000);
    units.push({
      trackId: 2,
      data: payload(1, k),
      ptsUs: audioUs,
      dtsUs: audioUs,
      isKey: true,
      capturedAtMs: 0,
    });
  }
  const { finished } = writeClip({ tracks: bFrames.tracks, units }, { fragmentUs: halfHour });
  const { tracks } = demuxWithMp4box(finished);
  assert.equal(tracks.get(1)?.at(-1)?.ptsTicks, Math.round((48 * halfHour * 30_000) / 30_001));
  assert.equal(tracks.get(2)?.at(-1)?.ptsTicks, Math.round((24 * 3600 * 16_000) / 1024) * 1024);
});

Deno.test("sample data is handed on in its own buffers, neighbours as one piece", () => {
  const buffer = new Uint8Array(100_000);
  const unit = (from: number, to: number, us: number): AccessUnit => ({
    trackId: 1,
    data: buffer.subarray(from, to),
    ptsUs: us,
    dtsUs: us,
    isKey: true,
    capturedAtMs: 0,
  });
  const writer = createMp4Writer({
    tracks: bFrames.tracks,
    startedAt: STARTED_AT,
    camera: "a",
    product: "b",
  });
  const [, ...data] = writer.fragment([
    unit(0, 10_000, 0),
    unit(10_000, 30_000, 10),
    unit(40_000, 50_000, 20),
  ]);
  assert.deepEqual(data.map((piece) => [piece.byteOffset, piece.length]), [[0, 30_000], [
    40_000,
    10_000,
  ]]);
  assert.ok(data.every((piece) => piece.buffer === buffer.buffer));
});

Deno.test("small scattered pieces are handed on as one", () => {
  const sound = bFrames.units.filter((unit) => unit.trackId === 2);
  const writer = createMp4Writer({
    tracks: bFrames.tracks,
    startedAt: STARTED_AT,
    camera: "a",
    product: "b",
  });
  assert.equal(
    writer.fragment(sound.map((unit) => ({ ...unit, data: unit.data.slice() }))).length,
    1,
  );
});

Deno.test("new parameter sets begin a new sample description, and stand in front of their key unit", () => {
  const before = bFrames.units.filter((unit) => unit.trackId === 1);
  const end = (before.at(-1)?.ptsUs ?? 0) + 100_000;
  const [newTrack] = larger.tracks;
  assert.ok(newTrack);
  const after = larger.units.map((unit, i) => ({
    ...unit,
    ptsUs: unit.ptsUs - 5_000_000 + end,
    dtsUs: unit.dtsUs - 5_000_000 + end,
    ...(i === 0 ? { track: newTrack } : {}),
  }));
  const clip = writeClip({ tracks: bFrames.tracks.slice(0, 1), units: [...before, ...after] });
  const { iso, tracks } = demuxWithMp4box(clip.finished);
  assert.equal(iso.moov?.traks[0]?.mdia.minf.stbl.stsd.entries.length, 2);
  const samples = iso.moov?.traks[0]?.samples ?? [];
  assert.deepEqual(
    samples.map((sample) => sample.description_index),
    samples.map((_, i) => i < before.length ? 0 : 1),
  );
  const first = tracks.get(1)?.[before.length]?.data ?? new Uint8Array();
  assert.equal((first[4] ?? 0) & 31, 7, "a sequence parameter set comes first");
  assert.deepEqual(first.subarray(-(after[0]?.data.length ?? 0)), after[0]?.data);
});

Deno.test("the clip carries its start, the camera and the product", async () => {
  const { iso } = demuxWithMp4box(writeClip(h265).finished);
  assert.equal(iso.getInfo().created.toISOString(), "2026-08-21T14:05:00.000Z");
  const { finished } = writeClip(h265);
  const { ALL_FORMATS, BufferSource, Input } = await import("mediabunny");
  using input = new Input({ source: new BufferSource(finished), formats: ALL_FORMATS });
  const tags = await input.getMetadataTags();
  assert.equal(tags.title, "Front door");
  assert.equal(tags.date?.toISOString(), STARTED_AT.toISOString());
  assert.equal(tags.raw?.["©too"], "camsink test");
});

Deno.test("the last unit lasts until the next one, where that is told", () => {
  const [track] = larger.tracks;
  assert.ok(track);
  const writer = createMp4Writer({
    tracks: [track],
    startedAt: STARTED_AT,
    camera: "a",
    product: "b",
  });
  const pieces = [writer.header(), ...writer.fragment(larger.units)];
  const end = writer.finish({ nextDtsUs: new Map([[1, 5_000_000 + 2_500_000]]) });
  const file = concat([...pieces, ...end.tail]);
  file.set(end.patch.bytes, end.patch.offset);
  assert.equal(demuxWithMp4box(file).iso.moov?.mvhd.duration, 2_500_000);
});

Deno.test("a unit that cannot be part of the clip is refused and changes nothing", () => {
  const [video, audio] = bFrames.tracks;
  assert.ok(video && audio);
  const good = bFrames.units.slice(0, 10);
  const first = bFrames.units[0];
  assert.ok(first);
  const wrong: readonly [string, AccessUnit, RegExp][] = [
    ["stranger", { ...first, trackId: 9 }, /belongs to track 9/],
    ["back in time", { ...first, trackId: 1, dtsUs: 1, ptsUs: 1 }, /decode order/],
    ["long gap", { ...first, trackId: 1, dtsUs: 1e13, ptsUs: 1e13 }, /begin a new one/],
    ["no time", { ...first, ptsUs: NaN }, /has times NaN/],
    [
      "other codec",
      { ...first, trackId: 1, track: { ...video, codec: "h265" } as Track },
      /new clip/,
    ],
    ["change without key", {
      ...first,
      trackId: 1,
      dtsUs: 9e6,
      ptsUs: 9e6,
      isKey: false,
      track: { ...video, config: video.config.slice(0, -1) } as Track,
    }, /not key/],
  ];
  for (const [name, unit, message] of wrong) {
    const options = { tracks: bFrames.tracks, startedAt: STARTED_AT, camera: "a", product: "b" };
    const [tried, untried] = [createMp4Writer(options), createMp4Writer(options)];
    for (const writer of [tried, untried]) writer.fragment(good);
    assert.throws(() => tried.fragment([unit]), (error) => {
      assert.ok(error instanceof MediaError, name);
      assert.match(error.message, message);
      return true;
    });
    assert.deepEqual(tried.finish(), untried.finish(), name);
  }
});

Deno.test("tracks that MP4 cannot hold are refused at once", () => {
  const make = (tracks: readonly Track[]) => () =>
    createMp4Writer({ tracks, startedAt: STARTED_AT, camera: "a", product: "b" });
  const jpeg: Track = {
    id: 1,
    kind: "video",
    codec: "jpeg",
    widthPx: 1,
    heightPx: 1,
    config: new Uint8Array(),
  };
  assert.throws(make([jpeg]), /encode it to H.264/);
  assert.throws(make([]), /got none/);
  const [video] = bFrames.tracks;
  assert.ok(video);
  assert.throws(make([video, video]), /different ids/);
});
