/** The pipe between two threads; the threads are left out where their order is what matters. */
import assert from "node:assert/strict";
import { createPipeMemory, PipeReader, PipeWriter } from "../../core/encode/byte_pipe.ts";
import { seededRandom } from "../../simulators/scene/random.ts";

Deno.test("every byte comes out once and in order, in pieces of any size", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = seededRandom(seed);
    const memory = createPipeMemory(64);
    const writer = new PipeWriter(memory);
    const reader = new PipeReader(memory, () => {});
    const sent = Uint8Array.from({ length: 5000 }, (_, i) => i * 7);
    const received: number[] = [];
    for (let position = 0; received.length < sent.length;) {
      if (random() < 0.5) {
        position += writer.write(sent.subarray(position, position + Math.floor(random() * 100)));
      }
      if (received.length < position) {
        const target = new Uint8Array(1 + Math.floor(random() * 40));
        received.push(...target.subarray(0, reader.read(target)));
      }
    }
    assert.deepEqual(Uint8Array.from(received), sent);
  }
});

Deno.test("a full pipe takes only what fits, and the reader says when there is room", () => {
  const memory = createPipeMemory(16);
  const writer = new PipeWriter(memory);
  let rooms = 0;
  const reader = new PipeReader(memory, () => rooms++);
  assert.equal(writer.write(new Uint8Array(20)), 16);
  assert.equal(writer.write(new Uint8Array(4)), 0);
  reader.read(new Uint8Array(10));
  reader.read(new Uint8Array(3));
  assert.equal(rooms, 1);
  assert.equal(writer.write(new Uint8Array(4)), 4);
});

Deno.test("after the end the rest is read, and then nothing", () => {
  const memory = createPipeMemory(16);
  const writer = new PipeWriter(memory);
  const reader = new PipeReader(memory, () => {});
  writer.write(Uint8Array.of(1, 2, 3));
  writer.end();
  const target = new Uint8Array(10);
  assert.equal(reader.read(target), 3);
  assert.equal(reader.read(target), 0);
  assert.equal(reader.read(target), 0);
});

Deno.test("the counts may pass 2^32", () => {
  const memory = createPipeMemory(16);
  const writer = new PipeWriter(memory);
  const reader = new PipeReader(memory, () => {});
  new Int32Array(memory).set([-3, -3]); // 2^32 - 3 bytes have gone through
  assert.equal(writer.write(Uint8Array.of(1, 2, 3, 4, 5, 6)), 6);
  const target = new Uint8Array(10);
  assert.equal(reader.read(target), 6);
  assert.deepEqual([...target.subarray(0, 6)], [1, 2, 3, 4, 5, 6]);
});

Deno.test("a capacity that is no power of two is refused", () => {
  assert.throws(() => createPipeMemory(100), /a pipe of 100 bytes: expected a power of two/);
});
