/**
 * Byte streams into access units: any start codes, any cuts, no byte lost.
 *
 * @module
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  joinAnnexB,
  joinLengthPrefixed,
  splitAnnexB,
  splitLengthPrefixed,
  takeAccessUnits,
  toLengthPrefixed,
} from "../../core/media/annexb.ts";
import { findStartCodes, scan } from "../../core/media/start_codes.ts";
import { MediaError } from "../../core/media/media_error.ts";
import { parameterSets } from "../../core/media/mp4_movie.ts";
import { concat, readRecording } from "../support/media_samples.ts";

const recordings = {
  h264: await readRecording("h264_b_frames_aac.mp4"),
  h265: await readRecording("h265_opus.mp4"),
} as const;

/** NAL units as an encoder writes them: nothing in them looks like a start code, no zero ends them. */
const nalBody = fc.array(fc.constantFrom(1, 2, 3, 0x65, 0xff), { minLength: 1, maxLength: 12 })
  .map((bytes) => Uint8Array.from(bytes));

function naiveStartCodes(data: Uint8Array): number[] {
  const found: number[] = [];
  for (let i = 0; i + 2 < data.length; i++) {
    if (data[i] === 0 && data[i + 1] === 0 && data[i + 2] === 1) found.push(i);
  }
  return found;
}

Deno.test("both fast searches find what a search byte by byte finds", () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(0, 0, 0, 1, 2, 3, 255), { maxLength: 60 }),
      fc.oneof(fc.nat(100), fc.integer({ min: 32_600, max: 32_900 }), fc.nat(200_000)),
      fc.nat(1000),
      (bytes, before, after) => {
        const data = new Uint8Array(before + bytes.length + after).fill(9);
        data.set(bytes, before);
        const wanted = naiveStartCodes(data);
        assert.deepEqual(findStartCodes(data), wanted);
        const looped: number[] = [];
        scan(data, looped);
        assert.deepEqual(looped, wanted);
      },
    ),
    { seed: 1, numRuns: 1000 },
  );
});

Deno.test("NAL units survive the way into a byte stream and back, whatever the start codes", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(nalBody, fc.nat(3)), { maxLength: 8 }), (nals) => {
      const stream = concat(
        nals.flatMap(([nal, zeros]) => [new Uint8Array(zeros), Uint8Array.of(0, 0, 1), nal]),
      );
      assert.deepEqual(splitAnnexB(stream), nals.map(([nal]) => nal));
      const prefixed = joinLengthPrefixed(nals.map(([nal]) => nal));
      assert.deepEqual(splitLengthPrefixed(prefixed), nals.map(([nal]) => nal));
    }),
    { seed: 2, numRuns: 1000 },
  );
});

Deno.test("lengths are written over four-byte start codes, without a copy", () => {
  const stream = joinAnnexB([Uint8Array.of(0x65, 0x88, 1), Uint8Array.of(0x65, 0x08, 2)]);
  const unit = toLengthPrefixed(stream, "h264");
  assert.equal(unit.data.buffer, stream.buffer);
  assert.deepEqual([...unit.data], [0, 0, 0, 3, 0x65, 0x88, 1, 0, 0, 0, 3, 0x65, 8, 2]);
  assert.equal(unit.isKey, true);
});

for (const codec of ["h264", "h265"] as const) {
  const { tracks, units } = recordings[codec];
  const [track] = tracks;
  assert.ok(track?.kind === "video");
  const sets = parameterSets(track);
  const delimiter = codec === "h264" ? Uint8Array.of(9, 0xf0) : Uint8Array.of(70, 1, 0x50);
  const pictures = units.filter((unit) => unit.trackId === track.id);

  for (const code of [3, 4]) {
    for (const delimited of [false, true]) {
      Deno.test(
        `a stream of real ${codec} pictures with ${code}-byte start codes and ${
          delimited ? "delimiters" : "no delimiters"
        }, cut anywhere, gives the same units`,
        () => {
          const stream = concat(
            pictures.flatMap((unit) => [
              ...(delimited ? [delimiter] : []),
              ...(unit.isKey ? sets : []),
              ...splitLengthPrefixed(unit.data),
            ]).flatMap((nal) => [Uint8Array.of(0, 0, 0, 1).subarray(4 - code), nal]),
          );
          for (const windowBytes of [997, 5003, stream.length]) {
            const found = [];
            let rest: Uint8Array = new Uint8Array();
            for (let at = 0; at < stream.length; at += windowBytes) {
              const window = concat([rest, stream.subarray(at, at + windowBytes)]);
              const last = at + windowBytes >= stream.length;
              const taken = takeAccessUnits(window, codec, { last });
              found.push(...taken.units);
              rest = window.subarray(taken.consumedBytes);
            }
            assert.equal(found.length, pictures.length);
            for (const [i, unit] of found.entries()) {
              assert.deepEqual(unit.data, pictures[i]?.data);
              assert.equal(unit.isKey, pictures[i]?.isKey);
              assert.deepEqual(unit.parameterSets, unit.isKey ? sets : []);
            }
          }
        },
      );
    }
  }
}

Deno.test("damaged lengths are named, and nothing else comes out of any bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      for (const codec of ["h264", "h265"] as const) {
        const unit = toLengthPrefixed(bytes.slice(), codec);
        splitLengthPrefixed(unit.data);
        takeAccessUnits(bytes.slice(), codec);
      }
      try {
        splitLengthPrefixed(bytes);
      } catch (error) {
        assert.ok(error instanceof MediaError);
      }
    }),
    { seed: 3, numRuns: 3000 },
  );
});
