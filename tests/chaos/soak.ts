/**
 * Lets the real program record four simulated cameras for as long as one likes, and watches what a
 * recorder of years must not do: grow, leak file handles, lose pictures. Delivered clips are decoded,
 * counted and removed on the way, so that a soak of days needs no more disk than one of minutes.
 *
 *     deno task soak --for 2h --json
 *
 * Memory and handles are read from `/proc`, so this runs on Linux.
 *
 * @module
 */
import { openSpoolView } from "../../core/spool/mod.ts";
import { listenOnLoopback } from "../../simulators/http_server.ts";
import { startNestSimulator } from "../../simulators/mod.ts";
import { createLeakSearch } from "../canary/leak_search.ts";
import { walkFiles } from "../support/walk_files.ts";
import { createPictureCount } from "./picture_count.ts";
import { startProgram } from "./program.ts";

/** The program's use of the machine at one moment. */
export interface Sample {
  /** Since the program recorded all cameras, ms. */
  readonly atMs: number;
  readonly rssBytes: number;
  readonly handles: number;
  readonly threads: number;
  /** User and system time of the process so far, s. */
  readonly cpuS: number;
  /** What it holds when its garbage is collected; `rssBytes` is then taken right after that. */
  readonly liveBytes?: number;
}

/** What a soak came to. */
export interface SoakTotals {
  readonly forMs: number;
  readonly cameras: number;
  readonly clipsFinished: number;
  /** Called finished and neither in the sink at the end nor whole on the spool, or with other bytes. */
  readonly clipsLost: number;
  readonly clipsCorrupt: number;
  readonly duplicates: number;
  readonly framesDelivered: number;
  /** Pictures that the cameras gave and no clip holds. */
  readonly framesLost: number;
  /** Of these, those that the program counted: it could not keep up, and said so. */
  readonly framesDropped: number;
  /**
   * What the main thread holds when its garbage is collected, from the second quarter's median to the
   * last quarter's. This is what a leak shows in.
   */
  readonly liveGrowthBytes: number;
  readonly liveMaxBytes: number;
  /** Of all memory of the process, garbage and all, from the second quarter's median to the last's. */
  readonly rssGrowthBytes: number;
  /** The same where garbage was collected just before. */
  readonly collectedRssGrowthBytes: number;
  readonly rssMaxBytes: number;
  /** From the second quarter's median to the last quarter's. */
  readonly handleGrowth: number;
  readonly handlesMax: number;
  readonly threadsMax: number;
  readonly cpuSecondsPerCameraHour: number;
  /** Secrets found in what the program printed and left behind, in any of 40 encodings. */
  readonly leaks: readonly string[];
}

/** See {@linkcode runSoak}. */
export interface SoakOptions {
  readonly forMs: number;
  readonly cameras?: number;
  readonly fps?: number;
  /** Told with every sample. */
  readonly onSample?: (sample: Sample) => void;
}

const CLIP_MS = 10_000;
const SAMPLES = 120;
/** Garbage is collected before every so many samples: more often it would show in the CPU time. */
const LIVE_EVERY = 5;

