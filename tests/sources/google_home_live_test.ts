/**
 * Live cameras of a Google Home against the simulated Foyer service: with media that a fake clock can
 * hurry, and once with real WebRTC.
 *
 * @module
 */
import assert from "node:assert/strict";
import * as v from "valibot";
import { makeSecret } from "../../core/config/values.ts";
import { openGoogleHomeAccount } from "../../core/sources/google_home/account.ts";
import { googleHomeOptions } from "../../core/sources/google_home/options.ts";
import type { WebRtcSession, WebRtcSessionOptions } from "../../core/sources/webrtc/session.ts";
import {
  type AccessUnit,
  type Clock,
  type DiscoveredCamera,
  sourceErrorKind,
} from "../../core/types.ts";
import { startGoogleHomeSimulator } from "../../simulators/mod.ts";
import { readMarkNal } from "../../simulators/scene/scene_mark.ts";
import { createNotes } from "../support/capture_fakes.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { errorOf } from "./world.ts";

const { signal } = new AbortController();
const CALL_TIMEOUT_MS = 15_000;
const NOT_USED = { pictures: 0, dropped: 0, lostPackets: 0, reorderedPackets: 0 };

/** A session of a picture a second, which ends with its signal. */
async function openFakeSession(
  { exchange, clock, signal }: WebRtcSessionOptions,
): Promise<WebRtcSession> {
  await exchange("offer");
  const over = new AbortController();
  const ended = AbortSignal.any([signal, over.signal]);
  const units = async function* (): AsyncGenerator<AccessUnit> {
    while (!ended.aborted) {
      const us = Math.round(clock.monotonic() * 1000);
      const capturedAtMs = Math.round(clock.now());
      yield {
        trackId: 1,
        data: new Uint8Array(1),
        ptsUs: us,
        dtsUs: us,
        isKey: true,
        capturedAtMs,
      };
      await clock.sleep(1000, { signal: ended }).catch(() => {});
    }
  };
  const iterator = units();
  return {
    tracks: [],
    counters: { ...NOT_USED, askedAgain: 0, keyRequests: 0 },
    [Symbol.asyncIterator]: () => iterator,
    async [Symbol.asyncDispose]() {
      over.abort();
      await iterator.return(undefined);
    },
  };
}

