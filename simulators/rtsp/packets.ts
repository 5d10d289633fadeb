/**
 * The coded scene as RTP packets: H.264 (RFC 6184: single NAL units, STAP-A, FU-A), H.265 (RFC 7798),
 * AAC (RFC 3640, AAC-hbr), Opus (RFC 7587) and G.711 (RFC 3551), and sender reports (RFC 3550 §6.4.1).
 *
 * Sequence numbers and timestamps begin shortly before they wrap, so that every viewer lives through
 * it within seconds.
 *
 * @module
 */
import type { SceneAudioUnit, SceneVideoUnit } from "../scene/coded_scene.ts";

/** One stream's packets. */
export interface Packetizer {
  readonly payloadType: number;
  readonly rateHz: number;
  readonly ssrc: number;
  /** The RTP timestamp of a moment of media time. */
  timestamp(ptsUs: number): number;
  /** Packets of a picture; parameter sets go in front where they are given. */
  video(unit: SceneVideoUnit, parameterSets: readonly Uint8Array[]): Uint8Array[];
  /** The packet of a frame of sound. */
  audio(unit: SceneAudioUnit): Uint8Array[];
  /** Sequence number of the next packet. */
  readonly nextSequence: number;
  /** Moves all later timestamps. */
  jump(seconds: number): void;
  /** What the sender's clock shows at a moment of media time. */
  report(ptsUs: number, wallMs: number): Uint8Array;
}

/** Room for a payload in a packet of Ethernet's size. */
const PAYLOAD_BYTES = 1400;
const NTP_EPOCH_S = 2_208_988_800;

/** Makes a stream. */
export function createPacketizer(
  { payloadType, rateHz, ssrc, codec }: {
    readonly payloadType: number;
    readonly rateHz: number;
    readonly ssrc: number;
    readonly codec: "h264" | "h265" | "aac" | "opus" | "pcma" | "pcmu";
  },
): Packetizer {
  let sequence = 65_500;
  // Two seconds before the wrap.
  let base = 2 ** 32 - 2 * rateHz;
  let packets = 0;
  let octets = 0;

  const timestamp = (ptsUs: number) => (base + Math.round(ptsUs * rateHz / 1e6)) % 2 ** 32;

  const packet = (time: number, marker: boolean, ...parts: readonly Uint8Array[]): Uint8Array => {
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    const bytes = new Uint8Array(12 + length);
    const view = new DataView(bytes.buffer);
    bytes[0] = 0x80;
    bytes[1] = (marker ? 0x80 : 0) | payloadType;
    view.setUint16(2, sequence);
    view.setUint32(4, time);
    view.setUint32(8, ssrc);
    sequence = (sequence + 1) % 65_536;
    packets++;
    octets += length;
    let at = 12;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  };

  /** A NAL unit whole, or in pieces behind a header of their own. */
  const nalPackets = (nal: Uint8Array, time: number, isLast: boolean): Uint8Array[] => {
    if (nal.length <= PAYLOAD_BYTES) return [packet(time, isLast, nal)];
    const headerBytes = codec === "h264" ? 1 : 2;
    const first = nal[0] ?? 0;
    const out: Uint8Array[] = [];
    for (let at = headerBytes; at < nal.length; at += PAYLOAD_BYTES - 3) {
      const piece = nal.subarray(at, at + PAYLOAD_BYTES - 3);
      const isEnd = at + piece.length === nal.length;
      const flags = (at === headerBytes ? 0x80 : 0) | (isEnd ? 0x40 : 0);
      const header = codec === "h264"
        ? Uint8Array.of((first & 0xe0) | 28, flags | (first & 31))
        : Uint8Array.of((first & 0x81) | (49 << 1), nal[1] ?? 0, flags | ((first >> 1) & 63));
      out.push(packet(time, isLast && isEnd, header, piece));
    }
    return out;
  };

  /** Small NAL units in one packet. */
  const aggregate = (nals: readonly Uint8Array[], time: number): Uint8Array => {
    const header = codec === "h264" ? Uint8Array.of(0x78) : Uint8Array.of(48 << 1, 1);
    return packet(
      time,
      false,
      header,
      ...nals.flatMap((nal) => [Uint8Array.of(nal.length >> 8, nal.length & 255), nal]),
    );
  };

  return {
    payloadType,
    rateHz,
    ssrc,
    timestamp,
    get nextSequence() {
      return sequence;
    },
    jump(seconds) {
      base += Math.round(seconds * rateHz) + 2 ** 32;
    },
    video({ nals, ptsUs }, parameterSets) {
      const time = timestamp(ptsUs);
      return [
        ...(parameterSets.length > 0 ? [aggregate(parameterSets, time)] : []),
        ...nals.flatMap((nal, index) => nalPackets(nal, time, index === nals.length - 1)),
      ];
    },
    audio({ data, ptsUs }) {
      const time = timestamp(ptsUs);
      if (codec !== "aac") return [packet(time, true, data)];
      const header = Uint8Array.of(0, 16, data.length >> 5, (data.length & 31) << 3);
      return [packet(time, true, header, data)];
    },
    report(ptsUs, wallMs) {
      const bytes = new Uint8Array(28);
      const view = new DataView(bytes.buffer);
      view.setUint32(0, 0x80c8_0006);
      view.setUint32(4, ssrc);
      view.setUint32(8, (Math.floor(wallMs / 1000) + NTP_EPOCH_S) % 2 ** 32);
      view.setUint32(12, Math.floor(wallMs % 1000 / 1000 * 2 ** 32));
      view.setUint32(16, timestamp(ptsUs));
      view.setUint32(20, packets);
      view.setUint32(24, octets % 2 ** 32);
      return bytes;
    },
  };
}

/** The packet with which a stream says good-bye (RFC 3550 §6.6). */
export function byePacket(ssrc: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(0, 0x81cb_0001);
  new DataView(bytes.buffer).setUint32(4, ssrc);
  return bytes;
}
