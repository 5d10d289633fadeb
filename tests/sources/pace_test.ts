/** A steady rate: on the grid, without drift, without bursts. */
import assert from "node:assert/strict";
import { createPace } from "../../core/sources/pace.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { settled } from "./world.ts";

const signal = new AbortController().signal;

Deno.test("the moments lie on the grid however long the work between them takes", async () => {
  const clock = createFakeClock();
  const pace = createPace({ clock, intervalMs: 100 });
  const moments: number[] = [];
  for (const workMs of [0, 30, 99, 0, 70]) {
    await settled(pace.next(signal), clock, { stepMs: 1 });
    moments.push(clock.monotonic() % 100);
    await clock.advance(workMs);
  }
  assert.deepEqual(moments, [0, 0, 0, 0, 0]);
  assert.equal(pace.missed, 0);
});

Deno.test("a rate that does not divide a second does not drift in a day", async () => {
  const clock = createFakeClock();
  const intervalMs = 1000 / 7 * 1000;
  const pace = createPace({ clock, intervalMs });
  let worstMs = 0;
  for (let moment = 1; moment <= 604; moment++) {
    const next = pace.next(signal).then(() => {
      worstMs = Math.max(worstMs, Math.abs(clock.monotonic() - moment * intervalMs));
    });
    await settled(next, clock, { stepMs: 50_000 });
  }
  assert.ok(worstMs < 0.001, `${worstMs} ms off`);
});

Deno.test("moments that pass unused are counted and never made up for", async () => {
  const clock = createFakeClock();
  const pace = createPace({ clock, intervalMs: 100 });
  await settled(pace.next(signal), clock, { stepMs: 1 });
  await clock.advance(350);
  const before = clock.monotonic();
  await settled(pace.next(signal), clock, { stepMs: 1 });
  assert.equal(pace.missed, 3);
  assert.equal(clock.monotonic() - before, 50);
});

Deno.test("a timer that fires early does not make the same moment come twice", async () => {
  const times = [0, 0, 99.9, 99.9, 200];
  const slept: number[] = [];
  const pace = createPace({
    intervalMs: 100,
    originMs: 0,
    clock: {
      now: () => 0,
      monotonic: () => times.shift() ?? 0,
      sleep: (ms) => {
        slept.push(ms);
        return Promise.resolve();
      },
    },
  });
  await pace.next(signal);
  await pace.next(signal);
  assert.deepEqual(slept.map(Math.round), [100, 100]);
});

Deno.test("a jump of wall time does not touch the rate", async () => {
  const clock = createFakeClock();
  const pace = createPace({ clock, intervalMs: 100 });
  clock.jump(-3_600_000);
  await settled(pace.next(signal), clock, { stepMs: 1 });
  assert.equal(clock.monotonic(), 100);
});

Deno.test("an abort ends the wait with the signal's reason", async () => {
  const clock = createFakeClock();
  const stop = new AbortController();
  const wait = createPace({ clock, intervalMs: 100 }).next(stop.signal);
  stop.abort(new Error("enough"));
  await assert.rejects(wait, /enough/);
  assert.equal(clock.sleepers, 0);
});
