/**
 * As much of protobuf's wire format (https://protobuf.dev/programming-guides/encoding) as NexusTalk
 * needs: a reader that walks over a message without copying, and a writer for small messages. A
 * field that is not known is skipped by its wire type; groups, which proto3 no longer has, are an
 * error.
 *
 * @module
 */

/** The bytes are no message of the kind that was expected. */
export class WireError extends Error {
  /** Always `WireError`. */
  override readonly name = "WireError";
}

/** Walks over the fields of one message: call `next`, then the one reader that fits. */
export class MessageReader {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  #at: number;
  #isRead = true;
  /** Number of the present field. */
  field = 0;
  /** 0 varint, 1 eight bytes, 2 so many bytes, 5 four bytes. */
  wireType = 0;

  /** Reads `bytes` from `start` to `end`. */
  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  /** Goes to the next field; what was not read of the present one is skipped. @throws WireError */
  next(): boolean {
    if (!this.#isRead) this.#skip();
    if (this.#at >= this.#end) return false;
    const tag = this.#varint();
    this.field = Math.floor(tag / 8);
    this.wireType = tag % 8;
    if (this.field === 0) throw new WireError("a field has the number 0");
    this.#isRead = false;
    return true;
  }

  /** An unsigned number or an enum; what exceeds 2^53 loses its low bits. @throws WireError */
  uint(): number {
    this.#expect(0);
    return this.#varint();
  }

  /** A zig-zag number. @throws WireError */
  sint(): number {
    const value = this.uint();
    return value % 2 === 1 ? -(value + 1) / 2 : value / 2;
  }

  /** @throws WireError */
  bool(): boolean {
    return this.uint() !== 0;
  }

  /** @throws WireError */
  double(): number {
    this.#expect(1);
    if (this.#end - this.#at < 8) throw new WireError("a number of eight bytes is cut off");
    const view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset + this.#at, 8);
    this.#at += 8;
    return view.getFloat64(0, true);
  }

  /** A view of the bytes. @throws WireError */
  bytes(): Uint8Array {
    this.#expect(2);
    const length = this.#varint();
    if (length > this.#end - this.#at) {
      throw new WireError(
        `a field declares ${length} bytes where the message has ${this.#end - this.#at} left`,
      );
    }
    const start = this.#at;
    this.#at += length;
    return this.#bytes.subarray(start, this.#at);
  }

  /** @throws WireError */
  text(): string {
    return new TextDecoder().decode(this.bytes());
  }

  #expect(wireType: number): void {
    if (this.wireType !== wireType) {
      throw new WireError(
        `field ${this.field} has wire type ${this.wireType}, expected ${wireType}`,
      );
    }
    this.#isRead = true;
  }

  #skip(): void {
    switch (this.wireType) {
      case 0:
        this.uint();
        return;
      case 1:
        this.double();
        return;
      case 2:
        this.bytes();
        return;
      case 5:
        this.#expect(5);
        this.#at += 4;
        if (this.#at > this.#end) throw new WireError("a number of four bytes is cut off");
        return;
      default:
        throw new WireError(`field ${this.field} has the unknown wire type ${this.wireType}`);
    }
  }

  #varint(): number {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 10; count++) {
      if (this.#at >= this.#end) throw new WireError("a number is cut off");
      // `!`: the position was just checked.
      const byte = this.#bytes[this.#at++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
    throw new WireError("a number has more than ten bytes");
  }
}

/** Writes a small message. */
export class MessageWriter {
  readonly #bytes: number[] = [];

  /** An unsigned number, an enum or a boolean. */
  uint(field: number, value: number): this {
    this.#varint(field * 8);
    this.#varint(value);
    return this;
  }

  /** Bytes, text or a message. */
  bytes(field: number, value: Uint8Array | string): this {
    const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
    this.#varint(field * 8 + 2);
    this.#varint(bytes.length);
    for (const byte of bytes) this.#bytes.push(byte);
    return this;
  }

  /** Small numbers in one field. */
  packed(field: number, values: readonly number[]): this {
    const inner = new MessageWriter();
    for (const value of values) inner.#varint(value);
    return this.bytes(field, inner.done());
  }

  /** What was written. */
  done(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  #varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes.push(rest % 0x80 + 0x80);
      rest = Math.floor(rest / 0x80);
    }
    this.#bytes.push(rest);
  }
}
