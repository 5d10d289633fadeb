/**
 * NexusTalk's packets: how they are taken out of a stream of bytes, and the messages in them that a
 * viewer writes or reads.
 *
 * A packet is `type: u8` · length: u16 big-endian, but u32 for LONG_PLAYBACK_PACKET (205) · so many
 * bytes of protobuf. Values of zero may be missing on the wire, so every missing number is 0; a
 * repeated enum comes packed or not; fields that nobody knows are skipped.
 *
 * @module
 */
import { MessageReader, MessageWriter, WireError } from "./protobuf.ts";

/** Packet types that a viewer meets. */
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
  redirect: 207,
  authorizeRequest: 212,
} as const;

/** Codecs of a channel that can be recorded. */
export const CODEC = { h264: 2, aac: 3 } as const;

/** `Error.code`. */
export const ERROR_CODE = { cameraNotConnected: 1, authorizationFailed: 3 } as const;

/** `PlaybackEnd.reason`. */
export const END_REASON = { userEnded: 0, cameraUnreachable: 4 } as const;

/** The profile of sound. */
export const AUDIO_AAC = 3;

/**
 * Profiles of pictures by the name that a camera's capabilities give them behind
 * `streaming.cameraprofile.`, the best one first.
 */
export const VIDEO_PROFILES: Readonly<Record<string, number>> = {
  VIDEO_H264_L40: 15,
  VIDEO_H264_2MBIT_L40: 9,
  VIDEO_H264_L31: 14,
  AVPROFILE_HD_MAIN_1: 2,
  VIDEO_H264_530KBIT_L31: 7,
  AVPROFILE_MOBILE_1: 1,
  VIDEO_H264_100KBIT_L30: 8,
};

/** A larger payload is refused. A key picture of 1080p has some hundred kilobytes. */
export const MAX_PAYLOAD_BYTES = 5 * 2 ** 20;
/** What may be kept of packets that are not whole yet. */
const MAX_BUFFER_BYTES = 10 * 2 ** 20;
const FIRST_BUFFER_BYTES = 64 * 1024;

/** A packet; its payload is a view that is good until the next `push`. */
export interface Packet {
  readonly type: number;
  readonly payload: Uint8Array;
}

