/**
 * The byte stream of an RTSP connection: messages and, between them, binary frames (RFC 2326 §10.12):
 *
 *     "$" · channel (1) · length (2, big-endian) · RTP or RTCP packet
 *
 * Frames are handed on as a range of the buffer into which the socket was read: no copy, no object. A
 * stream that is out of step (some cameras write frames over each other) is brought back by looking
 * for the next thing that can only be a frame of a known channel or a message.
 *
 * @module
 */
import { MAX_HEAD_BYTES, parseHead, RtspError, type RtspMessage } from "./message.ts";

/** Who gets what the stream holds. */
export interface InterleavedHandler {
  /** A frame's packet is `data` from `from` to `to`; it must not be kept. */
  onFrame(channel: number, data: Uint8Array, from: number, to: number): void;
  onMessage(message: RtspMessage): void;
}

const DOLLAR = 0x24;
const NOTHING = new Uint8Array();

/** Reads one connection. */
export class InterleavedReader {
  readonly #handler: InterleavedHandler;
  #buffer: Uint8Array<ArrayBuffer> = NOTHING;
  #end = 0;
  /** The beginning of a thing that is not whole yet. */
  #rest: Uint8Array<ArrayBuffer> = NOTHING;
  /** Channels that were agreed on; before that any is taken. */
  readonly channels: Set<number> = new Set();
  /** Bytes that belonged to nothing. */
  skippedBytes = 0;

  constructor(handler: InterleavedHandler) {
    this.#handler = handler;
  }

  /**
   * Where in `buffer` the socket is to be read into; never empty, if the buffer is larger than a whole
   * frame (65 539 bytes) and a whole message (98 304).
   */
  space(buffer: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    buffer.set(this.#rest);
    this.#buffer = buffer;
    this.#end = this.#rest.length;
    return buffer.subarray(this.#end);
  }

  /**
   * So many bytes were read; nothing of the buffer is needed any more when this returns.
   *
   * @throws RtspError for a message that cannot be one
   */
  advance(count: number): void {
    this.#end += count;
    const buffer = this.#buffer;
    let at = 0;
    while (at < this.#end) {
      const next = buffer[at] === DOLLAR ? this.#frame(at) : this.#message(at);
      if (next < 0) break; // not whole yet
      at = next;
    }
    // What is left is less than one thing, so that there always is room for the rest of it.
    this.#rest = at < this.#end ? buffer.slice(at, this.#end) : NOTHING;
    this.#buffer = NOTHING;
  }

  /** Where the thing behind the frame begins; -1 if more bytes are needed. */
  #frame(at: number): number {
    const left = this.#end - at;
    if (left < 4) return -1;
    const buffer = this.#buffer;
    const channel = buffer[at + 1] ?? 0;
    const length = ((buffer[at + 2] ?? 0) << 8) | (buffer[at + 3] ?? 0);
    if (!this.#isKnown(channel)) return this.#resync(at);
    if (left < 4 + length) return -1;
    this.#handler.onFrame(channel, buffer, at + 4, at + 4 + length);
    return at + 4 + length;
  }

  #isKnown(channel: number): boolean {
    return this.channels.size === 0 || this.channels.has(channel);
  }

  #message(at: number): number {
    const buffer = this.#buffer;
    // Empty lines between messages are allowed.
    if (buffer[at] === 13 || buffer[at] === 10) return at + 1;
    const left = this.#end - at;
    if (!looksLikeMessage(buffer, at, Math.min(left, 24))) return this.#resync(at);
    const headEnd = findHeadEnd(buffer, at, Math.min(this.#end, at + MAX_HEAD_BYTES));
    if (headEnd === undefined) {
      if (left < MAX_HEAD_BYTES) return -1;
      throw new RtspError(`an RTSP message's head has no end within ${MAX_HEAD_BYTES} bytes`);
    }
    const { message, bodyBytes } = parseHead(
      new TextDecoder("latin1").decode(buffer.subarray(at, headEnd.end)),
    );
    const bodyEnd = headEnd.next + bodyBytes;
    if (bodyEnd > this.#end) return -1;
    this.#handler.onMessage({ ...message, body: buffer.slice(headEnd.next, bodyEnd) });
    return bodyEnd;
  }

  /** Leaves out bytes up to what can only be a frame or a message. */
  #resync(at: number): number {
    const buffer = this.#buffer;
    for (let next = at + 1; next < this.#end; next++) {
      const isPlausible = buffer[next] === DOLLAR
        ? this.#isPlausibleFrame(next)
        : buffer[next] === 0x52 && looksLikeAnswer(buffer, next, this.#end);
      if (isPlausible) {
        this.skippedBytes += next - at;
        return next;
      }
    }
    this.skippedBytes += this.#end - at;
    return this.#end;
  }

  #isPlausibleFrame(at: number): boolean {
    const buffer = this.#buffer;
    if (this.#end - at < 4) return true; // to be seen
    const length = ((buffer[at + 2] ?? 0) << 8) | (buffer[at + 3] ?? 0);
    const version = this.#end - at < 5 ? 2 : (buffer[at + 4] ?? 0) >> 6;
    return this.channels.has(buffer[at + 1] ?? 0) && length >= 8 && version === 2;
  }
}

const ANSWER = Uint8Array.from("RTSP/", (letter) => letter.charCodeAt(0));

function looksLikeAnswer(buffer: Uint8Array, at: number, end: number): boolean {
  for (let i = 0; i < ANSWER.length && at + i < end; i++) {
    if (buffer[at + i] !== ANSWER[i]) return false;
  }
  return true;
}

/** `RTSP/1.0 …` or a method in capitals, as far as the bytes go. */
function looksLikeMessage(buffer: Uint8Array, at: number, count: number): boolean {
  if (looksLikeAnswer(buffer, at, at + count)) return true;
  for (let i = 0; i < count; i++) {
    const byte = buffer[at + i] ?? 0;
    if (byte === 0x20) return i >= 3;
    if (!((byte >= 0x41 && byte <= 0x5a) || byte === 0x5f)) return false;
  }
  return count < 24;
}

/** Where the empty line is; some end their lines with a line feed alone. */
function findHeadEnd(
  buffer: Uint8Array,
  from: number,
  to: number,
): { readonly end: number; readonly next: number } | undefined {
  for (let at = buffer.indexOf(10, from); at >= 0 && at < to; at = buffer.indexOf(10, at + 1)) {
    if (at + 1 < to && buffer[at + 1] === 10) return { end: at, next: at + 2 };
    if (at + 2 < to && buffer[at + 1] === 13 && buffer[at + 2] === 10) {
      return { end: at, next: at + 3 };
    }
  }
  return undefined;
}
