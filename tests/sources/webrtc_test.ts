/** WebRTC cameras: packets into order, descriptions put right, and recordings that lose nothing. */
import assert from "node:assert/strict";
import * as v from "valibot";
import { openGoogleSdmAccount } from "../../core/sources/google/account.ts";
import type { JoinedSession } from "../../core/sources/google/joined_session.ts";
import type { CommandQuota } from "../../core/sources/google/quota.ts";
import { googleSdmOptions } from "../../core/sources/google/options.ts";
import { answerForWerift, offerForNest } from "../../core/sources/webrtc/peer.ts";
import { ReorderBuffer } from "../../core/sources/webrtc/reorder.ts";
import type { AccessUnit } from "../../core/types.ts";
import type { SdmCameraOptions } from "../../simulators/sdm/camera.ts";
import { type SdmSimulator, startSdmSimulator } from "../../simulators/sdm/simulator.ts";
import { readMarkNal, readMarkOpus } from "../../simulators/scene/scene_mark.ts";
import { createFakeClock, type FakeClock } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { createTestLog } from "./world.ts";

Deno.test("packets in any order within the window come out in theirs, each once, and what is lost is counted", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = seededRandom(seed);
    const first = Math.floor(random() * 65_536);
    const count = 300;
    const out: number[] = [];
    const buffer = new ReorderBuffer<number>({ windowMs: 250, onPacket: (one) => out.push(one) });
    // Each packet is sent every 5 ms and takes up to 100 ms; some never arrive, some twice.
    const arrivals: { index: number; atMs: number }[] = [];
    let lost = 0;
    for (let index = 0; index < count; index++) {
      // The first fixes where counting begins, the last tells that those before it are missing.
      const isEdge = index === 0 || index === count - 1;
      if (!isEdge && random() < 0.05) {
        lost++;
        continue;
      }
      const delayMs = index === 0 ? 0 : random() * 100;
      arrivals.push({ index, atMs: index * 5 + delayMs });
      if (random() < 0.05) arrivals.push({ index, atMs: index * 5 + random() * 100 });
    }
    arrivals.sort((a, b) => a.atMs - b.atMs);
    const begin = arrivals.findIndex(({ index }) => index === 0);
    for (const { index, atMs } of arrivals.slice(begin)) {
      const sequence = (first + index) & 0xffff;
      buffer.push(index, { sequence, ssrc: 7, nowMs: atMs });
    }
    buffer.tick(count * 5 + 1000);
    assert.deepEqual(out, [...new Set(out)].sort((a, b) => a - b), `seed ${seed}`);
    assert.equal(out.length, count - lost, `seed ${seed}`);
    assert.equal(buffer.counters.lost, lost, `seed ${seed}`);
    assert.equal(buffer.isWaiting, false);
  }
});

Deno.test("a missing packet is asked for again until the window is over", () => {
  const buffer = new ReorderBuffer<number>({ windowMs: 250, onPacket() {} });
  buffer.push(0, { sequence: 65_534, ssrc: 1, nowMs: 0 });
  buffer.push(2, { sequence: 0, ssrc: 1, nowMs: 5 });
  assert.deepEqual(buffer.tick(10), []);
  assert.deepEqual(buffer.tick(20), [65_535]);
  assert.deepEqual(buffer.tick(40), []);
  assert.deepEqual(buffer.tick(80), [65_535]);
  assert.deepEqual(buffer.tick(256), []);
  assert.equal(buffer.isWaiting, false);
  assert.equal(buffer.counters.lost, 1);
});

Deno.test("any numbers at all leave the buffer bounded and alive", () => {
  const random = seededRandom(3);
  let out = 0;
  const buffer = new ReorderBuffer<number>({ windowMs: 250, onPacket: () => out++ });
  let sequence = 0;
  for (let i = 0; i < 100_000; i++) {
    // Mostly near the one before; now and then anywhere.
    sequence = random() < 0.05
      ? Math.floor(random() * 65_536)
      : (sequence + Math.floor(random() * 40) - 15) & 0xffff;
    buffer.push(i, {
      sequence,
      ssrc: random() < 0.001 ? 2 : 1,
      nowMs: i,
    });
    if (i % 100 === 0) buffer.tick(i);
  }
  assert.ok(out > 0);
  buffer.tick(1e9);
  assert.equal(buffer.isWaiting, false);
  const { packets, lost, reordered, ignored } = buffer.counters;
  assert.ok(Math.min(lost, reordered) > 1000, JSON.stringify(buffer.counters));
  assert.equal(packets, out);
  assert.equal(packets + ignored, 100_000, "each came out or was left out");
});

