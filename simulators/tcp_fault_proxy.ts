/**
 * A proxy on loopback for protocols that are not HTTP (SFTP, MQTT …). It knows nothing of what it
 * passes on, so it can only do what networks do to any connection: refuse it, cut it after so many
 * bytes, stop taking bytes, or go silent.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { connect, createServer, type Socket } from "node:net";

/** What goes wrong with connections. Bytes are those from the client since the fault was set. */
export type TcpFault =
  /** New connections are closed at once; those that are open break. */
  | { readonly kind: "refuse" }
  /** The connection breaks when so many bytes of the client's have been passed on. */
  | { readonly kind: "cut"; readonly afterBytes: number }
  /** One bit of the byte at `at`, or where this text begins, is flipped on the way, once. */
  | { readonly kind: "damage"; readonly at: number | string }
  /** After so many bytes no more are taken from the client; the connection stays. */
  | { readonly kind: "hold"; readonly afterBytes: number }
  /** Everything is taken from the client; nothing is passed on and nothing comes back. */
  | { readonly kind: "silence" };

/** A connection as the proxy saw it. */
export interface TcpConnection {
  /** Bytes from the client that were passed on. */
  sentBytes: number;
  /** Bytes to the client. */
  receivedBytes: number;
  /** Whether it is still there. */
  open: boolean;
}

/** A running proxy. */
export interface TcpFaultProxy extends AsyncDisposable {
  /** `tcp://127.0.0.1:PORT` */
  readonly url: string;
  /** All connections so far, in order. */
  readonly connections: readonly TcpConnection[];
  /** Bytes from clients that were passed on since the fault was set. */
  readonly bytesSinceFault: number;
  /** Bytes that clients have sent, also those that were not passed on. */
  readonly takenBytes: number;
  /** Whether a byte was damaged since the fault was set. */
  readonly hasDamaged: boolean;
  /** Sets what goes wrong from now on, until the next call; `undefined` ends it. */
  fail(fault: TcpFault | undefined): void;
  /** Breaks all connections and frees the port. */
  close(): Promise<void>;
}

/** Starts a proxy in front of `target`, such as `tcp://127.0.0.1:22`. */
export async function startTcpFaultProxy(
  options: { readonly target: string },
): Promise<TcpFaultProxy> {
  const target = new URL(options.target);
  const connections: TcpConnection[] = [];
  const sockets = new Set<Socket>();
  let fault: TcpFault | undefined;
  let bytesSinceFault = 0;
  let takenBytes = 0;
  let hasDamaged = false;
  /** Those who wait for the fault to end. */
  let changed = Promise.withResolvers<void>();

  const server = createServer((client) => {
    const seen: TcpConnection = { sentBytes: 0, receivedBytes: 0, open: true };
    connections.push(seen);
    client.on("error", () => {});
    if (fault?.kind === "refuse") {
      seen.open = false;
      client.destroy();
      return;
    }
    const upstream = connect(Number(target.port), target.hostname);
    const end = () => {
      seen.open = false;
      sockets.delete(client);
      sockets.delete(upstream);
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", end);
      socket.on("close", end);
    }
    void forward(client, async (chunk) => {
      takenBytes += chunk.length;
      if (fault?.kind === "silence") return;
      let part: Uint8Array = chunk;
      while (fault?.kind === "hold" && bytesSinceFault + part.length > fault.afterBytes) {
        await changed.promise;
      }
      const left = fault?.kind === "cut" ? fault.afterBytes - bytesSinceFault : Infinity;
      if (fault?.kind === "damage" && !hasDamaged) {
        const at = typeof fault.at === "string"
          ? Buffer.from(part).indexOf(fault.at)
          : fault.at - bytesSinceFault;
        if (at >= 0 && at < part.length) {
          hasDamaged = true;
          part = Uint8Array.from(part);
          part[at] = (part[at] ?? 0) ^ 1;
        }
      }
      if (left <= part.length) part = part.subarray(0, Math.max(0, left));
      bytesSinceFault += part.length;
      seen.sentBytes += part.length;
      await write(upstream, part);
      if (left <= chunk.length) end();
    }, end);
    void forward(upstream, async (chunk) => {
      if (fault?.kind === "silence") return;
      seen.receivedBytes += chunk.length;
      await write(client, chunk);
    }, end);
  });

  const { promise: listening, resolve, reject } = Promise.withResolvers<void>();
  server.on("error", reject);
  server.listen(0, "127.0.0.1", resolve);
  await listening;
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;

  const proxy: TcpFaultProxy = {
    url: `tcp://127.0.0.1:${port}`,
    connections,
    get bytesSinceFault() {
      return bytesSinceFault;
    },
    get takenBytes() {
      return takenBytes;
    },
    get hasDamaged() {
      return hasDamaged;
    },
    fail: (next) => {
      fault = next;
      bytesSinceFault = 0;
      hasDamaged = false;
      changed.resolve();
      changed = Promise.withResolvers();
      if (next?.kind === "refuse") { for (const socket of sockets) socket.destroy(); }
    },
    close: async () => {
      proxy.fail(undefined);
      const closed = new Promise<void>((done) => server.close(() => done()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
    [Symbol.asyncDispose]: () => proxy.close(),
  };
  return proxy;
}

async function forward(
  from: Socket,
  take: (chunk: Uint8Array) => Promise<void>,
  end: () => void,
): Promise<void> {
  try {
    for await (const chunk of from as AsyncIterable<Uint8Array>) await take(chunk);
  } catch {
    // Broken on either side: `end` closes both.
  }
  end();
}

function write(to: Socket, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) =>
    to.write(chunk, (error) => error ? reject(error) : resolve())
  );
}
