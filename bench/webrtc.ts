/**
 * What it costs to record WebRTC cameras: the whole program with a `google-sdm` account, queue, spool,
 * catalogue and delivery to a folder, beside GStreamer's `webrtcbin` with `mp4mux`, a process for each
 * camera. The cameras are `webrtcbin` peers of GStreamer, so that neither has its own kind as a
 * peer: 1080p, 25 pictures a second, H.264 of 3 Mbit/s with Opus.
 *
 * Each competitor records for some seconds until it is under way, then its CPU time and memory (PSS)
 * over the window count; start-up does not. `CAMERAS=1,4` chooses the numbers of cameras, `WINDOW_S`
 * the length. Besides, our clips are searched for pictures that are missing.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startSdmSimulator } from "../simulators/mod.ts";
import { median, type Row, row, treePssBytes } from "./measure.ts";
import { cpuSeconds, isThere, lostPictures, makeMovie, pause, spawn } from "./passthrough.ts";
import type { BenchOptions } from "./run.ts";

const CLIP_S = 10;
// The runtime compiles what is hot in the first seconds.
const WARM_UP_MS = 16_000;
const WINDOW_S = Number(Deno.env.get("WINDOW_S") ?? 20);
const CAMERAS = (Deno.env.get("CAMERAS") ?? "1,4").split(",").map(Number);
const ROOT = fileURLToPath(new URL("../", import.meta.url));
const PYTHON = ["/usr/bin/python3", "-W", "ignore"];

/** What recording cost, for each camera. */
interface Figures {
  readonly cpuSPerCameraHour: number;
  readonly pssBytesPerCamera: number;
  /** Pictures that are missing between the first and the last of each clip. */
  readonly lostPictures: number;
}

/** Processes that are recording. */
interface Recording extends AsyncDisposable {
  readonly pids: readonly number[];
  /** Ends it in order, and counts what is missing in its clips. */
  finish(): Promise<number>;
}

interface Place {
  readonly cameras: number;
  readonly movie: string;
  readonly folder: string;
}

/** A camera's peer, answering an offer. */
interface Peer {
  readonly answer: string;
  close(): void;
}

async function lineOf(child: Deno.ChildProcess): Promise<Record<string, unknown>> {
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { done, value } = await reader.read();
    if (done) throw new Error("a GStreamer peer ended before it said anything");
    text += value;
  }
  reader.cancel().catch(() => {});
  return JSON.parse(text);
}

async function say(child: Deno.ChildProcess, value: object): Promise<void> {
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(`${JSON.stringify(value)}\n`));
  writer.releaseLock();
}

/** A camera that plays the movie to whoever made the offer. */
async function answerOffer(file: string, offer: string): Promise<Peer> {
  const child = spawn([...PYTHON, join(ROOT, "tests/support/gst_webrtc_peer.py")]);
  await say(child, { file, offer });
  const { answer } = await lineOf(child);
  return { answer: String(answer), close: () => kill(child) };
}

function kill(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
  child.stdin.close().catch(() => {});
}

/** Ours: the real program, and a simulated Device Access whose cameras are GStreamer's. */
async function startOurs({ cameras, movie, folder }: Place): Promise<Recording> {
  const cloud = await startSdmSimulator({
    cameras: Array.from({ length: cameras }, (_, index) => ({ customName: `cam${index}` })),
    quotas: false,
    media: {
      rtsp: () => Promise.reject(new Error("these cameras have WebRTC alone")),
      async webRtc(_camera, _stream, offer) {
        const { answer, close } = await answerOffer(movie, offer);
        return { where: answer, close };
      },
    },
  });
  const { projectId, clientId, clientSecret, refreshToken } = cloud.credentials;
  const config = {
    accounts: {
      home: {
        type: "google-sdm",
        ...{ projectId, clientId, clientSecret, refreshToken, endpoints: cloud.endpoints },
      },
    },
    clip: { length: `${CLIP_S}s` },
    spool: { path: join(folder, "spool") },
    sinks: { local: { type: "local-folder", path: join(folder, "clips") } },
  };
  const path = join(folder, "camsink.jsonc");
  await Deno.writeTextFile(path, JSON.stringify(config), { mode: 0o600 });
  const profile = Deno.env.get("PROFILE") === undefined ? [] : ["--cpu-prof"];
  const child = spawn([
    ...[Deno.execPath(), "run", "-A", ...profile, join(ROOT, "cli.ts")],
    ...["capture", "--json", "--config", path],
  ], Deno.env.get("PROFILE"));
  const lines = child.stdout.pipeThrough(new TextDecoderStream());
  const begun = Promise.withResolvers<void>();
  let count = 0;
  let said = "";
  (async () => {
    for await (const text of lines) {
      said = (said + text).slice(-4000);
      count += text.split('"event":"recording"').length - 1;
      if (count >= cameras) begun.resolve();
    }
    begun.reject(new Error(`the program ended before all cameras were recorded:\n${said}`));
  })();
  await begun.promise;
  return {
    pids: [child.pid],
    async finish() {
      child.kill("SIGINT");
      await child.status;
      return await lostPictures(join(folder, "clips"));
    },
    async [Symbol.asyncDispose]() {
      kill(child);
      await child.status;
      await cloud.close();
    },
  };
}

