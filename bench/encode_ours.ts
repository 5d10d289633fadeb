/**
 * Our side of the encode bench, as a process of its own: reads JPEGs from one file, encodes them with
 * one engine, writes the clip, and prints what it found.
 *
 * `encode_ours.ts ENGINE JPEGS CLIP [live | twice]`: with `live` the pictures come at their own pace, and
 * what is measured is the time from the last one to the finished clip; with `twice` they come once
 * more, of which the first time goes into the clip.
 *
 * @module
 */
import { createEncoders } from "../core/encode/mod.ts";
import { parseJpeg } from "../core/media/jpeg.ts";
import { createMp4Writer, type Mp4Writer } from "../core/media/mp4_writer.ts";
import type { AccessUnit } from "../core/types.ts";

/** What a run prints. */
export interface OurResult {
  readonly pictures: number;
  readonly clipBytes: number;
  readonly picturesPerSecond: number;
  /** From the last picture to the end of the clip, ms. */
  readonly tailMs: number;
}

/** Time between two pictures, ms. */
export const INTERVAL_MS = 100;

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

async function main([engine, jpegPath, clipPath, how]: readonly string[]): Promise<OurResult> {
  if ((engine !== "wasm" && engine !== "system") || !jpegPath || !clipPath) {
    throw new Error("expected: encode_ours.ts wasm|system JPEGS CLIP [live | twice]");
  }
  const scene = splitJpegs(await Deno.readFile(jpegPath));
  const jpegs = how === "twice" ? [...scene, ...scene] : scene;
  let lastInMs = 0;
  async function* camera(): AsyncGenerator<AccessUnit> {
    const openedAtMs = performance.now();
    for (const [index, data] of jpegs.entries()) {
      const waitMs = openedAtMs + index * INTERVAL_MS - performance.now();
      if (how === "live" && waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
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
  let writer: Mp4Writer | undefined;
  const gop: AccessUnit[] = [];
  let pictures = 0;
  let clipBytes = 0;
  const write = async (pieces: readonly Uint8Array[]) => {
    for (const piece of pieces) clipBytes += await clip.write(piece);
  };
  for await (const unit of encoders.forCamera().encode(camera(), options)) {
    pictures++;
    if (unit.ptsUs >= scene.length * INTERVAL_MS * 1000) continue;
    if (!writer && unit.track) {
      const startedAt = new Date(unit.capturedAtMs);
      writer = createMp4Writer({
        ...{ tracks: [unit.track], startedAt, camera: "bench", product: "camsink" },
      });
      await write([writer.header()]);
    }
    if (unit.isKey && gop.length > 0) await write(writer?.fragment(gop.splice(0)) ?? []);
    gop.push(unit);
  }
  if (!writer) throw new Error("no picture came out");
  await write(writer.fragment(gop));
  const { tail, patch } = writer.finish();
  await write(tail);
  await clip.seek(patch.offset, Deno.SeekMode.Start);
  await clip.write(patch.bytes);
  const endMs = performance.now();
  // Those that were repeats count too: they were taken.
  const picturesPerSecond = jpegs.length * 1000 / (endMs - startMs);
  return { pictures, clipBytes, picturesPerSecond, tailMs: endMs - lastInMs };
}

if (import.meta.main) {
  console.log(JSON.stringify(await main(Deno.args)));
}
