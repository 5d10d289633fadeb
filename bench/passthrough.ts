/**
 * What it costs to record live RTSP cameras without encoding: the whole program with queue, spool,
 * catalogue and delivery to a folder, beside `ffmpeg -c copy -f segment`, GStreamer's `splitmuxsink`
 * and `motion` in pass-through. The cameras are GStreamer's RTSP server: 1080p, 25 pictures a second,
 * H.264 of 3 Mbit/s with AAC, over TCP.
 *
 * Each competitor records for some seconds until it is under way, then its CPU time and memory (PSS)
 * over the window count; start-up does not. `CAMERAS=1,4,8,20,32` chooses the numbers of cameras,
 * `WINDOW_S` the length, `CLIP_S` that of a clip, `PEERS=ffmpeg` beside whom, `TOGETHER=1` that all
 * record at the same time instead of in turn. Besides, the clips are searched for pictures that are
 * missing, and after the window it is looked how long pictures wait until they are on the spool.
 * The same number of simulated Nest cameras (NexusTalk) is recorded with the same program. Ours is what
 * people download, made for this; `OURS=source` runs the clone instead, as `deno task capture` does.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ALL_FORMATS, BlobSource, EncodedPacketSink, Input } from "mediabunny";
import { compile } from "../tests/support/release.ts";
import { CLI_COMMAND } from "../tests/support/run_cli.ts";
import { median, type Row, row, treePssBytes } from "./measure.ts";
import type { BenchOptions } from "./run.ts";
import { watchSpool } from "./spool_latency.ts";

const FPS = 25;
/** As the program does by itself. A window should be as long: each camera ends a clip in it. */
const CLIP_S = Number(Deno.env.get("CLIP_S") ?? 60);
/**
 * A recorder runs for months: what is hot is compiled, and what the start left behind collected, in
 * the first three quarters of a minute.
 */
const WARM_UP_MS = 45_000;
/** So long all cameras may take to be recorded. */
const START_MS = 120_000;
const WINDOW_S = Number(Deno.env.get("WINDOW_S") ?? 60);
const CAMERAS = (Deno.env.get("CAMERAS") ?? "1,4,8,20,32").split(",").map(Number);
/** At the same time: an idle virtual machine makes few long bursts cost more than many short ones. */
const TOGETHER = Deno.env.get("TOGETHER") === "1";
const PEERS = (Deno.env.get("PEERS") ?? "ffmpeg,splitmuxsink,motion,nexus").split(",");
/** The clone in place of a release. */
const IS_SOURCE = Deno.env.get("OURS") === "source";
const GOP_S = 2;
/** What a picture may take from the camera to the spool: its GOP, and a little. */
const LATENCY_GOAL_S = GOP_S + 0.2;
const LATENCY_WINDOW_MS = 8000;
const ROOT = fileURLToPath(new URL("../", import.meta.url));

/** What recording cost, for each camera. */
interface Figures {
  readonly cpuSPerCameraHour: number;
  readonly pssBytesPerCamera: number;
  /** Pictures that are missing between the first and the last of each clip; of ours and ffmpeg. */
  readonly lostPictures: number;
  /** Until a picture is on the spool, the worst of twenty, s; ours only. */
  readonly latencyS: number;
  /** Of the clips; ours only. */
  readonly bytesPerCameraSecond: number;
}

/** Where one competitor records, and what with. */
interface Place {
  /** Clips go into it. */
  readonly folder: string;
  /** What begins the command lines of ours. */
  readonly program: readonly string[];
}

interface Competitor {
  readonly name: string;
  /** Command lines, all running at once. */
  commands(cameras: readonly string[], place: Place): Promise<(readonly string[])[]>;
  /** Where its clips are to be searched for missing pictures. */
  readonly clips?: string;
  /** Its cameras are simulated ones of Nest: instead of addresses it gets what their cloud has said. */
  readonly isNexus?: boolean;
  /** More cameras would take all of the machine. */
  readonly maxCameras?: number;
}

