/**
 * Whether this machine encodes as many pictures as the cameras will send: a few seconds of a made-up
 * scene, which compresses like a real camera's, go through each engine that the configuration allows.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import type { Config } from "../core/config/load.ts";
import { createEncoders, type EngineProbe } from "../core/encode/mod.ts";
import { EXIT } from "../core/exit_codes.ts";
import { getLog } from "../core/log.ts";
import { createScene } from "../simulators/scene/scene.ts";
import type { CommandContext } from "./context.ts";
import { failureText, type Finding } from "./probes.ts";

const WIDTH_PX = 1280;
const HEIGHT_PX = 720;
const PICTURES = 60;
const FIX =
  'lower "fps" or "width", set "encoder": { "quality": "low" }, or install ffmpeg with libx264';

/** One camera's pictures, as they will come. */
export interface EncoderLoad {
  readonly widthPx: number;
  readonly heightPx: number;
  readonly fps: number;
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
    const probes = await encoders.probe(scenePictures(), { signal: stop });
    // wasm encodes each camera on one core; ffmpeg by itself takes all of them.
    const atOnce = Math.min(availableParallelism(), loads.length);
    const speed = (probe: EngineProbe) =>
      probe.ok ? probe.picturesPerSecond * (probe.engine === "wasm" ? atOnce : 1) : 0;
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
      ...(ok ? {} : { fix: FIX, exitCode: EXIT.unavailable }),
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

function scenePictures(): Uint8Array[] {
  const scene = createScene({ name: "check", widthPx: WIDTH_PX, heightPx: HEIGHT_PX, seed: 1 });
  return Array.from(
    { length: PICTURES },
    (_, counter) => scene.frame({ counter, takenAtMs: counter * 100 }),
  );
}
