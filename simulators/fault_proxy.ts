/**
 * An HTTP proxy on loopback that stands in front of a real server and does to it what networks and
 * busy clouds do: cuts a request at a byte, stores it and loses the answer, answers 503 with
 * `Retry-After` in its place, damages a byte, crawls, or says nothing. Without a fault it passes
 * everything on unchanged.
 *
 * @module
 */
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { request as requestTls } from "node:https";
import { systemClock } from "../core/clock.ts";
import type { Clock } from "../core/types.ts";

/** What goes wrong with a request. */
export type ProxyFault =
  /** The connection breaks when so many bytes of the request's body have been passed on. */
  | { readonly kind: "reset"; readonly afterBytes: number }
  /** The server does what it is asked, but its answer never arrives. */
  | { readonly kind: "lose-answer" }
  /** This answer is given and the server is not asked. */
  | {
    readonly kind: "answer";
    readonly status: number;
    readonly headers?: Readonly<Record<string, string>>;
    readonly body?: string;
  }
  /** One bit of the byte at `at` is flipped on the way. */
  | { readonly kind: "damage"; readonly at: number }
  /** The body is taken no faster than this. */
  | { readonly kind: "slow"; readonly bytesPerSecond: number }
  /** So many bytes of the body are taken, then no more; the connection stays. */
  | { readonly kind: "hold"; readonly afterBytes: number }
  /** The body is not taken and nothing is said. */
  | { readonly kind: "silence" };

/** A request as the proxy saw it. */
export interface ProxiedRequest {
  /** Upper case. */
  readonly method: string;
  /** Without the query, which may hold a signature. */
  readonly path: string;
  /** May hold a signature: not for printing. */
  readonly query: URLSearchParams;
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** The announced length of the body; `undefined` if it comes in chunks or there is none. */
  readonly announcedBytes: number | undefined;
  /** Bytes of the body passed on. */
  bodyBytes: number;
  /** What was done to it. */
  fault?: ProxyFault["kind"];
  /** The server's own status, also when the client never got it. */
  status?: number;
}

/** A running proxy. */
export interface FaultProxy extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** All requests so far, in order. */
  readonly requests: readonly ProxiedRequest[];
  /** Does this to the next `times` (default 1) requests that match; the oldest wish comes first. */
  next(
    fault: ProxyFault,
    options?: { readonly times?: number; readonly when?: (request: ProxiedRequest) => boolean },
  ): void;
  /** Decides for each request that no wish of `next` covers; `undefined` passes it on. */
  decide?: ((request: ProxiedRequest) => ProxyFault | undefined) | undefined;
  /** Breaks all connections and frees the port. */
  close(): Promise<void>;
}

interface Wish {
  readonly fault: ProxyFault;
  readonly when: (request: ProxiedRequest) => boolean;
  left: number;
}

/**
 * Starts a proxy in front of `target`, such as `http://127.0.0.1:10000`. A server on loopback is
 * told the host that the client named, for it may be part of a signature; any other server is told
 * its own name.
 */
