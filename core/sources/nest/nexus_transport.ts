/**
 * The two ways to a NexusTalk server, as one stream of bytes: a plain TLS connection (port 1443), or
 * where a firewall lets nothing but the web through, a WebSocket at `/nexustalk` (port 443). The
 * server's certificate is always verified.
 *
 * @module
 */
import { isIP } from "node:net";
import { type Clock, sourceError } from "../../types.ts";
import { connectSecurely, createSocketReader } from "../secure_socket.ts";
import {
  clientFrame,
  FrameReader,
  readHandshake,
  WebSocketError,
  webSocketRequest,
} from "../websocket.ts";

/** How a server is reached. */
export type NexusTransport = "tls" | "websocket";

/** Where a server is. */
export interface NexusAddress {
  readonly transport: NexusTransport;
  readonly hostname: string;
  readonly port: number;
}

/** A connection. */
export interface NexusStream {
  /**
   * What comes, in pieces that are good until the next one is asked for; ends when the server closes,
   * throws a source error when it breaks.
   */
  readonly incoming: AsyncIterable<Uint8Array>;
  /** From now on what comes is read at the common moments (`read_pace.ts`). */
  gather(): void;
  send(bytes: Uint8Array): void;
  /** Sends what was given to it, if that goes quickly, and closes. May be called again. */
  close(): Promise<void>;
}

/** What connecting works with. */
export interface ConnectOptions {
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly userAgent: string;
  /** Text of a PEM file to trust beside the usual authorities. */
  readonly ca?: string;
}

const CONNECT_MS = 5000;
/** A viewer sends a few hundred bytes in a minute: a server that takes none is dead. */
const MAX_UNSENT_BYTES = 1 << 20;

/** The address in messages. */
export function describeAddress({ transport, hostname, port }: NexusAddress): string {
  const host = isIP(hostname) === 6 ? `[${hostname}]` : hostname;
  return transport === "tls" ? `${host}:${port}` : `wss://${host}:${port}/nexustalk`;
}

