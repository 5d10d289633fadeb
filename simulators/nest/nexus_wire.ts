/**
 * The server's side of the NexusTalk wire: packets, and the protobuf messages in them as far as a
 * server reads or writes them.
 *
 * A packet is `type: u8` · length: u16 big-endian, but u32 for type 205 · so many bytes of protobuf.
 * Of protobuf (https://protobuf.dev/programming-guides/encoding) the wire types 0 (varint), 1 (64
 * bits), 2 (bytes) and 5 (32 bits) occur.
 *
 * @module
 */

/** Packet types by name. */
export const PACKET = {
  ping: 1,
  hello: 100,
  startPlayback: 103,
  stopPlayback: 104,
  ok: 200,
  error: 201,
  playbackBegin: 202,
  playbackEnd: 203,
  playbackPacket: 204,
  longPlaybackPacket: 205,
  clockSync: 206,
  redirect: 207,
  metadata: 210,
  authorizeRequest: 212,
} as const;

/** `Error.code`. */
export const ERROR_CODE = {
  cameraNotConnected: 1,
  illegalPacket: 2,
  authorizationFailed: 3,
  noTranscoder: 4,
} as const;

/** `PlaybackEnd.reason`. */
export const END_REASON = {
  userEnded: 0,
  timeNotAvailable: 1,
  profileNotAvailable: 2,
  cameraUnreachable: 4,
} as const;

/** Codecs of a channel. */
export const CODEC = { h264: 2, aac: 3 } as const;

/** Profiles that are served. */
export const PROFILE = {
  audioAac: 3,
  h264For530k: 7,
  h264For100k: 8,
  h264For2M: 9,
} as const;

/** A packet as received. */
export interface Packet {
  readonly type: number;
  readonly payload: Uint8Array;
}

/** A packet, ready to be sent. */
export function packet(type: number, payload: Uint8Array = new Uint8Array()): Uint8Array {
  const isLong = type === PACKET.longPlaybackPacket;
  const bytes = new Uint8Array((isLong ? 5 : 3) + payload.length);
  bytes[0] = type;
  const view = new DataView(bytes.buffer);
  if (isLong) view.setUint32(1, payload.length);
  else if (payload.length > 0xffff) throw new RangeError("the payload needs a long packet");
  else view.setUint16(1, payload.length);
  bytes.set(payload, isLong ? 5 : 3);
  return bytes;
}

/** Takes packets out of what a client sends; clients send no long ones. */
export class PacketReader {
  #rest = new Uint8Array();

  /** The packets that are whole now. */
  push(bytes: Uint8Array): Packet[] {
    const all = new Uint8Array(this.#rest.length + bytes.length);
    all.set(this.#rest);
    all.set(bytes, this.#rest.length);
    const packets: Packet[] = [];
    let at = 0;
    while (all.length - at >= 3) {
      const length = (all[at + 1] ?? 0) << 8 | (all[at + 2] ?? 0);
      if (all.length - at - 3 < length) break;
      packets.push({ type: all[at] ?? 0, payload: all.subarray(at + 3, at + 3 + length) });
      at += 3 + length;
    }
    this.#rest = all.slice(at);
    return packets;
  }
}

/** A field as it stands on the wire: varints as numbers, the rest as bytes. */
type Field = { readonly number: number; readonly value: number | Uint8Array };

function fields(message: Uint8Array): Field[] {
  const found: Field[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = message[at++];
      if (byte === undefined) throw new Error("a protobuf message ends in the middle of a number");
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new Error("a protobuf number has more than ten bytes");
  };
  while (at < message.length) {
    const tag = varint();
    const wireType = tag & 7;
    if (wireType === 0) {
      found.push({ number: tag >> 3, value: varint() });
      continue;
    }
    const length = wireType === 1 ? 8 : wireType === 5 ? 4 : wireType === 2 ? varint() : -1;
    if (length < 0 || at + length > message.length) throw new Error("a protobuf field is cut off");
    found.push({ number: tag >> 3, value: message.subarray(at, at + length) });
    at += length;
  }
  return found;
}

const textOf = (value: Field["value"]) =>
  typeof value === "number" ? String(value) : new TextDecoder().decode(value);

/** What a client shows to be let in. */
export interface Authorization {
  /** Of a Nest account. */
  readonly sessionToken: string;
  /** Of a Google account. */
  readonly oliveToken: string;
}

/** The message of AUTHORIZE_REQUEST, also embedded in HELLO. */
export function readAuthorization(message: Uint8Array): Authorization {
  const read = { sessionToken: "", oliveToken: "" };
  for (const { number, value } of fields(message)) {
    if (number === 1) read.sessionToken = textOf(value);
    if (number === 4) read.oliveToken = textOf(value);
  }
  return read;
}

/** The message of HELLO. */
export interface Hello {
  readonly protocolVersion: number;
  readonly uuid: string;
  readonly deviceId: string;
  readonly userAgent: string;
  readonly clientType: number;
  readonly authorization: Authorization;
}

/** Reads it. @throws if it is no protobuf */
export function readHello(message: Uint8Array): Hello {
  const hello = { protocolVersion: 0, uuid: "", deviceId: "", userAgent: "", clientType: 0 };
  let authorization: Authorization = { sessionToken: "", oliveToken: "" };
  for (const { number, value } of fields(message)) {
    if (number === 1) hello.protocolVersion = Number(value);
    if (number === 2) hello.uuid = textOf(value);
    if (number === 4) authorization = { ...authorization, sessionToken: textOf(value) };
    if (number === 6) hello.deviceId = textOf(value);
    if (number === 7) hello.userAgent = textOf(value);
    if (number === 9) hello.clientType = Number(value);
    if (number === 12 && typeof value !== "number") authorization = readAuthorization(value);
  }
  return { ...hello, authorization };
}

/** The message of START_PLAYBACK. */
export interface StartPlayback {
  readonly sessionId: number;
  /** The profile wished for, then the others that will do. */
  readonly profiles: readonly number[];
  /** Of history; live where it is absent. */
  readonly startTime: number | undefined;
}

/** Reads it, with `other_profiles` packed or not. @throws if it is no protobuf */
export function readStartPlayback(message: Uint8Array): StartPlayback {
  let sessionId = 0;
  let profile = 0;
  let startTime: number | undefined;
  const others: number[] = [];
  for (const { number, value } of fields(message)) {
    if (number === 1) sessionId = Number(value);
    if (number === 2) profile = Number(value);
    if (number === 3 && typeof value !== "number") {
      startTime = new DataView(value.buffer, value.byteOffset, 8).getFloat64(0, true);
    }
    if (number === 6) {
      // Enums of this protocol are all below 128: packed, each is a byte.
      if (typeof value === "number") others.push(value);
      else others.push(...value);
    }
  }
  return { sessionId, profiles: [profile, ...others], startTime };
}

/** The session that STOP_PLAYBACK names. */
export function readStopPlayback(message: Uint8Array): number {
  return Number(fields(message).find(({ number }) => number === 1)?.value ?? 0);
}

/** Writes a message; zeros are left out unless told otherwise. */
class MessageWriter {
  readonly #bytes: number[] = [];
  readonly #withZeros: boolean;

  constructor(withZeros: boolean) {
    this.#withZeros = withZeros;
  }

  #varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes.push(rest % 0x80 | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    this.#bytes.push(rest);
  }

  number(field: number, value: number): this {
    if (value === 0 && !this.#withZeros) return this;
    this.#varint(field << 3);
    this.#varint(value);
    return this;
  }

  /** Zig-zag: small numbers of either sign stay short. */
  signed(field: number, value: number): this {
    return this.number(field, value < 0 ? -value * 2 - 1 : value * 2);
  }

  double(field: number, value: number): this {
    this.#varint(field << 3 | 1);
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, value, true);
    this.#bytes.push(...bytes);
    return this;
  }

  /** What stands in front of so many bytes. */
  bytesHead(field: number, length: number): this {
    this.#varint(field << 3 | 2);
    this.#varint(length);
    return this;
  }

  bytes(field: number, value: Uint8Array): this {
    this.bytesHead(field, value.length);
    for (const byte of value) this.#bytes.push(byte);
    return this;
  }

  text(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value));
  }