export async function startFaultProxy(
  options: { readonly target: string; readonly clock?: Clock },
): Promise<FaultProxy> {
  const target = new URL(options.target);
  const clock = options.clock ?? systemClock;
  const requests: ProxiedRequest[] = [];
  const wishes: Wish[] = [];
  const closing = new AbortController();

  const server = createServer((incoming, outgoing) => {
    const url = new URL(incoming.url ?? "/", target);
    const seen: ProxiedRequest = {
      method: incoming.method ?? "GET",
      path: url.pathname,
      query: url.searchParams,
      headers: { ...incoming.headers },
      announcedBytes: announced(incoming.headers["content-length"]),
      bodyBytes: 0,
    };
    requests.push(seen);
    const wish = wishes.find(({ left, when }) => left > 0 && when(seen));
    if (wish) wish.left--;
    const fault = wish?.fault ?? proxy.decide?.(seen);
    if (fault) seen.fault = fault.kind;
    pass(incoming, outgoing, seen, fault).catch(() => outgoing.destroy());
  });

  async function pass(
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    seen: ProxiedRequest,
    fault: ProxyFault | undefined,
  ): Promise<void> {
    if (fault?.kind === "silence") return;
    if (fault?.kind === "answer") {
      for await (const _ of incoming); // a client that is still sending would not read the answer
      outgoing.writeHead(fault.status, { ...fault.headers });
      outgoing.end(fault.body);
      return;
    }
    const isLocal = /^(127\.|localhost$|\[::1\]$)/.test(target.hostname);
    const upstream = (target.protocol === "https:" ? requestTls : request)({
      host: target.hostname,
      port: target.port,
      method: seen.method,
      path: incoming.url,
      headers: { ...incoming.headers, ...(isLocal ? {} : { host: target.host }) },
      agent: false,
    });
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      upstream.on("response", resolve);
      upstream.on("error", reject);
    });
    let answer: IncomingMessage;
    try {
      // A server that refuses a request answers before it has the body, or takes no more of it.
      const sent = sendBody(incoming, { upstream, answered, seen, fault });
      answer = await Promise.race([answered, sent.then(() => answered)]);
    } catch (error) {
      upstream.destroy();
      throw error;
    }
    seen.status = answer.statusCode ?? 0;
    if (fault?.kind === "lose-answer") {
      for await (const _ of answer);
      throw new Error("the answer is lost");
    }
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
    for await (const chunk of answer) outgoing.write(chunk);
    outgoing.end();
  }

  /** Passes the body on; what comes after the answer is taken from the client and dropped. */
  async function sendBody(
    incoming: IncomingMessage,
    { upstream, answered, seen, fault }: {
      readonly upstream: ReturnType<typeof request>;
      readonly answered: Promise<unknown>;
      readonly seen: ProxiedRequest;
      readonly fault: ProxyFault | undefined;
    },
  ): Promise<void> {
    let isAnswered = false;
    const over = answered.then(() => void (isAnswered = true));
    over.catch(() => {}); // raced below
    const write = (chunk: Uint8Array) =>
      Promise.race([
        over,
        new Promise<void>((resolve, reject) =>
          upstream.write(chunk, (error) => error ? reject(error) : resolve())
        ),
      ]);
    if (fault?.kind === "reset" && fault.afterBytes === 0) throw new Error("reset");
    for await (const chunk of incoming as AsyncIterable<Uint8Array>) {
      if (isAnswered) continue;
      let part = chunk;
      if (fault?.kind === "damage" && fault.at >= seen.bodyBytes) {
        const at = fault.at - seen.bodyBytes;
        if (at < chunk.length) {
          part = Uint8Array.from(chunk);
          part[at] = (part[at] ?? 0) ^ 1;
        }
      }
      if (fault?.kind === "slow") {
        await clock.sleep(chunk.length / fault.bytesPerSecond * 1000, { signal: closing.signal });
      }
      if (fault?.kind === "hold" && seen.bodyBytes + chunk.length > fault.afterBytes) {
        await new Promise((_, reject) =>
          closing.signal.addEventListener("abort", () => reject(closing.signal.reason))
        );
      }
      const cut = fault?.kind === "reset" && seen.bodyBytes + part.length >= fault.afterBytes;
      if (cut) part = part.subarray(0, fault.afterBytes - seen.bodyBytes);
      await write(part);
      seen.bodyBytes += part.length;
      if (cut) throw new Error("reset");
    }
    if (!isAnswered) upstream.end();
  }

  server.keepAliveTimeout = 1000;
  server.requestTimeout = 0; // a held request is meant to wait
  const { promise: listening, resolve, reject } = Promise.withResolvers<void>();
  server.on("error", reject);
  server.listen(0, "127.0.0.1", resolve);
  await listening;
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;

  const proxy: FaultProxy = {
    url: `http://127.0.0.1:${port}`,
    requests,
    next: (fault, { times = 1, when = () => true } = {}) => {
      wishes.push({ fault, when, left: times });
    },
    close: async () => {
      closing.abort();
      const closed = new Promise<void>((done) => server.close(() => done()));
      server.closeAllConnections();
      await closed;
    },
    [Symbol.asyncDispose]: () => proxy.close(),
  };
  return proxy;
}

function announced(length: string | undefined): number | undefined {
  return length === undefined ? undefined : Number(length);
}
