/**
 * What a crash may cost a camera whose encoder is behind, in simulated time: the process can end at any
 * moment, and what is then in a clip or in the journal is there.
 *
 * @module
 */
import assert from "node:assert/strict";
import { recordCamera } from "../../core/capture/recorder.ts";
import { createUnwritten } from "../../core/capture/unwritten.ts";
import type { AccessUnit, Encoder } from "../../core/types.ts";
import {
  createFakeCamera,
  createMemorySpool,
  createNotes,
  recorderOptions,
  VIDEO_TRACK,
  videoUnit,
} from "../support/capture_fakes.ts";
import { createFakeClock } from "../support/fake_clock.ts";

/** A camera that is recorded through an encoder which works when it is told to. */
function start() {
  const clock = createFakeClock();
  const camera = createFakeCamera(clock);
  const spool = createMemorySpool();
  let go = () => {};
  let gate = Promise.resolve();
  let coded = -1;
  const encoder: Encoder = {
    async *encode(units: AsyncIterable<AccessUnit>) {
      for await (const unit of units) {
        await gate;
        const isFirst = coded < 0;
        coded = unit.ptsUs;
        yield isFirst ? { ...unit, track: VIDEO_TRACK } : unit;
      }
    },
  };
  const options = recorderOptions(clock, {
    source: camera,
    spool,
    encoder: () => Promise.resolve(encoder),
  });
  const stop = new AbortController();
  const running = recordCamera(options, stop.signal);
  return {
    ...{ clock, camera, spool, log: options.log },
    stall: () => void (gate = new Promise((resolve) => go = resolve)),
    goOn: () => go(),
    /** How much of what the camera has given is neither coded nor in the journal, ms. */
    atRiskMs: (nowMs: number) => {
      const keptUs = spool.journals.flatMap(({ pictures }) => pictures.map(({ ptsUs }) => ptsUs));
      return nowMs - Math.max(coded, ...keptUs) / 1000;
    },
    async stopped() {
      stop.abort(new DOMException("stopped", "AbortError"));
      for (let step = 0; step < 100; step++) await clock.advance(100);
      await running;
    },
  };
}

/** A new picture: identical ones count as one. */
const shot = ({ camera, clock }: ReturnType<typeof start>) =>
  camera.picture({ data: Uint8Array.of(clock.monotonic() % 251, clock.monotonic() / 251) });

for (const intervalMs of [100, 200, 1000, 5000]) {
  Deno.test(`with a picture every ${intervalMs} ms, an encoder that stops puts no more than 2 s or one picture at risk`, async () => {
    const recording = start();
    const { clock, spool } = recording;
    for (let count = 0; count < 20; count++) {
      shot(recording);
      await clock.advance(intervalMs);
    }
    if (intervalMs < 500) {
      assert.deepEqual(spool.journals.flatMap(({ pictures }) => pictures), [], "it keeps up");
    }
    recording.stall();
    for (let count = 0; count < 60; count++) {
      shot(recording);
      await clock.advance(intervalMs);
      const atRiskMs = recording.atRiskMs(clock.monotonic());
      assert.ok(atRiskMs <= Math.max(2000, intervalMs), `${atRiskMs} ms after ${count} pictures`);
    }
    assert.equal(spool.journals.length, 1);
    recording.goOn();
    for (let count = 0; count < 100; count++) { // it first sheds
      shot(recording);
      await clock.advance(intervalMs);
    }
    const [journal] = spool.journals;
    assert.ok((journal?.pictures.length ?? 0) <= 2, "what is in a clip stays in the journal");
    await recording.stopped();
    assert.equal(spool.journals.length, 0);
  });
}

Deno.test("until an encoder has begun, no picture is without a copy", async () => {
  const recording = start();
  recording.stall();
  for (let count = 0; count < 5; count++) {
    await recording.clock.advance(10);
    shot(recording);
    await recording.clock.advance(90);
    assert.equal(recording.atRiskMs(recording.clock.monotonic()), 90);
  }
  recording.goOn();
  await recording.stopped();
  assert.equal(recording.spool.journals.length, 0);
});

Deno.test("a picture that was under way for long is kept at once", async () => {
  const clock = createFakeClock();
  const spool = createMemorySpool();
  const unwritten = createUnwritten({
    journal: () => spool.journal({ camera: "Yard", slug: "yard" }),
    clock,
    log: createNotes(),
  });
  const kept = () => spool.journals.flatMap(({ pictures }) => pictures.map(({ ptsUs }) => ptsUs));
  const shoot = (lateMs: number) => {
    const unit = videoUnit(clock.monotonic(), { capturedAtMs: clock.now() - lateMs });
    unwritten.came(unit);
    return unit;
  };
  unwritten.coded(shoot(0)).release?.(); // the encoder has begun
  await clock.advance(700);
  unwritten.coded(shoot(0)).release?.();
  assert.deepEqual(kept(), []);
  await clock.advance(700);
  const late = shoot(900);
  await clock.advance(1);
  assert.deepEqual(kept(), [late.ptsUs]);
  await unwritten.end();
});

Deno.test("pictures that wait are told in the debug log, with the place where they wait", async () => {
  const recording = start();
  recording.stall();
  for (let count = 0; count < 10; count++) {
    shot(recording);
    await recording.clock.advance(200);
  }
  const told = recording.log.lines.filter((line) => /^debug pictures wait for/.test(line));
  assert.match(told[0] ?? "", /1\.0 s \(encoder\)/, recording.log.lines.join("\n"));
  recording.goOn();
  await recording.stopped();
});

Deno.test("where the journal cannot be written it is told once, and recording goes on", async () => {
  const recording = start();
  const { spool, log, clock } = recording;
  spool.journal = () => ({
    append: () => Promise.reject(new Error("the disk is full")),
    settle: () => Promise.resolve(),
    end: () => Promise.resolve(),
  });
  recording.stall();
  for (let count = 0; count < 40; count++) {
    shot(recording);
    await clock.advance(200);
  }
  assert.equal(log.lines.filter((line) => /a crash would cost them/.test(line)).length, 1);
  recording.goOn();
  for (let count = 0; count < 10; count++) {
    shot(recording);
    await clock.advance(200);
  }
  await recording.stopped();
  assert.equal(spool.finished.length > 0, true);
});

Deno.test("what an encoder does not finish in the end is left for the next start", async () => {
  const recording = start();
  recording.stall();
  for (let count = 0; count < 20; count++) {
    shot(recording);
    await recording.clock.advance(200);
  }
  await recording.stopped();
  assert.ok((recording.spool.journals[0]?.pictures.length ?? 0) > 5);
});
