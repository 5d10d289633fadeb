/**
 * Buffers for gathering small writes and for reading, lent again and again. There are a few and never
 * more: all cameras write at the same moments, and a fresh buffer for each would be cleared, thrown
 * away and collected each time. Whoever comes when all are lent waits a moment.
 *
 * @module
 */

import { alignedBytes } from "./direct.ts";

const BUFFER_BYTES = 512 * 1024;

/** See the module. */
export class Staging {
  readonly #idle: Uint8Array<ArrayBuffer>[] = [];
  readonly #waiting: ((buffer: Uint8Array<ArrayBuffer>) => void)[] = [];
  readonly #max: number;
  #made = 0;

  /** @param max how many there are at most; Deno writes four at once with profit */
  constructor(max = 4) {
    this.#max = max;
  }

  /** Lends a buffer for as long as `work` takes, which must not ask for another one. */
  async lend<T>(work: (buffer: Uint8Array<ArrayBuffer>) => Promise<T>): Promise<T> {
    const buffer = this.#idle.pop() ?? this.#make() ??
      await new Promise<Uint8Array<ArrayBuffer>>((resolve) => this.#waiting.push(resolve));
    try {
      return await work(buffer);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#idle.push(buffer);
      else next(buffer);
    }
  }

  #make(): Uint8Array<ArrayBuffer> | undefined {
    if (this.#made === this.#max) return undefined;
    this.#made++;
    return alignedBytes(BUFFER_BYTES);
  }
}
