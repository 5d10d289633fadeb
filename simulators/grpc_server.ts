/**
 * A gRPC server for unary calls on loopback, over HTTP/2 with or without TLS
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
 *
 * Deno's HTTP/2 server aborts the whole process when a client that has closed a stream says goodbye
 * (a GOAWAY frame; `find_stream_on_goaway_func` in nghttp2), as every client does that ends in order.
 * So these frames are taken out on their way to it.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import { connect, createServer as createTcpServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import type { ServerTls } from "./http_server.ts";

/** What is given back to a call. */
export interface GrpcReply {
  /** A code of https://grpc.io/docs/guides/status-codes/. */
  readonly status: number;
  readonly message?: string;
  readonly body?: Uint8Array;
}

/** Starts a server on any free port. */
export async function startGrpcServer(
  { tls, answer }: {
    readonly tls?: ServerTls;
    /** Answers a message to `path`, or never does. */
    readonly answer: (
      path: string,
      token: string,
      message: Uint8Array,
    ) => Promise<GrpcReply | "never">;
  },
): Promise<{ readonly url: string; close(): Promise<void> }> {
  const server = createHttp2Server();
  server.on("stream", (stream: ServerHttp2Stream, headers) => {
    stream.on("error", () => {});
    const chunks: Uint8Array[] = [];
    stream.on("data", (chunk: Uint8Array) => void chunks.push(chunk));
    stream.on("end", async () => {
      const [, token = ""] = /^Bearer (\S+)$/.exec(String(headers["authorization"])) ?? [];
      const request = Buffer.concat(chunks).subarray(5);
      const reply = await answer(String(headers[":path"]), token, request);
      if (reply === "never" || stream.destroyed) return;
      send(stream, reply);
    });
  });
  const inner = await listen(server);
  const open = new Set<Socket>();
  const forward = (client: Socket) => {
    const own = connect(inner, "127.0.0.1");
    for (const [socket, other] of [[client, own], [own, client]] as const) {
      open.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        open.delete(socket);
        other.destroy();
      });
    }
    own.on("data", (data: Uint8Array) => void client.write(data));
    const filter = createGoodbyeFilter((data) => void own.write(data));
    client.on("data", filter);
  };
  const front = tls === undefined ? createTcpServer(forward) : createTlsServer(
    { cert: tls.certPem, key: tls.keyPem, ALPNProtocols: ["h2"] },
    forward,
  );
  const port = await listen(front);
  return {
    url: `${tls === undefined ? "http" : "https"}://127.0.0.1:${port}`,
    async close() {
      const closed = [front, server].map((one) =>
        new Promise<void>((resolve) => one.close(() => resolve()))
      );
      for (const socket of open) socket.destroy();
      await Promise.all(closed);
    },
  };
}

function send(stream: ServerHttp2Stream, { status, message = "", body }: GrpcReply): void {
  const head = { ":status": 200, "content-type": "application/grpc" };
  const trailers = { "grpc-status": String(status), "grpc-message": message };
  if (body === undefined) {
    stream.respond({ ...head, ...trailers }, { endStream: true });
    return;
  }
  stream.respond(head, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  const frame = Buffer.alloc(5 + body.length);
  frame.writeUInt32BE(body.length, 1);
  frame.set(body, 5);
  stream.end(frame);
}

async function listen(server: Pick<Server, "listen" | "address">): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("the server has no port");
  return address.port;
}

const PREFACE_BYTES = 24;
/** Length (3) · type (1) · flags (1) · stream (4), RFC 9113 §4.1. */
const FRAME_HEADER_BYTES = 9;
const GOAWAY = 7;

/** Takes what a client sends, in any pieces, and hands it on without its GOAWAY frames. */
function createGoodbyeFilter(onData: (data: Uint8Array) => void): (data: Uint8Array) => void {
  let waiting = new Uint8Array();
  /** Bytes of the current frame, or of the preface, that are still to come. */
  let left = PREFACE_BYTES;
  let isGoodbye = false;
  return (data) => {
    let rest = new Uint8Array([...waiting, ...data]);
    while (rest.length > 0) {
      if (left === 0) {
        if (rest.length < FRAME_HEADER_BYTES) break;
        left = FRAME_HEADER_BYTES + ((rest[0] ?? 0) << 16 | (rest[1] ?? 0) << 8 | (rest[2] ?? 0));
        isGoodbye = rest[3] === GOAWAY;
      }
      const part = rest.subarray(0, left);
      if (!isGoodbye) onData(part);
      left -= part.length;
      rest = rest.subarray(part.length);
    }
    waiting = rest.slice();
  };
}