/** Connects. @throws a source error that says why not; the signal's reason when aborted */
export async function connectNexus(
  address: NexusAddress,
  options: ConnectOptions,
): Promise<NexusStream> {
  const { signal, clock, ca } = options;
  signal.throwIfAborted();
  /** Up when it takes too long, or is not wanted any more. */
  const giveUp = new AbortController();
  const onAbort = () => giveUp.abort(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  const connected = new AbortController();
  clock.sleep(CONNECT_MS, { signal: connected.signal }).then(
    () =>
      giveUp.abort(sourceError(
        "offline",
        `${describeAddress(address)}: no connection within ${CONNECT_MS / 1000} s`,
      )),
    () => {}, // it was there in time
  );
  try {
    const socket = createSocket(
      await connectSecurely({
        ...{ hostname: address.hostname, port: address.port, signal: giveUp.signal },
        caCerts: ca === undefined ? [] : [ca],
      }),
      { address, clock },
    );
    return address.transport === "tls"
      ? socket
      : await overWebSocket(socket, { address, options, signal: giveUp.signal });
  } catch (error) {
    giveUp.signal.throwIfAborted();
    throw transportError(error, address);
  } finally {
    connected.abort();
    signal.removeEventListener("abort", onAbort);
  }
}

function transportError(error: unknown, address: NexusAddress): Error {
  if (error instanceof Error && "sourceErrorKind" in error) return error;
  const text = error instanceof Error ? error.message : String(error);
  const what = describeAddress(address);
  const reason = /refused/i.test(text)
    ? "connection refused"
    : /lookup|not known|resolve|No address/i.test(text)
    ? "the host name is not known"
    : /certificate|UnknownIssuer|NotValidForName/i.test(text)
    ? undefined
    : `the connection broke (${text})`;
  if (reason !== undefined) return sourceError("offline", `${what}: ${reason}`, { cause: error });
  return sourceError(
    "protocol",
    `${what}: the server's TLS certificate was not accepted (${text}): if it is a server of your ` +
      `own, give the file of its authority in "ca"`,
    { cause: error },
  );
}

/** How long what is unsent may hold up closing, ms. */
const CLOSE_MS = 200;

/** A connection as a stream of bytes. */
function createSocket(
  conn: Deno.TlsConn,
  { address, clock }: { readonly address: NexusAddress; readonly clock: Clock },
): NexusStream {
  const reader = createSocketReader(conn, clock);
  let isClosed = false;
  let unsentBytes = 0;
  let sent: Promise<void> = Promise.resolve();

  const destroy = () => {
    if (isClosed) return;
    isClosed = true;
    reader.stop();
    try {
      conn.close();
    } catch {
      // The server was faster.
    }
  };

  const write = async (bytes: Uint8Array): Promise<void> => {
    try {
      for (let at = 0; at < bytes.length && !isClosed;) at += await conn.write(bytes.subarray(at));
    } catch {
      // Whoever reads is told.
    }
    unsentBytes -= bytes.length;
  };

  const incoming = async function* (): AsyncGenerator<Uint8Array> {
    try {
      yield* reader.pieces();
    } catch (error) {
      if (!isClosed) throw transportError(error, address);
    } finally {
      destroy();
    }
  };

  return {
    incoming: incoming(),
    gather: reader.gather,
    send(bytes) {
      if (isClosed) return;
      unsentBytes += bytes.length;
      if (unsentBytes > MAX_UNSENT_BYTES) return destroy();
      sent = sent.then(() => write(bytes));
    },
    async close() {
      if (isClosed) return;
      reader.stop();
      const done = new AbortController();
      const tooLong = clock.sleep(CLOSE_MS, { signal: done.signal }).catch(() => {});
      await Promise.race([sent.then(() => conn.closeWrite()).catch(() => {}), tooLong]);
      done.abort();
      destroy();
    },
  };
}

/** The same within a WebSocket. */
async function overWebSocket(
  socket: NexusStream,
  { address, options: { random, userAgent }, signal }: {
    readonly address: NexusAddress;
    readonly options: ConnectOptions;
    readonly signal: AbortSignal;
  },
): Promise<NexusStream> {
  const randomBytes = (count: number) =>
    Uint8Array.from({ length: count }, () => Math.floor(random() * 256));
  const { bytes, accept } = webSocketRequest({
    host: address.port === 443 ? address.hostname : `${address.hostname}:${address.port}`,
    path: "/nexustalk",
    headers: { "Origin": "https://home.nest.com", "User-Agent": userAgent },
    nonce: randomBytes(16),
  });
  const giveUp = () => void socket.close();
  signal.addEventListener("abort", giveUp, { once: true });
  const chunks = socket.incoming[Symbol.asyncIterator]();
  let head = new Uint8Array(0);
  let first: Uint8Array | undefined;
  try {
    signal.throwIfAborted();
    socket.send(bytes);
    while (first === undefined) {
      const { done, value } = await chunks.next();
      if (done) {
        throw sourceError("offline", `${describeAddress(address)}: closed during the handshake`);
      }
      const grown = new Uint8Array(head.length + value.length);
      grown.set(head);
      grown.set(value, head.length);
      head = grown;
      const used = readHandshake(head, accept);
      if (used !== undefined) first = head.subarray(used);
    }
  } catch (error) {
    await socket.close();
    throw error instanceof WebSocketError ? protocolError(error, address) : error;
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
  const incoming = async function* (rest: Uint8Array): AsyncGenerator<Uint8Array> {
    const frames = new FrameReader({
      onPing: (ping) => socket.send(clientFrame("pong", ping, randomBytes(4))),
    });
    try {
      for (let part = rest;;) {
        yield* frames.push(part);
        if (frames.isClosed) return;
        const { done, value } = await chunks.next();
        if (done) return;
        part = value;
      }
    } catch (error) {
      throw error instanceof WebSocketError ? protocolError(error, address) : error;
    } finally {
      await chunks.return?.(undefined);
    }
  };
  return {
    ...socket,
    incoming: incoming(first),
    send: (payload) => socket.send(clientFrame("binary", payload, randomBytes(4))),
  };
}

function protocolError(cause: WebSocketError, address: NexusAddress): Error {
  return sourceError("protocol", `${describeAddress(address)}: ${cause.message}`, { cause });
}
