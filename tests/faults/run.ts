/**
 * `deno task faults [--clips N] [--seed S] [--json]`: the full run of `faults.ts`, 10,000 clips
 * without other word. Exit code 1 if one clip is missing, wrong or there twice, or a
 * secret was told.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { runFaults } from "./faults.ts";

const { values } = parseArgs({
  options: {
    clips: { type: "string", default: "10000" },
    seed: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
const clips = Number(values.clips);
const report = await runFaults({
  clips,
  seed: Number(values.seed),
  onProgress: (arrived) => console.error(`${arrived} of ${clips}`),
});
if (values.json) console.log(JSON.stringify(report));
else console.table({ ...report, leaks: report.leaks.length });
const { delivered, objects, wrong, putAside, leaks } = report;
Deno.exit(
  delivered === clips && objects === clips && wrong + putAside + leaks.length === 0 ? 0 : 1,
);