  done(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

/** How a server writes. */
export interface WriteOptions {
  /** Write zeros too, as some encoders do. */
  readonly withZeros?: boolean;
}

/** OK, with the UDP port that nobody uses, or empty. */
export function okPacket(udpPort = 0): Uint8Array {
  return packet(
    PACKET.ok,
    udpPort < 0 ? new Uint8Array() : new MessageWriter(true).number(1, udpPort).done(),
  );
}

/** ERROR. */
export function errorPacket(code: number, message: string): Uint8Array {
  return packet(PACKET.error, new MessageWriter(false).number(1, code).text(2, message).done());
}

/** REDIRECT. */
export function redirectPacket(newHost: string): Uint8Array {
  return packet(PACKET.redirect, new MessageWriter(false).text(1, newHost).done());
}

/** PLAYBACK_END. */
export function playbackEndPacket(
  sessionId: number,
  reason: number,
  { withZeros = false }: WriteOptions = {},
): Uint8Array {
  const message = new MessageWriter(withZeros).number(1, sessionId).number(2, reason);
  return packet(PACKET.playbackEnd, message.done());
}

/** A channel of PLAYBACK_BEGIN. */
export interface Channel {
  readonly id: number;
  readonly codec: number;
  readonly sampleRate: number;
  /** Unix seconds. */
  readonly startTime: number;
  readonly profile: number;
}

/** PLAYBACK_BEGIN. */
export function playbackBeginPacket(
  sessionId: number,
  channels: readonly Channel[],
  { withZeros = true }: WriteOptions = {},
): Uint8Array {
  const message = new MessageWriter(withZeros).number(1, sessionId);
  for (const channel of channels) {
    message.bytes(
      2,
      new MessageWriter(withZeros).number(1, channel.id).number(2, channel.codec)
        .number(3, channel.sampleRate).double(5, channel.startTime).number(8, channel.profile)
        .done(),
    );
  }
  return packet(PACKET.playbackBegin, message.done());
}

/** PLAYBACK_PACKET, or the long one where it must be or is wished for. */
export function playbackPacket(
  part: {
    readonly sessionId: number;
    readonly channelId: number;
    readonly timestampDelta: number;
    readonly payload: Uint8Array;
  },
  { withZeros = false, long = false }: WriteOptions & { readonly long?: boolean } = {},
): Uint8Array {
  const head = new MessageWriter(withZeros).number(1, part.sessionId).number(2, part.channelId)
    .signed(3, part.timestampDelta).done();
  // Field 4, whose bytes are many: only its head goes through the writer.
  const payloadHead = new MessageWriter(true).bytesHead(4, part.payload.length).done();
  const message = new Uint8Array(head.length + payloadHead.length + part.payload.length);
  message.set(head);
  message.set(payloadHead, head.length);
  message.set(part.payload, head.length + payloadHead.length);
  const isLong = long || message.length > 0xffff;
  return packet(isLong ? PACKET.longPlaybackPacket : PACKET.playbackPacket, message);
}
