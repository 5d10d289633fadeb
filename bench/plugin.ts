/**
 * What it costs that a plugin's sink runs in a process of its own: the same sink isolated and in this
 * process, taking clips from files. `reads` takes the bytes and drops them, which leaves the way
 * there alone; `proves` hashes them while they pass, as every shipped sink does. A run without clips
 * is taken off, so the start does not count; it has a row of its own. `GIB` is how much is sent.
 *
 * @module
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Cost, measureProcess, median, type Row, row } from "./measure.ts";
import type { BenchOptions } from "./run.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const CLIPS = Math.max(1, Math.round(Number(Deno.env.get("GIB") ?? 1) * 16));
const CLIP_BYTES = 64 * 2 ** 20;
const GB = CLIPS * CLIP_BYTES / 1e9;

const sinkText = (deed: "reads" | "proves") =>
  `import { defineSink, provenBytes } from "camsink";
export default defineSink({
  name: "${deed}",
  config: { type: "object", properties: {}, additionalProperties: false },
  net: () => [],
  open: () => ({
    async put(clip, options) {
      let bytes = 0;
      for await (const part of ${deed === "reads" ? "clip.open()" : "provenBytes(clip, options)"}) {
        bytes += part.length;
      }
      if (bytes !== clip.bytes) throw new Error(bytes + " bytes");
      return { state: "stored" };
    },
  }),
});
`;

const HOW = ["isolated", "in-process"] as const;

/** Runs it. */
export async function benchPlugin({ rounds, say }: BenchOptions): Promise<readonly Row[]> {
  const folder = await mkdtemp(join(tmpdir(), "camsink-bench-plugin-"));
  try {
    const clip = join(folder, "clip.mp4");
    const block = crypto.getRandomValues(new Uint8Array(65_536));
    await writeFile(clip, new Uint8Array(CLIP_BYTES).map((_, i) => block[i % 65_536] ?? 0));
    const rows: Row[] = [];
    for (const deed of ["reads", "proves"] as const) {
      const plugin = join(folder, `${deed}.ts`);
      await writeFile(plugin, sinkText(deed));
      const costs = new Map<string, Cost[]>();
      for (let round = 0; round <= rounds; round++) {
        for (const how of HOW) {
          for (const clips of [0, CLIPS]) {
            say(`plugin: ${deed}, ${how}, ${clips} clips, round ${round}`);
            const cost = await measureProcess({
              command: [
                ...[Deno.execPath(), "run", "-A", `--config=${ROOT}deno.json`],
                ...[join(ROOT, "bench/plugin_run.ts"), how, plugin, clip, String(clips)],
              ],
            });
            const id = `${how} ${clips}`;
            // The first round warms up.
            if (round > 0) costs.set(id, [...costs.get(id) ?? [], cost]);
          }
        }
      }
      const of = (how: string, clips: number, what: "cpuS" | "wallS") =>
        median((costs.get(`${how} ${clips}`) ?? []).map((cost) => cost[what]));
      const perGb = (how: string, what: "cpuS" | "wallS") =>
        (of(how, CLIPS, what) - of(how, 0, what)) / GB;
      const peerName = "in this process";
      for (const [what, unit] of [["cpuS", "CPU-s/GB"], ["wallS", "s/GB"]] as const) {
        rows.push(row({
          measure: `${deed}, ${what === "cpuS" ? "CPU" : "time"}`,
          ours: perGb("isolated", what),
          peer: perGb("in-process", what),
          peerName,
          unit,
        }));
      }
      if (deed === "reads") {
        rows.push(row({
          measure: "start and end, CPU",
          ours: of("isolated", 0, "cpuS"),
          peer: of("in-process", 0, "cpuS"),
          peerName,
          unit: "CPU-s",
        }));
      }
    }
    return rows;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
