/**
 * Writing a file in whole blocks, past the system's cache (see `direct.ts`).
 *
 * @module
 */
import { BLOCK_BYTES } from "./direct.ts";
import { type SpoolFile, writeFully } from "./fs.ts";

/** Writes at the end of a file, whole blocks at a time, past the system's cache. */
export class DirectWrites {
  readonly #file: SpoolFile;
  /** The last block, as far as it is full. */
  readonly #lastBlock = new Uint8Array(BLOCK_BYTES);

  constructor(file: SpoolFile) {
    this.#file = file;
  }

  /**
   * Writes chunks where the last call ended. Zeros follow them to the end of their block, which the
   * next call writes over, as it does what a call has left that failed.
   *
   * @param atByte the sum of what all calls before have written
   * @param staging from {@linkcode alignedBytes}, a multiple of {@linkcode BLOCK_BYTES}
   */
  async append(
    chunks: readonly Uint8Array[],
    { atByte, staging }: { atByte: number; staging: Uint8Array },
  ): Promise<void> {
    let staged = atByte % BLOCK_BYTES;
    let at = atByte - staged;
    staging.set(this.#lastBlock.subarray(0, staged));
    const write = async (length: number) => {
      await writeFully(this.#file, staging.subarray(0, length), at);
      at += length;
    };
    for (const chunk of chunks) {
      let rest = chunk;
      while (staged + rest.length >= staging.length) {
        staging.set(rest.subarray(0, staging.length - staged), staged);
        rest = rest.subarray(staging.length - staged);
        await write(staging.length);
        staged = 0;
      }
      staging.set(rest, staged);
      staged += rest.length;
    }
    const tail = staged % BLOCK_BYTES;
    const whole = staged - tail;
    if (tail > 0) staging.fill(0, staged, whole + BLOCK_BYTES);
    if (staged > 0) await write(tail > 0 ? whole + BLOCK_BYTES : whole);
    this.#lastBlock.set(staging.subarray(whole, staged));
  }
}
