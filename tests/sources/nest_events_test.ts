/**
 * What the Nest cloud tells of a camera's events, from the simulated one and in every odd form.
 *
 * @module
 */
import assert from "node:assert/strict";
import * as v from "valibot";
import { makeSecret } from "../../core/config/values.ts";
import { openNestAccount } from "../../core/sources/nest/account.ts";
import { parseCuepoints } from "../../core/sources/nest/cuepoints.ts";
import { nestOptions } from "../../core/sources/nest/options.ts";
import { sourceErrorKind } from "../../core/types.ts";
import { startNestSimulator } from "../../simulators/mod.ts";
import { createNotes } from "../support/capture_fakes.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";

const NOON = Date.UTC(2026, 7, 21, 12, 0, 0);

async function open() {
  const clock = createFakeClock(NOON + 2000);
  const cloud = await startNestSimulator({ cameras: [{ name: "Door" }], clock });
  /** Requests on their way: time stands still for them. */
  let underWay = 0;
  const counted: typeof fetch = async (input, init) => {
    underWay++;
    try {
      const { status, headers, body } = await fetch(input, init);
      return new Response(body && await new Response(body).arrayBuffer(), { status, headers });
    } finally {
      underWay--;
    }
  };
  const account = openNestAccount({
    ...v.parse(nestOptions, { accessToken: "env:X", endpoints: cloud.endpoints }),
    accessToken: makeSecret(cloud.credentials.accessToken),
  }, { clock, log: createNotes(), random: seededRandom(1), fetch: counted });
  const stop = new AbortController();
  const [camera] = await account.cameras({ signal: stop.signal });
  assert.ok(camera?.events);
  const events = camera.events({ signal: stop.signal })[Symbol.asyncIterator]();
  return {
    cloud,
    stop,
    /** The next event; time passes until it comes. */
    async next() {
      let result: IteratorResult<unknown> | undefined;
      let failure: unknown;
      events.next().then((value) => result = value, (error) => failure = error);
      while (result === undefined && failure === undefined) {
        if (underWay === 0) await clock.advance(500);
        await new Promise((resolve) => setImmediate(resolve));
      }
      if (failure !== undefined) throw failure;
      return { ...result?.value as object, toldAtMs: clock.now() - NOON };
    },
    async [Symbol.asyncDispose]() {
      stop.abort(new DOMException("over", "AbortError"));
      await account[Symbol.asyncDispose]();
      await cloud[Symbol.asyncDispose]();
    },
  };
}

Deno.test("a motion is told while it lasts, once when it is over, and never again", async () => {
  await using test = await open();
  const told: { startMs: number; endMs: number; toldAtMs: number }[] = [];
  while ((told.at(-1)?.startMs ?? 0) < NOON + 120_000) {
    told.push(await test.next() as typeof told[number]);
  }
  const first = told.filter(({ startMs }) => startMs === NOON);
  assert.equal(first.at(-1)?.endMs, NOON + 8000);
  assert.ok(first.length >= 2 && first.length <= 4, `${first.length} times`);
  const second = told.filter(({ startMs }) => startMs === NOON + 60_000);
  assert.ok(second.length >= 2);
  assert.ok(second.every(({ toldAtMs }) => toldAtMs < 75_000));
});

Deno.test("a cloud that refuses ends the list with the reason", async () => {
  await using test = await open();
  await test.next();
  test.cloud.revokeAccessToken();
  await assert.rejects(
    async () => {
      while (true) await test.next();
    },
    (error) => sourceErrorKind(error) === "auth",
  );
});

Deno.test("times in seconds and in milliseconds are the same to it, and what has none is left out", () => {
  const nowMs = NOON;
  assert.deepEqual(
    parseCuepoints([
      { id: "a", start_time: NOON / 1000 - 5, end_time: NOON - 1000, types: ["person", "motion"] },
      { id: 7, start_time: NOON - 4000, in_progress: true, end_time: NOON - 3000 },
      { id: "c", types: ["motion"] },
      "odd",
      { start_time: NOON + 1e9, types: ["motion"] },
    ], nowMs),
    [
      { id: "a", kind: "person", startMs: NOON - 5000, endMs: NOON - 1000, isOver: true },
      { id: "7", kind: "motion", startMs: NOON - 4000, endMs: NOON, isOver: false },
    ],
  );
  for (const odd of [undefined, null, 7, "x", {}, [[]], [null]]) {
    assert.deepEqual(parseCuepoints(odd, nowMs), []);
  }
});
