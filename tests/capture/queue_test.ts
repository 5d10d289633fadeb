/**
 * The queue between a camera and its recorder.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createUnitQueue } from "../../core/capture/queue.ts";
import type { AccessUnit, Track } from "../../core/types.ts";

function unit(number: number, options: Partial<AccessUnit> = {}): AccessUnit {
  return {
    trackId: 1,
    data: new Uint8Array(10),
    ptsUs: number * 1000,
    dtsUs: number * 1000,
    isKey: true,
    capturedAtMs: number,
    ...options,
  };
}

function queue(
  options: {
    maxUnits?: number;
    maxBytes?: number;
    maxWaitMs?: number;
    monotonic?: () => number;
    allKey: boolean;
  },
) {
  const shed = { pictures: 0 };
  const made = createUnitQueue({
    maxUnits: 8,
    maxBytes: 1e9,
    monotonic: () => 0,
    videoTrackId: 1,
    onShed: (pictures) => shed.pictures += pictures,
    ...options,
  });
  return { queue: made, shed };
}

async function read(units: AsyncIterable<AccessUnit>): Promise<number[]> {
  const times: number[] = [];
  for await (const { capturedAtMs } of units) times.push(capturedAtMs);
  return times;
}

for (const allKey of [true, false]) {
  Deno.test(`the bytes of what is shed are given back, of what is queued not (${allKey ? "pictures" : "coded video"})`, async () => {
    const { queue: units, shed } = queue({ allKey });
    const given = new Set<number>();
    for (let i = 0; i < 30; i++) {
      units.push(unit(i, { isKey: allKey || i === 0, release: () => given.add(i) }));
    }
    units.end();
    const kept = await read(units);
    assert.ok(given.size > 0);
    assert.equal(given.size, shed.pictures);
    assert.deepEqual(kept.filter((number) => given.has(number)), []);
  });
}

Deno.test("units come out in the order in which they went in", async () => {
  const { queue: units, shed } = queue({ allKey: true });
  for (let n = 0; n < 8; n++) units.push(unit(n));
  units.end();
  assert.deepEqual(await read(units), [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.equal(shed.pictures, 0);
});

Deno.test("a full queue of pictures sheds them evenly and counts every one", async () => {
  const { queue: units, shed } = queue({ allKey: true });
  for (let n = 0; n < 200; n++) units.push(unit(n));
  units.end();
  const kept = await read(units);
  assert.equal(kept.length + shed.pictures, 200);
  const steps = kept.slice(1).map((time, index) => time - (kept[index] ?? 0));
  assert.ok(
    Math.max(...steps) <= 2 * Math.min(...steps),
    `uneven steps between kept pictures: ${steps}`,
  );
});

Deno.test("after an overload every picture is taken again", async () => {
  const { queue: units, shed } = queue({ allKey: true });
  for (let n = 0; n < 100; n++) units.push(unit(n));
  const reader = units[Symbol.asyncIterator]();
  while (units.length > 0) await reader.next();
  for (let n = 100; n < 400; n++) {
    units.push(unit(n));
    while (units.length > 0) await reader.next();
  }
  const before = shed.pictures;
  for (let n = 400; n < 450; n++) {
    units.push(unit(n));
    while (units.length > 0) await reader.next();
  }
  assert.equal(shed.pictures, before);
});

Deno.test("coded video is shed up to the next key unit", async () => {
  const { queue: units, shed } = queue({ allKey: false, maxUnits: 4 });
  for (let n = 0; n < 7; n++) units.push(unit(n, { isKey: n === 0 }));
  const reader = units[Symbol.asyncIterator]();
  for (let n = 0; n < 4; n++) await reader.next();
  units.push(unit(7, { isKey: false }));
  units.push(unit(8, { isKey: true }));
  units.push(unit(9, { isKey: false }));
  units.end();
  const rest: number[] = [];
  for (let next = await reader.next(); !next.done; next = await reader.next()) {
    rest.push(next.value.capturedAtMs);
  }
  assert.deepEqual(rest, [8, 9]);
  assert.equal(shed.pictures, 4);
});

Deno.test("while coded video is shed, sound goes on", async () => {
  const { queue: units, shed } = queue({ allKey: false, maxUnits: 2 });
  for (let n = 0; n < 3; n++) units.push(unit(n, { isKey: n === 0 }));
  const reader = units[Symbol.asyncIterator]();
  await reader.next();
  await reader.next();
  units.push(unit(3, { trackId: 2 }));
  units.push(unit(4, { isKey: false }));
  units.push(unit(5));
  units.end();
  assert.deepEqual([(await reader.next()).value, (await reader.next()).value], [
    unit(3, { trackId: 2 }),
    unit(5),
  ]);
  assert.equal(shed.pictures, 2, "sound does not count as pictures");
});

Deno.test("a queue is bounded in bytes too", async () => {
  const { queue: units, shed } = queue({ allKey: true, maxUnits: 1000, maxBytes: 50 });
  for (let n = 0; n < 20; n++) units.push(unit(n));
  units.end();
  const kept = await read(units);
  assert.ok(kept.length <= 6, `kept ${kept.length}`);
  assert.equal(kept.length + shed.pictures, 20);
});

Deno.test("new parameter sets that came with a shed unit come with the next key unit", async () => {
  const { queue: units } = queue({ allKey: false, maxUnits: 2 });
  const track: Track = {
    ...{ id: 1, kind: "video", codec: "h264", widthPx: 640, heightPx: 360 },
    config: new Uint8Array(4),
  };
  for (let n = 0; n < 2; n++) units.push(unit(n, { isKey: n === 0 }));
  units.push(unit(2, { track }));
  const reader = units[Symbol.asyncIterator]();
  for (let n = 0; n < 2; n++) await reader.next();
  units.push(unit(3, { isKey: false }));
  units.push(unit(4));
  const next = await reader.next();
  assert.equal(next.value?.capturedAtMs, 4);
  assert.equal(next.value?.track, track);
});

/** A camera of `fps` for a minute in front of a reader that takes `readMs` for each picture. */
async function overloaded({ fps, readMs, quickAfterMs = Infinity }: {
  readonly fps: number;
  readonly readMs: (nowMs: number) => number;
  readonly quickAfterMs?: number;
}) {
  let nowMs = 0;
  const { queue: units, shed } = queue({
    ...{ allKey: true, maxUnits: 128, maxWaitMs: 1000 },
    monotonic: () => nowMs,
  });
  const reader = units[Symbol.asyncIterator]();
  const waits: { readonly atMs: number; readonly waitedMs: number }[] = [];
  const read: number[] = [];
  let freeAtMs = 0;
  let shedLate = 0;
  for (; nowMs < 60_000; nowMs += 10) {
    const before = shed.pictures;
    if (nowMs % (1000 / fps) === 0) units.push(unit(nowMs));
    if (nowMs >= quickAfterMs) shedLate += shed.pictures - before;
    if (nowMs < freeAtMs || units.length === 0) continue;
    const { value } = await reader.next();
    const capturedAtMs = value?.capturedAtMs ?? NaN;
    waits.push({ atMs: nowMs, waitedMs: nowMs - capturedAtMs });
    read.push(capturedAtMs);
    freeAtMs = nowMs + readMs(nowMs);
  }
  const longestMs = (fromMs: number) =>
    Math.max(...waits.filter(({ atMs }) => atMs >= fromMs).map(({ waitedMs }) => waitedMs));
  return { read, longestMs, shed: shed.pictures, shedLate };
}

