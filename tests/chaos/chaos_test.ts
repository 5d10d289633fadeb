/**
 * A short, seeded slice of the chaos run; `deno task chaos` is the whole of it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { runChaos } from "./chaos.ts";

/** CI kills more often than a developer would wait for. */
const KILLS = Deno.env.get("CI") ? 50 : 5;

// How much video a kill costs is not asked here: it is the time for which a picture waits, and so a
// matter of how busy the machine is. `deno task chaos` measures it; that what waits is written down in
// any case is shown in simulated time, in tests/capture.
Deno.test(`after ${KILLS} kills nothing is lost that was said to be on the disk, nothing is broken, no secret told`, async () => {
  const totals = await runChaos({ kills: KILLS, seed: 20180113, beside: 2 });
  assert.deepEqual(totals.missed, []); // with the story of each
  assert.equal(totals.recordingsLost, 0, JSON.stringify(totals.worst));
  assert.equal(totals.clipsCorrupt, 0);
  assert.equal(totals.duplicates, 0);
  assert.equal(totals.leftovers, 0);
  assert.deepEqual(totals.leaks, []);
  assert.ok(totals.searchedForSecrets > 0);
  assert.ok(totals.clipsFinished > 0);
  assert.ok(totals.framesDelivered > 0);
});
