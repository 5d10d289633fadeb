/** Whatever comes from a camera, the parsers of RTSP let only their own error out, and end. */
import assert from "node:assert/strict";
import { InterleavedReader } from "../../core/sources/rtsp/interleaved.ts";
import {
  parseHead,
  parseRtpInfo,
  parseSessionField,
  parseTransport,
  RtspError,
} from "../../core/sources/rtsp/message.ts";
import { Pipeline } from "../../core/sources/rtsp/pipeline.ts";
import { parseSdp } from "../../core/sources/rtsp/sdp.ts";
import { createReorderer } from "../../core/sources/rtsp/udp.ts";
import { joinControl, parseRtspUrl } from "../../core/sources/rtsp/url.ts";
import { parseH264Sps } from "../../core/media/h264.ts";
import { parseH265Sps } from "../../core/media/h265.ts";
import { MediaError } from "../../core/media/media_error.ts";
import { createPacketizer } from "../../simulators/rtsp/packets.ts";
import { createCodedScene } from "../../simulators/scene/coded_scene.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { FUZZ_INPUTS, spoiled, spoiledBytes } from "../support/spoiled.ts";

function only(
  error: unknown,
  ...kinds: readonly (abstract new (...args: never[]) => Error)[]
): void {
  if (!kinds.some((kind) => error instanceof kind)) throw error;
}

const ANSWER =
  "RTSP/1.0 200 OK\r\nCSeq: 3\r\nSession: 12345678;timeout=60\r\nTransport: RTP/AVP/TCP;" +
  "unicast;interleaved=0-1;ssrc=1234ABCD\r\nRTP-Info: url=rtsp://h/a,b/track1;seq=1;rtptime=2," +
  'url=rtsp://h/track2;seq=3\r\nContent-Length: 4\r\nWWW-Authenticate: Digest realm="a", nonce="b"';
const SDP =
  "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n" +
  "a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0IAKeKQFAe2AtwEBAaQeJEV,aM48gA==\r\na=control:t1\r\n" +
  "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/16000/1\r\na=fmtp:97 sizelength=13;indexlength=3;config=1408\r\n";

Deno.test("RTSP messages, fields and addresses: only RtspError comes out", () => {
  const random = seededRandom(1);
  for (let i = 0; i < FUZZ_INPUTS; i++) {
    const text = spoiled(ANSWER, random);
    try {
      const { message } = parseHead(text);
      parseSessionField(message.headers.get("session") ?? "");
      parseTransport(message.headers.get("transport") ?? "");
      parseRtpInfo(message.headers.get("rtp-info") ?? "");
    } catch (error) {
      only(error, RtspError);
    }
    const url = spoiled("rtsp://user:p%40ss@192.168.1.20:554/Streaming/101?a=b", random);
    joinControl(url, parseRtspUrl(url)?.path);
  }
});

Deno.test("SDP, and the streams made from it: only RtspError comes out", () => {
  const random = seededRandom(2);
  for (let i = 0; i < FUZZ_INPUTS; i++) {
    try {
      const { media } = parseSdp(spoiled(SDP, random));
      assert.ok(media.length <= 32);
      const video = media.find(({ kind }) => kind === "video");
      if (video === undefined || i % 10 > 0) continue;
      newPipeline({ video, audio: media.find(({ kind }) => kind === "audio") });
    } catch (error) {
      only(error, RtspError);
    }
  }
});

Deno.test("a description with a million streams costs no more than one with 32", () => {
  assert.equal(parseSdp("m=video 0 RTP/AVP 96\n".repeat(1_000_000)).media.length, 32);
});

Deno.test("the byte stream of a connection: spoiled anywhere, it is brought back into step", () => {
  const random = seededRandom(3);
  const frame = Uint8Array.of(0x24, 0, 0, 20, 0x80, 96, ...new Uint8Array(18));
  const message = new TextEncoder().encode(`${ANSWER}\r\n\r\nbody`);
  let frames = 0;
  for (let i = 0; i < FUZZ_INPUTS / 20; i++) {
    const buffer = new Uint8Array(131_072);
    const reader = new InterleavedReader({ onFrame: () => frames++, onMessage: () => {} });
    reader.channels.add(0).add(1);
    for (let part = 0; part < 20; part++) {
      const bytes = spoiledBytes(random() < 0.8 ? frame : message, random);
      try {
        const space = reader.space(buffer);
        assert.ok(space.length >= bytes.length);
        space.set(bytes);
        reader.advance(bytes.length);
      } catch (error) {
        only(error, RtspError);
        break;
      }
    }
  }
  assert.ok(frames > FUZZ_INPUTS / 20, `only ${frames} frames were found`);
});

Deno.test("declared lengths are not believed: 4 GB bodies and endless heads end with RtspError", () => {
  assert.throws(() => parseHead("RTSP/1.0 200 OK\r\nContent-Length: 4294967296"), RtspError);
  const buffer = new Uint8Array(131_072);
  const reader = new InterleavedReader({ onFrame: () => {}, onMessage: () => {} });
  assert.throws(() => {
    for (let i = 0; i < 100; i++) {
      const line = new TextEncoder().encode(
        `${i === 0 ? "RTSP/1.0 200 OK\r\n" : ""}A: ${"b".repeat(999)}\r\n`,
      );
      reader.space(buffer).set(line);
      reader.advance(line.length);
    }
  }, RtspError);
});

