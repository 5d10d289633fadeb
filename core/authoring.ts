/**
 * Helpers for authors of sinks, for what every sink must get right: keys in URLs, bytes that are
 * proved while they pass, answers of HTTP servers turned into remedies. All are optional; a sink may
 * do it another way.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { type IncomingMessage, request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { type Clip, type PutOptions, type Secret, SinkError } from "./types.ts";

/**
 * The parts of a key between its slashes.
 *
 * @throws {@linkcode SinkError} `permanent` if a part is empty, `.` or `..`, or holds a backslash or
 * a control character: no such key is Camsink's, and it could lead out of the sink's place
 */
export function keyParts(key: string): string[] {
  const parts = key.split("/");
  // deno-lint-ignore no-control-regex -- control characters are what is looked for
  const isOdd = (part: string) => /^\.{0,2}$|[\\\u0000-\u001f]/.test(part);
  if (!parts.some(isOdd)) return parts;
  throw new SinkError(
    "permanent",
    `the key ${JSON.stringify(key)} is not a plain relative path, so it is not stored`,
  );
}

/** The key as the path of a URL: `a b/c.mp4` → `a%20b/c.mp4`. @throws as {@linkcode keyParts} */
export function encodeKey(key: string): string {
  return keyParts(key).map((part) =>
    encodeURIComponent(part.toWellFormed()).replace(
      /[!'()*]/g,
      (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
    )
  ).join("/");
}

/**
 * The clip's bytes, proved while they pass: the last of them come only when size and SHA-256 are what
 * was recorded, so a store that wants to see the whole never takes a damaged clip.
 *
 * @throws (the iteration) {@linkcode SinkError} `permanent` if the local copy is damaged; the
 * signal's reason when aborted
 */
export async function* provenBytes(
  clip: Clip,
  options: Pick<PutOptions, "signal" | "progress">,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  const hash = createHash("sha256");
  let bytes = 0;
  let held: Uint8Array<ArrayBuffer> | undefined;
  options.signal.throwIfAborted();
  options.progress(0);
  for await (const chunk of clip.open()) {
    options.signal.throwIfAborted();
    if (held !== undefined) {
      yield held;
      options.progress(bytes);
    }
    hash.update(chunk);
    bytes += chunk.length;
    held = chunk;
    if (bytes > clip.bytes) break;
  }
  options.signal.throwIfAborted();
  const sha256 = hash.digest("hex");
  if (bytes !== clip.bytes || sha256 !== clip.sha256) {
    throw new SinkError(
      "permanent",
      `the local copy of ${clip.key} is damaged: read ${bytes} bytes with SHA-256 ${sha256}, ` +
        `expected ${clip.bytes} bytes with ${clip.sha256}`,
    );
  }
  if (held !== undefined) yield held;
  options.progress(bytes);
}

/** What an HTTP server answered, read to its end. */
export interface HttpAnswer {
  /** Such as 201. */
  readonly status: number;
  /** Of 200 to 299. */
  readonly ok: boolean;
  /** A header by its name in lower case. */
  header(name: string): string | undefined;
  /** The body's first 64 KiB. */
  readonly text: string;
}

/** One request. */
export interface HttpRequest {
  /** `PUT`, `POST` … */
  readonly method: string;
  /** `http:` or `https:`; credentials belong into a header. */
  readonly url: string;
  /** As they are to be sent. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as it comes, at the pace at which the server takes it; `bytes` is its announced length. */
  readonly body?: {
    readonly bytes: number;
    readonly data: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  };
  /** Ends it. */
  readonly signal: AbortSignal;
}

/**
 * Makes one HTTP request over a connection of its own and reads the answer. Unlike `fetch` it can
 * announce the length of a streamed body, which S3, Nextcloud and many others insist on; it follows
 * no redirect and tries nothing twice.
 *
 * @throws {@linkcode SinkError} `retry` that names the host if no answer comes, what `body.data`
 * throws, or the signal's reason
 */
export async function httpSend(asked: HttpRequest): Promise<HttpAnswer> {
  const { method, signal, body } = asked;
  const url = new URL(asked.url);
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const outgoing = (url.protocol === "https:" ? httpsRequest : httpRequest)(url, {
    method,
    agent: false,
    headers: {
      "user-agent": "camsink",
      ...asked.headers,
      ...(body || method === "PUT" || method === "POST"
        ? { "content-length": String(body?.bytes ?? 0) }
        : {}),
    },
  });
  outgoing.on("response", resolve);
  outgoing.on("error", reject);
  const abort = () => {
    outgoing.destroy();
    reject(signal.reason);
  };
  signal.addEventListener("abort", abort, { once: true });
  let answered = false;
  promise.then(() => answered = true, () => {}); // awaited below, perhaps after the body failed
  try {
    try {
      for await (const chunk of body?.data ?? []) {
        if (answered) break; // refused before it had all: the rest is not wanted
        await Promise.race([
          promise,
          new Promise<void>((done) => outgoing.write(chunk, () => done())),
        ]);
      }
    } catch (error) {
      outgoing.destroy();
      signal.throwIfAborted();
      throw error instanceof SinkError ? error : noAnswer(url, error);
    }
    if (!answered) outgoing.end();
    try {
      return await readAnswer(await promise);
    } catch (error) {
      signal.throwIfAborted();
      throw noAnswer(url, error);
    }
  } finally {
    signal.removeEventListener("abort", abort);
    outgoing.destroy();
  }
}

/**
 * The header of HTTP's Basic authentication (RFC 7617), in UTF-8. Reads the password each time, so that
 * a new one needs no restart.
 *
 * @throws {@linkcode SinkError} `auth` if the password cannot be read
 */
export async function httpAuth(
  { username, password }: { readonly username: string; readonly password: Secret },
): Promise<{ readonly authorization: string }> {
  let revealed: string;
  try {
    revealed = await password.reveal();
  } catch (error) {
    throw new SinkError("auth", error instanceof Error ? error.message : String(error));
  }
  const login = Buffer.from(`${username}:${revealed}`).toString("base64");
  return { authorization: `Basic ${login}` };
}

/** Sends a clip as the body of one request (`PUT` by default). @throws as {@linkcode httpSend} */
export function sendClip(
  url: string,
  options: {
    readonly clip: Clip;
    readonly options: Pick<PutOptions, "signal" | "progress">;
    readonly method?: string;
    readonly headers?: Readonly<Record<string, string>>;
  },
): Promise<HttpAnswer> {
  const { clip, options: { signal } } = options;
  return httpSend({
    method: options.method ?? "PUT",
    url,
    headers: { "content-type": clip.contentType, ...options.headers },
    body: { bytes: clip.bytes, data: provenBytes(clip, options.options) },
    signal,
  });
}

const ANSWER_BYTES = 64 * 1024;

async function readAnswer(answer: IncomingMessage): Promise<HttpAnswer> {
  let bytes = 0;
  const parts: Uint8Array[] = [];
  for await (const part of answer as AsyncIterable<Uint8Array>) {
    if (bytes < ANSWER_BYTES) parts.push(part);
    bytes += part.length;
  }
  const status = answer.statusCode ?? 0;
  return {
    status,
    ok: status >= 200 && status < 300,
    header: (name) => {
      const value = answer.headers[name.toLowerCase()];
      return Array.isArray(value) ? value.join(", ") : value;
    },
    text: await new Blob(parts as Uint8Array<ArrayBuffer>[]).text(),
  };
}

const NO_ANSWER: Readonly<Record<string, string>> = {
  ENOTFOUND: "the host is unknown: check its name and the network",
  EAI_AGAIN: "the name server does not answer: check the network",
  ECONNREFUSED: "nothing listens there: check the port, or start the server",
  ECONNRESET: "the connection broke",
};

function noAnswer(url: URL, cause: unknown): SinkError {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  const text = cause instanceof Error ? cause.message : String(cause);
  const why = NO_ANSWER[code] ??
    (/dns|lookup/i.test(text) ? NO_ANSWER.ENOTFOUND : code || "the connection broke");
  // No `cause`: a library's error may hold the request with its headers.
  return new SinkError("retry", `no answer from ${url.host}: ${why}`);
}

/**
 * The remedy for an HTTP answer that is no success: 401, 403 and 407 are `auth`; 507 is `full`; 408,
 * 425, 429, 3xx and 5xx are `retry`, with the server's `Retry-After`; every other 4xx is `permanent`.
 * The answer's body is left out of the message, for it may repeat what was sent.
 */
export function httpSinkError(
  answer: Pick<HttpAnswer, "status" | "header">,
  what: string,
): SinkError {
  const { status } = answer;
  const retryAfterMs = parseRetryAfterMs(answer.header("retry-after"), Date.now());
  const message = `${what}: the server answered ${status}`;
  if (status === 401 || status === 403 || status === 407) {
    return new SinkError("auth", `${message}: the credential is refused or lacks a right`);
  }
  if (status === 507) return new SinkError("full", `${message}: there is no room left`);
  if (status < 400) {
    return new SinkError("retry", `${message}, another address: set the address that it names`);
  }
  const passes = status >= 500 || status === 408 || status === 425 || status === 429;
  return new SinkError(passes ? "retry" : "permanent", message, {
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** The header `Retry-After` (seconds or a date, RFC 9110 §10.2.3) in ms; `undefined` if it is none. */
export function parseRetryAfterMs(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000;
  const dateMs = Date.parse(value);
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - nowMs);
}
