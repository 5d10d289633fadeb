/** The memory that sockets are read into. */
import assert from "node:assert/strict";
import { lendReadBuffer } from "../../core/sources/read_buffers.ts";

Deno.test("connections that are read one after the other share one buffer", async () => {
  const seen = new Set<Uint8Array>();
  let atOnce = 0;
  await Promise.all(Array.from({ length: 20 }, async () => {
    const buffer = await lendReadBuffer();
    assert.equal(++atOnce, 1, "it is not its turn");
    seen.add(buffer.bytes);
    await undefined;
    atOnce--;
    buffer.release();
  }));
  assert.equal(seen.size, 1);
});

Deno.test("who waits for a camera keeps its buffer and holds nobody up", async () => {
  const silent = await lendReadBuffer();
  const next = lendReadBuffer();
  assert.ok(await isWaiting(next));
  silent.pass(new Promise(() => {}));
  const other = await next;
  assert.notEqual(other.bytes, silent.bytes);
  silent.release(); // its turn is over already: that of the other one is not
  const third = lendReadBuffer();
  assert.ok(await isWaiting(third));
  other.release();
  (await third).release();
});

Deno.test("what has come, but was not heard of yet, is read before it is the next one's turn", async () => {
  const first = await lendReadBuffer();
  const next = lendReadBuffer();
  const read = Promise.withResolvers<void>();
  const passed = first.pass(read.promise);
  assert.ok(await isWaiting(next));
  read.resolve();
  await passed;
  assert.ok(await isWaiting(next));
  first.release();
  const other = await next;
  assert.equal(other.bytes, first.bytes);
  other.release();
});

/** Whether what could be settled by now is not. */
async function isWaiting(promise: Promise<unknown>): Promise<boolean> {
  let isWaiting = true;
  promise.then(() => isWaiting = false);
  for (let turn = 0; turn < 10; turn++) await undefined;
  return isWaiting;
}
