/**
 * Our side of the encode bench, as a process of its own: reads JPEGs from one file, encodes them with
 * one engine, writes the clip, and prints what it found.
 *
 * `encode_ours.ts ENGINE JPEGS CLIP [live]`: with `live` the pictures come at their own pace, and what
 * is measured is the time from the last one to the finished clip.
 *
 * @module
 */
import process from "node:process";
import { createEncoders } from "../core/encode/mod.ts";
import { joinAnnexB, splitLengthPrefixed } from "../core/media/annexb.ts";
import { parseAvcConfig } from "../core/media/h264.ts";
import { parseJpeg } from "../core/media/jpeg.ts";
import type { AccessUnit } from "../core/types.ts";

/** What a run prints. */
export interface OurResult {
  readonly pictures: number;
  readonly clipBytes: number;
  readonly picturesPerSecond: number;
  /**
   * CPU-seconds per picture of this process once it is warm. Compiling wasm to good machine code
   * takes a second or two after each start, which a program that runs for months does not feel.
   */
  readonly warmCpuS: number;
  /** From the last picture to the end of the clip, ms. */
  readonly tailMs: number;
}

/** Time between two pictures, ms. */
export const INTERVAL_MS = 100;

/** Pictures after which the process counts as warm. */
const WARM_AFTER = 100;

/** A multiple of the GOP length, so that all runs cut alike. */
const START_MS = Date.UTC(2026, 7, 21, 14, 5, 0);

/** The JPEGs that stand one after the other in a file. */
export function splitJpegs(file: Uint8Array): Uint8Array[] {
  const jpegs: Uint8Array[] = [];
  for (let position = 0; position < file.length;) {
    const { sizeBytes } = parseJpeg(file.subarray(position));
    jpegs.push(file.subarray(position, position + sizeBytes));
    position += sizeBytes;
  }
  return jpegs;
}

async function main([engine, jpegPath, clipPath, live]: readonly string[]): Promise<OurResult> {
  if ((engine !== "wasm" && engine !== "system") || !jpegPath || !clipPath) {
    throw new Error("expected: encode_ours.ts wasm|system JPEGS CLIP [live]");
  }
  const jpegs = splitJpegs(await Deno.readFile(jpegPath));
  let lastInMs = 0;
  async function* camera(): AsyncGenerator<AccessUnit> {
    const openedAtMs = performance.now();
    for (const [index, data] of jpegs.entries()) {
      const waitMs = openedAtMs + index * INTERVAL_MS - performance.now();
      if (live && waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      const ptsUs = index * INTERVAL_MS * 1000;
      lastInMs = performance.now();
      yield {
        trackId: 1,
        data,
        ptsUs,
        dtsUs: ptsUs,
        isKey: true,
        capturedAtMs: START_MS + index * INTERVAL_MS,
      };
    }
  }
  const quiet = () => {};
  const say = (message: string) => console.error(message);
  const log = { debug: quiet, info: quiet, warn: say, error: say };
  await using encoders = await createEncoders({ use: engine, log });
  using clip = await Deno.open(clipPath, { write: true, create: true, truncate: true });
  const startMs = performance.now();
  const options = { signal: new AbortController().signal, camera: "bench", gopMs: 2000 };
  let pictures = 0;
  let clipBytes = 0;
  let coldCpuMs = 0;
  for await (const unit of encoders.forCamera().encode(camera(), options)) {
    const nals = splitLengthPrefixed(unit.data);
    if (unit.track?.kind === "video") {
      const { sps, pps } = parseAvcConfig(unit.track.config);
      nals.unshift(...sps, ...pps);
    }
    const bytes = joinAnnexB(nals);
    await clip.write(bytes);
    clipBytes += bytes.length;
    if (++pictures === WARM_AFTER) coldCpuMs = cpuMs();
  }
  const endMs = performance.now();
  const picturesPerSecond = pictures * 1000 / (endMs - startMs);
  const warmCpuS = (cpuMs() - coldCpuMs) / 1000 / (pictures - WARM_AFTER);
  return { pictures, clipBytes, picturesPerSecond, warmCpuS, tailMs: endMs - lastInMs };
}

/** CPU time of this process so far, all its threads, ms. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

if (import.meta.main) {
  console.log(JSON.stringify(await main(Deno.args)));
}
