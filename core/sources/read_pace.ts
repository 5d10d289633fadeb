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

/** Who waits again and again with one signal. */
interface Waiter {
  waits: PromiseWithResolvers<void> | undefined;
}

function createReadPace(clock: Clock): ReadPace {
  // A signal is listened to once, however often is waited with it: each time would cost more than the
  // waiting.
  const waiters = new WeakMap<AbortSignal, Waiter>();
  let waiting: Waiter[] = [];
  let timer: AbortController | undefined;

  const tick = async (stop: AbortController) => {
    try {
      await clock.sleep(GATHER_MS, { signal: stop.signal });
    } catch {
      return; // nobody waits any more
    }
    timer = undefined;
    const due = waiting;
    waiting = [];
    for (const waiter of due) {
      const { waits } = waiter;
      waiter.waits = undefined;
      waits?.resolve();
    }
  };

  const join = (signal: AbortSignal): Waiter => {
    const waiter: Waiter = { waits: undefined };
    waiters.set(signal, waiter);
    signal.addEventListener("abort", () => {
      waiting = waiting.filter((other) => other !== waiter);
      if (waiting.length === 0) {
        timer?.abort();
        timer = undefined;
      }
      waiter.waits?.reject(signal.reason);
    }, { once: true });
    return waiter;
  };

  return {
    next(signal) {
      if (signal.aborted) return Promise.reject(signal.reason);
      const waiter = waiters.get(signal) ?? join(signal);
      if (waiter.waits === undefined) {
        waiter.waits = Promise.withResolvers();
        waiting.push(waiter);
      }
      if (timer === undefined) {
        timer = new AbortController();
        tick(timer);
      }
      return waiter.waits.promise;
    },
  };
}
