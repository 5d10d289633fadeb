/**
 * The two ways to a NexusTalk server, as one stream of bytes: a plain TLS connection (port 1443), or
 * where a firewall lets nothing but the web through, a WebSocket at `/nexustalk` (port 443). The
 * server's certificate is always verified.
 *
 * @module
 */
import { isIP } from "node:net";
import { connect, type TLSSocket } from "node:tls";
import { type Clock, sourceError } from "../../types.ts";
import { clientFrame, FrameReader, readHandshake, webSocketRequest } from "../websocket.ts";

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
  /** What comes; ends when the server closes, throws a source error when it breaks. */
  readonly incoming: AsyncIterable<Uint8Array>;
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
const KEEP_ALIVE_MS = 30_000;
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
  options.signal.throwIfAborted();
  const socket = connect({
    host: address.hostname,
    port: address.port,
    ...(isIP(address.hostname) === 0 ? { servername: address.hostname } : {}),
    // Deno trusts it beside its own list.
    ...(options.ca === undefined ? {} : { ca: [options.ca] }),
  });
  try {
    return await within(CONNECT_MS, socket, address, options, async () => {
      await secured(socket, address);
      socket.setKeepAlive(true, KEEP_ALIVE_MS);
      socket.setNoDelay(true);
      return address.transport === "tls"
        ? plainStream(socket, address, options.clock)
        : await webSocketStream(socket, address, options);
    });
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** Lets `work` take no longer than `ms`; an abort or the end of the time breaks the socket. */
async function within<T>(
  ms: number,
  socket: TLSSocket,
  address: NexusAddress,
  { signal, clock }: ConnectOptions,
  work: () => Promise<T>,
): Promise<T> {
  const done = new AbortController();
  const stopped = Promise.withResolvers<never>();
  const onAbort = () => stopped.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  clock.sleep(ms, { signal: done.signal }).then(
    () =>
      stopped.reject(
        sourceError("offline", `${describeAddress(address)}: no connection within ${ms / 1000} s`),
      ),
    () => {}, // it was there in time
  );
  const working = work();
  try {
    return await Promise.race([working, stopped.promise]);
  } catch (error) {
    working.catch(() => {}); // it fails too, with the socket
    socket.destroy();
    throw error;
  } finally {
    done.abort();
    signal.removeEventListener("abort", onAbort);
  }
}

function secured(socket: TLSSocket, address: NexusAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("secureConnect", () => resolve());
    socket.once("error", (error) => reject(transportError(error, address)));
    socket.once("close", () => reject(transportError(new Error("connection closed"), address)));
  });
}

function transportError(error: Error, address: NexusAddress) {
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  const text = `${code} ${error.message}`;
  const what = describeAddress(address);
  if (/refused/i.test(text)) return sourceError("offline", `${what}: connection refused`);
  if (/notfound|dns|lookup|EAI_/i.test(text)) {
    return sourceError("offline", `${what}: the host name is not known`);
  }
  if (/cert|self.signed|issuer|altname|verify|unknownca|tls|ssl|handshake/i.test(text)) {
    return sourceError(
      "protocol",
      `${what}: the server's TLS certificate was not accepted (${error.message}): if it is a server ` +
        `of your own, give the file of its authority in "ca"`,
    );
  }
  return sourceError("offline", `${what}: the connection broke (${error.message})`);
}

/** What a socket brings, with its errors as source errors. */
async function* bytesOf(socket: TLSSocket, address: NexusAddress): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of socket) yield chunk as Uint8Array;
  } catch (error) {
    throw transportError(error instanceof Error ? error : new Error(String(error)), address);
  } finally {
    socket.destroy();
  }
}

/** How long what is unsent may hold up closing, ms. */
const CLOSE_MS = 200;

/** How a socket is written to and closed. */
function writerOf(
  socket: TLSSocket,
  clock: Clock,
): { send(bytes: Uint8Array): void; close(): Promise<void> } {
  let sent: Promise<void> | undefined;
  return {
    send(bytes) {
      if (socket.destroyed) return;
      if (socket.writableLength > MAX_UNSENT_BYTES) return void socket.destroy();
      const written = Promise.withResolvers<void>();
      socket.write(bytes, () => written.resolve());
      sent = written.promise;
      sent.then(() => sent === written.promise ? sent = undefined : undefined);
    },
    async close() {
      if (socket.closed) return;
      const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
      if (sent && !socket.destroyed) {
        const done = new AbortController();
        const tooLong = clock.sleep(CLOSE_MS, { signal: done.signal }).catch(() => {});
        await Promise.race([sent, tooLong, closed]);
        done.abort();
      }
      socket.destroy();
      await closed;
    },
  };
}

function plainStream(socket: TLSSocket, address: NexusAddress, clock: Clock): NexusStream {
  socket.on("error", () => {}); // whoever reads gets it too
  return {
    incoming: bytesOf(socket, address),
    ...writerOf(socket, clock),
  };
}

async function webSocketStream(
  socket: TLSSocket,
  address: NexusAddress,
  { random, userAgent, clock }: ConnectOptions,
): Promise<NexusStream> {
  socket.on("error", () => {}); // whoever reads gets it too
  const randomBytes = (count: number) =>
    Uint8Array.from({ length: count }, () => Math.floor(random() * 256));
  const { bytes, accept } = webSocketRequest({
    host: address.port === 443 ? address.hostname : `${address.hostname}:${address.port}`,
    path: "/nexustalk",
    headers: { "Origin": "https://home.nest.com", "User-Agent": userAgent },
    nonce: randomBytes(16),
  });
  const { send, close } = writerOf(socket, clock);
  send(bytes);
  const chunks = bytesOf(socket, address);
  let head = new Uint8Array(0);
  let rest: Uint8Array | undefined;
  while (rest === undefined) {
    const { done, value } = await chunks.next();
    if (done) {
      throw sourceError("offline", `${describeAddress(address)}: closed during the handshake`);
    }
    const grown = new Uint8Array(head.length + value.length);
    grown.set(head);
    grown.set(value, head.length);
    head = grown;
    const used = asSourceError(address, () => readHandshake(head, accept));
    if (used !== undefined) rest = head.subarray(used);
  }
  const first = rest;
  const incoming = async function* (): AsyncGenerator<Uint8Array> {
    const frames = new FrameReader();
    const take = (part: Uint8Array) => {
      const { data, pings, closed } = asSourceError(address, () => frames.push(part));
      for (const ping of pings) send(clientFrame("pong", ping, randomBytes(4)));
      return { data, closed };
    };
    try {
      for (let part: Uint8Array = first;;) {
        const { data, closed } = take(part);
        yield* data;
        if (closed) return;
        const { done, value } = await chunks.next();
        if (done) return;
        part = value;
      }
    } finally {
      await chunks.return(undefined);
    }
  };
  return {
    incoming: incoming(),
    send: (payload) => send(clientFrame("binary", payload, randomBytes(4))),
    close,
  };
}

function asSourceError<T>(address: NexusAddress, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw sourceError("protocol", `${describeAddress(address)}: ${message}`, { cause });
  }
}
