/**
 * Sound stays with the pictures for an hour, whatever the camera's clocks do: crystals of pictures and
 * sound that are 50 to 150 millionths off, packets that come unevenly and are read ten times a second.
 * An hour of packets in simulated time; what is compared is what happened at the same moment.
 */
import assert from "node:assert/strict";
import { NexusClock } from "../../core/sources/nest/nexus_clock.ts";
import { Pipeline } from "../../core/sources/rtsp/pipeline.ts";
import { parseSdp } from "../../core/sources/rtsp/sdp.ts";
import { seededRandom } from "../support/seeded_random.ts";

const HOUR_MS = 3_600_000;
const MOST_MS = 40;
/** Until the first reports have come and were followed. */
const SETTLED_MS = 20_000;
const PICTURE_MS = 1000 / 15;
const FRAME_TICKS = 1024;
const SOUND_HZ = 16_000;
const BASE_MS = 1_790_000_000_000;

const SDP = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\n" +
  "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets=" +
  "Z0IAKeKQFAe2AtwEBAaQeJEV,aM48gA==\r\na=control:t1\r\nm=audio 0 RTP/AVP 97\r\n" +
  "a=rtpmap:97 mpeg4-generic/16000/1\r\na=fmtp:97 sizelength=13;indexlength=3;config=1408\r\n";

/** What a camera sends. */
interface Sent {
  /** When it happened, ms. */
  readonly atMs: number;
  /** When it is here, ms. */
  readonly arrivesMs: number;
  readonly kind: "video" | "audio" | "report";
}

/** An hour of pictures and sound, in the order of arrival; sound by its own crystal. */
function hourOf(soundPpm: number, random: () => number): Sent[] {
  const sent: Sent[] = [];
  const delay = () => 20 + random() * 60;
  const soundMs = FRAME_TICKS * 1000 / (SOUND_HZ * (1 + soundPpm / 1e6));
  for (let atMs = 0; atMs < HOUR_MS; atMs += PICTURE_MS) {
    sent.push({ atMs, arrivesMs: atMs + delay(), kind: "video" });
  }
  for (let n = 0; n * soundMs < HOUR_MS; n++) {
    sent.push({ atMs: n * soundMs, arrivesMs: n * soundMs + delay(), kind: "audio" });
  }
  for (let atMs = 2500; atMs < HOUR_MS; atMs += 5000) {
    sent.push({ atMs, arrivesMs: atMs + delay(), kind: "report" });
  }
  const lastMs = { video: 0, audio: 0, report: 0 };
  // One connection: within a stream nothing overtakes.
  return sent.map((one) => {
    lastMs[one.kind] = Math.max(lastMs[one.kind], one.arrivesMs);
    return { ...one, arrivesMs: lastMs[one.kind] };
  }).sort((a, b) => a.arrivesMs - b.arrivesMs);
}

/** By how much sound is off from the pictures, at most; ms. */
function worstSkewMs(units: readonly { kind: "video" | "audio"; atMs: number; us: number }[]) {
  let videoErrorMs: number | undefined;
  let worst = 0;
  for (const { kind, atMs, us } of units) {
    const errorMs = us / 1000 - atMs;
    if (kind === "video") videoErrorMs = errorMs;
    else if (videoErrorMs !== undefined && atMs > SETTLED_MS) {
      worst = Math.max(worst, Math.abs(errorMs - videoErrorMs));
    }
  }
  return worst;
}

function rtpPacket(
  payloadType: number,
  { sequence, time, payload }: { sequence: number; time: number; payload: readonly number[] },
): Uint8Array {
  const bytes = new Uint8Array(12 + payload.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x80;
  bytes[1] = 0x80 | payloadType;
  view.setUint16(2, sequence & 0xffff);
  view.setUint32(4, time);
  view.setUint32(8, payloadType);
  bytes.set(payload, 12);
  return bytes;
}

function reportPacket(ntpMs: number, time: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(28));
  view.setUint32(0, 0x80c8_0006);
  view.setUint32(8, Math.floor(ntpMs / 1000) + 2_208_988_800 - 2 ** 32);
  view.setUint32(12, Math.floor(ntpMs % 1000 / 1000 * 2 ** 32));
  view.setUint32(16, time);
  return new Uint8Array(view.buffer);
}

