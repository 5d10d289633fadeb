/**
 * JPEG (ITU-T T.81 Annex B): is this a whole picture, how large is it, and how are its colours
 * stored. A camera that is cut off in the middle of an answer leaves a picture without its end, which
 * decoders half accept: it must be seen here. Nothing is decoded.
 *
 * SOI (ff d8) · segments (ff marker, length16 with itself, body) · SOS, then entropy-coded bytes in
 * which ff is followed by 00 or a restart marker · … · EOI (ff d9). Bytes after EOI are allowed; some
 * cameras fill their buffer with them.
 *
 * @module
 */
import { MediaError } from "./media_error.ts";

/** What a JPEG's headers say. */
export interface JpegInfo {
  readonly widthPx: number;
  readonly heightPx: number;
  readonly progressive: boolean;
  /**
   * The common kind: one scan of all components with 8-bit samples, Huffman-coded from top to bottom
   * by tables that the picture itself brings, one block of each colour in an MCU. What nearly all
   * cameras give.
   */
  readonly plain: boolean;
  /** 1 is grey, 3 is YCbCr (or RGB where `rgb`). */
  readonly components: number;
  /** How the chroma is stored; `other` is legal but rare. */
  readonly subsampling: "4:2:0" | "4:2:2" | "4:4:4" | "4:4:0" | "4:1:1" | "grey" | "other";
  /** JFIF pictures are full-range BT.601 by definition; so is a picture that says nothing. */
  readonly jfif: boolean;
  readonly exif: boolean;
  /** An Adobe marker says that the components are RGB, not YCbCr. */
  readonly rgb: boolean;
  /** Length up to and with EOI; what stands behind is no part of the picture. */
  readonly sizeBytes: number;
}

/**
 * Checks that the bytes are one whole JPEG and reads its headers.
 *
 * @throws MediaError that says what stands there instead, or where it is cut
 */
export function parseJpeg(data: Uint8Array): JpegInfo {
  if (data[0] !== 0xff || data[1] !== 0xd8) {
    throw new MediaError(`not a JPEG: expected ff d8 at the start, got ${describe(data)}`);
  }
  let frame: Frame | undefined;
  let scans = 0;
  const missing = new Set([0xc4, 0xdb]); // DHT, DQT
  let jfif = false;
  let exif = false;
  let rgb = false;
  let position = 2;
  for (;;) {
    if (data[position] !== 0xff) {
      if (position >= data.length) throw cut(data);
      throw new MediaError(`damaged JPEG: expected a marker at byte ${position}`);
    }
    while (data[position] === 0xff) position++;
    const marker = data[position++];
    if (marker === undefined) throw cut(data);
    if (marker === 0xd9) {
      if (!frame) throw new MediaError("damaged JPEG: it ends before its frame header");
      const { simple, ...size } = frame;
      const plain = simple && scans === 1 && missing.size === 0;
      return { ...size, plain, jfif, exif, rgb, sizeBytes: position };
    }
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) continue;
    if (marker === 0x00 || marker === 0xd8) {
      throw new MediaError(
        `damaged JPEG: unexpected marker ${marker.toString(16)} at byte ${position}`,
      );
    }
    if (position + 2 > data.length) throw cut(data);
    const length = ((data[position] ?? 0) << 8) | (data[position + 1] ?? 0);
    const end = position + length;
    if (length < 2) throw new MediaError(`damaged JPEG: a segment of ${length} bytes`);
    if (end > data.length) throw cut(data);
    const body = data.subarray(position + 2, end);
    missing.delete(marker);
    if (isFrameHeader(marker)) frame = parseFrame(marker, body);
    if (marker === 0xe0 && startsWith(body, "JFIF\0")) jfif = true;
    if (marker === 0xe1 && startsWith(body, "Exif\0")) exif = true;
    if (marker === 0xee && startsWith(body, "Adobe") && body[11] === 0) rgb = true;
    position = end;
    if (marker === 0xda) {
      if (!frame) throw new MediaError("damaged JPEG: a scan stands before its frame header");
      scans++;
      position = endOfScan(data, position);
    }
  }
}

/** Finds the marker that ends a scan. The byte search is native, so this costs next to nothing. */
function endOfScan(data: Uint8Array, from: number): number {
  let position = from;
  for (;;) {
    position = data.indexOf(0xff, position);
    if (position < 0 || position + 1 >= data.length) throw cut(data);
    const next = data[position + 1] ?? 0;
    if (next !== 0 && !(next >= 0xd0 && next <= 0xd7) && next !== 0xff) return position;
    position += next === 0xff ? 1 : 2;
  }
}

/** SOF0 to SOF15, without DHT (c4), JPG (c8) and DAC (cc). */
function isFrameHeader(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
}

/** What a frame header says. */
type Frame = Omit<JpegInfo, "jfif" | "exif" | "rgb" | "sizeBytes" | "plain"> & {
  /** Of the sequential 8-bit kind, with colours of one block. */
  readonly simple: boolean;
};

function parseFrame(marker: number, body: Uint8Array): Frame {
  const components = body[5] ?? 0;
  if (body.length < 6 + 3 * components || components === 0) {
    throw new MediaError(`damaged JPEG: a frame header of ${body.length} bytes`);
  }
  const heightPx = ((body[1] ?? 0) << 8) | (body[2] ?? 0);
  const widthPx = ((body[3] ?? 0) << 8) | (body[4] ?? 0);
  if (widthPx === 0 || heightPx === 0) {
    throw new MediaError(`damaged JPEG: a picture of ${widthPx}x${heightPx}`);
  }
  const factors = Array.from({ length: components }, (_, i) => body[7 + 3 * i] ?? 0);
  return {
    widthPx,
    heightPx,
    progressive: (marker & 3) === 2,
    simple: marker <= 0xc1 && body[0] === 8 && factors.slice(1).every((factor) => factor === 0x11),
    components,
    subsampling: name(factors),
  };
}

function name(factors: readonly number[]): JpegInfo["subsampling"] {
  if (factors.length === 1) return "grey";
  const [luma = 0, cb = 0, cr = 0] = factors;
  if (factors.length !== 3 || cb !== cr || (cb >> 4) === 0 || (cb & 15) === 0) return "other";
  const ratio = `${(luma >> 4) / (cb >> 4)}x${(luma & 15) / (cb & 15)}`;
  switch (ratio) {
    case "2x2":
      return "4:2:0";
    case "2x1":
      return "4:2:2";
    case "1x1":
      return "4:4:4";
    case "1x2":
      return "4:4:0";
    case "4x1":
      return "4:1:1";
    default:
      return "other";
  }
}

function cut(data: Uint8Array): MediaError {
  return new MediaError(`truncated JPEG: its end (ff d9) is missing after ${data.length} bytes`);
}

/** What stands at the start of something that is no JPEG, for the person who has to find out why. */
function describe(data: Uint8Array): string {
  if (data.length === 0) return "nothing (an empty answer)";
  const start = data.subarray(0, 16);
  const printable = start.every((byte) =>
    byte >= 0x20 && byte < 0x7f || byte === 10 || byte === 13
  );
  return printable
    ? JSON.stringify(new TextDecoder().decode(start)) + (data.length > 16 ? "…" : "")
    : Array.from(start.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

function startsWith(body: Uint8Array, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (body[i] !== text.charCodeAt(i)) return false;
  return true;
}
