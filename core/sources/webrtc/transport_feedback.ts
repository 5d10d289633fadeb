/**
 * Transport-wide congestion control feedback: which packets of the whole transport arrived, and when,
 * from which the sender learns how much it may send
 * (https://datatracker.ietf.org/doc/html/draft-holmer-rmcat-transport-wide-cc-extensions-01):
 *
 *     header (4) · sender SSRC (4) · media SSRC (4) · base sequence (2) · packets told of (2) ·
 *     reference time (3, of 64 ms) · count of feedbacks (1) · chunks (2 each) · deltas (1 or 2 each)
 *
 * A chunk is a run of packets of one status, or the statuses of seven packets, two bits each: 0 did not
 * arrive, 1 and 2 did, with a delta of one or two bytes, in 250 µs since the packet before.
 *
 * werift has feedback of its own, which is not used: its length is no multiple of four bytes, so that
 * no receiver can read it, and what was lost counts as arrived.
 *
 * @module
 */

/** What arrived within this time is told of together; less often, and the sender adapts too late. */
const EVERY_MS = 100;
const MAX_PENDING = 400;
/** Packets that one feedback can tell of; after a longer gap it begins anew. */
const MAX_SPAN = 1000;
const TICKS_PER_MS = 4;
const TICKS_PER_REFERENCE = 64 * TICKS_PER_MS;
const MAX_RUN = 0x1fff;
const VECTOR = 7;

/** Gathers arrivals, and gives a feedback whenever one is due. It has no timer: arrivals drive it. */
export class TransportFeedback {
  readonly #send: (packet: Uint8Array<ArrayBuffer>) => void;
  readonly #ssrcs: () => { readonly sender: number; readonly media: number };
  /** Endless sequence number → tick of its arrival. */
  #pending = new Map<number, number>();
  #sinceMs = 0;
  #last = -1;
  /** The first number that was not told of yet. */
  #base = -1;
  #count = 0;

  constructor(
    { ssrcs, send }: {
      /** Who tells whom. */
      readonly ssrcs: () => { readonly sender: number; readonly media: number };
      /** Takes an RTCP packet. */
      readonly send: (packet: Uint8Array<ArrayBuffer>) => void;
    },
  ) {
    this.#ssrcs = ssrcs;
    this.#send = send;
  }

  /** A packet has come; `sequence` is its number of the transport, 16 bits. */
  arrived(sequence: number, nowMs: number): void {
    if (
      this.#pending.size >= MAX_PENDING ||
      (this.#pending.size > 0 && nowMs - this.#sinceMs >= EVERY_MS)
    ) this.#flush();
    const number = this.#last < 0
      ? sequence + 0x1_0000 // far from zero, so that older numbers stay positive
      : this.#last + (((sequence - this.#last) << 16) >> 16);
    if (this.#base < 0) this.#base = number;
    if (number < this.#base) return; // it was told of as lost
    if (this.#pending.size === 0) this.#sinceMs = nowMs;
    if (!this.#pending.has(number)) {
      this.#pending.set(number, Math.floor(nowMs * TICKS_PER_MS));
    }
    this.#last = Math.max(this.#last, number);
  }

  #flush(): void {
    const base = Math.max(this.#base, this.#last - MAX_SPAN + 1);
    const ticks = Array.from(
      { length: this.#last - base + 1 },
      (_, index) => this.#pending.get(base + index),
    );
    this.#pending.clear();
    this.#base = this.#last + 1;
    this.#send(encode({ ...this.#ssrcs(), base, ticks, count: this.#count }));
    this.#count = (this.#count + 1) & 0xff;
  }
}

/** The packet for what arrived from `base` on; `undefined` for what did not. */
function encode({ sender, media, base, ticks, count }: {
  readonly sender: number;
  readonly media: number;
  readonly base: number;
  readonly ticks: readonly (number | undefined)[];
  readonly count: number;
}): Uint8Array<ArrayBuffer> {
  const first = ticks.find((tick) => tick !== undefined) ?? 0;
  const reference = Math.floor(first / TICKS_PER_REFERENCE);
  let before = reference * TICKS_PER_REFERENCE;
  const deltas: number[] = [];
  const statuses = ticks.map((tick) => {
    if (tick === undefined) return 0;
    const delta = tick - before;
    before = tick;
    const isSmall = delta >= 0 && delta <= 0xff;
    deltas.push(...(isSmall ? [delta] : [(delta >> 8) & 0xff, delta & 0xff]));
    return isSmall ? 1 : 2;
  });
  const chunks = chunksOf(statuses);
  const bytes = new Uint8Array(Math.ceil((20 + chunks.length * 2 + deltas.length) / 4) * 4);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 0x8fcd); // version 2, format 15, type 205
  view.setUint16(2, bytes.length / 4 - 1);
  view.setUint32(4, sender);
  view.setUint32(8, media);
  view.setUint16(12, base & 0xffff);
  view.setUint16(14, ticks.length);
  view.setUint32(16, ((reference & 0xff_ffff) << 8) | count);
  chunks.forEach((chunk, index) => view.setUint16(20 + index * 2, chunk));
  bytes.set(deltas, 20 + chunks.length * 2);
  return bytes;
}

function chunksOf(statuses: readonly number[]): number[] {
  const chunks: number[] = [];
  for (let at = 0; at < statuses.length;) {
    const status = statuses[at] ?? 0;
    let run = 1;
    while (run < MAX_RUN && statuses[at + run] === status) run++;
    if (run >= VECTOR || at + run === statuses.length) {
      chunks.push((status << 13) | run);
      at += run;
      continue;
    }
    let chunk = 0xc000;
    for (let index = 0; index < VECTOR; index++) {
      chunk |= (statuses[at + index] ?? 0) << (12 - index * 2);
    }
    chunks.push(chunk);
    at += VECTOR;
  }
  return chunks;
}
