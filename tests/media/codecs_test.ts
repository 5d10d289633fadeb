/**
 * Parameter sets, audio headers and JPEGs: what ffmpeg wrote is understood, and whatever bytes come,
 * only the media room's own error comes out.
 *
 * @module
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  makeAudioSpecificConfig,
  parseAdts,
  parseAudioSpecificConfig,
  stripAdts,
} from "../../core/media/aac.ts";
import { makeAvcConfig, parseAvcConfig, parseH264Sps } from "../../core/media/h264.ts";
import { makeHevcConfig, parseH265Sps, parseHevcConfig } from "../../core/media/h265.ts";
import { parseJpeg } from "../../core/media/jpeg.ts";
import { MediaError } from "../../core/media/media_error.ts";
import { makeOpusConfig, opusPacketSamples, parseOpusConfig } from "../../core/media/opus.ts";
import { readFixture, readRecording } from "../support/media_samples.ts";

const h264 = (await readRecording("h264_b_frames_aac.mp4")).tracks[0]?.config ?? new Uint8Array();
const h265 = (await readRecording("h265_opus.mp4")).tracks[0]?.config ?? new Uint8Array();
const opus = await readRecording("h265_opus.mp4");
const picture = readFixture("picture.jpg");

Deno.test("an H.264 parameter set tells size, profile and timing", () => {
  const { sps, pps } = parseAvcConfig(h264);
  assert.deepEqual([sps.length, pps.length], [1, 1]);
  const parsed = parseH264Sps(sps[0] ?? new Uint8Array());
  assert.deepEqual(
    [parsed.widthPx, parsed.heightPx, parsed.profileIdc, parsed.frameRate, parsed.maxReorderFrames],
    [160, 96, 100, 15, 2],
  );
  assert.deepEqual(parsed.sampleAspect, [1, 1]);
});

Deno.test("a cropped, anamorphic, full-range H.264 picture is described as it is shown", () => {
  // libx264 of 704x572 with -vf setsar=16/11, yuvj420p and BT.709.
  const parsed = parseH264Sps(
    Uint8Array.fromHex("6764001eacd940b0127ef046e02020280000030008000003019078b16cb0"),
  );
  assert.deepEqual([parsed.widthPx, parsed.heightPx], [704, 572]);
  assert.deepEqual(parsed.sampleAspect, [16, 11]);
  assert.deepEqual(parsed.color, { fullRange: true, primaries: 1, transfer: 1, matrix: 1 });
});

Deno.test("avcC and hvcC are made as ffmpeg makes them", () => {
  assert.deepEqual(makeAvcConfig(parseAvcConfig(h264)), h264);
  const made = makeHevcConfig(parseHevcConfig(h265));
  const sets = parseHevcConfig(h265);
  assert.deepEqual(parseHevcConfig(made), sets);
  assert.deepEqual(made.subarray(0, 13), h265.subarray(0, 13), "profile, tier and level");
  const parsed = parseH265Sps(sets.sps[0] ?? new Uint8Array());
  assert.deepEqual(
    [parsed.widthPx, parsed.heightPx, parsed.bitDepthLuma, parsed.chromaFormatIdc],
    [160, 96, 8, 1],
  );
});

Deno.test("missing parameter sets are named", () => {
  assert.throws(() => makeAvcConfig({ sps: [], pps: [] }), /expected 1 to 31 SPS/);
  assert.throws(() => makeHevcConfig({ vps: [], sps: [], pps: [] }), /expected VPS, SPS and PPS/);
});

Deno.test("an ADTS header is read and stripped; a cut one is asked to wait, another is refused", () => {
  // AAC-LC, 44.1 kHz, stereo, 7 + 5 bytes.
  const frame = Uint8Array.of(0xff, 0xf1, 0x50, 0x80, 0x01, 0x9f, 0xfc, 1, 2, 3, 4, 5);
  assert.deepEqual(parseAdts(frame), {
    objectType: 2,
    sampleRateHz: 44_100,
    channels: 2,
    headerBytes: 7,
    frameBytes: 12,
  });
  assert.deepEqual([...stripAdts(frame)], [1, 2, 3, 4, 5]);
  assert.equal(parseAdts(frame.subarray(0, 6)), undefined);
  assert.throws(() => stripAdts(frame.subarray(0, 10)), /cut: 10 of 12 bytes/);
  assert.throws(() => parseAdts(Uint8Array.of(0, 1, 2, 3, 4, 5, 6)), /got 00 01/);
});

Deno.test("an AudioSpecificConfig survives being made and parsed", () => {
  for (const sampleRateHz of [8000, 16_000, 44_100, 48_000, 12_345]) {
    for (const channels of [1, 2, 6, 8]) {
      const config = { objectType: 2, sampleRateHz, channels };
      assert.deepEqual(parseAudioSpecificConfig(makeAudioSpecificConfig(config)), config);
    }
  }
  assert.deepEqual([
    ...makeAudioSpecificConfig({ objectType: 2, sampleRateHz: 16_000, channels: 1 }),
  ], [
    0x14,
    0x08,
  ]);
});

Deno.test("Opus packets tell their length, and dOps survives being made and parsed", () => {
  const packets = opus.units.filter((unit) => unit.trackId === 2);
  assert.ok(packets.every(({ data }) => opusPacketSamples(data) === 960));
  assert.equal(opusPacketSamples(Uint8Array.of(0b0_0011_0_11, 2)), 2 * 2880);
  const config = makeOpusConfig({ channels: 2, preSkip: 312, inputRateHz: 16_000 });
  assert.deepEqual(parseOpusConfig(config), {
    channels: 2,
    preSkip: 312,
    inputRateHz: 16_000,
    outputGain: 0,
    mappingFamily: 0,
  });
});

Deno.test("a whole JPEG tells its size and colours; what stands behind its end is no part of it", () => {
  const info = parseJpeg(picture);
  assert.deepEqual(
    [info.widthPx, info.heightPx, info.subsampling, info.jfif, info.progressive],
    [160, 96, "4:2:0", true, false],
  );
  assert.equal(info.sizeBytes, picture.length);
  const padded = new Uint8Array(picture.length + 100);
  padded.set(picture);
  assert.equal(parseJpeg(padded).sizeBytes, picture.length);
});

Deno.test("a JPEG cut at any byte is seen", () => {
  for (let cut = 2; cut < picture.length; cut++) {
    assert.throws(() => parseJpeg(picture.subarray(0, cut)), /truncated JPEG/, `cut at ${cut}`);
  }
});

Deno.test("what is no JPEG is described for the person who has to find out why", () => {
  const text = (body: string) => new TextEncoder().encode(body);
  assert.throws(() => parseJpeg(new Uint8Array()), /an empty answer/);
  assert.throws(() => parseJpeg(text("<html><body>")), /"<html><body>"/);
  assert.throws(() => parseJpeg(Uint8Array.of(0x89, 0x50)), /got 89 50/);
});

/** Real bytes with some changed, and pure noise. */
function damaged(seeds: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  return fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    fc.tuple(
      fc.constantFrom(...seeds),
      fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 6 }),
      fc.nat(400),
    ).map(([seed, changes, cut]) => {
      const data = seed.slice(0, cut < 200 ? cut : seed.length);
      for (const [at, value] of changes) if (at < data.length) data[at] = value;
      return data;
    }),
  );
}

