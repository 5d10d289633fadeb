/**
 * Cuts a multipart stream of JPEGs (`multipart/x-mixed-replace`) into its pictures, without believing
 * anything that stands around them. Boundaries come with or without their dashes, quoted, missing or
 * other than announced; lengths are missing or wrong. A JPEG, though, tells its own end: from SOI
 * (ff d8 ff) on its segments are walked to EOI (ITU-T T.81 Annex B), so that a thumbnail inside a
 * segment is no picture of its own. Everything else is skipped: heads, empty parts, parts of other
 * kinds, and the rest of a picture that was cut off.
 *
 * After damage the search goes on inside the segment whose length led astray, never further back: a
 * picture that this length reached into is found, and no input is walked more than a constant number
 * of times. Memory is bounded by the largest picture and one piece.
 *
 * @module
 */

/** Takes the stream in pieces and gives its pictures. */
export interface JpegSplitter {
  /** Pictures that were begun and had no right end. */
  readonly damaged: number;
  /**
   * The pictures that are whole with this piece, each a copy of its own.
   *
   * @throws {@linkcode MjpegError} where no picture ends within the bound
   */
  push(piece: Uint8Array): Uint8Array<ArrayBuffer>[];
}

/** The only error of this file. */
export class MjpegError extends Error {
  /** Always `MjpegError`. */
  override readonly name = "MjpegError";
}

/** How much is looked at in one go. */
const STEP_BYTES = 65_536;

/** Makes a splitter; a picture larger than `maxBytes`, or as much without one, is an error. */
export function createJpegSplitter({ maxBytes }: { readonly maxBytes: number }): JpegSplitter {
  let buffer = new Uint8Array(1024);
  let length = 0;
  /** Where the picture begins; -1 while one is looked for. */
  let start = -1;
  /** How far it was walked: always at a marker, or inside a scan. */
  let at = 0;
  /** Where the last segment began. */
  let segment = 0;
  let inScan = false;
  let skippedBytes = 0;
  let damaged = 0;

  const append = (piece: Uint8Array) => {
    const from = start < 0 ? at : Math.min(start, at);
    if (from > 0) {
      buffer.copyWithin(0, from, length);
      length -= from;
      at -= from;
      segment -= from;
      if (start >= 0) start -= from;
    }
    if (length + piece.length > buffer.length) {
      const larger = new Uint8Array(Math.max(2 * buffer.length, length + piece.length));
      larger.set(buffer.subarray(0, length));
      buffer = larger;
    }
    buffer.set(piece, length);
    length += piece.length;
  };

  /** Finds ff d8 ff; false where more bytes are needed. */
  const findStart = (): boolean => {
    const from = at;
    for (;;) {
      const found = buffer.subarray(0, length).indexOf(0xff, at);
      at = found < 0 ? length : found;
      if (at + 3 > length) break;
      if (buffer[at + 1] === 0xd8 && buffer[at + 2] === 0xff) {
        start = at;
        at = segment = start + 2;
        inScan = false;
        skippedBytes = 0;
        return true;
      }
      at++;
    }
    skippedBytes += at - from;
    if (skippedBytes > maxBytes) {
      throw new MjpegError(`no JPEG picture in ${skippedBytes} bytes`);
    }
    return false;
  };

  const giveUp = (resumeAt: number) => {
    damaged++;
    start = -1;
    at = resumeAt;
  };

  /** Walks on to the end of the picture; "more" where bytes are missing. */
  const walk = (): "whole" | "damaged" | "more" => {
    for (;;) {
      if (inScan) {
        const found = buffer.subarray(0, length).indexOf(0xff, at);
        at = found < 0 ? length : found;
      }
      if (at + 2 > length) return "more";
      const marker = buffer[at + 1] ?? 0;
      if (inScan && (marker === 0 || (marker >= 0xd0 && marker <= 0xd7))) {
        at += 2;
        continue;
      }
      if (buffer[at] !== 0xff || marker === 0) {
        giveUp(segment);
        return "damaged";
      }
      if (marker === 0xff) {
        at++; // a fill byte
        continue;
      }
      if (marker === 0xd9) {
        at += 2;
        return "whole";
      }
      if (marker === 0xd8) {
        giveUp(at); // the next picture begins: this one was cut off
        return "damaged";
      }
      inScan = false;
      if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) {
        at += 2;
        continue;
      }
      if (at + 4 > length) return "more";
      const size = ((buffer[at + 2] ?? 0) << 8) | (buffer[at + 3] ?? 0);
      if (size < 2) {
        giveUp(at + 2);
        return "damaged";
      }
      if (at + 2 + size > length) return "more";
      segment = at + 2;
      at += 2 + size;
      inScan = marker === 0xda;
    }
  };

  const step = (piece: Uint8Array, pictures: Uint8Array<ArrayBuffer>[]) => {
    append(piece);
    while (start >= 0 || findStart()) {
      const result = walk();
      if (result === "more") break;
      if (result === "damaged") continue;
      const size = at - start;
      if (size > maxBytes) break;
      pictures.push(buffer.slice(start, at));
      start = -1;
    }
    const begun = start < 0 ? 0 : length - start;
    if (begun > maxBytes) {
      throw new MjpegError(`a picture of more than ${maxBytes} bytes, the most that is accepted`);
    }
  };

  return {
    get damaged() {
      return damaged;
    },
    push(piece) {
      const pictures: Uint8Array<ArrayBuffer>[] = [];
      for (let from = 0; from < piece.length; from += STEP_BYTES) {
        step(piece.subarray(from, from + STEP_BYTES), pictures);
      }
      return pictures;
    },
  };
}
