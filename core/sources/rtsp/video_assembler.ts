/**
 * Pictures out of NAL units: gathers them into access units in the form that a track has everywhere
 * (lengths, no parameter sets), keeps the parameter sets that come in the description or in band,
 * tells key pictures, and after a loss leaves everything out up to the next key picture, because what
 * lies between cannot be decoded.
 *
 * **Where a picture ends.** The RTP timestamp changes, or the marker bit is set; but some cameras set
 * the marker on every slice, so it is believed only where it was right from the start.
 *
 * **What is key.** An IDR or IRAP picture. Cameras that never send one but refresh by an intra picture
 * behind parameter sets (H.264 recovery point) are taken at that.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { findStartCodes } from "../../media/start_codes.ts";
import { H264_NAL, h264NalType, makeAvcConfig, parseH264Sps } from "../../media/h264.ts";
import { H265_NAL, h265NalType, makeHevcConfig, parseH265Sps } from "../../media/h265.ts";
import { MediaError } from "../../media/media_error.ts";
import type { VideoTrack } from "../../types.ts";
import { type CommittedUnit, UnitBuffer } from "../unit_buffer.ts";

/** A picture as it comes out. */
export interface AssembledPicture extends CommittedUnit {
  /** As of its packets, unwrapped by the caller. */
  readonly rtpTime: number;
  readonly isKey: boolean;
  /** Set where the description is new or has changed; always at a key picture. */
  readonly track: VideoTrack | undefined;
  /** That it was whole showed only when the next one began. */
  readonly byNext: boolean;
}

/** What has been left out and why; grows for the whole session. */
export interface VideoCounters {
  pictures: number;
  /** Left out: damaged, or not decodable without one that was. */
  droppedPictures: number;
  /** Key pictures for which nobody has sent parameter sets. */
  withoutParameterSets: number;
}

/** See {@linkcode VideoAssembler}. */
export interface VideoAssemblerOptions {
  readonly codec: "h264" | "h265";
  readonly trackId: number;
  /** Parameter sets of the description. */
  readonly parameterSets: readonly Uint8Array[];
  readonly onPicture: (picture: AssembledPicture) => void;
}

/** A larger picture is not believed: an 8K key picture stays below it. */
const MAX_PICTURE_BYTES = 16 * 2 ** 20;
const FIRST_CHUNK_BYTES = 131_072;
/** So many pictures in a row must have ended with the marker before it is believed. */
const MARKER_TRIAL = 30;
const MAX_SETS = 64;
/** Parameter sets longer than this are not believed. */
const MAX_SET_BYTES = 4096;