for (
  const { videoPpm, soundPpm, reports } of [
    { videoPpm: 100, soundPpm: -100, reports: true },
    { videoPpm: -150, soundPpm: 50, reports: true },
    // Nothing tells but the arrival, which is uneven by 60 ms here and seen at multiples of 100.
    { videoPpm: 0, soundPpm: 150, reports: false },
    { videoPpm: 50, soundPpm: -150, reports: false },
  ]
) {
  Deno.test(
    `RTSP: an hour of sound with clocks that are ${videoPpm} and ${soundPpm} millionths off stays ` +
      `within ${MOST_MS} ms of the pictures, ${reports ? "by sender reports" : "by arrival alone"}`,
    () => {
      const random = seededRandom(40);
      const { media: [video, audio] } = parseSdp(SDP);
      assert.ok(video && audio);
      const atOf = { video: [] as number[], audio: [] as number[] };
      const units: { kind: "video" | "audio"; atMs: number; us: number }[] = [];
      const pipeline = new Pipeline({
        ...{ video, audio, codec: "h264", reorderFrames: 0 },
        ...{ onReady() {}, onReorder() {}, onBye() {} },
        onLost: (packets) => assert.fail(`${packets} packets lost`),
        onUnit({ trackId, ptsUs, release }) {
          const kind = trackId === 1 ? "video" : "audio";
          // Units come in the order of their packets.
          units.push({ kind, us: ptsUs, atMs: kind === "video" ? given.video++ : given.audio++ });
          release?.();
        },
      });
      const given = { video: 0, audio: 0 };
      const start = { video: 2 ** 32 - 900_000, audio: 1000 }; // the first one wraps on the way
      const ticks = (kind: "video" | "audio", atMs: number) =>
        kind === "video"
          ? (start.video + Math.round(atMs * 90 * (1 + videoPpm / 1e6))) % 2 ** 32
          : (start.audio + Math.round(atMs * SOUND_HZ / 1000 * (1 + soundPpm / 1e6))) % 2 ** 32;
      const sequence = { video: 0, audio: 0 };
      const take = (kind: "video" | "audio", data: Uint8Array) =>
        pipeline.rtp(kind, { data, from: 0, to: data.length });
      for (const { atMs, arrivesMs, kind } of hourOf(soundPpm, random)) {
        const readMs = Math.ceil(arrivesMs / 100) * 100;
        pipeline.arrive(readMs, BASE_MS + readMs);
        if (kind === "report") {
          for (const stream of reports ? ["video", "audio"] as const : []) {
            const data = reportPacket(BASE_MS - 86_400_000 + atMs, ticks(stream, atMs));
            pipeline.rtcp(stream, { data, from: 0, to: data.length });
          }
          continue;
        }
        const isKey = kind === "video" && sequence.video % 30 === 0;
        const payload = kind === "video" ? [isKey ? 0x65 : 0x41, 0x9a, 1, 2] : [0, 16, 0, 16, 7, 7];
        atOf[kind].push(atMs);
        take(
          kind,
          rtpPacket(kind === "video" ? 96 : 97, {
            sequence: sequence[kind]++,
            time: ticks(kind, atMs),
            payload,
          }),
        );
      }
      pipeline.flush();
      // Sound before the first picture is left out: the last unit is the last frame.
      const leftOut = atOf.audio.length - given.audio;
      const named = units.map(({ kind, us, atMs: index }) => ({
        kind,
        us,
        atMs: atOf[kind][index + (kind === "audio" ? leftOut : 0)] ?? NaN,
      }));
      assert.equal(given.video, atOf.video.length);
      assert.ok(leftOut < 10, `${leftOut} frames of sound are missing`);
      const worst = worstSkewMs(named);

      assert.ok(worst <= MOST_MS, `${worst.toFixed(1)} ms`);
    },
  );
}