Deno.test("an answer with Nest's quirks becomes one that can be taken", () => {
  const answer = [
    "v=0",
    "m=audio 19305 UDP/TLS/RTP/SAVPF 111",
    "a=candidate: 1 udp 2113939711 142.250.9.127 19305 typ host generation 0",
    "a=candidate: 1 tcp 2113939710 142.250.9.127 19305 typ host tcptype passive generation 0",
    "a=candidate: 1 ssltcp 2113939709 142.250.9.127 443 typ host generation 0",
    "a=candidate: 1 udp 1 127.0.0.1 80 typ host generation 0",
    "a=candidate: 1 udp 1 169.254.169.254 80 typ host generation 0",
    "a=sendrecv",
    "m=application 9 DTLS/SCTP 5000",
    "a=sctpmap:5000 webrtc-datachannel 1024",
    "",
  ].join("\r\n");
  const fixed = answerForWerift(answer, { loopback: false });
  assert.deepEqual(fixed.split("\r\n").filter((line) => line.startsWith("a=candidate")), [
    "a=candidate:nest1 1 udp 2113939711 142.250.9.127 19305 typ host generation 0",
  ]);
  assert.ok(fixed.includes("a=sendonly") && !fixed.includes("a=sendrecv"));
  assert.throws(() => answerForWerift("x".repeat(70_000), { loopback: false }), /70000 characters/);
  assert.equal(offerForNest("a=mid:0\r\na=ice-options:trickle\r\na=x\r\n"), "a=mid:0\r\na=x\r\n");
});

/** Streams that live only seconds need more than Google allows. */
const unlimited: CommandQuota = {
  take: () => Promise.resolve(),
  tryTake: () => true,
  refused: () => 60_000,
  accepted() {},
  [Symbol.dispose]() {},
};

/** The scene is encoded once for all tests of this file. */
const cacheFolder = await Deno.makeTempDir({ prefix: "camsink-webrtc-scene-" });
globalThis.addEventListener("unload", () => Deno.removeSync(cacheFolder, { recursive: true }));

interface World extends AsyncDisposable {
  readonly cloud: SdmSimulator;
  readonly clock: FakeClock;
  readonly log: ReturnType<typeof createTestLog>;
  open(): Promise<JoinedSession>;
}

async function createWorld(
  camera: SdmCameraOptions,
  options: { readonly streamLifeMs?: number } = {},
): Promise<World> {
  const clock = createFakeClock();
  const random = seededRandom(5);
  const cloud = await startSdmSimulator({
    ...{ clock, random, cacheFolder, ...options },
    cameras: [{ widthPx: 320, heightPx: 180, ...camera }],
  });
  const { projectId, clientId, clientSecret, refreshToken } = cloud.credentials;
  // Encoded beforehand: it takes seconds, in which fake time would run away.
  for (const one of cloud.cameras) await cloud.media.scene(one);
  const log = createTestLog();
  const account = openGoogleSdmAccount(
    v.parse(googleSdmOptions, {
      ...{ projectId, clientId, clientSecret, refreshToken },
      endpoints: cloud.endpoints,
    }),
    { clock, log, random, quota: unlimited },
  );
  return {
    ...{ cloud, clock, log },
    async open() {
      const { signal } = new AbortController();
      const [found] = await paced(account.cameras({ signal }), clock);
      assert.ok(found);
      return await paced(found.source.open({ signal }), clock) as JoinedSession;
    },
    async [Symbol.asyncDispose]() {
      await account[Symbol.asyncDispose]();
      await cloud.close();
    },
  };
}

/** The number that the simulated camera gave a unit. */
function counterOf(unit: AccessUnit): number {
  return markOf(unit)?.counter ?? -1;
}

/** When it was taken. */
function takenAtMsOf(unit: AccessUnit): number | undefined {
  return markOf(unit)?.takenAtMs;
}

function markOf(unit: AccessUnit) {
  if (unit.trackId !== 1) return readMarkOpus(unit.data);
  const view = new DataView(unit.data.buffer, unit.data.byteOffset, unit.data.length);
  for (let at = 0; at + 4 <= unit.data.length; at += 4 + view.getUint32(at)) {
    const mark = readMarkNal(unit.data.subarray(at + 4, at + 4 + view.getUint32(at)), "h264");
    if (mark) return mark;
  }
  return undefined;
}

/**
 * Lets fake time run, but no faster than packets come through real sockets: encrypting them takes real
 * time.
 */
