/**
 * The real {@linkcode Clock}, the pacing made from it, and waiting that can be called off.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { Clock } from "./types.ts";

/** The machine's own clocks. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, { signal } = {}) => {
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", abort);
        resolve();
      }, Math.max(0, ms)); // what is due already must not warn of a negative time
      const abort = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", abort, { once: true });
    });
  },
};

/**
 * Delays between tries: 1 s, doubling, at most `mostMs`, each taken at random from the upper half of its
 * range so that many clients spread out. `random` gives numbers in [0, 1).
 */
export function backoffMs(attempt: number, random: () => number, mostMs = 60_000): number {
  const ceiling = Math.min(mostMs, 1000 * 2 ** Math.min(attempt - 1, 16));
  return Math.round(ceiling * (0.5 + random() / 2));
}

const JUMP_MS = 3_600_000;
const CAUTION_MS = 86_400_000;

/**
 * Notices when the wall clock jumps by more than an hour against the monotonic one, and is cautious for
 * a day: a clock that shows next year for a moment must not age anything.
 */
export class JumpWatch {
  readonly #clock: Clock;
  #offsetMs: number;
  #cautiousUntilMs = -Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#offsetMs = clock.now() - clock.monotonic();
  }

  /** To be called again and again. Gives how far the clock has jumped since then, ms; 0 for not. */
  look(): number {
    const offsetMs = this.#clock.now() - this.#clock.monotonic();
    const jumpedMs = Math.abs(offsetMs - this.#offsetMs);
    this.#offsetMs = offsetMs; // and so small steps do not add up
    if (jumpedMs <= JUMP_MS) return 0;
    this.#cautiousUntilMs = this.#clock.monotonic() + CAUTION_MS;
    return jumpedMs;
  }

  /** Whether no jump was seen for a day. */
  get isSteady(): boolean {
    return this.#clock.monotonic() >= this.#cautiousUntilMs;
  }
}

/**
 * What `work` gives, or the signal's reason as soon as it is aborted; the work goes on for others who
 * wait for it. Leaves nothing behind on the signal, which may live for months.
 */
export function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** Resolves when what is ready to run now has run. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
