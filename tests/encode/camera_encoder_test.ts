/** One camera's encoding, with an engine that pretends. */
import assert from "node:assert/strict";
import { createCameraEncoder, type GopReport } from "../../core/encode/camera_encoder.ts";
import { gearsOf } from "../../core/encode/x264.ts";
import type { Encoder } from "../../core/types.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { createFakeEngine, encodeAll, pictures, START_MS, stream, unitOf } from "./support.ts";

const [GEAR] = gearsOf("wasm", "standard");

function setUp(options: { auto?: boolean; gathers?: boolean } = {}) {
  const engine = createFakeEngine("wasm", options);
  const clock = createFakeClock(START_MS);
  const reports: GopReport[] = [];
  assert.ok(GEAR);
  const encoder: Encoder = createCameraEncoder({
    clock,
    gear: () => GEAR,
    openLane: () => engine.openLane(),
    onReport: (_, report) => reports.push(report),
  });
  return { engine, clock, reports, encoder };
}

Deno.test("a GOP begins at the first picture at or after each wall-clock multiple", async () => {
  const { encoder, engine } = setUp();
  const coded = await encodeAll(encoder, pictures({ count: 50, startMs: START_MS + 1550 }));
  assert.deepEqual(engine.gops.map((gop) => gop.jpegs.length), [5, 20, 20, 5]);
  const keys = coded.filter((unit) => unit.isKey).map((unit) => unit.capturedAtMs - START_MS);
  assert.deepEqual(keys.map((ms) => Math.floor(ms / 2000)), [0, 1, 2, 3]);
  assert.equal(coded.length, 50);
});

Deno.test("where GOPs are gathered before they are coded, they are half as long", async () => {
  const { encoder, engine } = setUp({ gathers: true });
  const coded = await encodeAll(encoder, pictures({ count: 50, startMs: START_MS + 1550 }));
  assert.deepEqual(engine.gops.map((gop) => gop.jpegs.length), [5, 10, 10, 10, 10, 5]);
  assert.equal(coded.length, 50);
  // Each begins at a multiple, those of whole GOPs among them, where clips are cut.
  const keys = coded.filter((unit) => unit.isKey).map((unit) => unit.capturedAtMs - START_MS);
  assert.deepEqual(keys.map((ms) => Math.floor(ms / 1000)), [1, 2, 3, 4, 5, 6]);
});

Deno.test("only the first unit carries the track while nothing about it changes", async () => {
  const { encoder } = setUp();
  const coded = await encodeAll(encoder, pictures({ count: 45 }));
  assert.deepEqual(coded.flatMap((unit, i) => unit.track ? [i] : []), [0]);
});

Deno.test("a change of size begins a GOP and brings a new track", async () => {
  const { encoder, engine } = setUp();
  const small = pictures({ count: 5 });
  const large = pictures({ count: 5, startMs: START_MS + 500, widthPx: 480, heightPx: 270 });
  const coded = await encodeAll(encoder, [...small, ...large]);
  assert.equal(engine.gops.length, 2);
  const sizes = coded.flatMap(({ track }) =>
    track?.kind === "video" ? [`${track.widthPx}x${track.heightPx}`] : []
  );
  assert.deepEqual(sizes, ["320x180", "480x270"]);
});

Deno.test("something that is no whole JPEG is lost alone, and said with its cause", async () => {
  const { encoder } = setUp();
  const units = pictures({ count: 6 });
  const html = new TextEncoder().encode("<html>sign in</html>");
  const bad = [unitOf(html, START_MS + 50), unitOf(new Uint8Array(0), START_MS + 60)];
  const truncated = unitOf(units[0]!.data.subarray(0, 900), START_MS + 70);
  const lost: string[] = [];
  const coded = await encodeAll(encoder, [...bad, truncated, ...units], {
    onLost: (frames, cause) => lost.push(`${frames} ${cause}`),
  });
  assert.equal(coded.length, 6);
  assert.equal(lost.length, 3);
  assert.match(lost[0] ?? "", /^1 .*not a JPEG.*<html>/);
  assert.match(lost[2] ?? "", /truncated/);
});

Deno.test("what a camera fills up behind a JPEG's end does not get to the engine", async () => {
  const { encoder, engine } = setUp();
  const units = pictures({ count: 3 });
  const filled = units.map((unit) => ({
    ...unit,
    data: Uint8Array.from([...unit.data, ...unit.data.subarray(-900)]),
  }));
  await encodeAll(encoder, filled);
  assert.deepEqual(engine.gops.flatMap((gop) => gop.jpegs), units.map(({ data }) => data));
});

Deno.test("an identical picture is not encoded again but counted as repeated", async () => {
  const { encoder, engine } = setUp();
  const units = pictures({ count: 3 });
  const same = [1, 2, 3].map((i) =>
    unitOf(units[2]!.data.slice(), units[2]!.capturedAtMs + i * 100)
  );
  const other = pictures({ count: 1, name: "door", startMs: START_MS + 900 });
  let repeated = 0;
  const coded = await encodeAll(encoder, [...units, ...same, ...other], {
    onRepeated: (frames) => repeated += frames,
  });
  assert.equal(engine.gops[0]?.jpegs.length, 4);
  assert.equal(coded.length, 4);
  assert.equal(repeated, 3);
});

Deno.test("input that ends on identical pictures ends with a unit at the last one's time", async () => {
  const { encoder } = setUp();
  const [first] = pictures({ count: 1 });
  const same = [1, 2, 3].map((i) => unitOf(first!.data, first!.capturedAtMs + i * 100));
  let repeated = 0;
  const coded = await encodeAll(encoder, [first!, ...same], {
    onRepeated: (frames) => repeated += frames,
  });
  assert.deepEqual(coded.map((unit) => unit.capturedAtMs - START_MS), [0, 300]);
  assert.equal(coded.length + repeated, 4);
});

