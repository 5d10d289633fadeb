/** Live video of a Nest account against the simulated cloud: the whole flow, and what may go wrong. */
import assert from "node:assert/strict";
import { join } from "node:path";
import * as v from "valibot";
import { accountTypes } from "../../core/sources/mod.ts";
import { splitLengthPrefixed } from "../../core/media/annexb.ts";
import { type AccessUnit, type Session, sourceErrorKind } from "../../core/types.ts";
import {
  type Fault,
  type NestCameraOptions,
  type NestSimulatorOptions,
  readMarkAac,
  readMarkNal,
  startNestSimulator,
} from "../../simulators/mod.ts";
import { createFakeClock, type FakeClock } from "../support/fake_clock.ts";
import { errorOf, settled, testContext } from "./world.ts";

const LIVE: NestCameraOptions = {
  name: "Yard",
  widthPx: 320,
  heightPx: 180,
  live: { fps: 10, gopPictures: 10 },
};

/** A cloud with one live camera and an account that watches it, in fake time. */
async function createWorld(
  given: {
    readonly google?: boolean;
    readonly options?: Record<string, unknown>;
    readonly camera?: Partial<NestCameraOptions>;
    readonly cloud?: Partial<NestSimulatorOptions>;
  } = {},
) {
  const clock = createFakeClock(undefined, { breathMs: 1 });
  const cloud = await startNestSimulator({
    cameras: [{ ...LIVE, ...given.camera }],
    clock,
    ...given.cloud,
  });
  const folder = await Deno.makeTempDir();
  const ca = join(folder, "ca.pem");
  await Deno.writeTextFile(ca, cloud.caPem ?? "");
  const { accessToken, issueToken, cookie } = cloud.credentials;
  const context = testContext(clock);
  const account = accountTypes.nest.open(
    v.parse(accountTypes.nest.options, {
      ...(given.google ? { issueToken, cookie } : { accessToken }),
      ...{ endpoints: cloud.endpoints, ca, width: 160, fps: 10 },
      ...given.options,
    }),
    context,
  );
  // The loop is encoded outside of fake time.
  await cloud.camera("Yard").ready();
  const find = async () => {
    const [camera] = await settled(
      account.cameras({ signal: new AbortController().signal }),
      clock,
    );
    assert.ok(camera);
    return camera;
  };
  const camera = await find();
  return {
    ...{ clock, cloud, account, camera, find, log: context.log },
    open: (
      { signal = new AbortController().signal, stepMs = 10 }: {
        readonly signal?: AbortSignal;
        readonly stepMs?: number;
      } = {},
    ) => settled(camera.source.open({ signal }), clock, { stepMs }),
    asked: (what: string) => cloud.requests.get(`nexus ${what}`) ?? 0,
    async [Symbol.asyncDispose]() {
      await settled(account[Symbol.asyncDispose](), clock);
      await cloud.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

/**
 * What a session gives within so much fake time, and how it ended if it did. With `pictures` it is
 * watched on until so many came: the network goes at its own pace.
 */
async function watch(
  session: Session,
  clock: FakeClock,
  ms: number,
  { stepMs = 50, pictures = 0 }: { readonly stepMs?: number; readonly pictures?: number } = {},
) {
  const units: AccessUnit[] = [];
  let ended = false;
  let error: unknown;
  const reading = (async () => {
    try {
      for await (const unit of session) units.push(unit);
    } catch (thrown) {
      error = thrown;
    }
    ended = true;
  })();
  const lacks = () => units.filter(({ trackId }) => trackId === 1).length < pictures;
  for (let passed = 0; !ended && (passed < ms || (lacks() && passed < 60_000)); passed += stepMs) {
    await clock.advance(stepMs);
  }
  return { units, reading, error: () => error, ended: () => ended };
}

const marksOf = (units: readonly AccessUnit[]) =>
  units.filter(({ trackId }) => trackId === 1).map((unit) => {
    const nals = splitLengthPrefixed(unit.data);
    const mark = nals.map((nal) => readMarkNal(nal, "h264")).find((found) => found !== undefined);
    assert.ok(mark, "a picture without its mark");
    return { unit, mark, nals };
  });
const countersOf = (units: readonly AccessUnit[]) => marksOf(units).map(({ mark }) => mark.counter);
const isRow = (counters: readonly number[]) =>
  counters.every((counter, index) => counter === (counters[0] ?? 0) + index);

for (const google of [false, true]) {
  const kind = google ? "Google" : "Nest";
  Deno.test(`a ${kind} account's camera is played with sound, every picture once and in time`, async () => {
    await using world = await createWorld({ google });
    const session = await world.open();
    assert.deepEqual(session.tracks.map(({ kind, codec }) => [kind, codec]), [
      ["video", "h264"],
      ["audio", "aac"],
    ]);
    const { units } = await watch(session, world.clock, 5000, { pictures: 48 });
    await settled(session[Symbol.asyncDispose](), world.clock);
    const pictures = marksOf(units);
    assert.ok(pictures.length > 45, `${pictures.length} pictures`);
    assert.ok(isRow(countersOf(units)));
    assert.equal(units[0]?.isKey, true);
    for (const { nals, unit, mark } of pictures) {
      assert.equal(nals.length, 3, "the mark and two slices");
      assert.equal(unit.isKey, mark.counter % 10 === 1);
    }
    const sounds = units.filter(({ trackId }) => trackId === 2);
    assert.ok(sounds.length > 200);
    // Sound and picture stay together: media time and capture time differ by one and the same.
    const offsets = [
      ...pictures.map(({ unit, mark }) => unit.ptsUs / 1000 - mark.takenAtMs),
      ...sounds.map(({ data, ptsUs }) => ptsUs / 1000 - (readMarkAac(data)?.takenAtMs ?? NaN)),
    ];
    assert.ok(Math.max(...offsets) - Math.min(...offsets) < 2, "more than 2 ms apart");
    // The clocks of cloud and viewer are one here, so the label is exact.
    for (const { unit, mark } of pictures) {
      assert.ok(Math.abs(unit.capturedAtMs - mark.takenAtMs) <= 60);
    }
    assert.deepEqual(world.log.lines.filter((line) => /^(warn|error)/.test(line)), []);
  });
}

Deno.test("sound is not asked for where it is off, in the options or at the camera", async () => {
  for (
    const given of [{ options: { audio: false } }, { camera: { live: { fps: 10, audio: false } } }]
  ) {
    await using world = await createWorld(given);
    const session = await world.open();
    assert.deepEqual(session.tracks.map(({ kind }) => kind), ["video"]);
    await settled(session[Symbol.asyncDispose](), world.clock);
  }
});

/** Faults after which the same session goes on. */
const ENDURED: readonly (readonly [string, Fault, { readonly gap?: boolean }])[] = [
  ["a redirect in place of OK", { kind: "redirect", at: "hello", count: 1 }, {}],
  ["a redirect right after OK", { kind: "redirect", at: "ok", count: 1 }, {}],
  ["a redirect after START_PLAYBACK", { kind: "redirect", at: "start", count: 1 }, {}],
  ["a redirect in mid-stream", { kind: "redirect", ms: 1500, count: 1 }, { gap: true }],
  ["ERROR 3 at HELLO", { kind: "auth-error", at: "hello", count: 1 }, {}],
  ["ERROR 3 at START_PLAYBACK", { kind: "auth-error", at: "start", count: 1 }, {}],
  ["ERROR 3 in mid-stream", { kind: "auth-error", ms: 1500, count: 1 }, {}],
  ["every packet cut in two", { kind: "split" }, {}],
  ["packets joined", { kind: "joined" }, {}],
  ["long packets only", { kind: "long" }, {}],
  ["zeros written out", { kind: "zeros" }, {}],
  ["packets of unknown types", { kind: "unknown" }, {}],
  ["a timestamp jump of an hour", { kind: "timestamp-jump", ms: 1500, count: 1 }, {}],
  ["a timestamp jump back", { kind: "timestamp-jump", ticks: -9e6, ms: 1500, count: 1 }, {}],
  ["a negative delta", { kind: "negative-delta", ms: 1500, count: 1 }, {}],
  ["pictures left out, and told", { kind: "delta-gap", ms: 1000, count: 1 }, { gap: true }],
];

for (const [name, fault, { gap = false }] of ENDURED) {
  Deno.test(`${name}: the session goes on, in step and in order`, async () => {
    await using world = await createWorld();
    world.cloud.faults.add(fault);
    const session = await world.open();
    const { units, error } = await watch(session, world.clock, 6000, { pictures: 50 });
    await settled(session[Symbol.asyncDispose](), world.clock);
    assert.equal(error(), undefined);
    const pictures = marksOf(units);
    const counters = countersOf(units);
    assert.ok(pictures.length >= 45);
    if (!gap) assert.ok(isRow(counters), `${counters}`);
    assert.ok((counters.at(-1) ?? 0) - (counters[0] ?? 0) > 45, `${counters}`);
    let last = -Infinity;
    for (const [index, { unit, mark }] of pictures.entries()) {
      assert.ok(unit.dtsUs > last);
      last = unit.dtsUs;
      const previous = pictures[index - 1];
      if (!previous || previous.mark.counter + 1 === mark.counter) continue;
      assert.ok(unit.isKey, "after a gap it goes on with a key picture");
    }
    // What the timestamps say of the whole stays true, whatever one of them said.
    const [first] = pictures;
    const end = pictures.at(-1);
    assert.ok(first && end);
    const drift = (end.unit.ptsUs - first.unit.ptsUs) / 1000 -
      (end.mark.takenAtMs - first.mark.takenAtMs);
    assert.ok(Math.abs(drift) <= 200, `the times are ${drift} ms off`);
    const sound = units.findLast(({ trackId }) => trackId === 2);
    const skew = (sound?.ptsUs ?? NaN) / 1000 - end.unit.ptsUs / 1000 -
      ((readMarkAac(sound?.data ?? new Uint8Array())?.takenAtMs ?? NaN) - end.mark.takenAtMs);
    const isJump = fault.kind === "timestamp-jump"; // set right by arrival, so by a packet or two
    assert.ok(Math.abs(skew) <= (isJump ? 150 : 40), `sound and picture are ${skew} ms apart`);
  });
}

Deno.test("a parameter set change comes with the first unit that needs it", async () => {
  await using world = await createWorld();
  await world.cloud.camera("Yard").ready("other");
  world.cloud.faults.add({ kind: "parameter-change", ms: 1500, count: 1 });
  const session = await world.open();
  const { units } = await watch(session, world.clock, 4000, { pictures: 35 });
  await settled(session[Symbol.asyncDispose](), world.clock);
  const changed = units.filter(({ track }) => track !== undefined);
  assert.equal(changed.length, 1);
  assert.equal(changed[0]?.isKey, true);
  const track = changed[0]?.track;
  assert.ok(track?.kind === "video");
  assert.equal(track.widthPx, 640);
  assert.ok(isRow(countersOf(units)));
});

/** Faults that end the session, with what it says. */
const ENDING: readonly (readonly [Fault, RegExp])[] = [
  [{ kind: "playback-end", reason: 0, ms: 2000 }, /the cloud ended the live stream/],
  [{ kind: "playback-end", reason: 4, ms: 2000 }, /out of the cloud's reach/],
  [{ kind: "playback-end", reason: 128, ms: 2000 }, /the live stream is over/],
  [{ kind: "stall", ms: 2000 }, /fell silent for 10 s/],
  [{ kind: "reset", on: "nexus", ms: 2000 }, /closed by|broke/],
  [{ kind: "close", ms: 2000 }, /closed by/],
  [{ kind: "error", code: 6, ms: 2000 }, /the cloud has a problem of its own/],
  [{ kind: "garbage", ms: 2000 }, /sent what is not NexusTalk: a packet declares 1073741824/],
];

for (const [fault, message] of ENDING) {
  const name = fault.reason === undefined ? fault.kind : `${fault.kind} ${fault.reason}`;
  Deno.test(`${name} ends the session with its cause, and keeps all that came before`, async () => {
    await using world = await createWorld();
    world.cloud.faults.add({ ...fault, count: 1 });
    const session = await world.open();
    const { units, error, reading } = await watch(session, world.clock, 14_000);
    await settled(reading, world.clock);
    const cause = error();
    assert.ok(cause instanceof Error);
    assert.match(cause.message, message);
    const counters = countersOf(units);
    assert.ok(isRow(counters));
    // Nothing that was sent is missing, but for the last picture where it may not be whole.
    const { lastLiveCounter } = world.cloud.camera("Yard").served;
    assert.ok(lastLiveCounter - (counters.at(-1) ?? 0) <= 1, `${counters} of ${lastLiveCounter}`);
    await settled(session[Symbol.asyncDispose](), world.clock);
  });
}

Deno.test("a camera out of reach is waited for, not hammered, and its pictures are not asked for", async () => {
  await using world = await createWorld();
  world.cloud.camera("Yard").setState("offline");
  const error = await errorOf(world.open());
  assert.equal(sourceErrorKind(error), "offline");
  assert.ok("retryAfterMs" in error && error.retryAfterMs === 10_000);
  assert.equal(world.asked("HELLO"), 1);
  assert.equal(world.asked("START_PLAYBACK"), 1);
  assert.equal(world.cloud.camera("Yard").served.requests, 0);
});

Deno.test("PING is sent every 15 s, so the server's minute never runs out", async () => {
  // A picture a second and no sound: what counts is the time that passes.
  await using world = await createWorld({
    camera: { live: { fps: 1, gopPictures: 2, audio: false } },
  });
  const session = await world.open();
  const { error } = await watch(session, world.clock, 100_000, { stepMs: 250 });
  assert.equal(error(), undefined);
  assert.ok(world.asked("PING") === 6, `${world.asked("PING")} pings`);
  assert.equal(world.asked("closed for want of PING"), 0);
  await settled(session[Symbol.asyncDispose](), world.clock);
});

for (const oliveToken of ["session", "jwt"] as const) {
  Deno.test(`a server that wants the ${oliveToken} token gets it, and first the next time`, async () => {
    await using world = await createWorld({ google: true, cloud: { oliveToken } });
    for (const round of [1, 2]) {
      const session = await world.open();
      await settled(session[Symbol.asyncDispose](), world.clock);
      assert.equal(world.asked("refused"), oliveToken === "jwt" ? 1 : 0, `round ${round}`);
    }
  });
}

Deno.test("a login that ran out is renewed on the same connection", async () => {
  await using world = await createWorld();
  world.cloud.expireTokens();
  const session = await world.open();
  assert.deepEqual([world.asked("HELLO"), world.asked("AUTHORIZE_REQUEST")], [1, 1]);
  await settled(session[Symbol.asyncDispose](), world.clock);
});

Deno.test("redirects are followed to the cloud's own hosts only, and not without end", async () => {
  const hosts = [
    ...["169.254.169.254", "10.0.0.1:1443", "evil.example", "dropcam.com.evil.example"],
    ...["user@nexus.dropcam.com", "evil.example/.dropcam.com", "", "[::ffff:10.0.0.1]"],
  ];
  for (const host of hosts) {
    await using world = await createWorld({ options: { video: "stream" } });
    world.cloud.faults.add({ kind: "redirect-to", host, at: "ok" });
    const error = await errorOf(world.open());
    assert.equal(sourceErrorKind(error), "protocol", host);
    assert.match(error.message, /refused|no valid host/);
    assert.equal(world.asked("HELLO"), 1);
  }
  await using world = await createWorld({ options: { video: "stream" } });
  world.cloud.faults.add({ kind: "redirect", at: "ok" });
  assert.match((await errorOf(world.open())).message, /sent on more than 5 times in a row/);
  assert.equal(world.asked("HELLO"), 6);
});

Deno.test("a server whose certificate is not known is not talked to", async () => {
  await using world = await createWorld({ options: { video: "stream", ca: undefined } });
  const error = await errorOf(world.open());
  assert.match(error.message, /certificate was not accepted.*"ca"/);
  assert.equal(world.asked("HELLO"), 0);
});

Deno.test("where the direct way is blocked the WebSocket is taken, with the same pictures", async () => {
  await using world = await createWorld({ options: { video: "stream" } });
  world.cloud.blockLive("direct", true);
  const session = await world.open();
  const { units } = await watch(session, world.clock, 3000, { pictures: 28 });
  assert.ok(isRow(countersOf(units)) && countersOf(units).length > 25);
  await settled(session[Symbol.asyncDispose](), world.clock);
});

Deno.test("where the stream does not work pictures are recorded, which is said once, until it does", async () => {
  await using world = await createWorld({ options: { fps: 0.2 } });
  world.cloud.blockLive("direct", true);
  world.cloud.blockLive("websocket", true);
  for (const _ of [1, 2]) {
    const session = await world.open();
    assert.deepEqual(session.tracks.map(({ codec }) => codec), ["jpeg"]);
    await settled(session[Symbol.asyncDispose](), world.clock);
  }
  const said = () => world.log.lines.filter((line) => line.includes("pictures are recorded"));
  assert.equal(said().length, 1);
  assert.match(said()[0] ?? "", /^warn: Yard: the live stream does not work.*every 10 minutes/);

  // While pictures are recorded the stream is tried again, in the background.
  const session = await world.open();
  const first = await watch(session, world.clock, 595_000, { stepMs: 1000 });
  assert.equal(first.ended(), false, "pictures went on while the stream did not work");
  world.cloud.blockLive("direct", false);
  // In small steps, for the network to keep up with the time.
  for (let step = 0; step < 3000 && !first.ended(); step++) await world.clock.advance(10);
  assert.match(String(first.error()), /changing over to the live stream/);
  assert.ok(first.units.length > 100, `${first.units.length} pictures`);
  const helloes = world.asked("HELLO");
  const stream = await world.open();
  assert.deepEqual(stream.tracks.map(({ codec }) => codec), ["h264", "aac"]);
  assert.equal(world.asked("HELLO"), helloes, "the stream that was tried is the one taken");
  assert.ok(world.log.lines.some((line) => /^info: Yard: the live stream works again/.test(line)));
  await settled(stream[Symbol.asyncDispose](), world.clock);
});

Deno.test('"video" decides: pictures only, or the stream only', async () => {
  {
    await using world = await createWorld({ options: { video: "snapshot" } });
    const session = await world.open();
    assert.deepEqual(session.tracks.map(({ codec }) => codec), ["jpeg"]);
    assert.equal(world.asked("HELLO"), 0);
    await settled(session[Symbol.asyncDispose](), world.clock);
  }
  await using world = await createWorld({ options: { video: "stream" } });
  world.cloud.faults.add({ kind: "error", code: 4, at: "hello" });
  assert.match((await errorOf(world.open())).message, /no transcoder free/);
  assert.equal(world.cloud.camera("Yard").served.requests, 0);
});

Deno.test("a camera that was moved to Google Home is found to be gone, and why", async () => {
  await using world = await createWorld();
  world.cloud.camera("Yard").migrate();
  const error = await errorOf(world.open());
  assert.equal(sourceErrorKind(error), "gone");
  assert.match(error.message, /Yard was moved to Google Home/);
  assert.ok(world.log.lines.some((line) => /^warn: moved to Google Home/.test(line)));
});

Deno.test("no token is in any message, whatever goes wrong", async () => {
  await using world = await createWorld({ options: { video: "stream" } });
  const said: string[] = [];
  for (const kind of ["error", "close", "garbage", "stall"]) {
    world.cloud.faults.clear();
    world.cloud.faults.add({ kind, at: "hello" });
    said.push(String(await errorOf(world.open({ stepMs: 50 }))));
  }
  world.cloud.faults.clear();
  world.cloud.revokeAccessToken();
  said.push(String(await errorOf(world.open())));
  assert.match(said.at(-1) ?? "", /refuses "accessToken"/);
  const text = [...said, ...world.log.lines].join("\n");
  assert.ok(!text.includes(world.cloud.credentials.accessToken));
  assert.ok(!/b\.\d{7}\./.test(text));
});
