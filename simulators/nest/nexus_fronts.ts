/**
 * Where NexusTalk is spoken: two TLS servers, so that one can send a client to the other, and a
 * WebSocket at `/nexustalk`, all on loopback with one certificate.
 *
 * @module
 */
import type { Socket } from "node:net";
import { createServer, type TLSSocket } from "node:tls";
import type { ServerTls } from "../http_server.ts";
import { type NexusHost, type NexusWire, serveNexus } from "./nexus_session.ts";

/** Running servers. */
export interface NexusFronts {
  /** `127.0.0.1:PORT` of the TLS server that discovery names. */
  readonly directHost: string;
  /** `127.0.0.1:PORT` of the WebSocket. */
  readonly webSocketHost: string;
  /** Stops taking connections of a kind, as a firewall would, or takes them again. */
  block(kind: "direct" | "websocket", blocked: boolean): void;
  /** Breaks all connections and frees the ports. */
  close(): Promise<void>;
}

/** Starts them; with `port` 0 on any free ports, else on three in a row. */
export async function startNexusFronts(
  options: {
    readonly port: number;
    readonly tls: ServerTls;
    readonly host: Omit<NexusHost, "otherHost">;
  },
): Promise<NexusFronts> {
  const { port, tls, host } = options;
  const blocked = new Set<string>();
  const hosts: string[] = [];
  const serve = (wire: NexusWire, index: number) =>
    serveNexus(wire, { ...host, otherHost: () => hosts[(index + 1) % 2] ?? "" });
  const isBlocked = (kind: string) => blocked.has(kind);
  const closers: (() => Promise<void>)[] = [];
  const close = async () => void await Promise.all(closers.splice(0).map((end) => end()));
  try {
    for (const index of [0, 1]) {
      const front = await startTlsFront({
        port: port === 0 ? 0 : port + index,
        tls,
        isBlocked: () => isBlocked("direct"),
        serve: (wire) => serve(wire, index),
      });
      hosts.push(front.host);
      closers.push(front.close);
    }
    const webSocket = startWebSocketFront({
      port: port === 0 ? 0 : port + 2,
      tls,
      isBlocked: () => isBlocked("websocket"),
      serve: (wire) => serve(wire, 1),
    });
    closers.push(webSocket.close);
    return {
      directHost: hosts[0] ?? "",
      webSocketHost: webSocket.host,
      block: (kind, isNow) => void (isNow ? blocked.add(kind) : blocked.delete(kind)),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

interface FrontOptions {
  readonly port: number;
  readonly tls: ServerTls;
  readonly isBlocked: () => boolean;
  readonly serve: (wire: NexusWire) => Promise<void>;
}

interface Front {
  readonly host: string;
  readonly close: () => Promise<void>;
}

async function startTlsFront({ port, tls, isBlocked, serve }: FrontOptions): Promise<Front> {
  const sockets = new Set<Socket>();
  const server = createServer({ cert: tls.certPem, key: tls.keyPem }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    if (isBlocked()) {
      socket.destroy();
      return;
    }
    serve(wireOfSocket(socket));
  });
  server.on("tlsClientError", () => {});
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => {
      reject(new Error(`the simulator cannot listen on 127.0.0.1:${port}: ${cause.message}`));
    });
    server.listen(port, "127.0.0.1", resolve);
  });
  const address = server.address();
  return {
    host: `127.0.0.1:${typeof address === "object" && address ? address.port : port}`,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function wireOfSocket(socket: TLSSocket): NexusWire {
  const gone = new Promise<void>((resolve) => socket.on("close", () => resolve()));
  return {
    incoming: socket,
    send: async (bytes) => {
      if (socket.destroyed) throw new Error("the client is gone");
      if (socket.write(bytes)) return;
      const drained = new Promise<void>((resolve) => socket.once("drain", () => resolve()));
      await Promise.race([drained, gone]);
    },
    close: () => void socket.end(),
    reset: () => void socket.destroy(),
  };
}

/** What a client may leave unread before it is waited for, bytes. */
const WEB_SOCKET_BUFFER = 1 << 20;

function startWebSocketFront({ port, tls, isBlocked, serve }: FrontOptions): Front {
  const sockets = new Set<WebSocket>();
  const sessions = new Set<Promise<void>>();
  const server = Deno.serve(
    {
      hostname: "127.0.0.1",
      port,
      cert: tls.certPem,
      key: tls.keyPem,
      onListen: () => {},
      onError: () => new Response(null, { status: 500 }),
    },
    (request) => {
      if (isBlocked()) return new Response("blocked", { status: 503 });
      if (new URL(request.url).pathname !== "/nexustalk") {
        return new Response("NexusTalk is at /nexustalk", { status: 404 });
      }
      if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
        return new Response("a WebSocket is expected", { status: 426 });
      }
      const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
      sockets.add(socket);
      const session = serve(wireOfWebSocket(socket)).finally(() => {
        sockets.delete(socket);
        sessions.delete(session);
      });
      sessions.add(session);
      return response;
    },
  );
  return {
    host: `127.0.0.1:${server.addr.port}`,
    close: async () => {
      for (const socket of sockets) {
        if (socket.readyState <= WebSocket.OPEN) socket.close();
      }
      await Promise.all(sessions);
      await server.shutdown();
    },
  };
}

function wireOfWebSocket(socket: WebSocket): NexusWire {
  socket.binaryType = "arraybuffer";
  const chunks: Uint8Array[] = [];
  let wake = () => {};
  let over = false;
  const opened = new Promise<void>((resolve) => {
    socket.onopen = () => resolve();
    socket.onclose = () => {
      over = true;
      resolve();
      wake();
    };
  });
  socket.onerror = () => {};
  socket.onmessage = ({ data }) => {
    if (data instanceof ArrayBuffer) chunks.push(new Uint8Array(data));
    wake();
  };
  const incoming = async function* (): AsyncGenerator<Uint8Array> {
    await opened;
    while (true) {
      const next = chunks.shift();
      if (next) yield next;
      else if (over) return;
      else await new Promise<void>((resolve) => wake = resolve);
    }
  };
  return {
    incoming: incoming(),
    send: async (bytes) => {
      if (socket.readyState !== WebSocket.OPEN) throw new Error("the client is gone");
      socket.send(bytes.slice());
      while (socket.bufferedAmount > WEB_SOCKET_BUFFER && !over) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    close: () => {
      if (socket.readyState <= WebSocket.OPEN) socket.close();
    },
    reset: () => {
      if (socket.readyState <= WebSocket.OPEN) socket.close(4000, "reset");
    },
  };
}
