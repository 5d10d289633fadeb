/**
 * Kills the real program again and again (SIGKILL, at seeded random moments) while it records four
 * simulated cameras into a folder and an object store that fails now and then, and counts what was
 * lost. The oracle is in the pictures: each carries its camera, its counter and the time it was
 * taken, so that what arrived says what is missing.
 *
 *     deno task chaos --kills 1000 --seed 1 --json
 *
 * @module
 */
import { TextLineStream } from "../support/text_lines.ts";
import { readClip } from "../support/clip_frames.ts";
import { walkFiles } from "../support/walk_files.ts";
import { cameraCode, type NestSimulator, startNestSimulator } from "../../simulators/mod.ts";
import { seededRandom } from "../../simulators/scene/random.ts";

/** What a run came to. Durations in ms. */
export interface ChaosTotals {
  readonly kills: number;
  readonly seed: number;
  /** Clips that the program called finished, or finished when it started again. */
  readonly clipsFinished: number;
  /** Of these, not in the sink at the end, or there with other bytes. */
  readonly clipsLost: number;
  /** Delivered, but not decodable from end to end. */
  readonly clipsCorrupt: number;
  /** Pictures that are in more than one place. */
  readonly duplicates: number;
  readonly framesDelivered: number;
  /** Pictures that the cameras gave and no clip holds. */
  readonly framesLost: number;
  /** The longest stretch of video before a kill that was lost, over all cameras and kills. */
  readonly maxLostMs: number;
  readonly meanLostMs: number;
  /** From the start of the program to the first picture recorded. */
  readonly restartP50Ms: number;
  readonly restartP95Ms: number;
}

/** See {@linkcode runChaos}. */
export interface ChaosOptions {
  readonly kills: number;
  readonly seed: number;
  readonly cameras?: number;
  readonly fps?: number;
  /** Told after each kill. */
  readonly onProgress?: (kill: number) => void;
}

const CLI = new URL("../../cli.ts", import.meta.url).pathname;
const CLIP_MS = 5000;

/** One seeded run. Takes about four seconds a kill. */
export async function runChaos(options: ChaosOptions): Promise<ChaosTotals> {
  const { kills, seed, cameras = 4, fps = 5 } = options;
  const random = seededRandom(seed);
  const root = await Deno.makeTempDir({ prefix: "camsink-chaos-" });
  await using simulator = await startNestSimulator({
    cameras: Array.from({ length: cameras }, (_, index) => ({ name: `camera ${index + 1}` })),
  });
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
      spool: { path: `${root}/spool` },
      sinks: { local: { type: "local-folder", path: `${root}/clips` } },
    }),
  );
  try {
    const finished = new Map<string, string>();
    const runs: Run[] = [];
    const restartsMs: number[] = [];
    for (let kill = 1; kill <= kills; kill++) {
      const program = startProgram(config, simulator.credentials.accessToken, finished);
      const startedAt = performance.now();
      const firstTakenMs = watchFirstPictures(simulator);
      await program.recording(cameras);
      restartsMs.push(performance.now() - startedAt);
      await delay(300 + random() * 4000);
      program.kill("SIGKILL");
      runs.push({ firstTakenMs: firstTakenMs(), killedAtMs: Date.now() });
      await program.ended;
      options.onProgress?.(kill);
    }
    // The last run is left alone: it must repair and deliver what the killed ones left behind.
    const last = startProgram(config, simulator.credentials.accessToken, finished);
    await last.recording(cameras);
    await delay(CLIP_MS);
    last.kill("SIGINT");
    await last.ended;
    return {
      kills,
      seed,
      ...await judge({ root, finished, runs, cameras: simulator.cameras }),
      restartP50Ms: percentile(restartsMs, 0.5),
      restartP95Ms: percentile(restartsMs, 0.95),
    };
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

const delay = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

interface Program {
  /** Resolves when so many cameras are being recorded. */
  recording(cameras: number): Promise<void>;
  kill(signal: Deno.Signal): void;
  readonly ended: Promise<void>;
}

/** Starts the program, and notes each clip that it calls finished with its hash. */
function startProgram(config: string, token: string, finished: Map<string, string>): Program {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-prompt", CLI, "capture", "--config", config, "--json"],
    env: { CHAOS_TOKEN: token },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const said: string[] = [];
  const recorded = new Set<string>();
  let check = () => {};
  const read = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    for await (
      const line of stream.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())
    ) {
      said.push(line);
      if (said.length > 200) said.shift();
      if (!line.startsWith("{")) continue;
      const { event, key, sha256, category } = JSON.parse(line);
      if (event === "clip-finished") finished.set(key, sha256);
      if (event === "recording") recorded.add(String(category));
      check();
    }
  };
  const reading = Promise.all([read(child.stdout), read(child.stderr)]);
  const ended = Promise.all([child.status, reading]).then(() => {});
  return {
    recording: (cameras) =>
      new Promise((resolve, reject) => {
        check = () => {
          if (recorded.size >= cameras) resolve();
        };
        check();
        ended.then(() => reject(new Error(`the program ended by itself:\n${said.join("\n")}`)));
      }),
    kill: (signal) => child.kill(signal),
    ended,
  };
}

