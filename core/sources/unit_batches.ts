/**
 * A live session's units one by one, out of batches: what one look at the socket brought is there at
 * once, and a unit that is there is handed on without a generator around it.
 *
 * @module
 */
import type { AccessUnit } from "../types.ts";

/** The units of `batches` in their order; leaving the iteration leaves the batches. */
export function unitsOf(
  batches: AsyncGenerator<readonly AccessUnit[], void, undefined>,
):
  & AsyncIterableIterator<AccessUnit, undefined>
  & Required<Pick<AsyncIterator<AccessUnit>, "return">> {
  let batch: readonly AccessUnit[] = [];
  let at = 0;
  /** Who asks while another waits comes behind it. */
  let asked: Promise<unknown> | undefined;
  const done: IteratorReturnResult<undefined> = { done: true, value: undefined };

  const taken = (): IteratorYieldResult<AccessUnit> | undefined => {
    const value = batch[at];
    if (value === undefined) return undefined;
    at++;
    return { done: false, value };
  };

  const fetched = async (
    before: Promise<unknown> | undefined,
  ): Promise<IteratorResult<AccessUnit, undefined>> => {
    await before?.catch(() => {}); // told to the one who asked
    for (let unit = taken();; unit = taken()) {
      if (unit !== undefined) return unit;
      const next = await batches.next();
      if (next.done) return done;
      batch = next.value;
      at = 0;
    }
  };

  return {
    next() {
      const unit = asked === undefined ? taken() : undefined;
      if (unit !== undefined) return Promise.resolve(unit);
      const fetching = fetched(asked);
      asked = fetching;
      const settle = () => {
        if (asked === fetching) asked = undefined;
      };
      fetching.then(settle, settle);
      return fetching;
    },
    async return() {
      batch = [];
      await batches.return();
      return done;
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
