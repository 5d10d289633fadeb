/**
 * Annex B byte streams (ITU-T H.264 and H.265, Annex B) into the form that access units have
 * everywhere else: each NAL unit behind its 4-byte big-endian length, parameter sets and delimiters
 * taken out.
 *
 * Where the start codes are four bytes long (00 00 00 01, what encoders write between pictures) the
 * length is written over the start code, so that nothing is moved or copied; **the caller's bytes are
 * changed**.
 *
 * @module
 */
import { H264_NAL, h264NalType } from "./h264.ts";
import { H265_NAL, h265NalType } from "./h265.ts";
import { MediaError } from "./media_error.ts";
import { findStartCodes } from "./start_codes.ts";

/** The codecs that come as Annex B. */
export type AnnexBCodec = "h264" | "h265";

/** One picture taken out of a byte stream. */
export interface AnnexBUnit {
  /** NAL units with 4-byte lengths; a view into the input wherever possible. */
  readonly data: Uint8Array;
  readonly isKey: boolean;
  /** The parameter sets that stood in front of it, copied; mostly empty. */
  readonly parameterSets: readonly Uint8Array[];
}

/** The NAL units of a byte stream as views, without start codes and trailing zeros. */
export function splitAnnexB(data: Uint8Array): Uint8Array[] {
  const codes = findStartCodes(data);
  return codes.map((code, i) =>
    data.subarray(code + 3, trimZeros(data, code + 3, codes[i + 1] ?? data.length))
  ).filter((nal) => nal.length > 0);
}

/** NAL units joined with 4-byte start codes. */
export function joinAnnexB(nals: readonly Uint8Array[]): Uint8Array {
  return join(nals, (view, offset) => view.setUint32(offset, 1));
}

/** NAL units joined with 4-byte lengths. */
export function joinLengthPrefixed(nals: readonly Uint8Array[]): Uint8Array {
  return join(nals, (view, offset, length) => view.setUint32(offset, length));
}

/**
 * The NAL units of an access unit with 4-byte lengths, as views.
 *
 * @throws MediaError if the lengths do not add up
 */
export function splitLengthPrefixed(data: Uint8Array): Uint8Array[] {
  const nals: Uint8Array[] = [];
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let position = 0; position < data.length;) {
    const left = data.length - position - 4;
    const length = left < 0 ? -1 : view.getUint32(position);
    if (length < 1 || length > left) {
      throw new MediaError(
        `an access unit of ${data.length} bytes is damaged: at byte ${position} a NAL unit of ${length} bytes, expected 1 to ${left}`,
      );
    }
    nals.push(data.subarray(position + 4, position + 4 + length));
    position += 4 + length;
  }
  return nals;
}

/**
 * Takes the whole pictures out of a window of a byte stream.
 *
 * A picture is whole when the next one's start is seen, or with `last` at the end of the bytes. What
 * follows the last whole picture is left as it is: keep `data.subarray(consumedBytes)`, put what comes
 * next behind it, and call again. The window must begin at the start of a picture or of the stream.
 * Bytes of consumed pictures are changed (see above) and their `data` points into them.
 */
export function takeAccessUnits(
  data: Uint8Array,
  codec: AnnexBCodec,
  options: { readonly last?: boolean } = {},
): { readonly units: AnnexBUnit[]; readonly consumedBytes: number } {
  const units: AnnexBUnit[] = [];
  const picture = new PictureBuilder(data, codec);
  let consumedBytes = 0;
  const codes = findStartCodes(data);
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i] as number;
    const start = code + 3;
    if (picture.endsBefore(start)) {
      // Where the next picture begins: at the zero that makes its start code four bytes long.
      consumedBytes = code > 0 && data[code - 1] === 0 ? code - 1 : code;
      units.push(picture.take());
    }
    const isLast = i + 1 === codes.length;
    if (isLast && !options.last) break;
    picture.add(start, trimZeros(data, start, isLast ? data.length : codes[i + 1] as number));
  }
  if (options.last) {
    if (picture.hasSlices) units.push(picture.take());
    consumedBytes = data.length;
  }
  return { units, consumedBytes };
}

/**
 * Turns one access unit from start codes to lengths. The bytes of `data` are changed; the result is
 * a view into them wherever the start codes allow it.
 */
export function toLengthPrefixed(data: Uint8Array, codec: AnnexBCodec): AnnexBUnit {
  const picture = new PictureBuilder(data, codec);
  const codes = findStartCodes(data);
  for (const [i, code] of codes.entries()) {
    picture.add(code + 3, trimZeros(data, code + 3, codes[i + 1] ?? data.length));
  }
  return picture.take();
}

const NO_SETS: readonly Uint8Array[] = [];

