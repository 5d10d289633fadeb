/**
 * Whether this machine encodes as many pictures as the cameras will send: a few seconds of a made-up
 * scene, which compresses like a real camera's, go through each engine that the configuration allows.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import type { Config } from "../core/config/load.ts";
import { createEncoders, type EngineProbe } from "../core/encode/mod.ts";
import type { LighterOption } from "../core/encode/gearbox.ts";
import { EXIT } from "../core/exit_codes.ts";
import { getLog } from "../core/log.ts";
import { createScene } from "../simulators/scene/scene.ts";
import type { CommandContext } from "./context.ts";
import { failureText, type Finding } from "./probes.ts";

const WIDTH_PX = 1280;
const HEIGHT_PX = 720;
const PICTURES = 60;

/** One camera's pictures, as they will come. */
export interface EncoderLoad {
  readonly widthPx: number;
  readonly heightPx: number;
  readonly fps: number;
  /** By which of the camera's options it would be less. */
  readonly lighterOptions: readonly LighterOption[];
}

/** Measures the engines and compares the best one with what the cameras need. */
export async function probeEncoder(
  options: Config["encoder"],
  { context, loads }: {
    readonly context: Pick<CommandContext, "clock" | "stop">;
    readonly loads: readonly EncoderLoad[];
  },
): Promise<Finding> {
  const { clock, stop } = context;
  // In pictures of the measured size, since the cost goes with the area.
  const needed = loads.reduce(
    (sum, { widthPx, heightPx, fps }) => sum + fps * widthPx * heightPx / (WIDTH_PX * HEIGHT_PX),
    0,
  );
  try {
    await using encoders = await createEncoders({ ...options, clock, log: getLog("encoder") });
    const pictures = scenePictures({ widthPx: WIDTH_PX, heightPx: HEIGHT_PX, count: PICTURES });
    const probes = await encoders.probe(pictures, { signal: stop });
    const speed = (probe: EngineProbe) =>
      machineSpeed(probe, Math.min(availableParallelism(), loads.length));
    const best = Math.max(...probes.map(speed));
    const detail = probes.map((probe) =>
      probe.ok
        ? `${probe.engine} ${Math.round(speed(probe))} pictures/s (${probe.preset})`
        : `${probe.engine}: ${probe.error}`
    ).join("; ");
    const ok = best >= needed;
    return {
      what: "encoder",
      name: options.use,
      ok,
      detail: `${detail}; the cameras need ${needed.toFixed(1)} of ${WIDTH_PX}x${HEIGHT_PX}`,
      ...(ok ? {} : { fix: fixOf(loads), exitCode: EXIT.unavailable }),
    };
  } catch (error) {
    return {
      what: "encoder",
      name: options.use,
      ok: false,
      detail: failureText(error),
      fix: 'set "encoder": { "use": "auto" }, or install ffmpeg with libx264',
      exitCode: EXIT.unavailable,
    };
  }
}

function fixOf(loads: readonly EncoderLoad[]): string {
  const options = new Set(loads.flatMap(({ lighterOptions }) => lighterOptions));
  const lower = [...options].map((option) => JSON.stringify(option)).join(" or ");
  return `${
    lower === "" ? "" : `lower ${lower}, `
  }set "encoder": { "quality": "low" }, or install ffmpeg with libx264`;
}

/**
 * Pictures/s of the whole machine: wasm encodes each camera on one core, `atOnce` of them together;
 * ffmpeg by itself takes all cores. 0 of an engine that fails.
 */
export function machineSpeed(probe: EngineProbe, atOnce: number): number {
  return probe.ok ? probe.picturesPerSecond * (probe.engine === "wasm" ? atOnce : 1) : 0;
}

/** The first pictures of a scene that compresses like a real camera's. */
export function scenePictures(
  { count, ...size }: {
    readonly widthPx: number;
    readonly heightPx: number;
    readonly count: number;
  },
): Uint8Array[] {
  const scene = createScene({ name: "check", ...size, seed: 1 });
  return Array.from(
    { length: count },
    (_, counter) => scene.frame({ counter, takenAtMs: counter * 100 }),
  );
}
