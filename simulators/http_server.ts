/**
 * A small HTTP server on loopback for the simulators. A handler gives its reply as data; among the
 * replies are those that a real server gives only when something is wrong: no answer at all, a
 * connection reset, a body that ends before its announced length.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Socket } from "node:net";

/** One request. */
export interface Asked {
  readonly method: string;
  /** The path without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** A header by its lower-case name; empty when it is missing. */
  header(name: string): string;
  /** A cookie by its name. */
  cookie(name: string): string | undefined;
  /** The whole body as text. */
  text(): Promise<string>;
  /** Aborted when the client has gone or the server closes. */
  readonly signal: AbortSignal;
}

/** One answer. */
export interface Reply {
  /** 200 by default. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** Announce the whole body, but break the connection after so many bytes of it. */
  readonly cutAfterBytes?: number;
  /** In place of `body`: an answer without an announced end, sent as it comes. */
  readonly stream?: AsyncIterable<Uint8Array>;
}

/** What a handler decides: a reply, a closed connection, or silence until the client leaves. */
export type Answer = Reply | "reset" | "never";

/** A running server. */
export interface LoopbackServer {
  /** `http://127.0.0.1:PORT`, or `https:` with TLS. */
  readonly url: string;
  readonly port: number;
  /** Breaks all connections and frees the port. */
  close(): Promise<void>;
}

/** Certificate and key of a server, both PEM. */
export interface ServerTls {
  /** The certificate, or a chain that begins with it. */
  readonly certPem: string;
  /** Its private key, PKCS #8. */
  readonly keyPem: string;
}

/** A reply of JSON. */
export function json(value: unknown, options: Omit<Reply, "body"> = {}): Reply {
  return {
    ...options,
    headers: { "content-type": "application/json; charset=utf-8", ...options.headers },
    body: JSON.stringify(value),
  };
}

/** Starts a server on loopback; port 0 takes any free port. */
export async function listenOnLoopback(
  options: {
    readonly port?: number;
    /** `false` closes the connection after every reply, as simple cameras do. */
    readonly keepAlive?: boolean;
    readonly tls?: ServerTls;
    readonly handle: (asked: Asked) => Promise<Answer> | Answer;
  },
): Promise<LoopbackServer> {
  const closing = new AbortController();
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    request.on("error", () => gone.abort());
    try {
      const asked = readRequest(request, AbortSignal.any([gone.signal, closing.signal]));
      await send(await options.handle(asked), {
        response,
        keepAlive: options.keepAlive ?? true,
        withBody: asked.method !== "HEAD",
      });
    } catch (error) {
      if (gone.signal.aborted || closing.signal.aborted) return;
      response.writeHead(500, { "content-type": "text/plain" });
      response.end(`the simulator failed: ${error instanceof Error ? error.stack : error}`);
    }
  };
  const server: Server = options.tls
    ? createTlsServer({ cert: options.tls.certPem, key: options.tls.keyPem }, answer)
    : createServer(answer);
  const sockets = new Set<Socket>();
  server.on(options.tls ? "secureConnection" : "connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
  });
  const wanted = options.port ?? 0;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => {
      reject(
        new Error(
          `the simulator cannot listen on 127.0.0.1:${wanted}: ${cause.message}; give another port, or 0 for any free one`,
          { cause },
        ),
      );
    });
    server.listen(wanted, "127.0.0.1", resolve);
  });
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : wanted;
  return {
    url: `${options.tls ? "https" : "http"}://127.0.0.1:${port}`,
    port,
    close: async () => {
      closing.abort();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function readRequest(request: IncomingMessage, signal: AbortSignal): Asked {
  const url = new URL(request.url ?? "/", "http://loopback");
  const header = (name: string) => {
    const value = request.headers[name];
    return Array.isArray(value) ? value.join(", ") : value ?? "";
  };
  return {
    method: request.method ?? "GET",
    path: url.pathname,
    query: url.searchParams,
    header,
    cookie: (name) => {
      for (const part of header("cookie").split(";")) {
        const [key, ...value] = part.split("=");
        if (key?.trim() === name) return value.join("=").trim();
      }
      return undefined;
    },
    text: async () => {
      const chunks: Uint8Array[] = [];
      for await (const chunk of request) chunks.push(chunk as Uint8Array);
      return Buffer.concat(chunks).toString("utf8");
    },
    signal,
  };
}

async function send(
  answer: Answer,
  { response, keepAlive, withBody }: {
    readonly response: ServerResponse;
    readonly keepAlive: boolean;
    readonly withBody: boolean;
  },
): Promise<void> {
  if (answer === "never") return;
  if (answer === "reset") {
    response.destroy();
    return;
  }
  const { status = 200, body = "", cutAfterBytes, stream } = answer;
  if (stream !== undefined) {
    response.writeHead(status, { connection: "close", ...answer.headers });
    let wake = () => {};
    response.once("close", () => wake());
    for await (const piece of stream) {
      await new Promise<void>((resolve) => {
        wake = resolve;
        response.write(piece, () => resolve());
      });
      if (response.destroyed) return; // the client leaving is how such an answer ends
    }
    response.end();
    return;
  }
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  const bodiless = status === 304 || status === 204;
  response.writeHead(status, {
    ...(bodiless ? {} : { "content-length": String(bytes.length) }),
    ...(keepAlive ? {} : { connection: "close" }),
    ...answer.headers,
  });
  if (cutAfterBytes !== undefined) {
    await new Promise<void>((resolve) => {
      response.write(bytes.subarray(0, cutAfterBytes), () => resolve());
    });
    response.destroy();
    return;
  }
  response.end(withBody && !bodiless ? bytes : undefined);
}

/**
 * Answers for a simulator's control route: POST gives an order in JSON, and GET and POST both tell the
 * state. An order that cannot be done is a 400 with the reason.
 */
export async function answerOrder(
  asked: Asked,
  { obey, state }: {
    readonly obey: (order: Readonly<Record<string, unknown>>) => void | Promise<void>;
    readonly state: () => unknown;
  },
): Promise<Answer> {
  if (asked.method === "POST") {
    try {
      await obey(asRecord(JSON.parse(await asked.text())));
    } catch (error) {
      return json({ error: error instanceof Error ? error.message : String(error) }, {
        status: 400,
      });
    }
  } else if (asked.method !== "GET") {
    return json({ error: `expected GET or POST, got ${asked.method}` }, { status: 405 });
  }
  return json(state());
}

/** What is a JSON object, as a record of unknown values; anything else as an empty one. */
export function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Record<string, unknown>
    : {};
}

/** A body as a record: JSON by its content type, else a form. `undefined` if it is no valid JSON. */
export async function readFields(
  asked: Asked,
): Promise<Readonly<Record<string, unknown>> | undefined> {
  const text = await asked.text();
  if (!asked.header("content-type").includes("json")) {
    return Object.fromEntries(new URLSearchParams(text));
  }
  try {
    return asRecord(JSON.parse(text));
  } catch {
    return undefined;
  }
}
