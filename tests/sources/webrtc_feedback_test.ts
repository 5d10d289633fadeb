/** Transport-wide feedback, read by another implementation: what arrived and when, and nothing else. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
  RtcpPacketConverter,
  RtcpTransportLayerFeedback,
  RunLengthChunk,
  StatusVectorChunk,
  TransportWideCC,
} from "werift";
import { TransportFeedback } from "../../core/sources/webrtc/transport_feedback.ts";
import { seededRandom } from "../support/seeded_random.ts";

/** What a feedback tells: every number with the moment of its arrival, ms; `undefined`: lost. */
function read(packet: Uint8Array): [number, number | undefined][] {
  assert.equal(packet.length % 4, 0);
  const [rtcp, ...others] = RtcpPacketConverter.deSerialize(Buffer.from(packet));
  assert.ok(rtcp instanceof RtcpTransportLayerFeedback && others.length === 0);
  const { feedback } = rtcp;
  assert.ok(feedback instanceof TransportWideCC);
  assert.deepEqual([feedback.senderSsrc, feedback.mediaSourceSsrc], [0xfedc_ba98, 7]);
  const statuses = feedback.packetChunks.flatMap((chunk) =>
    chunk instanceof RunLengthChunk
      ? Array.from({ length: chunk.runLength }, () => chunk.packetStatus)
      : chunk instanceof StatusVectorChunk
      ? chunk.symbolList
      : []
  );
  let atMs = feedback.referenceTime * 64;
  const deltas = feedback.recvDeltas.values();
  return statuses.slice(0, feedback.packetStatusCount).map((status, index) => {
    const sequence = (feedback.baseSequenceNumber + index) & 0xffff;
    if (status === 0) return [sequence, undefined];
    atMs += (deltas.next().value?.delta ?? NaN) / 1000;
    return [sequence, atMs];
  });
}

function createWorld() {
  const told: [number, number | undefined][] = [];
  const feedback = new TransportFeedback({
    ssrcs: () => ({ sender: 0xfedc_ba98, media: 7 }),
    send: (packet) => told.push(...read(packet)),
  });
  return { told, feedback };
}

Deno.test("what arrived is told every 100 ms, what did not is told as lost, over the wrap of the numbers", () => {
  const { told, feedback } = createWorld();
  const arrivals = [[65_534, 10], [65_535, 11], [1, 30.25], [0, 31], [4, 95], [5, 200]] as const;
  for (const [sequence, atMs] of arrivals) feedback.arrived(sequence, atMs);
  assert.deepEqual(told, [
    ...[[65_534, 10], [65_535, 11], [0, 31], [1, 30.25]],
    ...[[2, undefined], [3, undefined], [4, 95]],
  ]);
});

Deno.test("a silence of minutes and a jump of the numbers are survived", () => {
  const { told, feedback } = createWorld();
  feedback.arrived(1, 0);
  feedback.arrived(2, 300_000);
  feedback.arrived(30_000, 300_001);
  feedback.arrived(30_001, 400_000);
  assert.deepEqual(told.slice(0, 1), [[1, 0]]);
  assert.deepEqual(told.at(-1), [30_000, 300_001]);
  assert.ok(told.length <= 1001);
});

Deno.test("lost, swapped and late packets in any pattern: each is told of once, with its time", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = seededRandom(seed);
    const { told, feedback } = createWorld();
    const first = Math.floor(random() * 65_536);
    const arrivedAtMs = new Map<number, number>();
    const arrivals = Array.from({ length: 300 }, (_, index) => ({
      index,
      atMs: index * 7 + (random() < 0.1 ? random() * 20 : random()),
    })).filter(() => random() > 0.2).sort((a, b) => a.atMs - b.atMs);
    const base = arrivals[0]?.index ?? 0;
    for (const { index, atMs } of arrivals) {
      feedback.arrived((first + index) & 0xffff, atMs);
      arrivedAtMs.set(index, atMs);
    }
    feedback.arrived((first + 300) & 0xffff, 1e6); // gives out what is left
    told.forEach(([sequence, atMs], at) => {
      const index = base + at;
      assert.equal(sequence, (first + index) & 0xffff, `seed ${seed}`);
      if (atMs === undefined) return;
      assert.ok(Math.abs(atMs - (arrivedAtMs.get(index) ?? NaN)) <= 0.25, `seed ${seed}: ${index}`);
    });
    const heard = told.filter(([, atMs]) => atMs !== undefined).length;
    // What came after its place had been told of as lost stays so.
    assert.ok(
      heard <= arrivedAtMs.size && heard > 0.8 * arrivedAtMs.size,
      `seed ${seed}: ${heard}`,
    );
  }
});
