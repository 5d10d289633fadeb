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

/** Noon-ish on a summer's day. */
const WALL_MS = Date.UTC(2026, 7, 21, 14, 5, 0);

/**
 * Makes a clock that stands at `wallMs`. With `breathMs` each step takes so long in real time: for
 * tests with real sockets, whose bytes would otherwise be overtaken by the time-outs that wait for
 * them where the machine is busy.
 */
export function createFakeClock(
  wallMs: number = WALL_MS,
  { breathMs = 0 }: { readonly breathMs?: number } = {},
): FakeClock {
  let elapsedMs = 0;
  let wallOffsetMs = wallMs;
  const sleepers = new Set<Sleeper>();

  /** Lets everything that is ready to run, run. */
  const settle = async () => {
    for (let round = 0; round < 20; round++) await new Promise((resolve) => setImmediate(resolve));
    if (breathMs > 0) await new Promise((resolve) => setTimeout(resolve, breathMs));
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

/**
 * Two clocks that go together: what a test waits for and counts is `clock` alone. Cameras and clouds
 * have the other one: their timers are their own business, and not what the program leaves behind.
 */
export function createClockPair(): { readonly clock: FakeClock; readonly serverClock: FakeClock } {
  const own = createFakeClock();
  const serverClock = createFakeClock();
  const clock: FakeClock = {
    ...own,
    get sleepers() {
      return own.sleepers;
    },
    async advance(ms) {
      await serverClock.advance(ms);
      await own.advance(ms);
    },
  };
  return { clock, serverClock };
}