/** GStreamer: a process for each camera. */
async function startGStreamer({ cameras, movie, folder }: Place): Promise<Recording> {
  const children: Deno.ChildProcess[] = [];
  const peers: Peer[] = [];
  for (let index = 0; index < cameras; index++) {
    const own = join(folder, `g${index}`);
    await Deno.mkdir(own);
    const child = spawn([
      ...[...PYTHON, join(ROOT, "tests/support/gst_webrtc_recorder.py"), own],
    ]);
    children.push(child);
    const { offer } = await lineOf(child);
    const peer = await answerOffer(movie, String(offer));
    peers.push(peer);
    await say(child, { answer: peer.answer });
  }
  return {
    pids: children.map(({ pid }) => pid),
    async finish() {
      for (const child of children) await child.stdin.close();
      // Its file can be read without its end, which a sound that never came may hold up.
      await Promise.race([Promise.all(children.map(({ status }) => status)), pause(3000)]);
      return await lostPictures(folder);
    },
    async [Symbol.asyncDispose]() {
      for (const child of children) kill(child);
      for (const peer of peers) peer.close();
      await Promise.all(children.map(({ status }) => status));
    },
  };
}

const COMPETITORS = { ours: startOurs, webrtcbin: startGStreamer } as const;
type Name = keyof typeof COMPETITORS;

/** The bench `webrtc`. */
export async function benchWebRtc({ rounds, say }: BenchOptions): Promise<readonly Row[]> {
  if (!isThere("splitmuxsink") || !isThere("ffmpeg")) {
    say("webrtc: needs ffmpeg and GStreamer with its webrtcbin and Python (see bench/README.md)");
    return [];
  }
  const folder = await Deno.makeTempDir({ prefix: "camsink-webrtc-bench-" });
  try {
    const seconds = Math.ceil(WARM_UP_MS / 1000 + WINDOW_S + 40);
    const movie = await makeMovie(folder, { seconds, sound: false, say });
    const rows: Row[] = [];
    for (const cameras of CAMERAS) {
      const figures: Record<Name, Figures[]> = { ours: [], webrtcbin: [] };
      const names = Object.keys(COMPETITORS) as Name[];
      for (let round = 0; round < rounds; round++) {
        for (const name of round % 2 === 0 ? names : names.toReversed()) {
          const one = await record(name, { cameras, movie, folder });
          figures[name].push(one);
          say(
            `${cameras} x ${name}: ${one.cpuSPerCameraHour.toFixed(1)} CPU-s per camera-hour, ` +
              `${(one.pssBytesPerCamera / 1e6).toFixed(1)} MB a camera, ` +
              `${one.lostPictures} pictures lost`,
          );
        }
      }
      const line = (measure: string, unit: string, of: (one: Figures) => number) =>
        row({
          measure: `${measure}, ${cameras} ${cameras === 1 ? "camera" : "cameras"}`,
          ours: median(figures.ours.map(of)),
          peer: median(figures.webrtcbin.map(of)),
          peerName: "webrtcbin",
          unit,
        });
      rows.push(
        line("CPU per camera-hour", "s", (one) => one.cpuSPerCameraHour),
        line("memory per camera", "MB", (one) => one.pssBytesPerCamera / 1e6),
      );
    }
    return rows;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** One competitor, once. */
async function record(name: Name, place: Place): Promise<Figures> {
  const folder = await Deno.makeTempDir({ dir: place.folder });
  try {
    await using recording = await COMPETITORS[name]({ ...place, folder });
    const { pids } = recording;
    await pause(WARM_UP_MS);
    const cpu = () => pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
    const before = cpu();
    const beganMs = performance.now();
    let peakBytes = 0;
    while (performance.now() - beganMs < WINDOW_S * 1000) {
      await pause(1000);
      peakBytes = Math.max(peakBytes, pids.reduce((sum, pid) => sum + treePssBytes(pid), 0));
    }
    const hours = (performance.now() - beganMs) / 3_600_000;
    const cpuS = cpu() - before;
    return {
      cpuSPerCameraHour: cpuS / hours / place.cameras,
      pssBytesPerCamera: peakBytes / place.cameras,
      lostPictures: await recording.finish(),
    };
  } finally {
    await Deno.remove(folder, { recursive: true }).catch(() => {});
  }
}
