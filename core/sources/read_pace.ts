/**
 * When sockets are read. A camera sends hundreds of small packets a second; to be woken for each of
 * them is what recording costs most. So all live sessions of a process wait for the same moment, ten
 * times a second, and then read at one go what the kernel has gathered meanwhile: one timer for all
 * cameras, and one burst of work after which the processor may sleep.
 *
 * @module
 */
import type { Clock } from "../types.ts";

/** The common moments. */
export interface ReadPace {
  /** Resolves at the next moment; rejects with the signal's reason when aborted. */
  next(signal: AbortSignal): Promise<void>;
}

/** Time between two reads of a socket, ms. */
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

interface Waiter {
  resolve(): void;
}

function createReadPace(clock: Clock): ReadPace {
  let waiting = new Set<Waiter>();
  let timer: AbortController | undefined;

  const tick = async (stop: AbortController) => {
    try {
      await clock.sleep(GATHER_MS, { signal: stop.signal });
    } catch {
      return; // nobody waits any more
    }
    timer = undefined;
    const due = waiting;
    waiting = new Set();
    for (const waiter of due) waiter.resolve();
  };

  return {
    next(signal) {
      if (signal.aborted) return Promise.reject(signal.reason);
      return new Promise<void>((resolve, reject) => {
        const abort = () => {
          waiting.delete(waiter);
          if (waiting.size === 0) {
            timer?.abort();
            timer = undefined;
          }
          reject(signal.reason);
        };
        const waiter: Waiter = {
          resolve() {
            signal.removeEventListener("abort", abort);
            resolve();
          },
        };
        signal.addEventListener("abort", abort, { once: true });
        waiting.add(waiter);
        if (timer === undefined) {
          timer = new AbortController();
          tick(timer);
        }
      });
    },
  };
}
