/**
 * The real {@linkcode Clock}, the pacing made from it, and waiting that can be called off.
 *
 * @module
 */
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