/** A home with one live camera, and the account at it. */
async function createWorld({ login = "master", real = false }: {
  login?: "master" | "browser";
  real?: boolean;
} = {}) {
  const clock = createFakeClock();
  const home = await startGoogleHomeSimulator({
    cameras: [{ name: "Porch", id: "DEVICE_0123456789ABCDEF" }, { name: "Old one" }],
    ...{ clock, random: seededRandom(1), footage: () => new Uint8Array() },
    live: { widthPx: 320, heightPx: 192 },
    ...(real ? {} : {
      openPeer: () => Promise.resolve({ answerSdp: "answer", close: () => Promise.resolve() }),
    }),
  });
  if (real) await home.ready();
  const { email, androidId, masterToken, issueToken, cookie } = home.credentials;
  const options = v.parse(googleHomeOptions, {
    ...(login === "master"
      ? { masterToken: "env:X", email, androidId }
      : { issueToken: "env:X", cookie: "env:X" }),
    mode: "live",
    endpoints: home.endpoints,
  });
  const log = createNotes();
  /** Calls that are not answered yet: each has a timer that is called off when it is. */
  let underWay = 0;
  const watched: Clock = {
    ...clock,
    sleep(ms, options) {
      const sleeping = clock.sleep(ms, options);
      if (ms !== CALL_TIMEOUT_MS) return sleeping;
      underWay++;
      return sleeping.finally(() => underWay--);
    },
  };
  const account = openGoogleHomeAccount(
    login === "master"
      ? { ...options, masterToken: makeSecret(masterToken) }
      : { ...options, issueToken: makeSecret(issueToken), cookie: makeSecret(cookie) },
    {
      clock: watched,
      log,
      random: seededRandom(2),
      ...(real ? {} : { openSession: openFakeSession }),
    },
  );
  const camera = async (): Promise<DiscoveredCamera> => {
    const [found] = await account.cameras({ signal });
    assert.ok(found && "source" in found);
    return found;
  };
  return {
    ...{ clock, home, account, camera, lines: log.lines },
    requests: (kind: string) => home.requests.get(kind) ?? 0,
    /** Lets time pass, but none while an answer is on its way. */
    async pass(seconds: number) {
      for (let second = 0; second < seconds; second++) {
        await clock.advance(1000);
        while (underWay > 0) await new Promise((resolve) => setTimeout(resolve, 1));
      }
    },
    async [Symbol.asyncDispose]() {
      await account[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

for (const [login, seconds] of [["master", 3900], ["browser", 200]] as const) {
  Deno.test(`a ${login} login streams a camera for as long as it is extended: ${seconds} s`, async () => {
    await using world = await createWorld({ login });
    const { clock, home, requests, pass } = world;
    const { source } = await world.camera();
    const session = await source.open({ signal });
    assert.equal(home.openStreams, 1);
    let units = 0;
    let ended: unknown;
    const reading = (async () => {
      for await (const _unit of session) units++;
    })().catch((error) => ended = error);
    await pass(seconds);
    assert.equal(ended, undefined);
    // With a master token; one for the list and the streams, anew before it ends.
    if (login === "master") assert.equal(requests("token"), 2);
    assert.ok(units >= seconds - 100, `${units} pictures`);
    assert.deepEqual([requests("wake"), requests("offer")], [1, 1]);
    const extended = requests("extend");
    assert.ok(
      extended >= (seconds - 40) / 32 && extended <= seconds / 30 + 1,
      `${extended} extensions`,
    );
    await session[Symbol.asyncDispose]();
    await reading;
    assert.equal(home.openStreams, 0, "Google was told of the end");
    assert.equal(requests("end"), 1);
    assert.equal(clock.sleepers, 0);
  });
}

Deno.test("a stream that is not extended ends with an error, and the next one comes", async () => {
  await using world = await createWorld();
  const { clock, home, pass } = world;
  const { source } = await world.camera();
  const session = await source.open({ signal });
  home.extends = false;
  const reading = errorOf((async () => {
    for await (const _unit of session);
  })());
  await pass(40);
  const error = await reading;
  assert.equal(sourceErrorKind(error), "offline");
  assert.match(error.message, /does not extend the stream/);
  home.extends = true;
  const next = await source.open({ signal });
  await next[Symbol.asyncDispose]();
  assert.equal(home.openStreams, 0);
  assert.equal(clock.sleepers, 0);
});

Deno.test("a token that is refused in mid-stream costs nothing, a dead login is told with its remedy", async () => {
  await using world = await createWorld();
  const { home, requests, pass } = world;
  const { source } = await world.camera();
  const session = await source.open({ signal });
  const reading = (async () => {
    for await (const _unit of session);
  })();
  home.expireTokens();
  const before = requests("token");
  await pass(100);
  assert.equal(requests("token"), before + 1);
  assert.equal(home.openStreams, 1);
  await session[Symbol.asyncDispose]();
  await reading;
  home.revoke();
  const error = await errorOf(source.open({ signal }));
  assert.equal(sourceErrorKind(error), "auth");
  assert.match(error.message, /master token/);
});

Deno.test("closing the account ends its streams quietly", async () => {
  const world = await createWorld();
  const { source } = await world.camera();
  const session = await source.open({ signal });
  const reading = (async () => {
    for await (const _unit of session);
  })();
  await world.pass(2);
  await world[Symbol.asyncDispose]();
  await world.pass(3);
  await reading;
  assert.equal(world.clock.sleepers, 0);
});

Deno.test("with real WebRTC every picture comes, in order and once", async () => {
  await using world = await createWorld({ real: true });
  const { clock } = world;
  const { source } = await world.camera();
  const paced = async <T>(promise: Promise<T>): Promise<T> => {
    let open = true;
    promise.then(() => open = false, () => open = false);
    while (open) {
      await clock.advance(10);
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    return await promise;
  };
  const session = await paced(source.open({ signal }));
  const iterator = session[Symbol.asyncIterator]();
  const counters: number[] = [];
  while (counters.length < 45) {
    const { done, value } = await paced(iterator.next());
    assert.ok(!done);
    if (value.trackId !== 1) continue;
    const view = new DataView(value.data.buffer, value.data.byteOffset, value.data.length);
    for (let at = 0; at + 4 <= value.data.length; at += 4 + view.getUint32(at)) {
      const nal = value.data.subarray(at + 4, at + 4 + view.getUint32(at));
      const mark = readMarkNal(nal, "h264");
      if (mark) counters.push(mark.counter);
    }
  }
  const [first = 0] = counters;
  assert.deepEqual(counters, counters.map((_, index) => first + index));
  await paced(Promise.resolve(session[Symbol.asyncDispose]()));
});
