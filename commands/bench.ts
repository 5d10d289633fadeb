/**
 * `camsink bench`: how many cameras, and of which kind, this machine can hold. Snapshots are encoded
 * with each engine in two sizes; a live stream is written as it comes, as whole clips in a temporary
 * folder. It needs no configuration and no camera, and is over within its time: what there was no time
 * for is reckoned from the other size, and said to be.
 *
 * @module
 */
import { mkdtemp, open, rm } from "node:fs/promises";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import {
  createEncoders,
  type Encoders,
  type EncodersOptions,
  type EngineProbe,
} from "../core/encode/mod.ts";
import { EXIT, type ExitCode } from "../core/exit_codes.ts";
import { getLog } from "../core/log.ts";
import { makeAvcConfig } from "../core/media/h264.ts";
import { createMp4Writer } from "../core/media/mp4_writer.ts";
import type { AccessUnit, Clock, Log, VideoTrack } from "../core/types.ts";
import type { BenchArguments } from "./program_arguments.ts";
import type { CommandContext } from "./context.ts";
import { machineSpeed, scenePictures } from "./probe_encoder.ts";
import { failureText } from "./probes.ts";
import { styles } from "./terminal.ts";
import { layOutTable, type Row as TableRow } from "./text_layout.ts";

/** Part of the machine that cameras may fill: the rest is for uploads, for bursts, and for you. */
const FILL = 0.7;

/** What the row's cameras are counted for: pictures/s of each. */
const RATES = [1, 2, 5, 10] as const;

interface Size {
  readonly widthPx: number;
  readonly heightPx: number;
}

const SIZES: readonly Size[] = [
  { widthPx: 1280, heightPx: 720 },
  { widthPx: 1920, heightPx: 1080 },
];
/** Pictures of a size, at most. */
const PICTURES = 24;
/** Other work takes so much of a machine that it matters: load per core, before the bench began. */
const BUSY_LOAD_PER_CORE = 0.25;

const STREAM = { widthPx: 1920, heightPx: 1080, fps: 25, bitsPerSecond: 3_000_000 } as const;
const CLIP_S = 60;
const STREAM_MS = 2000;
/** Units of one byte sequence: enough that no cache holds them all. */
const GOP_PICTURES = 50;
/**
 * Receiving a stream over the network, watching it and delivering its clips cost about twenty times
 * what writing it costs: bench/README.md, 27.6 beside 1.42 CPU-seconds per camera-hour.
 */
const WHOLE_PER_WRITING = 20;

/** One kind of camera, and how many of it. */
export type BenchRow =
  & Size
  & (
    | {
      readonly kind: "snapshots";
      readonly engine: EngineProbe["engine"];
      readonly preset: string;
      /** Of the whole machine. */
      readonly picturesPerSecond: number;
      /** There was no time to measure it: reckoned from the pixels of the size that was measured. */
      readonly reckoned: boolean;
      /** How many cameras, by the pictures/s of each. */
      readonly cameras: Readonly<Record<string, number>>;
    }
    | {
      readonly kind: "streams";
      readonly bitsPerSecond: number;
      /** Seconds of a stream that are written in a second of processor time. */
      readonly cpuSpeed: number;
      /** Seconds of a stream that reach the disk in a second. */
      readonly diskSpeed: number;
      readonly cameras: number;
    }
    | {
      readonly kind: "failed";
      /** What was to be measured. */
      readonly what: string;
      readonly error: string;
    }
  );

/** Runs `camsink bench`. Exit code 0 if anything could be measured, else 69. */
export async function bench(args: BenchArguments, context: CommandContext): Promise<ExitCode> {
  const { terminal, clock, stop } = context;
  const rows: BenchRow[] = [];
  const cores = availableParallelism();
  const [load = 0] = loadavg(); // 0 on Windows, which has none
  if (!args.json) terminal.err(`camsink: measuring for up to ${args.forMs / 1000} s …`);
  for await (
    const row of measure({ budgetMs: args.forMs, clock, signal: stop, log: getLog("encoder") })
  ) {
    rows.push(row);
  }
  stop.throwIfAborted();
  if (args.json) {
    terminal.out(JSON.stringify({ event: "bench", cores, load, fill: FILL, rows }));
  } else {
    const style = styles(terminal.dataColor);
    for (const line of tableOf(rows, { width: terminal.size().columns, title: style.bold })) {
      terminal.out(line);
    }
    terminal.out("");
    terminal.out(
      `With ${cores} cores, filled to ${
        FILL * 100
      } %; each kind of camera alone, on the machine as ` +
        "busy as it is now.",
    );
    if (rows.some((row) => row.kind === "snapshots" && row.reckoned)) {
      terminal.out(
        `~ There was no time to measure it: reckoned from the other size. More time: --for ${
          Math.ceil(3 * args.forMs / 1000)
        }s`,
      );
    }
    if (load > BUSY_LOAD_PER_CORE * cores) {
      terminal.out(
        `The machine was busy with other work (load ${
          load.toFixed(1)
        } on ${cores} cores): it holds ` +
          "more when that work rests. Measure again then.",
      );
    }
    terminal.out("Live streams are not encoded: they are the cheapest way where a camera has one.");
  }
  return rows.some(({ kind }) => kind !== "failed") ? EXIT.ok : EXIT.unavailable;
}

