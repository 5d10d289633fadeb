/**
 * Buffers for gathering small writes and for reading, lent again and again: few are ever needed at a time, and a fresh
 * one for each fragment would be cleared and thrown away each time.
 *
 * @module
 */

const BUFFER_BYTES = 512 * 1024;
const MAX_IDLE = 4;

/** See the module. */
export class Staging {
  readonly #idle: Uint8Array<ArrayBuffer>[] = [];

  /** Lends a buffer for as long as `work` takes. */
  async lend<T>(work: (buffer: Uint8Array<ArrayBuffer>) => Promise<T>): Promise<T> {
    const buffer = this.#idle.pop() ?? new Uint8Array(BUFFER_BYTES);
    try {
      return await work(buffer);
    } finally {
      if (this.#idle.length < MAX_IDLE) this.#idle.push(buffer);
    }
  }
}
