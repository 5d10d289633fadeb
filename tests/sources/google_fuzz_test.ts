/** Whatever comes from Google or from a WebRTC camera, its parsers let only source errors out, and end. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { googleRefusal } from "../../core/sources/google/api.ts";
import { parseDevice } from "../../core/sources/google/devices.ts";
import { parseMessage, parsePull } from "../../core/sources/google/messages.ts";
import { parseAnswer } from "../../core/sources/google_home/android_auth.ts";
import { parseJoinStream } from "../../core/sources/google_home/foyer.ts";
import { unframed } from "../../core/sources/google_home/grpc.ts";
import { parseHomeGraph } from "../../core/sources/google_home/home_graph.ts";
import { parseManifest } from "../../core/sources/google_home/manifest.ts";
import type { HttpResponse } from "../../core/sources/http.ts";
import { messageField, numberField, textField } from "../../core/sources/protobuf.ts";
import { answerForWerift } from "../../core/sources/webrtc/peer.ts";
import { opusOf } from "../../core/sources/webrtc/session.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { below, FUZZ_INPUTS, type Random, spoiled, spoiledBytes } from "../support/spoiled.ts";

const utf8 = (text: string) => new TextEncoder().encode(text);
const bytesOf = (...fields: readonly Uint8Array[]) =>
  Uint8Array.from(fields.flatMap((field) => [...field]));
const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64");
const framed = (message: Uint8Array) => bytesOf(Uint8Array.of(0, 0, 0, 0, message.length), message);

const SDP = [
  ...["v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1 2"],
  ...["m=audio 19305 UDP/TLS/RTP/SAVPF 111", "a=rtpmap:111 opus/48000/2"],
  ...["a=fmtp:111 minptime=10;sprop-stereo=1", "a=sendrecv"],
  "a=candidate: 1 udp 2113939711 142.250.9.127 19305 typ host generation 0",
  "a=candidate: 1 ssltcp 2113939709 [2001:db8::1] 443 typ host generation 0",
  ...["m=video 9 UDP/TLS/RTP/SAVPF 98", "a=rtpmap:98 H264/90000", "a=sendrecv"],
  ...["m=application 9 DTLS/SCTP 5000", "a=sctpmap:5000 webrtc-datachannel 1024", ""],
].join("\r\n");

const DEVICE = {
  name: "enterprises/p/devices/d",
  type: "sdm.devices.types.CAMERA",
  traits: {
    "sdm.devices.traits.Info": { customName: "Yard" },
    "sdm.devices.traits.CameraLiveStream": {
      ...{ supportedProtocols: ["WEB_RTC"], videoCodecs: ["H264"] },
      maxVideoResolution: { width: 640, height: 480 },
    },
  },
  parentRelations: [{ parent: "enterprises/p/structures/s", displayName: "Porch" }],
};
const EVENT = {
  ...{ eventId: "e", timestamp: "2026-01-01T00:00:00Z", eventThreadState: "STARTED" },
  resourceUpdate: {
    name: "enterprises/P/devices/D",
    events: {
      "sdm.devices.events.CameraMotion.Motion": { eventSessionId: "s", eventId: "i" },
      "sdm.devices.events.CameraClipPreview.ClipPreview": { previewUrl: "https://x/clip" },
    },
  },
};
const REFUSAL = {
  error: {
    ...{ code: 429, status: "RESOURCE_EXHAUSTED" },
    message: "Rate limited for the ExecuteDeviceCommand API for the user.",
    errors: [{ domain: "global", reason: "rateLimitExceeded" }],
  },
};

const clock = createFakeClock();
const refusal = (body: string): HttpResponse => ({
  ...{ status: 429, bytes: utf8(body), url: new URL("https://example.com/v1") },
  ...{ headers: new Headers({ "retry-after": "5" }), sentMs: 0, respondedMs: 0, respondedAtMs: 0 },
});

/** What a parser makes of an input; `false` for what it cannot use. */
type Parse<Input> = (input: Input, random: Random) => unknown;
/** A good input of a parser, and damaged ones. */
const ofBytes = (good: Uint8Array, parse: Parse<Uint8Array>) => ({
  whole: (random: Random) => parse(good, random),
  damaged: (random: Random) => parse(spoiledBytes(good, random), random),
});
const ofText = (good: string, parse: Parse<string>) => ({
  whole: (random: Random) => parse(good, random),
  damaged: (random: Random) => parse(spoiled(good, random), random),
});
/** JSON is parsed before: what is none never gets there. Now and then a value is another one. */
const ofJson = (good: unknown, parse: (value: unknown) => unknown) =>
  ofText(JSON.stringify(good), (text, random) => {
    let value: unknown;
    try {
      value = JSON.parse(text, (_key, value) => random() < 0.05 ? anyValue(random) : value);
    } catch {
      return false;
    }
    return parse(value);
  });