/** Ours with a configuration: queue, spool, catalogue and delivery to a folder. */
async function camsink(
  config: object,
  { folder, program }: Place,
): Promise<(readonly string[])[]> {
  const path = join(folder, "camsink.jsonc");
  await Deno.writeTextFile(
    path,
    JSON.stringify({
      ...config,
      clip: { length: `${CLIP_S}s` },
      spool: { path: join(folder, "spool") },
      sinks: { local: { type: "local-folder", path: join(folder, "clips") } },
    }),
    { mode: 0o600 },
  );
  return [[...program, "capture", "--config", path]];
}

/** What begins the command lines of ours, as its users run it. */
async function makeProgram(folder: string): Promise<readonly string[]> {
  if (IS_SOURCE) return [Deno.execPath(), ...CLI_COMMAND];
  const [path = ""] = (await compile(["--kind", "folder", "--out", folder])).split("\n");
  return [join(path, "camsink")];
}

const ours: Competitor = {
  name: "ours",
  clips: "clips",
  commands: (urls, place) =>
    camsink({
      cameras: Object.fromEntries(urls.map((url, i) => [`cam${i}`, { type: "rtsp", url }])),
    }, place),
};

const nexus: Competitor = {
  name: "nexus",
  clips: "clips",
  isNexus: true,
  maxCameras: 4, // each encodes its scene first, in half a minute
  async commands([told = "{}"], place) {
    const { accessToken, endpoints, caPem } = JSON.parse(told);
    const ca = join(place.folder, "ca.pem");
    await Deno.writeTextFile(ca, caPem);
    const account = { type: "nest", accessToken, endpoints, ca, video: "stream" };
    return await camsink({ accounts: { nest: account } }, place);
  },
};

const peers: readonly Competitor[] = [
  {
    name: "ffmpeg",
    clips: ".",
    commands: (urls, { folder }) =>
      Promise.resolve(urls.map((url, i) => [
        ...["ffmpeg", "-nostdin", "-v", "error", "-rtsp_transport", "tcp", "-i", url, "-c", "copy"],
        ...["-f", "segment", "-segment_time", String(CLIP_S), "-reset_timestamps", "1"],
        join(folder, `f${i}-%d.mp4`),
      ])),
  },
  {
    name: "splitmuxsink",
    maxCameras: 8,
    commands: (urls, { folder }) =>
      Promise.resolve(urls.map((url, i) => [
        ...["gst-launch-1.0", "-q", "rtspsrc", `location=${url}`, "protocols=tcp", "name=s"],
        ...["s.", "!", "rtph264depay", "!", "h264parse", "!", "queue", "!", "mux.video"],
        ...["s.", "!", "rtpmp4gdepay", "!", "aacparse", "!", "queue", "!", "mux.audio_0"],
        ...["splitmuxsink", "name=mux", `max-size-time=${CLIP_S}000000000`],
        `location=${join(folder, `g${i}-%d.mp4`)}`,
      ])),
  },
  {
    name: "motion",
    maxCameras: 1,
    async commands(urls, { folder }) {
      const path = join(folder, "motion.conf");
      await Deno.writeTextFile(
        path,
        [
          `netcam_url ${urls[0]}`,
          ...["width 1920", "height 1080", "framerate 25", "emulate_motion on", "log_level 1"],
          ...["movie_output on", "movie_passthrough on", "picture_output off"],
          ...[`movie_max_time ${CLIP_S}`, `target_dir ${folder}`, "webcontrol_port 0"],
        ].join("\n"),
      );
      return [["motion", "-n", "-c", path]];
    },
  },
];

