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

function queue(options: { maxUnits?: number; maxBytes?: number; allKey: boolean }) {
  const shed = { pictures: 0 };
  const made = createUnitQueue({
    maxUnits: 8,
    maxBytes: 1e9,
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
