/**
 * How fast and how much a sink may be sent: a limit per UTC day for those who pay by the byte, and a
 * limit per second for those who share the line.
 *
 * @module
 */
import type { Clip, Clock } from "../types.ts";

const DAY_MS = 86_400_000;

/** Counts what was sent today (UTC) against a limit. */
export class DailyCap {
  readonly #limitBytes: number;
  readonly #clock: Clock;
  #day = 0;
  #usedBytes = 0;

  /** `usedBytes` is what this day has seen already, as far as is known. */
  constructor(limitBytes: number, clock: Clock, usedBytes = 0) {
    this.#limitBytes = limitBytes;
    this.#clock = clock;
    this.#day = this.#today();
    this.#usedBytes = usedBytes;
  }

  /**
   * Whether so many bytes more are allowed today. A clip larger than the whole limit is allowed as
   * the first of a day: otherwise it could never go.
   */
  allows(bytes: number): boolean {
    this.#turn();
    return this.#usedBytes === 0 || this.#usedBytes + bytes <= this.#limitBytes;
  }

  /** Counts bytes that are about to be sent; negative ones were not sent after all. */
  add(bytes: number): void {
    this.#turn();
    this.#usedBytes = Math.max(0, this.#usedBytes + bytes);
  }

  /** Until the next UTC day, ms. */
  get waitMs(): number {
    return DAY_MS - ((this.#clock.now() % DAY_MS) + DAY_MS) % DAY_MS;
  }

  /** Sent today, bytes. */
  get usedBytes(): number {
    this.#turn();
    return this.#usedBytes;
  }

  #turn(): void {
    const today = this.#today();
    // A clock that goes back does not give the day anew.
    if (today <= this.#day) return;
    this.#day = today;
    this.#usedBytes = 0;
  }

  #today(): number {
    return Math.floor(this.#clock.now() / DAY_MS);
  }
}

/** A rate for a part of every day; times are those of the machine's time zone. */
export interface RateSpan {
  /** Minutes since midnight. */
  readonly fromMinute: number;
  /** Minutes since midnight; not later than `fromMinute` means the next day. */
  readonly toMinute: number;
  readonly bytesPerSecond: number;
}

/** Bytes per second: always the same, or by the time of day, without a limit between the spans. */
export type Rate = number | readonly RateSpan[];

/** The rate at a moment (wall ms) as local clocks show it; the first span that fits counts. */
export function rateAt(spans: readonly RateSpan[], nowMs: number): number {
  const now = new Date(nowMs);
  const minute = now.getHours() * 60 + now.getMinutes();
  const span = spans.find(({ fromMinute, toMinute }) =>
    fromMinute < toMinute
      ? minute >= fromMinute && minute < toMinute
      : minute >= fromMinute || minute < toMinute
  );
  return span?.bytesPerSecond ?? Infinity;
}

/** Hands out bytes at a steady rate to all clips of one sink together, with bursts of one second. */
export class Bandwidth {
  readonly #bytesPerSecond: Rate;
  readonly #clock: Clock;
  /** When all that was handed out will have been earned, monotonic ms. */
  #paidAtMs = -Infinity;

  constructor(bytesPerSecond: Rate, clock: Clock) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#clock = clock;
  }

  /** Waits until so many bytes may be sent. */
  async take(bytes: number, options: { readonly signal: AbortSignal }): Promise<void> {
    const now = this.#clock.monotonic();
    const rate = this.#rateNow();
    if (rate === Infinity) {
      this.#paidAtMs = -Infinity;
      return;
    }
    this.#paidAtMs = Math.max(this.#paidAtMs, now - 1000) + bytes / rate * 1000;
    if (this.#paidAtMs > now) await this.#clock.sleep(this.#paidAtMs - now, options);
  }

  #rateNow(): number {
    const rate = this.#bytesPerSecond;
    return typeof rate === "number" ? rate : rateAt(rate, this.#clock.now());
  }

  /**
   * The same clip, read no faster than allowed. `onRead` is called as bytes are handed out: while
   * they are waited for, silence is not the sink's.
   */
  slow(clip: Clip, options: { readonly signal: AbortSignal; onRead(): void }): Clip {
    return {
      ...clip,
      path: undefined, // who read the file would not be slowed
      open: (fromByte) =>
        clip.open(fromByte).pipeThrough(
          new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
            transform: async (chunk, controller) => {
              for (let at = 0; at < chunk.length;) {
                // A second's worth at a time, so that even a very slow pace is seen to go on, and
                // another one is taken up.
                const stepBytes = Math.max(1, Math.floor(this.#rateNow()));
                const part = chunk.subarray(at, at + stepBytes);
                at += part.length;
                await this.take(part.length, options);
                options.onRead();
                controller.enqueue(part);
              }
            },
          }),
        ),
    };
  }
}
