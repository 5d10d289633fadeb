/**
 * Kills the real program again and again (SIGKILL, at seeded random moments) while it records four
 * simulated cameras into a folder and, where Azurite is at hand, an object store behind a proxy that
 * breaks, loses and refuses every fourth request; and counts what was lost. The oracle is in the
 * pictures: each carries its camera, its counter and the time it was taken, so that what arrived says
 * what is missing. Every fourth kill comes while the program is still starting or mending, the others
 * at any moment of a clip.
 *
 *     deno task chaos --kills 1000 --seed 1 --json
 *
 * @module
 */
import { openSpoolView } from "../../core/spool/mod.ts";
import { listenOnLoopback } from "../../simulators/http_server.ts";
import { isAzuriteCached, type NestSimulator, startNestSimulator } from "../../simulators/mod.ts";
import { seededRandom } from "../../simulators/scene/random.ts";
import { createLeakSearch } from "../canary/leak_search.ts";
import { needs } from "../support/programs.ts";
import { startFaultyStore } from "./faulty_store.ts";
import { judge, type LostVideo, type MissedClip, type Run } from "./judge.ts";
import type { LogLine } from "../support/capture_until.ts";
import { startProgram } from "./program.ts";

/** What a run came to. Durations in ms. */
export interface ChaosTotals {
  readonly kills: number;
  readonly seed: number;
  /** Clips that the program called finished, or finished when it started again. */
  readonly clipsFinished: number;
  /** Of these, not in every sink at the end, or there with other bytes. */
  readonly clipsLost: number;
  /** Delivered, but not decodable from end to end. */
  readonly clipsCorrupt: number;
  /** Pictures that are in more than one clip. */
  readonly duplicates: number;
  /** Files of tries that were cut short and that nobody took away. */
  readonly leftovers: number;
  /** Requests to the object store that were broken, lost or refused; `null` without one. */
  readonly storeFaults: number | null;
  readonly framesDelivered: number;
  /** Of these, so many were only in a journal when the program was killed. */
  readonly framesFromJournals: number;
  /** Pictures that the cameras gave and no clip holds. */
  readonly framesLost: number;
  /** The longest stretch of video before a kill that was lost, over all cameras and kills. */
  readonly maxLostMs: number;
  readonly meanLostMs: number;
  /** The longest stretch of pictures that the program had been given, and that were lost. */
  readonly maxGivenLostMs: number;
  /** The kills that cost most, and what is known of where those pictures were. */
  readonly worst: readonly (LostVideo & { readonly encoder: "wasm" | "system" })[];
  /** Cameras that the program said to be recording when it was killed, and no picture is left of it. */
  readonly recordingsLost: number;
  /** Secrets found in what the program printed and left behind, in any of 40 encodings. */
  readonly leaks: readonly string[];
  /** Characters and bytes that were searched for them. */
  readonly searchedForSecrets: number;
  /** From the start of the program to the first picture recorded. */
  readonly restartP50Ms: number;
  readonly restartP95Ms: number;
  readonly seconds: number;
  /** The story of each clip that is not in a sink as it should be. */
  readonly missed: readonly MissedClip[];
}

/** See {@linkcode runChaos}. */
export interface ChaosOptions {
  readonly kills: number;
  readonly seed: number;
  readonly cameras?: number;
  readonly fps?: number;
  /** Deliver to a faulty object store too, where Azurite is at hand; the default. */
  readonly store?: boolean;
  /**
   * So many programs at a time, each with cameras, sinks and a share of the kills of its own. Default:
   * 1. Most of a kill is waiting for a clip, so two take little longer than one. Every second one
   * encodes with the system's ffmpeg, where there is one.
   */
  readonly beside?: number;
  /** Told after each kill. */
  readonly onProgress?: (kill: number) => void;
}

/** Lines of the log that are kept for the stories; a kill makes a few dozen. */
const MAX_LINES = 200_000;

const CLIP_MS = 3000;

/** The longest of the last runs, which a machine that is not overloaded never needs, s. */
const LAST_S = 128;

/** How long the program takes to be recording, at most, on a machine that is not busy, ms. */
const START_MS = 1500;

