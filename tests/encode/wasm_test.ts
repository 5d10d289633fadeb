/** The in-process engine for real, and its failures with an ffmpeg.wasm that is made to fail. */
import assert from "node:assert/strict";
import { createCameraEncoder, type GopReport } from "../../core/encode/camera_encoder.ts";
import { openWasmEngine } from "../../core/encode/ffmpeg_wasm.ts";
import type { Engine } from "../../core/encode/engine.ts";
import { createGearbox } from "../../core/encode/gearbox.ts";
import { gearsOf } from "../../core/encode/x264.ts";
import { systemClock } from "../../core/clock.ts";
import { createScene } from "../../simulators/scene/scene.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import {
  assertNoDelay,
  assertSamePictures,
  createTestLog,
  encodeAll,
  pictures,
  readStrips,
  START_MS,
  stream,
  unitOf,
} from "./support.ts";

function encoderOf(engine: Engine, reports: GopReport[] = []) {
  const [gear] = gearsOf("wasm", "standard");
  assert.ok(gear);
  return createCameraEncoder({
    clock: systemClock,
    gear: () => gear,
    openLane: () => engine.openLane(),
    onReport: (_, report) => reports.push(report),
  });
}

Deno.test("wasm: every picture comes out decodable, in order, with its own time", async () => {
  await using engine = await openWasmEngine({ workers: 1, clock: systemClock });
  const units = pictures({ count: 45, startMs: START_MS + 700 });
  const coded = await encodeAll(encoderOf(engine), units);
  await assertSamePictures(coded, units);
  assert.deepEqual(coded.flatMap((unit, i) => unit.isKey ? [i] : []), [0, 13, 33]);
});

Deno.test("wasm: each picture is out before the next one is taken", async () => {
  await using engine = await openWasmEngine({ workers: 1, clock: systemClock });
  await assertNoDelay(encoderOf(engine), 10);
});

Deno.test("wasm: two cameras share one worker", async () => {
  await using engine = await openWasmEngine({ workers: 1, clock: systemClock });
  const one = pictures({ count: 30, name: "yard" });
  const two = pictures({ count: 30, name: "door", widthPx: 480, heightPx: 270 });
  const [codedOne, codedTwo] = await Promise.all([
    encodeAll(encoderOf(engine), one),
    encodeAll(encoderOf(engine), two),
  ]);
  await assertSamePictures(codedOne, one);
  await assertSamePictures(codedTwo, two, { widthPx: 480, heightPx: 270 });
});

Deno.test("wasm: the workers of cameras that are known from the start begin before them", async () => {
  let begun = 0;
  const { Worker } = globalThis;
  globalThis.Worker = class extends Worker {
    constructor(...args: ConstructorParameters<typeof Worker>) {
      super(...args);
      begun++;
    }
  };
  try {
    await using engine = await openWasmEngine({ workers: 2, cameras: 5, clock: systemClock });
    assert.equal(begun, 2);
    const cameras = [encoderOf(engine), encoderOf(engine)];
    await Promise.all(cameras.map((camera) => encodeAll(camera, pictures({ count: 5 }))));
    assert.equal(begun, 2);
  } finally {
    globalThis.Worker = Worker;
  }
});

Deno.test("wasm: a camera that hangs in the middle of a GOP does not hold up the others", async () => {
  await using engine = await openWasmEngine({ workers: 1, clock: systemClock });
  const stop = new AbortController();
  const hanging = encodeAll(
    encoderOf(engine),
    stream(pictures({ count: 3 }), new Promise<void>(() => {})),
    { signal: stop.signal, gopMs: 200 },
  );
  const units = pictures({ count: 30, name: "door" });
  assert.equal((await encodeAll(encoderOf(engine), units)).length, 30);
  stop.abort();
  await hanging;
});

Deno.test("wasm: an abort at any moment leaves the worker ready for the next camera", async () => {
  await using engine = await openWasmEngine({ workers: 1, clock: systemClock });
  const units = pictures({ count: 12 });
  for (const after of [0, 1, 5, 11]) {
    const stop = new AbortController();
    let taken = 0;
    const aborting = async function* () {
      for (const unit of units) {
        if (taken++ === after) stop.abort();
        await new Promise((resolve) => setImmediate(resolve));
        yield unit;
      }
    };
    await encodeAll(encoderOf(engine), aborting(), { signal: stop.signal });
  }
  await assertSamePictures(await encodeAll(encoderOf(engine), units), units);
});

Deno.test("wasm: odd sizes lose a row and a column", async () => {
  await using engine = await openWasmEngine({ workers: 1, clock: systemClock });
  const scene = createScene({ name: "odd", widthPx: 321, heightPx: 181 });
  const units = [0, 1, 2].map((counter) => {
    const takenAtMs = START_MS + counter * 100;
    return unitOf(scene.frame({ counter, takenAtMs }), takenAtMs);
  });
  const coded = await encodeAll(encoderOf(engine), units);
  const track = coded[0]?.track;
  assert.ok(track?.kind === "video");
  assert.deepEqual([track.widthPx, track.heightPx], [320, 180]);
  assert.equal((await readStrips(coded)).length, 3);
});

Deno.test("wasm: pictures whose insides are damaged cost only themselves", async () => {
  await using engine = await openWasmEngine({ workers: 1, clock: systemClock });
  const units = pictures({ count: 12 });
  // Whole by its markers, but its tables make no sense.
  const broken = units[5]!.data.slice();
  broken.fill(0x7e, 30, 80);
  const input = units.map((unit, i) => i === 5 ? unitOf(broken, unit.capturedAtMs) : unit);
  const coded = await encodeAll(encoderOf(engine), input);
  const strips = await readStrips(coded);
  for (const [i, unit] of coded.entries()) {
    if (unit.capturedAtMs === units[5]!.capturedAtMs) continue;
    assert.equal(strips[i]?.takenAtMs, unit.capturedAtMs);
  }
  assert.ok(coded.length >= 11);
});

