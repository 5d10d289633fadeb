/**
 * What the wasm engine and its workers say to each other.
 *
 * @module
 */

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
  | { readonly kind: "done"; readonly busyMs: number }
  | { readonly kind: "failed"; readonly busyMs: number; readonly message: string };

/** Where ffmpeg reads. */
export const INPUT_DEVICE = "/dev/camin";
/** Where ffmpeg writes. */
export const OUTPUT_DEVICE = "/dev/camout";
