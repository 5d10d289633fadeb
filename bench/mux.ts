/**
 * What it costs to put a camera's coded stream into clips: CPU-seconds per camera-hour of 1080p H.264
 * at 3 Mbit/s with AAC, clips of a minute. Each competitor is a whole process, start-up included, over an
 * hour of camera time (1.4 GB), or half of it, doubled, where memory is short. Input and output lie in
 * memory where the system has a tmpfs, so that the disk's mood does not count.
 *
 * Ours, mediabunny and the first ffmpeg read Annex B and ADTS. GStreamer's muxer refuses pictures
 * without times, which Annex B has not, so it reads the same stream from an MP4, which spares it the
 * search for start codes; further lines show ffmpeg and mediabunny with that lighter job. What nobody
 * can go below is the kernel's copying in and out of files: `dd` of the pictures alone shows it.
 *
 * @module
 */
import { statfs } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { findProgram } from "../tests/support/programs.ts";
import { type Cost, measureInTurn, type Program, type Row, row } from "./measure.ts";
import type { BenchOptions } from "./run.ts";

/** What an hour of input, the same as an MP4, and its clips take, with some room. */
const HOUR_BYTES = 6e9;
/** What ffmpeg encodes once; the stream repeats it. */
const SAMPLE_S = 10;

