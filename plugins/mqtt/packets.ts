/**
 * MQTT packets as bytes: those that a publishing client sends, and those that a broker may send to
 * it. Versions 5 (OASIS MQTT 5.0) and 3.1.1 (level 4), QoS 0 and 1.
 *
 * What comes from the broker is not trusted: every length is checked, and whatever is no packet is an
 * {@linkcode MqttProtocolError}.
 *
 * @module
 */

/** The version of MQTT, as it stands in CONNECT. */
export type MqttLevel = 4 | 5;

/** The broker sent what is no MQTT, or what it must not send. */
export class MqttProtocolError extends Error {
  /** Always `MqttProtocolError`. */
  override readonly name = "MqttProtocolError";
}

/** What a broker sends. `code` is a reason code (§2.4), or a return code of 3.1.1. */
export type MqttPacket =
  | {
    readonly type: "connack";
    readonly code: number;
    readonly keepAliveS?: number;
  }
  | {
    readonly type: "publish";
    readonly topic: string;
    readonly payload: Uint8Array;
    readonly retain: boolean;
  }
  | { readonly type: "puback"; readonly id: number; readonly code: number }
  | {
    readonly type: "suback";
    readonly id: number;
    readonly codes: readonly number[];
  }
  | { readonly type: "pingresp" }
  | { readonly type: "disconnect"; readonly code: number };

/** What is published. */
export interface MqttMessage {
  readonly topic: string;
  readonly payload: string;
  /** The broker keeps it and gives it to whoever subscribes later. */
  readonly retain?: boolean;
}

/** Longer packets from a broker are refused: what is subscribed to is small. */
export const MAX_PACKET_BYTES = 256 * 1024;

const PROPERTY = { keepAlive: 0x13, maximumPacketSize: 0x27 } as const;

const encoder = new TextEncoder();
const strictText = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const u16 = (value: number): number[] => [value >> 8 & 0xff, value & 0xff];

/** @throws RangeError if the text is longer than 65,535 bytes in UTF-8 (§1.5.4) */
function field(value: string): Uint8Array {
  const bytes = encoder.encode(value.toWellFormed());
  if (bytes.length > 0xffff) {
    throw new RangeError(`a text of ${bytes.length} bytes; MQTT allows 65535`);
  }
  return join(u16(bytes.length), bytes);
}