const VALUES = [null, 1, -1, "", "x", [], {}, ["WEB_RTC"], { displayName: 3 }, true, 1e300];
const anyValue = (random: Random) => VALUES[below(random, VALUES.length)];

const PARSERS = {
  "Foyer's JoinStream": ofBytes(
    bytesOf(
      ...[textField(1, "v=0\r\nm=audio 9 X 1\r\n"), textField(2, "answer")],
      ...[textField(3, "stream-1"), numberField(4, 1), numberField(5, 1)],
    ),
    (bytes) => parseJoinStream(bytes).isExtended,
  ),
  "Foyer's GetHomeGraph": ofBytes(
    messageField(
      2,
      messageField(
        7,
        messageField(
          1,
          textField(1, "uuid"),
          messageField(2, textField(1, "x"), textField(2, "DEVICE_0123")),
        ),
        textField(4, "Porch"),
        textField(7, "action.devices.traits.CameraStream"),
        messageField(17, textField(2, "Nest Cam")),
        messageField(39, messageField(1, textField(2, "DEVICE_4567"))),
      ),
    ),
    (bytes) => parseHomeGraph(bytes).cameras.length > 0,
  ),
  "a gRPC frame": ofBytes(
    framed(bytesOf(textField(1, "x"), numberField(5, 1))),
    (bytes) => unframed(bytes, "test"),
  ),
  "a DASH manifest": ofText(
    '<MPD><Period programDateTime="2024-02-24T19:51:58.217Z" duration="PT12.3S"/></MPD>',
    (xml) => parseManifest(xml).length > 0,
  ),
  "an answer of the Android login": ofText(
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nAuth=\r\n4\r\nya29\r\n0\r\n\r\n",
    (answer) => parseAnswer(utf8(answer), "test").body === "Auth=ya29",
  ),
  "a WebRTC answer": ofText(SDP, (sdp) => {
    for (const line of answerForWerift(sdp, { loopback: false }).split("\r\n")) {
      if (line.startsWith("a=candidate:")) assert.match(line, /^a=candidate:\S+ \d+ udp \d+ /);
    }
    return opusOf(sdp) !== undefined;
  }),
  "a device": ofJson(DEVICE, (value) => parseDevice(value).length > 0),
  "a pull": ofJson(
    { receivedMessages: [{ ackId: "a", message: { data: base64(EVENT), messageId: "m" } }] },
    (value) => parsePull(value).length > 0,
  ),
  "a pulled message": ofText(JSON.stringify(EVENT), (text) => {
    const content = parseMessage(Buffer.from(text).toString("base64"), { messageId: "m" });
    return typeof content === "object";
  }),
  "a refusal": ofText(
    JSON.stringify(REFUSAL),
    (body) => googleRefusal(refusal(body), { clock, what: "test" }).googleStatus !== "HTTP_429",
  ),
};

for (const [name, { whole, damaged }] of Object.entries(PARSERS)) {
  Deno.test(`${name}: of ${FUZZ_INPUTS} damaged ones each gives a result or a source error`, () => {
    assert.ok(whole(() => 1) !== false);
    const random = seededRandom(17);
    const count = { used: 0, refused: 0 };
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0; // most of the time would go into them
    try {
      for (let input = 0; input < FUZZ_INPUTS; input++) {
        try {
          if (damaged(random) === false) count.refused++;
          else count.used++;
        } catch (error) {
          if (!(error instanceof Error && "sourceErrorKind" in error)) throw error;
          count.refused++;
        }
      }
    } finally {
      Error.stackTraceLimit = stackTraceLimit;
    }
    // Else the damage would be too small or too great to show anything.
    assert.ok(Math.min(...Object.values(count)) > FUZZ_INPUTS / 1000, JSON.stringify(count));
  });
}