/** One seeded run. Takes about three seconds a kill. */
export async function runChaos(options: ChaosOptions): Promise<ChaosTotals> {
  const { kills, seed, beside = 1 } = options;
  const startMs = performance.now();
  const hasFfmpeg = !needs("ffmpeg").ignore;
  let killed = 0;
  const onProgress = () => options.onProgress?.(++killed);
  const parts = await Promise.all(Array.from({ length: beside }, (_, index) =>
    runPart({
      ...options,
      onProgress,
      encoder: index % 2 === 1 && hasFfmpeg ? "system" : "wasm",
      kills: Math.floor((kills + index) / beside),
      seed: seed + index * 7919,
    })));
  const sum = (of: (part: Part) => number) => parts.reduce((total, part) => total + of(part), 0);
  const restartsMs = parts.flatMap((part) => part.restartsMs);
  return {
    kills: sum((part) => part.kills),
    seed,
    clipsFinished: sum((part) => part.clipsFinished),
    clipsLost: sum((part) => part.clipsLost),
    clipsCorrupt: sum((part) => part.clipsCorrupt),
    duplicates: sum((part) => part.duplicates),
    leftovers: sum((part) => part.leftovers),
    storeFaults: parts.some((part) => part.storeFaults === null)
      ? null
      : sum((part) => part.storeFaults ?? 0),
    framesDelivered: sum((part) => part.framesDelivered),
    framesFromJournals: sum((part) => part.framesFromJournals),
    framesLost: sum((part) => part.framesLost),
    maxLostMs: Math.max(...parts.map((part) => part.maxLostMs)),
    meanLostMs: Math.round(sum((part) => part.meanLostMs * part.kills) / kills),
    maxGivenLostMs: Math.max(...parts.map((part) => part.maxGivenLostMs)),
    worst: parts.flatMap(({ worst, encoder }) => worst.map((lost) => ({ ...lost, encoder })))
      .sort((a, b) => b.lostMs - a.lostMs).slice(0, 3),
    recordingsLost: sum((part) => part.recordingsLost),
    leaks: parts.flatMap((part) => part.leaks),
    searchedForSecrets: sum((part) => part.searchedForSecrets),
    restartP50Ms: percentile(restartsMs, 0.5),
    restartP95Ms: percentile(restartsMs, 0.95),
    seconds: Math.round((performance.now() - startMs) / 1000),
    missed: parts.flatMap((part) => part.missed),
  };
}

type Part = Awaited<ReturnType<typeof runPart>>;