async function paced<T>(promise: Promise<T>, clock: FakeClock): Promise<T> {
  let open = true;
  promise.then(() => open = false, () => open = false);
  for (let turn = 0; open; turn++) {
    assert.ok(turn < 20_000, "nothing came of it");
    await clock.advance(10);
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  return await promise;
}

/** What a session gives while `ms` pass. */
async function watch(
  session: AsyncIterable<AccessUnit>,
  { clock, ms }: { readonly clock: FakeClock; readonly ms: number },
) {
  const pictures: { counter: number; dtsUs: number; isKey: boolean }[] = [];
  const sounds: number[] = [];
  const iterator = session[Symbol.asyncIterator]();
  const endMs = clock.monotonic() + ms;
  while (clock.monotonic() < endMs) {
    const { done, value } = await paced(iterator.next(), clock);
    if (done) break;
    const counter = counterOf(value);
    if (value.trackId === 1) pictures.push({ counter, dtsUs: value.dtsUs, isKey: value.isKey });
    else sounds.push(counter);
  }
  return { pictures, sounds };
}

/** Numbers that are missing between the first and the last. */
function missing(counters: readonly number[]): number[] {
  const present = new Set(counters);
  return Array.from(
    { length: (counters.at(-1) ?? 0) - (counters[0] ?? 0) },
    (_, index) => (counters[0] ?? 0) + index,
  ).filter((counter) => !present.has(counter));
}

Deno.test("streams that cannot be extended follow each other without a gap and without a picture twice", async () => {
  await using world = await createWorld({ customName: "Bell", battery: true }, {
    streamLifeMs: 12_000,
  });
  const session = await world.open();
  const { pictures, sounds } = await watch(session, { clock: world.clock, ms: 20_000 });
  const counters = pictures.map(({ counter }) => counter);
  assert.ok(session.handOvers.handOvers >= 2, JSON.stringify(session.handOvers));
  assert.equal(session.handOvers.exact, session.handOvers.handOvers, "they met by their bytes");
  assert.deepEqual(missing(counters), []);
  assert.deepEqual(counters, [...new Set(counters)].sort((a, b) => a - b), "none twice");
  assert.ok(counters.length > 250);
  for (const [index, { dtsUs }] of pictures.entries()) {
    const before = pictures[index - 1]?.dtsUs ?? -Infinity;
    assert.ok(dtsUs - before > 60_000 || index === 0, `${dtsUs - before} µs at ${index}`);
    assert.ok(dtsUs - before < 74_000 || index === 0, `${dtsUs - before} µs at ${index}`);
  }
  // Until the first sender report, where sound stands beside the pictures is known to 60 ms only.
  const lostSounds = missing(sounds);
  assert.ok(lostSounds.length <= 3 * session.handOvers.handOvers, `missing: ${lostSounds}`);
  assert.equal(new Set(sounds).size, sounds.length);
  await session[Symbol.asyncDispose]();
});

Deno.test("where one stream is allowed, the gap between two is measured and said", async () => {
  await using world = await createWorld(
    { customName: "Bell", battery: true, maxStreams: 1 },
    { streamLifeMs: 12_000 },
  );
  const session = await world.open();
  const { pictures } = await watch(session, { clock: world.clock, ms: 20_000 });
  const counters = pictures.map(({ counter }) => counter);
  assert.ok(session.handOvers.handOvers >= 1, JSON.stringify(session.handOvers));
  assert.deepEqual(counters, [...new Set(counters)].sort((a, b) => a - b), "none twice");
  // At most what a connection takes: a second for the key picture, and the time to connect.
  assert.ok(missing(counters).length <= session.handOvers.handOvers * 15 * 6);
  const lostMs = missing(counters).length * 1000 / 15;
  if (session.handOvers.gaps > 0) {
    assert.ok(
      world.log.lines.some((line) =>
        /s are missing between two streams: this camera allows one/.test(line)
      ),
    );
    assert.ok(
      Math.abs(session.handOvers.gapMs - lostMs) < 2000,
      `${session.handOvers.gapMs} ${lostMs}`,
    );
  }
  await session[Symbol.asyncDispose]();
});

Deno.test("5 % loss and reordering cost nothing where packets can be asked for again (NACK, RTX)", async () => {
  await using world = await createWorld({ customName: "Yard" });
  const [camera] = world.cloud.cameras;
  assert.ok(camera);
  const session = await world.open();
  const faults = world.cloud.media.faults(camera);
  faults.lossPercent = 5;
  faults.reorderPercent = 5;
  const { pictures } = await watch(session, { clock: world.clock, ms: 15_000 });
  const counts = world.cloud.media.counts(camera);
  assert.ok(counts.lost > 20 && counts.reordered > 20, JSON.stringify(counts));
  assert.ok(counts.retransmitted >= counts.lost / 3, JSON.stringify(counts));
  const counters = pictures.map(({ counter }) => counter);
  // What was lost three times over is allowed to be missing: up to the next key picture.
  assert.ok(missing(counters).length <= 15, `missing: ${missing(counters)}`);
  await session[Symbol.asyncDispose]();
});

Deno.test("without retransmission what is lost is left out up to a key picture that was asked for", async () => {
  await using world = await createWorld({ customName: "Yard" });
  const [camera] = world.cloud.cameras;
  assert.ok(camera);
  const session = await world.open();
  const faults = world.cloud.media.faults(camera);
  faults.deaf = true;
  faults.lossPercent = 2;
  const { pictures } = await watch(session, { clock: world.clock, ms: 15_000 });
  faults.lossPercent = 0;
  const counters = pictures.map(({ counter }) => counter);
  const gone = missing(counters);
  assert.ok(gone.length > 0);
  // After every hole comes a key picture.
  for (const [index, { counter, isKey }] of pictures.entries()) {
    if (index > 0 && counter !== (counters[index - 1] ?? 0) + 1) assert.ok(isKey, `${counter}`);
  }
  assert.ok(world.cloud.media.counts(camera).pictureLossIndications > 2);
  await session[Symbol.asyncDispose]();
});

Deno.test("a network that is cut for 3 s costs these seconds and no more than a GOP", async () => {
  await using world = await createWorld({ customName: "Yard" });
  const { clock, cloud } = world;
  const [camera] = cloud.cameras;
  assert.ok(camera);
  const session = await world.open();
  const before = await watch(session, { clock, ms: 3000 });
  // What was sent meanwhile would be asked for again, and come.
  cloud.media.faults(camera).deaf = true;
  cloud.media.faults(camera).silentUntilMs = clock.monotonic() + 3000;
  const { pictures } = await watch(session, { clock, ms: 8000 });
  const gone = missing([...before.pictures, ...pictures].map(({ counter }) => counter));
  assert.ok(gone.length >= 40 && gone.length <= 45 + 20, `${gone.length} pictures are missing`);
  await session[Symbol.asyncDispose]();
});

for (
  const { soundLateMs, soundDriftPpm, seconds } of [
    { soundLateMs: 0, soundDriftPpm: 0, seconds: 10 },
    { soundLateMs: 180, soundDriftPpm: 0, seconds: 14 },
    // So long that the clock alone would carry it away by 45 ms.
    { soundLateMs: 180, soundDriftPpm: 1500, seconds: 30 },
  ]
) {
  Deno.test(`sound that comes ${soundLateMs} ms late by a clock ${soundDriftPpm} ppm too fast stays within 40 ms of its pictures`, async () => {
    await using world = await createWorld({ customName: "Yard" });
    const { clock, cloud } = world;
    Object.assign(cloud.media.faults(cloud.camera("Yard")), { soundLateMs, soundDriftPpm });
    const session = await world.open();
    const iterator = session[Symbol.asyncIterator]();
    const beganMs = clock.monotonic();
    /** What a unit's time is ahead of the moment at which it was taken, ms. */
    const ahead: { isSound: boolean; atMs: number; ms: number }[] = [];
    while (clock.monotonic() < beganMs + seconds * 1000) {
      const { done, value } = await paced(iterator.next(), clock);
      if (done) break;
      const takenAtMs = takenAtMsOf(value);
      if (takenAtMs === undefined) continue;
      const ms = value.ptsUs / 1000 - takenAtMs;
      ahead.push({ isSound: value.trackId !== 1, atMs: clock.monotonic() - beganMs, ms });
    }
    const pictures = ahead.filter(({ isSound }) => !isSound);
    // From the first reports on: they come after a second, and sound is moved by and by.
    const settledSound = ahead.filter(({ isSound, atMs }) => isSound && atMs > 4000);
    assert.ok(settledSound.length > 38 * (seconds - 4) && pictures.length > 10 * seconds);
    const skews = settledSound.map(({ ms, atMs }) => {
      const picture = pictures.findLast((one) => one.atMs <= atMs) ?? pictures[0];
      return Math.abs(ms - (picture?.ms ?? 0));
    });
    assert.ok(Math.max(...skews) <= 40, `apart by up to ${Math.max(...skews).toFixed(1)} ms`);
    await session[Symbol.asyncDispose]();
  });
}
