/**
 * What it costs to turn a camera's JPEGs into H.264: both engines beside the way of foggycam 1.0
 * (pictures as files on disk, then `ffmpeg -f concat` over the folder, with its settings), the same
 * with preset veryfast, and the same with our two-second GOPs, because a key picture every two
 * seconds is what makes a clip playable while it is recorded, and costs bytes.
 *
 * Each competitor is a whole process, start-up included, over the same pictures: the simulated
 * 1280x720 scene at 10 pictures/s, once moving under a noisy sensor, once still but for a clock, once
 * still and plain, and once still under as much noise as the moving one, as a camera sees at night.
 * What a process costs that has run for long is the difference between a run over the pictures and one
 * over the pictures twice.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createScene } from "../simulators/scene/scene.ts";
import { findProgram } from "../tests/support/programs.ts";
import { INTERVAL_MS, type OurResult } from "./encode_ours.ts";
import { type Cost, measureInTurn, type Program, type Row, row } from "./measure.ts";
import type { BenchOptions } from "./run.ts";

const PICTURES = 300;
/** For the time from the last picture to the finished clip, which has to be waited for. */
const LIVE_PICTURES = 45;
const CAMERA_HOURS = PICTURES * INTERVAL_MS / 3_600_000;

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
      say(`encode: ${scene}, ${PICTURES} pictures of 720p …`);
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
  const clips = {
    wasm: join(folder, "wasm.mp4"),
    system: join(folder, "system.mp4"),
    [FOGGYCAM]: join(folder, "foggycam.mp4"),
    [FOGGYCAM_GOP]: join(folder, "foggycam_gop.mp4"),
    [VERYFAST]: join(folder, "veryfast.mp4"),
  };
  const costs = await measureInTurn(
    {
      wasm: ours("wasm", folder),
      system: ours("system", folder),
      "wasm twice": ours("wasm", folder, "twice"),
      "system twice": ours("system", folder, "twice"),
      ...peers,
    },
    {
      rounds,
      onRun: (name, { cpuS, wallS, peakBytes }) =>
        say(
          `encode: ${name}: ${cpuS.toFixed(1)} CPU-s, ${wallS.toFixed(1)} s, ${
            Math.round(peakBytes / 1e6)
          } MB`,
        ),
    },
  );
  const live = await measureInTurn({
    wasm: ours("wasm", folder, "live"),
    system: ours("system", folder, "live"),
  }, { rounds: 1 });

  const perHour = (cost: Cost) => cost.cpuS / CAMERA_HOURS;
  const pictures = join(folder, "all.mjpeg");
  const sizeOf = async (clip: string) => (await Deno.stat(clip)).size;
  const goals: Readonly<Record<string, Readonly<Record<string, number>>>> = {
    wasm: { [VERYFAST]: 2 },
    system: { [FOGGYCAM]: still ? 0.3 : 0.75, [FOGGYCAM_GOP]: still ? 0.3 : 0.75 },
  };
  const rows: Row[] = [];
  for (const engine of ["wasm", "system"] as const) {
    const fast = resultOf(costs[engine]);
    const slow = resultOf(live[engine]);
    const clipBytes = await sizeOf(clips[engine]);
    const clipSsim = await ssim(ffmpeg, { clip: clips[engine], pictures, byTime: true });
    for (const peer of [FOGGYCAM, FOGGYCAM_GOP, VERYFAST] as const) {
      const of = { peerName: peer };
      const add = (measure: string, unit: string, mine: number, theirs: number, goal?: number) =>
        rows.push(
          row({
            measure: `${scene}, ${engine}: ${measure}`,
            ours: mine,
            peer: theirs,
            unit,
            ...of,
            goal,
          }),
        );
      const goal = goals[engine]?.[peer];
      add("per camera-hour", "CPU-s", perHour(costs[engine]), perHour(costs[peer]), goal);
      const warm = perHour(costs[`${engine} twice`]) - perHour(costs[engine]);
      add("per camera-hour, warm", "CPU-s", warm, perHour(costs[peer]), goal);
      add("pictures encoded", "/s", fast.picturesPerSecond, PICTURES / costs[peer].wallS);
      add("last picture to clip", "s", slow.tailMs / 1000, costs[peer].wallS);
      add("SSIM (luma)", "", clipSsim, await ssim(ffmpeg, { clip: clips[peer], pictures }));
      add("clip", "MB", clipBytes / 1e6, await sizeOf(clips[peer]) / 1e6);
      add("peak memory", "MB", costs[engine].peakBytes / 1e6, costs[peer].peakBytes / 1e6);
      const written = jpegBytes + await sizeOf(clips[peer]);
      add("written to disk", "MB", clipBytes / 1e6, written / 1e6);
    }
  }
  return rows;
}

