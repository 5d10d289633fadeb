/**
 * RTP packets over UDP into the order of their sequence numbers (RFC 3550): a packet that overtook
 * others waits for them, one that is missing is waited for as long as the window lasts, and meanwhile
 * asked for again (RFC 4585 §6.2.1); then what came goes on without it. Doubles and what comes too late
 * are left out.
 *
 * @module
 */

/** What a buffer has been through. */
export interface ReorderCounters {
  /** Handed on. */
  packets: number;
  /** Given up. */
  lost: number;
  /** Came in another order than they were sent in. */
  reordered: number;
  /** Late or double. */
  ignored: number;
}

/** How a buffer waits. */
export interface ReorderOptions<Packet> {
  /** How long a missing packet is waited for, ms. */
  readonly windowMs: number;
  /** Takes each packet, in order. */
  onPacket(packet: Packet): void;
}

/** A packet that is missing is asked for again after so long, to give one that was overtaken time, ms. */
const FIRST_NACK_MS = 15;
/** And again, for as long as the window lasts, ms. */
const NACK_AGAIN_MS = 60;
/** More packets than a window can hold: the sender began anew, or we have slept. */
const MAX_WAITING = 1024;
/** A number so far from the expected one is a new beginning. */
const MAX_JUMP = 3000;
const MAX_OLD_IN_A_ROW = 20;

interface Missing {
  readonly sinceMs: number;
  askAgainMs: number;
}

/** One stream's packets. */
export class ReorderBuffer<Packet> {
  readonly counters: ReorderCounters = { packets: 0, lost: 0, reordered: 0, ignored: 0 };
  readonly #windowMs: number;
  readonly #onPacket: (packet: Packet) => void;
  /** By endless sequence number. */
  readonly #waiting = new Map<number, Packet>();
  readonly #missing = new Map<number, Missing>();
  #ssrc = -1;
  #expected = -1;
  #highest = -1;
  #oldInARow = 0;

  constructor({ windowMs, onPacket }: ReorderOptions<Packet>) {
    this.#windowMs = windowMs;
    this.#onPacket = onPacket;
  }

  /** Whether a packet is being waited for: {@linkcode tick} is to be called soon then. */
  get isWaiting(): boolean {
    return this.#missing.size > 0;
  }

  /** Takes a packet with the number and sender of its header. */
  push(
    packet: Packet,
    of: { readonly sequence: number; readonly ssrc: number; readonly nowMs: number },
  ): void {
    const { sequence, ssrc, nowMs } = of;
    if (this.#expected < 0 || ssrc !== this.#ssrc) {
      this.#restart(sequence, ssrc);
    }
    let number = this.#expected + (((sequence - this.#expected) << 16) >> 16);
    if (number < this.#expected || this.#waiting.has(number)) {
      if (++this.#oldInARow < MAX_OLD_IN_A_ROW || this.#waiting.has(number)) {
        this.counters.ignored++;
        return;
      }
      this.#restart(sequence, ssrc); // twenty old ones in a row: it counts anew
      number = this.#expected;
    } else if (number - this.#expected > MAX_JUMP) {
      this.#restart(sequence, ssrc);
      number = this.#expected;
    }
    this.#oldInARow = 0;
    if (number < this.#highest) this.counters.reordered++;
    for (let gap = Math.max(this.#highest + 1, this.#expected); gap < number; gap++) {
      this.#missing.set(gap, { sinceMs: nowMs, askAgainMs: nowMs + FIRST_NACK_MS });
    }
    this.#highest = Math.max(this.#highest, number);
    this.#missing.delete(number);
    if (number === this.#expected) {
      this.#hand(packet);
      this.#drain();
    } else {
      this.#waiting.set(number, packet);
      if (this.#waiting.size > MAX_WAITING) this.#giveUp(number);
    }
    if (this.#missing.size > 0) this.#expire(nowMs);
  }

  /** Gives up what is waited for too long, and names what is to be asked for again now. */
  tick(nowMs: number): number[] {
    this.#expire(nowMs);
    const again: number[] = [];
    for (const [number, missing] of this.#missing) {
      if (missing.askAgainMs > nowMs) continue;
      missing.askAgainMs = nowMs + NACK_AGAIN_MS;
      again.push(number & 0xffff);
    }
    return again;
  }

  #expire(nowMs: number): void {
    let upTo = -1;
    for (const [number, { sinceMs }] of this.#missing) {
      if (nowMs - sinceMs < this.#windowMs) break; // they are in the order of their coming
      upTo = number;
    }
    if (upTo >= 0) this.#giveUp(upTo);
  }

  /** Goes on behind this number. */
  #giveUp(upTo: number): void {
    for (; this.#expected <= upTo; this.#expected++) {
      const packet = this.#waiting.get(this.#expected);
      if (packet === undefined) {
        this.#missing.delete(this.#expected);
        this.counters.lost++;
        continue;
      }
      this.#waiting.delete(this.#expected);
      this.counters.packets++;
      this.#onPacket(packet);
    }
    this.#drain();
  }

  #drain(): void {
    while (this.#waiting.size > 0) {
      const packet = this.#waiting.get(this.#expected);
      if (packet === undefined) return;
      this.#waiting.delete(this.#expected);
      this.#hand(packet);
    }
  }

  #hand(packet: Packet): void {
    this.#expected++;
    this.counters.packets++;
    this.#onPacket(packet);
  }

  #restart(sequence: number, ssrc: number): void {
    for (const number of [...this.#waiting.keys()].sort((a, b) => a - b)) {
      const packet = this.#waiting.get(number);
      if (packet === undefined) continue;
      this.counters.packets++;
      this.#onPacket(packet);
    }
    this.#waiting.clear();
    this.counters.lost += this.#missing.size;
    this.#missing.clear();
    this.#ssrc = ssrc;
    // Far from zero, so that older numbers stay positive.
    this.#expected = sequence + 0x1_0000;
    this.#highest = this.#expected - 1;
    this.#oldInARow = 0;
  }
}
