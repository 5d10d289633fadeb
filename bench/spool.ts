/**
 * What it costs to keep clips safe. Four cameras with ten fragments of 250 kB a second each (so that
 * six seconds stand for four camera-minutes) write into a spool in the ways that were weighed; then
 * how long a spool with many waiting clips takes to open.
 *
 * The files lie in the temporary folder: point `TMPDIR` at the disk in question. CPU time is this
 * process's own, given per camera-hour (3600 fragments).
 *
 * @module
 */
import { cpuUsage } from "node:process";
import { systemClock } from "../core/clock.ts";
import { DirectWrites } from "../core/spool/direct_writes.ts";
import { diskFs, type SpoolFile, type SpoolFs, writeGathered } from "../core/spool/fs.ts";
import { openSpool } from "../core/spool/mod.ts";
import { Staging } from "../core/spool/staging.ts";
import { SyncRounds } from "../core/spool/sync_rounds.ts";
import { type Row, row } from "./measure.ts";
import type { BenchOptions } from "./run.ts";

const CAMERAS = 4;
const FRAGMENTS = 60;
const PERIOD_MS = 100;
const CLIPS = 1000;

/** One GOP of a second at 2 Mbit/s: a header, 30 pictures, 47 audio frames. */
const FRAGMENT: readonly Uint8Array[] = [
  new Uint8Array(800),
  ...Array.from({ length: 30 }, () => new Uint8Array(7800).fill(1)),
  ...Array.from({ length: 47 }, () => new Uint8Array(340).fill(2)),
];
const FRAGMENT_BYTES = FRAGMENT.reduce((sum, chunk) => sum + chunk.length, 0);

/** A way of writing. */
interface Policy {
  /** Adds one fragment to a file. */
  append(file: SpoolFile, atByte: number): Promise<void>;
  /** Resolves when nothing is going on behind it any more. */
  settled?(): Promise<void>;
}

interface PolicyCost {
  readonly cpuSPerCameraHour: number;
  /** Of all appends, the slowest but one in a hundred, ms. */
  readonly waitP99Ms: number;
}

const staging = new Staging();
const gathered = async (file: SpoolFile, atByte: number) => {
  await staging.lend((buffer) => writeGathered(file, FRAGMENT, { atByte, staging: buffer }));
};

/** Past the system's cache. @throws where the file system cannot */
function direct(): Policy["append"] {
  const writers = new Map<SpoolFile, DirectWrites>();
  return async (file, atByte) => {
    const writer = writers.get(file) ?? new DirectWrites(file);
    writers.set(file, writer);
    if (atByte === 0 && !file.setDirect?.(true)) throw new Error("not past this system's cache");
    await staging.lend((buffer) => writer.append(FRAGMENT, { atByte, staging: buffer }));
  };
}

function inRounds(append: Policy["append"]): Policy {
  const rounds = new SyncRounds();
  return {
    append: async (file, atByte) => {
      await append(file, atByte);
      rounds.add(file);
    },
    settled: () => rounds.idle(),
  };
}

/** The ways of appending. Each is made anew for every run. */
const POLICIES: Readonly<Record<string, () => Policy>> = {
  ours: () => inRounds(direct()),
  "through the system's cache": () => inRounds(gathered),
  "no sync at all": () => ({ append: gathered }),
  "a sync after every append, waited for": () => ({
    append: async (file, atByte) => {
      await gathered(file, atByte);
      await file.sync();
    },
  }),
  "a write per chunk": () =>
    inRounds(async (file, atByte) => {
      await writeGathered(file, FRAGMENT, { atByte, staging: new Uint8Array(0) });
    }),
};

