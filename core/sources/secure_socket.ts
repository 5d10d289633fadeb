/**
 * A TLS connection, and how it is read. Deno's own sockets are used: they read into a buffer that is
 * used again, where `node:tls` makes a buffer, a stream's events and several promises of each record.
 *
 * @module
 */
import type { Clock } from "../types.ts";
import { readPaceOf } from "./read_pace.ts";
import { lowWaterOf } from "./socket_options.ts";

/** Where to connect to, and whom to believe. */
export interface SecureSocketOptions {
  readonly hostname: string;
  readonly port: number;
  /** Texts of PEM files of authorities, beside the usual ones. */
  readonly caCerts: readonly string[];
  /** Breaks off connecting. */
  readonly signal: AbortSignal;
}

/** Connects, and verifies the certificate. @throws what the runtime says, or the signal's reason */
export async function connectSecurely(
  { hostname, port, caCerts, signal }: SecureSocketOptions,
): Promise<Deno.TlsConn> {
  signal.throwIfAborted();
  let socket: Deno.Conn | undefined;
  const giveUp = () => {
    try {
      socket?.close();
    } catch {
      // It was closed already.
    }
  };
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    const tcp = await Deno.connect({ hostname, port, signal });
    socket = tcp;
    signal.throwIfAborted();
    tcp.setKeepAlive(true);
    tcp.setNoDelay(true);
    const tls = await Deno.startTls(tcp, { hostname, caCerts: [...caCerts] });
    socket = tls;
    signal.throwIfAborted();
    await tls.handshake();
    signal.throwIfAborted();
    return tls;
  } catch (error) {
    giveUp();
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}

/** Reads of one socket. */
export interface SocketReader {
  /** What comes, each a view that is good until the next one is asked for; ends with the stream. */
  pieces(): AsyncGenerator<Uint8Array, void, undefined>;
  /** From now on what comes is read at the common moments (`read_pace.ts`). */
  gather(): void;
  /** Waits for no moment any more. */
  stop(): void;
}

/** More than a camera of 4 Mbit/s sends between two moments. */
const BUFFER_BYTES = 131_072;
/** With less room left what was read is handed on first: a record of TLS has up to 16 KiB. */
const LEAST_ROOM_BYTES = 16_384;
/** In moments: each read costs two looks at the socket, and a server keeps more than a camera. */
const SPAN = 2;

/**
 * Reads a TLS connection. How much of it the kernel holds cannot be asked: a read decrypts a few
 * kilobytes, however large the buffer. So at each moment it is read until a read has to wait. What
 * that one brings is the first of what is read at the next moment.
 */
export function createSocketReader(conn: Deno.Conn, clock: Clock): SocketReader {
  const stopping = new AbortController();
  const pace = readPaceOf(clock);
  const lowWater = lowWaterOf(conn);
  let isGathering = false;
  return {
    async *pieces() {
      const buffer = new Uint8Array(BUFFER_BYTES);
      let reading = beginRead(conn, buffer);
      /** Where the read under way puts what comes. */
      let at = 0;
      /** Whether nothing was there when the read under way began. */
      let hasToWait = true;
      while (true) {
        const count = await reading.count;
        if (count === null) return;
        buffer.copyWithin(0, at, at + count);
        at = count;
        let isUnheard = false; // the first read after a mark was lowered always has to wait
        if (isGathering && hasToWait) {
          // Who says good-bye does not wait for the common moment.
          await pace.next(stopping.signal, SPAN, lowWater).catch(() => {});
          isUnheard = lowWater !== undefined;
        }
        hasToWait = false;
        while (true) {
          reading = beginRead(conn, buffer.subarray(at));
          if (buffer.length - at < LEAST_ROOM_BYTES) break;
          if (!await isThere(reading)) {
            hasToWait = !isUnheard;
            break;
          }
          // A stream that broke is told of after what came before.
          const more = await reading.count.catch(() => null);
          if (more === null) break;
          at += more;
        }
        yield buffer.subarray(0, at);
      }
    },
    gather() {
      isGathering = true;
    },
    stop() {
      isGathering = false;
      stopping.abort();
    },
  };
}

/** A read under way. */
export interface Read {
  readonly count: Promise<number | null>;
  isSettled: boolean;
}

/** Begins to read. */
export function beginRead(conn: Deno.Conn, into: Uint8Array<ArrayBuffer>): Read {
  const read: Read = { count: conn.read(into), isSettled: false };
  const settle = () => {
    read.isSettled = true;
  };
  read.count.then(settle, settle); // who awaits it is told
  return read;
}

/** Whether a read found something: then the runtime settles it at once. Where not, it is waited for. */
export async function isThere(read: Read): Promise<boolean> {
  for (let turns = 0; turns < 3 && !read.isSettled; turns++) await undefined;
  return read.isSettled;
}
