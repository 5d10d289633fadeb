/**
 * H.265 (ITU-T H.265 | ISO/IEC 23008-2): NAL unit types, the part of a sequence parameter set that
 * tells the picture's size and profile, and the `hvcC` record of MP4 (ISO/IEC 14496-15 §8.3.3.1). NAL
 * units are given without start code and without length.
 *
 * `hvcC`: version 1 · profile space, tier, profile (1) · compatibility (4) · constraints (6) · level
 * (1) · min. spatial segmentation (2) · parallelism (1) · chroma format (1) · bit depths (2) · average
 * frame rate (2) · frame rate mode, temporal layers, length size - 1 (1) · array count, then per
 * array: completeness + NAL type (1), count (2), (length16 NAL)….
 *
 * @module
 */
import { BitReader, unescapeNal } from "./bits.ts";
import { MediaError } from "./media_error.ts";

/** NAL unit types (Table 7-1) that a recorder meets. 16 to 23 are random access points. */
export const H265_NAL = {
  firstRandomAccess: 16,
  lastRandomAccess: 23,
  vps: 32,
  sps: 33,
  pps: 34,
  accessUnitDelimiter: 35,
  endOfSequence: 36,
  endOfStream: 37,
  filler: 38,
  prefixSei: 39,
  suffixSei: 40,
} as const;

/** `nal_unit_type` of a NAL unit's first byte. */
export function h265NalType(firstByte: number): number {
  return (firstByte >> 1) & 0x3f;
}

/** What a sequence parameter set says. */
export interface H265Sps {
  /** The twelve bytes of `profile_tier_level` that `hvcC` repeats: profile … level. */
  readonly profileTierLevel: Uint8Array;
  readonly temporalLayers: number;
  readonly temporalIdNested: boolean;
  readonly chromaFormatIdc: number;
  readonly bitDepthLuma: number;
  readonly bitDepthChroma: number;
  /** After cropping to the conformance window. */
  readonly widthPx: number;
  readonly heightPx: number;
  /** `sps_max_num_reorder_pics` of the highest layer; `undefined` where it cannot be read. */
  readonly maxReorderFrames: number | undefined;
}

/**
 * Parses a sequence parameter set (§7.3.2.2.1), its two header bytes included, up to the reordering.
 *
 * @throws MediaError
 */
export function parseH265Sps(nal: Uint8Array): H265Sps {
  if (h265NalType(nal[0] ?? 0) !== H265_NAL.sps) {
    throw new MediaError(
      `expected a sequence parameter set (NAL type 33), got NAL type ${h265NalType(nal[0] ?? 0)}`,
    );
  }
  const bytes = unescapeNal(nal);
  const r = new BitReader(bytes, "H.265 sequence parameter set");
  r.skip(16 + 4);
  const temporalLayers = r.bits(3) + 1;
  const temporalIdNested = r.flag();
  const profileTierLevel = bytes.slice(3, 15);
  r.skip(96);
  const present: [boolean, boolean][] = [];
  for (let layer = 1; layer < temporalLayers; layer++) present.push([r.flag(), r.flag()]);
  if (temporalLayers > 1) r.skip(2 * (9 - temporalLayers));
  for (const [profile, level] of present) r.skip((profile ? 88 : 0) + (level ? 8 : 0));
  r.ue(); // sps_seq_parameter_set_id
  const chromaFormatIdc = r.ue();
  if (chromaFormatIdc > 3) {
    throw new MediaError(`the SPS names chroma format ${chromaFormatIdc}, expected 0 to 3`);
  }
  if (chromaFormatIdc === 3) r.skip(1);
  const codedWidth = r.ue();
  const codedHeight = r.ue();
  const crop = [0, 0, 0, 0];
  if (r.flag()) { for (let side = 0; side < 4; side++) crop[side] = r.ue(); }
  const [left = 0, right = 0, top = 0, bottom = 0] = crop;
  const unitX = chromaFormatIdc === 1 || chromaFormatIdc === 2 ? 2 : 1;
  const unitY = chromaFormatIdc === 1 ? 2 : 1;
  const widthPx = codedWidth - (left + right) * unitX;
  const heightPx = codedHeight - (top + bottom) * unitY;
  if (!(widthPx > 0 && heightPx > 0 && widthPx <= 65_535 && heightPx <= 65_535)) {
    throw new MediaError(`the SPS names a picture of ${widthPx}x${heightPx}`);
  }
  return {
    profileTierLevel,
    temporalLayers,
    temporalIdNested,
    chromaFormatIdc,
    bitDepthLuma: 8 + r.ue(),
    bitDepthChroma: 8 + r.ue(),
    widthPx,
    heightPx,
    maxReorderFrames: parseReorder(r, temporalLayers),
  };
}

