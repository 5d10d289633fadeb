/**
 * Pictures out of NexusTalk packets: each packet brings one NAL unit without start code; those of one
 * picture come in a row, parameter sets in front of a key picture. A picture is whole when the next
 * one begins.
 *
 * @module
 */
import { BitReader, unescapeNal } from "../../media/bits.ts";
import { H264_NAL, h264NalType, makeAvcConfig, parseH264Sps } from "../../media/h264.ts";
import { MediaError } from "../../media/media_error.ts";
import type { VideoTrack } from "../../types.ts";
import { UnitBuffer } from "../unit_buffer.ts";

/** A picture with what belongs to it. */
export interface AssembledPicture {
  /** NAL units with 4-byte lengths. */
  readonly data: Uint8Array;
  /** Gives the bytes back. */
  readonly release: () => void;
  readonly isKey: boolean;
  /** The description, where it is new with this picture. */
  readonly track?: VideoTrack;
}

/** What went wrong so far. */
export interface AssemblerCounters {
  /** Pictures that could not be used: before the first key picture, broken off, or beyond bounds. */
  dropped: number;
}

/** A picture of more is nonsense. */
const MAX_NALS = 200;
const MAX_PICTURE_BYTES = 4 * 2 ** 20;
const FIRST_CHUNK_BYTES = 262_144;

/** Puts pictures together. */
export class PictureAssembler {
  readonly #trackId: number;
  readonly #buffer = new UnitBuffer({
    chunkBytes: FIRST_CHUNK_BYTES,
    maxUnitBytes: MAX_PICTURE_BYTES,
  });
  #nals = 0;
  #slices = 0;
  #isKey = false;
  /** The picture under way is beyond bounds, or cannot be decoded. */
  #isBad = false;
  /** Slices of the picture before: one with fewer was broken off. */
  #usualSlices = 1;
  /** Parameter sets by type and id. */
  readonly #sets = new Map<string, Uint8Array>();
  #setsChanged = false;
  #track: VideoTrack | undefined;
  /** Decoding can go on: a key picture came, and nothing was lost since. */
  #isDecodable = false;
  readonly counters: AssemblerCounters = { dropped: 0 };

  constructor(trackId: number) {
    this.#trackId = trackId;
  }

  /** Whether pieces of a picture are held. */
  get isUnderWay(): boolean {
    return this.#slices > 0;
  }

  /** Whether this NAL unit begins another picture than the one under way (H.264 §7.4.1.2.3). */
  begins(nal: Uint8Array): boolean {
    if (this.#slices === 0) return false;
    const type = h264NalType(nal[0] ?? 0);
    // A first macroblock of 0 is coded as a single 1 bit.
    if (type === H264_NAL.slice || type === H264_NAL.idr) return ((nal[1] ?? 0) & 0x80) !== 0;
    return type >= H264_NAL.sei && type <= H264_NAL.accessUnitDelimiter;
  }

  /** Adds a NAL unit to the picture under way. The bytes are copied. */
  add(nal: Uint8Array): void {
    const type = h264NalType(nal[0] ?? 0);
    switch (type) {
      case H264_NAL.sps:
      case H264_NAL.pps:
        this.#keepSet(nal, type);
        return;
      case H264_NAL.idr:
        this.#isKey = true;
        this.#slices++;
        break;
      case H264_NAL.slice:
        this.#slices++;
        break;
      case H264_NAL.sei:
        break;
      default:
        return; // delimiters and filler belong into no MP4
    }
    if (++this.#nals > MAX_NALS || this.#buffer.wouldOverflow(4 + nal.length)) {
      this.#isBad = true;
      return;
    }
    const length = this.#buffer.beginLength();
    this.#buffer.append(nal, 0, nal.length);
    this.#buffer.setLength(length);
  }

  /**
   * The picture under way, if it is one that can be decoded.
   *
   * @param options.brokenOff nothing comes after it, so it may not be whole: it is left out where it
   * has fewer slices than the one before
   */
  take({ brokenOff = false }: { readonly brokenOff?: boolean } = {}): AssembledPicture | undefined {
    const isKey = this.#isKey;
    const slices = this.#slices;
    const isCut = brokenOff && slices < this.#usualSlices;
    const isBad = this.#isBad;
    this.#nals = 0;
    this.#slices = 0;
    this.#isKey = false;
    this.#isBad = false;
    const track = this.#judge({ isKey, slices, isBad: isBad || isCut });
    if (!this.#isDecodable || slices === 0) {
      this.#buffer.truncate(0);
      if (slices > 0) this.counters.dropped++;
      return undefined;
    }
    return { ...this.#buffer.commit(), isKey, ...(track ? { track } : {}) };
  }

  /** Decides whether decoding can go on with a picture. @returns its description where it is new */
  #judge(
    { isKey, slices, isBad }: {
      readonly isKey: boolean;
      readonly slices: number;
      readonly isBad: boolean;
    },
  ): VideoTrack | undefined {
    if (slices === 0) return undefined;
    if (isBad) {
      this.#isDecodable = false;
      return undefined;
    }
    this.#usualSlices = slices;
    if (!isKey) return undefined;
    const track = this.#newTrack();
    this.#isDecodable = this.#track !== undefined;
    return track;
  }

  /** What comes next does not follow what came: a new connection, or something was left out. */
  interrupt(): void {
    this.take({ brokenOff: true });
    this.#isDecodable = false;
    this.#usualSlices = 1;
  }

  #keepSet(nal: Uint8Array, type: number): void {
    let id: number;
    try {
      const reader = new BitReader(unescapeNal(nal.subarray(0, 16)), "parameter set");
      reader.skip(type === H264_NAL.sps ? 32 : 8);
      id = reader.ue();
    } catch (error) {
      if (!(error instanceof MediaError)) throw error;
      return;
    }
    if (id > 255) return;
    const key = `${type} ${id}`;
    const known = this.#sets.get(key);
    if (known && isSame(known, nal)) return;
    if (type === H264_NAL.sps && known) {
      // The picture sets behind it belong to the old one; the new ones follow.
      for (const other of this.#sets.keys()) {
        if (other.startsWith(`${H264_NAL.pps} `)) this.#sets.delete(other);
      }
    }
    this.#sets.set(key, nal.slice());
    this.#setsChanged = true;
  }

  /** The track, where the parameter sets have changed since it was made and make sense. */
  #newTrack(): VideoTrack | undefined {
    if (!this.#setsChanged) return undefined;
    const of = (type: number) =>
      [...this.#sets].filter(([key]) => key.startsWith(`${type} `)).map(([, nal]) => nal);
    const [sps, pps] = [of(H264_NAL.sps), of(H264_NAL.pps)];
    const [first] = sps;
    if (!first || pps.length === 0) {
      this.#track = undefined;
      return undefined;
    }
    try {
      const { widthPx, heightPx } = parseH264Sps(first);
      const config = makeAvcConfig({ sps, pps });
      this.#track = { id: this.#trackId, kind: "video", codec: "h264", widthPx, heightPx, config };
    } catch (error) {
      if (!(error instanceof MediaError)) throw error;
      this.#track = undefined; // nothing can be decoded until better ones come
    }
    this.#setsChanged = false;
    return this.#track;
  }
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
