/**
 * What an encoding engine is. An engine is opened once; each camera has a *lane* in it, and hands it
 * one GOP after the other. Every GOP is a fresh start (its first picture is key), so between two of
 * them a camera may change its engine, its settings or the worker that does the work, and an engine
 * that dies takes no more than one GOP with it.
 *
 * @module
 */

/** What the user asks for: `encoder.quality`. */
export type Quality = "low" | "standard" | "high";

/** A coded picture of a GOP. */
export interface CodedPicture {
  /** Which picture of the GOP this is, counted from 0 in the order of `push`. */
  readonly index: number;
  readonly isKey: boolean;
  /** NAL units with 4-byte lengths, without parameter sets. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** `avcC` body that this picture and those after it are decoded with. */
  readonly config: Uint8Array<ArrayBuffer>;
}

/** What a GOP is opened with. */
export interface GopOptions {
  /** Size of every JPEG of the GOP. */
  readonly widthPx: number;
  readonly heightPx: number;
  /** x264's settings, as ffmpeg options. */
  readonly x264: readonly string[];
  /** Called in order, as soon as each picture is coded. */
  onCoded(picture: CodedPicture): void;
}

/** A GOP that is being encoded. */
export interface Gop {
  /**
   * Hands over a whole JPEG. Resolves when the next one is welcome; that is the back-pressure. Never
   * rejects: a failure shows in `finished`.
   */
  push(jpeg: Uint8Array): Promise<void>;
  /** No more pictures come. */
  end(): void;
  /** Settles when nothing more comes out; rejects if the engine failed in this GOP. */
  readonly finished: Promise<GopResult>;
}

/** What a finished GOP cost. */
export interface GopResult {
  /** Time spent encoding it, without waiting for pictures, ms. */
  readonly busyMs: number;
}

/** One camera's place in an engine. Disposing it ends what is under way. */
export interface Lane extends AsyncDisposable {
  /** The previous GOP of this lane must have been ended. */
  openGop(options: GopOptions): Gop;
  /** No GOP follows soon: everything that is still inside comes out, so every GOP finishes. */
  flush(): void;
}

/** A way of encoding. */
export interface Engine extends AsyncDisposable {
  readonly name: EngineName;
  /** For a person: `ffmpeg.wasm 0.12.10`, `ffmpeg 5.1.9`. */
  readonly description: string;
  openLane(): Lane;
}

/** The engines that there are. */
export type EngineName = "wasm" | "system";
