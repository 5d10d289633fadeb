/**
 * Looks at an MP4 file that somebody else made: is it whole, and what does it hold? Ordinary files
 * (ISO/IEC 14496-12 §8.7, sample tables) and fragmented ones (§8.8). Only boxes are read, no sample is
 * decoded. No declared length is trusted: what does not fit into its parent is an error.
 *
 * @module
 */
import { type Box, FieldReader, findBox, parseBoxes } from "./mp4_boxes.ts";
import { MediaError } from "./media_error.ts";

/** What a whole file holds. */
export interface Mp4Contents {
  /** Samples of all video tracks. */
  readonly frames: number;
  /** Of the longest track, as the file names it, ms; 0 where a fragmented file does not. */
  readonly durationMs: number;
  /** Of the first video track; 0 where the file does not say. */
  readonly widthPx: number;
  readonly heightPx: number;
}

/**
 * @throws MediaError if the file ends too soon, does not hold together, or has no pictures
 */
export function inspectMp4(file: Uint8Array): Mp4Contents {
  const boxes = parseBoxes(file);
  if (boxes[0]?.type !== "ftyp") {
    throw new MediaError(
      `it is no MP4 file: expected the box ftyp first, got ${JSON.stringify(boxes[0]?.type)}`,
    );
  }
  const moov = parseBoxes(findBox(boxes, "moov").body);
  findBox(boxes, "mdat");
  const videos = new Map<number, { widthPx: number; heightPx: number; frames: number }>();
  for (const trak of moov.filter(({ type }) => type === "trak")) {
    const track = readTrack(parseBoxes(trak.body));
    if (track) videos.set(track.id, track);
  }
  const [first] = videos.values();
  if (!first) throw new MediaError("the file has no video track");
  for (const moof of boxes.filter(({ type }) => type === "moof")) {
    for (const traf of parseBoxes(moof.body).filter(({ type }) => type === "traf")) {
      const { id, samples } = readTrackFragment(parseBoxes(traf.body));
      const track = videos.get(id);
      if (track) track.frames += samples;
    }
  }
  const frames = [...videos.values()].reduce((sum, track) => sum + track.frames, 0);
  if (frames === 0) throw new MediaError("the file has a video track without a picture");
  const { widthPx, heightPx } = first;
  return { frames, durationMs: readDurationMs(findBox(moov, "mvhd")), widthPx, heightPx };
}

/** `mvhd`, §8.2.2. */
function readDurationMs(mvhd: Box): number {
  const r = new FieldReader(mvhd);
  const isLong = r.u8() === 1;
  r.skip(3 + (isLong ? 16 : 8));
  const timescale = r.u32();
  const duration = isLong ? r.u64() : r.u32();
  // All ones mean that it is not known.
  return timescale === 0 || duration === 0xffff_ffff ? 0 : duration / timescale * 1000;
}

/** A video track; `undefined` for any other. */
function readTrack(boxes: readonly Box[]) {
  const hdlr = new FieldReader(findBox(boxes, "mdia", "hdlr"));
  hdlr.skip(8);
  if (hdlr.u32() !== 0x76696465) return undefined; // "vide"
  // `tkhd`, §8.3.2: the size is its last two fields, 16.16 fixed point.
  const tkhd = findBox(boxes, "tkhd");
  const r = new FieldReader(tkhd);
  const isLong = r.u8() === 1;
  r.skip(3 + (isLong ? 16 : 8));
  const id = r.u32();
  r.skip(r.bytesLeft - 8);
  const widthPx = Math.round(r.u32() / 65_536);
  const heightPx = Math.round(r.u32() / 65_536);
  return { id, widthPx, heightPx, frames: countSamples(findBox(boxes, "mdia", "minf", "stbl")) };
}

/** `stsz` or `stz2`, §8.7.3: both have the count as their third field of 32 bits. */
function countSamples(stbl: Box): number {
  const sizes = parseBoxes(stbl.body).find(({ type }) => type === "stsz" || type === "stz2");
  if (!sizes) throw new MediaError("the box stsz is missing");
  const r = new FieldReader(sizes);
  r.skip(8);
  return r.u32();
}

/** `tfhd` and `trun`, §8.8.7 and §8.8.8. */
function readTrackFragment(boxes: readonly Box[]): { id: number; samples: number } {
  const tfhd = new FieldReader(findBox(boxes, "tfhd"));
  tfhd.skip(4);
  const id = tfhd.u32();
  let samples = 0;
  for (const trun of boxes.filter(({ type }) => type === "trun")) {
    const r = new FieldReader(trun);
    r.skip(4);
    samples += r.u32();
  }
  return { id, samples };
}
