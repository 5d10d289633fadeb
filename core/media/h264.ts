/**
 * H.264 (ITU-T H.264 | ISO/IEC 14496-10): what a recorder needs to know of a NAL unit, of a sequence
 * parameter set, and of the `avcC` record that carries the parameter sets in MP4 (ISO/IEC 14496-15
 * §5.3.3.1). NAL units are given without start code and without length.
 *
 * `avcC`: version 1 · profile · compatibility · level · 111111 + length size - 1 · 111 + SPS count ·
 * (length16 SPS)… · PPS count · (length16 PPS)… · for High profiles: chroma format, bit depths,
 * SPS extensions.
 *
 * @module
 */
import { BitReader, unescapeNal } from "./bits.ts";
import { MediaError } from "./media_error.ts";

/** NAL unit types (Table 7-1) that a recorder meets. */
export const H264_NAL = {
  slice: 1,
  idr: 5,
  sei: 6,
  sps: 7,
  pps: 8,
  accessUnitDelimiter: 9,
  endOfSequence: 10,
  endOfStream: 11,
  filler: 12,
} as const;

/** `nal_unit_type` of a NAL unit's first byte. */
export function h264NalType(firstByte: number): number {
  return firstByte & 0x1f;
}

/** How to show the pictures: Annex E. */
export interface ColorInfo {
  readonly fullRange: boolean;
  /** `colour_primaries`, `transfer_characteristics`, `matrix_coefficients`; 2 is unspecified. */
  readonly primaries: number;
  readonly transfer: number;
  readonly matrix: number;
}

/** What a sequence parameter set says. */
export interface H264Sps {
  readonly profileIdc: number;
  readonly constraintFlags: number;
  readonly levelIdc: number;
  readonly chromaFormatIdc: number;
  readonly bitDepthLuma: number;
  readonly bitDepthChroma: number;
  /** After cropping. */
  readonly widthPx: number;
  readonly heightPx: number;
  /** Width to height of one sample. */
  readonly sampleAspect: readonly [number, number];
  readonly color: ColorInfo | undefined;
  /** `max_num_reorder_frames`; `undefined` where the VUI does not say. */
  readonly maxReorderFrames: number | undefined;
  /** Frames per second by the VUI's timing; `undefined` where it does not say. */
  readonly frameRate: number | undefined;
}

/** Sample aspect ratios of Table E-1, the same in H.265. */
export const SAMPLE_ASPECTS: readonly (readonly [number, number])[] = [
  [1, 1],
  [1, 1],
  [12, 11],
  [10, 11],
  [16, 11],
  [40, 33],
  [24, 11],
  [20, 11],
  [32, 11],
  [80, 33],
  [18, 11],
  [15, 11],
  [64, 33],
  [160, 99],
  [4, 3],
  [3, 2],
  [2, 1],
];

const HIGH_PROFILES: readonly number[] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134];

/**
 * Parses a sequence parameter set (§7.3.2.1.1), its header byte included.
 *
 * @throws MediaError
 */