/** One run. Takes `forMs` and a little more. */
export async function runSoak(options: SoakOptions): Promise<SoakTotals> {
  const { forMs, cameras = 4, fps = 5 } = options;
  const root = await Deno.makeTempDir({ prefix: "camsink-soak-" });
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
          accessToken: "env:SOAK_TOKEN",
          width: 640,
          fps,
          endpoints: simulator.endpoints,
        },
      },
      clip: { length: `${CLIP_MS / 1000}s` },
      spool: { path: `${root}/spool` },
      sinks: { local: { type: "local-folder", path: `${root}/clips` } },
      alerts: { webhook: "env:SOAK_HOOK", heartbeat: "env:SOAK_BEAT" },
    }),
  );
  const secrets = {
    token: simulator.credentials.accessToken,
    webhook: `CnryHook${crypto.randomUUID()}`,
    heartbeat: `CnryBeat${crypto.randomUUID()}`,
  };
  const leakSearch = createLeakSearch(secrets);
  await using others = new AsyncDisposableStack();
  const alerted = await listenOnLoopback({ handle: () => Promise.resolve({}) });
  others.defer(() => alerted.close());
  await Deno.mkdir(`${root}/clips`); // there to be looked into before the first clip
  try {
    const finished = new Map<string, string>();
    let framesDropped = 0;
    await using program = startProgram(["--config", config], {
      env: {
        SOAK_TOKEN: secrets.token,
        SOAK_HOOK: `${alerted.url}/${secrets.webhook}`,
        SOAK_BEAT: `${alerted.url}/${secrets.heartbeat}`,
      },
      finished,
      onText: leakSearch.printed,
      inspect: true,
      onLine: ({ event, total }) => {
        if (event === "summary") framesDropped = droppedOf(total);
      },
    });
    const pictures = createPictureCount();
    let clipsFinished = 0;
    let clipsLost = 0;
    /** Takes the clips that have arrived out of the folder. */
    const collect = async () => {
      const arrived = new Map<string, string>();
      for await (const path of walkFiles(`${root}/clips`)) {
        if (path.endsWith(".mp4")) arrived.set(path.slice(`${root}/clips/`.length), path);
      }
      for (const [key, path] of arrived) {
        const sha256 = finished.get(key);
        if (sha256 === undefined) continue; // its log line is on its way
        finished.delete(key);
        clipsFinished++;
        if (await pictures.add(path) !== sha256) clipsLost++;
        await Deno.remove(path);
      }
    };
    await program.recording(cameras);
    const startMs = performance.now();
    const samples: Sample[] = [];
    while (performance.now() - startMs < forMs) {
      await delay(Math.max(500, forMs / SAMPLES));
      const isDue = samples.length % LIVE_EVERY === 0;
      const live = isDue ? await program.live() : undefined;
      const sample: Sample = {
        atMs: performance.now() - startMs,
        ...await measure(program.pid),
        ...(live ? { liveBytes: live.heapBytes + live.externalBytes } : {}),
      };
      samples.push(sample);
      options.onSample?.(sample);
      await collect();
    }
    program.kill("SIGINT");
    await program.ended;
    await collect();
    // What the end was too short to deliver waits for the next start.
    using spool = await openSpoolView(`${root}/spool`, { now: () => Date.now() });
    for (const [key, sha256] of finished) {
      const clip = spool.get(key);
      if (clip?.sha256 !== sha256 || await spool.check(clip) !== "ok") clipsLost++;
    }
    await leakSearch.files(`${root}/spool`);
    return {
      forMs,
      cameras,
      clipsFinished: clipsFinished + finished.size,
      clipsLost,
      clipsCorrupt: pictures.clipsCorrupt,
      duplicates: pictures.duplicates,
      framesDelivered: pictures.frames,
      framesLost: pictures.missing,
      framesDropped,
      leaks: leakSearch.leaks(),
      ...trend(samples, cameras),
    };
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

/** As the summary adds them up over all cameras. */
function droppedOf(total: unknown): number {
  if (typeof total !== "object" || total === null || !("framesDropped" in total)) return NaN;
  return Number(total.framesDropped);
}

const delay = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Ticks of a second in `/proc/PID/stat`; fixed for user space by Linux. */
const TICKS_PER_S = 100;

async function measure(pid: number): Promise<Omit<Sample, "atMs">> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  const field = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? NaN);
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
  // The command's name may hold spaces; fields are counted from behind it. utime and stime: proc(5).
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return {
    rssBytes: field("VmRSS") * 1024,
    handles: (await Array.fromAsync(Deno.readDir(`/proc/${pid}/fd`))).length,
    threads: field("Threads"),
    cpuS: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S,
  };
}

/** What the samples say; the first quarter is warming up. */
export function trend(samples: readonly Sample[], cameras: number) {
  const quarter = (nth: number) =>
    samples.slice(Math.floor(samples.length * nth / 4), Math.ceil(samples.length * (nth + 1) / 4));
  const [early, late] = [quarter(1), quarter(3)];
  const growth = (of: (sample: Sample) => number, is: (sample: Sample) => boolean = () => true) =>
    median(late.filter(is).map(of)) - median(early.filter(is).map(of));
  const isCollected = ({ liveBytes }: Sample) => liveBytes !== undefined;
  const [first, last] = [samples[0], samples.at(-1)];
  const spanHours = ((last?.atMs ?? 0) - (first?.atMs ?? 0)) / 3_600_000;
  return {
    liveGrowthBytes: growth(({ liveBytes = 0 }) => liveBytes, isCollected),
    liveMaxBytes: Math.max(0, ...samples.map(({ liveBytes = 0 }) => liveBytes)),
    rssGrowthBytes: growth(({ rssBytes }) => rssBytes),
    collectedRssGrowthBytes: growth(({ rssBytes }) => rssBytes, isCollected),
    rssMaxBytes: Math.max(...samples.map(({ rssBytes }) => rssBytes)),
    handleGrowth: growth(({ handles }) => handles),
    handlesMax: Math.max(...samples.map(({ handles }) => handles)),
    threadsMax: Math.max(...samples.map(({ threads }) => threads)),
    cpuSecondsPerCameraHour: Math.round(
      ((last?.cpuS ?? 0) - (first?.cpuS ?? 0)) / (spanHours || 1) / cameras,
    ),
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