const parsers: readonly [string, readonly Uint8Array[], (data: Uint8Array) => unknown][] = [
  ["avcC", [h264], parseAvcConfig],
  ["H.264 SPS", [...parseAvcConfig(h264).sps], parseH264Sps],
  ["hvcC", [h265], parseHevcConfig],
  ["H.265 SPS", [...parseHevcConfig(h265).sps], parseH265Sps],
  ["ADTS", [Uint8Array.of(0xff, 0xf1, 0x50, 0x80, 0x01, 0x9f, 0xfc, 1, 2)], stripAdts],
  ["AudioSpecificConfig", [Uint8Array.of(0x14, 8)], parseAudioSpecificConfig],
  ["dOps", [makeOpusConfig({ channels: 2 })], parseOpusConfig],
  ["Opus packet", [Uint8Array.of(3, 2)], opusPacketSamples],
  ["JPEG", [picture], parseJpeg],
];
for (const [name, seeds, parse] of parsers) {
  Deno.test(`fuzz: only a MediaError comes out of the ${name} parser`, () => {
    fc.assert(
      fc.property(damaged(seeds), (data) => {
        try {
          parse(data);
        } catch (error) {
          assert.ok(error instanceof MediaError, String(error));
        }
      }),
      { seed: 11, numRuns: 3000 },
    );
  });
}
