/**
 * A slice of the soak; `deno task soak` is the whole of it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { runSoak, trend } from "./soak.ts";

Deno.test("the trend is taken from the second quarter to the last, so that warming up is no leak", () => {
  const samples = Array.from({ length: 16 }, (_, index) => ({
    atMs: index * 900_000,
    rssBytes: index < 4 ? index * 50e6 : 200e6 + index * 1e6 + (index % 2 ? 30e6 : 0),
    handles: 20,
    threads: 8,
    cpuS: index * 90,
    ...(index % 2 ? {} : { liveBytes: index < 4 ? index * 10e6 : 40e6 + index * 1e3 }),
  }));
  const found = trend(samples, 4);
  assert.equal(found.liveGrowthBytes, 8e3);
  assert.equal(found.collectedRssGrowthBytes, 8e6); // without the garbage of the others
  assert.equal(found.handleGrowth, 0);
  assert.equal(found.cpuSecondsPerCameraHour, 90);
});

Deno.test({
  name: "a recording of a while loses no clip, and no picture that it does not count",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const totals = await runSoak({ forMs: 12_000, cameras: 2, fps: 5 });
    assert.ok(totals.clipsFinished >= 2 && totals.framesDelivered > 0, JSON.stringify(totals));
    assert.equal(totals.clipsLost + totals.clipsCorrupt + totals.duplicates, 0);
    assert.deepEqual(totals.leaks, []);
    // None, but on a machine that is too busy to encode them.
    assert.ok(totals.framesLost <= totals.framesDropped, JSON.stringify(totals));
    assert.ok(totals.liveMaxBytes > 0);
    // Handles and memory settle in minutes: `deno task soak` judges them.
  },
});
