/**
 * Where a live session's units wait to be pulled: bounded, and cheap, because a unit that is there is
 * handed on without a generator around it.
 *
 * @module
 */
import type { AccessUnit } from "../../types.ts";

/** Units on their way to whoever iterates. */
export interface UnitOutput extends AsyncIterableIterator<AccessUnit> {
  push(unit: AccessUnit): void;
  /** Ends the iteration behind what is waiting; with an error, by throwing it once. */
  end(error?: unknown): void;
  /** Ends it at once. */
  close(): void;
  /** Too much is waiting: nothing more should be read. */
  readonly isFull: boolean;
}

const MAX_BYTES = 32 * 2 ** 20;
const MAX_UNITS = 4096;

/** Makes an empty one. `onDrained` is called when it is not full any more, `onLeft` when the iteration is left. */
export function createUnitOutput(
  { onDrained, onLeft }: { readonly onDrained: () => void; readonly onLeft: () => Promise<void> },
): UnitOutput {
  let units: AccessUnit[] = [];
  let at = 0;
  let bytes = 0;
  let isEnded = false;
  let failure: { readonly error: unknown } | undefined;
  const pullers: PromiseWithResolvers<IteratorResult<AccessUnit, undefined>>[] = [];
  const done: IteratorResult<AccessUnit, undefined> = { done: true, value: undefined };

  const isFull = () => bytes >= MAX_BYTES || units.length - at >= MAX_UNITS;

  function settleEnd(puller: (typeof pullers)[number]): void {
    if (failure !== undefined) {
      puller.reject(failure.error);
      failure = undefined;
    } else puller.resolve(done);
  }

  const end = (error?: unknown) => {
    if (isEnded) return;
    isEnded = true;
    if (error !== undefined) failure = { error };
    for (const puller of pullers.splice(0)) settleEnd(puller);
  };

  return {
    push(unit) {
      if (isEnded) return;
      const puller = pullers.shift();
      if (puller !== undefined) puller.resolve({ done: false, value: unit });
      else {
        units.push(unit);
        bytes += unit.data.length;
      }
    },
    end,
    close() {
      units = [];
      at = bytes = 0;
      failure = undefined;
      end();
    },
    get isFull() {
      return isFull();
    },
    next() {
      const value = units[at];
      if (value !== undefined) {
        const wasFull = isFull();
        bytes -= value.data.length;
        if (++at === units.length) {
          units.length = at = 0;
        } else if (at > 1024) {
          units = units.slice(at);
          at = 0;
        }
        if (wasFull && !isFull()) onDrained();
        return Promise.resolve({ done: false, value });
      }
      const puller = Promise.withResolvers<IteratorResult<AccessUnit, undefined>>();
      if (isEnded) settleEnd(puller);
      else pullers.push(puller);
      return puller.promise;
    },
    async return() {
      this.close();
      await onLeft();
      return done;
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
