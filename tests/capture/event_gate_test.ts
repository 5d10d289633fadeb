/**
 * What is recorded around events.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createEventGate, type EventGate } from "../../core/capture/event_gate.ts";
import type { AccessUnit } from "../../core/types.ts";
import { SOUND_TRACK, VIDEO_TRACK, videoUnit } from "../support/capture_fakes.ts";
import { seededRandom } from "../support/seeded_random.ts";

const PLAN = { beforeMs: 5000, afterMs: 10_000 };

interface Shot {
  /** Two pictures a second, a key one every `gopMs`. */
  readonly gopMs?: number;
  readonly untilMs: number;
  /** Told to the gate when the picture of that time has been taken. */
  readonly events?: readonly { readonly toldAtMs: number; startMs: number; endMs?: number }[];
  readonly sound?: boolean;
  readonly released?: number[];
  readonly at?: (ms: number, gate: EventGate) => void;
}

/** The times of the pictures that each stretch has, ms. */
async function shoot({ gopMs = 2000, untilMs, events = [], sound, released, at }: Shot) {
  const gate = createEventGate(PLAN);
  async function* units(): AsyncGenerator<AccessUnit> {
    for (let ms = 0; ms < untilMs; ms += 500) {
      for (const { toldAtMs, startMs, endMs } of events) {
        if (toldAtMs === ms) gate.note({ kind: "motion", startMs, ...(endMs ? { endMs } : {}) });
      }
      at?.(ms, gate);
      const isKey = ms % gopMs === 0;
      yield videoUnit(ms, {
        isKey,
        ...(ms === 0 ? { track: VIDEO_TRACK } : {}),
        ...(released ? { release: () => void released.push(ms) } : {}),
      });
      if (sound) yield { ...videoUnit(ms, { mark: 1 }), trackId: SOUND_TRACK.id };
    }
  }
  const stretches: { times: number[]; sounds: number; first?: AccessUnit | undefined }[] = [];
  let held = 0;
  for await (const stretch of gate.stretches(units(), { videoId: 1, onHeld: () => held++ })) {
    const found: { times: number[]; sounds: number; first?: AccessUnit | undefined } = {
      times: [],
      sounds: 0,
    };
    stretches.push(found);
    for await (const unit of stretch) {
      if (unit.trackId === 1) found.times.push(unit.capturedAtMs);
      else found.sounds++;
      found.first ??= unit;
    }
  }
  assert.equal(held, untilMs / 500);
  return stretches;
}

const span = ({ times }: { times: readonly number[] }) => [times[0], times.at(-1)];

Deno.test("nothing is recorded while nothing happens", async () => {
  assert.deepEqual(await shoot({ untilMs: 600_000 }), []);
});

Deno.test("an event is recorded from before it to after it, in whole GOPs, with its description", async () => {
  const stretches = await shoot({
    untilMs: 300_000,
    events: [{ toldAtMs: 100_000, startMs: 100_000 }],
  });
  assert.deepEqual(stretches.map(span), [[94_000, 109_500]]);
  const [first] = stretches;
  assert.ok(first?.first?.isKey && first.first.track);
  assert.deepEqual(first?.times, Array.from({ length: 32 }, (_, index) => 94_000 + index * 500));
});

Deno.test("an event that is told ten seconds late still has its beginning", async () => {
  const stretches = await shoot({
    untilMs: 300_000,
    events: [{ toldAtMs: 110_000, startMs: 100_000 }],
  });
  assert.deepEqual(stretches.map(span), [[94_000, 109_500]]);
});

Deno.test("an event that lasts, told again and again, is one stretch", async () => {
  const events = [0, 5, 10, 15, 20].map((s) => ({
    toldAtMs: 100_000 + s * 1000,
    startMs: 100_000,
    endMs: 100_000 + s * 1000,
  }));
  const stretches = await shoot({ untilMs: 300_000, events });
  assert.deepEqual(stretches.map(span), [[94_000, 129_500]]);
});

Deno.test("two events far apart are two stretches, near each other nothing is missing between them", async () => {
  const event = (ms: number) => ({ toldAtMs: ms, startMs: ms });
  const far = await shoot({ untilMs: 300_000, events: [event(100_000), event(200_000)] });
  assert.deepEqual(far.map(span), [[94_000, 109_500], [194_000, 209_500]]);
  const near = await shoot({ untilMs: 300_000, events: [event(100_000), event(112_000)] });
  // The first one is over when the second is told: nothing is missing between them.
  assert.deepEqual(near.map(span), [[94_000, 109_500], [110_000, 121_500]]);
});

Deno.test("an event at the end of a session is recorded up to that end", async () => {
  const stretches = await shoot({
    untilMs: 101_000,
    events: [{ toldAtMs: 100_000, startMs: 100_000 }],
  });
  assert.deepEqual(stretches.map(span), [[94_000, 100_500]]);
});

Deno.test("with long GOPs an event's beginning is there all the same", async () => {
  const stretches = await shoot({
    gopMs: 20_000,
    untilMs: 300_000,
    events: [{ toldAtMs: 105_000, startMs: 102_000 }],
  });
  assert.deepEqual(stretches.map(span), [[80_000, 119_500]]);
});

Deno.test("sound goes along with its pictures", async () => {
  const [stretch] = await shoot({
    untilMs: 300_000,
    sound: true,
    events: [{ toldAtMs: 100_000, startMs: 100_000 }],
  });
  assert.equal(stretch?.sounds, stretch?.times.length);
});

Deno.test("where no events can be heard, everything is recorded until they can", async () => {
  const stretches = await shoot({
    untilMs: 300_000,
    at: (ms, gate) => {
      if (ms === 100_000) gate.isHeard = false;
      if (ms === 200_000) gate.isHeard = true;
    },
  });
  assert.equal(stretches.length, 1);
  const [[from = NaN, to = NaN] = []] = stretches.map(span);
  assert.ok(from <= 100_000 && to >= 199_500 && to < 203_000, `${from} to ${to}`);
});

Deno.test("buffers of what is not recorded are given back, and no others", async () => {
  const released: number[] = [];
  const stretches = await shoot({
    untilMs: 300_000,
    released,
    events: [{ toldAtMs: 100_000, startMs: 100_000 }],
  });
  const recorded = new Set(stretches.flatMap(({ times }) => times));
  assert.equal(new Set(released).size, released.length);
  assert.equal(released.length + recorded.size, 600);
  assert.ok(released.every((ms) => !recorded.has(ms)));
});

Deno.test("in 300 random histories every event is whole, and no picture comes twice", async () => {
  const random = seededRandom(3);
  for (let round = 0; round < 300; round++) {
    const lateMs = Math.floor(random() * 20) * 500;
    const events = Array.from({ length: 1 + Math.floor(random() * 5) }, () => {
      const startMs = 20_000 + Math.floor(random() * 400) * 500;
      return { startMs, toldAtMs: startMs + lateMs };
    });
    const gopMs = 500 * (1 + Math.floor(random() * 8));
    const stretches = await shoot({ untilMs: 300_000, gopMs, events });
    const times = stretches.flatMap(({ times }) => times);
    assert.deepEqual(times, [...new Set(times)].sort((a, b) => a - b));
    for (const { startMs } of events) {
      for (let ms = startMs - PLAN.beforeMs; ms < startMs + PLAN.afterMs; ms += 500) {
        assert.ok(
          times.includes(ms),
          `${ms} of ${startMs} is missing: ${
            JSON.stringify({ gopMs, events, spans: stretches.map(span) })
          }`,
        );
      }
    }
    for (const { first } of stretches) assert.ok(first?.isKey && first.track);
  }
});
