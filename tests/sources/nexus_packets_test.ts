/** NexusTalk's packets and the WebSocket under them: the protocol's test vectors, cuts, and nonsense. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
  authorizePacket,
  helloPacket,
  MAX_PAYLOAD_BYTES,
  PacketReader,
  pingPacket,
  readError,
  readPlaybackBegin,
  readPlaybackEnd,
  readPlaybackPart,
  readRedirect,
  startPlaybackPacket,
  stopPlaybackPacket,
} from "../../core/sources/nest/nexus_packets.ts";
import { NexusPlayback } from "../../core/sources/nest/nexus_playback.ts";
import { WireError } from "../../core/sources/nest/protobuf.ts";
import {
  clientFrame,
  FrameReader,
  readHandshake,
  WebSocketError,
  webSocketRequest,
} from "../../core/sources/websocket.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, "hex"));
const payloadOf = (text: string) => {
  const [packet, ...rest] = new PacketReader().push(bytesOf(text));
  assert.ok(packet);
  assert.equal(rest.length, 0);
  return packet.payload;
};
const join = (...parts: readonly Uint8Array[]) => Uint8Array.from(parts.flatMap((p) => [...p]));

const BEGIN =
  "ca002c084d1213080010021890bf052900002040fc54d94140091213080110031880f7022900002040fc54d9414003";

Deno.test("what a viewer sends is what the test vectors have", () => {
  assert.equal(hex(pingPacket()), "010000");
  assert.equal(
    hex(helloPacket({
      uuid: "0123456789abcdef0123456789abcdef",
      deviceId: "dev-1",
      userAgent: "UA",
      token: { kind: "olive", token: "TOKEN" },
    })),
    "64003c080312203031323334353637383961626364656630313233343536373839616263646566180032056465762d313a025541480362072205544f4b454e",
  );
  assert.equal(
    hex(startPlaybackPacket({ sessionId: 77, profile: 9, otherProfiles: [7, 8, 3] })),
    "670009084d10093203070803",
  );
  assert.equal(hex(stopPlaybackPacket(77)), "680002084d");
  assert.equal(hex(authorizePacket({ kind: "olive", token: "TOKEN" })), "d400072205544f4b454e");
});

Deno.test("what a server sends is read as the test vectors have it", () => {
  assert.deepEqual(readPlaybackBegin(payloadOf(BEGIN)), {
    sessionId: 77,
    channels: [
      { id: 0, codec: 2, sampleRate: 90_000, startTime: 1700000000.5 },
      { id: 1, codec: 3, sampleRate: 48_000, startTime: 1700000000.5 },
    ],
  });
  for (
    const text of ["cc000d084d100018f02e22046742001f", "cd0000000d084d100018f02e22046742001f"]
  ) {
    const part = readPlaybackPart(payloadOf(text));
    assert.deepEqual({ ...part, payload: hex(part.payload) }, {
      ...{ sessionId: 77, channelId: 0, timestampDelta: 3000 },
      payload: "6742001f",
    });
  }
  assert.deepEqual(readError(payloadOf("c900080803120461757468")), { code: 3, text: "auth" });
  assert.deepEqual(readPlaybackEnd(payloadOf("cb0004084d1004")), { sessionId: 77, reason: 4 });
  assert.deepEqual(readPlaybackEnd(payloadOf("cb0005084d108001")), { sessionId: 77, reason: 128 });
  assert.deepEqual(readPlaybackEnd(payloadOf("cb0002084d")), { sessionId: 77, reason: 0 });
  assert.equal(
    readRedirect(
      payloadOf("cf00200a1e73747265616d2d7573312d636861726c69652e64726f7063616d2e636f6d"),
    ),
    "stream-us1-charlie.dropcam.com",
  );
  assert.equal(payloadOf("c80000").length, 0);
});

Deno.test("deltas are zig-zag, and fields that nobody knows are skipped by their wire type", () => {
  // Field 3 = 5 (zig-zag of -3), field 9 as double, field 10 as four bytes, field 11 as bytes.
  const odd = "1805" + "490000000000000000" + "5500000000" + "5a020102" + "2201ff";
  const part = readPlaybackPart(bytesOf(odd));
  assert.equal(part.timestampDelta, -3);
  assert.equal(hex(part.payload), "ff");
});

Deno.test("packets are the same wherever the stream is cut", () => {
  const long = new Uint8Array(70_000).fill(7);
  const longPacket = join(Uint8Array.of(205, 0, 1, 0x11, 0x70), long);
  const stream = join(bytesOf("010000"), longPacket, bytesOf("c80000"), bytesOf(BEGIN));
  const read = (cuts: readonly number[]) => {
    const reader = new PacketReader();
    const seen: string[] = [];
    let at = 0;
    for (const cut of [...cuts, stream.length]) {
      for (const { type, payload } of reader.push(stream.slice(at, cut))) {
        seen.push(`${type} ${payload.length} ${payload.at(-1) ?? ""}`);
      }
      at = cut;
    }
    return seen;
  };
  const whole = read([]);
  assert.deepEqual(whole, ["1 0 ", "205 70000 7", "200 0 ", "202 44 3"]);
  for (let cut = 0; cut <= 12; cut++) assert.deepEqual(read([cut]), whole);
  for (let cut = stream.length - 52; cut < stream.length; cut++) {
    assert.deepEqual(read([5, cut]), whole);
  }
  const random = seededRandom(4);
  for (let round = 0; round < 50; round++) {
    const cuts = Array.from({ length: 9 }, () => Math.floor(random() * stream.length));
    assert.deepEqual(read(cuts.sort((a, b) => a - b)), whole);
  }
});

Deno.test("a header of type 205 is not read before its five bytes are there", () => {
  const reader = new PacketReader();
  const bytes = bytesOf("cd0000000d084d100018f02e22046742001f");
  for (const byte of bytes.subarray(0, -1)) {
    assert.deepEqual([...reader.push(Uint8Array.of(byte))], []);
  }
  assert.equal([...reader.push(bytes.subarray(-1))].length, 1);
});

Deno.test("packets in front of one whose length is not believed are given out first", () => {
  const reading = new PacketReader().push(bytesOf("010000c80000cd40000000"));
  assert.equal(reading.next().value?.type, 1);
  assert.equal(reading.next().value?.type, 200);
  assert.throws(() => reading.next(), WireError);
});

Deno.test("a declared length beyond 5 MiB is refused, one below takes memory only as bytes come", () => {
  const header = (length: number) => {
    const bytes = Uint8Array.of(205, 0, 0, 0, 0);
    new DataView(bytes.buffer).setUint32(1, length);
    return bytes;
  };
  assert.throws(() => [...new PacketReader().push(header(0xffffffff))], WireError);
  assert.throws(() => [...new PacketReader().push(header(MAX_PAYLOAD_BYTES + 1))], WireError);
  const readers = Array.from({ length: 200 }, () => new PacketReader());
  const before = Deno.memoryUsage().rss;
  for (const reader of readers) assert.equal([...reader.push(header(MAX_PAYLOAD_BYTES))].length, 0);
  assert.ok(Deno.memoryUsage().rss - before < 64 * 2 ** 20, "memory was taken on trust");
});

/** Bytes that are sometimes almost right. */
function mutated(sample: Uint8Array, random: () => number): Uint8Array {
  const bytes = sample.slice(0, Math.ceil(random() * sample.length));
  for (let count = Math.floor(random() * 6); count > 0; count--) {
    bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
  }
  return bytes;
}

