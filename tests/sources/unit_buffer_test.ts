/** Where units are put together: whose memory is used again, and when. */
import assert from "node:assert/strict";
import { UnitBuffer } from "../../core/sources/unit_buffer.ts";

/** No other test has chunks of this length. */
const CHUNK_BYTES = 5000;

function newBuffer(): UnitBuffer {
  return new UnitBuffer({ chunkBytes: CHUNK_BYTES, maxUnitBytes: 2000 });
}

function unitOf(buffer: UnitBuffer, value: number, length = 100) {
  buffer.append(new Uint8Array(length).fill(value), 0, length);
  return buffer.commit();
}

Deno.test("between two bursts the next camera gets what the one before has left", () => {
  const one = newBuffer();
  const other = newBuffer();
  other.rest();
  const first = unitOf(one, 1);
  one.rest();
  first.release();
  const second = unitOf(other, 2);
  assert.equal(second.data.buffer, first.data.buffer);
  const third = unitOf(one, 3);
  assert.notEqual(third.data.buffer, second.data.buffer);
  assert.ok(second.data.every((byte) => byte === 2));
  assert.ok(third.data.every((byte) => byte === 3));
});

Deno.test("a burst goes on behind units that somebody still has", () => {
  const buffer = newBuffer();
  const kept = unitOf(buffer, 1);
  buffer.rest();
  buffer.rest();
  const next = unitOf(buffer, 2);
  assert.equal(next.data.buffer, kept.data.buffer);
  assert.equal(next.data.byteOffset, kept.data.byteOffset + kept.data.length);
  assert.ok(kept.data.every((byte) => byte === 1));
  // Both given back while it is filled: it is still this one's.
  kept.release();
  next.release();
  const own = unitOf(buffer, 3);
  assert.notEqual(unitOf(newBuffer(), 4).data.buffer, own.data.buffer);
  assert.ok(own.data.every((byte) => byte === 3));
});

Deno.test("a unit that is not complete stays where it is", () => {
  const buffer = newBuffer();
  buffer.append(new Uint8Array(100).fill(1), 0, 100);
  buffer.rest();
  const strangers = Array.from({ length: 3 }, () => unitOf(newBuffer(), 9));
  buffer.append(new Uint8Array(100).fill(1), 0, 100);
  const { data } = buffer.commit();
  assert.equal(data.length, 200);
  assert.ok(data.every((byte) => byte === 1));
  assert.ok(strangers.every((unit) => unit.data.buffer !== data.buffer));
});

Deno.test("a unit without bytes is nobody else's either", () => {
  const buffer = newBuffer();
  const { release } = unitOf(buffer, 1);
  buffer.rest();
  release();
  const stranger = unitOf(newBuffer(), 2);
  const empty = buffer.commit();
  assert.equal(empty.data.length, 0);
  empty.release();
  assert.notEqual(unitOf(newBuffer(), 3).data.buffer, stranger.data.buffer);
});

Deno.test("chunks that nobody has needed for long are not kept", () => {
  const unitsOfMany = () =>
    Array.from({ length: 50 }, () => {
      const buffer = newBuffer();
      const unit = unitOf(buffer, 1);
      buffer.rest();
      return unit;
    });
  const many = unitsOfMany();
  const chunks = new Set(many.map(({ data }) => data.buffer));
  for (const { release } of many) release();
  const one = newBuffer();
  for (let i = 0; i < 3000; i++) {
    const unit = unitOf(one, 2);
    one.rest();
    unit.release();
  }
  const again = unitsOfMany().filter(({ data }) => chunks.has(data.buffer));
  assert.ok(again.length <= 1, `${again.length} of 50 were kept`);
});
