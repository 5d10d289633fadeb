/**
 * The box syntax of MP4 (ISO/IEC 14496-12 §4.2), written and read: size (4) · type (4) · body; size 1
 * puts a 64-bit size behind the type; a full box begins its body with version (1) and flags (3).
 *
 * Writing goes through numbers and byte arrays that are joined once. Reading trusts no declared
 * length: a box that reaches beyond its parent throws a MediaError.
 *
 * @module
 */
import { MediaError } from "./media_error.ts";

/** What a box is made of: bytes, or a number with its width. */
export type BoxPart = Uint8Array | NumberField;
/** A big-endian number of 1, 2, 3, 4 or 8 bytes. */
export interface NumberField {
  readonly bytes: 1 | 2 | 3 | 4 | 8;
  readonly value: number;
}

/** One byte. */
export const u8 = (value: number): NumberField => ({ bytes: 1, value });
/** Two bytes. */
export const u16 = (value: number): NumberField => ({ bytes: 2, value });
/** Three bytes. */
export const u24 = (value: number): NumberField => ({ bytes: 3, value });
/** Four bytes; negative numbers as two's complement. */
export const u32 = (value: number): NumberField => ({ bytes: 4, value });
/** Eight bytes; up to 2^53, or down to -2^53 as two's complement. */
export const u64 = (value: number): NumberField => ({ bytes: 8, value });
/** 16.16 fixed point. */
export const fixed32 = (value: number): NumberField => u32(Math.round(value * 65_536));
/** Text as UTF-8, without an end mark. */
export const text = (value: string): Uint8Array => new TextEncoder().encode(value);
/** A four-character code; © is one byte, as Apple's tags have it. */
export function fourcc(code: string): Uint8Array {
  let known = fourccs.get(code);
  if (!known) fourccs.set(code, known = Uint8Array.from(code, (c) => c.charCodeAt(0)));
  return known;
}

/** Every fragment needs the same few. */
const fourccs = new Map<string, Uint8Array>();

/** Joins parts. */
export function bytes(...parts: readonly BoxPart[]): Uint8Array {
  const out = new Uint8Array(sizeOf(parts));
  writeParts(out, 0, parts);
  return out;
}

function sizeOf(parts: readonly BoxPart[]): number {
  let size = 0;
  for (const part of parts) size += part instanceof Uint8Array ? part.length : part.bytes;
  return size;
}

function writeParts(out: Uint8Array, from: number, parts: readonly BoxPart[]): void {
  const view = new DataView(out.buffer);
  let at = from;
  for (const part of parts) {
    if (part instanceof Uint8Array) {
      out.set(part, at);
      at += part.length;
    } else {
      writeNumber(view, at, part);
      at += part.bytes;
    }
  }
}

function writeNumber(view: DataView, at: number, { bytes, value }: NumberField): void {
  switch (bytes) {
    case 1:
      return view.setUint8(at, value);
    case 2:
      return view.setUint16(at, value);
    case 3:
      view.setUint8(at, value >>> 16);
      return view.setUint16(at + 1, value & 0xffff);
    case 4:
      return view.setUint32(at, value);
    case 8: {
      const high = Math.floor(value / 2 ** 32);
      view.setInt32(at, high);
      return view.setUint32(at + 4, value - high * 2 ** 32);
    }
  }
}

/** A box. */
export function box(type: string, ...parts: readonly BoxPart[]): Uint8Array {
  const out = new Uint8Array(8 + sizeOf(parts));
  writeParts(out, 0, [u32(out.length), fourcc(type)]);
  writeParts(out, 8, parts);
  return out;
}

/** A full box. */
export function fullBox(
  type: string,
  { version = 0, flags = 0 }: { readonly version?: number; readonly flags?: number },
  ...parts: readonly BoxPart[]
): Uint8Array {
  return box(type, u8(version), u24(flags), ...parts);
}

/** A full box whose body is a count and a table of 32-bit numbers, without intermediate objects. */
export function tableBox(
  type: string,
  { version = 0, before = [], columns = 1 }: {
    readonly version?: number;
    /** Numbers between the flags and the count. */
    readonly before?: readonly number[];
    /** Numbers per row: the count counts rows. */
    readonly columns?: number;
  },
  values: ArrayLike<number>,
): Uint8Array {
  const size = 12 + 4 * (before.length + 1 + values.length);
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  view.setUint32(0, size);
  out.set(fourcc(type), 4);
  view.setUint8(8, version);
  let at = 12;
  for (const value of before) {
    view.setUint32(at, value);
    at += 4;
  }
  view.setUint32(at, values.length / columns);
  for (let i = 0; i < values.length; i++) view.setUint32(at += 4, values[i] ?? 0);
  return out;
}

/**
 * Boxes written straight into one growing buffer, without an object for each field: for what is made
 * every second. Fields go where the last one ended.
 */
export class BoxBuffer {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #length = 0;

