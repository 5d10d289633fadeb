/**
 * `deno task chaos`: kills the program as often as asked, and prints what it cost.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { runChaos } from "./chaos.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    kills: { type: "string", default: "20" },
    seed: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
const kills = Number(values.kills);
const seed = Number(values.seed);
if (!Number.isInteger(kills) || kills < 1 || !Number.isInteger(seed)) {
  console.error(`--kills ${values.kills} --seed ${values.seed}: expected whole numbers`);
  Deno.exit(2);
}
const totals = await runChaos({
  kills,
  seed,
  onProgress: (kill) => {
    if (!values.json && kill % 10 === 0) console.error(`${kill} of ${kills} kills`);
  },
});
if (values.json) console.log(JSON.stringify(totals));
else console.table(totals);
const broken = totals.clipsLost + totals.clipsCorrupt + totals.duplicates > 0 ||
  totals.maxLostMs > 2000;
Deno.exit(broken ? 1 : 0);