function newPipeline(
  { video, audio }: { video: Parameters<typeof describeCodec>[0]; audio?: typeof video },
): { readonly pipeline: Pipeline; readonly seen: { units: number; largest: number } } {
  const seen = { units: 0, largest: 0 };
  const last = new Map<number, number>();
  const pipeline = new Pipeline({
    video,
    codec: describeCodec(video),
    audio,
    reorderFrames: 0,
    onReady: () => {},
    onUnit(unit) {
      seen.units++;
      seen.largest = Math.max(seen.largest, unit.data.length);
      assert.ok(unit.dtsUs > (last.get(unit.trackId) ?? -1) && unit.ptsUs >= unit.dtsUs);
      last.set(unit.trackId, unit.dtsUs);
      unit.release?.();
    },
    onLost: () => {},
    onReorder: () => {},
    onBye: () => {},
  });
  return { pipeline, seen };
}

function describeCodec(video: ReturnType<typeof parseSdp>["media"][number]): "h264" | "h265" {
  return video.encoding === "H265" ? "h265" : "h264";
}

for (const codec of ["h264", "h265"] as const) {
  Deno.test(`${codec} and AAC packets, spoiled, lost and doubled: times go up, and what is whole comes`, async () => {
    const random = seededRandom(codec === "h264" ? 4 : 5);
    const scene = await createCodedScene({
      ...{ name: "Yard", codec, widthPx: 320, heightPx: 192, fps: 15, gopPictures: 5, gops: 2 },
      audio: { codec: "aac", sampleRateHz: 16_000 },
    });
    const [video, audio] = parseSdp(SDP).media;
    assert.ok(video && audio);
    const own = { payloadType: 96, rateHz: 90_000, ssrc: 1, codec };
    const packetizer = createPacketizer(own);
    const sound = createPacketizer({ payloadType: 97, rateHz: 16_000, ssrc: 2, codec: "aac" });
    const { pipeline, seen } = newPipeline({
      video: { ...video, encoding: codec.toUpperCase(), params: new Map() },
      audio,
    });
    let inputs = 0;
    for (let index = 0; inputs < FUZZ_INPUTS; index++) {
      const picture = scene.picture(index);
      pipeline.arrive(picture.ptsUs / 1000, 1_700_000_000_000 + picture.ptsUs / 1000);
      const packets = packetizer.video(picture, picture.parameterSets).map((data) =>
        ["video", data] as const
      );
      const frames = sound.audio(scene.sound(index)).map((data) => ["audio", data] as const);
      for (const [kind, data] of [...packets, ...frames]) {
        inputs++;
        const bad = random() < 0.05;
        if (bad && random() < 0.3) continue; // lost
        const bytes = bad ? spoiledBytes(data, random) : data;
        pipeline.rtp(kind, { data: bytes, from: 0, to: bytes.length });
        if (bad && random() < 0.3) pipeline.rtcp(kind, { data: bytes, from: 0, to: bytes.length });
      }
    }
    assert.ok(seen.units > 1000, `only ${seen.units} units came out`);
    assert.ok(seen.largest < 2 ** 20);
    assert.ok(pipeline.counters.dropped > 100);
  });
}

Deno.test("sequence parameter sets: only MediaError comes out", () => {
  const random = seededRandom(6);
  const sets = [
    [parseH264Sps, Uint8Array.fromBase64("Z0IAKeKQFAe2AtwEBAaQeJEV")],
    [parseH265Sps, Uint8Array.fromBase64("QgEBAWAAAAMAkAAAAwAAAwA8oAoIDBYpZuS7AA==")],
  ] as const;
  for (let i = 0; i < FUZZ_INPUTS; i++) {
    const [parse, set] = sets[i % 2] ?? sets[0];
    const bytes = spoiledBytes(set, random);
    if (bytes.length > 0) bytes[0] = set[0] ?? 0;
    try {
      parse(bytes);
    } catch (error) {
      only(error, MediaError);
    }
  }
});

Deno.test("UDP packets in any order come out in order, and none is held back for ever", () => {
  const random = seededRandom(7);
  const given: number[] = [];
  const reorderer = createReorderer((packet) => given.push(packet[2]! * 256 + packet[3]!));
  const packet = (sequence: number) => {
    const bytes = new Uint8Array(12);
    new DataView(bytes.buffer).setUint16(2, sequence & 0xffff);
    return bytes;
  };
  let lost = 0;
  const total = 100_000;
  for (let block = 0; block < total; block += 8) {
    const order = Array.from({ length: 8 }, (_, i) => block + i);
    if (block > 0) order.sort(() => random() - 0.5);
    for (const sequence of order) {
      if (block > 0 && random() < 0.001) lost++;
      else reorderer.take(packet(sequence));
    }
  }
  assert.ok(given.length >= total - lost - 32);
  for (const [i, sequence] of given.entries()) {
    if (i > 0) {
      assert.ok(
        ((sequence - given[i - 1]!) & 0xffff) < 0x8000,
        `${given[i - 1]} before ${sequence}`,
      );
    }
  }
});