  /** With room for so many bytes; it grows when there are more. */
  constructor(roomBytes: number) {
    this.#bytes = new Uint8Array(roomBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Bytes written. */
  get length(): number {
    return this.#length;
  }

  /** Begins a box; gives its place, by which it is ended. */
  begin(type: string): number {
    const at = this.#room(8);
    this.#bytes.set(fourcc(type), at + 4);
    return at;
  }

  /** Begins a full box. */
  beginFull(
    type: string,
    { version = 0, flags = 0 }: { readonly version?: number; readonly flags?: number } = {},
  ): number {
    const at = this.begin(type);
    this.u32(version * 2 ** 24 + flags);
    return at;
  }

  /** Ends the box that was begun at `at`. */
  end(at: number): void {
    this.#view.setUint32(at, this.#length - at);
  }

  /** Four bytes; negative numbers as two's complement. Gives their place. */
  u32(value: number): number {
    const at = this.#room(4);
    this.#view.setUint32(at, value);
    return at;
  }

  /** Eight bytes; up to 2^53. */
  u64(value: number): void {
    const high = Math.floor(value / 2 ** 32);
    this.u32(high);
    this.u32(value - high * 2 ** 32);
  }

  /** Bytes as they are. */
  put(bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.#room(bytes.length));
  }

  /** Writes four bytes over others. */
  setU32(at: number, value: number): void {
    this.#view.setUint32(at, value);
  }

  /** What was written, as a view. */
  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #room(bytes: number): number {
    const at = this.#length;
    this.#length = at + bytes;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#length);
      larger.set(this.#bytes.subarray(0, at));
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }
}

/** A box as it was read. */
export interface Box {
  readonly type: string;
  /** Header and body. */
  readonly whole: Uint8Array;
  readonly body: Uint8Array;
}

/** The size and type that a box header at `at` declares; `undefined` if `data` ends within it. */
export function parseBoxHeader(
  data: Uint8Array,
  at = 0,
): { readonly type: string; readonly sizeBytes: number; readonly headerBytes: number } | undefined {
  if (data.length - at < 8) return undefined;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const type = String.fromCharCode(...data.subarray(at + 4, at + 8));
  const size = view.getUint32(at);
  if (size !== 1) return { type, sizeBytes: size, headerBytes: 8 };
  if (data.length - at < 16) return undefined;
  return { type, sizeBytes: Number(view.getBigUint64(at + 8)), headerBytes: 16 };
}

/** The boxes that fill `data`. @throws MediaError if they do not fit it */
export function parseBoxes(data: Uint8Array): Box[] {
  const boxes: Box[] = [];
  for (let at = 0; at < data.length;) {
    const header = parseBoxHeader(data, at);
    if (
      !header || header.sizeBytes < header.headerBytes || header.sizeBytes > data.length - at
    ) {
      throw new MediaError(
        `a box at byte ${at} of ${data.length} names ${
          header?.sizeBytes ?? "no"
        } bytes, more than there are`,
      );
    }
    const whole = data.subarray(at, at + header.sizeBytes);
    boxes.push({ type: header.type, whole, body: whole.subarray(header.headerBytes) });
    at += header.sizeBytes;
  }
  return boxes;
}

/** The one box under a path of types. @throws MediaError if it is not there */
export function findBox(boxes: readonly Box[], ...path: readonly string[]): Box {
  const [type = "", ...rest] = path;
  const found = boxes.find((box) => box.type === type);
  if (!found) throw new MediaError(`the box ${type} is missing`);
  return rest.length === 0 ? found : findBox(parseBoxes(found.body), ...rest);
}

/** Reads the fields of a box one after another; a MediaError where it ends too soon. */
export class FieldReader {
  readonly #view: DataView;
  readonly #type: string;
  #at = 0;

  constructor(box: Box) {
    this.#view = new DataView(box.body.buffer, box.body.byteOffset, box.body.byteLength);
    this.#type = box.type;
  }

  /** Bytes not read yet. */
  get bytesLeft(): number {
    return this.#view.byteLength - this.#at;
  }

  #advance(bytes: number): number {
    if (bytes > this.bytesLeft) {
      throw new MediaError(`the box ${this.#type} ends after ${this.#view.byteLength} bytes`);
    }
    const at = this.#at;
    this.#at += bytes;
    return at;
  }

  skip(bytes: number): void {
    this.#advance(bytes);
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u24(): number {
    return (this.u8() << 16) | this.u16();
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4));
  }

  i32(): number {
    return this.#view.getInt32(this.#advance(4));
  }

  /** @throws MediaError beyond 2^53 - 1, where numbers stop being exact */
  u64(): number {
    const value = Number(this.#view.getBigUint64(this.#advance(8)));
    if (!Number.isSafeInteger(value)) {
      throw new MediaError(`the box ${this.#type} holds the number ${value}, beyond 2^53`);
    }
    return value;
  }
}
