/**
 * A WebSocket (RFC 6455) as a stream of bytes, on top of one: the opening handshake of a client, and
 * its frames. Where messages begin and end is of no interest to those who use it here, so only what
 * is in the binary ones is passed on.
 *
 * It exists beside the runtime's own `WebSocket` because that reads as fast as the server sends,
 * into memory without a bound, and cannot be broken off.
 *
 * A frame is FIN, three reserved bits and the opcode · mask bit and length (7 bits, 126: u16, 127:
 * u64 follows) · four bytes of mask, only from the client · payload.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";

/** What the other side sent is no WebSocket. */
export class WebSocketError extends Error {
  /** Always `WebSocketError`. */
  override readonly name = "WebSocketError";
}

const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const MAX_HANDSHAKE_BYTES = 16 * 1024;
const MAX_CONTROL_BYTES = 125;
/** A payload is passed on as it comes; this only tells nonsense from a message. */
const MAX_FRAME_BYTES = 64 * 2 ** 20;

/** The request that asks for a WebSocket, and what is needed to judge the answer. */
export function webSocketRequest(
  options: {
    readonly host: string;
    readonly path: string;
    readonly headers: Readonly<Record<string, string>>;
    /** Sixteen random bytes. */
    readonly nonce: Uint8Array;
  },
): { readonly bytes: Uint8Array; readonly accept: string } {
  const key = Buffer.from(options.nonce).toString("base64");
  const lines = [
    `GET ${options.path} HTTP/1.1`,
    `Host: ${options.host}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    `Sec-WebSocket-Key: ${key}`,
    ...Object.entries(options.headers).map(([name, value]) => `${name}: ${value}`),
  ];
  return {
    bytes: new TextEncoder().encode(`${lines.join("\r\n")}\r\n\r\n`),
    accept: createHash("sha1").update(key + GUID).digest("base64"),
  };
}

/**
 * Looks for the answer to the handshake in what came so far.
 *
 * @returns how many bytes it has; `undefined` while it is not whole
 * @throws WebSocketError where the server refuses
 */
export function readHandshake(bytes: Uint8Array, accept: string): number | undefined {
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, MAX_HANDSHAKE_BYTES));
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) {
    if (bytes.length < MAX_HANDSHAKE_BYTES) return undefined;
    throw new WebSocketError("the server's answer has no end");
  }
  const [status = "", ...headers] = text.slice(0, end).split("\r\n");
  if (!/^HTTP\/1\.1 101\b/.test(status)) {
    throw new WebSocketError(`the server answers "${status.slice(0, 80)}", expected 101`);
  }
  const given = headers.map((line) => /^sec-websocket-accept:\s*(\S+)\s*$/i.exec(line)?.[1])
    .find((value) => value !== undefined);
  if (given !== accept) throw new WebSocketError("the server did not understand the handshake");
  return end + 4;
}

/** A frame of a client, masked as the standard wants it. */
export function clientFrame(
  opcode: "binary" | "pong" | "close",
  payload: Uint8Array,
  mask: Uint8Array,
): Uint8Array {
  const { length } = payload;
  const header = length < 126
    ? [0x80 | length]
    : length <= 0xffff
    ? [0x80 | 126, length >> 8, length & 255]
    : [0x80 | 127, 0, 0, 0, 0, length >>> 24, length >> 16 & 255, length >> 8 & 255, length & 255];
  const frame = new Uint8Array(1 + header.length + 4 + length);
  frame[0] = 0x80 | OPCODE[opcode];
  frame.set(header, 1);
  frame.set(mask.subarray(0, 4), 1 + header.length);
  const start = 1 + header.length + 4;
  for (let index = 0; index < length; index++) {
    frame[start + index] = (payload[index] ?? 0) ^ (mask[index & 3] ?? 0);
  }
  return frame;
}

/** Takes a server's frames apart, however the stream is cut; keeps at most one header or control frame. */
export class FrameReader {
  #head = new Uint8Array(0);
  /** Left of the payload of the present frame. */
  #left = 0;
  #isBinary = false;
  #control: { readonly opcode: number; bytes: Uint8Array } | undefined;

  readonly #onPing: (payload: Uint8Array) => void;
  #isClosed = false;

  /** `onPing` is given what is to be answered. */
  constructor({ onPing }: { readonly onPing: (payload: Uint8Array) => void }) {
    this.#onPing = onPing;
  }

  /** The server has closed. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /**
   * The payload of binary messages, as views; all of it is to be taken before more bytes are given.
   *
   * @throws WebSocketError behind what came before it
   */
  *push(bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
    let rest = bytes;
    while (true) {
      if (this.#left > 0) {
        const part = rest.subarray(0, Math.min(this.#left, rest.length));
        if (part.length === 0) return;
        rest = rest.subarray(part.length);
        this.#left -= part.length;
        if (this.#control) this.#control.bytes = joined(this.#control.bytes, part);
        else if (this.#isBinary) yield part;
      }
      if (this.#left === 0 && this.#control) {
        if (this.#control.opcode === OPCODE.ping) this.#onPing(this.#control.bytes);
        this.#isClosed ||= this.#control.opcode === OPCODE.close;
        this.#control = undefined;
      }
      if (this.#isClosed) return; // what stands behind it is nothing
      if (this.#left > 0 || (rest.length === 0 && this.#head.length === 0)) return;
      const head = this.#head.length === 0 ? rest : joined(this.#head, rest);
      const headBytes = this.#begin(head);
      if (headBytes === undefined) {
        this.#head = head.slice();
        return;
      }
      this.#head = new Uint8Array(0);
      rest = head.subarray(headBytes);
    }
  }

  /** Begins a frame, and gives the length of its header; `undefined` where that is not whole. */
  #begin(head: Uint8Array): number | undefined {
    const [first, second] = head;
    if (first === undefined || second === undefined) return undefined;
    const opcode = first & 15;
    if ((first & 0x70) !== 0) throw new WebSocketError("a frame uses an extension not asked for");
    if ((second & 0x80) !== 0) throw new WebSocketError("a frame of the server is masked");
    const short = second & 0x7f;
    const headBytes = short === 127 ? 10 : short === 126 ? 4 : 2;
    if (head.length < headBytes) return undefined;
    const view = new DataView(head.buffer, head.byteOffset, headBytes);
    const length = short === 127
      ? view.getUint32(2) * 2 ** 32 + view.getUint32(6)
      : short === 126
      ? view.getUint16(2)
      : short;
    const isControl = opcode >= 8;
    if (length > (isControl ? MAX_CONTROL_BYTES : MAX_FRAME_BYTES)) {
      throw new WebSocketError(`a frame declares ${length} bytes`);
    }
    if (isControl) {
      if (opcode > OPCODE.pong) {
        throw new WebSocketError(`a frame has the unknown opcode ${opcode}`);
      }
      this.#control = { opcode, bytes: new Uint8Array(0) };
    } else if (opcode === OPCODE.binary) this.#isBinary = true;
    else if (opcode === OPCODE.text) this.#isBinary = false;
    else if (opcode !== OPCODE.continuation) {
      throw new WebSocketError(`a frame has the unknown opcode ${opcode}`);
    }
    this.#left = length;
    return headBytes;
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(a.length + b.length);
  whole.set(a);
  whole.set(b, a.length);
  return whole;
}
