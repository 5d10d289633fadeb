/**
 * When sockets are read. A camera sends hundreds of small packets a second; to be woken for each of
 * them is what recording costs most. So all live sessions of a process wait for the same moments, once
 * to ten times a second, and then read at one go what the kernel has gathered meanwhile: one timer for
 * all cameras, and one burst of work after which the processor may sleep.
 *
 * @module
 */
import type { Clock } from "../types.ts";
import { READ_BYTES } from "./read_buffers.ts";
import type { LowWater } from "./socket_options.ts";

/** The common moments. */
export interface ReadPace {
  /**
   * Resolves at the next moment, or at the next of those that all who wait for every `span`th share.
   * Rejects with the signal's reason when aborted. Meanwhile what comes on a socket whose mark is given
   * wakes nobody; then the first read has to wait until the runtime has heard what is there.
   */
  next(signal: AbortSignal, span?: number, lowWater?: LowWater): Promise<void>;
}

/** Time between two moments, ms. */
export const GATHER_MS = 100;

const paces = new WeakMap<Clock, ReadPace>();

/** The pace of everything that lives by this clock. */
export function readPaceOf(clock: Clock): ReadPace {
  let pace = paces.get(clock);
  if (pace === undefined) {
    pace = createReadPace(clock);
    paces.set(clock, pace);
  }
  return pace;
}

interface Wait extends PromiseWithResolvers<void> {
  readonly dueMs: number;
  readonly lowWater: LowWater | undefined;
}

function createReadPace(clock: Clock): ReadPace {
  const waits = new Map<AbortSignal, Wait>();
  // A signal is listened to once, however often is waited with it: each time would cost more than the
  // waiting.
  const known = new WeakSet<AbortSignal>();
  let timer: { readonly dueMs: number; readonly stop: AbortController } | undefined;

  const tick = () => {
    timer = undefined;
    // A timer may be early by a part of a millisecond.
    const untilMs = clock.monotonic() + 1;
    const due = [...waits].filter(([, { dueMs }]) => dueMs <= untilMs);
    for (const [signal] of due) waits.delete(signal);
    // All marks first: what is there is heard of at once, for all sockets.
    for (const [, { lowWater }] of due) lowWater?.lower();
    for (const [, wait] of due) wait.resolve();
    schedule();
  };

  /** Sleeps until the first of those who wait is due. */
  const schedule = () => {
    const dueMs = waits.values().reduce((first, wait) => Math.min(first, wait.dueMs), Infinity);
    if (dueMs >= (timer?.dueMs ?? Infinity)) return;
    timer?.stop.abort();
    const stop = new AbortController();
    timer = { dueMs, stop };
    clock.sleep(dueMs - clock.monotonic(), { signal: stop.signal }).then(tick, () => {}); // called off
  };

  const listen = (signal: AbortSignal) => {
    known.add(signal);
    signal.addEventListener("abort", () => {
      const wait = waits.get(signal);
      waits.delete(signal);
      if (waits.size === 0) {
        timer?.stop.abort();
        timer = undefined;
      }
      wait?.lowWater?.lower();
      wait?.reject(signal.reason);
    }, { once: true });
  };

  return {
    next(signal, span = 1, lowWater) {
      if (signal.aborted) return Promise.reject(signal.reason);
      if (!known.has(signal)) listen(signal);
      let wait = waits.get(signal);
      if (wait === undefined) {
        const spanMs = span * GATHER_MS;
        const dueMs = (Math.floor(clock.monotonic() / spanMs) + 1) * spanMs;
        wait = { ...Promise.withResolvers<void>(), dueMs, lowWater };
        waits.set(signal, wait);
        lowWater?.raise(READ_BYTES);
        schedule();
      }
      return wait.promise;
    },
  };
}

/** So long is read at one span before it grows, in moments: a GOP of most cameras. */
const STEADY_MOMENTS = 20;
/** A second. What was read is written at once, if it is a second or as much again would be too old. */
const MAX_SPAN = 10;

/** A picture that comes so much later than at shorter spans has waited for us, ms. */
const LATE_MS = 150;
/** Clocks differ, and delays that grow by less than this in each look are not ours, ms. */
const DRIFT_MS = 1;
/** Where less comes at once than this share of what has come before, it is the network that is slow. */
const FULL_SHARE = 0.7;
/** What came at once long ago tells less with every look. */
const FORGET = 0.99;
/** A network may have looked like a full window: more is tried again after hours. */
const REGAIN = 1.0001;

/**
 * How many moments a connection lets pass between two reads. At first one; one more whenever what comes
 * has long been read in one go and so much more of it would still be. The kernel's window grows with
 * what is read at once (at least to twice of it), so it holds that too. Where a system does not let it
 * grow, the camera has to wait for us, and the newest pictures come late: then it is read more often
 * again, and no more is left to the kernel than it has shown to hold.
 */
export class ReadSpan {
  readonly #bufferBytes: number;
  #span = 1;
  #reads = 0;
  #bytes = 0;
  /** What the kernel is believed to hold. */
  #heldBytes: number;
  /** The most that came at once lately. */
  #mostBytes = 0;
  /** The least delay of what has been read since the last look, and of what was before. */
  #delayMs = Infinity;
  #usualDelayMs = Infinity;

  constructor({ bufferBytes }: { readonly bufferBytes: number }) {
    this.#bufferBytes = this.#heldBytes = bufferBytes;
  }

  /** In moments. */
  get span(): number {
    return this.#span;
  }

  /**
   * So many bytes were read at one go, the newest picture in it `delayMs` after its time, which is
   * counted from anywhere.
   */
  note(bytes: number, delayMs = Infinity): void {
    this.#reads++;
    this.#bytes += bytes;
    this.#mostBytes = Math.max(this.#mostBytes, bytes);
    this.#delayMs = Math.min(this.#delayMs, delayMs);
    if (this.#reads * this.#span >= STEADY_MOMENTS) this.#look();
  }

  #look(): void {
    const bytes = this.#bytes / this.#reads;
    const lateMs = this.#delayMs - this.#usualDelayMs;
    const isLate = this.#delayMs < Infinity && lateMs > LATE_MS;
    const isFull = isLate && bytes >= FULL_SHARE * this.#mostBytes;
    this.#usualDelayMs = isLate
      ? Infinity // found out anew
      : Math.min(this.#usualDelayMs + DRIFT_MS, this.#delayMs);
    this.#heldBytes = Math.min(this.#bufferBytes, isFull ? bytes : this.#heldBytes * REGAIN);
    // A full window holds what was sent until the newest picture.
    const moments = isFull ? Math.max(1, this.#span - lateMs / GATHER_MS) : this.#span;
    // Key pictures come in bursts.
    const fitting = Math.floor(this.#heldBytes * 0.9 * moments / bytes);
    this.#span = Math.max(1, Math.min(this.#span + 1, MAX_SPAN, fitting));
    this.#mostBytes *= FORGET;
    this.#reads = this.#bytes = 0;
    this.#delayMs = Infinity;
  }
}
