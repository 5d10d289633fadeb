/**
 * A day without the sink, and a slow sink beside a fast one, in simulated time: four cameras, a clip
 * of each every minute.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createDelivery } from "../../core/delivery/mod.ts";
import { type Clip, type Sink, SinkError } from "../../core/types.ts";
import { LongSpool } from "../faults/faults.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { FakeSink, freshStatus, keepLog } from "./fakes.ts";

const MINUTE = 60_000;
const CAMERAS = 4;

/** 15 MB that nobody reads: 2 Mbit/s for a minute. */
function virtualClip(minute: number, camera: number, startMs: number): Clip {
  const start = new Date(startMs);
  return {
    key: `cam${camera}/${String(minute).padStart(5, "0")}.mp4`,
    camera: `cam${camera}`,
    start,
    end: new Date(startMs + MINUTE),
    bytes: 15_000_000,
    sha256: "0".repeat(64),
    contentType: "video/mp4",
    open: () => new Blob([]).stream(),
  };
}

Deno.test("a sink that is away for a day: nothing lost, oldest first, and no memory taken", async () => {
  const clock = createFakeClock();
  const spool = new LongSpool();
  const log = keepLog();
  let isAway = true;
  const order: string[] = [];
  const sink = new FakeSink(() => clock.monotonic(), async ({ key }) => {
    if (isAway) return new SinkError("retry", "no answer");
    await clock.sleep(4000); // 15 MB at 30 Mbit/s
    order.push(key);
    return undefined;
  });
  const stop = new AbortController();
  const status = freshStatus("it");
  const delivery = createDelivery({
    ...{ name: "it", sink, spool, status, clock, log },
    random: seededRandom(1),
  });
  const running = delivery.run(stop.signal);
  let heapBefore = 0;
  for (let minute = 0; minute < 1440; minute++) {
    spool.add(
      ...Array.from({ length: CAMERAS }, (_, one) => virtualClip(minute, one, clock.now())),
    );
    await clock.advance(MINUTE);
    if (minute === 60) heapBefore = heap();
  }
  // The clips and what this test notes of tries are in it too.
  const grownBytes = heap() - heapBefore;
  if (canCollect) assert.ok(grownBytes < 10_000_000, `${grownBytes} bytes more`);
  assert.equal(spool.receipts.size, 0);
  assert.equal(spool.quarantined.size, 0);
  const tries = sink.puts.length;
  assert.ok(tries > 1440 && tries < 3000, `${tries} tries in a day: one a minute or so is meant`);
  assert.equal(log.events("sink-retrying"), 1, "one line for the whole day");

  isAway = false;
  const healedAtMs = clock.monotonic();
  while (spool.receipts.size < 1440 * CAMERAS) {
    await clock.advance(MINUTE);
    assert.ok(clock.monotonic() - healedAtMs < 8 * 60 * MINUTE, "slower than 3 times real time");
  }
  stop.abort();
  await running;
  const place = new Map(spool.clips.map(({ key }, index) => [key, index]));
  const off = Math.max(...order.map((key, index) => Math.abs((place.get(key) ?? 0) - index)));
  assert.ok(off <= 2 * CAMERAS, `a clip came ${off} places out of order`);
  assert.equal(log.events("sink-recovered"), 1);
});

Deno.test("a sink at 64 kbit/s beside a fast one costs the fast one nothing", async () => {
  const clock = createFakeClock();
  const spools = { slow: new LongSpool(), fast: new LongSpool() };
  const delays: number[] = [];
  const sinkOf = (bytesPerSecond: number, arrived: (clip: Clip) => void): Sink => ({
    put: async (clip, { signal, progress }) => {
      for (let sent = 0; sent < clip.bytes; sent += bytesPerSecond) {
        await clock.sleep(1000, { signal });
        progress(sent);
      }
      arrived(clip);
      return { state: "stored" };
    },
  });
  const sinks = {
    slow: sinkOf(8000, () => {}),
    fast: sinkOf(15_000_000, ({ end }) => delays.push(clock.now() - end.getTime())),
  };
  const stop = new AbortController();
  const running = (["slow", "fast"] as const).map((name) =>
    createDelivery({
      ...{ name, sink: sinks[name], spool: spools[name], clock, log: keepLog() },
      status: freshStatus(name),
      random: seededRandom(2),
    }).run(stop.signal)
  );
  for (let minute = 0; minute < 30; minute++) {
    const clips = Array.from(
      { length: CAMERAS },
      (_, one) => virtualClip(minute, one, clock.now() - MINUTE),
    );
    spools.slow.add(...clips);
    spools.fast.add(...clips);
    await clock.advance(MINUTE);
  }
  stop.abort();
  await Promise.all(running);
  assert.equal(delays.length, 30 * CAMERAS);
  assert.ok(Math.max(...delays) < 5000, `${Math.max(...delays)} ms after the clip's end`);
  assert.ok(spools.slow.backlog().clips >= 30 * CAMERAS - 4);
});

/** With `--v8-flags=--expose-gc`; without it a heap's size says nothing. */
const collect = (globalThis as { gc?: () => void }).gc;
const canCollect = collect !== undefined;

function heap(): number {
  collect?.();
  return Deno.memoryUsage().heapUsed;
}
