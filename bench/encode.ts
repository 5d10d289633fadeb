/**
 * What it costs to turn a camera's JPEGs into H.264: both engines beside the way of foggycam 1.0
 * (pictures as files on disk, then `ffmpeg -f concat` over the folder, with its settings), the same
 * with preset veryfast, and the same with our two-second GOPs, because a key picture every two
 * seconds is what makes a clip playable while it is recorded, and costs bytes.
 *
 * All record the same {@linkcode CLIPS} clips of half a minute: the simulated 1280x720 scene at 10
 * pictures/s, once moving under a noisy sensor, once still but for a clock, once still and plain, and
 * once still under as much noise as the moving one, as a camera sees at night. Ours is one process,
 * start-up included, as it records for months; foggycam starts its ffmpeg for each clip. What a single
 * clip costs with our start in it is measured too, and what a process costs that has run for long: the
 * difference between all clips and one.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createScene } from "../simulators/scene/scene.ts";
import { findProgram } from "../tests/support/programs.ts";
import { INTERVAL_MS, type OurResult, pictureName, PICTURES } from "./encode_ours.ts";
import { type Cost, measureInTurn, type Program, type Row, row } from "./measure.ts";
import type { BenchOptions } from "./run.ts";

/** How many clips in a row. */
const CLIPS = 4;
/** One of them. */
const CLIP_HOURS = PICTURES * INTERVAL_MS / 3_600_000;

/** What the camera sees. `SCENES=moving,plain` chooses some. */
type View = {
  readonly still?: boolean;
  readonly plain?: boolean;
  /** Time stands still, under all the noise that there is. */
  readonly frozen?: boolean;
};
const SCENES: Readonly<Record<string, View>> = {
  moving: {},
  still: { still: true },
  plain: { still: true, plain: true },
  night: { plain: true, frozen: true },
};

const FOGGYCAM = "foggycam's way";
const FOGGYCAM_GOP = "the same, key every 2 s";
const VERYFAST = "the same, veryfast";