export function parseH264Sps(nal: Uint8Array): H264Sps {
  if (h264NalType(nal[0] ?? 0) !== H264_NAL.sps) {
    throw new MediaError(
      `expected a sequence parameter set (NAL type 7), got NAL type ${h264NalType(nal[0] ?? 0)}`,
    );
  }
  const r = new BitReader(unescapeNal(nal), "H.264 sequence parameter set");
  r.skip(8);
  const profileIdc = r.bits(8);
  const constraintFlags = r.bits(8);
  const levelIdc = r.bits(8);
  r.ue(); // seq_parameter_set_id
  let chromaFormatIdc = 1;
  let bitDepthLuma = 8;
  let bitDepthChroma = 8;
  if (HIGH_PROFILES.includes(profileIdc)) {
    chromaFormatIdc = r.ue();
    if (chromaFormatIdc > 3) {
      throw new MediaError(`the SPS names chroma format ${chromaFormatIdc}, expected 0 to 3`);
    }
    if (chromaFormatIdc === 3) r.skip(1);
    bitDepthLuma = 8 + r.ue();
    bitDepthChroma = 8 + r.ue();
    r.skip(1);
    if (r.flag()) {
      for (let list = 0; list < (chromaFormatIdc === 3 ? 12 : 8); list++) {
        if (r.flag()) skipScalingList(r, list < 6 ? 16 : 64);
      }
    }
  }
  r.ue(); // log2_max_frame_num_minus4
  const pocType = r.ue();
  if (pocType === 0) {
    r.ue();
  } else if (pocType === 1) {
    r.skip(1);
    r.se();
    r.se();
    const cycle = r.ue();
    if (cycle > 255) throw new MediaError(`the SPS names ${cycle} reference frames in a cycle`);
    for (let i = 0; i < cycle; i++) r.se();
  }
  r.ue(); // max_num_ref_frames
  r.skip(1);
  const widthMbs = r.ue() + 1;
  const heightMapUnits = r.ue() + 1;
  const frameMbsOnly = r.flag();
  if (!frameMbsOnly) r.skip(1);
  r.skip(1);
  const crop = [0, 0, 0, 0];
  if (r.flag()) { for (let side = 0; side < 4; side++) crop[side] = r.ue(); }
  const [left = 0, right = 0, top = 0, bottom = 0] = crop;
  const fieldFactor = frameMbsOnly ? 1 : 2;
  const cropUnitX = chromaFormatIdc === 1 || chromaFormatIdc === 2 ? 2 : 1;
  const cropUnitY = (chromaFormatIdc === 1 ? 2 : 1) * fieldFactor;
  const widthPx = widthMbs * 16 - (left + right) * cropUnitX;
  const heightPx = heightMapUnits * 16 * fieldFactor - (top + bottom) * cropUnitY;
  if (!(widthPx > 0 && heightPx > 0 && widthPx <= 65_535 && heightPx <= 65_535)) {
    throw new MediaError(`the SPS names a picture of ${widthPx}x${heightPx}`);
  }
  return {
    profileIdc,
    constraintFlags,
    levelIdc,
    chromaFormatIdc,
    bitDepthLuma,
    bitDepthChroma,
    widthPx,
    heightPx,
    ...parseVui(r),
  };
}

type Vui = Pick<H264Sps, "sampleAspect" | "color" | "maxReorderFrames" | "frameRate">;

/** `vui_parameters` (§E.1.1). Cameras write broken ones; what can be read of it is kept. */
function parseVui(r: BitReader): Vui {
  let sampleAspect: readonly [number, number] = [1, 1];
  let color: ColorInfo | undefined;
  let maxReorderFrames: number | undefined;
  let frameRate: number | undefined;
  try {
    if (!r.flag()) return { sampleAspect, color, maxReorderFrames, frameRate };
    if (r.flag()) {
      const idc = r.bits(8);
      const named = idc === 255 ? [r.bits(16), r.bits(16)] as const : SAMPLE_ASPECTS[idc];
      if (named && named[0] > 0 && named[1] > 0) sampleAspect = named;
    }
    if (r.flag()) r.skip(1); // overscan
    if (r.flag()) {
      r.skip(3);
      const fullRange = r.flag();
      color = r.flag()
        ? { fullRange, primaries: r.bits(8), transfer: r.bits(8), matrix: r.bits(8) }
        : { fullRange, primaries: 2, transfer: 2, matrix: 2 };
    }
    if (r.flag()) {
      r.ue();
      r.ue();
    }
    if (r.flag()) {
      const unitsInTick = r.bits(32);
      const timeScale = r.bits(32);
      r.skip(1);
      if (unitsInTick > 0 && timeScale > 0) frameRate = timeScale / unitsInTick / 2;
    }
    const nalHrd = r.flag();
    if (nalHrd) skipHrd(r);
    const vclHrd = r.flag();
    if (vclHrd) skipHrd(r);
    if (nalHrd || vclHrd) r.skip(1);
    r.skip(1);
    if (r.flag()) {
      r.skip(1);
      for (let i = 0; i < 4; i++) r.ue();
      const reorder = r.ue();
      if (reorder <= 16) maxReorderFrames = reorder;
    }
  } catch (error) {
    if (!(error instanceof MediaError)) throw error;
  }
  return { sampleAspect, color, maxReorderFrames, frameRate };
}

