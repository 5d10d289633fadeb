/**
 * H.264 (RFC 6184) and H.265 (RFC 7798) out of RTP payloads, straight into the assembler's buffer.
 *
 *     H.264: NAL unit · 24 STAP-A: (length16 NAL)… · 25 STAP-B · 28 FU-A: indicator, S E R type, piece · 29 FU-B
 *     H.265: NAL unit · 48 AP: (length16 NAL)… · 49 FU: header (2), S E type, piece
 *
 * Streams that need decoding order numbers (interleaved mode, `sprop-max-don-diff` > 0) are not taken.
 *
 * @module
 */
import type { RtpHandler } from "./rtp_receiver.ts";
import { u16 } from "./rtp_receiver.ts";
import type { VideoAssembler } from "./video_assembler.ts";

type Payload = Parameters<RtpHandler["onPayload"]>[0];

/** Takes H.264 payloads. */
export function takeH264Payload(packet: Payload, assembler: VideoAssembler): void {
  const { data, from, to } = packet;
  if (from >= to) return; // an empty packet keeps a connection open
  assembler.beginPacket(packet.time);
  const first = data[from] ?? 0;
  const type = first & 31;
  if (type >= 1 && type <= 23) wholeNal(assembler, data, from, to);
  else if (type === 24) aggregated(assembler, data, from + 1, to);
  else if (type === 25) aggregated(assembler, data, from + 3, to);
  else if (type === 28 || type === 29) {
    const flags = data[from + 1] ?? 0;
    const isFirst = flags >= 0x80;
    const start = from + (type === 29 && isFirst ? 4 : 2);
    if (to <= start) assembler.lost();
    else {
      if (isFirst) {
        assembler.beginNal();
        assembler.push((first & 0xe0) | (flags & 31));
      }
      piece(assembler, data, { start, to, isLast: (flags & 0x40) !== 0 });
    }
  } else {
    assembler.lost();
  }
  assembler.endPacket(packet.marker);
}

/** Takes H.265 payloads. */
export function takeH265Payload(packet: Payload, assembler: VideoAssembler): void {
  const { data, from, to } = packet;
  if (from >= to) return;
  assembler.beginPacket(packet.time);
  const first = data[from] ?? 0;
  const type = (first >> 1) & 63;
  if (type < 48) wholeNal(assembler, data, from, to);
  else if (type === 48) aggregated(assembler, data, from + 2, to);
  else if (type === 49) {
    const flags = data[from + 2] ?? 0;
    if (to <= from + 3) assembler.lost();
    else {
      if (flags >= 0x80) {
        assembler.beginNal();
        assembler.push((first & 0x81) | ((flags & 63) << 1));
        assembler.push(data[from + 1] ?? 0);
      }
      piece(assembler, data, { start: from + 3, to, isLast: (flags & 0x40) !== 0 });
    }
  } else if (type !== 50) {
    assembler.lost(); // 50 is PACI, which carries what a recorder does not need
  }
  assembler.endPacket(packet.marker);
}

function wholeNal(assembler: VideoAssembler, data: Uint8Array, from: number, to: number): void {
  assembler.beginNal();
  assembler.append(data, from, to);
  assembler.endNal();
}

function aggregated(assembler: VideoAssembler, data: Uint8Array, from: number, to: number): void {
  let at = from;
  while (at + 2 <= to) {
    const length = u16(data, at);
    at += 2;
    if (length > to - at) return assembler.lost();
    if (length > 0) wholeNal(assembler, data, at, at + length);
    at += length;
  }
}

function piece(
  assembler: VideoAssembler,
  data: Uint8Array,
  { start, to, isLast }: { readonly start: number; readonly to: number; readonly isLast: boolean },
): void {
  // A piece whose beginning is missing: the sequence numbers have told so already, or it never came.
  if (!assembler.isInNal) return assembler.lost();
  assembler.append(data, start, to);
  if (isLast) assembler.endNal();
}
