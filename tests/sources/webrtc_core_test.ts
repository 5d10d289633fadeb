/**
 * The WebRTC core against a simulated camera, one part of the standards at a time: what a key picture
 * is asked for with and what it needs (PLI, FIR, SPS and PPS), the forms in which H.264 travels (single
 * NAL units, STAP-A, FU-A), lost packets (NACK, RTX), the feedback on what may come (REMB, TWCC), and
 * numbers that wrap.
 *
 * @module
 */
import assert from "node:assert/strict";
import { joinAnnexB, splitLengthPrefixed } from "../../core/media/annexb.ts";
import { parseAvcConfig } from "../../core/media/h264.ts";
import { openWebRtcSession, type WebRtcSession } from "../../core/sources/webrtc/session.ts";
import { type AccessUnit, sourceErrorKind } from "../../core/types.ts";
import { type CodedScene, createCodedScene } from "../../simulators/scene/coded_scene.ts";
import { readMarkNal } from "../../simulators/scene/scene_mark.ts";
import {
  noPacketCounts,
  noPacketFaults,
  openWebRtcCamera,
  type PacketFaults,
  type WebRtcCameraPeer,
} from "../../simulators/sdm/webrtc_camera.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { runFfmpeg } from "../support/ffmpeg.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { createTestLog, errorOf } from "./world.ts";

const FPS = 15;
const FRAME_US = 1e6 / FPS;

interface Picture {
  readonly counter: number;
  readonly isKey: boolean;
  readonly ptsUs: number;
  readonly nals: readonly Uint8Array[];
}

