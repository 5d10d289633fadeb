/**
 * What it costs to see motion in coded video: CPU-seconds per camera-hour of 1080p at 3 Mbit/s with a
 * key picture every two seconds and noise in it, decoded and judged by each engine. Ten minutes of it
 * are looked at as fast as it goes. Beside it an ffmpeg that decodes the key pictures of the same
 * video out of a file, and writes them as small.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { findProgram } from "../tests/support/programs.ts";
import { type Cost, measureInTurn, type Program, type Row, row } from "./measure.ts";
import type { BenchOptions } from "./run.ts";

/** What ffmpeg encodes once; it is looked at again and again. */
const SAMPLE_S = 60;
const MINUTES = 10;
const RATE = "3M";

const CODERS = {
  h264: ["-c:v", "libx264", "-preset", "superfast", "-sc_threshold", "0", "-bf", "0", "-g", "30"],
  h265: [
    ...["-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1", "-x265-params"],
    "bframes=0:scenecut=0:keyint=30:min-keyint=30:log-level=error",
  ],
} as const;

/** Runs the bench. */
export async function benchMotion({ rounds, say }: BenchOptions): Promise<readonly Row[]> {
  const ffmpeg = findProgram("ffmpeg");
  if (!ffmpeg) {
    say("motion: left out, because it needs ffmpeg to make its input");
    return [];
  }
  const folder = await Deno.makeTempDir({ prefix: "camsink-bench-motion-" });
  try {
    const rows: Row[] = [];
    for (const codec of ["h264", "h265"] as const) {
      say(`motion: making ${SAMPLE_S} s of 1080p ${codec} …`);
      const file = join(folder, `${codec}.mp4`);
      await make(ffmpeg, [
        ...["-f", "lavfi", "-i", `testsrc2=size=1920x1080:rate=15:duration=${SAMPLE_S}`],
        ...["-vf", "noise=alls=10:allf=t", ...CODERS[codec], "-pix_fmt", "yuv420p"],
        ...["-b:v", RATE, "-maxrate", RATE, "-bufsize", "6M", file],
      ]);
      const costs = await measureInTurn(
        { ffmpeg: peer(ffmpeg, file), system: ours("system", file), wasm: ours("wasm", file) },
        { rounds, onRun: (name, { cpuS }) => say(`${codec}, ${name}: ${cpuS.toFixed(2)} CPU-s`) },
      );
      const perHour = ({ cpuS }: Cost) => cpuS * 60 / MINUTES;
      for (const name of ["system", "wasm"] as const) {
        rows.push(row({
          measure: `${name}, motion in ${codec}, per camera-hour`,
          ours: perHour(costs[name]),
          peer: perHour(costs.ffmpeg),
          peerName: "ffmpeg -skip_frame nokey",
          unit: "CPU-s",
        }));
      }
    }
    return rows;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const ours = (engine: "system" | "wasm", file: string): Program => ({
  command: [
    ...[Deno.execPath(), "run", "--quiet", "--allow-all"],
    fileURLToPath(new URL("motion_ours.ts", import.meta.url)),
    ...[engine, file, String(MINUTES * 30)],
  ],
});

const peer = (ffmpeg: string, file: string): Program => ({
  command: [
    ...[ffmpeg, "-nostdin", "-loglevel", "error", "-threads", "1", "-skip_frame", "nokey"],
    ...["-stream_loop", String(MINUTES * 60 / SAMPLE_S - 1), "-i", file, "-an"],
    ...["-fps_mode", "passthrough", "-vf", "scale=160:90:flags=area,format=gray"],
    ...["-f", "rawvideo", "-y", "/dev/null"],
  ],
});

async function make(ffmpeg: string, args: readonly string[]): Promise<void> {
  const { code, stderr } = await new Deno.Command(ffmpeg, {
    args: ["-nostdin", "-loglevel", "error", "-y", ...args],
  }).output();
  if (code !== 0) throw new Error(`ffmpeg cannot make it: ${new TextDecoder().decode(stderr)}`);
}
