/**
 * One HTTP exchange, made safe for a program that runs for years: it has a deadline, its body has a
 * bound that is enforced on the bytes and not on what the server declares, it never follows a
 * redirect by itself (`hosts.ts` says which ones may be), and its errors name the address without
 * the query. Connections are kept alive and belong to the client, so that closing it closes them.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { type Clock, type SourceError, sourceError, type SourceErrorKind } from "../types.ts";
import { describeUrl } from "./hosts.ts";

/** What to ask for. */
export interface HttpRequest {
  readonly signal: AbortSignal;
  /** From the first byte sent to the last received, ms. */
  readonly timeoutMs: number;
  /** A larger body is an error; counted after decompression. */
  readonly maxBytes: number;
  /** Default `GET`. */
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** What came back. */
export interface HttpResponse {
  readonly url: URL;
  readonly status: number;
  readonly headers: Headers;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Monotonic time when the request was sent, ms. */
  readonly sentMs: number;
  /** Monotonic time when the answer's header was there, ms. */
  readonly respondedMs: number;
  /** Wall time of the same moment. */
  readonly respondedAtMs: number;
}

/** An answer whose body comes in pieces, for as long as the server likes. */
export interface HttpStream {
  readonly url: URL;
  readonly status: number;
  readonly headers: Headers;
  /**
   * The next piece; `undefined` at the end.
   *
   * @throws a source error, or the signal's reason when aborted
   */
  read(): Promise<Uint8Array | undefined>;
  /** Breaks the connection; may be called twice. */
  close(): void;
}

/** A pool of connections. */
export interface Http extends Disposable {
  /**
   * Asks for an answer without an end. `timeoutMs` is how long its header may take, `signal` ends the
   * whole of it. Whoever gets a stream closes it.
   *
   * @throws as {@linkcode Http.request}
   */
  stream(
    url: URL,
    request: Pick<HttpRequest, "signal" | "timeoutMs" | "headers">,
  ): Promise<HttpStream>;
  /**
   * One exchange; a redirect is an answer like any other.
   *
   * @throws a source error, or the signal's reason when aborted
   */
  request(url: URL, request: HttpRequest): Promise<HttpResponse>;
}

/** Opens a client. `ca` names a PEM file of certificates to trust beside the usual ones. */
export async function openHttp(
  { clock, ca, fetch: injected }: {
    readonly clock: Clock;
    readonly ca?: string | undefined;
    readonly fetch?: typeof fetch | undefined;
  },
): Promise<Http> {
  const caCerts = ca === undefined ? [] : [await readCertificates(ca)];
  const client = injected ? undefined : Deno.createHttpClient({ caCerts });
  const send: (url: URL, init: RequestInit) => Promise<Response> = injected ??
    ((url, init) => fetch(url, { ...init, client }));
  let closed = false;
  return {
    request: (url, request) => exchange(url, request, { clock, send }),
    stream: (url, request) => openStream(url, request, { clock, send }),
    [Symbol.dispose]: () => {
      if (!closed) client?.close();
      closed = true;
    },
  };
}

/** Reads the file of an option `ca`. @throws a source error where it holds no certificate */
export async function readCertificates(path: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw sourceError("protocol", `ca: cannot read "${path}": ${String(cause)}`, { cause });
  }
  if (!text.includes("-----BEGIN CERTIFICATE-----")) {
    throw sourceError(
      "protocol",
      `ca: "${path}" holds no certificate: expected a PEM file ("-----BEGIN CERTIFICATE-----")`,
    );
  }
  return text;
}

