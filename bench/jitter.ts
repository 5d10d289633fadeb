/**
 * Whether pictures are taken on time while clips close and are delivered: the whole program polls two
 * simulated 640-wide cameras ten times a second, closes a clip of each every five seconds and delivers it
 * to two folders. A picture is late if its time in the clip lies more than 50 ms behind the grid of
 * the clip's pictures; one that is missing counts as late. The first and the last clip of a camera do
 * not count. The peer is the goal: one in a thousand. Beside it the same of a bare timer that ticks ten
 * times a second meanwhile: what it is late by is the machine's doing.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ALL_FORMATS, BlobSource, EncodedPacketSink, Input } from "mediabunny";
import { median, type Row, row } from "./measure.ts";
import type { BenchOptions } from "./run.ts";

const FPS = 10;
const CAMERAS = ["yard", "door"];
const CLIP_S = 5;
const WINDOW_S = Number(Deno.env.get("WINDOW_S") ?? 60);
const LATE_MS = 50;
const GOAL_PERCENT = 0.1;
const CLI = fileURLToPath(new URL("../cli.ts", import.meta.url));

/** The bench `jitter`. */
export async function benchJitter({ rounds, say }: BenchOptions): Promise<readonly Row[]> {
  const shares: number[] = [];
  const bare: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const timer = startTimer();
    const { late, missing, pictures } = await record().finally(timer.stop);
    say(
      `jitter: of ${pictures} pictures ${late} late by more than ${LATE_MS} ms and ${missing} missing; ` +
        `of a bare timer's ticks ${timer.late()} of ${timer.ticks()} late`,
    );
    shares.push(100 * (late + missing) / pictures);
    bare.push(100 * timer.late() / timer.ticks());
  }
  const measure = `pictures late by > ${LATE_MS} ms while clips close`;
  const ours = median(shares);
  return [
    row({ measure, ours, peer: GOAL_PERCENT, peerName: "the goal", unit: "%", goal: 1 }),
    row({ measure, ours, peer: median(bare), peerName: "ticks of a bare timer", unit: "%" }),
  ];
}

/** Ticks as often as pictures are taken, and counts the ticks that come late. */
function startTimer() {
  const intervalMs = 1000 / FPS;
  const startMs = performance.now();
  let ticks = 0;
  let late = 0;
  let timer = setTimeout(tick, intervalMs);
  function tick() {
    ticks++;
    const lateMs = performance.now() - startMs - ticks * intervalMs;
    if (lateMs > LATE_MS) late++;
    timer = setTimeout(tick, Math.max(0, intervalMs - lateMs));
  }
  return { stop: () => clearTimeout(timer), ticks: () => ticks, late: () => late };
}

interface Found {
  readonly late: number;
  readonly missing: number;
}

async function record(): Promise<Found & { readonly pictures: number }> {
  const folder = await Deno.makeTempDir({ prefix: "camsink-jitter-" });
  const cameras = CAMERAS.map((name) =>
    spawn(["simulate", "camera", "--name", name, "--fps", "30", "--width", "640", "--port", "0"])
  );
  try {
    const urls = await Promise.all(cameras.map(urlOf));
    const config = join(folder, "camsink.jsonc");
    await Deno.writeTextFile(
      config,
      JSON.stringify({
        cameras: Object.fromEntries(
          CAMERAS.map((name, i) => [name, { type: "snapshot", url: urls[i], fps: FPS }]),
        ),
        clip: { length: `${CLIP_S}s` },
        spool: { path: join(folder, "spool") },
        sinks: {
          one: { type: "local-folder", path: join(folder, "one") },
          two: { type: "local-folder", path: join(folder, "two") },
        },
      }),
    );
    const recording = spawn(["capture", "--config", config, "--for", `${WINDOW_S}s`, "--json"]);
    const text = await new Response(recording.stdout).text();
    if (!(await recording.status).success) throw new Error(`the recording failed:\n${text}`);
    let late = 0;
    let missing = 0;
    let pictures = 0;
    for (const name of CAMERAS) {
      const clips = [...files(join(folder, "one"))].filter((path) => path.includes(name)).sort();
      for (const clip of clips.slice(1, -1)) {
        const found = lateOf(await timesOf(clip));
        late += found.late;
        missing += found.missing;
        pictures += CLIP_S * FPS;
      }
    }
    if (pictures === 0) throw new Error("no clip to look at; give it more time: WINDOW_S");
    return { late, missing, pictures };
  } finally {
    for (const camera of cameras) {
      camera.kill("SIGKILL");
      await camera.status;
      await camera.stdout.cancel().catch(() => {});
    }
    await Deno.remove(folder, { recursive: true });
  }
}

/** Pictures of a clip that are late, or missing from it. */
function lateOf(timesMs: readonly number[]): Found {
  const intervalMs = 1000 / FPS;
  // Where most pictures stand between two moments of the first picture's grid, in -50…50 ms.
  const phases = timesMs.map((time) => time - intervalMs * Math.round(time / intervalMs));
  const phase = median(phases);
  const cells = new Map<number, number>();
  for (const time of timesMs) {
    const cell = Math.floor((time - phase) / intervalMs + 0.05);
    cells.set(cell, time - phase - cell * intervalMs);
  }
  return {
    late: [...cells.values()].filter((lateMs) => lateMs > LATE_MS).length,
    missing: Math.max(0, CLIP_S * FPS - cells.size),
  };
}

async function timesOf(path: string): Promise<readonly number[]> {
  using input = new Input({
    source: new BlobSource(new Blob([await Deno.readFile(path)])),
    formats: ALL_FORMATS,
  });
  const track = await input.getPrimaryVideoTrack();
  if (!track) throw new Error(`${path} has no pictures`);
  const timesMs: number[] = [];
  for await (const { timestamp } of new EncodedPacketSink(track).packets()) {
    timesMs.push(timestamp * 1000);
  }
  return timesMs;
}

function* files(folder: string): Generator<string> {
  for (const entry of Deno.readDirSync(folder)) {
    const path = join(folder, entry.name);
    if (entry.isDirectory) yield* files(path);
    else if (path.endsWith(".mp4")) yield path;
  }
}

async function urlOf(camera: Deno.ChildProcess): Promise<string> {
  const reader = camera.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (true) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`the camera did not start: ${text}`);
    text += value;
    const url = /"(http:[^"]+)"/.exec(text)?.[1];
    if (url) {
      reader.releaseLock();
      return url;
    }
  }
}

function spawn(args: readonly string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", CLI, ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
}
