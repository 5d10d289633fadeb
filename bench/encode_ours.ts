/**
 * Our side of the encode bench, as a process of its own: takes the pictures of several clips in a row, as
 * a camera would give them, encodes them with one engine, writes the clips, and prints what it found.
 *
 *     encode_ours.ts ENGINE NAME CLIPS [live]
 *
 * The pictures of the first clip are `clip_0/0000.jpg` …, and the clip becomes `NAME_0.mp4`. With `live`
 * the first few of them come at their own pace, and what is measured is the time from the last one to the
 * finished clip.
 *
 * @module
 */
import { createEncoders } from "../core/encode/mod.ts";
import { createMp4Writer, type Mp4Writer } from "../core/media/mp4_writer.ts";
import type { AccessUnit, Track } from "../core/types.ts";

/** What a run prints. */
export interface OurResult {
  readonly pictures: number;
  readonly picturesPerSecond: number;
  /** From the last picture to the end of the clip, ms. */
  readonly tailMs: number;
}

/** Time between two pictures, ms. */
export const INTERVAL_MS = 100;
/** Pictures of a clip: a whole number of GOPs, so that each clip begins with a key picture. */
export const PICTURES = 300;
/** With `live`, which has to be waited for. */
const LIVE_PICTURES = 45;
const CLIP_US = PICTURES * INTERVAL_MS * 1000;

/** A multiple of the GOP length, so that all runs cut alike. */
const START_MS = Date.UTC(2026, 7, 21, 14, 5, 0);

/** Where the picture lies. */
export function pictureName(clip: number, picture: number): string {
  return `clip_${clip}/${String(picture).padStart(4, "0")}.jpg`;
}

/** Writes the units of one clip. */
class Clip {
  readonly #file: Deno.FsFile;
  readonly #writer: Mp4Writer;
  #gop: AccessUnit[] = [];

  constructor(path: string, track: Track, first: AccessUnit) {
    this.#file = Deno.openSync(path, { write: true, create: true, truncate: true });
    this.#writer = createMp4Writer({
      tracks: [track],
      startedAt: new Date(first.capturedAtMs),
      camera: "bench",
      product: "camsink",
    });
    this.#write([this.#writer.header()]);
  }

  add(unit: AccessUnit): void {
    if (unit.isKey) this.#write(this.#writer.fragment(this.#gop.splice(0)));
    this.#gop.push(unit);
  }

  finish(): void {
    this.#write(this.#writer.fragment(this.#gop));
    const { tail, patch } = this.#writer.finish();
    this.#write(tail);
    this.#file.seekSync(patch.offset, Deno.SeekMode.Start);
    this.#write([patch.bytes]);
    this.#file.close();
  }

  #write(pieces: readonly Uint8Array[]): void {
    for (const piece of pieces) {
      for (let done = 0; done < piece.length;) {
        done += this.#file.writeSync(piece.subarray(done));
      }
    }
  }
}

async function main([engine, name, clipCount, how]: readonly string[]): Promise<OurResult> {
  const clips = Number(clipCount);
  if ((engine !== "wasm" && engine !== "system") || !name || !(clips > 0)) {
    throw new Error("expected: encode_ours.ts wasm|system NAME CLIPS [live]");
  }
  const isLive = how === "live";
  const total = isLive ? LIVE_PICTURES : clips * PICTURES;
  let lastInMs = 0;
  async function* camera(): AsyncGenerator<AccessUnit> {
    const openedAtMs = performance.now();
    for (let index = 0; index < total; index++) {
      const waitMs = openedAtMs + index * INTERVAL_MS - performance.now();
      if (isLive && waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      const data = await Deno.readFile(
        pictureName(Math.floor(index / PICTURES), index % PICTURES),
      );
      const ptsUs = index * INTERVAL_MS * 1000;
      const capturedAtMs = START_MS + index * INTERVAL_MS;
      lastInMs = performance.now();
      yield { trackId: 1, data, ptsUs, dtsUs: ptsUs, isKey: true, capturedAtMs };
    }
  }
  const quiet = () => {};
  const say = (message: string) => console.error(message);
  const log = { debug: quiet, info: quiet, warn: say, error: say };
  await using encoders = await createEncoders({ use: engine, log });
  const startMs = performance.now();
  const options = { signal: new AbortController().signal, camera: "bench", gopMs: 2000 };
  let clip: Clip | undefined;
  let track: Track | undefined;
  let begun = 0;
  let pictures = 0;
  for await (const unit of encoders.forCamera().encode(camera(), options)) {
    pictures++;
    track = unit.track ?? track;
    if (track && unit.isKey && unit.ptsUs >= begun * CLIP_US) {
      clip?.finish();
      clip = new Clip(`${name}_${begun++}.mp4`, track, unit);
    }
    clip?.add(unit);
  }
  if (!clip || begun !== clips) throw new Error(`${clips} clips were asked for, ${begun} came out`);
  clip.finish();
  const endMs = performance.now();
  // Those that were repeats count too: they were taken.
  const picturesPerSecond = total * 1000 / (endMs - startMs);
  return { pictures, picturesPerSecond, tailMs: endMs - lastInMs };
}

if (import.meta.main) {
  console.log(JSON.stringify(await main(Deno.args)));
}
