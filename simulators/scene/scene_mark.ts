/**
 * The mark that every coded unit of a live scene carries beside its picture or sound, so that a
 * recording can be checked without decoding it: which camera's which unit this is, and when it was
 * taken. A recorder that passes coded media through passes the mark through.
 *
 * The mark is `"CSm1"` · u32 counter · u48 ms since the Unix epoch · the camera's name in UTF-8 (not
 * in sound), all big-endian. It travels
 *
 * - in H.264 and H.265 in an SEI message `user_data_unregistered` (payload type 5) under a UUID of
 *   our own (H.264 §D.1.7, H.265 §D.2.7), in front of the picture's first slice;
 * - in AAC in a data stream element in front of the frame's other elements (ISO/IEC 14496-3
 *   §4.4.2.7), which a decoder skips;
 * - in Opus in the padding of a code 3 packet (RFC 6716 §3.2.5), as one extension with the number
 *   127, which is for experiments.
 *
 * @module
 */

/** What a mark tells. */
export interface SceneMark {
  /** The unit's number in its camera's track, from 1. */
  readonly counter: number;
  /** Wall time of its capture, ms since the epoch. */
  readonly takenAtMs: number;
  /** The camera's name; sound has none. */
  readonly camera?: string;
}

const MAGIC = new TextEncoder().encode("CSm1");
const FIXED_BYTES = MAGIC.length + 4 + 6;
/** Names are cut here: an SEI message of up to 254 bytes has its length in one byte. */
const NAME_BYTES = 64;

/** 6d3ba5c1-5e0f-4a3c-9f57-63616d73696e */
const SEI_UUID = Uint8Array.of(
  ...[0x6d, 0x3b, 0xa5, 0xc1, 0x5e, 0x0f, 0x4a, 0x3c],
  ...[0x9f, 0x57, 0x63, 0x61, 0x6d, 0x73, 0x69, 0x6e],
);

function markBytes(mark: SceneMark): Uint8Array {
  const name = new TextEncoder().encode(mark.camera ?? "").subarray(0, NAME_BYTES);
  const bytes = new Uint8Array(FIXED_BYTES + name.length);
  bytes.set(MAGIC);
  const view = new DataView(bytes.buffer);
  view.setUint32(4, mark.counter);
  view.setUint16(8, Math.floor(mark.takenAtMs / 2 ** 32));
  view.setUint32(10, mark.takenAtMs % 2 ** 32);
  bytes.set(name, FIXED_BYTES);
  return bytes;
}

/** The mark that begins at `at`; `undefined` where there is none. */
function parseMark(bytes: Uint8Array, at: number, end: number): SceneMark | undefined {
  if (end - at < FIXED_BYTES || end > bytes.length) return undefined;
  if (MAGIC.some((byte, index) => bytes[at + index] !== byte)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, FIXED_BYTES);
  const camera = new TextDecoder().decode(bytes.subarray(at + FIXED_BYTES, end));
  return {
    counter: view.getUint32(4),
    takenAtMs: view.getUint16(8) * 2 ** 32 + view.getUint32(10),
    ...(camera === "" ? {} : { camera }),
  };
}

/** The SEI NAL unit that carries a mark, without start code. */
export function markNal(mark: SceneMark, codec: "h264" | "h265"): Uint8Array {
  const payload = markBytes(mark);
  const header = codec === "h264" ? [0x06] : [0x4e, 0x01];
  const size = SEI_UUID.length + payload.length;
  return escapeNal(
    Uint8Array.of(...header, 5, size, ...SEI_UUID, ...payload, 0x80),
    header.length,
  );
}

/** The mark of an SEI NAL unit; `undefined` for any other NAL unit. */
export function readMarkNal(nal: Uint8Array, codec: "h264" | "h265"): SceneMark | undefined {
  const headerBytes = codec === "h264" ? 1 : 2;
  const type = codec === "h264" ? (nal[0] ?? 0) & 0x1f : (nal[0] ?? 0) >> 1 & 0x3f;
  if (type !== (codec === "h264" ? 6 : 39)) return undefined;
  const bytes = unescapeNal(nal);
  const start = headerBytes + 2 + SEI_UUID.length;
  if (bytes[headerBytes] !== 5) return undefined;
  if (SEI_UUID.some((byte, index) => bytes[headerBytes + 2 + index] !== byte)) return undefined;
  return parseMark(bytes, start, headerBytes + 2 + (bytes[headerBytes + 1] ?? 0));
}

/** Puts a mark into a raw AAC frame (without ADTS header). */
export function markAac(frame: Uint8Array, mark: SceneMark): Uint8Array {
  const payload = markBytes({ counter: mark.counter, takenAtMs: mark.takenAtMs });
  const marked = new Uint8Array(2 + payload.length + frame.length);
  // Element 4, instance 0, aligned: the rest of the frame keeps its place in its bytes.
  marked[0] = 0x81;
  marked[1] = payload.length;
  marked.set(payload, 2);
  marked.set(frame, 2 + payload.length);
  return marked;
}

/** The mark of a raw AAC frame. */
export function readMarkAac(frame: Uint8Array): SceneMark | undefined {
  return frame[0] === 0x81 ? parseMark(frame, 2, 2 + (frame[1] ?? 0)) : undefined;
}

/** Puts a mark into an Opus packet that holds one frame. @throws if it holds more */
export function markOpus(packet: Uint8Array, mark: SceneMark): Uint8Array {
  const toc = packet[0] ?? 0;
  if ((toc & 3) !== 0) throw new Error(`cannot mark an Opus packet of code ${toc & 3}: expected 0`);
  const payload = markBytes({ counter: mark.counter, takenAtMs: mark.takenAtMs });
  const marked = new Uint8Array(3 + packet.length - 1 + 1 + payload.length);
  marked.set([toc | 3, 0x41, payload.length + 1]);
  marked.set(packet.subarray(1), 3);
  marked[marked.length - payload.length - 1] = 127 << 1;
  marked.set(payload, marked.length - payload.length);
  return marked;
}

/** The mark of an Opus packet. */
export function readMarkOpus(packet: Uint8Array): SceneMark | undefined {
  if (((packet[0] ?? 0) & 3) !== 3 || packet[1] !== 0x41) return undefined;
  return parseMark(packet, packet.length - FIXED_BYTES, packet.length);
}

/** Puts in the emulation prevention bytes (H.264 §7.4.1.1). */
function escapeNal(nal: Uint8Array, headerBytes: number): Uint8Array {
  const out: number[] = [];
  let zeros = 0;
  for (const [index, byte] of nal.entries()) {
    if (index >= headerBytes && zeros >= 2 && byte <= 3) {
      out.push(3);
      zeros = 0;
    }
    out.push(byte);
    zeros = byte === 0 ? zeros + 1 : 0;
  }
  return Uint8Array.from(out);
}

function unescapeNal(nal: Uint8Array): Uint8Array {
  const out: number[] = [];
  let zeros = 0;
  for (const byte of nal) {
    if (zeros >= 2 && byte === 3) {
      zeros = 0;
      continue;
    }
    out.push(byte);
    zeros = byte === 0 ? zeros + 1 : 0;
  }
  return Uint8Array.from(out);
}
