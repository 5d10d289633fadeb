/**
 * What an owner allows a sink: rates by the time of day, the day's use, and how much is kept.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Bandwidth, rateAt } from "../../core/delivery/pace.ts";
import { createDelivery } from "../../core/delivery/mod.ts";
import { localFolder } from "../../sinks/local_folder.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { walkFiles } from "../support/walk_files.ts";
import { FakeSink, FakeSpool, freshStatus, keepLog, makeClip } from "./fakes.ts";
import { retainTest } from "./retain.ts";

const DAY = { fromMinute: 8 * 60, toMinute: 22 * 60, bytesPerSecond: 500 };
const NIGHT = { fromMinute: 23 * 60, toMinute: 6 * 60, bytesPerSecond: 9000 };
const at = (hours: number, minutes = 0) => new Date(2026, 7, 21, hours, minutes).getTime();

Deno.test("a rate holds from its first minute to before its last, also over midnight", () => {
  const spans = [DAY, NIGHT];
  assert.equal(rateAt(spans, at(7, 59)), Infinity);
  assert.equal(rateAt(spans, at(8)), 500);
  assert.equal(rateAt(spans, at(21, 59)), 500);
  assert.equal(rateAt(spans, at(22)), Infinity);
  assert.equal(rateAt(spans, at(23)), 9000);
  assert.equal(rateAt(spans, at(5, 59)), 9000);
  assert.equal(rateAt(spans, at(6)), Infinity);
});

Deno.test("a clip under way takes up the next rate at its minute", async () => {
  const clock = createFakeClock(at(7, 59) + 50_000);
  const bandwidth = new Bandwidth([{ ...DAY, fromMinute: 7 * 60, toMinute: 8 * 60 }], clock);
  const signal = new AbortController().signal;
  let read = 0;
  const onDisk = { ...makeClip(0, 100_000), path: "/clip.mp4" };
  const clip = bandwidth.slow(onDisk, { signal, onRead: () => {} });
  assert.equal(clip.path, undefined); // who reads the file is not slowed
  const reading = (async () => {
    for await (const chunk of clip.open()) read += chunk.length;
  })();
  await clock.advance(9000);
  assert.ok(read >= 4500 && read <= 5500, `${read} bytes in 9 s at 500 B/s`);
  await clock.advance(3000);
  await reading;
  assert.equal(read, 100_000);
});

Deno.test("the day's use is counted and shown, with a limit and without, and begins anew", async () => {
  const clock = createFakeClock();
  const spool = new FakeSpool();
  const status = freshStatus("it");
  const stop = new AbortController();
  spool.add(makeClip(0), makeClip(1));
  const delivery = createDelivery({
    name: "it",
    sink: new FakeSink(() => clock.monotonic()),
    spool,
    status,
    clock,
    random: () => 0.5,
    log: keepLog(),
    usedTodayBytes: 500,
  });
  const running = delivery.run(stop.signal);
  await clock.advance(1000);
  assert.equal(status.usedTodayBytes, 2500);
  assert.equal(status.perDayBytes, undefined);
  await clock.advance(86_400_000);
  spool.add(makeClip(2));
  await clock.advance(1000);
  assert.equal(status.usedTodayBytes, 1000);
  stop.abort();
  await running;
});

Deno.test("retain removes what is too old or too much, from a folder", async () => {
  const folder = await Deno.makeTempDir({ prefix: "camsink-retain-" });
  try {
    const path = `${folder}/clips`;
    const sink = await localFolder.open({ name: "it", config: { path }, log: keepLog(), fetch });
    await retainTest(
      sink,
      folder,
      async () =>
        (await Array.fromAsync(walkFiles(path))).filter((file) => file.endsWith(".mp4")).length,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
