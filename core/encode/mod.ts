/**
 * Encoding: JPEG pictures in, H.264 access units out. Here is the table of engines, and the choice
 * between them: `auto` takes ffmpeg.wasm, which needs nothing installed, and keeps a system ffmpeg in
 * reserve for cameras that wasm cannot keep up with.
 *
 * @module
 */
import { systemClock } from "../clock.ts";
import type { AccessUnit, Clock, Encoder, Log } from "../types.ts";
import { createCameraEncoder } from "./camera_encoder.ts";
import type { Engine, EngineName, Quality } from "./engine.ts";
import { openSystemEngine } from "./ffmpeg_system.ts";
import { openWasmEngine } from "./ffmpeg_wasm.ts";
import { createGearbox, type EncoderDescription } from "./gearbox.ts";
import { type Gear, gearsOf } from "./x264.ts";

export type { EncoderDescription } from "./gearbox.ts";
export type { EngineName, Quality } from "./engine.ts";

/** How the encoders are chosen and run. */
export interface EncodersOptions {
  /** `encoder.use`. Default: `auto`. */
  readonly use?: "auto" | EngineName;
  /** `encoder.path`: the system ffmpeg, where it is not on the PATH. */
  readonly path?: string;
  /** `encoder.quality`. Default: `standard`. */
  readonly quality?: Quality;
  /** Most wasm workers at a time. Default: two per core, at least 2, at most 8. */
  readonly workers?: number;
  readonly clock?: Clock;
  readonly log: Log;
  /** Where `@ffmpeg/core` lies when the import map does not know it (a bundled program). */
  readonly core?: { readonly scriptUrl: string; readonly wasmUrl: string };
}

/** What one engine does on this machine. */
export type EngineProbe =
  & { readonly engine: EngineName; readonly description: string }
  & (
    | {
      readonly ok: true;
      readonly preset: string;
      /** Pictures/s that one camera alone could have encoded. */
      readonly picturesPerSecond: number;
    }
    | { readonly ok: false; readonly error: string }
  );

/** All encoding of a process. */
export interface Encoders extends AsyncDisposable {
  /** The engines that are ready, in order of preference. */
  readonly engines: readonly { readonly name: EngineName; readonly description: string }[];
  /** An encoder for one session of one camera. */
  forCamera(): Encoder;
  /** How a camera is encoded just now; `undefined` before its first GOP. */
  describe(camera: string): EncoderDescription | undefined;
  /** Encodes these JPEGs (all of one size; a few seconds' worth) with each engine, and times it. */
  probe(
    jpegs: readonly Uint8Array[],
    options: { readonly signal: AbortSignal },
  ): Promise<readonly EngineProbe[]>;
}

type OpenEngine = (options: EncodersOptions & { readonly clock: Clock }) => Promise<Engine>;

/** The engines, in the order in which `auto` prefers them. */
const ENGINES: Readonly<Record<EngineName, OpenEngine>> = {
  wasm: ({ workers, clock, core }) =>
    openWasmEngine({
      workers: workers ?? Math.min(8, Math.max(2, 2 * navigator.hardwareConcurrency)),
      clock,
      ...(core ? { core } : {}),
    }),
  system: ({ path, clock }) =>
    openSystemEngine({
      ...(path === undefined ? {} : { path }),
      monotonic: () => clock.monotonic(),
    }),
};

const ENGINE_NAMES: readonly EngineName[] = ["wasm", "system"];

/**
 * Opens what `use` asks for.
 *
 * @throws Error that says why there is no encoder and what to do
 */
