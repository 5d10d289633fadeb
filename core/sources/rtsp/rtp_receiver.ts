/**
 * One stream's RTP packets (RFC 3550 §5.1): sequence numbers and timestamps that wrap are made
 * endless, missing packets are told, late and double ones left out.
 *
 *     V=2 P X CC · M PT · sequence (2) · timestamp (4) · SSRC (4) · CSRC (4 each) · [extension] · payload
 *
 * A packet is a range of a buffer; nothing is made of it. The 90 kHz clock of video wraps every
 * 13.25 hours.
 *
 * @module
 */

/** Who gets the payloads. */
export interface RtpHandler {
  /** `time` is the timestamp made endless; payload is `data` from `from` to `to`. */
  onPayload(packet: {
    readonly data: Uint8Array;
    readonly from: number;
    readonly to: number;
    readonly marker: boolean;
    readonly time: number;
  }): void;
  /** Packets are missing in front of the next one. */
  onLost(packets: number): void;
}

/** What a stream has been through. */
export interface RtpCounters {
  packets: number;
  lost: number;
  /** Late, double, or not RTP. */
  ignored: number;
}

const HEADER_BYTES = 12;
/** So many old packets in a row are a stream that began anew. */
const MAX_OLD_IN_A_ROW = 20;

/** Reads one stream. */
export class RtpReceiver {
  readonly #payloadType: number;
  readonly #handler: RtpHandler;
  readonly counters: RtpCounters = { packets: 0, lost: 0, ignored: 0 };
  #expected = -1;
  #oldInARow = 0;
  #ssrc = -1;
  #lastTimestamp = 0;
  #time = 0;
  /** The one object that is handed to the handler again and again. */
  readonly #packet = {
    data: new Uint8Array() as Uint8Array,
    from: 0,
    to: 0,
    marker: false,
    time: 0,
  };

  constructor(payloadType: number, handler: RtpHandler) {
    this.#payloadType = payloadType;
    this.#handler = handler;
  }

  /** The endless form of a timestamp near the newest one, such as a sender report's. */
  timeOf(timestamp: number): number {
    return this.#time + ((timestamp - this.#lastTimestamp) | 0);
  }

  /** Whether a packet has come. */
  get hasBegun(): boolean {
    return this.#expected >= 0;
  }

  /** Takes a packet. What is none, or not of this stream, is counted and left out. */
  packet(data: Uint8Array, from: number, to: number): void {
    const first = data[from] ?? 0;
    const second = data[from + 1] ?? 0;
    if (
      to - from < HEADER_BYTES || first >> 6 !== 2 || (second & 0x7f) !== this.#payloadType
    ) {
      this.counters.ignored++;
      return;
    }
    const sequence = u16(data, from + 2);
    const timestamp = u32(data, from + 4);
    const ssrc = u32(data, from + 8);
    const payload = payloadRange(data, from, to);
    if (payload === undefined) {
      this.counters.ignored++;
      return;
    }
    if (!this.#isNext(sequence, ssrc)) return;
    if (this.#expected < 0) this.#time = timestamp;
    else this.#time += (timestamp - this.#lastTimestamp) | 0;
    this.#lastTimestamp = timestamp;
    this.#ssrc = ssrc;
    this.#expected = (sequence + 1) & 0xffff;
    this.counters.packets++;
    const packet = this.#packet;
    packet.data = data;
    packet.from = payload.from;
    packet.to = payload.to;
    packet.marker = second >= 0x80;
    packet.time = this.#time;
    this.#handler.onPayload(packet);
  }

  /** Tells what is missing; `false` for a packet that comes too late. */
  #isNext(sequence: number, ssrc: number): boolean {
    if (this.#expected < 0) return true;
    const gap = (sequence - this.#expected) & 0xffff;
    if (ssrc !== this.#ssrc) {
      this.#handler.onLost(1); // another sender: nothing of the old one goes on
    } else if (gap > 0 && gap < 0x8000) {
      this.counters.lost += gap;
      this.#handler.onLost(gap);
    } else if (gap !== 0) {
      if (++this.#oldInARow < MAX_OLD_IN_A_ROW) {
        this.counters.ignored++;
        return false;
      }
      this.#handler.onLost(1);
    }
    this.#oldInARow = 0;
    return true;
  }
}

const range = { from: 0, to: 0 };

/** Where the payload lies, without extension and padding; one object for all. */
function payloadRange(
  data: Uint8Array,
  from: number,
  to: number,
): { readonly from: number; readonly to: number } | undefined {
  const first = data[from] ?? 0;
  let start = from + HEADER_BYTES + (first & 15) * 4;
  if ((first & 0x10) !== 0) start += 4 + 4 * u16(data, start + 2);
  const end = (first & 0x20) === 0 ? to : to - (data[to - 1] ?? 0);
  if (start > end) return undefined;
  range.from = start;
  range.to = end;
  return range;
}

/** Two bytes, big-endian. */
export function u16(data: Uint8Array, at: number): number {
  return ((data[at] ?? 0) << 8) | (data[at + 1] ?? 0);
}

/** Four bytes, big-endian. */
export function u32(data: Uint8Array, at: number): number {
  return ((u16(data, at) << 16) | u16(data, at + 2)) >>> 0;
}

/** A sender report (RFC 3550 §6.4.1): what the sender's clock showed at an RTP timestamp. */
export interface SenderReport {
  readonly ssrc: number;
  /** The sender's wall clock, µs since 1900. Often wrong, but the same for all of its streams. */
  readonly ntpUs: number;
  readonly timestamp: number;
}

/** What a compound RTCP packet tells. */
export interface RtcpNews {
  readonly report: SenderReport | undefined;
  /** The sender has said good-bye. */
  readonly bye: boolean;
}

/** Reads a compound RTCP packet (RFC 3550 §6.1); what is not understood is left out. */
export function parseRtcp(data: Uint8Array, from: number, to: number): RtcpNews {
  let report: SenderReport | undefined;
  let bye = false;
  for (let at = from; at + 4 <= to;) {
    if ((data[at] ?? 0) >> 6 !== 2) break;
    const type = data[at + 1] ?? 0;
    const next = at + 4 + 4 * u16(data, at + 2);
    if (next > to) break;
    if (type === 200 && next - at >= 28) {
      report = {
        ssrc: u32(data, at + 4),
        ntpUs: u32(data, at + 8) * 1e6 + Math.round(u32(data, at + 12) / 2 ** 32 * 1e6),
        timestamp: u32(data, at + 16),
      };
    }
    if (type === 203) bye = true;
    at = next;
  }
  return { report, bye };
}