/** Measures one kind after the other; what could not be measured at all comes as a row that says so. */
export async function* measure(
  { budgetMs, clock, signal, log, sizes = SIZES, open = createEncoders }: {
    readonly budgetMs: number;
    readonly clock: Clock;
    readonly signal: AbortSignal;
    readonly log: Log;
    readonly sizes?: readonly Size[];
    /** For tests. */
    open?(options: EncodersOptions): Promise<Pick<Encoders, "engines" | "probe"> & AsyncDisposable>;
  },
): AsyncGenerator<BenchRow> {
  // Closing the encoders takes a moment too.
  const endMs = clock.monotonic() + 0.85 * budgetMs;
  // First the streams, since they take a time that is known.
  const streamMs = Math.min(STREAM_MS, budgetMs / 5);
  let streams: BenchRow;
  try {
    streams = await measureStream({ lengthMs: streamMs, clock, signal });
  } catch (error) {
    streams = { kind: "failed", what: "live streams", error: failureText(error), ...STREAM_SIZE };
  }
  try {
    if (clock.monotonic() >= endMs) throw new Error(NO_TIME);
    await using encoders = await open({ clock, log });
    yield* measureSizes({ encoders, sizes, endMs, clock, signal });
  } catch (error) {
    for (const size of sizes) {
      yield { kind: "failed", what: "snapshots", error: failureText(error), ...size };
    }
  }
  yield streams;
}

const NO_TIME = "there was no time for it; give it more (--for 20s)";
const STREAM_SIZE = { widthPx: STREAM.widthPx, heightPx: STREAM.heightPx };

/**
 * Every size with every engine, each in its share of the time that is left. The engines are opened
 * once, so that the later sizes find them warm.
 */
async function* measureSizes(
  { encoders, sizes, endMs, clock, signal }: {
    readonly encoders: Pick<Encoders, "engines" | "probe">;
    readonly sizes: readonly Size[];
    readonly endMs: number;
    readonly clock: Clock;
    readonly signal: AbortSignal;
  },
): AsyncGenerator<BenchRow> {
  const measured: { readonly size: Size; readonly probe: EngineProbe }[] = [];
  let left = sizes.length * encoders.engines.length;
  for (const size of sizes) {
    const pictures = clock.monotonic() < endMs ? scenePictures({ ...size, count: PICTURES }) : [];
    for (const { name, description } of encoders.engines) {
      const forMs = (endMs - clock.monotonic()) / left--;
      const [probe] = forMs > 0
        ? await encoders.probe(pictures, { signal, engine: name, forMs })
        : [{ engine: name, description, ok: false, error: NO_TIME } as const];
      if (probe) measured.push({ size, probe });
    }
  }
  for (const { size, probe } of measured) {
    const other = measured.find((one) => one.probe.ok && one.probe.engine === probe.engine);
    if (probe.ok || !other?.probe.ok) yield rowOf(probe, size);
    else {
      const pixels = ({ widthPx, heightPx }: Size) => widthPx * heightPx;
      const picturesPerSecond = other.probe.picturesPerSecond * pixels(other.size) / pixels(size);
      yield rowOf({ ...other.probe, picturesPerSecond }, size, { reckoned: true });
    }
  }
}

function rowOf(
  probe: EngineProbe,
  size: Size,
  { reckoned = false }: { readonly reckoned?: boolean } = {},
): BenchRow {
  if (!probe.ok) {
    return { kind: "failed", what: `snapshots, ${probe.engine},`, error: probe.error, ...size };
  }
  const { engine, preset } = probe;
  const picturesPerSecond = machineSpeed(probe, availableParallelism());
  const cameras = Object.fromEntries(
    RATES.map((fps) => [fps, Math.floor(FILL * picturesPerSecond / fps)]),
  );
  return { kind: "snapshots", engine, preset, picturesPerSecond, reckoned, cameras, ...size };
}

