/** The moments at which live connections are read. */
import assert from "node:assert/strict";
import { GATHER_MS, readPaceOf, ReadSpan } from "../../core/sources/read_pace.ts";
import { READ_BYTES } from "../../core/sources/read_buffers.ts";
import { createFakeClock } from "../support/fake_clock.ts";

Deno.test("who waits for every third moment is woken at the same ones as all who do", async () => {
  const clock = createFakeClock();
  const pace = readPaceOf(clock);
  const woken: string[] = [];
  const begin = (name: string, span: number) => {
    const stop = new AbortController();
    const waiting = (async () => {
      while (true) {
        await pace.next(stop.signal, span);
        woken.push(`${clock.monotonic()} ${name}`);
      }
    })();
    return { stop, waiting };
  };
  const all = [begin("each", 1), begin("third", 3)];
  await clock.advance(GATHER_MS);
  all.push(begin("other third", 3)); // joins those who wait already
  await clock.advance(5 * GATHER_MS);
  assert.deepEqual(woken.toSorted(), [
    "100 each",
    "200 each",
    "300 each",
    "300 other third",
    "300 third",
    "400 each",
    "500 each",
    "600 each",
    "600 other third",
    "600 third",
  ]);
  for (const { stop, waiting } of all) {
    stop.abort(new Error("left"));
    await assert.rejects(waiting, /left/);
  }
  assert.equal(clock.sleepers, 0, "a timer is left behind");
});

Deno.test("one who wants to be woken sooner does not wait for those who have time", async () => {
  const clock = createFakeClock();
  const pace = readPaceOf(clock);
  const stop = new AbortController();
  const late = pace.next(stop.signal, 3);
  const other = new AbortController();
  let isWoken = false;
  const early = pace.next(other.signal).then(() => isWoken = true);
  await clock.advance(GATHER_MS);
  assert.ok(isWoken);
  await early;
  stop.abort(new Error("left"));
  await assert.rejects(late, /left/);
  assert.equal(clock.sleepers, 0);
});

Deno.test("a socket's mark is raised while one waits, and all are lowered before the first one reads", async () => {
  const clock = createFakeClock();
  const pace = readPaceOf(clock);
  const log: string[] = [];
  const markOf = (name: string) => ({
    raise: (bytes: number) => log.push(`${name} raised to ${bytes}`),
    lower: () => log.push(`${name} lowered`),
  });
  const stop = new AbortController();
  const waiting = ["a", "b"].map((name) =>
    pace.next(AbortSignal.any([stop.signal]), 1, markOf(name)).then(() => log.push(`${name} reads`))
  );
  await clock.advance(GATHER_MS);
  await Promise.all(waiting);
  assert.deepEqual(log.splice(0), [
    ...[`a raised to ${READ_BYTES}`, `b raised to ${READ_BYTES}`],
    ...["a lowered", "b lowered", "a reads", "b reads"],
  ]);
  const leaving = pace.next(stop.signal, 1, markOf("c"));
  stop.abort(new Error("left"));
  await assert.rejects(leaving, /left/);
  assert.deepEqual(log, [`c raised to ${READ_BYTES}`, "c lowered"]);
});

Deno.test("a connection is read more seldom once what comes has long been read at one go", () => {
  const small = new ReadSpan({ bufferBytes: 262_144 });
  const spans = new Set<number>();
  for (let reads = 0; reads < 200; reads++) {
    small.note(30_000 * small.span);
    spans.add(small.span);
  }
  assert.deepEqual([...spans], [1, 2, 3, 4, 5, 6, 7]);
  const slow = new ReadSpan({ bufferBytes: 262_144 });
  let moments = 0;
  for (; slow.span < 10 && moments < 1000; moments += slow.span) slow.note(10_000 * slow.span);
  assert.ok(moments < 250, `a second between two reads after ${moments / 10} s`);
  for (let reads = 0; reads < 100; reads++) slow.note(100_000);
  assert.equal(slow.span, 10);
  const large = new ReadSpan({ bufferBytes: 131_072 });
  for (let reads = 0; reads < 100; reads++) large.note(70_000);
  assert.equal(large.span, 1);
});

/** A camera behind a window that holds so much: what a read brings, and how old its newest picture is. */
function readOf(span: number, camera: { readonly bytes: number; readonly windowBytes: number }) {
  const sent = camera.bytes * span;
  const held = Math.min(sent, camera.windowBytes);
  return { bytes: held, delayMs: 20 + (sent - held) / camera.bytes * GATHER_MS };
}

/** Reads a camera behind a window of 128 KiB so many times. */
function read(span: ReadSpan, bytes: number, reads: number): void {
  for (let i = 0; i < reads; i++) {
    const at = readOf(span.span, { bytes, windowBytes: 131_072 });
    span.note(at.bytes, at.delayMs);
  }
}

Deno.test("where the kernel's window does not grow, the camera is not kept waiting", () => {
  for (const windowBytes of [70_000, 131_072, 200_000, 300_000]) {
    const span = new ReadSpan({ bufferBytes: 524_288 });
    const camera = { bytes: 37_500, windowBytes };
    let moments = 0;
    let late = 0;
    while (moments < 36_000) {
      const { bytes, delayMs } = readOf(span.span, camera);
      if (moments > 600 && delayMs > 150) late += span.span;
      moments += span.span;
      span.note(bytes, delayMs);
    }
    const most = windowBytes / camera.bytes;
    assert.ok(span.span <= most + 1 && span.span >= most / 2, `${span.span} of ${most}`);
    assert.ok(late <= 60, `late for ${late / 10} s of an hour with ${windowBytes} bytes`);
  }
});

Deno.test("more is sent in the morning than a window holds that was large enough at night", () => {
  const span = new ReadSpan({ bufferBytes: 524_288 });
  read(span, 9000, 1000);
  assert.equal(span.span, 10);
  read(span, 37_500, 8);
  assert.ok(span.span <= 3, `${span.span}`);
});

Deno.test("neither a slow network nor a clock that goes wrong lets connections be read more often", () => {
  const span = new ReadSpan({ bufferBytes: 524_288 });
  for (let reads = 0; reads < 200; reads++) span.note(37_500 * span.span, 20);
  assert.equal(span.span, 10);
  for (let reads = 0; reads < 10; reads++) span.note(100_000, 20 + 750 * reads);
  span.note(500_000, 3000);
  assert.equal(span.span, 10);
  // Two crystals that are 400 millionths apart, for three hours.
  for (let reads = 0; reads < 10_800; reads++) span.note(375_000, 20 + 0.4 * reads);
  assert.equal(span.span, 10);
});

Deno.test("a connection that was not read for a while is judged again by what comes now", () => {
  const span = new ReadSpan({ bufferBytes: 524_288 });
  read(span, 9000, 1000);
  // The disk was slow: more comes than a buffer holds, and late.
  for (let reads = 0; reads < 4; reads++) span.note(2_000_000, 9000);
  read(span, 9000, 1000);
  assert.equal(span.span, 10);
  read(span, 37_500, 8);
  assert.ok(span.span <= 3, `${span.span}`);
});
