/** The simulator's NexusTalk wire against the test vectors of the protocol's description. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
  CODEC,
  errorPacket,
  okPacket,
  PACKET,
  packet,
  PacketReader,
  playbackBeginPacket,
  playbackEndPacket,
  playbackPacket,
  readAuthorization,
  readHello,
  readStartPlayback,
  readStopPlayback,
  redirectPacket,
} from "../../simulators/nest/nexus_wire.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, "hex"));
const only = (text: string) => {
  const [first, ...rest] = new PacketReader().push(bytesOf(text));
  assert.ok(first);
  assert.equal(rest.length, 0);
  return first;
};

Deno.test("the simulator writes every packet as the test vectors have it", () => {
  assert.equal(hex(packet(PACKET.ping)), "010000");
  assert.equal(hex(okPacket(-1)), "c80000");
  assert.equal(hex(okPacket(0)), "c800020800");
  assert.equal(
    hex(playbackBeginPacket(77, [
      { id: 0, codec: CODEC.h264, sampleRate: 90_000, startTime: 1700000000.5, profile: 9 },
      { id: 1, codec: CODEC.aac, sampleRate: 48_000, startTime: 1700000000.5, profile: 3 },
    ])),
    "ca002c084d1213080010021890bf052900002040fc54d94140091213080110031880f7022900002040fc54d9414003",
  );
  const part = { sessionId: 77, channelId: 0, timestampDelta: 3000 };
  const payload = bytesOf("6742001f");
  assert.equal(
    hex(playbackPacket({ ...part, payload }, { withZeros: true })),
    "cc000d084d100018f02e22046742001f",
  );
  assert.equal(
    hex(playbackPacket({ ...part, payload }, { withZeros: true, long: true })),
    "cd0000000d084d100018f02e22046742001f",
  );
  assert.equal(hex(playbackPacket({ ...part, payload })), "cc000b084d18f02e22046742001f");
  assert.equal(hex(errorPacket(3, "auth")), "c900080803120461757468");
  assert.equal(hex(playbackEndPacket(77, 4)), "cb0004084d1004");
  assert.equal(hex(playbackEndPacket(77, 128)), "cb0005084d108001");
  assert.equal(
    hex(redirectPacket("stream-us1-charlie.dropcam.com")),
    "cf00200a1e73747265616d2d7573312d636861726c69652e64726f7063616d2e636f6d",
  );
});

Deno.test("the simulator reads every packet of the test vectors", () => {
  assert.deepEqual(
    readHello(
      only(
        "64003c080312203031323334353637383961626364656630313233343536373839616263646566180032056465762d313a025541480362072205544f4b454e",
      ).payload,
    ),
    {
      protocolVersion: 3,
      uuid: "0123456789abcdef0123456789abcdef",
      deviceId: "dev-1",
      userAgent: "UA",
      clientType: 3,
      authorization: { sessionToken: "", oliveToken: "TOKEN" },
    },
  );
  for (const text of ["67000a084d1009300730083003", "670009084d10093203070803"]) {
    assert.deepEqual(readStartPlayback(only(text).payload), {
      sessionId: 77,
      profiles: [9, 7, 8, 3],
      startTime: undefined,
    });
  }
  assert.equal(readStopPlayback(only("680002084d").payload), 77);
  assert.deepEqual(readAuthorization(only("d400072205544f4b454e").payload), {
    sessionToken: "",
    oliveToken: "TOKEN",
  });
});

Deno.test("a long packet is used where a short one cannot hold the payload", () => {
  const part = { sessionId: 1, channelId: 1, timestampDelta: -1 };
  const short = playbackPacket({ ...part, payload: new Uint8Array(65_000) });
  const long = playbackPacket({ ...part, payload: new Uint8Array(65_530) });
  assert.deepEqual([short[0], long[0]], [PACKET.playbackPacket, PACKET.longPlaybackPacket]);
  assert.equal(new DataView(long.buffer).getUint32(1), long.length - 5);
});

Deno.test("what a client sends is put together whatever the cuts", () => {
  const stream = bytesOf("01000067000a084d1009300730083003680002084d");
  for (let cut = 0; cut <= stream.length; cut++) {
    const reader = new PacketReader();
    const packets = [
      ...reader.push(stream.slice(0, cut)),
      ...reader.push(stream.slice(cut)),
    ];
    assert.deepEqual(packets.map(({ type }) => type), [1, 103, 104]);
  }
});
