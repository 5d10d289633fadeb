/**
 * A short, seeded slice of the chaos run; `deno task chaos` is the whole of it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { runChaos } from "./chaos.ts";

/** CI kills more often than a developer would wait for. */
const KILLS = Deno.env.get("CI") ? 50 : 5;

/** What two programs beside each other take from their start to all cameras recorded, at most, ms. */
const USUAL_START_MS = 3000;

Deno.test(`after ${KILLS} kills no finished clip is lost or broken, and none cost over 2 s of video`, async () => {
  const totals = await runChaos({ kills: KILLS, seed: 20180113, beside: 2 });
  assert.deepEqual(totals.missed, []); // with the story of each
  assert.equal(totals.clipsCorrupt, 0);
  assert.equal(totals.duplicates, 0);
  assert.equal(totals.leftovers, 0);
  assert.ok(totals.clipsFinished > 0);
  assert.ok(totals.framesDelivered > 0);
  // Where the machine is so busy that starting alone takes longer, everything else does too.
  const allowedMs = 2000 * Math.max(1, totals.restartP50Ms / USUAL_START_MS);
  assert.ok(totals.maxLostMs <= allowedMs, `a kill cost ${totals.maxLostMs} ms of video`);
});