/** Pictures of two packets, and with which packet each came out; 10 a second. */
function picturesOf(markers: (picture: number) => readonly [boolean, boolean], count: number) {
  const { media: [video] } = parseSdp(SDP);
  assert.ok(video);
  let packets = 0;
  const out: { readonly after: number; readonly capturedAtMs: number }[] = [];
  const pipeline = new Pipeline({
    ...{ video, audio: undefined, codec: "h264", reorderFrames: 0 },
    ...{ onReady() {}, onReorder() {}, onBye() {}, onLost: () => assert.fail("packets lost") },
    onUnit: ({ capturedAtMs }) =>
      out.push({ after: packets, capturedAtMs: capturedAtMs - BASE_MS }),
  });
  for (let picture = 0; picture < count; picture++) {
    for (const half of [0, 1] as const) {
      const payload = [picture % 30 === 0 ? 0x65 : 0x41, half === 0 ? 0x9a : 0x1a, 1, 2];
      const data = rtpPacket(96, { sequence: packets++, time: picture * 9000, payload });
      data[1] = (markers(picture)[half] ? 0x80 : 0) | 96;
      pipeline.arrive(picture * 100 + half * 10, BASE_MS + picture * 100 + half * 10);
      pipeline.rtp("video", { data, from: 0, to: data.length });
    }
  }
  pipeline.flush();
  return out;
}

Deno.test("RTSP: once its markers have proved right a picture comes out with its last packet", () => {
  const right = picturesOf(() => [false, true], 60);
  assert.equal(right.length, 60);
  // For the first pictures the next one is waited for; the time of their own packets counts.
  assert.ok(right.slice(0, 30).every(({ after }, i) => after === 2 * i + 3));
  assert.ok(right.slice(31).every(({ after }, i) => after === 2 * (i + 31) + 2));
  assert.ok(right.every(({ capturedAtMs }, i) => capturedAtMs === 100 * i + 10));
});

Deno.test("RTSP: without markers, or with wrong ones, every picture is whole and has its own time", () => {
  for (const markers of [[false, false], [true, true], [true, false]] as const) {
    const out = picturesOf(() => markers, 60);
    assert.equal(out.length, 60, `${markers}`);
    assert.ok(out.every(({ capturedAtMs }, i) => capturedAtMs === 100 * i + 10));
  }
  // One that is wrong in the middle of a long right row costs up to the next key picture, once.
  const out = picturesOf((picture) => picture === 100 ? [true, true] : [false, true], 150);
  assert.ok(out.length >= 120 && out.length < 150, `${out.length} pictures`);
});

for (const soundPpm of [150, -150]) {
  Deno.test(`NexusTalk: an hour of sound with a clock that is ${soundPpm} millionths off stays within ${MOST_MS} ms of the pictures`, () => {
    let nowMs = 0;
    const time = new NexusClock({
      now: () => BASE_MS + nowMs,
      monotonic: () => nowMs,
      sleep: () => Promise.reject(new Error("nothing waits here")),
    });
    time.begin([
      { kind: "video", ticksPerSecond: 90_000, startTime: 0 },
      { kind: "audio", ticksPerSecond: SOUND_HZ, startTime: 0 },
    ]);
    const last = { video: 0, audio: 0 };
    const units: { kind: "video" | "audio"; atMs: number; us: number }[] = [];
    let count = 0;
    for (const { atMs, arrivesMs, kind } of hourOf(soundPpm, seededRandom(41))) {
      if (kind === "report") continue;
      nowMs = arrivesMs;
      // Sound is counted in samples, pictures by the camera's clock.
      const ticks = kind === "video" ? Math.round(atMs * 90) : FRAME_TICKS * count++;
      time.advance(kind, ticks - last[kind]);
      last[kind] = ticks;
      units.push({ kind, atMs, us: time.takeUs(kind) });
    }
    const worst = worstSkewMs(units);
    assert.ok(worst <= MOST_MS, `${worst.toFixed(1)} ms`);
  });
}