/** Makes the pictures, as one file for us and as many for foggycam; gives their size in bytes. */
async function makePictures(folder: string, view: View): Promise<number> {
  const scene = createScene({ name: "bench", widthPx: 1280, heightPx: 720, ...view });
  // The scene codes its variants of noise in its first pictures.
  for (let n = 0; view.frozen && n < 300; n++) scene.frame({ counter: n, takenAtMs: 0 });
  await Deno.mkdir(join(folder, "frames"));
  using all = await Deno.open(join(folder, "all.mjpeg"), { write: true, create: true });
  using few = await Deno.open(join(folder, "few.mjpeg"), { write: true, create: true });
  let sizeBytes = 0;
  const list: string[] = [];
  for (let counter = 0; counter < PICTURES; counter++) {
    const takenAtMs = view.frozen ? 0 : Date.UTC(2026, 7, 21, 14, 5, 0) + counter * INTERVAL_MS;
    const jpeg = scene.frame({ counter, takenAtMs });
    const name = `${String(counter).padStart(4, "0")}.jpg`;
    await Deno.writeFile(join(folder, "frames", name), jpeg);
    await all.write(jpeg);
    if (counter < LIVE_PICTURES) await few.write(jpeg);
    list.push(`file 'copied/${name}'`);
    sizeBytes += jpeg.length;
  }
  await Deno.writeTextFile(join(folder, "list.txt"), list.join("\n"));
  return sizeBytes;
}

function ours(engine: "wasm" | "system", folder: string, how?: "live" | "twice"): Program {
  const script = fileURLToPath(new URL("./encode_ours.ts", import.meta.url));
  const clip = join(folder, how === undefined ? `${engine}.mp4` : `${how}.mp4`);
  const input = join(folder, how === "live" ? "few.mjpeg" : "all.mjpeg");
  return {
    command: [
      Deno.execPath(),
      "run",
      "--no-check",
      "--allow-all",
      script,
      engine,
      input,
      clip,
      ...(how === undefined ? [] : [how]),
    ],
  };
}

/** Pictures to disk, then ffmpeg over them. */
function foggycam(
  ffmpeg: string,
  folder: string,
  clip: string,
  extra: readonly string[],
): Program {
  const encode = [
    ffmpeg,
    ..."-nostdin -v error -y -f concat -safe 0 -i list.txt -vcodec libx264 -crf 25".split(" "),
    ..."-pix_fmt yuv420p".split(" "),
    ...extra,
    `${clip}.mp4`,
  ].join(" ");
  return {
    command: ["sh", "-c", `rm -rf copied && cp -r frames copied && ${encode}`],
    cwd: folder,
  };
}

function resultOf(cost: Cost): OurResult {
  return JSON.parse(cost.stdout) as OurResult;
}

/**
 * Luma SSIM of a clip against the pictures that it was made from, both in full range. `byTime`: with what
 * the clip shows at the time of each picture, since ours has no picture of its own for a repeat.
 */
async function ssim(
  ffmpeg: string,
  { clip, pictures, byTime = false }: {
    readonly clip: string;
    readonly pictures: string;
    readonly byTime?: boolean;
  },
): Promise<number> {
  const fps = 1000 / INTERVAL_MS;
  const times = byTime ? `fps=${fps}:start_time=0` : `setpts=N/${fps}/TB`;
  const graph = `[0]${times},scale=out_range=full,format=yuvj420p[a];` +
    `[1]setpts=N/${fps}/TB,format=yuvj420p[b];[a][b]ssim=shortest=1`;
  const { stderr } = await new Deno.Command(ffmpeg, {
    args: [
      "-nostdin",
      "-i",
      clip,
      "-f",
      "mjpeg",
      "-i",
      pictures,
      "-lavfi",
      graph,
      "-f",
      "null",
      "-",
    ],
    stderr: "piped",
    stdout: "null",
  }).output();
  return Number(/SSIM Y:([\d.]+)/.exec(new TextDecoder().decode(stderr))?.[1] ?? NaN);
}
