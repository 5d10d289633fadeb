/**
 * Encoding: JPEG pictures in, H.264 access units out. Here is the table of engines, and the choice
 * between them: `auto` takes ffmpeg.wasm, which needs nothing installed, and keeps a system ffmpeg in
 * reserve for cameras that wasm cannot keep up with.
 *
 * @module
 */
import { systemClock } from "../clock.ts";
import type { AccessUnit, Clock, Encoder, Log } from "../types.ts";
import { createAblePictures } from "./able_pictures.ts";
import { createCameraEncoder } from "./camera_encoder.ts";
import type { Engine, EngineName, PictureLaneOptions, Quality } from "./engine.ts";
import { openSystemEngine } from "./ffmpeg_system.ts";
import { openWasmEngine } from "./ffmpeg_wasm.ts";
import { createGearbox, type EncoderDescription, type LighterOption } from "./gearbox.ts";
import {
  createPictureDecoder,
  type PictureDecoder,
  type PictureDecoderOptions,
} from "./key_pictures.ts";
import { createSoundEncoder, type SoundEncoder, type SoundEncoderOptions } from "./sound.ts";
import { type Gear, gearsOf } from "./x264.ts";

export type { EncoderDescription } from "./gearbox.ts";
export type { EngineName, Quality } from "./engine.ts";
export type { GrayPicture, PictureDecoder, PictureDecoderOptions } from "./key_pictures.ts";
export type { SoundEncoder, SoundEncoderOptions } from "./sound.ts";

/** How the encoders are chosen and run. */
export interface EncodersOptions {
  /** `encoder.use`. Default: `auto`. */
  readonly use?: "auto" | EngineName;
  /** ffmpeg.wasm may be opened later, for what the other engines cannot decode. Default: with `auto`. */
  readonly mayOpenWasm?: boolean;
  /** `encoder.path`: the system ffmpeg, where it is not on the PATH. */
  readonly path?: string;
  /** `encoder.quality`. Default: `standard`. */
  readonly quality?: Quality;
  /** Most wasm workers at a time. Default: two per core, at least 2, at most 8. */
  readonly workers?: number;
  /** So many cameras are known to need encoding: what they need is started with the rest. */
  readonly cameras?: number;
  readonly clock?: Clock;
  readonly log: Log;
  /** Which options a camera has that make less of its encoding; for advice. Default: `fps`. */
  lighterOptions?(camera: string): readonly LighterOption[];
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
  /**
   * An encoder for the sound of one session of one camera; an installed ffmpeg is taken where there is
   * one, because the other takes more memory. @throws MediaError where the sound is of no usual form
   */
  forSound(options: SoundEncoderOptions): SoundEncoder;
  /**
   * A decoder for one camera's key pictures; an installed ffmpeg is taken where there is one that can,
   * because it takes half the CPU time or less.
   */
  forKeyPictures(options: PictureDecoderOptions): PictureDecoder;
  /** How a camera is encoded just now; `undefined` before its first GOP. */
  describe(camera: string): EncoderDescription | undefined;
  /** Encodes these JPEGs (all of one size; a few seconds' worth) with each engine, and times it. */
  probe(
    jpegs: readonly Uint8Array[],
    options: {
      readonly signal: AbortSignal;
      /** This engine alone. */
      readonly engine?: EngineName;
      /** For no longer than this: what came out by then is what counts. */
      readonly forMs?: number;
    },
  ): Promise<readonly EngineProbe[]>;
}

type OpenEngine = (options: EncodersOptions & { readonly clock: Clock }) => Promise<Engine>;

