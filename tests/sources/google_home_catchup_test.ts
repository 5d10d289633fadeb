/**
 * Recordings of a Google Home from the simulated services into a spool, in simulated time: what
 * happened while nobody fetched is caught up, and everything is there once.
 *
 * @module
 */
import assert from "node:assert/strict";
import * as v from "valibot";
import { archiveCamera } from "../../core/capture/archiver.ts";
import { makeSecret } from "../../core/config/values.ts";
import { openGoogleHomeAccount } from "../../core/sources/google_home/account.ts";
import { googleHomeOptions } from "../../core/sources/google_home/options.ts";
import { startGoogleHomeSimulator } from "../../simulators/mod.ts";
import { createMemorySpool, createNotes, newStatus } from "../support/capture_fakes.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { readFixture } from "../support/media_samples.ts";
import { seededRandom } from "../support/seeded_random.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const FOOTAGE = readFixture("h264_larger.mp4");

/** A home with one camera, and what fetches its recordings. */
async function createWorld({ historyH }: { readonly historyH: number }) {
  const clock = createFakeClock();
  const home = await startGoogleHomeSimulator({
    cameras: [{ name: "Porch", id: "DEVICE_0123456789ABCDEF" }],
    ...{ clock, random: seededRandom(1), historyMs: historyH * HOUR_MS, footage: () => FOOTAGE },
  });
  const { issueToken, cookie } = home.credentials;
  const options = v.parse(googleHomeOptions, {
    ...{ issueToken: "env:X", cookie: "env:X", history: `${historyH}h`, endpoints: home.endpoints },
  });
  let underWay = 0;
  const account = openGoogleHomeAccount(
    { ...options, issueToken: makeSecret(issueToken), cookie: makeSecret(cookie) },
    {
      ...{ clock, log: createNotes(), random: seededRandom(2) },
      // So that no time passes while an answer is on its way.
      async fetch(input, init) {
        underWay++;
        try {
          const response = await fetch(input, init);
          const body = await response.arrayBuffer();
          const { status, headers } = response;
          return new Response(body, { status, headers });
        } finally {
          underWay--;
        }
      },
    },
  );
  const { signal } = new AbortController();
  const [camera] = await account.cameras({ signal });
  assert.ok(camera && "archive" in camera);
  const { archive } = camera;
  const spool = createMemorySpool();

  /** Lets time pass; every answer comes before the next ten seconds. */
  const pass = async (ms: number) => {
    for (let gone = 0; gone < ms; gone += 10_000) {
      await clock.advance(10_000);
      while (underWay > 0) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        if (underWay === 0) await clock.advance(0); // what it leads to
      }
    }
  };
  return {
    ...{ clock, home, spool, pass },
    /** Something happens, some time from now. */
    see(inMs: number, lengthMs: number) {
      const startMs = clock.now() + inMs;
      home.addEvent({ camera: "Porch", startMs, endMs: startMs + lengthMs });
    },
    /** Fetches while time passes, as the program does from its start to its end. */
    async run(ms: number) {
      const stop = new AbortController();
      const status = newStatus("Porch");
      const log = createNotes();
      const running = archiveCamera({
        ...{ camera: "Porch", slug: "porch", archive, spool, status, clock, log },
        random: () => 0.5,
      }, stop.signal);
      await pass(ms);
      stop.abort(new DOMException("stopped", "AbortError"));
      await running;
      return { status, lines: log.lines };
    },
    /** Holds what is on the spool against what happened: no second is missing, none is there twice. */
    assertWhole() {
      const spans = home.events.map(({ startMs, endMs }) => [startMs, endMs] as const)
        .sort(([a], [b]) => a - b);
      const clips = spool.finished.map(({ start, end }) =>
        [start.getTime(), end?.end.getTime() ?? NaN] as const
      ).sort(([a], [b]) => a - b);
      const joined: [number, number][] = [];
      for (const [startMs, endMs] of clips) {
        const last = joined.at(-1);
        if (last?.[1] === startMs) last[1] = endMs;
        else joined.push([startMs, endMs]);
      }
      assert.deepEqual(joined, spans.map(([startMs, endMs]) => [startMs, endMs]));
      assert.equal(home.requests.get("clip"), clips.length, "each was fetched once");
    },
    async [Symbol.asyncDispose]() {
      await account[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

Deno.test("what happened during hours of downtime is caught up, each once", async () => {
  await using world = await createWorld({ historyH: 10 });
  for (const agoH of [9, 5, 1]) world.see(-agoH * HOUR_MS, 90_000);
  await world.run(10 * MINUTE_MS);
  world.assertWhole();
  // Nobody is there for four hours, and the token is dead afterwards.
  for (let inMin = 5; inMin < 240; inMin += 37) world.see(inMin * MINUTE_MS, 20_000 + inMin * 500);
  await world.clock.advance(4 * HOUR_MS);
  world.home.expireTokens();
  world.see(3 * MINUTE_MS, 15_000);
  const { status, lines } = await world.run(20 * MINUTE_MS);
  world.assertWhole();
  assert.equal(status.gaps.count, 0);
  assert.ok(lines.every((line) => !/^(warn|error)/.test(line)), lines.join("\n"));
});

Deno.test("an outage of the service is caught up, each once", async () => {
  await using world = await createWorld({ historyH: 3 });
  world.see(-HOUR_MS, 30_000);
  world.see(5 * MINUTE_MS, 70_000);
  world.see(20 * MINUTE_MS, 10_000);
  world.home.fail("status-500", 12);
  const { status } = await world.run(60 * MINUTE_MS);
  world.assertWhole();
  assert.equal(status.gaps.count, 1);
});

Deno.test("an event that goes on for hours is fetched while it lasts, whole and once", async () => {
  await using world = await createWorld({ historyH: 3 });
  world.see(-MINUTE_MS, 2.4 * HOUR_MS);
  await world.run(30 * MINUTE_MS);
  assert.ok(world.spool.finished.length >= 25, `${world.spool.finished.length} minutes of it`);
  await world.run(2 * HOUR_MS);
  world.assertWhole();
});
