/**
 * What the program and the child process of a plugin say to each other, over the child's stdin and
 * stdout. A frame is
 *
 * ```text
 * u32 length of what follows | u8 kind | …
 *   kind 0: a message as JSON
 *   kind 1: u32 stream | bytes of a clip
 * ```
 *
 * with big-endian numbers. The child is not trusted: what it sends is parsed by {@linkcode FrameReader}
 * with a limit, and every field is looked at before it is used.
 *
 * @module
 */
import type { SinkErrorKind } from "../types.ts";

/** How the sink is opened: nothing is opened for `describe`. */
export interface StartMessage {
  readonly t: "start";
  /** The plugin's module, a URL; it was looked through before. */
  readonly plugin: string;
  /** How users know the plugin, for messages. */
  readonly from: string;
  readonly mode: "describe" | "open";
  /** The user's name of the sink. */
  readonly name: string;
  /** Its options as the file has them; left out to learn only about the plugin itself. */
  readonly options?: unknown;
  readonly scratch?: string;
  /** What the worker may do. */
  readonly permissions?: Readonly<Record<string, unknown>>;
}

/** What a clip is, without its bytes. */
export interface ClipMessage {
  readonly key: string;
  readonly camera: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly bytes: number;
  readonly sha256: string;
  readonly md5?: string;
  readonly contentType: string;
  readonly tags?: readonly string[];
  /** A name of its file that the plugin's process may read; without it the bytes are asked for. */
  readonly file?: string;
}

/** From the program to the plugin. */
export type ToPlugin =
  | StartMessage
  | { readonly t: "put"; readonly id: number; readonly clip: ClipMessage; readonly attempt: number }
  | {
    readonly t: "stat" | "remove";
    readonly id: number;
    readonly key: string;
    readonly camera: string;
  }
  | { readonly t: "check" | "close"; readonly id: number }
  | { readonly t: "describe"; readonly id: number; readonly options: unknown }
  | { readonly t: "abort"; readonly id: number; readonly reason: string }
  | { readonly t: "secret"; readonly ask: number; readonly value?: string; readonly error?: string }
  | { readonly t: "end"; readonly stream: number; readonly error?: string };

/** From the plugin to the program, as it should be; it is parsed, not believed. */
export type FromPlugin =
  | { readonly t: "described"; readonly about: PluginAbout }
  | { readonly t: "opened"; readonly can: readonly string[] }
  | {
    readonly t: "failed";
    readonly why: LoadFailure;
    readonly message: string;
    /** Of what `open` threw. */
    readonly kind?: SinkErrorKind;
    readonly retryAfterMs?: number;
  }
  | { readonly t: "result"; readonly id: number; readonly value?: unknown }
  | {
    readonly t: "error";
    readonly id: number;
    readonly message: string;
    readonly kind: SinkErrorKind;
    readonly retryAfterMs?: number;
  }
  | { readonly t: "progress"; readonly id: number; readonly bytes: number }
  /** When the credential in use runs out, wall ms; left out where it does not, or nobody knows. */
  | { readonly t: "expiry"; readonly atMs?: number }
  | { readonly t: "read"; readonly id: number; readonly stream: number; readonly fromByte: number }
  | { readonly t: "pull"; readonly stream: number; readonly bytes: number }
  | { readonly t: "drop"; readonly stream: number }
  | { readonly t: "secret"; readonly ask: number; readonly text: string }
  | {
    readonly t: "log";
    readonly level: "debug" | "info" | "warn" | "error";
    readonly message: string;
    readonly properties?: Readonly<Record<string, unknown>>;
  }
  | { readonly t: "refused"; readonly host: string }
  | { readonly t: "dying"; readonly message: string };

/** Why a plugin could not be used. */
export type LoadFailure = "load" | "no-sink" | "api" | "config" | "open";

/** What a plugin says of itself. */
export interface PluginAbout {
  readonly name: string;
  readonly version?: string;
  /** JSON Schema of its options. */
  readonly schema: Readonly<Record<string, unknown>>;
  /** What is wrong with the options that were given. */
  readonly issues: readonly {
    readonly path: readonly (string | number)[];
    readonly message: string;
  }[];
  /** The hosts for these options; without options, those that do not depend on them. */
  readonly hosts?: readonly string[];
  readonly needs?: {
    readonly run?: readonly string[];
    readonly read?: readonly string[];
    readonly write?: readonly string[];
    readonly scratch?: boolean;
  };
}