function skipHrd(r: BitReader): void {
  const count = r.ue() + 1;
  if (count > 32) throw new MediaError(`the SPS names ${count} HRD schedules, expected 1 to 32`);
  r.skip(8);
  for (let i = 0; i < count; i++) {
    r.ue();
    r.ue();
    r.skip(1);
  }
  r.skip(20);
}

function skipScalingList(r: BitReader, size: number): void {
  let last = 8;
  let next = 8;
  for (let i = 0; i < size; i++) {
    if (next !== 0) next = (last + r.se() + 256) % 256;
    last = next === 0 ? last : next;
  }
}

/** The parameter sets of an `avcC` record. */
export interface AvcConfig {
  readonly profileIdc: number;
  readonly levelIdc: number;
  /** Bytes of the length before each NAL unit; 4 everywhere in Camsink. */
  readonly lengthSizeBytes: number;
  readonly sps: readonly Uint8Array[];
  readonly pps: readonly Uint8Array[];
}

/**
 * Makes the body of an `avcC` box out of parameter sets.
 *
 * @throws MediaError if they are none or the first SPS cannot be read
 */
export function makeAvcConfig(
  sets: { readonly sps: readonly Uint8Array[]; readonly pps: readonly Uint8Array[] },
): Uint8Array {
  const first = sets.sps[0];
  if (!first || sets.pps.length === 0 || sets.sps.length > 31 || sets.pps.length > 255) {
    throw new MediaError(
      `H.264 needs parameter sets: expected 1 to 31 SPS and 1 to 255 PPS, got ${sets.sps.length} and ${sets.pps.length}`,
    );
  }
  const parsed = parseH264Sps(first);
  const out = [1, first[1] ?? 0, first[2] ?? 0, first[3] ?? 0, 0xff, 0xe0 | sets.sps.length];
  for (const nal of sets.sps) out.push(nal.length >> 8, nal.length & 255, ...nal);
  out.push(sets.pps.length);
  for (const nal of sets.pps) out.push(nal.length >> 8, nal.length & 255, ...nal);
  if (![66, 77, 88].includes(parsed.profileIdc)) {
    out.push(
      0xfc | parsed.chromaFormatIdc,
      0xf8 | (parsed.bitDepthLuma - 8),
      0xf8 | (parsed.bitDepthChroma - 8),
      0,
    );
  }
  return Uint8Array.from(out);
}

/**
 * Parses the body of an `avcC` box.
 *
 * @throws MediaError
 */
export function parseAvcConfig(body: Uint8Array): AvcConfig {
  const r = new BitReader(body, "avcC record");
  const version = r.bits(8);
  if (version !== 1) throw new MediaError(`the avcC record has version ${version}, expected 1`);
  const profileIdc = r.bits(8);
  r.skip(8);
  const levelIdc = r.bits(8);
  const lengthSizeBytes = (r.bits(8) & 3) + 1;
  const sps: Uint8Array[] = [];
  const pps: Uint8Array[] = [];
  let position = 5;
  for (const list of [sps, pps]) {
    const count = (body[position] ?? 0) & (list === sps ? 0x1f : 0xff);
    r.skip(8);
    position++;
    for (let i = 0; i < count; i++) {
      const length = r.bits(16);
      position += 2;
      r.skip(length * 8);
      list.push(body.subarray(position, position + length));
      position += length;
    }
  }
  return { profileIdc, levelIdc, lengthSizeBytes, sps, pps };
}
