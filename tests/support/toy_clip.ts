/**
 * The simplest clip format that can be torn: fragments of known length with a check sum, and an end
 * mark. The spool's tests use it where the real MP4 would only be in the way.
 *
 * ```
 * header     "TOY0", becomes "TOY1" when the clip is finished (so that there is something to patch)
 * fragment   "F", length (1 byte), that many bytes, a check sum (4 bytes)
 * tail       "END"
 * ```
 *
 * @module
 */
import type { RecoverTornClip, Repair } from "../../core/spool/mod.ts";

const text = (value: string) => new TextEncoder().encode(value);

/** The first fragment's beginning. */
export const TOY_HEADER: Uint8Array = text("TOY0");
/** Ends a clip. */
export const TOY_TAIL: Uint8Array = text("END");
/** Marks a clip as finished. */
export const TOY_PATCH: { readonly offset: number; readonly bytes: Uint8Array } = {
  offset: 3,
  bytes: text("1"),
};

/** Bytes of a fragment beside its payload. */
export const TOY_OVERHEAD_BYTES = 6;

/** FNV-1a, 32 bits, little-endian: what a disk made up does not pass for a fragment. */
function checkSum(payload: Uint8Array): Uint8Array {
  let sum = 0x811c9dc5;
  for (const byte of [payload.length, ...payload]) sum = Math.imul(sum ^ byte, 0x01000193);
  return new Uint8Array(Int32Array.of(sum).buffer);
}

/** One fragment, in several chunks as a real one would be. It lasts 1000 ms and is one frame. */
export function toyFragment(payload: Uint8Array): Uint8Array[] {
  return [text("F"), Uint8Array.of(payload.length), payload, checkSum(payload)];
}

/** What a finished clip of these payloads must be, byte by byte. */
export function toyClip(payloads: readonly Uint8Array[]): Uint8Array {
  const parts = [text("TOY1"), ...payloads.flatMap(toyFragment), TOY_TAIL];
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** The payloads of the whole fragments, and where they end. */
export function readToyClip(
  bytes: Uint8Array,
): { payloads: Uint8Array[]; endByte: number; isFinished: boolean } {
  const payloads: Uint8Array[] = [];
  const mark = new TextDecoder().decode(bytes.subarray(0, 4));
  let at = 4;
  if (mark !== "TOY0" && mark !== "TOY1") return { payloads, endByte: 0, isFinished: false };
  while (bytes[at] === 0x46 /* F */) {
    const length = bytes[at + 1] ?? 0;
    const payload = bytes.subarray(at + 2, at + 2 + length);
    const sum = bytes.subarray(at + 2 + length, at + length + TOY_OVERHEAD_BYTES);
    if (sum.length < 4 || checkSum(payload).some((byte, index) => byte !== sum[index])) break;
    payloads.push(payload);
    at += length + TOY_OVERHEAD_BYTES;
  }
  const hasTail = new TextDecoder().decode(bytes.subarray(at)) === "END";
  // As in an MP4, what the patch points at must be there, or nothing can be made of the clip.
  if (mark === "TOY1" && !hasTail) return { payloads: [], endByte: 0, isFinished: false };
  return { payloads, endByte: at, isFinished: hasTail && mark === "TOY1" };
}

/** Repairs a torn toy clip. */
export const recoverToyClip: RecoverTornClip = async (file): Promise<Repair> => {
  const { payloads, endByte, isFinished } = readToyClip(await file.read(0, file.size));
  const known = { durationMs: payloads.length * 1000, frames: payloads.length };
  if (payloads.length === 0) return { state: "empty" };
  if (isFinished) return { state: "finished", ...known };
  return { state: "torn", keepBytes: endByte, tail: [TOY_TAIL], patch: TOY_PATCH, ...known };
};
