/** `camsink bench`: what it measures, what it reckons where there is no time, and what it says. */
import assert from "node:assert/strict";
import { type BenchRow, measure } from "../../commands/bench.ts";
import { systemClock } from "../../core/clock.ts";
import { type EngineProbe, rateOf } from "../../core/encode/mod.ts";
import { createTestLog } from "../encode/support.ts";
import { findProgram } from "../support/programs.ts";
import { inTempFolder, runCli } from "../support/run_cli.ts";

const SMALL = { widthPx: 320, heightPx: 180 };
const LARGE = { widthPx: 640, heightPx: 360 };
const FILL = 0.7;

async function rowsOf(options: Partial<Parameters<typeof measure>[0]>): Promise<BenchRow[]> {
  return await Array.fromAsync(measure({
    ...{ budgetMs: 2000, clock: systemClock, log: createTestLog(), sizes: [SMALL, LARGE] },
    ...{ signal: new AbortController().signal, ...options },
  }));
}

Deno.test("bench measures each size with each engine, and a stream", async () => {
  // Over as soon as it has enough; a machine that is slow may take all of it.
  const rows = await rowsOf({ budgetMs: 120_000 });
  for (const engine of findProgram("ffmpeg") ? ["wasm", "system"] : ["wasm"]) {
    for (const { widthPx } of [SMALL, LARGE]) {
      const row = rows.find((row) =>
        row.kind === "snapshots" && row.engine === engine && row.widthPx === widthPx
      );
      assert.ok(row?.kind === "snapshots", `${engine} in ${JSON.stringify(rows)}`);
      const { picturesPerSecond, cameras, reckoned } = row;
      assert.ok(
        picturesPerSecond > 0.1 && picturesPerSecond < 10_000 && !reckoned,
        JSON.stringify(rows),
      );
      assert.equal(cameras["1"], Math.floor(FILL * picturesPerSecond));
      assert.equal(cameras["10"], Math.floor(FILL * picturesPerSecond / 10));
    }
  }
  const streams = rows.find((row) => row.kind === "streams");
  assert.ok(streams?.kind === "streams", JSON.stringify(rows));
  const { cpuSpeed, diskSpeed, cameras } = streams;
  assert.ok(cpuSpeed > 1 && diskSpeed > 1, JSON.stringify(streams));
  assert.equal(cameras, Math.floor(FILL * Math.min(diskSpeed, cpuSpeed / 20)));
});

Deno.test("an encoder's speed is that of its second half, also where it gives everything at its end", () => {
  const every = (ms: number, count: number, fromMs = 0) =>
    Array.from({ length: count }, (_, i) => fromMs + ms * (i + 1));
  assert.equal(rateOf(every(10, 40), 0), 100);
  assert.equal(rateOf([...every(30, 20), ...every(10, 20, 600)], 0), 100);
  assert.equal(rateOf(Array.from({ length: 40 }, () => 200), 0), 400); // on average 200
  assert.equal(rateOf([500], 0), 2);
});

Deno.test("bench reckons a size from its pixels where no picture of it came out in time", async () => {
  // Time passes by being looked at, so that it does not depend on the machine.
  let atMs = 0;
  const clock = { ...systemClock, monotonic: () => atMs++ };
  const engine = { engine: "wasm", description: "slow" } as const;
  const sharesMs: number[] = [];
  const open = () =>
    Promise.resolve({
      engines: [{ name: engine.engine, description: engine.description }],
      probe(
        _: readonly Uint8Array[],
        { forMs = Infinity }: { readonly forMs?: number },
      ): Promise<readonly EngineProbe[]> {
        sharesMs.push(forMs);
        atMs += forMs;
        return Promise.resolve([
          sharesMs.length === 1
            ? { ...engine, ok: true, preset: "fast", picturesPerSecond: 8 }
            : { ...engine, ok: false, error: "no picture came out" },
        ]);
      },
      [Symbol.asyncDispose]: () => Promise.resolve(),
    });
  const rows = await rowsOf({ clock, open, budgetMs: 500 });
  // What is left is shared among those that wait.
  assert.ok(sharesMs.length === 2 && sharesMs.every((ms) => ms > 100 && ms < 200), `${sharesMs}`);
  const [small, large] = rows;
  assert.ok(small?.kind === "snapshots" && large?.kind === "snapshots", JSON.stringify(rows));
  assert.deepEqual([small.reckoned, large.reckoned], [false, true]);
  assert.equal(large.picturesPerSecond, small.picturesPerSecond / 4);
});

Deno.test("bench with hardly any time says what it could not measure, and leaves nothing behind", () =>
  inTempFolder(async (cwd) => {
    const env = { TMPDIR: cwd };
    const { stdout } = await runCli(["bench", "--for", "1ms"], { cwd, env });
    assert.match(stdout, /snapshots 1080p +not measured: there was no time/);
    assert.match(stdout, /live streams 1080p +about \d+ cameras of 3 Mbit\/s/);
    assert.deepEqual([...Deno.readDirSync(cwd)].map(({ name }) => name), []);
  }));

Deno.test("bench --json gives the load that it measured under", () =>
  inTempFolder(async (cwd) => {
    const { code, stdout } = await runCli(["bench", "--json", "--for", "1ms"], { cwd });
    assert.equal(code, 0);
    const { event, cores, load, rows } = JSON.parse(stdout) as Record<string, unknown>;
    assert.equal(event, "bench");
    assert.ok(Number(cores) >= 1 && Number(load) >= 0, stdout);
    assert.ok(Array.isArray(rows) && rows.length === 3, stdout);
  }));
