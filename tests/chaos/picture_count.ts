/**
 * The oracle of long runs: every picture of the simulated cameras carries its camera, its counter and
 * the time it was taken, so that what was delivered says what is missing and what is there twice.
 *
 * @module
 */
import { cameraCode } from "../../simulators/mod.ts";
import { readClip } from "../support/clip_frames.ts";

/** See {@linkcode createPictureCount}. */
export interface PictureCount {
  /** Decodes a delivered clip and counts its pictures. Returns its SHA-256 in hex. */
  add(path: string): Promise<string>;
  /** Pictures seen. */
  readonly frames: number;
  /** Pictures seen before. */
  readonly duplicates: number;
  /** Clips that cannot be decoded from end to end, or have a picture that cannot be read. */
  readonly clipsCorrupt: number;
  /** Counters missing between a camera's first and last picture, over all cameras. */
  readonly missing: number;
  /** When a camera's pictures were taken, in order, wall ms. */
  timesMs(camera: string): readonly number[];
}

/** An empty count. */
export function createPictureCount(): PictureCount {
  const cameras = new Map<number, Map<number, number>>();
  let frames = 0;
  let duplicates = 0;
  let clipsCorrupt = 0;
  return {
    async add(path) {
      const bytes = await Deno.readFile(path);
      try {
        for (const { strip } of (await readClip(bytes)).frames) {
          if (!strip) throw new Error("a picture without a readable strip");
          frames++;
          const seen = cameras.get(strip.camera) ?? new Map<number, number>();
          cameras.set(strip.camera, seen);
          if (seen.has(strip.counter)) duplicates++;
          seen.set(strip.counter, strip.takenAtMs);
        }
      } catch (error) {
        clipsCorrupt++;
        console.error(`${path}: ${error}`);
      }
      return await sha256Hex(bytes);
    },
    get frames() {
      return frames;
    },
    get duplicates() {
      return duplicates;
    },
    get clipsCorrupt() {
      return clipsCorrupt;
    },
    get missing() {
      let missing = 0;
      for (const seen of cameras.values()) {
        let first = Infinity;
        let last = -Infinity;
        for (const counter of seen.keys()) {
          first = Math.min(first, counter);
          last = Math.max(last, counter);
        }
        missing += last - first + 1 - seen.size;
      }
      return missing;
    },
    timesMs: (camera) => [...cameras.get(cameraCode(camera))?.values() ?? []].sort((a, b) => a - b),
  };
}

/** In lower-case hex. */
export async function sha256Hex(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
