/**
 * `deno task soak`: records for as long as asked, and prints what it took and what it cost.
 *
 * @module
 */
import { parseArgs } from "node:util";
import * as v from "valibot";
import { duration, formatBytes, formatDuration } from "../../core/config/values.ts";
import { runSoak, type Sample } from "./soak.ts";

/** Beyond what it may wander by, whatever the time, 1 MB an hour is a leak. */
const LEAK_BYTES_PER_HOUR = 1e6;
/** What the program holds: a clip more or less under way. */
const LIVE_WANDER_BYTES = 2e6;
/** What it takes of the machine: freed memory is not given back at once, and workers have garbage. */
const RSS_WANDER_BYTES = 32e6;

const { values } = parseArgs({
  args: Deno.args,
  options: {
    for: { type: "string", default: "10m" },
    cameras: { type: "string", default: "4" },
    json: { type: "boolean", default: false },
  },
});
const forMs = v.safeParse(duration({ minMs: 10_000 }), values.for);
const cameras = Number(values.cameras);
if (!forMs.success || !Number.isInteger(cameras) || cameras < 1) {
  console.error(
    `--for ${values.for} --cameras ${values.cameras}: expected a time from 10s, such as 10m or 2h, ` +
      "and a number of cameras",
  );
  Deno.exit(2);
}
const rows: Sample[] = [];
const totals = await runSoak({
  forMs: forMs.output,
  cameras,
  onSample(sample) {
    rows.push(sample);
    if (values.json || rows.length % 12 !== 0) return;
    console.error(
      `${formatDuration(sample.atMs)}: ${formatBytes(sample.rssBytes)} of memory, ` +
        `${sample.handles} handles, ${sample.threads} threads, ${sample.cpuS.toFixed(0)} s of CPU`,
    );
  },
});
if (values.json) console.log(JSON.stringify(totals));
else console.table({ ...totals, leaks: totals.leaks.length });
for (const leak of totals.leaks) console.error(`leaked: ${leak}`);
const hours = totals.forMs / 3_600_000;
const broken =
  totals.clipsLost + totals.clipsCorrupt + totals.duplicates + totals.leaks.length > 0 ||
  totals.framesLost > totals.framesDelivered / 1000 || totals.handleGrowth > 4 ||
  totals.liveGrowthBytes > LIVE_WANDER_BYTES + LEAK_BYTES_PER_HOUR * hours ||
  totals.collectedRssGrowthBytes > RSS_WANDER_BYTES + LEAK_BYTES_PER_HOUR * hours;
Deno.exit(broken ? 1 : 0);