/** No message of a plugin is longer, bytes: what it may say fits well. */
export const MOST_MESSAGE_BYTES = 1024 * 1024;
/** Clip bytes that may be on their way to a plugin that has not asked for more. */
export const WINDOW_BYTES = 1024 * 1024;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A message as a frame. */
export function messageFrame(message: ToPlugin | FromPlugin): Uint8Array<ArrayBuffer> {
  const text = encoder.encode(JSON.stringify(message));
  const frame = new Uint8Array(5 + text.length);
  new DataView(frame.buffer).setUint32(0, 1 + text.length);
  frame.set(text, 5);
  return frame;
}

/** Most bytes of a clip in one frame. */
const FRAME_BYTES = 256 * 1024;

/** A frame of a clip's bytes that is being filled. */
export class BytesFrame {
  readonly #stream: number;
  #buffer = new Uint8Array(0);
  #length = 0;

  /** For a stream of the plugin's. */
  constructor(stream: number) {
    this.#stream = stream;
  }

  /** Bytes in it so far. */
  get length(): number {
    return this.#length;
  }

  /** Nothing more fits. */
  get isFull(): boolean {
    return this.#length >= FRAME_BYTES;
  }

  /** Takes what fits and tells how much that was. */
  add(bytes: Uint8Array): number {
    if (this.#buffer.length === 0) this.#buffer = new Uint8Array(9 + FRAME_BYTES);
    const taken = bytes.subarray(0, FRAME_BYTES - this.#length);
    this.#buffer.set(taken, 9 + this.#length);
    this.#length += taken.length;
    return taken.length;
  }

  /** The frame, whole; nothing is added any more. */
  whole(): Uint8Array<ArrayBuffer> {
    const view = new DataView(this.#buffer.buffer);
    view.setUint32(0, 5 + this.#length);
    view.setUint8(4, 1);
    view.setUint32(5, this.#stream);
    return this.#buffer.subarray(0, 9 + this.#length);
  }
}

/** One frame, taken apart. */
export type Frame =
  | { readonly message: unknown }
  | { readonly stream: number; readonly bytes: Uint8Array<ArrayBuffer> };

/** The other side did not keep to the form. */
export class FrameError extends Error {
  override readonly name = "FrameError";
}

/**
 * Takes frames off a stream of bytes.
 *
 * @throws {FrameError} at a frame that is too long or no frame at all
 */
export async function* readFrames(
  input: ReadableStream<Uint8Array>,
  mostBytes: number,
): AsyncGenerator<Frame> {
  let held: Uint8Array<ArrayBuffer> = new Uint8Array(64 * 1024);
  let from = 0;
  let to = 0;
  for await (const part of input) {
    if (held.length - to < part.length) {
      const needed = to - from + part.length;
      const next = needed > held.length ? new Uint8Array(needed * 2) : held;
      next.set(held.subarray(from, to));
      to -= from;
      from = 0;
      held = next;
    }
    held.set(part, to);
    to += part.length;
    for (;;) {
      if (to - from < 5) break;
      const view = new DataView(held.buffer, from, to - from);
      const length = view.getUint32(0);
      if (length < 1 || length > mostBytes) {
        throw new FrameError(`a frame of ${length} bytes; expected 1 to ${mostBytes}`);
      }
      if (to - from < 4 + length) break;
      const kind = view.getUint8(4);
      const end = from + 4 + length;
      if (kind === 1 && length >= 5) {
        // A copy of its own: it is handed on to another thread.
        yield { stream: view.getUint32(5), bytes: held.slice(from + 9, end) };
      } else if (kind === 0) {
        let message: unknown;
        try {
          message = JSON.parse(decoder.decode(held.subarray(from + 5, end)));
        } catch {
          throw new FrameError("a frame that is no JSON");
        }
        yield { message };
      } else throw new FrameError(`a frame of the unknown kind ${kind}`);
      from = end;
    }
    if (from === to) from = to = 0;
  }
}
