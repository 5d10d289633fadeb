/** Reading a TLS connection at the common moments, against a real socket in simulated time. */
import assert from "node:assert/strict";
import { connectSecurely, createSocketReader } from "../../core/sources/secure_socket.ts";
import { unitsOf } from "../../core/sources/unit_batches.ts";
import type { AccessUnit } from "../../core/types.ts";
import { createLoopbackCertificate } from "../../simulators/mod.ts";
import { testBothWays } from "../support/both_ways.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { until } from "../support/until.ts";
import { errorOf, settled } from "./world.ts";

const { caPem, certPem, keyPem } = createLoopbackCertificate();

/** Both ends of a connection. With `isCut` the client is not told that the server's end was meant. */
async function connectPair({ isCut = false } = {}) {
  const hostname = "127.0.0.1";
  const listener = Deno.listenTls({ hostname, port: 0, cert: certPem, key: keyPem });
  const accepted = listener.accept().then(async (conn) => {
    await conn.handshake();
    return conn;
  });
  const relay = isCut ? relayWithoutAlert(listener.addr.port) : undefined;
  const { signal } = new AbortController();
  const port = relay?.port ?? listener.addr.port;
  const [server, client] = await Promise.all([
    accepted,
    connectSecurely({ hostname, port, caCerts: [caPem], signal }),
  ]);
  listener.close();
  relay?.withhold();
  return { server, client };
}

/** A record of TLS 1.3 with an alert in it: header, level and description, type, tag (RFC 8446, 5.2). */
const ALERT_BYTES = 5 + 2 + 1 + 16;

/** Hands on what both say, but not the last record of the server. */
function relayWithoutAlert(toPort: number) {
  const hostname = "127.0.0.1";
  const listener = Deno.listen({ hostname, port: 0 });
  let withheldBytes = 0;
  (async () => {
    using near = await listener.accept();
    using far = await Deno.connect({ hostname, port: toPort });
    near.readable.pipeTo(far.writable).catch(() => {}); // it is cut
    let held = new Uint8Array();
    for await (const piece of far.readable) {
      held = Uint8Array.from([...held, ...piece]);
      const most = Math.max(0, held.length - withheldBytes);
      await writeAll(near, held.subarray(0, most));
      held = held.slice(most);
    }
    listener.close();
  })();
  return { port: listener.addr.port, withhold: () => withheldBytes = ALERT_BYTES };
}

async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}

testBothWays(
  "what a server sends between two moments waits for the moment, and then all of it is read",
  async () => {
    const { server, client } = await connectPair();
    const clock = createFakeClock();
    const reader = createSocketReader(client, clock);
    reader.gather();
    const sentBytes = 1_000_000;
    let bytes = 0;
    const reading = (async () => {
      for await (const piece of reader.pieces()) {
        assert.ok(piece.every((byte, index) => byte === (bytes + index) % 251));
        bytes += piece.length;
      }
    })();
    await clock.advance(20); // the read has been waiting for so long
    const sending = (async () => {
      const all = Uint8Array.from({ length: sentBytes }, (_, index) => index % 251);
      // Records of a packet each: a read gives three of them.
      for (let at = 0; at < sentBytes; at += 1400) {
        await writeAll(server, all.subarray(at, at + 1400));
      }
    })();
    await until(() => clock.sleepers > 0);
    assert.equal(bytes, 0);
    await clock.advance(200);
    // Time stands still: whatever waited for another moment would never come.
    await until(() => bytes === sentBytes, () => `${bytes} of ${sentBytes} bytes`);
    await sending;
    server.close();
    await reading;
    client.close();
  },
);

testBothWays(
  "a connection that breaks between two moments is told of after what came before",
  async () => {
    const { server, client } = await connectPair({ isCut: true });
    const clock = createFakeClock();
    const reader = createSocketReader(client, clock);
    reader.gather();
    let bytes = 0;
    const reading = errorOf((async () => {
      for await (const piece of reader.pieces()) bytes += piece.length;
    })());
    await clock.advance(20);
    for (let sent = 0; sent < 30; sent++) await writeAll(server, new Uint8Array(1000));
    await until(() => clock.sleepers > 0);
    server.close();
    assert.match((await settled(reading, clock)).message, /close_notify/);
    assert.equal(bytes, 30_000);
    client.close();
  },
);

Deno.test("who stops reading waits for no moment", async () => {
  const { server, client } = await connectPair();
  const clock = createFakeClock();
  const reader = createSocketReader(client, clock);
  reader.gather();
  const pieces = reader.pieces();
  const first = pieces.next();
  await clock.advance(20);
  await writeAll(server, Uint8Array.of(1, 2, 3));
  await until(() => clock.sleepers > 0);
  reader.stop();
  assert.deepEqual((await first).value, Uint8Array.of(1, 2, 3));
  assert.equal(clock.sleepers, 0);
  server.close();
  assert.equal((await pieces.next()).done, true);
  client.close();
});

Deno.test("connecting is broken off at any step, and a certificate nobody knows is refused", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 }); // says nothing
  const { port } = listener.addr;
  const stop = new AbortController();
  const refused = errorOf(
    connectSecurely({ hostname: "127.0.0.1", port, caCerts: [], signal: stop.signal }),
  );
  const silent = await listener.accept();
  stop.abort(new Error("not wanted any more"));
  assert.match((await refused).message, /not wanted any more/);
  silent.close();
  listener.close();

  const secure = Deno.listenTls({
    ...{ hostname: "127.0.0.1", port: 0, cert: certPem, key: keyPem },
  });
  const accepted = secure.accept().then(async (conn) => {
    await conn.handshake().catch(() => {});
    conn.close();
  });
  const error = await errorOf(connectSecurely({
    ...{ hostname: "127.0.0.1", port: secure.addr.port, caCerts: [] },
    signal: new AbortController().signal,
  }));
  assert.match(error.message, /certificate/i);
  await accepted;
  secure.close();
});

Deno.test("units come out of batches in order, also to those who ask before they are there", async () => {
  const unit = (ptsUs: number): AccessUnit => ({
    ...{ trackId: 1, data: new Uint8Array(), ptsUs, dtsUs: ptsUs, isKey: true, capturedAtMs: 0 },
  });
  let isLeft = false;
  const units = unitsOf((async function* () {
    try {
      yield [unit(1), unit(2)];
      yield [];
      yield [unit(3)];
      await new Promise(() => {});
    } finally {
      isLeft = true;
    }
  })());
  const asked = [units.next(), units.next(), units.next()];
  const given = await Promise.all(asked);
  assert.deepEqual(given.map(({ value }) => value?.ptsUs), [1, 2, 3]);
  assert.equal(isLeft, false);

  const left = unitsOf((async function* () {
    try {
      yield [unit(1), unit(2)];
    } finally {
      isLeft = true;
    }
  })());
  assert.equal((await left.next()).value?.ptsUs, 1);
  await left.return();
  assert.equal(isLeft, true);
  assert.equal((await left.next()).done, true);

  const broken = unitsOf((async function* () {
    yield [unit(1)];
    throw new Error("the camera is lost");
  })());
  assert.equal((await broken.next()).value?.ptsUs, 1);
  assert.match((await errorOf(broken.next())).message, /the camera is lost/);
  assert.equal((await broken.next()).done, true);
});
