/**
 * What every sink that can remove must do under `retain`, with a real spool and simulated time.
 *
 * @module
 */
import assert from "node:assert/strict";
import { keepRetention } from "../../core/delivery/mod.ts";
import { openSpool, type Spool } from "../../core/spool/mod.ts";
import type { Sink } from "../../core/types.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import {
  recoverToyClip,
  TOY_HEADER,
  TOY_PATCH,
  TOY_TAIL,
  toyFragment,
} from "../support/toy_clip.ts";
import { until } from "../support/until.ts";
import { keepLog } from "./fakes.ts";

const HOUR = 3_600_000;

/** Fills the sink with six hourly clips and lets it keep three hours, then one clip's size. */
export async function retainTest(
  sink: Sink,
  folder: string,
  objects: () => Promise<number>,
): Promise<void> {
  const clock = createFakeClock();
  const log = keepLog();
  await using spool = await openSpool({
    path: `${folder}/spool`,
    clock,
    log,
    sinks: ["it", "other"],
    recover: recoverToyClip,
    reserveBytes: 0,
  });
  const startMs = clock.now();
  const keys: string[] = [];
  for (let hour = 0; hour < 6; hour++) {
    keys.push(await record(spool, new Date(startMs + hour * HOUR)));
    await clock.advance(HOUR);
  }
  for (const key of keys) {
    const clip = spool.get(key)!;
    await sink.put(clip, { signal: new AbortController().signal, attempt: 1, progress: () => {} });
    await spool.receipt("it", key, { state: "stored" });
  }
  const bytes = spool.get(keys[0]!)!.bytes;
  assert.equal(await objects(), 6);

  const run = async (
    limits: { ageMs?: number; sizeBytes?: number },
    left: number,
    during?: () => void,
  ) => {
    const stop = new AbortController();
    const others = clock.sleepers;
    /** Time passes only when it has looked and waits to look again: stores take their own time. */
    const round = async () => {
      await until(() => clock.sleepers > others, undefined, 2);
      await clock.advance(60_000);
    };
    const running = keepRetention({ ...limits, name: "it", sink, spool, clock, log }, stop.signal);
    during?.();
    await round();
    await until(async () => await objects() <= left);
    await round();
    stop.abort();
    await running;
    assert.equal(await objects(), left);
  };
  const states = () => keys.map((key) => spool.deliveries(key).find((d) => d.sink === "it")?.state);

  // The other required sink lacks all of them: nothing goes, however old.
  await run({ ageMs: 60_000 }, 6);
  for (const key of keys) await spool.receipt("other", key, { state: "stored" });

  // A clock that shows next year for a while takes nothing along.
  await run({ ageMs: 10 * HOUR }, 6, () => clock.jump(400 * 24 * HOUR));
  assert.equal(log.events("retention-held"), 1);
  clock.jump(-400 * 24 * HOUR);

  await run({ ageMs: 3.5 * HOUR }, 3);
  assert.deepEqual(states(), ["removed", "removed", "removed", "stored", "stored", "stored"]);

  // A kept clip stays though it is the oldest; of the others the oldest goes first.
  await spool.pin(keys[3]!);
  await run({ sizeBytes: 2 * bytes }, 2);
  assert.deepEqual(states().slice(3), ["stored", "removed", "stored"]);
}

async function record(spool: Spool, start: Date): Promise<string> {
  const open = await spool.begin({ camera: "Yard", slug: "yard", start, contentType: "video/mp4" });
  await open.append([TOY_HEADER, ...toyFragment(Uint8Array.of(1, 2, 3))]);
  const end = new Date(start.getTime() + 60_000);
  const { key } = await open.finish({ end, tail: [TOY_TAIL], patch: TOY_PATCH, frames: 1 });
  return key;
}