Deno.test("wasm: more GOPs than one instance survives come out whole", async () => {
  await using engine = await openWasmEngine({ workers: 1, clock: systemClock });
  const units = pictures({ count: 130, everyMs: 2000, widthPx: 160, heightPx: 90 });
  const coded = await encodeAll(encoderOf(engine), units);
  assert.equal(coded.length, 130);
  assert.ok(coded.every((unit) => unit.isKey));
});

/** An `@ffmpeg/core` whose `exec` does what the test says. */
async function fakeCore(exec: string): Promise<{ scriptUrl: string; wasmUrl: string }> {
  const wasm = await Deno.makeTempFile({ suffix: ".wasm" });
  await Deno.writeFile(wasm, Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));
  const script = `
    let runs = 0;
    export default async () => ({
      FS: { makedev: () => 1, registerDevice() {}, mkdev() {} },
      setLogger() {}, reset() {},
      exec() { runs++; ${exec} },
    });`;
  return {
    scriptUrl: `data:text/javascript,${encodeURIComponent(script)}`,
    wasmUrl: new URL(`file://${wasm}`).href,
  };
}

Deno.test("wasm: a trap costs its GOP, says so, and the worker goes on", async () => {
  const core = await fakeCore('if (runs % 2) throw new Error("unreachable"); return 0;');
  await using engine = await openWasmEngine({ workers: 1, clock: systemClock, core });
  const reports: GopReport[] = [];
  let lost = 0;
  await encodeAll(encoderOf(engine, reports), pictures({ count: 60 }), {
    onLost: (frames) => lost += frames,
  });
  assert.equal(lost, 60); // this core gives nothing out
  const failures = reports.filter((report) => report.kind === "failed");
  assert.equal(reports.length, 3);
  assert.ok(failures.length >= 2); // the failed worker has begun afresh, so it fails again
  assert.match(failures[0]?.error.message ?? "", /ffmpeg\.wasm crashed: unreachable/);
});

Deno.test("wasm: a worker that dies is replaced", async () => {
  const core = await fakeCore('setTimeout(() => { throw new Error("out of memory") }); return 1;');
  await using engine = await openWasmEngine({ workers: 1, clock: systemClock, core });
  const reports: GopReport[] = [];
  const coded = await encodeAll(encoderOf(engine, reports), pictures({ count: 80 }));
  assert.deepEqual(coded, []);
  assert.deepEqual(reports.map((report) => report.kind), Array(4).fill("failed"));
});

Deno.test("wasm: a run that never returns is ended, costs its GOP alone, and is said", async () => {
  const marker = await Deno.makeTempFile();
  // Hangs once, in whichever worker comes first.
  const core = await fakeCore(`
    if (Deno.statSync(${JSON.stringify(marker)}).size === 0) {
      Deno.writeTextFileSync(${JSON.stringify(marker)}, "hung");
      while (true);
    }
    return 0;`);
  const clock = createFakeClock();
  await using engine = await openWasmEngine({ workers: 1, clock, core });
  const reports: GopReport[] = [];
  const [gear] = gearsOf("wasm", "standard");
  assert.ok(gear);
  const log = createTestLog();
  const gearbox = createGearbox([gear], { log });
  const encoder = createCameraEncoder({
    clock,
    gear: () => gear,
    openLane: () => engine.openLane(),
    onReport: (camera, report) => {
      reports.push(report);
      gearbox.report(camera, report);
    },
  });
  const encoding = encodeAll(encoder, pictures({ count: 60 }));
  while (reports.length < 3) {
    await new Promise((resolve) => setTimeout(resolve, 1)); // the worker is a real thread
    if ((await Deno.stat(marker)).size > 0 && reports.length === 0) await clock.advance(1000);
  }
  await encoding;
  assert.deepEqual(reports.map(({ kind }) => kind), ["failed", "encoded", "encoded"]);
  assert.equal(log.lines.length, 1);
  assert.match(log.lines[0] ?? "", /one GOP is lost: ffmpeg\.wasm hangs: .* for 10 s/);
});

Deno.test("wasm: a run that only waits for its camera is left alone", async () => {
  const clock = createFakeClock();
  await using engine = await openWasmEngine({ workers: 1, clock });
  const [gear] = gearsOf("wasm", "standard");
  assert.ok(gear);
  const coded: number[] = [];
  await using lane = engine.openLane();
  const first = Promise.withResolvers<void>();
  const gop = lane.openGop({
    ...{ widthPx: 320, heightPx: 180, x264: gear.x264, onRepeated: () => {} },
    onCoded: ({ index }) => {
      coded.push(index);
      first.resolve();
    },
  });
  const [one, two] = pictures({ count: 2 });
  assert.ok(one && two);
  await gop.push(one.data, 0);
  await first.promise;
  for (let seconds = 0; seconds < 60; seconds++) await clock.advance(1000);
  await gop.push(two.data, 60_000);
  gop.end();
  await gop.finished;
  assert.deepEqual(coded, [0, 1]);
});

Deno.test("wasm: what cannot be loaded is refused with the path and what was expected", async () => {
  const core = { scriptUrl: "data:text/javascript,", wasmUrl: "file:///nowhere/ffmpeg-core.wasm" };
  await assert.rejects(
    openWasmEngine({ workers: 1, clock: systemClock, core }),
    /cannot load ffmpeg\.wasm.*nowhere.*expected the file ffmpeg-core\.wasm/,
  );
});