/** One life of the program, wall ms. */
interface Run {
  /** When the first picture that it was given was taken, by camera. */
  readonly firstTakenMs: ReadonlyMap<string, number>;
  readonly killedAtMs: number;
}

/** Notes when each camera gives its first picture from now on. */
function watchFirstPictures(simulator: NestSimulator): () => ReadonlyMap<string, number> {
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
    return first;
  };
}

interface Evidence {
  readonly root: string;
  readonly finished: ReadonlyMap<string, string>;
  readonly runs: readonly Run[];
  readonly cameras: readonly { readonly name: string }[];
}

async function judge({ root, finished, runs, cameras }: Evidence) {
  const folder = `${root}/clips`;
  const delivered = new Map<string, string>();
  const frames = new Map<number, Map<number, number>>();
  let clipsCorrupt = 0;
  let duplicates = 0;
  let framesDelivered = 0;
  for await (const path of walkFiles(folder)) {
    const bytes = await Deno.readFile(path);
    delivered.set(path.slice(folder.length + 1), await sha256Hex(bytes));
    try {
      for (const { strip } of (await readClip(bytes)).frames) {
        if (!strip) throw new Error("a picture without a readable strip");
        framesDelivered++;
        const seen = frames.get(strip.camera) ?? new Map<number, number>();
        frames.set(strip.camera, seen);
        if (seen.has(strip.counter)) duplicates++;
        seen.set(strip.counter, strip.takenAtMs);
      }
    } catch (error) {
      clipsCorrupt++;
      console.error(`${path}: ${error}`);
    }
  }
  const clipsLost = [...finished].filter(([key, sha256]) => delivered.get(key) !== sha256).length;
  const lostMs: number[] = [];
  let framesLost = 0;
  for (const { name } of cameras) {
    const seen = frames.get(cameraCode(name)) ?? new Map<number, number>();
    const counters = [...seen.keys()].sort((a, b) => a - b);
    for (let index = 1; index < counters.length; index++) {
      framesLost += (counters[index] ?? 0) - (counters[index - 1] ?? 0) - 1;
    }
    const times = [...seen.values()].sort((a, b) => a - b);
    for (const { firstTakenMs, killedAtMs } of runs) {
      const before = times.findLast((time) => time <= killedAtMs) ?? 0;
      // Before its first picture the program had nothing to lose.
      lostMs.push(killedAtMs - Math.max(before, firstTakenMs.get(name) ?? killedAtMs));
    }
  }
  return {
    clipsFinished: delivered.size + clipsLost,
    clipsLost,
    clipsCorrupt,
    duplicates,
    framesDelivered,
    framesLost,
    maxLostMs: Math.round(Math.max(0, ...lostMs)),
    meanLostMs: Math.round(lostMs.reduce((sum, ms) => sum + ms, 0) / (lostMs.length || 1)),
  };
}

async function sha256Hex(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0);
}