async function exchange(
  url: URL,
  request: HttpRequest,
  { clock, send }: {
    readonly clock: Clock;
    readonly send: (url: URL, init: RequestInit) => Promise<Response>;
  },
): Promise<HttpResponse> {
  const { signal, timeoutMs, method = "GET" } = request;
  signal.throwIfAborted();
  const what = `${method} ${describeUrl(url)}`;
  // Linked by hand: a signal that lives for months must not gather what is tied to it.
  const stop = new AbortController();
  const timer = new AbortController();
  const onAbort = () => stop.abort(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  clock.sleep(timeoutMs, { signal: timer.signal }).then(
    () =>
      stop.abort(
        passingError("offline", `${what}: no whole answer within ${timeoutMs / 1000} s`),
      ),
    () => {}, // answered in time
  );
  try {
    const sentMs = clock.monotonic();
    const response = await send(url, {
      method,
      headers: { ...request.headers },
      ...(request.body === undefined ? {} : { body: request.body }),
      redirect: "manual",
      signal: stop.signal,
    });
    const respondedMs = clock.monotonic();
    const respondedAtMs = clock.now();
    const bytes = await readBody(response, what, request.maxBytes);
    const { status, headers } = response;
    return { url, status, headers, bytes, sentMs, respondedMs, respondedAtMs };
  } catch (error) {
    if (stop.signal.aborted) throw stop.signal.reason;
    if (error instanceof Error && "sourceErrorKind" in error) throw error;
    const reason = transportReason(error);
    // The runtime's own error is not kept as the cause: it prints the URL with its query.
    throw passingError("offline", `${what}: ${reason}`);
  } finally {
    signal.removeEventListener("abort", onAbort);
    timer.abort();
  }
}

async function openStream(
  url: URL,
  { signal, timeoutMs, headers: asked }: Pick<HttpRequest, "signal" | "timeoutMs" | "headers">,
  { clock, send }: {
    readonly clock: Clock;
    readonly send: (url: URL, init: RequestInit) => Promise<Response>;
  },
): Promise<HttpStream> {
  signal.throwIfAborted();
  const what = `GET ${describeUrl(url)}`;
  const stop = new AbortController();
  const timer = new AbortController();
  const onAbort = () => stop.abort(signal.reason);
  const close = () => {
    signal.removeEventListener("abort", onAbort);
    stop.abort(new Error("closed"));
  };
  const failure = (error: unknown): unknown => {
    const reason = stop.signal.aborted
      ? stop.signal.reason
      : passingError("offline", `${what}: ${transportReason(error)}`);
    close();
    return reason;
  };
  signal.addEventListener("abort", onAbort, { once: true });
  clock.sleep(timeoutMs, { signal: timer.signal }).then(
    () => stop.abort(passingError("offline", `${what}: no answer within ${timeoutMs / 1000} s`)),
    () => {}, // answered in time
  );
  try {
    const response = await send(url, {
      headers: { ...asked },
      redirect: "manual",
      signal: stop.signal,
    });
    const reader = response.body?.getReader();
    // An aborted body rejects what is being read; what nobody reads must be let go of too.
    stop.signal.addEventListener("abort", () => void reader?.cancel().catch(() => {}));
    const { status, headers } = response;
    return {
      ...{ url, status, headers, close },
      read: async () => {
        try {
          stop.signal.throwIfAborted();
          const piece = await reader?.read();
          stop.signal.throwIfAborted();
          return piece?.value;
        } catch (error) {
          throw failure(error);
        }
      },
    };
  } catch (error) {
    throw failure(error);
  } finally {
    timer.abort();
  }
}

async function readBody(
  response: Response,
  what: string,
  maxBytes: number,
): Promise<Uint8Array<ArrayBuffer>> {
  if (response.body === null) return new Uint8Array();
  const reader = response.body.getReader();
  const chunks: Uint8Array[] = [];
  let length = 0;
  while (true) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > maxBytes) {
      await reader.cancel();
      throw passingError(
        "protocol",
        `${what}: the answer is longer than ${maxBytes} bytes, the most that is accepted here`,
      );
    }
    chunks.push(value);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/** What went wrong below HTTP, without the URL that the runtime puts into its messages. */
function transportReason(error: unknown): string {
  const inner = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const text = (inner instanceof Error ? inner.message : String(inner))
    .replaceAll(/ ?(for url )?\(?\w+:\/\/[^\s)]*\)?/g, "");
  if (/dns error|lookup/i.test(text)) {
    return "the host name is not known: check its spelling and this machine's network";
  }
  if (/refused/i.test(text)) return "connection refused: nothing listens on that port";
  if (/certificate|UnknownIssuer|tls/i.test(text)) {
    const detail = text.split(": ").at(-1) ?? text;
    return `the server's TLS certificate was not accepted (${detail}): ` +
      `if it is the server's own, give the file of its authority in "ca"`;
  }
  if (/reading a body|end of file|incomplete|connection closed|reset/i.test(text)) {
    return "the connection broke before the answer was whole";
  }
  return `the request failed (${text.replace(/^error sending request: /, "")})`;
}

/** A source error after which the very next request may do well. */
export function passingError(
  kind: SourceErrorKind,
  message: string,
  options: { cause?: unknown } = {},
): SourceError {
  return Object.assign(sourceError(kind, message, options), { passing: true });
}

/** Whether the error was made by {@linkcode passingError}. */
export function isPassing(error: unknown): error is SourceError {
  return error instanceof Error && "passing" in error && error.passing === true;
}

/** A server that asks for more than this is not believed: a camera would be lost for days. */
const LONGEST_RETRY_AFTER_MS = 3_600_000;

/** What a `Retry-After` header asks for, ms from now; `undefined` without a sensible one. */
export function retryAfterMs(headers: Headers, nowMs: number): number | undefined {
  const value = headers.get("retry-after")?.trim() ?? "";
  const waitMs = /^\d+$/.test(value)
    ? Number(value) * 1000
    : /^[A-Z][a-z]{2}/.test(value)
    ? Date.parse(value) - serverNowMs(headers, nowMs)
    : NaN;
  return waitMs >= 0 ? Math.min(waitMs, LONGEST_RETRY_AFTER_MS) : undefined;
}

/** The time by the server's clock, for dates that it gives: ours may be wrong. */
export function serverNowMs(headers: Headers, nowMs: number): number {
  const date = Date.parse(headers.get("date") ?? "");
  return Number.isNaN(date) ? nowMs : date;
}
