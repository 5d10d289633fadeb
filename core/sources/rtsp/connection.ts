/**
 * One RTSP connection: TCP or TLS, requests matched to answers by `CSeq`, frames handed on as they
 * are read. What the camera asks is answered. A connection that breaks says so once.
 *
 * Deno's own sockets are used, because they read into a buffer that is used again.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { type Clock, sourceError } from "../../types.ts";
import { InterleavedReader } from "./interleaved.ts";
import {
  formatMessage,
  RtspError,
  type RtspHeaders,
  type RtspRequest,
  type RtspResponse,
} from "./message.ts";
import { lendReadBuffer, READ_BYTES } from "../read_buffers.ts";
import { readPaceOf, ReadSpan } from "../read_pace.ts";
import { beginRead, connectSecurely, isThere } from "../secure_socket.ts";
import { lowWaterOf } from "../socket_options.ts";
import { describeRtspUrl, type RtspUrl } from "./url.ts";

/** What a connection needs. */
export interface ConnectionOptions {
  readonly url: RtspUrl;
  /** A PEM file of certificates to trust beside the usual ones. */
  readonly ca: string | undefined;
  readonly clock: Clock;
  /** Of the whole session: a connection that it outlives is closed with it. */
  readonly signal: AbortSignal;
  /** See `InterleavedHandler`. */
  onFrame(channel: number, data: Uint8Array, from: number, to: number): void;
  /** Something has been read, and is handed on next. */
  onRead(): void;
  /**
   * What had come is taken: there is nothing to do until more comes. Returns how long after its time
   * the newest picture of it came, ms from anywhere, if there was one.
   */
  onRest(): number | undefined;
  /** The connection is of no more use. Called once, unless it was closed from this side. */
  onLost(error: unknown): void;
}