Deno.test("100,000 spoiled messages: nothing but a WireError comes out", () => {
  const random = seededRandom(1);
  const samples = [
    BEGIN,
    "cc000d084d100018f02e22046742001f",
    "cd0000000d084d100018f02e22046742001f",
    "c900080803120461757468",
    "cb0005084d108001",
    "cf00200a1e73747265616d2d7573312d636861726c69652e64726f7063616d2e636f6d",
  ].map(bytesOf);
  const readers = [
    readPlaybackBegin,
    readPlaybackPart,
    readError,
    readPlaybackEnd,
    readRedirect,
  ];
  let refused = 0;
  for (let round = 0; round < 100_000; round++) {
    const sample = samples[round % samples.length] ?? new Uint8Array();
    const bytes = mutated(sample, random);
    try {
      for (const _ of new PacketReader().push(bytes));
      for (const read of readers) read(bytes.subarray(3));
    } catch (error) {
      assert.ok(error instanceof WireError, String(error));
      refused++;
    }
  }
  assert.ok(refused > 10_000 && refused < 100_000, `${refused} were refused`);
});

Deno.test("100,000 spoiled playback packets: units stay in order, nothing is thrown", () => {
  const random = seededRandom(2);
  const clock = createFakeClock();
  const playback = new NexusPlayback(clock);
  const begin = readPlaybackBegin(payloadOf(BEGIN));
  playback.begin(begin);
  const sps = bytesOf("6742c01e8c8d40501ef3f78088");
  const nals = [
    sps,
    bytesOf("68ce3c80"),
    bytesOf("65888421"),
    bytesOf("419a21"),
    bytesOf("0605ff"),
  ];
  const adts = bytesOf("fff14c4001bffc2101");
  const last = new Map<number, number>();
  let units = 0;
  for (let round = 0; round < 100_000; round++) {
    const isSound = random() < 0.3;
    const sample = isSound ? adts : nals[Math.floor(random() * nals.length)] ?? sps;
    const payload = random() < 0.7 ? sample : mutated(sample, random);
    const timestampDelta = random() < 0.4
      ? 0
      : random() < 0.98
      ? Math.floor(random() * 6000)
      : Math.floor((random() - 0.5) * 2 ** 40);
    playback.add({ sessionId: 77, channelId: isSound ? 1 : 0, timestampDelta, payload });
    if (random() < 0.0005) playback.begin(begin);
    for (const unit of playback.take()) {
      units++;
      assert.ok(Number.isSafeInteger(unit.ptsUs), `${unit.ptsUs}`);
      assert.ok(unit.dtsUs > (last.get(unit.trackId) ?? -Infinity));
      last.set(unit.trackId, unit.dtsUs);
    }
  }
  assert.ok(units > 10_000, `${units} units`);
});