/** Takes packets out of a stream of bytes, however it is cut. */
export class PacketReader {
  /** Holds what is left of the bytes before; grows only with bytes that really came. */
  #buffer: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #length = 0;
  /** The rest moves between two buffers, because packets are views of the one that it was in. */
  #spare: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  /**
   * The packets that are whole now; all of them are to be taken before the next bytes are given.
   *
   * @throws WireError for a length that is not believed, behind the packets before it
   */
  *push(bytes: Uint8Array): Generator<Packet, void, undefined> {
    // Mostly packets end where the bytes that came end: nothing to copy.
    const isHeld = this.#length > 0;
    if (isHeld) this.#keep(bytes);
    const all = isHeld ? this.#buffer.subarray(0, this.#length) : bytes;
    let at = 0;
    for (let next = packetAt(all, at); next !== undefined; next = packetAt(all, at)) {
      at = next.end;
      yield next;
    }
    if (isHeld) {
      if (at === 0) return;
      [this.#buffer, this.#spare] = [this.#spare, this.#buffer];
      this.#length = 0;
    }
    if (at < all.length) this.#keep(all.subarray(at));
  }

  #keep(bytes: Uint8Array): void {
    const wanted = this.#length + bytes.length;
    if (wanted > MAX_BUFFER_BYTES) {
      throw new WireError(`${wanted} bytes of packets are not whole: expected no more than 10 MiB`);
    }
    if (wanted > this.#buffer.length) {
      const grown = new Uint8Array(
        Math.min(MAX_BUFFER_BYTES, Math.max(wanted, this.#buffer.length * 2, FIRST_BUFFER_BYTES)),
      );
      grown.set(this.#buffer.subarray(0, this.#length));
      this.#buffer = grown;
    }
    this.#buffer.set(bytes, this.#length);
    this.#length = wanted;
  }
}

/** The packet that begins at `at`, and where it ends, if all of it is there. */
function packetAt(
  bytes: Uint8Array,
  at: number,
): Packet & { readonly end: number } | undefined {
  const left = bytes.length - at;
  // `!` below: the bytes are there, as was just checked.
  if (left < 3) return undefined;
  const type = bytes[at]!;
  const isLong = type === PACKET.longPlaybackPacket;
  if (isLong && left < 5) return undefined;
  const headerBytes = isLong ? 5 : 3;
  const length = isLong
    ? bytes[at + 1]! * 2 ** 24 + (bytes[at + 2]! << 16 | bytes[at + 3]! << 8 | bytes[at + 4]!)
    : bytes[at + 1]! << 8 | bytes[at + 2]!;
  if (length > MAX_PAYLOAD_BYTES) {
    throw new WireError(`a packet declares ${length} bytes: expected no more than 5 MiB`);
  }
  if (left < headerBytes + length) return undefined;
  const end = at + headerBytes + length;
  return { type, payload: bytes.subarray(at + headerBytes, end), end };
}

/** A packet as bytes; a viewer sends no long ones. */
function packet(type: number, payload: Uint8Array = new Uint8Array()): Uint8Array {
  if (payload.length > 0xffff) throw new WireError("a packet of more than 65535 bytes");
  const bytes = new Uint8Array(3 + payload.length);
  bytes.set([type, payload.length >> 8, payload.length & 255]);
  bytes.set(payload, 3);
  return bytes;
}

/** What a viewer shows to be let in: of a Nest account the session token, of Google's the other. */
export interface StreamToken {
  readonly kind: "session" | "olive";
  readonly token: string;
}

function authorization({ kind, token }: StreamToken): Uint8Array {
  return new MessageWriter().bytes(kind === "session" ? 1 : 4, token).done();
}

/** HELLO, the first packet of a connection. */
export function helloPacket(
  hello: {
    readonly uuid: string;
    /** Random, new for each connection. */
    readonly deviceId: string;
    readonly userAgent: string;
    readonly token: StreamToken;
  },
): Uint8Array {
  const message = new MessageWriter()
    .uint(1, 3) // protocol version
    .bytes(2, hello.uuid)
    .uint(3, 0); // require_connected_camera
  if (hello.token.kind === "session") message.bytes(4, hello.token.token);
  message.bytes(6, hello.deviceId)
    .bytes(7, hello.userAgent)
    .uint(9, 3) // client type: web
    .bytes(12, authorization(hello.token));
  return packet(PACKET.hello, message.done());
}

/** AUTHORIZE_REQUEST: another token on the same connection. */
export function authorizePacket(token: StreamToken): Uint8Array {
  return packet(PACKET.authorizeRequest, authorization(token));
}

/** START_PLAYBACK of what is live. */
export function startPlaybackPacket(
  start: {
    readonly sessionId: number;
    readonly profile: number;
    readonly otherProfiles: readonly number[];
  },
): Uint8Array {
  const message = new MessageWriter().uint(1, start.sessionId).uint(2, start.profile);
  if (start.otherProfiles.length > 0) message.packed(6, start.otherProfiles);
  return packet(PACKET.startPlayback, message.done());
}

/** STOP_PLAYBACK. */
export function stopPlaybackPacket(sessionId: number): Uint8Array {
  return packet(PACKET.stopPlayback, new MessageWriter().uint(1, sessionId).done());
}

/** PING. */
export function pingPacket(): Uint8Array {
  return packet(PACKET.ping);
}

/** What ERROR says. @throws WireError */
export function readError(payload: Uint8Array): { readonly code: number; readonly text: string } {
  let code = 0;
  let text = "";
  for (const reader = new MessageReader(payload); reader.next();) {
    if (reader.field === 1) code = reader.uint();
    else if (reader.field === 2) text = reader.text();
  }
  return { code, text };
}

/** Where REDIRECT leads. @throws WireError */
export function readRedirect(payload: Uint8Array): string {
  let host = "";
  for (const reader = new MessageReader(payload); reader.next();) {
    if (reader.field === 1) host = reader.text();
  }
  return host;
}

/** A channel of a playback. */
export interface Channel {
  readonly id: number;
  readonly codec: number;
  /** Ticks per second of its timestamps; 0 where the server does not say. */
  readonly sampleRate: number;
  /** Unix seconds; 0 where the server does not say. */
  readonly startTime: number;
}

/** PLAYBACK_BEGIN. */
export interface PlaybackBegin {
  readonly sessionId: number;
  readonly channels: readonly Channel[];
}

/** There are two of them; a list without end is not believed. */
const MAX_CHANNELS = 16;

/** Reads PLAYBACK_BEGIN. @throws WireError */
export function readPlaybackBegin(payload: Uint8Array): PlaybackBegin {
  let sessionId = 0;
  const channels: Channel[] = [];
  for (const reader = new MessageReader(payload); reader.next();) {
    if (reader.field === 1) sessionId = reader.uint();
    else if (reader.field === 2) {
      channels.push(readChannel(reader.bytes()));
      if (channels.length > MAX_CHANNELS) throw new WireError("a playback of too many channels");
    }
  }
  return { sessionId, channels };
}

function readChannel(message: Uint8Array): Channel {
  const channel = { id: 0, codec: 0, sampleRate: 0, startTime: 0 };
  for (const reader = new MessageReader(message); reader.next();) {
    if (reader.field === 1) channel.id = reader.uint();
    else if (reader.field === 2) channel.codec = reader.uint();
    else if (reader.field === 3) channel.sampleRate = reader.uint();
    // Sources disagree about the fields 6 and 7: they are skipped, by their wire type.
    else if (reader.field === 5 && reader.wireType === 1) channel.startTime = reader.double();
  }
  return channel;
}

/** PLAYBACK_END. @throws WireError */
export function readPlaybackEnd(
  payload: Uint8Array,
): { readonly sessionId: number; readonly reason: number } {
  const end = { sessionId: 0, reason: 0 };
  for (const reader = new MessageReader(payload); reader.next();) {
    if (reader.field === 1) end.sessionId = reader.uint();
    else if (reader.field === 2) end.reason = reader.uint();
  }
  return end;
}

/** A piece of picture or sound; its payload is a view. */
export interface PlaybackPart {
  readonly sessionId: number;
  readonly channelId: number;
  /** In ticks of the channel. */
  readonly timestampDelta: number;
  readonly payload: Uint8Array;
}

const NOTHING = new Uint8Array();

/** Reads PLAYBACK_PACKET and LONG_PLAYBACK_PACKET. @throws WireError */
export function readPlaybackPart(message: Uint8Array): PlaybackPart {
  let sessionId = 0;
  let channelId = 0;
  let timestampDelta = 0;
  let payload: Uint8Array = NOTHING;
  for (const reader = new MessageReader(message); reader.next();) {
    switch (reader.field) {
      case 1:
        sessionId = reader.uint();
        break;
      case 2:
        channelId = reader.uint();
        break;
      case 3:
        timestampDelta = reader.sint();
        break;
      case 4:
        payload = reader.bytes();
        break;
    }
  }
  return { sessionId, channelId, timestampDelta, payload };
}