/** Writes a made-up stream as fast as it goes, to the disk like a recording's. */
async function measureStream(
  { lengthMs, clock, signal }: {
    readonly lengthMs: number;
    readonly clock: Clock;
    readonly signal: AbortSignal;
  },
): Promise<BenchRow> {
  const folder = await mkdtemp(join(tmpdir(), "camsink-bench-"));
  try {
    const gop = madeUpGop();
    const beganMs = clock.monotonic();
    let startMs = beganMs;
    let startCpu = process.cpuUsage();
    let seconds = 0;
    do {
      await using file = await open(join(folder, "clip.mp4"), "w");
      const writer = createMp4Writer({
        tracks: [STREAM_TRACK],
        startedAt: new Date(clock.now()),
        camera: "bench",
        product: "camsink",
      });
      await file.write(writer.header());
      for (let atS = 0; atS < CLIP_S; atS += GOP_PICTURES / STREAM.fps) {
        await file.writev(writer.fragment(gop.map((unit) => later(unit, atS * 1e6))));
        seconds += GOP_PICTURES / STREAM.fps;
        signal.throwIfAborted();
        if (clock.monotonic() - beganMs > lengthMs) break;
      }
      const { tail, patch } = writer.finish();
      await file.writev([...tail]);
      await file.datasync();
      await file.write(patch.bytes, 0, patch.bytes.length, patch.offset);
      // The first clip pays for what all later ones find compiled.
      if (startMs === beganMs && clock.monotonic() - beganMs < lengthMs) {
        startMs = clock.monotonic();
        startCpu = process.cpuUsage();
        seconds = 0;
      }
    } while (clock.monotonic() - beganMs < lengthMs || seconds === 0);
    const { user, system } = process.cpuUsage(startCpu);
    const cpuSpeed = seconds * 1e6 / Math.max(1, user + system);
    const diskSpeed = seconds * 1000 / Math.max(1, clock.monotonic() - startMs);
    return {
      kind: "streams",
      ...STREAM_SIZE,
      bitsPerSecond: STREAM.bitsPerSecond,
      cpuSpeed,
      diskSpeed,
      // One core: the program's own thread does this for all cameras.
      cameras: Math.floor(FILL * Math.min(diskSpeed, cpuSpeed / WHOLE_PER_WRITING)),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const STREAM_TRACK: VideoTrack = {
  id: 1,
  kind: "video",
  codec: "h264",
  ...STREAM_SIZE,
  config: makeAvcConfig({
    sps: [
      Uint8Array.of(
        0x67,
        0x42,
        0xc0,
        0x28,
        0xda,
        0x01,
        0xe0,
        0x08,
        0x9f,
        0x97,
        0x01,
        0x10,
        0x00,
        0x00,
        0x03,
        0x00,
        0x10,
        0x00,
        0x00,
        0x03,
        0x03,
        0x20,
        0xf1,
        0x83,
        0x2a,
      ),
    ],
    pps: [Uint8Array.of(0x68, 0xce, 0x0f, 0xc8)],
  }),
};

/** Two seconds: a large key picture, and smaller ones after it. */
function madeUpGop(): readonly AccessUnit[] {
  const meanBytes = STREAM.bitsPerSecond / 8 / STREAM.fps;
  return Array.from({ length: GOP_PICTURES }, (_, index) => {
    const sizeBytes = Math.round(index === 0 ? meanBytes * 10 : meanBytes * 40 / 49);
    const data = new Uint8Array(sizeBytes).fill(index + 1);
    new DataView(data.buffer).setUint32(0, sizeBytes - 4);
    data[4] = index === 0 ? 0x65 : 0x41;
    const ptsUs = Math.round(index * 1e6 / STREAM.fps);
    return { trackId: 1, data, ptsUs, dtsUs: ptsUs, isKey: index === 0, capturedAtMs: ptsUs / 1e3 };
  });
}

function later(unit: AccessUnit, us: number): AccessUnit {
  const ptsUs = unit.ptsUs + us;
  return { ...unit, ptsUs, dtsUs: ptsUs, capturedAtMs: ptsUs / 1000 };
}

function tableOf(
  rows: readonly BenchRow[],
  { width, title }: { readonly width: number; readonly title: (text: string) => string },
): readonly string[] {
  const lines = rows.map((row): TableRow => {
    const size = `${row.heightPx}p`;
    const cells = (...texts: readonly string[]) => texts.map((text) => ({ text }));
    switch (row.kind) {
      case "snapshots":
        return cells(
          `snapshots ${size}`,
          `${row.engine} ${row.preset}`,
          `${row.reckoned ? "~ " : ""}${row.picturesPerSecond.toFixed(0)}`,
          ...RATES.map((fps) => `${row.cameras[fps] ?? 0}`),
        );
      case "streams":
        return {
          first: { text: `live streams ${size}` },
          across: { text: `about ${row.cameras} cameras of ${row.bitsPerSecond / 1e6} Mbit/s` },
        };
      case "failed":
        return {
          first: { text: `${row.what} ${size}` },
          across: { text: `not measured: ${row.error}` },
        };
    }
  });
  return layOutTable(
    [
      { title: "CAMERAS" },
      { title: "ENCODER", dropOrder: 1 },
      { title: "PICTURES/S", align: "right" },
      ...RATES.map((fps) => ({ title: `AT ${fps}/S`, align: "right" as const })),
    ],
    lines,
    { width, titleStyle: title },
  );
}
