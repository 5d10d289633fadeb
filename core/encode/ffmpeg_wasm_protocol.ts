/**
 * What the wasm engine and its workers say to each other.
 *
 * @module
 */
import type { Noise, PlanesFormat } from "../media/jpeg_planes.ts";

/** What the worker is first told. */
export interface WorkerSetup {
  readonly kind: "setup";
  readonly module: WebAssembly.Module;
  /** URL of the glue script; absent means the one in the import map. */
  readonly coreUrl?: string;
}

/** One GOP to encode. */
export interface WorkerJob {
  readonly kind: "job";
  /** ffmpeg's arguments, with {@linkcode INPUT_DEVICE} and {@linkcode OUTPUT_DEVICE} in them. */
  readonly args: readonly string[];
  /** Memory of the pipe that the input device reads from. */
  readonly pipe: SharedArrayBuffer;
  /** Set where the pipe brings records of JPEGs for the worker to draw, instead of Matroska. */
  readonly planes?: { readonly format: PlanesFormat; readonly noise?: Noise };
}

/** One camera's sound, for as long as it lasts. */
export interface SoundJob {
  readonly kind: "sound";
  readonly args: readonly string[];
  readonly pipe: SharedArrayBuffer;
}

/** One key picture to decode. */
export interface PictureJob {
  readonly kind: "picture";
  readonly args: readonly string[];
  /** All that ffmpeg reads. */
  readonly input: Uint8Array<ArrayBuffer>;
}

/** What stands before each JPEG of a record: its length and its time in ms, little-endian. */
export const RECORD_HEADER_BYTES = 8;

/** A record without bytes: the last picture is to be coded, even if it was a repeat. */
export function recordHeader(lengthBytes: number, atMs: number): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(RECORD_HEADER_BYTES);
  const view = new DataView(header.buffer);
  view.setUint32(0, lengthBytes, true);
  view.setUint32(4, Math.max(0, Math.round(atMs)), true);
  return header;
}

/** What the worker answers. */
export type WorkerReport =
  | { readonly kind: "ready" }
  /** There is room in the pipe again. */
  | { readonly kind: "room" }
  | {
    readonly kind: "coded";
    readonly index: number;
    readonly isKey: boolean;
    readonly data: Uint8Array<ArrayBuffer>;
    readonly config: Uint8Array<ArrayBuffer>;
  }
  /** Coded sound, or a decoded picture. */
  | { readonly kind: "bytes"; readonly bytes: Uint8Array<ArrayBuffer> }
  /** A picture that shows what the one before it shows. */
  | { readonly kind: "repeated"; readonly index: number }
  | { readonly kind: "done"; readonly busyMs: number; readonly noise?: Noise }
  | { readonly kind: "failed"; readonly busyMs: number; readonly message: string };

/** Where ffmpeg reads. */
export const INPUT_DEVICE = "/dev/camin";
/** Where ffmpeg writes. */
export const OUTPUT_DEVICE = "/dev/camout";