/** Runs the bench. */
export async function benchEncode({ rounds, say }: BenchOptions): Promise<readonly Row[]> {
  const ffmpeg = findProgram("ffmpeg");
  if (!ffmpeg) {
    say("encode: left out, because the peers need ffmpeg");
    return [];
  }
  const rows: Row[] = [];
  for (const name of (Deno.env.get("SCENES") ?? Object.keys(SCENES).join()).split(",")) {
    const view = SCENES[name];
    if (!view) throw new Error(`SCENES: expected some of ${Object.keys(SCENES)}, got ${name}`);
    const folder = await Deno.makeTempDir({ prefix: "camsink-bench-encode-" });
    try {
      const scene = `${name} scene`;
      say(`encode: ${scene}, ${CLIPS} clips of ${PICTURES} pictures of 720p …`);
      rows.push(...await benchScene({ ffmpeg, folder, scene, view, rounds, say }));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  }
  return rows;
}

async function benchScene(options: {
  readonly ffmpeg: string;
  readonly folder: string;
  readonly scene: string;
  readonly view: View;
  readonly rounds: number;
  say(message: string): void;
}): Promise<Row[]> {
  const { ffmpeg, folder, scene, view, rounds, say } = options;
  const jpegBytes = await makePictures(folder, view);
  const still = view.still === true || view.frozen === true;
  const peers = {
    [FOGGYCAM]: foggycam(ffmpeg, folder, "foggycam", []),
    [FOGGYCAM_GOP]: foggycam(ffmpeg, folder, "foggycam_gop", ["-g", "20"]),
    [VERYFAST]: foggycam(ffmpeg, folder, "veryfast", ["-preset", "veryfast"]),
  };
  const names = {
    ...{ wasm: "wasm", system: "system" },
    ...{ [FOGGYCAM]: "foggycam", [FOGGYCAM_GOP]: "foggycam_gop", [VERYFAST]: "veryfast" },
  };
  const costs = await measureInTurn(
    {
      wasm: ours("wasm", folder, { name: "wasm", clips: CLIPS }),
      system: ours("system", folder, { name: "system", clips: CLIPS }),
      "wasm, one clip": ours("wasm", folder, { name: "one", clips: 1 }),
      "system, one clip": ours("system", folder, { name: "one", clips: 1 }),
      ...peers,
    },
    {
      rounds,
      onRun: (name, { cpuS, wallS, peakBytes }) =>
        say(
          `encode: ${name}: ${cpuS.toFixed(2)} CPU-s, ${wallS.toFixed(2)} s, ${
            Math.round(peakBytes / 1e6)
          } MB`,
        ),
    },
  );
  const live = await measureInTurn({
    wasm: ours("wasm", folder, { name: "live", clips: 1, live: true }),
    system: ours("system", folder, { name: "live", clips: 1, live: true }),
  }, { rounds: 1 });

  const perHour = (cost: Cost, clips = CLIPS) => cost.cpuS / clips / CLIP_HOURS;
  const clipsBytes = async (name: keyof typeof names) => {
    let sizeBytes = 0;
    for (let clip = 0; clip < CLIPS; clip++) {
      sizeBytes += (await Deno.stat(join(folder, `${names[name]}_${clip}.mp4`))).size;
    }
    return sizeBytes;
  };
  const likeness = (name: keyof typeof names, byTime: boolean) =>
    ssim(ffmpeg, { folder, clip: `${names[name]}_0.mp4`, byTime });
  const peerFigures = new Map<string, { readonly sizeBytes: number; readonly ssim: number }>();
  for (const peer of [FOGGYCAM, FOGGYCAM_GOP, VERYFAST] as const) {
    const sizeBytes = await clipsBytes(peer);
    peerFigures.set(peer, { sizeBytes, ssim: await likeness(peer, false) });
  }
  const goals: Readonly<Record<string, Readonly<Record<string, number>>>> = {
    wasm: { [VERYFAST]: 2 },
    system: { [FOGGYCAM]: still ? 0.3 : 0.75, [FOGGYCAM_GOP]: still ? 0.3 : 0.75 },
  };
  const rows: Row[] = [];
  for (const engine of ["wasm", "system"] as const) {
    const fast = resultOf(costs[engine]);
    const slow = resultOf(live[engine]);
    const one = costs[`${engine}, one clip`];
    const sizeBytes = await clipsBytes(engine);
    const engineSsim = await likeness(engine, true);
    for (const peer of [FOGGYCAM, FOGGYCAM_GOP, VERYFAST] as const) {
      const theirs = peerFigures.get(peer) ?? { sizeBytes: NaN, ssim: NaN };
      const add = (
        measure: string,
        unit: string,
        figures: { readonly ours: number; readonly peer: number; readonly goal?: number },
      ) =>
        rows.push(
          row({ measure: `${scene}, ${engine}: ${measure}`, unit, peerName: peer, ...figures }),
        );
      const hours = { peer: perHour(costs[peer]), goal: goals[engine]?.[peer] };
      const warm = (costs[engine].cpuS - one.cpuS) / (CLIPS - 1) / CLIP_HOURS;
      add(`per camera-hour, ${CLIPS} clips`, "CPU-s", { ours: perHour(costs[engine]), ...hours });
      add("per camera-hour, a clip alone", "CPU-s", { ours: perHour(one, 1), ...hours });
      add("per camera-hour, warm", "CPU-s", { ours: warm, ...hours });
      add("pictures encoded", "/s", {
        ...{ ours: fast.picturesPerSecond, peer: CLIPS * PICTURES / costs[peer].wallS },
      });
      add("last picture to clip", "s", {
        ...{ ours: slow.tailMs / 1000, peer: costs[peer].wallS / CLIPS },
      });
      add("SSIM (luma)", "", { ours: engineSsim, peer: theirs.ssim });
      add("size of a clip", "MB", {
        ...{ ours: sizeBytes / CLIPS / 1e6, peer: theirs.sizeBytes / CLIPS / 1e6 },
      });
      add("peak memory", "MB", {
        ...{ ours: costs[engine].peakBytes / 1e6, peer: costs[peer].peakBytes / 1e6 },
      });
      add("written to disk, a clip", "MB", {
        ...{ ours: sizeBytes / CLIPS / 1e6, peer: (jpegBytes + theirs.sizeBytes) / CLIPS / 1e6 },
      });
    }
  }
  return rows;
}

/** Makes the pictures of all clips; gives their size in bytes. */
async function makePictures(folder: string, view: View): Promise<number> {
  const scene = createScene({ name: "bench", widthPx: 1280, heightPx: 720, ...view });
  // The scene codes its variants of noise in its first pictures.
  for (let n = 0; view.frozen && n < 300; n++) scene.frame({ counter: n, takenAtMs: 0 });
  let sizeBytes = 0;
  for (let counter = 0; counter < CLIPS * PICTURES; counter++) {
    const clip = Math.floor(counter / PICTURES);
    if (counter % PICTURES === 0) await Deno.mkdir(join(folder, `clip_${clip}`));
    const takenAtMs = view.frozen ? 0 : Date.UTC(2026, 7, 21, 14, 5, 0) + counter * INTERVAL_MS;
    const jpeg = scene.frame({ counter, takenAtMs });
    await Deno.writeFile(join(folder, pictureName(clip, counter % PICTURES)), jpeg);
    sizeBytes += jpeg.length;
  }
  const list = Array.from({ length: PICTURES }, (_, i) => `file '${pictureName(0, i)}'`);
  await Deno.writeTextFile(
    join(folder, "list.txt"),
    list.join("\n").replaceAll("clip_0", "copied"),
  );
  return sizeBytes;
}

function ours(
  engine: "wasm" | "system",
  folder: string,
  { name, clips, live = false }: {
    readonly name: string;
    readonly clips: number;
    readonly live?: boolean;
  },
): Program {
  return {
    command: [
      ...[Deno.execPath(), "run", "--no-check", "--allow-all"],
      fileURLToPath(new URL("./encode_ours.ts", import.meta.url)),
      ...[engine, name, String(clips)],
      ...(live ? ["live"] : []),
    ],
    cwd: folder,
  };
}

/** Pictures to disk, then ffmpeg over them, clip by clip. */
function foggycam(
  ffmpeg: string,
  folder: string,
  name: string,
  extra: readonly string[],
): Program {
  const encode = [
    ffmpeg,
    ..."-nostdin -v error -y -f concat -safe 0 -i list.txt -vcodec libx264 -crf 25".split(" "),
    ..."-pix_fmt yuv420p".split(" "),
    ...extra,
    `${name}_$clip.mp4`,
  ].join(" ");
  const clips = Array.from({ length: CLIPS }, (_, clip) => clip).join(" ");
  const script = `for clip in ${clips}; do rm -rf copied; cp -r clip_$clip copied; ${encode}; done`;
  return { command: ["sh", "-e", "-c", script], cwd: folder };
}

function resultOf(cost: Cost): OurResult {
  return JSON.parse(cost.stdout) as OurResult;
}

/**
 * Luma SSIM of a first clip against the pictures that it was made from, both in full range. `byTime`: with
 * what the clip shows at the time of each picture, since ours has no picture of its own for a repeat.
 */
async function ssim(
  ffmpeg: string,
  { folder, clip, byTime }: {
    readonly folder: string;
    readonly clip: string;
    readonly byTime: boolean;
  },
): Promise<number> {
  const fps = 1000 / INTERVAL_MS;
  const times = byTime ? `fps=${fps}:start_time=0` : `setpts=N/${fps}/TB`;
  const graph = `[0]${times},scale=out_range=full,format=yuvj420p[a];` +
    `[1]setpts=N/${fps}/TB,format=yuvj420p[b];[a][b]ssim=shortest=1`;
  const { stderr } = await new Deno.Command(ffmpeg, {
    args: [
      ...["-nostdin", "-i", clip, "-f", "image2", "-i", "clip_0/%04d.jpg"],
      ...["-lavfi", graph, "-f", "null", "-"],
    ],
    cwd: folder,
    stderr: "piped",
    stdout: "null",
  }).output();
  return Number(/SSIM Y:([\d.]+)/.exec(new TextDecoder().decode(stderr))?.[1] ?? NaN);
}
