/**
 * A steady rate that does not drift: the moments lie on a grid of monotonic time that is fixed once,
 * so that neither the length of an answer nor a late timer adds up. What comes too late for its
 * moment skips it and waits for the next; missed moments are counted and never made up for in a
 * burst.
 *
 * @module
 */
import type { Clock } from "../types.ts";

/** Moments at a steady rate. */
export interface Pace {
  /** Moments of the grid that passed while nobody waited for them. */
  readonly missed: number;
  /** Resolves at the grid's next moment. @throws the signal's reason when aborted */
  next(signal: AbortSignal): Promise<void>;
}

/** A grid that begins at `originMs` (monotonic, default now); the first to wait for comes after. */
export function createPace(
  { clock, intervalMs, originMs = clock.monotonic() }: {
    readonly clock: Clock;
    readonly intervalMs: number;
    readonly originMs?: number;
  },
): Pace {
  let last = 0;
  let missed = 0;
  return {
    get missed() {
      return missed;
    },
    async next(signal) {
      const elapsed = (clock.monotonic() - originMs) / intervalMs;
      // A timer may fire a hair before its moment, which must not make the same moment come twice.
      const index = Math.max(last + 1, Math.ceil(elapsed));
      missed += index - last - 1;
      last = index;
      await clock.sleep(originMs + index * intervalMs - clock.monotonic(), { signal });
    },
  };
}
