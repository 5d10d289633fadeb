/** The reader of what ffmpeg gives, and the writer of what it takes. */
import assert from "node:assert/strict";
import { FlvReader } from "../../core/encode/flv.ts";
import { matroskaHeader, matroskaPicture } from "../../core/encode/matroska.ts";
import { pictureOfTime, timeOfPicture } from "../../core/encode/x264.ts";
import { seededRandom } from "../../simulators/scene/random.ts";

const HEADER = [0x46, 0x4c, 0x56, 1, 1, 0, 0, 0, 9, 0, 0, 0, 0];

function tag(timeMs: number, body: readonly number[], type = 9): number[] {
  const size = body.length;
  return [
    type,
    size >> 16,
    size >> 8 & 255,
    size & 255,
    timeMs >> 16 & 255,
    timeMs >> 8 & 255,
    timeMs & 255,
    timeMs >>> 24,
    0,
    0,
    0,
    ...body,
    0,
    0,
    0,
    0,
  ];
}

const nal = (...bytes: number[]) => [0, 0, 0, bytes.length, ...bytes];

const STREAM = Uint8Array.from([
  ...HEADER,
  ...tag(0, [1, 2, 3], 18), // script data
  ...tag(0, [0x17, 0, 0, 0, 0, 1, 0x64, 0, 31]),
  ...tag(20, [0x17, 1, 0, 0, 0, ...nal(6, 1, 2), ...nal(0x65, 9)]),
  ...tag(0x1234567, [0x27, 1, 0, 0, 0, ...nal(9, 0xf0), ...nal(0x41, 8, 7)]),
  ...tag(0x1234567, [0x17, 2, 0, 0, 0]),
]);

const EXPECTED = [
  { kind: "config", config: Uint8Array.of(1, 0x64, 0, 31) },
  { kind: "picture", timeMs: 20, isKey: true, data: Uint8Array.from(nal(0x65, 9)) },
  { kind: "picture", timeMs: 0x1234567, isKey: false, data: Uint8Array.from(nal(0x41, 8, 7)) },
];

Deno.test("configurations and pictures come out without settings pages and delimiters", () => {
  assert.deepEqual(new FlvReader().push(STREAM), EXPECTED);
});

Deno.test("bytes may come in pieces of any size", () => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = seededRandom(seed);
    const reader = new FlvReader();
    const packets = [];
    for (let position = 0; position < STREAM.length;) {
      const size = 1 + Math.floor(random() * 9);
      packets.push(...reader.push(STREAM.subarray(position, position + size)));
      position += size;
    }
    assert.deepEqual(packets, EXPECTED);
  }
});

Deno.test("something else than FLV is refused with what stands there", () => {
  assert.throws(
    () => new FlvReader().push(new TextEncoder().encode("not a flv stream")),
    /expected 46 4c 56 at its start, got 6e 6f 74/,
  );
});

Deno.test("a picture's index survives its way as a time, key or not", () => {
  for (const index of [0, 1, 19, 1_999_999]) {
    assert.equal(pictureOfTime(timeOfPicture(index, true)), index);
    assert.equal(pictureOfTime(timeOfPicture(index, false)), index);
  }
});

Deno.test("a picture's bytes stand unchanged at the end of its cluster", () => {
  const jpeg = crypto.getRandomValues(new Uint8Array(5000));
  const cluster = matroskaPicture(80, jpeg);
  assert.deepEqual(cluster.subarray(-5000), jpeg);
  assert.deepEqual([...cluster.subarray(0, 4)], [0x1f, 0x43, 0xb6, 0x75]);
  assert.deepEqual(
    [...matroskaHeader({ widthPx: 2, heightPx: 2, pictureMs: 40 }).subarray(0, 4)],
    [0x1a, 0x45, 0xdf, 0xa3],
  );
});
