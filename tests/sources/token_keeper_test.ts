/** The keeper of logins and tokens that all kinds of accounts share. */
import assert from "node:assert/strict";
import {
  createTokenKeeper,
  type Grant,
  type TokenKeeper,
} from "../../core/sources/token_keeper.ts";
import { sourceError } from "../../core/types.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { createTestLog, errorOf } from "./world.ts";

const { signal } = new AbortController();
const HOUR_MS = 3_600_000;

/** A keeper whose server answers as `answer` says; by default with `token-1`, `token-2` … for an hour. */
function createWorld() {
  const clock = createFakeClock();
  const log = createTestLog();
  const state = {
    asked: 0,
    secret: "secret-one",
    answer: (): Promise<Grant<string>> =>
      Promise.resolve({ value: `token-${state.asked}`, lifetimeMs: HOUR_MS, secrets: [] }),
  };
  const keeper: TokenKeeper<string> = createTokenKeeper({
    what: "the token",
    clock,
    log,
    prepare: () =>
      Promise.resolve({
        secrets: [state.secret],
        send() {
          state.asked++;
          return state.answer();
        },
      }),
  });
  return { clock, log, state, keeper };
}

Deno.test("however many wait, one request is under way, and all get its token", async () => {
  const { keeper, state } = createWorld();
  const all = await Promise.all(Array.from({ length: 20 }, () => keeper.current(signal)));
  assert.equal(state.asked, 1);
  assert.deepEqual([...new Set(all.map(({ value }) => value))], ["token-1"]);
});

Deno.test("it is renewed five minutes before its end, behind whoever asks", async () => {
  const { keeper, state, clock } = createWorld();
  await keeper.current(signal);
  await clock.advance(HOUR_MS - 300_001);
  assert.equal((await keeper.current(signal)).value, "token-1");
  assert.equal(state.asked, 1);
  await clock.advance(2);
  const gate = Promise.withResolvers<Grant<string>>();
  state.answer = () => gate.promise;
  assert.equal((await keeper.current(signal)).value, "token-1", "nobody waits for the new one");
  await clock.advance(1);
  assert.equal(state.asked, 2);
  gate.resolve({ value: "token-new", lifetimeMs: HOUR_MS, secrets: [] });
  await clock.advance(1);
  assert.equal((await keeper.current(signal)).value, "token-new");
});

Deno.test("a token that is refused is renewed once for all who were refused, and each asks once more", async () => {
  const { keeper, state } = createWorld();
  const shown: string[] = [];
  const ask = (token: string) => {
    shown.push(token);
    return Promise.resolve(token === "token-2" ? 200 : 401);
  };
  const isRefused = (status: number) => status === 401;
  const answers = await Promise.all(
    Array.from({ length: 5 }, () => keeper.use(ask, { signal, isRefused })),
  );
  assert.deepEqual(answers, [200, 200, 200, 200, 200]);
  assert.equal(state.asked, 2);
  assert.equal(shown.length, 10);
});

Deno.test("where the new token is refused too, that is the answer: nobody asks in a loop", async () => {
  const { keeper, state } = createWorld();
  let requests = 0;
  const ask = () => Promise.resolve(requests++ >= 0 ? 401 : 200);
  const status = await keeper.use(ask, { signal, isRefused: (status) => status === 401 });
  assert.equal(status, 401);
  assert.deepEqual([requests, state.asked], [2, 2]);
});

Deno.test("secrets that were refused for good are said once ahead, and not tried again for five minutes", async () => {
  const { keeper, state, clock, log } = createWorld();
  await keeper.current(signal);
  state.answer = () => Promise.reject(sourceError("auth", "revoked: run camsink init again"));
  await clock.advance(HOUR_MS - 299_000);
  for (let seconds = 0; seconds < 290; seconds += 5) {
    assert.equal(
      (await keeper.current(signal)).value,
      "token-1",
      "the old one is good until its end",
    );
    await clock.advance(5000);
  }
  const warnings = log.lines.filter((line) => line.startsWith("warn"));
  assert.equal(warnings.length, 1, warnings.join("\n"));
  assert.match(
    warnings[0] ?? "",
    /the token, which is good for another 4m59s: revoked: run camsink/,
  );
  await clock.advance(10_000);
  for (let tries = 0; tries < 10; tries++) {
    assert.match((await errorOf(keeper.current(signal))).message, /run camsink init again/);
  }
  assert.ok(state.asked <= 3, `${state.asked} requests`);
  state.secret = "secret-two";
  state.answer = () => Promise.resolve({ value: "fresh", lifetimeMs: HOUR_MS, secrets: [] });
  assert.equal((await keeper.current(signal)).value, "fresh", "a rotated secret counts at once");
});

Deno.test("a short-lived token is renewed at half its life, and at the latest when its giver wants", async () => {
  const { keeper, state, clock } = createWorld();
  state.answer = () =>
    Promise.resolve({ value: `token-${state.asked}`, lifetimeMs: 60_000, secrets: [] });
  await keeper.current(signal);
  await clock.advance(29_000);
  await keeper.current(signal);
  assert.equal(state.asked, 1);
  await clock.advance(2000);
  state.answer = () =>
    Promise.resolve({
      value: "x",
      lifetimeMs: 30 * 24 * HOUR_MS,
      renewWithinMs: HOUR_MS,
      secrets: [],
    });
  await keeper.current(signal);
  await clock.advance(1);
  assert.equal(state.asked, 2);
  await clock.advance(HOUR_MS + 1);
  await keeper.current(signal);
  await clock.advance(1);
  assert.equal(state.asked, 3);
});

Deno.test("one who may not ask for a new one gets what others asked for", async () => {
  const { keeper, state } = createWorld();
  const stale = await keeper.current(signal);
  const mayAsk = () => {
    throw new Error("not you");
  };
  const refused = await errorOf(keeper.renewed(stale, { signal, mayAsk }));
  assert.equal(refused.message, "not you");
  const [one, other] = await Promise.all([
    keeper.renewed(stale, { signal }),
    keeper.renewed(stale, { signal, mayAsk }),
  ]);
  assert.deepEqual([one.value, other.value, state.asked], ["token-2", "token-2", 2]);
});

Deno.test("closing ends a request that is under way", async () => {
  const clock = createFakeClock();
  const keeper = createTokenKeeper<string>({
    what: "the token",
    clock,
    log: createTestLog(),
    prepare: () =>
      Promise.resolve({
        secrets: [],
        send: (signal) =>
          new Promise((_, reject) =>
            signal.addEventListener("abort", () => reject(signal.reason), { once: true })
          ),
      }),
  });
  const waiting = errorOf(keeper.current(signal));
  await clock.advance(1);
  await keeper[Symbol.asyncDispose]();
  assert.match((await waiting).message, /the account is closed/);
});