async function measurePolicy(folder: string, policy: Policy): Promise<PolicyCost> {
  const files: SpoolFile[] = [];
  for (let camera = 0; camera < CAMERAS; camera++) {
    files.push(await diskFs.open(`${folder}/camera-${camera}`, "replace"));
  }
  const waitsMs: number[] = [];
  const before = cpuUsage();
  const startMs = performance.now();
  await Promise.all(files.map(async (file, camera) => {
    for (let count = 0; count < FRAGMENTS; count++) {
      // The cameras' key pictures do not come together.
      const dueMs = startMs + (count + camera / CAMERAS) * PERIOD_MS;
      await systemClock.sleep(Math.max(0, dueMs - performance.now()));
      const beganMs = performance.now();
      await policy.append(file, count * FRAGMENT_BYTES);
      waitsMs.push(performance.now() - beganMs);
    }
  }));
  await policy.settled?.();
  const { user, system } = cpuUsage(before);
  files.forEach((file) => file.close());
  waitsMs.sort((a, b) => a - b);
  return {
    cpuSPerCameraHour: (user + system) / 1e6 / (CAMERAS * FRAGMENTS) * 3600,
    waitP99Ms: waitsMs[Math.floor(waitsMs.length * 0.99)] ?? NaN,
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

/** The disk without its syncs: for making many clips quickly. */
const unsyncedFs: SpoolFs = {
  ...diskFs,
  open: async (path, mode) => ({ ...await diskFs.open(path, mode), sync: () => Promise.resolve() }),
  syncFolder: () => Promise.resolve(),
};

const quiet = () => {};

/** Times a clip's end and a receipt, then the opening of a spool full of clips, all in ms. */
async function measureSpool(path: string) {
  const options = {
    path,
    clock: systemClock,
    log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
    sinks: ["a", "b"],
    keepMs: 1e12,
    reserveBytes: 0,
    recover: () => Promise.resolve({ state: "empty" as const }),
  };
  const clip = (minute: number) => ({
    camera: `Camera ${minute % 4}`,
    slug: `camera-${minute % 4}`,
    start: new Date(Date.UTC(2026, 7, 21, 0, minute)),
    contentType: "video/mp4",
  });
  let finishMs = 0;
  let receiptMs = 0;
  {
    await using spool = await openSpool(options);
    const open = await spool.begin(clip(0));
    for (let count = 0; count < 60; count++) await open.append(FRAGMENT);
    const beganMs = performance.now();
    const { key } = await open.finish({
      end: new Date(),
      tail: [new Uint8Array(30_000)],
      frames: 1,
    });
    const finishedMs = performance.now();
    await spool.receipt("a", key, { state: "stored" });
    receiptMs = performance.now() - finishedMs;
    finishMs = finishedMs - beganMs;
  }
  {
    await using spool = await openSpool({ ...options, fs: unsyncedFs });
    for (let minute = 1; minute <= CLIPS; minute++) {
      const open = await spool.begin(clip(minute));
      await open.append([new Uint8Array(1000)]);
      await open.finish({ end: new Date(), tail: [], frames: 1 });
    }
  }
  const timeOpen = async () => {
    const beganMs = performance.now();
    await using spool = await openSpool(options);
    const ms = performance.now() - beganMs;
    if (spool.backlog("b").clips !== CLIPS + 1) throw new Error("the bench has lost clips");
    return ms;
  };
  const openMs = await timeOpen();
  for (const suffix of ["", "-wal", "-shm"]) await diskFs.remove(`${path}/catalogue.db${suffix}`);
  return { finishMs, receiptMs, openMs, rebuildMs: await timeOpen() };
}

/** Runs the bench. */
export async function benchSpool({ rounds, say }: BenchOptions): Promise<readonly Row[]> {
  const folder = await Deno.makeTempDir({ prefix: "camsink-bench-spool-" });
  try {
    const names = Object.keys(POLICIES);
    const costs = new Map<string, PolicyCost[]>(names.map((name) => [name, []]));
    for (let round = 0; round < rounds; round++) {
      for (const name of round % 2 === 0 ? names : names.toReversed()) {
        const cost = await measurePolicy(folder, POLICIES[name]?.() ?? { append: gathered });
        costs.get(name)?.push(cost);
        const { cpuSPerCameraHour, waitP99Ms } = cost;
        say(
          `spool: ${name}: ${cpuSPerCameraHour.toFixed(2)} CPU-s per camera-hour, ` +
            `append p99 ${waitP99Ms.toFixed(1)} ms`,
        );
      }
    }
    const cpu = (name: string) =>
      median((costs.get(name) ?? []).map(({ cpuSPerCameraHour }) => cpuSPerCameraHour));
    const wait = (name: string) =>
      median((costs.get(name) ?? []).map(({ waitP99Ms }) => waitP99Ms));
    say(`spool: making ${CLIPS} clips …`);
    const spool = await measureSpool(`${folder}/spool`);
    say(
      `spool: finish of 15 MB ${spool.finishMs.toFixed(0)} ms, ` +
        `receipt ${spool.receiptMs.toFixed(1)} ms`,
    );
    const synced = "a sync after every append, waited for";
    return [
      ...names.slice(1).map((peerName) =>
        row({
          measure: "write a camera's fragments",
          ours: cpu("ours"),
          peer: cpu(peerName),
          peerName,
          unit: "CPU-s/camera-hour",
        })
      ),
      row({
        measure: "append, slowest of a hundred",
        ours: wait("ours"),
        peer: wait(synced),
        peerName: synced,
        unit: "ms",
      }),
      row({
        measure: `open with ${CLIPS} clips waiting`,
        ours: spool.openMs,
        peer: CLIPS,
        peerName: "promise: 1 s per 1000",
        unit: "ms",
        goal: 1,
      }),
      row({
        measure: `open with ${CLIPS} clips, catalogue lost`,
        ours: spool.rebuildMs,
        peer: CLIPS,
        peerName: "promise: 1 s per 1000",
        unit: "ms",
        goal: 1,
      }),
    ];
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