function join(
  ...parts: readonly (Uint8Array | readonly number[])[]
): Uint8Array {
  const all = new Uint8Array(
    parts.reduce((sum, { length }) => sum + length, 0),
  );
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function packet(
  head: number,
  ...parts: readonly (Uint8Array | readonly number[])[]
): Uint8Array {
  const body = join(...parts);
  const length: number[] = [];
  for (let left = body.length;;) {
    const digit = left % 128;
    left = Math.floor(left / 128);
    length.push(left > 0 ? digit | 0x80 : digit);
    if (left === 0) break;
  }
  return join([head], length, body);
}

/** CONNECT (§3.1), with a clean start and a will of QoS 1. */
export function encodeConnect(options: {
  readonly level: MqttLevel;
  readonly clientId: string;
  readonly keepAliveS: number;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly will?: MqttMessage | undefined;
}): Uint8Array {
  const { level, will, username, password } = options;
  const flags = 0x02 |
    (will ? 0x04 | 0x08 | (will.retain ? 0x20 : 0) : 0) |
    (password === undefined ? 0 : 0x40) | (username === undefined ? 0 : 0x80);
  const max = MAX_PACKET_BYTES;
  return packet(
    0x10,
    field("MQTT"),
    [level, flags, ...u16(options.keepAliveS)],
    level === 5
      ? [
        5,
        PROPERTY.maximumPacketSize,
        0,
        max >> 16,
        max >> 8 & 0xff,
        max & 0xff,
      ]
      : [],
    field(options.clientId),
    will && level === 5 ? [0] : [],
    will ? join(field(will.topic), field(will.payload)) : [],
    username === undefined ? [] : field(username),
    password === undefined ? [] : field(password),
  );
}

/** PUBLISH (§3.3): QoS 1 with a packet identifier, QoS 0 without. */
export function encodePublish(
  level: MqttLevel,
  message: MqttMessage,
  id?: number,
): Uint8Array {
  return packet(
    0x30 | (id === undefined ? 0 : 0x02) | (message.retain ? 0x01 : 0),
    field(message.topic),
    id === undefined ? [] : u16(id),
    level === 5 ? [0] : [],
    encoder.encode(message.payload.toWellFormed()),
  );
}

/** SUBSCRIBE (§3.8), with QoS 0. */
export function encodeSubscribe(
  level: MqttLevel,
  topics: readonly string[],
  id: number,
): Uint8Array {
  return packet(
    0x82,
    u16(id),
    level === 5 ? [0] : [],
    ...topics.map((topic) => join(field(topic), [0])),
  );
}

/** PINGREQ (§3.12). */
export const PINGREQ: Uint8Array = Uint8Array.of(0xc0, 0);

/** DISCONNECT (§3.14): the broker drops the will. */
export const DISCONNECT: Uint8Array = Uint8Array.of(0xe0, 0);

/** Takes bytes as they come and gives packets. */
export interface PacketReader {
  /** @throws {@linkcode MqttProtocolError}; then it is of no more use */
  push(chunk: Uint8Array): MqttPacket[];
}

/** A reader for the bytes of one connection. */
export function createPacketReader(level: MqttLevel): PacketReader {
  let held = new Uint8Array(0);
  return {
    push: (chunk) => {
      held = join(held, chunk) as Uint8Array<ArrayBuffer>;
      const packets: MqttPacket[] = [];
      for (;;) {
        const head = readHead(held);
        if (head === undefined || held.length < head.from + head.bytes) {
          return packets;
        }
        const body = new Cursor(
          held.subarray(head.from, head.from + head.bytes),
        );
        packets.push(decode(held[0] ?? 0, body, level));
        held = held.slice(head.from + head.bytes);
      }
    },
  };
}

function readHead(
  bytes: Uint8Array,
): { from: number; bytes: number } | undefined {
  let length = 0;
  for (let at = 1; at <= 4; at++) {
    const digit = bytes[at];
    if (digit === undefined) return undefined;
    length += (digit & 0x7f) * 128 ** (at - 1);
    if (digit < 0x80) {
      if (length > MAX_PACKET_BYTES) {
        throw new MqttProtocolError(
          `a packet of ${length} bytes; expected at most ${MAX_PACKET_BYTES}`,
        );
      }
      return { from: at + 1, bytes: length };
    }
  }
  throw new MqttProtocolError("a packet's length has more than four digits");
}

class Cursor {
  #at = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  take(count: number): Uint8Array {
    if (count > this.left) {
      throw new MqttProtocolError(
        `a packet ends ${count - this.left} bytes early`,
      );
    }
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }

  byte(): number {
    return this.take(1)[0] ?? 0;
  }

  u16(): number {
    return this.byte() << 8 | this.byte();
  }

  varint(): number {
    let value = 0;
    for (let place = 0; place < 4; place++) {
      const digit = this.byte();
      value += (digit & 0x7f) * 128 ** place;
      if (digit < 0x80) return value;
    }
    throw new MqttProtocolError("a length has more than four digits");
  }

  text(): string {
    const bytes = this.take(this.u16());
    try {
      return strictText.decode(bytes);
    } catch {
      throw new MqttProtocolError("a text is not UTF-8");
    }
  }

  /** The properties (§2.2.2) whose values are wanted here; the others are passed over. */
  properties(): { readonly keepAliveS?: number } {
    const inner = new Cursor(this.take(this.varint()));
    let keepAliveS: number | undefined;
    while (inner.left > 0) {
      const id = inner.varint();
      if (id === PROPERTY.keepAlive) keepAliveS = inner.u16();
      else inner.skip(id);
    }
    return keepAliveS === undefined ? {} : { keepAliveS };
  }

  skip(property: number): void {
    switch (property) {
      case 0x01:
      case 0x17:
      case 0x19:
      case 0x24:
      case 0x25:
      case 0x28:
      case 0x29:
      case 0x2a:
        return void this.take(1);
      case 0x21:
      case 0x22:
      case 0x23:
        return void this.take(2);
      case 0x02:
      case 0x11:
      case 0x18:
      case 0x27:
        return void this.take(4);
      case 0x0b:
        return void this.varint();
      case 0x03:
      case 0x08:
      case 0x09:
      case 0x12:
      case 0x15:
      case 0x16:
      case 0x1a:
      case 0x1c:
      case 0x1f:
        return void this.take(this.u16());
      case 0x26:
        this.take(this.u16());
        return void this.take(this.u16());
      default:
        throw new MqttProtocolError(
          `the property 0x${property.toString(16)} is not known`,
        );
    }
  }
}

function decode(head: number, body: Cursor, level: MqttLevel): MqttPacket {
  const properties = () => level === 5 && body.left > 0 ? body.properties() : {};
  switch (head >> 4) {
    case 2: {
      body.byte(); // whether a session was there; none is asked for
      const code = body.byte();
      return { type: "connack", code, ...properties() };
    }
    case 3: {
      const qos = head >> 1 & 3;
      if (qos !== 0) {
        throw new MqttProtocolError(
          `a message of QoS ${qos}; the subscription is of QoS 0`,
        );
      }
      const topic = body.text();
      if (level === 5) body.properties();
      return {
        type: "publish",
        topic,
        payload: body.take(body.left).slice(),
        retain: (head & 1) === 1,
      };
    }
    case 4: {
      const id = body.u16();
      return {
        type: "puback",
        id,
        code: level === 5 && body.left > 0 ? body.byte() : 0,
      };
    }
    case 9: {
      const id = body.u16();
      properties();
      return { type: "suback", id, codes: [...body.take(body.left)] };
    }
    case 13:
      return { type: "pingresp" };
    case 14:
      return { type: "disconnect", code: body.left > 0 ? body.byte() : 0 };
    default:
      throw new MqttProtocolError(
        `a packet of type ${head >> 4}, which no broker may send here`,
      );
  }
}