function parseReorder(r: BitReader, temporalLayers: number): number | undefined {
  try {
    r.ue(); // log2_max_pic_order_cnt_lsb_minus4
    const isForEach = r.flag();
    let reorder = 0;
    for (let layer = isForEach ? 0 : temporalLayers - 1; layer < temporalLayers; layer++) {
      r.ue();
      reorder = r.ue();
      r.ue();
    }
    return reorder <= 16 ? reorder : undefined;
  } catch (error) {
    if (!(error instanceof MediaError)) throw error;
    return undefined;
  }
}

/** The parameter sets of an `hvcC` record. */
export interface HevcConfig {
  /** Bytes of the length before each NAL unit; 4 everywhere in Camsink. */
  readonly lengthSizeBytes: number;
  readonly vps: readonly Uint8Array[];
  readonly sps: readonly Uint8Array[];
  readonly pps: readonly Uint8Array[];
}

/**
 * Makes the body of an `hvcC` box out of parameter sets.
 *
 * @throws MediaError if one kind is missing or the first SPS cannot be read
 */
export function makeHevcConfig(
  sets: {
    readonly vps: readonly Uint8Array[];
    readonly sps: readonly Uint8Array[];
    readonly pps: readonly Uint8Array[];
  },
): Uint8Array {
  const first = sets.sps[0];
  if (!first || sets.vps.length === 0 || sets.pps.length === 0) {
    throw new MediaError(
      `H.265 needs parameter sets: expected VPS, SPS and PPS, got ${sets.vps.length}, ${sets.sps.length} and ${sets.pps.length}`,
    );
  }
  const sps = parseH265Sps(first);
  const out = [
    1,
    ...sps.profileTierLevel,
    0xf0, // min_spatial_segmentation_idc 0: not said
    0,
    0xfc, // parallelismType 0: not said
    0xfc | sps.chromaFormatIdc,
    0xf8 | ((sps.bitDepthLuma - 8) & 7),
    0xf8 | ((sps.bitDepthChroma - 8) & 7),
    0, // avgFrameRate 0: not said
    0,
    (sps.temporalLayers << 3) | (sps.temporalIdNested ? 4 : 0) | 3,
    3,
  ];
  const arrays = [[H265_NAL.vps, sets.vps], [H265_NAL.sps, sets.sps], [H265_NAL.pps, sets.pps]];
  for (const [type, nals] of arrays as [number, readonly Uint8Array[]][]) {
    out.push(0x80 | type, nals.length >> 8, nals.length & 255);
    for (const nal of nals) out.push(nal.length >> 8, nal.length & 255, ...nal);
  }
  return Uint8Array.from(out);
}

/**
 * Parses the body of an `hvcC` box.
 *
 * @throws MediaError
 */
export function parseHevcConfig(body: Uint8Array): HevcConfig {
  const r = new BitReader(body, "hvcC record");
  const version = r.bits(8);
  if (version !== 1) throw new MediaError(`the hvcC record has version ${version}, expected 1`);
  r.skip(8 * 20);
  const lengthSizeBytes = (r.bits(8) & 3) + 1;
  const sets: { vps: Uint8Array[]; sps: Uint8Array[]; pps: Uint8Array[] } = {
    vps: [],
    sps: [],
    pps: [],
  };
  let position = 23;
  for (let arrays = r.bits(8); arrays > 0; arrays--) {
    const type = r.bits(8) & 0x3f;
    const count = r.bits(16);
    position += 3;
    for (let i = 0; i < count; i++) {
      const length = r.bits(16);
      position += 2;
      r.skip(length * 8);
      const nal = body.subarray(position, position + length);
      position += length;
      if (type === H265_NAL.vps) sets.vps.push(nal);
      if (type === H265_NAL.sps) sets.sps.push(nal);
      if (type === H265_NAL.pps) sets.pps.push(nal);
    }
  }
  return { lengthSizeBytes, ...sets };
}
