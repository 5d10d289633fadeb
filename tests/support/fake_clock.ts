/**
 * Time that a test moves by hand. `advance` steps from one due sleeper to the next and lets the
 * program run between the steps, so that a day passes in an instant and in the right order.
 *
 * @module
 */
import type { Clock } from "../../core/types.ts";

/** A {@linkcode Clock} under a test's control. */
export interface FakeClock extends Clock {
  /** Lets `ms` pass. */
  advance(ms: number): Promise<void>;
  /** Moves wall time alone, as a user or NTP does. */
  jump(ms: number): void;
  /** How many sleeps are waiting. */
  readonly sleepers: number;
}

interface Sleeper {
  readonly dueMs: number;
  readonly wake: () => void;
}

/** Makes a clock that stands at `wallMs`. */
export function createFakeClock(wallMs: number = Date.UTC(2026, 7, 21, 14, 5, 0)): FakeClock {
  let elapsedMs = 0;
  let wallOffsetMs = wallMs;
  const sleepers = new Set<Sleeper>();

  /** Lets everything that is ready to run, run. */
  const settle = async () => {
    for (let round = 0; round < 20; round++) await new Promise((resolve) => setImmediate(resolve));
  };

  return {
    now: () => wallOffsetMs + elapsedMs,
    monotonic: () => elapsedMs,
    sleep: (ms, { signal } = {}) => {
      if (signal?.aborted) return Promise.reject(signal.reason);
      return new Promise((resolve, reject) => {
        const abort = () => {
          sleepers.delete(sleeper);
          reject(signal?.reason);
        };
        const sleeper: Sleeper = {
          dueMs: elapsedMs + Math.max(0, ms),
          wake: () => {
            sleepers.delete(sleeper);
            signal?.removeEventListener("abort", abort);
            resolve();
          },
        };
        sleepers.add(sleeper);
        signal?.addEventListener("abort", abort, { once: true });
      });
    },
    async advance(ms) {
      const endMs = elapsedMs + ms;
      await settle();
      while (true) {
        const due = [...sleepers].filter((sleeper) => sleeper.dueMs <= endMs)
          .sort((a, b) => a.dueMs - b.dueMs)[0];
        if (!due) break;
        elapsedMs = Math.max(elapsedMs, due.dueMs);
        due.wake();
        await settle();
      }
      elapsedMs = endMs;
      await settle();
    },
    jump(ms) {
      wallOffsetMs += ms;
    },
    get sleepers() {
      return sleepers.size;
    },
  };
}
