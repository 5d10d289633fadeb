/** Which engine and preset a camera gets. */
import assert from "node:assert/strict";
import type { GopReport } from "../../core/encode/camera_encoder.ts";
import { createGearbox, type LighterOption } from "../../core/encode/gearbox.ts";
import { type Gear, gearsOf } from "../../core/encode/x264.ts";
import { createTestLog } from "./support.ts";

const WASM = gearsOf("wasm", "standard");
const SYSTEM = gearsOf("system", "standard");
const GEARS = [...WASM, ...SYSTEM] as [Gear, ...Gear[]];

function encoded(
  gear: Gear,
  late: boolean,
  { busyMs = 4000, widthPx = 1920, pictures = 20 } = {},
): GopReport {
  return {
    kind: "encoded",
    gear,
    widthPx,
    heightPx: 1080,
    pictures,
    spanMs: 2000,
    busyMs,
    late,
  };
}

Deno.test("the speed is a multiple of real time", () => {
  const box = createGearbox(GEARS, { log: createTestLog() });
  box.report("yard", encoded(box.gear("yard"), false, { busyMs: 500 }));
  assert.deepEqual(box.describe("yard"), { name: "wasm ultrafast", speed: 4 });
  assert.equal(box.describe("door"), undefined);
});

Deno.test("a camera that is late again and again goes to the next gear, said once with figures", () => {
  const log = createTestLog();
  const box = createGearbox(GEARS, { log });
  for (let i = 0; i < 4; i++) box.report("yard", encoded(box.gear("yard"), true));
  assert.equal(box.gear("yard").engine, "system");
  assert.equal(box.gear("door").engine, "wasm");
  assert.deepEqual(log.lines, [
    "warn: yard: wasm ultrafast cannot keep up: 0.50x real time for 1920x1080 at 10.0 pictures/s; " +
    "going from wasm ultrafast to system veryfast",
  ]);
});

Deno.test("a camera that is late now and then stays where it is", () => {
  const box = createGearbox(GEARS, { log: createTestLog() });
  for (let i = 0; i < 100; i++) box.report("yard", encoded(box.gear("yard"), i % 4 !== 0));
  assert.equal(box.gear("yard").engine, "wasm");
});

Deno.test("a camera never goes back, however fast the new gear is", () => {
  const box = createGearbox(GEARS, { log: createTestLog() });
  for (let i = 0; i < 4; i++) box.report("yard", encoded(box.gear("yard"), true));
  for (let i = 0; i < 1000; i++) {
    box.report("yard", encoded(box.gear("yard"), false, { busyMs: 10 }));
  }
  assert.equal(box.gear("yard").label, "veryfast");
});

Deno.test("when the last gear is late too, it is said once what would help", () => {
  const log = createTestLog();
  const box = createGearbox(WASM as [Gear], { log });
  for (let i = 0; i < 50; i++) box.report("yard", encoded(box.gear("yard"), true));
  assert.equal(log.lines.length, 1);
  assert.match(
    log.lines[0] ?? "",
    /dropped evenly and counted.*system ffmpeg, a lower "fps", smaller pictures.*settings.*, or .*live stream/,
  );
});

Deno.test("nothing is advised that the camera does not have, or that it has reached", () => {
  const advice = (
    options: readonly LighterOption[],
    { gears = GEARS, ...like }: { gears?: [Gear, ...Gear[]]; widthPx?: number; pictures?: number },
  ) => {
    const log = createTestLog();
    const box = createGearbox(gears, { log, lighterOptions: () => options });
    for (let i = 0; i < 50; i++) box.report("yard", encoded(box.gear("yard"), true, like));
    return /What helps: (.*)/.exec(log.lines.at(-1) ?? "")?.[1];
  };
  const live = "the camera's live stream instead of snapshots";
  assert.equal(
    advice(["fps", "width"], { widthPx: 1280 }),
    `a lower "fps", a lower "width" than 1280, or ${live}`,
  );
  assert.equal(
    advice([], { widthPx: 1280 }),
    `smaller pictures, by the camera's own settings or its address, or ${live}`,
  );
  assert.equal(advice(["fps", "width"], { widthPx: 640, pictures: 2 }), live);
  assert.equal(
    advice(["fps"], { gears: WASM as [Gear], widthPx: 320 }),
    `a system ffmpeg, a lower "fps", or ${live}`,
  );
});

Deno.test("one failure is told, three change the engine", () => {
  const log = createTestLog();
  const box = createGearbox(GEARS, { log });
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
  const box = createGearbox(GEARS, { log: createTestLog() });
  for (let failure = 0; failure < 10; failure++) {
    box.report("yard", { kind: "failed", gear: box.gear("yard"), error: new Error("trap") });
    for (let i = 0; i < 300; i++) box.report("yard", encoded(box.gear("yard"), false));
  }
  assert.equal(box.gear("yard").engine, "wasm");
});
