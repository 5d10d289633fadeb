/**
 * A Google Home account against the simulated services, and its parsers alone.
 *
 * @module
 */
import assert from "node:assert/strict";
import * as v from "valibot";
import { makeSecret } from "../../core/config/values.ts";
import { openGoogleHomeAccount } from "../../core/sources/google_home/account.ts";
import { masterToken } from "../../core/sources/google_home/android_auth.ts";
import { parseIsoDuration, parseManifest } from "../../core/sources/google_home/manifest.ts";
import { googleHomeOptions } from "../../core/sources/google_home/options.ts";
import { sourceErrorKind } from "../../core/types.ts";
import { type GoogleHomeSimulator, startGoogleHomeSimulator } from "../../simulators/mod.ts";
import { createNotes } from "../support/capture_fakes.ts";
import { createFakeClock, type FakeClock } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const signal = new AbortController().signal;

const CAMERAS = [
  { name: "Porch", id: "DEVICE_0123456789ABCDEF" },
  { name: "Old one", model: "Nest Cam IQ" },
  { name: "Garden", id: "DEVICE_FEDCBA9876543210" },
];

/** A home, the account at it, and what it says. */
async function open(
  { login = "master", historyMs = 3 * HOUR_MS }: {
    login?: "master" | "browser";
    historyMs?: number;
  } = {},
) {
  const clock = createFakeClock();
  const home = await startGoogleHomeSimulator({
    cameras: CAMERAS,
    clock,
    random: seededRandom(1),
    historyMs,
    footage: ({ camera, startMs, endMs }) =>
      new TextEncoder().encode(`${camera} ${startMs} ${endMs}`),
  });
  const { email, androidId, masterToken, issueToken, cookie } = home.credentials;
  const options = v.parse(googleHomeOptions, {
    ...(login === "master"
      ? { masterToken: "env:X", email, androidId }
      : { issueToken: "env:X", cookie: "env:X" }),
    history: `${historyMs / HOUR_MS}h`,
    endpoints: home.endpoints,
  });
  const log = createNotes();
  const account = openGoogleHomeAccount(
    login === "master"
      ? { ...options, masterToken: makeSecret(masterToken) }
      : { ...options, issueToken: makeSecret(issueToken), cookie: makeSecret(cookie) },
    { clock, log, random: seededRandom(2) },
  );
  return {
    ...{ clock, home, account, lines: log.lines },
    async [Symbol.asyncDispose]() {
      await account[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

/** What the first camera's archive holds. */
async function porch({ account }: { account: ReturnType<typeof openGoogleHomeAccount> }) {
  const [camera] = await account.cameras({ signal });
  assert.ok(camera && "archive" in camera);
  return camera.archive;
}

const since = (clock: FakeClock, agoMs: number) => new Date(clock.now() - agoMs);

function see(home: GoogleHomeSimulator, clock: FakeClock, agoMs: number, lengthMs: number): void {
  const startMs = clock.now() - agoMs;
  home.addEvent({ camera: "Porch", startMs, endMs: startMs + lengthMs });
}

for (const login of ["master", "browser"] as const) {
  Deno.test(`a ${login} login lists the cameras that Google keeps recordings of, and gives them out`, async () => {
    await using test = await open({ login });
    const { account, home, clock, lines } = test;
    const cameras = await account.cameras({ signal });
    assert.deepEqual(cameras.map(({ name, id }) => [name, id]), [
      ["Porch", "DEVICE_0123456789ABCDEF"],
      ["Garden", "DEVICE_FEDCBA9876543210"],
    ]);
    assert.equal(lines.filter((line) => /^warn .*Old one/.test(line)).length, 1);
    see(home, clock, HOUR_MS, 12_345);
    const archive = await porch(test);
    const found = await archive.list({ from: since(clock, 3 * HOUR_MS), signal });
    assert.equal(found.length, 1);
    const [piece] = found;
    assert.ok(piece);
    assert.equal(piece.end.getTime() - piece.start.getTime(), 12_345);
    assert.equal(
      new TextDecoder().decode(await archive.fetch(piece, { signal })),
      `Porch ${piece.start.getTime()} ${piece.end.getTime()}`,
    );
    assert.equal(home.requests.get("devices"), 1);
  });
}

Deno.test("a long event is fetched by the minute, one that may still grow is not listed yet", async () => {
  await using test = await open();
  const { home, clock } = test;
  see(home, clock, HOUR_MS, 150_000);
  see(home, clock, MINUTE_MS, 30_000);
  const archive = await porch(test);
  const list = () => archive.list({ from: since(clock, 2 * HOUR_MS), signal });
  const lengths = (await list()).map(({ start, end }) => end.getTime() - start.getTime());
  assert.deepEqual(lengths, [60_000, 60_000, 30_000]);
  await clock.advance(MINUTE_MS);
  assert.equal((await list()).length, 4);
});

Deno.test("ten days of history are asked for in windows that are accepted", async () => {
  await using test = await open({ historyMs: 240 * HOUR_MS });
  const { home, clock } = test;
  for (let hours = 1; hours < 240; hours += 7) see(home, clock, hours * HOUR_MS, 10_000);
  const archive = await porch(test);
  assert.equal(archive.historyMs, 240 * HOUR_MS);
  const found = await archive.list({ from: since(clock, archive.historyMs), signal });
  assert.equal(found.length, home.events.length);
  assert.deepEqual(found, [...found].sort((a, b) => a.start.getTime() - b.start.getTime()));
});

Deno.test("tokens are made anew after an hour, and when one is refused, without a word", async () => {
  await using test = await open();
  const { home, clock, lines } = test;
  see(home, clock, HOUR_MS, 10_000);
  const archive = await porch(test);
  const list = () => archive.list({ from: since(clock, 2 * HOUR_MS), signal });
  await list();
  const before = home.requests.get("token") ?? 0;
  home.expireTokens();
  assert.equal((await list()).length, 1);
  assert.equal(home.requests.get("token"), before + 1);
  await clock.advance(HOUR_MS - 4 * MINUTE_MS);
  await list();
  assert.equal(home.requests.get("token"), before + 2);
  assert.ok(lines.every((line) => !/^(warn|error)/.test(line) || /Old one/.test(line)));
});

Deno.test("a dead login is told with its remedy, and Google is not asked in a loop", async () => {
  await using test = await open();
  const { home, account, clock } = test;
  home.revoke();
  const failed = async () => {
    try {
      await account.cameras({ signal });
    } catch (error) {
      return error;
    }
  };
  const error = await failed();
  assert.equal(sourceErrorKind(error), "auth");
  assert.match(String(error), /master token.*docs\/cameras\.md.*BadAuthentication/);
  for (let tries = 0; tries < 10; tries++) await failed();
  assert.equal(home.requests.get("token"), 1);
  await clock.advance(6 * MINUTE_MS);
  await failed();
  assert.equal(home.requests.get("token"), 2);
});

Deno.test("each failure of the service has its kind, and says when to come again", async () => {
  await using test = await open();
  const { home, clock } = test;
  see(home, clock, HOUR_MS, 10_000);
  const archive = await porch(test);
  const [piece] = await archive.list({ from: since(clock, 2 * HOUR_MS), signal });
  assert.ok(piece);
  for (
    const [fault, kind, retryAfterMs] of [
      ["cut", "offline", undefined],
      ["status-403", "auth", 300_000],
      ["status-429", "rate", 5000],
      ["status-500", "offline", undefined],
    ] as const
  ) {
    home.fail(fault);
    await assert.rejects(archive.fetch(piece, { signal }), (error: Error) => {
      assert.equal(sourceErrorKind(error), kind, fault);
      assert.equal(Reflect.get(error, "retryAfterMs"), retryAfterMs, fault);
      return true;
    });
  }
  home.fail("token-expired");
  assert.ok(await archive.fetch(piece, { signal }));
});

Deno.test("a recording that has left the history is not there, which is no error", async () => {
  await using test = await open();
  const { home, clock } = test;
  see(home, clock, 2 * HOUR_MS, 10_000);
  const archive = await porch(test);
  const [piece] = await archive.list({ from: since(clock, 3 * HOUR_MS), signal });
  assert.ok(piece);
  await clock.advance(2 * HOUR_MS);
  assert.equal(await archive.fetch(piece, { signal }), undefined);
});

Deno.test("the set-up page's cookie gives the master token, once", async () => {
  await using test = await open();
  const { home, clock } = test;
  const auth = { endpoint: new URL(home.endpoints.android), clock, signal };
  const { email, androidId, oauthToken } = home.credentials;
  assert.equal(
    await masterToken(auth, { email, androidId, oauthToken }),
    home.credentials.masterToken,
  );
  await assert.rejects(
    masterToken(auth, { email, androidId, oauthToken }),
    (error) => sourceErrorKind(error) === "auth" && /good for one try/.test(String(error)),
  );
});

Deno.test("half a login is refused with what it lacks", () => {
  const problems = (input: object) => v.safeParse(googleHomeOptions, input).issues?.[0]?.message;
  assert.match(problems({ masterToken: "env:X" }) ?? "", /needs "email" and "androidId" too/);
  assert.match(problems({ issueToken: "env:X" }) ?? "", /needs "cookie" too/);
  assert.match(problems({}) ?? "", /no credentials/);
  assert.match(problems({ masterToken: "env:X", cookie: "env:X" }) ?? "", /two logins/);
});

Deno.test("a manifest's periods are read in any form, and those without times are left out", () => {
  const xml = `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">
    <Period duration='PT1M2.5S' programDateTime='2024-02-24T19:51:58.217Z' id="a"/>
    <Period id="b"><AdaptationSet/></Period>
    <x:Period programDateTime="2024-02-24T19:00:00Z"
      duration="PT12.345S"></x:Period>
    <PeriodLike programDateTime="2024-02-24T19:00:00Z" duration="PT5S"/>
    <Period programDateTime="yesterday" duration="PT5S"/>
  </MPD>`;
  assert.deepEqual(
    parseManifest(xml).map((
      { startMs, endMs },
    ) => [new Date(startMs).toISOString(), endMs - startMs]),
    [["2024-02-24T19:00:00.000Z", 12_345], ["2024-02-24T19:51:58.217Z", 62_500]],
  );
  assert.deepEqual(parseManifest('<MPD type="static"></MPD>'), []);
  for (
    const [text, ms] of [["PT0S", 0], ["PT1H", HOUR_MS], ["P1DT0.001S", 86_400_001], [
      "PT",
      NaN,
    ]] as const
  ) assert.equal(parseIsoDuration(text), ms);
});