/** What goes with a request. */
export interface RtspRequestOptions {
  readonly fields: readonly (readonly [string, string])[];
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** An open connection. */
export interface RtspConnection {
  /** Sends a request and waits for its answer. @throws a source error, or the signal's reason */
  request(method: string, uri: string, options: RtspRequestOptions): Promise<RtspResponse>;
  /** The channels that were agreed on. */
  readonly channels: Set<number>;
  /** From now on the socket is read at the common pace (`read_pace.ts`). */
  gather(isGathering: boolean): void;
  /** While true nothing is read: the camera has to wait. */
  hold(isHeld: boolean): void;
  /** Bytes that belonged to nothing. */
  readonly skippedBytes: number;
  /** The address at the other end, for UDP. */
  readonly remoteAddress: string;
  /** Resolves when what was to be sent is sent. */
  written(): Promise<void>;
  close(): void;
}

/** At first a read of so much is followed by another at once: the kernel may hold no more. */
const LARGE_READ_BYTES = 49_152;
/** What is waited for is read into so much: a record of TLS, and any answer. */
const PIECE_BYTES = 16_384;
const CONNECT_MS = 5000;
const USER_AGENT = "camsink"; // some cameras answer 401 to a client without a name

/** What a read gave, and whether more is there. */
interface Gave {
  readonly count: number;
  readonly isMore: boolean;
}

interface Waiting {
  resolve(response: RtspResponse): void;
  reject(error: unknown): void;
}

/** Connects. @throws a source error of kind `offline`, or the signal's reason */
export async function connectRtsp(options: ConnectionOptions): Promise<RtspConnection> {
  const conn = await connectSocket(options);
  const { clock, signal, url } = options;
  const what = describeRtspUrl(url);
  const waiting = new Map<number, Waiting>();
  const closing = new AbortController();
  let cseq = 0;
  let gathering: AbortController | undefined;
  let held: PromiseWithResolvers<void> | undefined;
  let lastWrite: Promise<unknown> = Promise.resolve();

  const write = (text: string): Promise<void> => {
    const bytes = new TextEncoder().encode(text);
    const written = lastWrite.then(async () => {
      for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
    });
    lastWrite = written.catch(() => {}); // who waits for the answer is told by the reader
    return written;
  };

  const answer = (request: RtspRequest): void => {
    const known = ["OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "ANNOUNCE", "TEARDOWN", "REDIRECT"];
    const status = known.includes(request.method) ? "200 OK" : "501 Not Implemented";
    const fields: [string, string][] = [["CSeq", request.headers.get("cseq") ?? "0"]];
    const session = request.headers.get("session");
    if (session !== undefined) fields.push(["Session", session]);
    if (request.method === "OPTIONS") fields.push(["Public", "OPTIONS, GET_PARAMETER"]);
    write(formatMessage(`RTSP/1.0 ${status}`, fields)).catch(() => {});
    if (request.method === "TEARDOWN" || request.method === "REDIRECT") {
      throw sourceError("offline", `${what}: the camera ended the session (${request.method})`);
    }
  };

  const reader = new InterleavedReader({
    onFrame: options.onFrame,
    onMessage(message) {
      if (message.kind === "request") return answer(message);
      const number = Number(message.headers.get("cseq")?.split(",")[0] ?? NaN);
      // A camera that leaves the number out answers the only request there is.
      const key = waiting.has(number) ? number : waiting.size === 1 ? [...waiting.keys()][0] : NaN;
      waiting.get(key ?? NaN)?.resolve(message);
    },
  });

  const close = () => {
    if (closing.signal.aborted) return;
    closing.abort(sourceError("offline", `${what}: the connection was closed`));
    gathering?.abort();
    signal.removeEventListener("abort", close);
    held?.resolve();
    for (const { reject } of waiting.values()) reject(closing.signal.reason);
    try {
      conn.close();
    } catch {
      // The other side was faster.
    }
  };

  const pace = readPaceOf(clock);
  const readSpan = new ReadSpan({ bufferBytes: READ_BYTES });
  const lowWater = lowWaterOf(conn);

  /** Waits for what comes next. */
  const readPiece = async (piece: Uint8Array<ArrayBuffer>): Promise<Gave> => {
    const reading = beginRead(conn, piece);
    const isMore = await isThere(reading);
    const count = checkCount(await reading.count);
    const buffer = await lendReadBuffer();
    try {
      reader.space(buffer.bytes).set(piece.subarray(0, count));
      options.onRead();
      reader.advance(count);
    } finally {
      buffer.release();
    }
    return { count, isMore };
  };

  /** Reads what has come since the moment before. */
  const readGathered = async (): Promise<Gave> => {
    const buffer = await lendReadBuffer();
    try {
      const space = reader.space(buffer.bytes);
      const reading = beginRead(conn, space);
      if (!await isThere(reading)) await buffer.pass(reading.count);
      const count = checkCount(await reading.count);
      options.onRead();
      reader.advance(count);
      const isMore = count === space.length || (readSpan.span === 1 && count >= LARGE_READ_BYTES);
      return { count, isMore };
    } finally {
      buffer.release();
    }
  };

  const checkCount = (count: number | null): number => {
    if (count !== null) return count;
    throw sourceError("offline", `${what}: the camera closed the connection`);
  };

  const read = async (): Promise<void> => {
    const piece = new Uint8Array(PIECE_BYTES);
    let gatheredBytes = 0;
    let isMore = false;
    while (!closing.signal.aborted) {
      if (held !== undefined) await held.promise;
      let isUnheard = false; // the first read after a mark was lowered always has to wait
      if (gathering !== undefined && !isMore) {
        // Who says good-bye does not wait for the common moment.
        await pace.next(gathering.signal, readSpan.span, lowWater).catch(() => {});
        if (closing.signal.aborted) return;
        isUnheard = lowWater !== undefined;
      }
      // A read of TLS gives a few kilobytes, however much is there: so until one has to wait.
      const isByPieces = gathering === undefined || url.secure;
      const gave = isByPieces ? await readPiece(piece) : await readGathered();
      gatheredBytes += gave.count;
      isMore = gave.isMore || (isByPieces && isUnheard);
      if (isMore) continue;
      const delayMs = options.onRest();
      if (gathering !== undefined) readSpan.note(gatheredBytes, delayMs);
      gatheredBytes = 0;
    }
  };
  read().catch((error: unknown) => {
    if (closing.signal.aborted) return;
    const reason = lostError(error, what);
    for (const { reject } of waiting.values()) reject(reason);
    close();
    options.onLost(reason);
  });
  signal.addEventListener("abort", close, { once: true });
  if (signal.aborted) close();

  return {
    channels: reader.channels,
    get skippedBytes() {
      return reader.skippedBytes;
    },
    remoteAddress: "hostname" in conn.remoteAddr ? conn.remoteAddr.hostname : url.hostname,
    gather(on) {
      gathering?.abort();
      gathering = on && !closing.signal.aborted ? new AbortController() : undefined;
    },
    hold(on) {
      if (on) held ??= Promise.withResolvers();
      else {
        held?.resolve();
        held = undefined;
      }
    },
    written: async () => {
      await lastWrite;
    },
    close,
    async request(method, uri, { fields, timeoutMs, signal }) {
      closing.signal.throwIfAborted();
      signal.throwIfAborted();
      const number = ++cseq;
      const answered = Promise.withResolvers<RtspResponse>();
      waiting.set(number, answered);
      const timer = new AbortController();
      const abort = () => answered.reject(signal.reason);
      signal.addEventListener("abort", abort, { once: true });
      clock.sleep(timeoutMs, { signal: timer.signal }).then(
        () =>
          answered.reject(
            sourceError("offline", `${what}: no answer to ${method} within ${timeoutMs / 1000} s`),
          ),
        () => {}, // answered in time
      );
      try {
        write(formatMessage(`${method} ${uri} RTSP/1.0`, [
          ["CSeq", String(number)],
          ["User-Agent", USER_AGENT],
          ...fields,
        ])).catch((error) => answered.reject(lostError(error, what)));
        return await answered.promise;
      } finally {
        waiting.delete(number);
        timer.abort();
        signal.removeEventListener("abort", abort);
      }
    },
  };
}

/** The value of a field of an answer. */
export function field(response: { readonly headers: RtspHeaders }, name: string): string {
  return response.headers.get(name) ?? "";
}

async function connectSocket(
  { url, ca, clock, signal }: ConnectionOptions,
): Promise<Deno.Conn> {
  signal.throwIfAborted();
  const what = describeRtspUrl(url);
  const caCerts = ca === undefined ? [] : [await readCertificates(ca)];
  const given = new AbortController(); // up: over time, or no more wanted
  const abort = () => given.abort();
  signal.addEventListener("abort", abort, { once: true });
  const timer = new AbortController();
  let isLate = false;
  clock.sleep(CONNECT_MS, { signal: timer.signal }).then(() => {
    isLate = true;
    given.abort();
  }, () => {}); // connected in time
  try {
    const { hostname, port } = url;
    if (url.secure) {
      return await connectSecurely({ hostname, port, caCerts, signal: given.signal });
    }
    const tcp = await Deno.connect({ hostname, port, signal: given.signal });
    if (signal.aborted) tcp.close();
    signal.throwIfAborted();
    return tcp;
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (isLate) {
      throw sourceError("offline", `${what}: no connection within ${CONNECT_MS / 1000} s`);
    }
    throw connectError(error, what);
  } finally {
    timer.abort();
    signal.removeEventListener("abort", abort);
  }
}

async function readCertificates(path: string): Promise<string> {
  try {
    const text = await readFile(path, "utf8");
    if (text.includes("-----BEGIN CERTIFICATE-----")) return text;
  } catch (cause) {
    throw sourceError("protocol", `ca: cannot read "${path}": ${String(cause)}`, { cause });
  }
  throw sourceError(
    "protocol",
    `ca: "${path}" holds no certificate: expected a PEM file ("-----BEGIN CERTIFICATE-----")`,
  );
}

function connectError(error: unknown, what: string): Error {
  const text = error instanceof Error ? error.message : String(error);
  const reason = /refused/i.test(text)
    ? "connection refused: nothing listens on that port"
    : /lookup|not known|resolve|No address/i.test(text)
    ? "the host name is not known: check its spelling and this machine's network"
    : /certificate|UnknownIssuer|tls|handshake/i.test(text)
    ? `the camera's TLS certificate was not accepted (${text.split(": ").at(-1)}): if it is the ` +
      `camera's own, give the file of its authority in "ca"`
    : `the connection failed (${text})`;
  return sourceError("offline", `${what}: ${reason}`, { cause: error });
}

function lostError(error: unknown, what: string): Error {
  if (error instanceof Error && "sourceErrorKind" in error) return error;
  if (error instanceof RtspError) {
    return sourceError("protocol", `${what}: ${error.message}`, { cause: error });
  }
  const text = error instanceof Error ? error.message : String(error);
  return sourceError("offline", `${what}: the connection broke (${text})`, { cause: error });
}