async function runPart(options: ChaosOptions & { readonly encoder: "wasm" | "system" }) {
  const { kills, seed, cameras = 4, fps = 5 } = options;
  const random = seededRandom(seed);
  const root = await Deno.makeTempDir({ prefix: "camsink-chaos-" });
  await using simulator = await startNestSimulator({
    cameras: Array.from({ length: cameras }, (_, index) => ({ name: `camera ${index + 1}` })),
  });
  await using store = options.store !== false && await isAzuriteCached()
    ? await startFaultyStore(root, random)
    : undefined;
  const secrets = {
    token: simulator.credentials.accessToken,
    webhook: `CnryHook${crypto.randomUUID()}`,
    heartbeat: `CnryBeat${crypto.randomUUID()}`,
    ...(store ? { storeKey: store.key } : {}),
  };
  const leakSearch = createLeakSearch(secrets);
  await using others = new AsyncDisposableStack();
  const alerted = await listenOnLoopback({ handle: () => Promise.resolve({}) });
  others.defer(() => alerted.close());
  const config = `${root}/camsink.json`;
  await Deno.writeTextFile(
    config,
    JSON.stringify({
      accounts: {
        home: {
          type: "nest",
          accessToken: "env:CHAOS_TOKEN",
          cameras: "all",
          width: 320,
          fps,
          endpoints: simulator.endpoints,
        },
      },
      clip: { length: `${CLIP_MS / 1000}s` },
      encoder: { use: options.encoder },
      spool: { path: `${root}/spool` },
      sinks: {
        local: { type: "local-folder", path: `${root}/clips` },
        ...(store ? { store: { type: "azure-blob", connectionString: "env:CHAOS_STORE" } } : {}),
      },
      alerts: { webhook: "env:CHAOS_HOOK", heartbeat: "env:CHAOS_BEAT" },
    }),
  );
  try {
    const finished = new Map<string, string>();
    const runs: Run[] = [];
    const restartsMs: number[] = [];
    const log: LogLine[] = [];
    let framesFromJournals = 0;
    let life = 0;
    const start = (args: readonly string[] = []) => {
      const current = ++life;
      return startProgram(["--config", config, "--log-level", "debug", ...args], {
        env: {
          CHAOS_TOKEN: simulator.credentials.accessToken,
          CHAOS_STORE: store?.connectionString ?? "",
          CHAOS_HOOK: `${alerted.url}/${secrets.webhook}`,
          CHAOS_BEAT: `${alerted.url}/${secrets.heartbeat}`,
        },
        finished,
        onText: leakSearch.printed,
        onLine: (line) => {
          if (line.event === "journal-recorded") framesFromJournals += Number(line.pictures);
          const isOfUse = line.key !== undefined || line.event === "behind" ||
            /\.mp4|sink|drain/.test(String(line.message));
          if (!isOfUse) return;
          log.push({ life: current, readAtMs: Date.now(), ...line });
          if (log.length > MAX_LINES) log.shift();
        },
      });
    };
    for (let kill = 1; kill <= kills; kill++) {
      await using program = start();
      const startedAtMs = Date.now();
      const startedAt = performance.now();
      const takenMs = watchPictures(simulator);
      if (kill % 4 === 0) await delay(random() * START_MS);
      else {
        await program.recording(cameras);
        restartsMs.push(performance.now() - startedAt);
        await delay(random() * CLIP_MS);
      }
      program.kill("SIGKILL");
      const killed = { life, takenMs: takenMs(), startedAtMs, killedAtMs: Date.now() };
      await program.ended; // what it said before is read
      runs.push({ ...killed, recorded: program.recorded });
      options.onProgress?.(kill);
    }
    // The last runs are left alone: they must repair, record and deliver what the killed ones left
    // behind; after `--for` the sinks have a minute. A machine for which that is too little gets more
    // runs, longer and longer ones, as long as anything is left.
    store?.heal();
    for (let seconds = 2; seconds <= LAST_S; seconds *= 4) {
      await using last = start(["--for", `${seconds}s`]);
      await last.ended;
      if (await leftIn(`${root}/spool`) === 0) break;
    }
    await leakSearch.files(`${root}/spool`);
    await leakSearch.files(`${root}/clips`);
    return {
      kills,
      encoder: options.encoder,
      leaks: leakSearch.leaks(),
      searchedForSecrets: leakSearch.searched,
      ...await judge({
        folder: `${root}/clips`,
        spool: `${root}/spool`,
        ...(store ? { stored: await store.objects(), requestsFor: store.requestsFor } : {}),
        log,
        finished,
        runs,
        cameras: simulator.cameras,
      }),
      framesFromJournals,
      storeFaults: store?.faults() ?? null,
      restartsMs,
    };
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

const delay = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** What a spool still has to do: deliveries, interrupted clips, pictures that are in no clip. */
async function leftIn(spool: string): Promise<number> {
  using view = await openSpoolView(spool, { now: () => Date.now() });
  const open = await Array.fromAsync(Deno.readDir(`${spool}/open`));
  return view.list({ delivery: { state: "waiting" }, limit: 1e6 }).length +
    open.filter(({ name }) => /\.(pictures|part)$/.test(name)).length;
}

/** Notes when each camera gives its first and its last picture from now on. */
function watchPictures(simulator: NestSimulator): () => Run["takenMs"] {
  const first = new Map<string, number>();
  const before = new Map(simulator.cameras.map(({ name, served }) => [name, served.lastCounter]));
  const look = () => {
    for (const { name, served } of simulator.cameras) {
      const isNew = served.lastCounter > (before.get(name) ?? 0);
      if (isNew && !first.has(name) && served.lastTakenAtMs !== undefined) {
        first.set(name, served.lastTakenAtMs);
      }
    }
  };
  const timer = setInterval(look, 10);
  return () => {
    clearInterval(timer);
    look();
    return new Map(simulator.cameras.flatMap(({ name, served: { lastTakenAtMs } }) => {
      const taken = first.get(name);
      return taken === undefined || lastTakenAtMs === undefined
        ? []
        : [[name, { first: taken, last: lastTakenAtMs }]];
    }));
  };
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0);
}
