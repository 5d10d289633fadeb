/**
 * Reading and writing of bit fields, most significant bit first, with the Exp-Golomb codes of
 * ITU-T H.264 §9.1 (H.265 §9.2 has the same). Reading past the end throws a MediaError, so parsers
 * built on it need no length checks of their own.
 *
 * @module
 */
import { MediaError } from "./media_error.ts";

/** Reads bit fields out of bytes. */
export class BitReader {
  readonly #data: Uint8Array;
  readonly #what: string;
  #position = 0;

  /** `what` names the structure in errors. */
  constructor(data: Uint8Array, what: string) {
    this.#data = data;
    this.#what = what;
  }

  /** Bits not read yet. */
  get bitsLeft(): number {
    return this.#data.length * 8 - this.#position;
  }

  /** An unsigned number of `count` bits, 0 to 32. */
  bits(count: number): number {
    if (count > this.bitsLeft) {
      throw new MediaError(
        `the ${this.#what} ends after ${this.#data.length} bytes, in the middle of a field`,
      );
    }
    let value = 0;
    for (let left = count; left > 0;) {
      const byte = this.#data[this.#position >> 3] ?? 0;
      const available = 8 - (this.#position & 7);
      const take = Math.min(left, available);
      value = value * 2 ** take + ((byte >> (available - take)) & ((1 << take) - 1));
      this.#position += take;
      left -= take;
    }
    return value;
  }

  /** One bit as a boolean. */
  flag(): boolean {
    return this.bits(1) === 1;
  }

  /** Leaves out `count` bits. */
  skip(count: number): void {
    for (let left = count; left > 0; left -= 32) this.bits(Math.min(32, left));
  }

  /** `ue(v)`: an unsigned Exp-Golomb code. */
  ue(): number {
    let zeros = 0;
    while (!this.flag()) {
      if (++zeros > 32) throw new MediaError(`the ${this.#what} holds an endless Exp-Golomb code`);
    }
    return 2 ** zeros - 1 + this.bits(zeros);
  }

  /** `se(v)`: a signed Exp-Golomb code. */
  se(): number {
    const code = this.ue();
    return code % 2 === 1 ? (code + 1) / 2 : -code / 2;
  }
}

/** Writes bit fields into bytes; the last byte is filled with zeros. */
export class BitWriter {
  readonly #bytes: number[] = [];
  #free = 0;

  /** Appends the low `count` bits of `value`, 0 to 32. */
  bits(value: number, count: number): this {
    for (let bit = count - 1; bit >= 0; bit--) {
      if (this.#free === 0) {
        this.#bytes.push(0);
        this.#free = 8;
      }
      this.#free--;
      const last = this.#bytes.length - 1;
      const one = Math.floor(value / 2 ** bit) % 2;
      this.#bytes[last] = (this.#bytes[last] ?? 0) | (one << this.#free);
    }
    return this;
  }

  /** What was written. */
  bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

/**
 * Takes out the emulation prevention bytes of a NAL unit (H.264 §7.4.1.1: 00 00 03 stands for
 * 00 00).
 */
export function unescapeNal(nal: Uint8Array): Uint8Array {
  const out = new Uint8Array(nal.length);
  let length = 0;
  let zeros = 0;
  for (const byte of nal) {
    if (zeros >= 2 && byte === 3) {
      zeros = 0;
      continue;
    }
    zeros = byte === 0 ? zeros + 1 : 0;
    out[length++] = byte;
  }
  return out.subarray(0, length);
}
