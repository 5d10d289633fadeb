/**
 * What an encoding engine is. An engine is opened once; each camera has a *lane* in it, and hands it
 * one GOP after the other. Every GOP is a fresh start (its first picture is key), so between two of
 * them a camera may change its engine, its settings or the worker that does the work, and an engine
 * that dies takes no more than one GOP with it.
 *
 * @module
 */
import type { PlanesFormat } from "../media/jpeg_planes.ts";
import type { VideoTrack } from "../types.ts";

/**
 * A picture is coded at least so often, ms, though nothing changes: what is recorded is then never
 * further behind on the disk than that.
 */
export const LONGEST_REPEAT_MS = 1000;

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
  /** Set where all its JPEGs are of this form and can be compared and drawn without ffmpeg. */
  readonly planes?: PlanesFormat;
  /** x264's settings, as ffmpeg options. */
  readonly x264: readonly string[];
  /** Called in order, as soon as each picture is coded. */
  onCoded(picture: CodedPicture): void;
  /** Called for a picture that shows what the one before it shows, and so is not coded. */
  onRepeated(index: number): void;
}

/** A GOP that is being encoded. */
export interface Gop {
  /**
   * Hands over a whole JPEG, taken `atMs` after some moment. Resolves when the next one is welcome; that is the back-pressure. Never
   * rejects: a failure shows in `finished`.
   */
  push(jpeg: Uint8Array, atMs: number): Promise<void>;
  /** No more pictures come. With `showLast` the last one is coded even if it was a repeat. */
  end(options?: { readonly showLast?: boolean }): void;
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
  /**
   * GOPs are gathered just now before they are coded, so that nothing of one is on the disk before its
   * end: half as long, they cost half as much at a crash.
   */
  readonly gathers?: boolean;
  /** The previous GOP of this lane must have been ended. */
  openGop(options: GopOptions): Gop;
  /** No GOP follows soon: everything that is still inside comes out, so every GOP finishes. */
  flush(): void;
}

/** What a run for sound is opened with. */
export interface SoundLaneOptions {
  readonly sampleRateHz: number;
  readonly channels: number;
  /** Takes AAC in ADTS frames, as it comes. */
  onBytes(bytes: Uint8Array): void;
  /** It is over: after `end` without an error, else with what went wrong. Called once at most. */
  onEnd(error?: Error): void;
}

/** A run of ffmpeg that turns samples into AAC. */
export interface SoundLane {
  /** Takes signed 16-bit little-endian samples. Never waits; who writes looks at what comes out. */
  write(samples: Uint8Array): void;
  /** No more samples come: the rest comes out. */
  end(): void;
  /** Ends it at once; resolves when it is gone. */
  kill(): Promise<void>;
}

/** What a run that decodes key pictures is opened with. */
export interface PictureLaneOptions {
  /** Coded video; each of its key units is decoded by itself. */
  readonly track: VideoTrack;
  /** Takes a picture, small and gray: see `graySize`. Its memory is not used again. */
  onPicture(pixels: Uint8Array): void;
  /** It is over. Called once at most. */
  onEnd(error?: Error): void;
}

/** A run of ffmpeg that makes a camera's key pictures small and gray. */
export interface PictureLane {
  /** Takes the data of a key unit, of which nobody else needs the memory. The one before must be out. */
  decode(data: Uint8Array<ArrayBuffer>): void;
  /** Ends it at once; resolves when it is gone. */
  kill(): Promise<void>;
}

/** A way of encoding. */
export interface Engine extends AsyncDisposable {
  readonly name: EngineName;
  /** For a person: `ffmpeg.wasm 0.12.10`, `ffmpeg 5.1.9`. */
  readonly description: string;
  openLane(): Lane;
  /** Starts a run for one camera's sound. @throws Error where there is no room for another */
  openSound(options: SoundLaneOptions): SoundLane;
  /** Starts a run for one camera's key pictures. */
  openPictures(options: PictureLaneOptions): PictureLane;
}

/** The engines that there are. */
export type EngineName = "wasm" | "system";