/** Puts one stream's pictures together. */
export class VideoAssembler {
  readonly #codec: "h264" | "h265";
  readonly #trackId: number;
  readonly #onPicture: (picture: AssembledPicture) => void;
  readonly #buffer = new UnitBuffer({
    chunkBytes: FIRST_CHUNK_BYTES,
    maxUnitBytes: MAX_PICTURE_BYTES,
  });
  readonly counters: VideoCounters = { pictures: 0, droppedPictures: 0, withoutParameterSets: 0 };
  /** Parameter sets as they are now, in the order of their coming. */
  #sets: Uint8Array[] = [];
  #setsChanged = false;
  #hasTrack = false;
  /** Frames by which pictures are shown later than decoded, by the parameter sets; -1 unknown. */
  reorderFrames = -1;

  #nalStart = -1;
  #rtpTime = 0;
  #isOpen = false;
  #hasSlices = false;
  #isKey = false;
  #isBroken = false;
  #sawSets = false;
  #isIntra = false;
  #waitsForKey = true;
  #markersRight = 0;
  /** The packet before ended a picture, as it says. */
  #hadMarker = false;
  #endedByMarker = false;

  constructor(options: VideoAssemblerOptions) {
    this.#codec = options.codec;
    this.#trackId = options.trackId;
    this.#onPicture = options.onPicture;
    for (const nal of options.parameterSets) this.#takeSet(nal);
  }

  /** Call before each packet's NAL units: a new timestamp ends the picture before. */
  beginPacket(rtpTime: number): void {
    if (this.#isOpen && rtpTime !== this.#rtpTime) {
      if (!this.#hadMarker && this.#markersRight > 0) this.#markersRight = 0;
      this.#finish({ byNext: true });
    } else if (this.#isOpen && this.#hadMarker) {
      this.#markersRight = Math.min(0, this.#markersRight); // it stood in the middle of a picture
    } else if (!this.#isOpen && this.#endedByMarker && rtpTime === this.#rtpTime) {
      // The marker was wrong: half of a picture is out already.
      this.#markersRight = -Infinity;
      this.lost();
    }
    this.#endedByMarker = false;
    if (!this.#isOpen) {
      this.#isOpen = true;
      this.#rtpTime = rtpTime;
    }
  }

  /** Call after each packet's NAL units. */
  endPacket(marker: boolean): void {
    this.#hadMarker = marker && this.#hasSlices && this.#nalStart < 0;
    if (!this.#hadMarker) return;
    this.#markersRight++;
    if (this.#markersRight <= MARKER_TRIAL) return;
    this.#finish();
    this.#endedByMarker = true;
  }

  /** Packets are missing. */
  lost(): void {
    this.#isBroken = true;
    this.#abandonNal();
    if (!this.#isOpen) this.#waitsForKey = true;
  }

  /** Nothing is at hand for a while. */
  rest(): void {
    this.#buffer.rest();
  }

  /** Nothing more will come with this timestamp. */
  flush(): void {
    if (this.#isOpen) this.#finish();
  }

  /** Begins a NAL unit. */
  beginNal(): void {
    this.#abandonNal();
    if (this.#isBroken) return;
    if (this.#buffer.wouldOverflow(MAX_SET_BYTES)) return this.lost();
    this.#nalStart = this.#buffer.beginLength();
  }

  /** Whether a NAL unit is being put together. */
  get isInNal(): boolean {
    return this.#nalStart >= 0;
  }

  /** Appends to it. */
  append(data: Uint8Array, from: number, to: number): void {
    if (this.#nalStart < 0) return;
    if (this.#buffer.wouldOverflow(to - from)) return this.lost();
    this.#buffer.append(data, from, to);
  }

  /** Appends one byte to it. */
  push(byte: number): void {
    if (this.#nalStart >= 0) this.#buffer.push(byte);
  }

  /** Ends it. */
  endNal(): void {
    const start = this.#nalStart;
    if (start < 0) return;
    this.#nalStart = -1;
    const buffer = this.#buffer;
    const length = buffer.length - start - 4;
    const first = buffer.at(start + 4);
    const isH264 = this.#codec === "h264";
    const type = isH264 ? h264NalType(first) : h265NalType(first);
    if (length < (isH264 ? 2 : 3)) return buffer.truncate(start);
    if (isH264 ? type >= H264_NAL.sei : type >= H265_NAL.vps) {
      if (this.#splitEmbedded(start)) return;
      const isSet = isH264
        ? type === H264_NAL.sps || type === H264_NAL.pps
        : type >= H265_NAL.vps && type <= H265_NAL.pps;
      if (isSet) {
        const set = buffer.view(start + 4);
        if (this.#takeSet(set)) this.#sawSets = true;
        return buffer.truncate(start);
      }
      const isSei = isH264
        ? type === H264_NAL.sei
        : type === H265_NAL.prefixSei || type === H265_NAL.suffixSei;
      // Delimiters, fillers, and the layers of scalable video go.
      if (!isSei) return buffer.truncate(start);
    } else {
      const isRandomAccess = isH264
        ? type === H264_NAL.idr
        : type >= H265_NAL.firstRandomAccess && type <= H265_NAL.lastRandomAccess;
      if (isRandomAccess) this.#isKey = true;
      else if (isH264 && this.#sawSets && !this.#hasSlices) {
        this.#isIntra = isIntraSlice(buffer.at(start + 5), buffer.at(start + 6));
      }
      this.#hasSlices = true;
    }
    buffer.setLength(start);
  }

  #abandonNal(): void {
    if (this.#nalStart >= 0) this.#buffer.truncate(this.#nalStart);
    this.#nalStart = -1;
  }

  /**
   * Some cameras put several NAL units with start codes between them where one belongs, parameter
   * sets first. Takes them apart; `false` if there is but one.
   */
  #splitEmbedded(start: number): boolean {
    const nal = this.#buffer.view(start + 4);
    const codes = findStartCodes(nal);
    if (codes.length === 0) return false;
    const bytes = nal.slice();
    this.#buffer.truncate(start);
    const starts = [0, ...codes.map((code) => code + 3)];
    for (const [i, from] of starts.entries()) {
      let to = codes[i] ?? bytes.length;
      while (to > from && bytes[to - 1] === 0) to--;
      if (to <= from) continue;
      this.beginNal();
      this.append(bytes, from, to);
      this.endNal();
    }
    return true;
  }

  /** Keeps a parameter set; whether it was one. A known one costs a comparison. */
  #takeSet(nal: Uint8Array): boolean {
    if (nal.length > MAX_SET_BYTES) return false;
    if (this.#sets.some((known) => Buffer.compare(known, nal) === 0)) return true;
    const isH264 = this.#codec === "h264";
    const type = isH264 ? h264NalType(nal[0] ?? 0) : h265NalType(nal[0] ?? 0);
    let kept = this.#sets;
    if (type === (isH264 ? H264_NAL.sps : H265_NAL.sps)) {
      try {
        if (isH264) parseH264Sps(nal);
        else parseH265Sps(nal);
      } catch (error) {
        if (!(error instanceof MediaError)) throw error;
        return false;
      }
      // A new sequence: what belonged to the old one is void, unless it came just before.
      kept = isH264 ? [] : kept.filter((set) => h265NalType(set[0] ?? 0) === H265_NAL.vps);
    } else if (!isH264 && type === H265_NAL.vps) {
      kept = [];
    } else {
      // A picture parameter set takes the place of the one with its number.
      const number = setNumber(nal, isH264);
      kept = kept.filter((set) =>
        setNumber(set, isH264) !== number || typeOf(set, isH264) !== type
      );
    }
    this.#sets = [...kept, nal.slice()].slice(-MAX_SETS);
    this.#setsChanged = true;
    return true;
  }

  #finish({ byNext = false }: { readonly byNext?: boolean } = {}): void {
    this.#isOpen = false;
    this.#abandonNal();
    const isBroken = this.#isBroken;
    const isKey = this.#isKey || this.#isIntra;
    const hasSlices = this.#hasSlices;
    this.#isBroken =
      this.#hasSlices =
      this.#isKey =
      this.#isIntra =
        false;
    if (hasSlices) this.#sawSets = false;
    if (isBroken || !hasSlices) {
      this.#buffer.truncate(0);
      if (isBroken) {
        this.#waitsForKey = true;
        this.counters.droppedPictures++;
      }
      return;
    }
    let track: VideoTrack | undefined;
    if (isKey && (this.#setsChanged || !this.#hasTrack)) {
      track = this.#makeTrack();
      if (track === undefined && !this.#hasTrack) this.counters.withoutParameterSets++;
    } else if (this.#setsChanged && this.#hasTrack) {
      this.#waitsForKey = true; // it cannot be said from here on what applies
    }
    if (isKey && this.#hasTrack) this.#waitsForKey = false;
    if (this.#waitsForKey) {
      this.#buffer.truncate(0);
      this.counters.droppedPictures++;
      return;
    }
    this.counters.pictures++;
    const { data, release } = this.#buffer.commit();
    this.#onPicture({ data, release, rtpTime: this.#rtpTime, isKey, track, byNext });
  }

  #makeTrack(): VideoTrack | undefined {
    try {
      const description = describe(this.#codec, this.#sets);
      this.#setsChanged = false;
      this.#hasTrack = true;
      this.reorderFrames = description.reorderFrames;
      const { config, widthPx, heightPx } = description;
      return { id: this.#trackId, kind: "video", codec: this.#codec, widthPx, heightPx, config };
    } catch (error) {
      if (!(error instanceof MediaError)) throw error;
      return undefined;
    }
  }
}

function describe(codec: "h264" | "h265", sets: readonly Uint8Array[]): {
  readonly config: Uint8Array;
  readonly widthPx: number;
  readonly heightPx: number;
  readonly reorderFrames: number;
} {
  const isH264 = codec === "h264";
  const ofType = (type: number) => sets.filter((set) => typeOf(set, isH264) === type);
  if (isH264) {
    const sps = ofType(H264_NAL.sps);
    const config = makeAvcConfig({ sps, pps: ofType(H264_NAL.pps) });
    const { widthPx, heightPx, maxReorderFrames } = parseH264Sps(sps[0] ?? new Uint8Array());
    return { config, widthPx, heightPx, reorderFrames: maxReorderFrames ?? -1 };
  }
  const sps = ofType(H265_NAL.sps);
  const config = makeHevcConfig({
    vps: ofType(H265_NAL.vps),
    sps,
    pps: ofType(H265_NAL.pps),
  });
  const { widthPx, heightPx, maxReorderFrames } = parseH265Sps(sps[0] ?? new Uint8Array());
  return { config, widthPx, heightPx, reorderFrames: maxReorderFrames ?? -1 };
}

function typeOf(nal: Uint8Array, isH264: boolean): number {
  return isH264 ? h264NalType(nal[0] ?? 0) : h265NalType(nal[0] ?? 0);
}

/** The number of a picture parameter set: its first Exp-Golomb code. */
function setNumber(nal: Uint8Array, isH264: boolean): number {
  return expGolomb(nal[isH264 ? 1 : 2] ?? 0, nal[isH264 ? 2 : 3] ?? 0);
}

/** H.264 §7.3.3: `first_mb_in_slice`, then `slice_type`, of which 2 and 7 are intra. */
function isIntraSlice(first: number, second: number): boolean {
  if (expGolomb(first, second) !== 0) return false;
  return expGolomb(((first << 1) | (second >> 7)) & 0xff, (second << 1) & 0xff) % 5 === 2;
}

/** An unsigned Exp-Golomb code of at most 15 bits. */
function expGolomb(first: number, second: number): number {
  const bits = (first << 8) | second;
  const zeros = Math.clz32(bits) - 16;
  if (zeros > 7) return -1;
  return ((bits >> (15 - 2 * zeros)) & ((1 << (zeros + 1)) - 1)) - 1;
}
