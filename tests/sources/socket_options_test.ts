/** Options of the kernel's own sockets. */
import assert from "node:assert/strict";
import {
  type LowWater,
  lowWaterOf,
  widenReceiveBuffer,
} from "../../core/sources/socket_options.ts";

const ignore = Deno.build.os !== "linux"; // elsewhere there is no mark
const HOSTS = ["127.0.0.1", ...(hasIpv6() ? ["::1"] : [])];

function hasIpv6(): boolean {
  try {
    Deno.listen({ hostname: "::1", port: 0 }).close();
    return true;
  } catch {
    return false;
  }
}

function open(hostname = "127.0.0.1") {
  const listener = Deno.listen({ hostname, port: 0 });
  const connect = async () => {
    const { port } = listener.addr;
    const [client, server] = await Promise.all([
      Deno.connect({ hostname, port }),
      listener.accept(),
    ]);
    return { client, server, [Symbol.dispose]: () => [client, server].forEach((c) => c.close()) };
  };
  return { connect, [Symbol.dispose]: () => listener.close() };
}

function markOf(conn: Deno.Conn): LowWater {
  const mark = lowWaterOf(conn);
  assert.ok(mark);
  return mark;
}

/** Reads, and tells whether it has come yet. */
function read(conn: Deno.Conn) {
  const state = { isThere: false, count: conn.read(new Uint8Array(1000)) };
  state.count.then(() => state.isThere = true);
  return state;
}

for (const hostname of HOSTS) {
  Deno.test({
    name:
      `below the mark nobody is woken, and all of it comes when the mark is lowered (${hostname})`,
    ignore,
    async fn() {
      using server = open(hostname);
      using marked = await server.connect();
      using other = await server.connect();
      const mark = markOf(marked.client);
      mark.raise(100);
      const waits = read(marked.client);
      for (let sent = 0; sent < 5; sent++) {
        await marked.server.write(new Uint8Array(10));
        await other.server.write(new Uint8Array(10));
        await other.client.read(new Uint8Array(1000)); // was sent later
      }
      assert.equal(waits.isThere, false);
      mark.lower();
      assert.equal(await waits.count, 50);
    },
  });
}

Deno.test({
  name: "what reaches the mark wakes, and so does the end of the stream below it",
  ignore,
  async fn() {
    using server = open();
    using pair = await server.connect();
    const mark = markOf(pair.client);
    mark.raise(100);
    const full = read(pair.client);
    await pair.server.write(new Uint8Array(100));
    assert.equal(await full.count, 100);
    const ending = read(pair.client);
    await pair.server.write(new Uint8Array(7));
    await pair.server.closeWrite();
    assert.equal(await ending.count, 7);
    assert.equal(await pair.client.read(new Uint8Array(10)), null);
  },
});

Deno.test({
  name: "a widened socket keeps more datagrams than it would by itself",
  ignore,
  async fn() {
    const [usual, wide, sender] = [openUdp(), openUdp(), openUdp()];
    widenReceiveBuffer(wide);
    // Nobody reads meanwhile: what does not fit is lost.
    for (let sent = 0; sent < 2000; sent++) {
      for (const { addr } of [usual, wide]) await sender.send(new Uint8Array(1000), addr);
    }
    const kept = {
      usual: await countKept(usual, sender),
      wide: await countKept(wide, sender),
    };
    assert.ok(kept.wide > 1.5 * kept.usual || kept.wide > 1500, JSON.stringify(kept));
    for (const socket of [usual, wide, sender]) socket.close();
  },
});

function openUdp(): Deno.DatagramConn {
  return Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
}

/** How many datagrams wait: one that is sent now comes after them. */
async function countKept(socket: Deno.DatagramConn, sender: Deno.DatagramConn): Promise<number> {
  await socket.receive(); // makes room
  await sender.send(new Uint8Array(1), socket.addr);
  for (let count = 1;; count++) {
    const [packet] = await socket.receive();
    if (packet.length === 1) return count;
  }
}

Deno.test({
  name: "who may not call the C library has no mark",
  permissions: { ffi: false, net: true },
  async fn() {
    using server = open();
    using pair = await server.connect();
    assert.equal(lowWaterOf(pair.client), undefined);
  },
});