/** Collects the NAL units of one picture and decides what is kept. */
class PictureBuilder {
  readonly #data: Uint8Array;
  readonly #isH264: boolean;
  /** Starts and ends of the NAL units that are kept, in turn. */
  readonly #spans: number[] = [];
  #parameterSets = NO_SETS;
  #isKey = false;
  /** End of the last picture taken: lengths must not be written over its bytes. */
  #floor = 0;
  hasSlices = false;

  constructor(data: Uint8Array, codec: AnnexBCodec) {
    this.#data = data;
    this.#isH264 = codec === "h264";
  }

  /** Whether the NAL unit at `start` belongs to the next picture (H.264 §7.4.1.2.3, H.265 §7.4.2.4.4). */
  endsBefore(start: number): boolean {
    if (!this.hasSlices) return false;
    const first = this.#data[start] ?? 0;
    if (this.#isH264) {
      const type = h264NalType(first);
      if (type >= H264_NAL.slice && type <= H264_NAL.idr) {
        // first_mb_in_slice is 0: the Exp-Golomb code of one 1 bit.
        return type !== 3 && type !== 4 && ((this.#data[start + 1] ?? 0) & 0x80) !== 0;
      }
      return (type >= H264_NAL.sei && type <= H264_NAL.accessUnitDelimiter) ||
        (type >= 14 && type <= 18);
    }
    const type = h265NalType(first);
    if (type < H265_NAL.vps) return ((this.#data[start + 2] ?? 0) & 0x80) !== 0;
    return type <= H265_NAL.accessUnitDelimiter || type === H265_NAL.prefixSei ||
      (type >= 41 && type <= 44) || (type >= 48 && type <= 55);
  }

  add(start: number, end: number): void {
    if (end <= start) return;
    const first = this.#data[start] ?? 0;
    const type = this.#isH264 ? h264NalType(first) : h265NalType(first);
    if (this.#isH264) {
      if (type >= H264_NAL.sps && type <= H264_NAL.filler) {
        if (type <= H264_NAL.pps) this.#addSet(start, end);
        return;
      }
      if (type >= H264_NAL.slice && type <= H264_NAL.idr) this.hasSlices = true;
      if (type === H264_NAL.idr) this.#isKey = true;
    } else {
      if (type >= H265_NAL.vps && type <= H265_NAL.filler) {
        if (type <= H265_NAL.pps) this.#addSet(start, end);
        return;
      }
      if (type < H265_NAL.vps) this.hasSlices = true;
      if (type >= H265_NAL.firstRandomAccess && type <= H265_NAL.lastRandomAccess) {
        this.#isKey = true;
      }
    }
    this.#spans.push(start, end);
  }

  #addSet(start: number, end: number): void {
    this.#parameterSets = [...this.#parameterSets, this.#data.slice(start, end)];
  }

  take(): AnnexBUnit {
    const unit = {
      data: this.#lengthPrefixed(),
      isKey: this.#isKey,
      parameterSets: this.#parameterSets,
    };
    this.#spans.length = 0;
    this.#parameterSets = NO_SETS;
    this.#isKey = false;
    this.hasSlices = false;
    return unit;
  }

  #lengthPrefixed(): Uint8Array {
    const data = this.#data;
    const spans = this.#spans;
    const begin = (spans[0] ?? 0) - 4;
    let contiguous = begin >= this.#floor;
    for (let i = 2; i < spans.length; i += 2) {
      if ((spans[i] ?? 0) - 4 !== spans[i - 1]) contiguous = false;
    }
    if (!contiguous) {
      const nals: Uint8Array[] = [];
      for (let i = 0; i < spans.length; i += 2) nals.push(data.subarray(spans[i], spans[i + 1]));
      return joinLengthPrefixed(nals);
    }
    for (let i = 0; i < spans.length; i += 2) {
      const start = spans[i] ?? 0;
      const length = (spans[i + 1] ?? 0) - start;
      data[start - 4] = length >>> 24;
      data[start - 3] = length >>> 16;
      data[start - 2] = length >>> 8;
      data[start - 1] = length;
    }
    this.#floor = spans[spans.length - 1] ?? 0;
    return data.subarray(begin, this.#floor);
  }
}

/** A NAL unit never ends in a zero byte; zeros behind it belong to the next start code. */
function trimZeros(data: Uint8Array, start: number, end: number): number {
  let trimmed = end;
  while (trimmed > start && data[trimmed - 1] === 0) trimmed--;
  return trimmed;
}

function join(
  nals: readonly Uint8Array[],
  writePrefix: (view: DataView, offset: number, length: number) => void,
): Uint8Array {
  const out = new Uint8Array(nals.reduce((sum, nal) => sum + 4 + nal.length, 0));
  const view = new DataView(out.buffer);
  let position = 0;
  for (const nal of nals) {
    writePrefix(view, position, nal.length);
    out.set(nal, position + 4);
    position += 4 + nal.length;
  }
  return out;
}