/** The bench `passthrough`. */
export async function benchPassthrough({ rounds, say }: BenchOptions): Promise<readonly Row[]> {
  const folder = await Deno.makeTempDir({ prefix: "camsink-passthrough-" });
  try {
    const movie = await makeMovie(folder, { say });
    const program = await makeProgram(folder);
    const rows: Row[] = [];
    for (const cameras of CAMERAS) {
      const competitors = [ours, ...peers, nexus].filter((one) =>
        cameras <= (one.maxCameras ?? Infinity) &&
        (one === ours || PEERS.includes(one.name) && (one.isNexus || isThere(one.name)))
      );
      const figures = new Map<string, Figures[]>(competitors.map(({ name }) => [name, []]));
      for (let round = 0; round < rounds; round++) {
        const order = round % 2 === 0 ? competitors : competitors.toReversed();
        const measure = async (competitor: Competitor) => {
          const one = await record(competitor, { cameras, movie, program, folder });
          figures.get(competitor.name)?.push(one);
          say(
            `${cameras} x ${competitor.name}: ${one.cpuSPerCameraHour.toFixed(1)} CPU-s per ` +
              `camera-hour, ${(one.pssBytesPerCamera / 1e6).toFixed(1)} MB a camera` +
              (competitor.clips === undefined ? "" : `, ${one.lostPictures} pictures lost`) +
              (Number.isNaN(one.latencyS) ? "" : `, ${one.latencyS.toFixed(2)} s to the spool, ` +
                `${(one.bytesPerCameraSecond * 8 / 1e6).toFixed(2)} Mbit/s`),
          );
        };
        if (TOGETHER) await Promise.all(order.map(measure));
        else for (const competitor of order) await measure(competitor);
      }
      const middle = (name: string, of: (figures: Figures) => number) =>
        median((figures.get(name) ?? []).map(of));
      for (const { name } of competitors.slice(1)) {
        // Nexus is measured beside ours of RTSP, and shows what the protocol costs.
        const goals = name !== "ffmpeg"
          ? {}
          : cameras === 1
          ? { cpu: 1 }
          : cameras >= 20
          ? { cpu: 0.35, memory: 0.4 }
          : {};
        const cpu = ({ cpuSPerCameraHour }: Figures) => cpuSPerCameraHour;
        const memory = ({ pssBytesPerCamera }: Figures) => pssBytesPerCamera / 1e6;
        rows.push(
          row({
            measure: `CPU per camera-hour, ${cameras} cameras`,
            ours: middle("ours", cpu),
            peer: middle(name, cpu),
            peerName: name,
            unit: "s",
            ...("cpu" in goals ? { goal: goals.cpu } : {}),
          }),
          row({
            measure: `memory per camera, ${cameras} cameras`,
            ours: middle("ours", memory),
            peer: middle(name, memory),
            peerName: name,
            unit: "MB",
            ...("memory" in goals ? { goal: goals.memory } : {}),
          }),
        );
        if (name !== "ffmpeg") continue;
        const lost = ({ lostPictures }: Figures) => lostPictures;
        rows.push(row({
          measure: `pictures lost, ${cameras} cameras`,
          ours: middle("ours", lost),
          peer: middle(name, lost),
          peerName: name,
          unit: "",
        }));
      }
      for (const { name } of competitors.filter((one) => one === ours || one.isNexus)) {
        rows.push(row({
          measure: `camera to spool, p95, ${cameras} cameras${name === "ours" ? "" : ` (${name})`}`,
          ours: middle(name, ({ latencyS }) => latencyS),
          peer: LATENCY_GOAL_S,
          peerName: "a GOP and 200 ms",
          unit: "s",
          goal: 1,
        }));
      }
    }
    return rows;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/**
 * The bench `memory`: what each further camera takes, beside a further ffmpeg. Of both it is what eight
 * cameras take more than one, through seven: what the runtime and shared libraries take counts for
 * neither.
 */
export async function benchMemory({ rounds, say }: BenchOptions): Promise<readonly Row[]> {
  const ffmpeg = peers.find(({ name }) => name === "ffmpeg");
  if (!ffmpeg || !isThere("ffmpeg")) {
    say("memory: left out, because it needs ffmpeg");
    return [];
  }
  const folder = await Deno.makeTempDir({ prefix: "camsink-memory-" });
  try {
    const movie = await makeMovie(folder, { say });
    const program = await makeProgram(folder);
    const beyond = async (competitor: Competitor) => {
      const [one = NaN, many = NaN] = await Array.fromAsync([1, MANY], async (cameras) => {
        const { pssBytesPerCamera } = await record(competitor, { cameras, movie, program, folder });
        const bytes = pssBytesPerCamera * cameras;
        say(`memory: ${cameras} x ${competitor.name}: ${(bytes / 1e6).toFixed(1)} MB`);
        return bytes;
      });
      return (many - one) / (MANY - 1);
    };
    const figures = { ours: [] as number[], ffmpeg: [] as number[] };
    for (let round = 0; round < rounds; round++) {
      figures.ours.push(await beyond(ours));
      figures.ffmpeg.push(await beyond(ffmpeg));
    }
    return [row({
      measure: "memory per pass-through camera beyond the first",
      ours: median(figures.ours) / 1e6,
      peer: median(figures.ffmpeg) / 1e6,
      peerName: "a further ffmpeg",
      unit: "MB",
      goal: 0.2,
    })];
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** How many cameras stand for many. */
const MANY = 8;

/** What the simulated cameras show: 1080p at 25 pictures/s and 3 Mbit/s. */
export async function makeMovie(
  folder: string,
  {
    seconds = Math.ceil((WARM_UP_MS + LATENCY_WINDOW_MS) / 1000 + WINDOW_S + 30),
    sound = true,
    say,
  }: {
    readonly seconds?: number;
    readonly sound?: boolean;
    readonly say: BenchOptions["say"];
  },
): Promise<string> {
  const movie = join(folder, "camera.mp4");
  say(`encoding ${seconds} s of the camera's picture`);
  await run([
    ...["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i"],
    `testsrc2=s=1920x1080:r=${FPS},noise=alls=6:allf=t`,
    ...(sound ? ["-f", "lavfi", "-i", "sine=440:r=16000"] : []),
    ...["-t", String(seconds), "-pix_fmt", "yuv420p"],
    ...["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "3M", "-maxrate", "3M"],
    ...["-bufsize", "3M", "-g", String(GOP_S * FPS), "-bf", "0"],
    ...(sound ? ["-c:a", "aac", "-b:a", "32k"] : []),
    movie,
  ]);
  return movie;
}

/** One competitor, once. */
async function record(
  competitor: Competitor,
  { cameras, movie, program, folder }: {
    readonly cameras: number;
    readonly movie: string;
    readonly program: readonly string[];
    readonly folder: string;
  },
): Promise<Figures> {
  const own = await Deno.makeTempDir({ dir: folder });
  const server = competitor.isNexus
    ? spawn([
      ...[Deno.execPath(), "run", "-A", join(ROOT, "bench/nexus_cameras.ts")],
      ...[String(cameras), folder],
    ])
    : spawn([
      ...["/usr/bin/python3", "-W", "ignore", join(ROOT, "tests/support/gst_rtsp_server.py")],
      JSON.stringify({ shared: false, streams: { "/": launchOf(movie) } }),
    ]);
  try {
    const told = await firstLine(server);
    const url = `rtsp://127.0.0.1:${/PORT (\d+)/.exec(told)?.[1]}/`;
    const urls = competitor.isNexus ? [told] : Array.from({ length: cameras }, () => url);
    const commands = await competitor.commands(urls, { folder: own, program });
    const children = commands.map((command) => spawn(command, own));
    for (const child of children) child.stdout.cancel();
    const isOurs = competitor === ours || competitor.isNexus;
    try {
      if (isOurs) await untilRecording(join(own, "spool", "open"), cameras);
      await pause(WARM_UP_MS);
      const before = children.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0);
      const beganMs = performance.now();
      let peakBytes = 0;
      while (performance.now() - beganMs < WINDOW_S * 1000) {
        await pause(1000);
        const bytes = children.reduce((sum, { pid }) => sum + treePssBytes(pid), 0);
        peakBytes = Math.max(peakBytes, bytes);
      }
      const cpuS = children.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0) - before;
      const hours = (performance.now() - beganMs) / 3_600_000;
      const ages = isOurs ? await watchSpool(join(own, "spool"), { forMs: LATENCY_WINDOW_MS }) : [];
      for (const child of children) child.kill("SIGINT");
      await Promise.all(children.map(({ status }) => status));
      return {
        cpuSPerCameraHour: cpuS / hours / cameras,
        pssBytesPerCamera: peakBytes / cameras,
        lostPictures: competitor.clips === undefined
          ? NaN
          : await lostPictures(join(own, competitor.clips)),
        latencyS: isOurs
          ? (ages.toSorted((a, b) => a - b)[Math.floor(0.95 * ages.length)] ?? NaN) / 1000
          : NaN,
        bytesPerCameraSecond: isOurs ? await byteRate(join(own, "clips")) : NaN,
      };
    } finally {
      for (const child of children) {
        try {
          child.kill("SIGKILL");
        } catch {
          // It has ended.
        }
      }
    }
  } finally {
    server.kill("SIGKILL");
    await server.status;
    await server.stdin.close().catch(() => {});
    await Deno.remove(own, { recursive: true }).catch(() => {});
  }
}

/** Resolves when every camera has an open clip: simulated ones encode their scene first. */
async function untilRecording(open: string, cameras: number): Promise<void> {
  const clips = () => existsSync(open) ? [...Deno.readDirSync(open)] : [];
  const endMs = performance.now() + START_MS;
  while (clips().filter(({ name }) => name.endsWith(".part")).length < cameras) {
    if (performance.now() > endMs) throw new Error(`not all of ${cameras} cameras are recorded`);
    await pause(100);
  }
}

/** GStreamer's pipeline for a camera; each viewer has one of its own, as with cameras of their own. */
function launchOf(movie: string): string {
  return `( filesrc location=${movie} ! qtdemux name=d d.video_0 ! queue ! h264parse ! ` +
    "rtph264pay name=pay0 pt=96 d.audio_0 ! queue ! aacparse ! rtpmp4gpay name=pay1 pt=97 )";
}

/** Bytes of a second of the clips that are there. */
async function byteRate(folder: string): Promise<number> {
  let bytes = 0;
  let seconds = 0;
  for (const path of files(folder)) {
    using input = open(await Deno.readFile(path));
    bytes += (await Deno.stat(path)).size;
    seconds += await input.computeDuration();
  }
  return bytes / seconds;
}

function open(movie: Uint8Array<ArrayBuffer>): Input {
  return new Input({ source: new BlobSource(new Blob([movie])), formats: ALL_FORMATS });
}

/** Gaps between the pictures of each clip, in pictures. */
export async function lostPictures(folder: string): Promise<number> {
  let lost = 0;
  let clips = 0;
  for (const path of files(folder)) {
    clips++;
    using input = open(await Deno.readFile(path));
    const track = await input.getPrimaryVideoTrack();
    if (!track) throw new Error(`${path} has no pictures`);
    let last: number | undefined;
    for await (const { timestamp } of new EncodedPacketSink(track).packets()) {
      if (last !== undefined) lost += Math.round((timestamp - last) * FPS) - 1;
      last = timestamp;
    }
  }
  if (clips === 0) throw new Error("no clip was recorded: nothing was measured");
  return lost;
}

function* files(folder: string): Generator<string> {
  if (!existsSync(folder)) return;
  for (const entry of Deno.readDirSync(folder)) {
    const path = join(folder, entry.name);
    if (entry.isDirectory) yield* files(path);
    else if (path.endsWith(".mp4")) yield path;
  }
}

/** Starts a program with pipes to its stdin and stdout. */
export function spawn(command: readonly string[], cwd?: string): Deno.ChildProcess {
  const [program = "", ...args] = command;
  return new Deno.Command(program, {
    args,
    cwd,
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
}

/** What a server says first. */
async function firstLine(server: Deno.ChildProcess): Promise<string> {
  const reader = server.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { done, value } = await reader.read();
    if (done) throw new Error("the cameras did not start");
    text += value;
  }
  return text.slice(0, text.indexOf("\n"));
}

/** CPU time of a process so far, its ended children included. */
export function cpuSeconds(pid: number): number {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ").map(Number);
  return [11, 12, 13, 14].reduce((sum, i) => sum + (fields[i] ?? 0), 0) / 100;
}

/** Whether a program of this name, or GStreamer's for `splitmuxsink`, is installed. */
export function isThere(name: string): boolean {
  const program = name === "splitmuxsink" ? "gst-launch-1.0" : name;
  return new Deno.Command("which", { args: [program], stdout: "null", stderr: "null" })
    .outputSync().success;
}

/** Runs a program to its end. @throws if it fails */
export async function run(command: readonly string[]): Promise<void> {
  const [program = "", ...args] = command;
  const { success, stderr } = await new Deno.Command(program, { args, stdout: "null" }).output();
  if (!success) throw new Error(`${program} failed: ${new TextDecoder().decode(stderr)}`);
}

/** Real time that passes. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