Deno.test("an identical picture that begins a GOP is encoded, so that there is a key", async () => {
  const { encoder, engine } = setUp();
  const [first] = pictures({ count: 1 });
  const units = Array.from({ length: 45 }, (_, i) => unitOf(first!.data, START_MS + i * 100));
  const coded = await encodeAll(encoder, units);
  assert.deepEqual(engine.gops.map((gop) => gop.jpegs.length), [1, 1, 2]);
  assert.equal(coded.filter((unit) => unit.isKey).length, 3);
});

Deno.test("units leave in order though a later GOP is coded first", async () => {
  const { encoder, engine } = setUp({ auto: false });
  const encoding = encodeAll(encoder, pictures({ count: 4, everyMs: 1000 }));
  while (engine.gops.length < 2) await new Promise((resolve) => setImmediate(resolve));
  const [one, two] = engine.gops;
  while (two!.jpegs.length < 2) await new Promise((resolve) => setImmediate(resolve));
  two!.code(0);
  two!.code(1);
  two!.finish();
  one!.code(0);
  one!.code(1);
  one!.finish();
  const coded = await encoding;
  assert.deepEqual(
    coded.map((unit) => unit.capturedAtMs),
    pictures({ count: 4, everyMs: 1000 }).map((unit) => unit.capturedAtMs),
  );
  // The one that leaves first tells what all of them are, not the one that was coded first.
  assert.deepEqual(coded.flatMap((unit, i) => unit.track ? [i] : []), [0]);
});

Deno.test("an engine that fails costs what was in its GOP, and the next GOP goes on", async () => {
  const { encoder, engine, reports } = setUp({ auto: false });
  let lost = 0;
  const encoding = encodeAll(encoder, pictures({ count: 40 }), { onLost: (n) => lost += n });
  while (engine.gops.length < 2 || engine.gops[1]!.jpegs.length < 20) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  const [one, two] = engine.gops;
  for (let i = 0; i < 12; i++) one!.code(i);
  one!.fail(new Error("memory access out of bounds"));
  for (let i = 0; i < 20; i++) two!.code(i);
  two!.finish();
  const coded = await encoding;
  assert.equal(coded.length, 32);
  assert.equal(lost, 8);
  assert.deepEqual(reports.map((report) => report.kind), ["failed", "encoded"]);
});

Deno.test("a picture that the decoder refuses does not shift the times of those after it", async () => {
  const { encoder, engine } = setUp({ auto: false });
  let lost = 0;
  const units = pictures({ count: 5 });
  const encoding = encodeAll(encoder, units, { onLost: (n) => lost += n });
  while ((engine.gops[0]?.jpegs.length ?? 0) < 5) await new Promise((r) => setImmediate(r));
  for (const index of [0, 1, 3]) engine.gops[0]!.code(index);
  engine.gops[0]!.finish();
  const coded = await encoding;
  const times = units.map((unit) => unit.capturedAtMs);
  assert.deepEqual(coded.map((unit) => unit.capturedAtMs), [times[0], times[1], times[3]]);
  assert.equal(lost, 2);
});

Deno.test("a camera that falls silent has its GOP ended when the time is up", async () => {
  const { encoder, engine, clock } = setUp();
  const silence = Promise.withResolvers<void>();
  const encoding = encodeAll(encoder, stream(pictures({ count: 3 }), silence.promise));
  await clock.advance(1900);
  assert.equal(engine.gops[0]?.ended, false);
  await clock.advance(500);
  assert.equal(engine.gops[0]?.ended, true);
  silence.resolve();
  assert.equal((await encoding).length, 3);
});

Deno.test("an abort ends the encoding quietly and leaves its lane, even with a silent camera", async () => {
  const { encoder, engine } = setUp({ auto: false });
  const stop = new AbortController();
  const never = new Promise<void>(() => {});
  const encoding = encodeAll(encoder, stream(pictures({ count: 3 }), never), {
    signal: stop.signal,
  });
  while ((engine.gops[0]?.jpegs.length ?? 0) < 3) await new Promise((r) => setImmediate(r));
  stop.abort();
  assert.deepEqual(await encoding, []);
  assert.equal(engine.openLanes, 0);
});

Deno.test("a taker that stops taking closes the lane", async () => {
  const { encoder, engine } = setUp();
  const signal = new AbortController().signal;
  for await (
    const _ of encoder.encode(stream(pictures({ count: 10 })), { signal, camera: "a", gopMs: 2000 })
  ) break;
  assert.equal(engine.openLanes, 0);
});

Deno.test("an input that fails fails the output after what was encoded", async () => {
  const { encoder, engine } = setUp();
  const broken = async function* () {
    yield* pictures({ count: 3 });
    throw new Error("the camera is gone");
  };
  await assert.rejects(encodeAll(encoder, broken()), /the camera is gone/);
  assert.equal(engine.openLanes, 0);
});

Deno.test("no more is taken from the camera while nobody takes the pictures", async () => {
  const { encoder } = setUp();
  let taken = 0;
  const counted = async function* () {
    for (const unit of pictures({ count: 300, everyMs: 10 })) {
      taken++;
      yield unit;
    }
  };
  const signal = new AbortController().signal;
  const output = encoder.encode(counted(), { signal, camera: "yard", gopMs: 2000 })
    [Symbol.asyncIterator]();
  await output.next();
  for (let i = 0; i < 2000; i++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(taken < 80, `${taken} of 300 were taken`);
  await output.return?.();
});