/** A camera, and what stands between it and us. */
async function createWorld(spoil: Partial<PacketFaults> = {}) {
  const clock = createFakeClock();
  const size = { widthPx: 320, heightPx: 192 };
  const scene: CodedScene = await createCodedScene({
    ...{ name: "Yard", ...size, fps: FPS, audio: { codec: "opus" }, clock },
  });
  const faults: PacketFaults = { ...noPacketFaults(), ...spoil };
  const counts = noPacketCounts();
  const stop = new AbortController();
  const peers: WebRtcCameraPeer[] = [];

  /** Lets fake time run, but no faster than packets come through real sockets. */
  const paced = async <T>(promise: Promise<T>): Promise<T> => {
    let isOpen = true;
    promise.then(() => isOpen = false, () => isOpen = false);
    while (isOpen) {
      await clock.advance(10);
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    return await promise;
  };
  const open = () =>
    paced(openWebRtcSession({
      ...{ clock, log: createTestLog(), signal: stop.signal, loopback: true },
      async exchange(offerSdp) {
        const peer = await openWebRtcCamera({
          ...{ offerSdp, scene, clock, random: seededRandom(3), faults, counts },
          ...{ isAlive: () => true, hangs: () => false },
        });
        peers.push(peer);
        return peer.answerSdp;
      },
    }));
  /** The next pictures; each description is to be the one that the session began with. */
  const pictures = async (session: WebRtcSession, count: number): Promise<Picture[]> => {
    const iterator = session[Symbol.asyncIterator]();
    const found: Picture[] = [];
    while (found.length < count) {
      const { done, value } = await paced<IteratorResult<AccessUnit>>(iterator.next());
      assert.ok(!done, "the session has ended");
      if (value.track) assert.deepEqual(value.track, session.tracks.find(({ id }) => id === 1));
      if (value.trackId === 1) {
        const nals = splitLengthPrefixed(value.data).map((nal) => nal.slice());
        const mark = nals.map((nal) => readMarkNal(nal, "h264")).find((mark) => mark);
        assert.ok(mark, "a picture without its number");
        const { isKey, ptsUs } = value;
        found.push({ counter: mark.counter, isKey, ptsUs, nals });
      }
      value.release?.();
    }
    return found;
  };
  return {
    ...{ clock, scene, faults, counts, paced, open, pictures },
    async [Symbol.asyncDispose]() {
      stop.abort(new Error("enough"));
      await Promise.all(peers.map((peer) => peer.close()));
    },
  };
}

/** Holds a decoder that stops at the first damage against pictures, with the sets of the session. */
async function decodes(session: WebRtcSession, pictures: readonly Picture[]): Promise<void> {
  const track = session.tracks.find(({ kind }) => kind === "video");
  assert.ok(track);
  const { sps, pps } = parseAvcConfig(track.config);
  const { log } = await runFfmpeg({
    args: ["-v", "error", "-xerror", "-i", "in.h264", "-f", "null", "-"],
    inputs: { "in.h264": joinAnnexB([...sps, ...pps, ...pictures.flatMap(({ nals }) => nals)]) },
  });
  assert.equal(log.trim(), "");
}

Deno.test("SPS and PPS are kept over a key picture that a PLI gave without them", async () => {
  await using world = await createWorld();
  const { clock, counts, faults } = world;
  const session = await world.open();
  const before = await world.pictures(session, 10);
  const asked = { ...counts };
  Object.assign(faults, { withoutSets: true, deaf: true, silentUntilMs: clock.monotonic() + 400 });
  const after = await world.pictures(session, 40);
  const all = [...before, ...after];
  const holes = all.flatMap(({ counter }, index) =>
    index > 0 && counter !== (all[index - 1]?.counter ?? 0) + 1 ? [index] : []
  );
  assert.ok(holes.length > 0, "nothing was lost");
  for (const index of holes) assert.ok(all[index]?.isKey, `picture ${index} is not key`);
  assert.ok(counts.pictureLossIndications > asked.pictureLossIndications, "no PLI");
  await decodes(session, all);
});

Deno.test("a FIR asks for parameter sets, before the first picture and after a loss", async () => {
  await using world = await createWorld();
  const { clock, counts, faults } = world;
  const session = await world.open();
  assert.ok(counts.fullIntraRequests > 0 && counts.pictureLossIndications > 0);
  await world.pictures(session, 10);
  const before = counts.fullIntraRequests;
  Object.assign(faults, { deaf: true, silentUntilMs: clock.monotonic() + 400 });
  await world.pictures(session, 20);
  assert.ok(counts.fullIntraRequests > before);
});

Deno.test("a camera that sends no parameter sets at all is told of, and not recorded", async () => {
  await using world = await createWorld({ withoutSets: true });
  const error = await errorOf(world.open());
  assert.equal(sourceErrorKind(error), "offline");
  assert.match(error.message, /no picture for 20 s: the camera sends no parameter sets/);
});

Deno.test("single NAL units, STAP-A and FU-A give the camera's own NAL units, over the wrap of sequence numbers and time stamps", async () => {
  await using world = await createWorld();
  const session = await world.open();
  // Time stamps wrap after 11.7 s, sequence numbers after 16 packets.
  const pictures = await world.pictures(session, 13 * FPS);
  const first = pictures[0];
  assert.ok(first);
  for (const [index, { counter, ptsUs, isKey, nals }] of pictures.entries()) {
    assert.equal(counter, first.counter + index);
    assert.ok(Math.abs(ptsUs - first.ptsUs - index * FRAME_US) < 5000, `${ptsUs} at ${index}`);
    const sent = world.scene.picture(counter - 1);
    assert.equal(isKey, sent.isKey);
    assert.deepEqual(nals.map((nal) => [...nal]), sent.nals.map((nal) => [...nal]));
  }
  for (const [form, count] of Object.entries(world.counts.forms)) assert.ok(count > 0, form);
});

Deno.test("what is lost is asked for by NACK and comes again by RTX", async () => {
  await using world = await createWorld();
  const { counts, faults } = world;
  const session = await world.open();
  await world.pictures(session, 5);
  faults.lossPercent = 10;
  const pictures = await world.pictures(session, 60);
  const told = JSON.stringify({ counts, ours: session.counters });
  assert.ok(counts.retransmitted > 0 && session.counters.askedAgain >= counts.retransmitted, told);
  assert.ok(session.counters.lostPackets < counts.lost, told);
  const counters = pictures.map(({ counter }) => counter);
  assert.deepEqual(counters, [...new Set(counters)].sort((a, b) => a - b));
  await decodes(session, pictures);
});

Deno.test("REMB allows 4 Mbit/s, and TWCC tells what has arrived", async () => {
  await using world = await createWorld();
  const { counts } = world;
  const session = await world.open();
  await world.pictures(session, 60);
  assert.ok(Math.abs(counts.rembBitsPerSecond - 4e6) < 1000, `${counts.rembBitsPerSecond}`);
  const packets = Object.values(counts.forms).reduce((sum, count) => sum + count);
  assert.ok(counts.toldByTransport > packets / 2, `${counts.toldByTransport} of ${packets}`);
});
