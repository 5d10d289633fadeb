/**
 * The way in to ffmpeg: pictures in a minimal Matroska stream (RFC 9559), because it is the simplest
 * container that carries exact packet borders and times through a pipe. A damaged picture then costs
 * only itself: ffmpeg never has to search for the next one, and what comes out says which it was.
 * H.264 and H.265 go in as access units are: with lengths, and the configuration record beside them.
 *
 * EBML header · Segment (unknown size) · Info · Tracks · one Cluster with one SimpleBlock per picture.
 *
 * @module
 */
import type { VideoCodec } from "../types.ts";

/** The unknown-size Segment, as a live stream has it. */
const OPEN_SEGMENT = Uint8Array.of(0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255);

/** The CodecID of each codec. */
const CODEC_IDS = {
  jpeg: "V_MJPEG",
  h264: "V_MPEG4/ISO/AVC",
  h265: "V_MPEGH/ISO/HEVC",
} as const;

/** What stands before the first picture. Times are in ms. */
export function matroskaHeader(track: {
  readonly widthPx: number;
  readonly heightPx: number;
  /** How long a picture nominally lasts, ms; it saves ffmpeg from guessing a rate. */
  readonly pictureMs: number;
  /** Default: `jpeg`. */
  readonly codec?: VideoCodec;
  /** As of a {@linkcode VideoTrack}. */
  readonly config?: Uint8Array;
}): Uint8Array<ArrayBuffer> {
  const { codec = "jpeg", config } = track;
  const text = (value: string) => new TextEncoder().encode(value);
  const video = concat(
    element([0xb0], unsigned(track.widthPx, 4)),
    element([0xba], unsigned(track.heightPx, 4)),
  );
  const trackEntry = concat(
    element([0xd7], unsigned(1, 1)), // TrackNumber
    element([0x73, 0xc5], unsigned(1, 1)), // TrackUID
    element([0x83], unsigned(1, 1)), // TrackType: video
    element([0x23, 0xe3, 0x83], unsigned(track.pictureMs * 1e6, 4)), // DefaultDuration, ns
    element([0x86], text(CODEC_IDS[codec])),
    ...(config?.length ? [element([0x63, 0xa2], config)] : []), // CodecPrivate
    element([0xe0], video),
  );
  const ebml = concat(
    element([0x42, 0x82], text("matroska")),
    element([0x42, 0x87], unsigned(4, 1)),
    element([0x42, 0x85], unsigned(2, 1)),
  );
  return concat(
    element([0x1a, 0x45, 0xdf, 0xa3], ebml),
    OPEN_SEGMENT,
    element([0x15, 0x49, 0xa9, 0x66], element([0x2a, 0xd7, 0xb1], unsigned(1_000_000, 4))),
    element([0x16, 0x54, 0xae, 0x6b], element([0xae], trackEntry)),
  );
}

/** One picture shown at `timeMs`. Copies it once. */
export function matroskaPicture(
  timeMs: number,
  picture: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const time = element([0xe7], unsigned(timeMs, 8));
  const blockHead = concat(
    Uint8Array.of(0xa3),
    sizeField(picture.length + 4),
    Uint8Array.of(0x81, 0, 0, 0x80), // track 1, at the cluster's time, key
  );
  return concat(
    Uint8Array.of(0x1f, 0x43, 0xb6, 0x75),
    sizeField(time.length + blockHead.length + picture.length),
    time,
    blockHead,
    picture,
  );
}

function element(id: readonly number[], body: Uint8Array): Uint8Array {
  return concat(Uint8Array.from(id), sizeField(body.length), body);
}

/** A size in the five-byte form, which holds up to 32 GB and needs no case distinction. */
function sizeField(size: number): Uint8Array {
  const field = unsigned(size, 5);
  field[0] = (field[0] ?? 0) | 0x08;
  return field;
}

function unsigned(value: number, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  for (let i = lengthBytes - 1, rest = value; i >= 0; i--, rest = Math.floor(rest / 256)) {
    bytes[i] = rest % 256;
  }
  return bytes;
}

function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let position = 0;
  for (const part of parts) {
    whole.set(part, position);
    position += part.length;
  }
  return whole;
}