Deno.test("a WebSocket's frames are the same wherever they are cut, whatever their length's form", () => {
  const frame = (first: number, payload: Uint8Array) => {
    const { length } = payload;
    const head = length < 126
      ? [first, length]
      : length < 65_536
      ? [first, 126, length >> 8, length & 255]
      : [first, 127, 0, 0, 0, 0, 0, length >> 16, length >> 8 & 255, length & 255];
    return join(Uint8Array.from(head), payload);
  };
  const stream = join(
    frame(0x82, Uint8Array.of(1, 2, 3)),
    frame(0x89, Uint8Array.of(9, 9)),
    frame(0x02, new Uint8Array(300).fill(4)),
    frame(0x89, new Uint8Array()),
    frame(0x80, new Uint8Array(70_000).fill(5)),
    frame(0x81, new TextEncoder().encode("text is of no use")),
    frame(0x88, Uint8Array.of(3, 232)),
  );
  const random = seededRandom(3);
  for (let round = 0; round < 60; round++) {
    let pings = 0;
    const reader = new FrameReader({ onPing: () => pings++ });
    const data: number[] = [];
    for (let at = 0; at < stream.length;) {
      const step = round < 5 ? round + 1 : 1 + Math.floor(random() * 400);
      for (const part of reader.push(stream.subarray(at, at + step))) data.push(...part);
      at += step;
    }
    assert.equal(data.length, 70_303);
    assert.deepEqual([data[0], data[3], data[303], data.at(-1)], [1, 4, 5, 5]);
    assert.deepEqual([pings, reader.isClosed], [2, true]);
  }
});

Deno.test("what came in front of a frame that is none is given out first", () => {
  const reading = new FrameReader({ onPing: () => {} }).push(bytesOf("8203010203c200"));
  assert.deepEqual(reading.next().value, Uint8Array.of(1, 2, 3));
  assert.throws(() => reading.next(), WebSocketError);
});

Deno.test("100,000 spoiled frames: nothing but a WebSocketError comes out, and nothing is kept", () => {
  const random = seededRandom(5);
  const sample = join(
    bytesOf("8203010203"),
    bytesOf("890209098a00"),
    bytesOf("827e0003aabbcc8800"),
  );
  for (let round = 0; round < 100_000; round++) {
    const reader = new FrameReader({ onPing: () => {} });
    try {
      const bytes = mutated(sample, random);
      const half = Math.floor(random() * bytes.length);
      for (const _ of reader.push(bytes.subarray(0, half)));
      for (const _ of reader.push(bytes.subarray(half)));
    } catch (error) {
      assert.ok(error instanceof WebSocketError, String(error));
    }
  }
});

Deno.test("the handshake takes the right answer only", () => {
  const { bytes, accept } = webSocketRequest({
    host: "example.com",
    path: "/nexustalk",
    headers: { "User-Agent": "UA" },
    // The example of RFC 6455 §1.3.
    nonce: new TextEncoder().encode("the sample nonce"),
  });
  assert.match(
    new TextDecoder().decode(bytes),
    /^GET \/nexustalk HTTP\/1\.1\r\nHost: example\.com/,
  );
  assert.equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  const answer = (text: string) =>
    readHandshake(new TextEncoder().encode(text.replaceAll("\n", "\r\n")), accept);
  const good =
    `HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nSec-WebSocket-Accept: ${accept}`;
  assert.equal(answer(good), undefined);
  assert.equal(answer(`${good}\n\n\u0082`), good.length + 2 + 4);
  assert.throws(() => answer("HTTP/1.1 200 OK\n\n"), /"HTTP\/1\.1 200 OK", expected 101/);
  assert.throws(() => answer("HTTP/1.1 101 x\nSec-WebSocket-Accept: wrong\n\n"), WebSocketError);
  assert.throws(() => answer("x".repeat(20_000)), WebSocketError);
  assert.equal(clientFrame("binary", new Uint8Array(300), Uint8Array.of(1, 2, 3, 4)).length, 308);
});