export async function createEncoders(options: EncodersOptions): Promise<Encoders> {
  const { use = "auto", quality = "standard", log } = options;
  const clock = options.clock ?? systemClock;
  const wanted = use === "auto" ? ENGINE_NAMES : [use];
  const opened = await Promise.allSettled(
    wanted.map((name) => ENGINES[name]({ ...options, clock })),
  );
  const engines: Engine[] = [];
  const failures: string[] = [];
  for (const [position, result] of opened.entries()) {
    const name = wanted[position];
    if (result.status === "fulfilled") engines.push(result.value);
    else failures.push(`${name}: ${messageOf(result.reason)}`);
  }
  const [first, ...rest] = engines.flatMap((engine) => gearsOf(engine.name, quality));
  if (!first) {
    throw new Error(
      `encoder.use: "${use}" finds no encoder that works.\n  ${failures.join("\n  ")}`,
    );
  }
  if (use === "auto" && first.engine !== "wasm") {
    log.warn(`encoding with the system ffmpeg, because ${failures.join("; ")}`);
  } else if (failures.length > 0) {
    log.debug(`no second encoder in reserve: ${failures.join("; ")}`);
  }
  const byName = new Map(engines.map((engine) => [engine.name, engine]));
  const engineOf = (gear: Gear): Engine => {
    const engine = byName.get(gear.engine);
    if (!engine) throw new Error(`the ${gear.engine} engine is not open`);
    return engine;
  };
  const gearbox = createGearbox([first, ...rest], log);
  return {
    engines: engines.map(({ name, description }) => ({ name, description })),
    forCamera: () =>
      createCameraEncoder({
        clock,
        gear: (camera) => gearbox.gear(camera),
        openLane: (gear) => engineOf(gear).openLane(),
        onReport: (camera, report) => gearbox.report(camera, report),
      }),
    describe: (camera) => gearbox.describe(camera),
    async probe(jpegs, { signal }) {
      const probes: EngineProbe[] = [];
      // One after the other: together they would measure each other.
      for (const engine of engines) {
        probes.push(await probeEngine(engine, quality, jpegs, { clock, signal }));
      }
      for (const [position, result] of opened.entries()) {
        const name = wanted[position];
        if (result.status === "fulfilled" || name === undefined) continue;
        const error = messageOf(result.reason);
        probes.push({ engine: name, description: name, ok: false, error });
      }
      return probes;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(engines.map((engine) => engine[Symbol.asyncDispose]()));
    },
  };
}

const PROBE_GOP_MS = 2000;
const PROBE_PICTURE_MS = 100;

async function probeEngine(
  engine: Engine,
  quality: Quality,
  jpegs: readonly Uint8Array[],
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<EngineProbe> {
  const { name, description } = engine;
  const gear = gearsOf(name, quality)[0];
  if (!gear) return { engine: name, description, ok: false, error: "it has no preset" };
  let failure: string | undefined;
  const encoder = createCameraEncoder({
    clock,
    gear: () => gear,
    openLane: () => engine.openLane(),
    onReport: (_, report) => {
      if (report.kind === "failed") failure = report.error.message;
    },
  });
  /** Encodes `pictures` and says when each came out. */
  const timesOf = async (pictures: readonly Uint8Array[]): Promise<number[]> => {
    const timesMs: number[] = [];
    const options = {
      signal,
      camera: "probe",
      gopMs: PROBE_GOP_MS,
      onLost: (_: number, cause: unknown) => failure = messageOf(cause),
    };
    for await (const _ of encoder.encode(asUnits(pictures), options)) {
      timesMs.push(clock.monotonic());
    }
    return timesMs;
  };
  await timesOf(jpegs.slice(0, 10)); // the first pictures of a fresh wasm run several times slower
  const startMs = clock.monotonic();
  const timesMs = await timesOf(jpegs);
  const tookMs = (timesMs.at(-1) ?? startMs) - startMs;
  signal.throwIfAborted();
  if (failure !== undefined || timesMs.length === 0) {
    return { engine: name, description, ok: false, error: failure ?? "no picture came out" };
  }
  const picturesPerSecond = timesMs.length * 1000 / Math.max(1, tookMs);
  return { engine: name, description, ok: true, preset: gear.label, picturesPerSecond };
}

async function* asUnits(jpegs: readonly Uint8Array[]): AsyncGenerator<AccessUnit> {
  for (const [index, data] of jpegs.entries()) {
    const capturedAtMs = index * PROBE_PICTURE_MS;
    const ptsUs = capturedAtMs * 1000;
    yield { trackId: 1, data, ptsUs, dtsUs: ptsUs, isKey: true, capturedAtMs };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