/** Runs the bench. */
export async function benchMux({ rounds, say }: BenchOptions): Promise<readonly Row[]> {
  const ffmpeg = findProgram("ffmpeg");
  if (!ffmpeg) {
    say("mux: left out, because it needs ffmpeg to make its input");
    return [];
  }
  const memory = await Deno.stat("/dev/shm").then(({ isDirectory }) => isDirectory, () => false);
  const folder = await Deno.makeTempDir({
    prefix: "camsink-bench-mux-",
    ...(memory ? { dir: "/dev/shm" } : {}),
  });
  const { bavail, bsize } = await statfs(folder);
  const minutes = bavail * bsize > HOUR_BYTES ? 60 : 30;
  try {
    say(`mux: making ${minutes} minutes of 1080p …`);
    const input = await makeInput(ffmpeg, folder, minutes);
    const programs = competitors(ffmpeg, folder, input);
    const costs = await measureInTurn(programs, {
      rounds,
      onRun: (name, { cpuS, wallS, peakBytes }) =>
        say(
          `mux: ${name}: ${cpuS.toFixed(2)} CPU-s, ${wallS.toFixed(2)} s, ${
            Math.round(peakBytes / 1e6)
          } MB`,
        ),
    });
    return rows(costs, minutes);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function rows(costs: Readonly<Record<string, Cost>>, minutes: number): Row[] {
  const { ours, ...peers } = costs;
  if (!ours) return [];
  const perHour = (cost: Cost) => cost.cpuS * (60 / minutes);
  const goals: Readonly<Record<string, number>> = {
    [FFMPEG]: 0.8,
    [MEDIABUNNY]: 0.4,
    [SPLITMUXSINK]: 0.15,
  };
  const measured = Object.entries(peers).flatMap(([peerName, peer]) => [
    row({
      measure: "mux H.264+AAC, per 1080p camera-hour",
      ours: perHour(ours),
      peer: perHour(peer),
      peerName,
      unit: "CPU-s",
      goal: goals[peerName],
    }),
    row({
      measure: "mux H.264+AAC, peak memory",
      ours: ours.peakBytes / 1e6,
      peer: peer.peakBytes / 1e6,
      peerName,
      unit: "MB",
    }),
  ]);
  const { writtenBytes, clipBytes } = JSON.parse(ours.stdout) as Record<string, number>;
  return [
    ...measured,
    row({
      measure: "bytes written for the clips",
      ours: writtenBytes ?? NaN,
      peer: clipBytes ?? NaN,
      peerName: "bytes of the clips",
      unit: "B",
      goal: 1.02,
    }),
  ];
}

const FFMPEG = "ffmpeg -c copy -f segment";
const MEDIABUNNY = "mediabunny, fragmented";
const MEDIABUNNY_LENGTHS = "mediabunny, fragmented (from lengths)";
const SPLITMUXSINK = "GStreamer splitmuxsink (from MP4)";
const COPYING = "dd, which only copies the bytes";

interface Input {
  readonly video: string;
  readonly audio: string;
  /** The same in an MP4. */
  readonly mp4: string;
}

function competitors(ffmpeg: string, folder: string, input: Input): Record<string, Program> {
  const output = join(folder, "clips");
  const prepare = async () => {
    await Deno.remove(output, { recursive: true }).catch(() => {});
    await Deno.mkdir(output);
  };
  const script = (name: string, ...more: string[]): Program => ({
    prepare,
    command: [
      Deno.execPath(),
      "run",
      "--quiet",
      "--allow-all",
      fileURLToPath(new URL(name, import.meta.url)),
      input.video,
      input.audio,
      output,
      ...more,
    ],
  });
  const segment = [
    ...["-c", "copy", "-f", "segment", "-segment_time", "60", "-segment_format", "mp4"],
    join(output, "%03d.mp4"),
  ];
  const quiet = ["-hide_banner", "-nostdin", "-v", "error", "-y"];
  const gstreamer = findProgram("gst-launch-1.0");
  const queue = "queue max-size-buffers=0 max-size-bytes=0 max-size-time=5000000000";
  return {
    ours: script("mux_ours.ts"),
    [FFMPEG]: {
      prepare,
      command: [
        ffmpeg,
        ...quiet,
        ...["-framerate", "30", "-f", "h264", "-i", input.video, "-f", "aac", "-i", input.audio],
        ...segment,
      ],
    },
    "ffmpeg -c copy -f segment (from MP4)": {
      prepare,
      command: [ffmpeg, ...quiet, "-i", input.mp4, ...segment],
    },
    [COPYING]: {
      prepare,
      command: ["dd", "status=none", "bs=128k", `if=${input.video}`, `of=${join(output, "0")}`],
    },
    [MEDIABUNNY]: script("mux_mediabunny.ts", "annexb"),
    [MEDIABUNNY_LENGTHS]: script("mux_mediabunny.ts", "lengths"),
    ...(gstreamer
      ? {
        [SPLITMUXSINK]: {
          prepare,
          hangsAfterS: 90, // at the end of its input its threads wait for each other now and then
          command: [
            gstreamer,
            "-q",
            ...`splitmuxsink name=m max-size-time=60000000000 location=${output}/%03d.mp4
              filesrc location=${input.mp4} ! qtdemux name=d
              d.video_0 ! ${queue} ! h264parse ! m.video
              d.audio_0 ! ${queue} ! aacparse ! m.audio_0`.split(/\s+/),
          ],
        },
      }
      : {}),
  };
}

/** A noisy moving scene at a camera's bitrate, and noise as its sound. */
async function makeInput(ffmpeg: string, folder: string, minutes: number): Promise<Input> {
  const video = join(folder, "video.h264");
  const audio = join(folder, "audio.aac");
  const mp4 = join(folder, "input.mp4");
  const sampleVideo = join(folder, "sample.h264");
  const sampleAudio = join(folder, "sample.aac");
  await run(ffmpeg, [
    ...["-f", "lavfi", "-i", "testsrc2=s=1920x1080:r=30,noise=alls=8:allf=t"],
    ...["-t", String(SAMPLE_S), "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "superfast"],
    ...["-tune", "zerolatency", "-x264-params", "sliced-threads=0:slices=1:keyint=60:scenecut=0"],
    ...["-b:v", "3M", "-maxrate", "3M", "-bufsize", "3M", "-f", "h264", sampleVideo],
  ]);
  // A whole number of frames that is as long as the pictures to within 13 ms.
  await run(ffmpeg, [
    ...["-f", "lavfi", "-i", "anoisesrc=r=48000:a=0.1", "-frames:a"],
    ...[String(Math.floor((SAMPLE_S * 48_000) / 1024)), "-c:a", "aac", "-b:a", "64k"],
    ...["-f", "adts", sampleAudio],
  ]);
  for (const [from, to] of [[sampleVideo, video], [sampleAudio, audio]] as const) {
    const sample = await Deno.readFile(from);
    using file = await Deno.open(to, { write: true, create: true });
    for (let copy = 0; copy < (minutes * 60) / SAMPLE_S; copy++) {
      for (let at = 0; at < sample.length;) at += await file.write(sample.subarray(at));
    }
  }
  await run(ffmpeg, [
    ...["-framerate", "30", "-f", "h264", "-i", video, "-f", "aac", "-i", audio],
    ...["-c", "copy", mp4],
  ]);
  return { video, audio, mp4 };
}

async function run(ffmpeg: string, args: readonly string[]): Promise<void> {
  const { code, stderr } = await new Deno.Command(ffmpeg, {
    args: ["-hide_banner", "-nostdin", "-v", "error", "-y", ...args],
    stdin: "null",
  }).output();
  if (code !== 0) {
    throw new Error(`ffmpeg ${args.join(" ")} failed:\n${new TextDecoder().decode(stderr)}`);
  }
}
