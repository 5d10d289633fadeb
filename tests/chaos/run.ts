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
    beside: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
const kills = Number(values.kills);
const seed = Number(values.seed);
const beside = Number(values.beside);
if (
  !Number.isInteger(kills) || kills < 1 || !Number.isInteger(seed) || !(beside >= 1 && beside <= 16)
) {
  console.error(
    `--kills ${values.kills} --seed ${values.seed} --beside ${values.beside}: expected whole numbers, ` +
      "and 1 to 16 programs beside each other",
  );
  Deno.exit(2);
}
const totals = await runChaos({
  kills,
  seed,
  beside: Math.floor(beside),
  onProgress: (kill) => {
    if (kill % 10 === 0) console.error(`${kill} of ${kills} kills`);
  },
});
const { missed, worst, leaks, ...figures } = totals;
if (values.json) console.log(JSON.stringify(totals));
else {
  console.table({ ...figures, leaks: leaks.length });
  for (const lost of worst) console.log(JSON.stringify(lost));
  for (const leak of leaks) console.log(`leaked: ${leak}`);
  for (const story of missed) console.log(JSON.stringify(story, undefined, 2));
}
const broken = totals.clipsLost + totals.clipsCorrupt + totals.duplicates + totals.leftovers +
        totals.recordingsLost + leaks.length > 0 ||
  totals.maxLostMs > 2000;
Deno.exit(broken ? 1 : 0);
