/** Which engine and preset a camera gets. */
import assert from "node:assert/strict";
import type { GopReport } from "../../core/encode/camera_encoder.ts";
import { createGearbox } from "../../core/encode/gearbox.ts";
import { type Gear, gearsOf } from "../../core/encode/x264.ts";
import { createTestLog } from "./support.ts";

const WASM = gearsOf("wasm", "standard");
const SYSTEM = gearsOf("system", "standard");
const GEARS = [...WASM, ...SYSTEM] as [Gear, ...Gear[]];

function encoded(gear: Gear, late: boolean, busyMs = 4000): GopReport {
  return {
    kind: "encoded",
    gear,
    widthPx: 1920,
    heightPx: 1080,
    pictures: 20,
    spanMs: 2000,
    busyMs,
    late,
  };
}

Deno.test("the speed is a multiple of real time", () => {
  const box = createGearbox(GEARS, createTestLog());
  box.report("yard", encoded(box.gear("yard"), false, 500));
  assert.deepEqual(box.describe("yard"), { name: "wasm ultrafast", speed: 4 });
  assert.equal(box.describe("door"), undefined);
});

Deno.test("a camera that is late again and again goes to the next gear, said once with figures", () => {
  const log = createTestLog();
  const box = createGearbox(GEARS, log);
  for (let i = 0; i < 4; i++) box.report("yard", encoded(box.gear("yard"), true));
  assert.equal(box.gear("yard").engine, "system");
  assert.equal(box.gear("door").engine, "wasm");
  assert.deepEqual(log.lines, [
    "warn: yard: wasm ultrafast cannot keep up: 0.50x real time for 1920x1080 at 10.0 pictures/s; " +
    "going from wasm ultrafast to system veryfast",
  ]);
});

Deno.test("a camera that is late now and then stays where it is", () => {
  const box = createGearbox(GEARS, createTestLog());
  for (let i = 0; i < 100; i++) box.report("yard", encoded(box.gear("yard"), i % 4 !== 0));
  assert.equal(box.gear("yard").engine, "wasm");
});

Deno.test("a camera never goes back, however fast the new gear is", () => {
  const box = createGearbox(GEARS, createTestLog());
  for (let i = 0; i < 4; i++) box.report("yard", encoded(box.gear("yard"), true));
  for (let i = 0; i < 1000; i++) box.report("yard", encoded(box.gear("yard"), false, 10));
  assert.equal(box.gear("yard").label, "veryfast");
});

Deno.test("when the last gear is late too, it is said once what would help", () => {
  const log = createTestLog();
  const box = createGearbox(WASM as [Gear], log);
  for (let i = 0; i < 50; i++) box.report("yard", encoded(box.gear("yard"), true));
  assert.equal(log.lines.length, 1);
  assert.match(
    log.lines[0] ?? "",
    /dropped evenly and counted.*system ffmpeg.*lower "fps".*Nest camera has "width"; others.*live stream/,
  );
});

Deno.test("one failure is told, three change the engine", () => {
  const log = createTestLog();
  const box = createGearbox(GEARS, log);
  const fail = () =>
    box.report("yard", { kind: "failed", gear: box.gear("yard"), error: new Error("unreachable") });
  fail();
  fail();
  assert.equal(box.gear("yard").engine, "wasm");
  assert.equal(log.lines.filter((line) => line.startsWith("warn")).length, 1);
  fail();
  assert.equal(box.gear("yard").engine, "system");
});

Deno.test("failures days apart do not add up", () => {
  const box = createGearbox(GEARS, createTestLog());
  for (let failure = 0; failure < 10; failure++) {
    box.report("yard", { kind: "failed", gear: box.gear("yard"), error: new Error("trap") });
    for (let i = 0; i < 300; i++) box.report("yard", encoded(box.gear("yard"), false));
  }
  assert.equal(box.gear("yard").engine, "wasm");
});