for (const fps of [2, 5, 25]) {
  Deno.test(`where the reader is too slow for ${fps} pictures a second, none waits for long, and the reader is never idle`, async () => {
    const readMs = 1000 / fps * 1.6;
    const { read, longestMs, shed } = await overloaded({ fps, readMs: () => readMs });
    assert.ok(longestMs(0) <= 2000, `a picture waited ${longestMs(0)} ms`);
    // As many are recorded as the reader can take, or nearly.
    const most = 60_000 / readMs;
    assert.ok(read.length >= 0.8 * most, `${read.length} read of ${most} that could be`);
    assert.ok(shed > 0);
    const steps = read.slice(1).map((at, index) => at - (read[index] ?? 0));
    assert.ok(Math.max(...steps) <= 16_000 / fps, `a hole of ${Math.max(...steps)} ms`);
  });
}

Deno.test("a reader that is very slow is given what is new", async () => {
  const { longestMs } = await overloaded({ fps: 5, readMs: () => 900 });
  assert.ok(longestMs(5000) <= 2000, `a picture waited ${longestMs(5000)} ms`);
});

Deno.test("a stall of some seconds thins what waits, and half a minute later nothing is shed", async () => {
  const { read, longestMs, shed, shedLate } = await overloaded({
    ...{ fps: 5, quickAfterMs: 40_000 },
    readMs: (nowMs) => nowMs >= 10_000 && nowMs < 10_200 ? 4000 : 20,
  });
  assert.ok(shed > 0 && shed < 40, `${shed} shed`);
  assert.equal(shedLate, 0);
  assert.ok(longestMs(20_000) < 100);
  const steps = read.slice(1).map((at, index) => at - (read[index] ?? 0));
  assert.ok(Math.max(...steps) <= 3200, `a hole of ${Math.max(...steps)} ms`);
});

Deno.test("a stall of less than a second costs nothing", async () => {
  const { shed } = await overloaded({
    fps: 5,
    readMs: (nowMs) => nowMs >= 10_000 && nowMs < 10_200 ? 950 : 20,
  });
  assert.equal(shed, 0);
});
