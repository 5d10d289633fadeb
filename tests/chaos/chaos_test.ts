/**
 * A short, seeded slice of the chaos run; `deno task chaos` is the whole of it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { runChaos } from "./chaos.ts";

/** CI kills more often than a developer would wait for. */
const KILLS = Deno.env.get("CI") ? 50 : 5;

Deno.test(`after ${KILLS} kills no finished clip is lost or broken, and none cost over 2 s of video`, async () => {
  const totals = await runChaos({ kills: KILLS, seed: 20180113 });
  assert.equal(totals.clipsLost, 0);
  assert.equal(totals.clipsCorrupt, 0);
  assert.equal(totals.duplicates, 0);
  assert.ok(totals.clipsFinished > 0);
  assert.ok(totals.framesDelivered > 0);
  assert.ok(totals.maxLostMs <= 2000, `a kill cost ${totals.maxLostMs} ms of video`);
});