/** The engines, in the order in which `auto` prefers them. */
const ENGINES: Readonly<Record<EngineName, OpenEngine>> = {
  wasm: ({ workers, cameras, clock, core }) =>
    openWasmEngine({
      workers: workers ?? Math.min(8, Math.max(2, 2 * navigator.hardwareConcurrency)),
      clock,
      ...(cameras === undefined ? {} : { cameras }),
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
  const lightest = byName.get("system") ?? engineOf(first);
  let reserve: Promise<Engine> | undefined;
  const inProcess = async (): Promise<Engine> => {
    const opened = byName.get("wasm");
    if (opened) return opened;
    reserve ??= ENGINES.wasm({ ...options, workers: 1, clock });
    reserve.catch(() => reserve = undefined); // the next one who needs it tries again
    return await reserve;
  };
  const openPictures = lightest.name === "system" && (options.mayOpenWasm ?? use === "auto")
    ? createAblePictures({ installed: lightest, inProcess, log })
    : (lane: PictureLaneOptions) => lightest.openPictures(lane);
  const gearbox = createGearbox([first, ...rest], { log, lighterOptions: options.lighterOptions });
  return {
    engines: engines.map(({ name, description }) => ({ name, description })),
    forCamera: () =>
      createCameraEncoder({
        clock,
        gear: (camera) => gearbox.gear(camera),
        openLane: (gear) => engineOf(gear).openLane(),
        onReport: (camera, report) => gearbox.report(camera, report),
      }),
    forSound: (sound) =>
      createSoundEncoder({
        ...sound,
        clock,
        openLane: (lane) => lightest.openSound(lane),
      }),
    forKeyPictures: (pictures) =>
      createPictureDecoder({
        ...pictures,
        clock,
        openLane: openPictures,
      }),
    describe: (camera) => gearbox.describe(camera),
    async probe(jpegs, { signal, engine: only, forMs = Infinity }) {
      const probes: EngineProbe[] = [];
      const isWanted = (name: EngineName) => only === undefined || name === only;
      // One after the other: together they would measure each other.
      for (const engine of engines.filter(({ name }) => isWanted(name))) {
        probes.push(await probeEngine(engine, quality, jpegs, { clock, signal, forMs }));
      }
      for (const [position, result] of opened.entries()) {
        const name = wanted[position];
        if (result.status === "fulfilled" || name === undefined || !isWanted(name)) continue;
        const error = messageOf(result.reason);
        probes.push({ engine: name, description: name, ok: false, error });
      }
      return probes;
    },
    async [Symbol.asyncDispose]() {
      const late = await reserve?.catch(() => undefined);
      const all = late ? [...engines, late] : engines;
      await Promise.all(all.map((engine) => engine[Symbol.asyncDispose]()));
    },
  };
}

const PROBE_GOP_MS = 2000;
const PROBE_PICTURE_MS = 100;
/** So many pictures go in once more: the first of a fresh wasm run several times slower. */
const PROBE_WARM_UP = 10;
/** Of the time of a probe, the part in which pictures go in: what is inside then has the rest. */
const PROBE_FEEDING = 0.8;

async function probeEngine(
  engine: Engine,
  quality: Quality,
  jpegs: readonly Uint8Array[],
  { clock, signal, forMs }: {
    readonly clock: Clock;
    readonly signal: AbortSignal;
    readonly forMs: number;
  },
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
  const startMs = clock.monotonic();
  const timeUp = new AbortController();
  const done = new AbortController();
  if (forMs < Infinity) {
    clock.sleep(forMs, { signal: done.signal }).then(() => timeUp.abort(), () => {});
  }
  const either = AbortSignal.any([signal, timeUp.signal]);
  function* fed(): Generator<Uint8Array> {
    for (const jpeg of [...jpegs.slice(0, PROBE_WARM_UP), ...jpegs]) {
      if (clock.monotonic() - startMs > PROBE_FEEDING * forMs) return;
      yield jpeg;
    }
  }
  /** When each picture came out. */
  const timesMs: number[] = [];
  try {
    const options = {
      signal: either,
      camera: "probe",
      gopMs: PROBE_GOP_MS,
      onLost: (_: number, cause: unknown) => failure = messageOf(cause),
    };
    for await (const _ of encoder.encode(asUnits(fed()), options)) {
      timesMs.push(clock.monotonic());
    }
  } catch (error) {
    if (!timeUp.signal.aborted) throw error;
  } finally {
    done.abort();
  }
  signal.throwIfAborted();
  if (failure !== undefined || timesMs.length === 0) {
    const tookS = ((clock.monotonic() - startMs) / 1000).toFixed(1);
    const error = failure ?? `no picture came out in ${tookS} s`;
    return { engine: name, description, ok: false, error };
  }
  const picturesPerSecond = rateOf(timesMs, startMs);
  return { engine: name, description, ok: true, preset: gear.label, picturesPerSecond };
}

/**
 * Pictures per second of an encoder that began at `startMs` and gave out a picture at each of `timesMs`:
 * those of the second half. Where hardly any came out it is slow too: too little is promised then. An
 * encoder that keeps pictures back gives many at once at its end, so the second half is believed to have
 * taken a quarter of the time at least.
 */
export function rateOf(timesMs: readonly number[], startMs: number): number {
  const lastMs = timesMs.at(-1) ?? startMs;
  const skipped = Math.floor(timesMs.length / 2);
  const fromMs = timesMs[skipped - 1] ?? startMs;
  const tookMs = Math.max(1, lastMs - fromMs, (lastMs - startMs) / 4);
  return (timesMs.length - skipped) * 1000 / tookMs;
}

async function* asUnits(jpegs: Iterable<Uint8Array>): AsyncGenerator<AccessUnit> {
  let index = 0;
  for (const data of jpegs) {
    const capturedAtMs = index++ * PROBE_PICTURE_MS;
    const ptsUs = capturedAtMs * 1000;
    yield { trackId: 1, data, ptsUs, dtsUs: ptsUs, isKey: true, capturedAtMs };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
