/**
 * Reads and writes the wire format of protocol buffers
 * (https://protobuf.dev/programming-guides/encoding), without schemas: a message is a list of fields
 * by number. Unknown fields are there to be skipped; no declared length is trusted.
 *
 * @module
 */
import { sourceError } from "../types.ts";

/** One field as it stands on the wire. */
export interface ProtobufField {
  readonly number: number;
  /** Of wire types 0, 1 and 5, unsigned; beyond 2^53 not exact. */
  readonly value: number;
  /** Of wire type 2: text, bytes or a message within; empty for the others. */
  readonly bytes: Uint8Array;
}

function damaged(problem: string): Error {
  return sourceError("protocol", `a protobuf message is damaged: ${problem}`);
}

/** The fields of a message, in their order. @throws a source error of the kind `protocol` */
export function* protobufFields(message: Uint8Array): Generator<ProtobufField> {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let index = 0; index < 10; index++) {
      if (at >= message.length) throw damaged(`it ends in a number after ${message.length} bytes`);
      const byte = message[at++] ?? 0;
      value += (byte & 0x7f) * 2 ** (7 * index);
      if (byte < 0x80) return value;
    }
    throw damaged("a number has more than 10 bytes");
  };
  const take = (length: number): number => {
    if (length > message.length - at) {
      throw damaged(`a field names ${length} bytes, but ${message.length - at} are left`);
    }
    const from = at;
    at += length;
    return from;
  };
  while (at < message.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    if (number < 1 || number > 0x1fff_ffff) throw damaged(`${number} is no field number`);
    const empty = message.subarray(0, 0);
    switch (tag % 8) {
      case 0:
        yield { number, value: varint(), bytes: empty };
        break;
      case 1:
        yield { number, value: Number(view.getBigUint64(take(8), true)), bytes: empty };
        break;
      case 2: {
        const length = varint();
        const from = take(length);
        yield { number, value: 0, bytes: message.subarray(from, from + length) };
        break;
      }
      case 5:
        yield { number, value: view.getUint32(take(4), true), bytes: empty };
        break;
      default:
        throw damaged(`${tag % 8} is no wire type that is in use`);
    }
  }
}

/** The bytes of the fields with this number. */
export function bytesOf(message: Uint8Array, number: number): Uint8Array[] {
  return [...protobufFields(message)].filter((field) => field.number === number)
    .map(({ bytes }) => bytes);
}

/** The last field under a path of numbers as text; empty where there is none. */
export function textOf(message: Uint8Array, ...path: readonly number[]): string {
  let found: Uint8Array | undefined = message;
  for (const number of path) found = found && bytesOf(found, number).at(-1);
  return found ? new TextDecoder().decode(found) : "";
}

/** The last field with this number as a number; 0, its default, where there is none. */
export function numberOf(message: Uint8Array, number: number): number {
  return [...protobufFields(message)].findLast((field) => field.number === number)?.value ?? 0;
}

/** A field of text. */
export function textField(number: number, text: string): Uint8Array {
  return messageField(number, new TextEncoder().encode(text));
}

/** A field that is a message, given by its fields. */
export function messageField(number: number, ...fields: readonly Uint8Array[]): Uint8Array {
  const bytes = fields.flatMap((field) => [...field]);
  return Uint8Array.from([...varintBytes(number * 8 + 2), ...varintBytes(bytes.length), ...bytes]);
}

/** A field that is a number: not negative, at most 2^53. */
export function numberField(number: number, value: number): Uint8Array {
  return Uint8Array.from([...varintBytes(number * 8), ...varintBytes(value)]);
}

function varintBytes(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push(rest % 0x80 + 0x80);
    rest = Math.floor(rest / 0x80);
  }
  return [...bytes, rest];
}
