/** MJPEG streams are cut into pictures whatever stands around these, at whatever byte they are split. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createJpegSplitter, MjpegError } from "../../core/sources/mjpeg/splitter.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { tinyJpeg } from "./world.ts";

/** Inputs of the fuzz test; nightly runs set FUZZ=1000000. */
const INPUTS = Number(Deno.env.get("FUZZ") ?? 100_000);

const bytes = (...parts: readonly (string | Uint8Array)[]) =>
  new Uint8Array(Buffer.concat(parts.map((part) => Buffer.from(part as Uint8Array))));

/** The pictures of a stream that comes in these pieces. */
function split(pieces: readonly Uint8Array[], maxBytes = 100_000) {
  const splitter = createJpegSplitter({ maxBytes });
  return {
    pictures: pieces.flatMap((piece) => splitter.push(piece)),
    damaged: splitter.damaged,
  };
}

const part = (jpeg: Uint8Array, head = "Content-Type: image/jpeg\r\n") =>
  bytes(`--frame\r\n${head}\r\n`, jpeg, "\r\n");

/** A picture whose EXIF segment holds a whole thumbnail. */
function withThumbnail(mark: number): Uint8Array {
  const whole = tinyJpeg(mark);
  const inner = tinyJpeg(99);
  const head = Uint8Array.of(0xff, 0xd8, 0xff, 0xe1, 0, inner.length + 2);
  return bytes(head, inner, whole.subarray(2));
}

const one = tinyJpeg(1);
const two = tinyJpeg(2);
const three = tinyJpeg(3);

const STREAMS: Readonly<Record<string, { stream: Uint8Array; damaged?: number }>> = {
  "plain parts": { stream: bytes(part(one), part(two), part(three)) },
  "right lengths": {
    stream: bytes(
      ...[one, two, three].map((jpeg) => part(jpeg, `Content-Length: ${jpeg.length}\r\n`)),
    ),
  },
  "lengths that are too small, too large and none": {
    stream: bytes(
      part(one, "Content-Length: 3\r\n"),
      part(two, "Content-Length: 99999999999\r\n"),
      part(three, "Content-Length: -x\r\n"),
    ),
  },
  "no boundaries at all": { stream: bytes(one, two, three) },
  "empty parts, parts of other kinds, and bytes between": {
    stream: bytes(
      ...[
        "\r\n",
        part(new Uint8Array()),
        part(one),
        part(bytes("<html>"), "Content-Type: a/b\r\n"),
      ],
      ...[part(two), Uint8Array.of(0xff, 0xff, 0xd8, 0, 0xff, 0xd9), part(three), "--frame--"],
    ),
  },
  "a picture cut off in its scan": {
    stream: bytes(part(one), part(two.subarray(0, two.length - 3)), part(two), part(three)),
    damaged: 1,
  },
  "a picture cut off in a segment whose length reaches into the next": {
    stream: bytes(part(one), Uint8Array.of(0xff, 0xd8, 0xff, 0xe0, 0, 40), part(two), part(three)),
    damaged: 1,
  },
};

Deno.test("every stream gives its pictures, split at every byte", () => {
  for (const [name, { stream, damaged = 0 }] of Object.entries(STREAMS)) {
    for (let at = 0; at <= stream.length; at++) {
      const result = split([stream.subarray(0, at), stream.subarray(at)]);
      assert.deepEqual(result, { pictures: [one, two, three], damaged }, `${name}, byte ${at}`);
    }
    const single = Array.from(stream, (byte) => Uint8Array.of(byte));
    assert.deepEqual(split(single).pictures, [one, two, three], `${name}, byte by byte`);
  }
});

Deno.test("a thumbnail inside a picture is no picture of its own", () => {
  const large = withThumbnail(5);
  assert.deepEqual(
    split([bytes(part(large), part(one))]).pictures,
    [large, one].map((x) => bytes(x)),
  );
});

Deno.test("a picture is given with its last byte, before anything comes behind it", () => {
  assert.deepEqual(split([part(one).subarray(0, -2)]).pictures, [one]);
});

Deno.test("a picture that never ends, and bytes without one, are an error within the bound", () => {
  const piece = new Uint8Array(1000).fill(0x55);
  for (const start of [one.subarray(0, one.length - 2), bytes("text")]) {
    const splitter = createJpegSplitter({ maxBytes: 10_000 });
    splitter.push(start);
    let pushed = 0;
    assert.throws(() => {
      for (; pushed < 20; pushed++) splitter.push(piece);
    }, MjpegError);
    assert.ok(pushed >= 9 && pushed <= 11, `after ${pushed} pieces`);
  }
});

Deno.test("a stream made to be walked again and again takes no longer than another", () => {
  // Each start lies in a segment of the one before, and all of them see the same chain of segments.
  const unit = Uint8Array.of(0xff, 0xe0, 0, 8, 0xff, 0xd8, 0xff, 0xe0, 0, 2);
  const chain = Uint8Array.from({ length: 4_000_000 }, (_, i) => unit[i % unit.length] ?? 0);
  const stream = bytes(Uint8Array.of(0xff, 0xd8), chain, "x");
  assert.equal(split([stream], 8 * 2 ** 20).pictures.length, 0); // quadratic, this takes hours
});

Deno.test("whatever comes, only MjpegError comes out, and pictures are within the bound", () => {
  const random = seededRandom(8);
  const below = (limit: number) => Math.floor(random() * limit);
  const originals = Object.values(STREAMS).map(({ stream }) => stream);
  let found = 0;
  for (let input = 0; input < INPUTS; input++) {
    const stream = (originals[below(originals.length)] ?? one).slice();
    for (let changes = below(6); changes > 0; changes--) {
      stream[below(stream.length)] = random() < 0.5
        ? below(256)
        : [0xff, 0xd8, 0xd9, 0xda][below(4)] ?? 0;
    }
    const splitter = createJpegSplitter({ maxBytes: 120 });
    try {
      for (let at = 0; at < stream.length;) {
        const next = at + 1 + below(200);
        for (const picture of splitter.push(stream.subarray(at, next))) {
          assert.ok(picture.length <= 120);
          assert.deepEqual([...picture.subarray(0, 3)], [0xff, 0xd8, 0xff]);
          assert.deepEqual([...picture.subarray(-2)], [0xff, 0xd9]);
          found++;
        }
        at = next;
      }
    } catch (error) {
      if (!(error instanceof MjpegError)) throw error;
    }
  }
  assert.ok(found > INPUTS, `${found} pictures`);
});
