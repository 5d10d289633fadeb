/**
 * Days of Device Access in minutes: real account, token, quota and hand-over code against the
 * simulator that enforces Google's quotas, with streams that carry one picture every nine seconds.
 * `GOOGLE_HOURS=24` runs the whole day; the gate runs a slice of it.
 *
 * @module
 */
import assert from "node:assert/strict";
import * as v from "valibot";
import { openGoogleSdmAccount } from "../../core/sources/google/account.ts";
import { googleSdmOptions } from "../../core/sources/google/options.ts";
import type { SdmTransports } from "../../core/sources/google/streams.ts";
import { backoffMs } from "../../core/clock.ts";
import {
  type AccessUnit,
  type Account,
  type DiscoveredCamera,
  type Session,
  sourceError,
} from "../../core/types.ts";
import type { SdmCameraOptions, SdmMedia, SdmStream } from "../../simulators/sdm/camera.ts";
import { type SdmSimulator, startSdmSimulator } from "../../simulators/sdm/simulator.ts";
import { createFakeClock, type FakeClock } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { createTestLog, settled } from "./world.ts";

const HOUR_MS = 3_600_000;
const UNIT_MS = 9000;

/** Streams without packets, and the network between them and the account. */
function createMedia(clock: FakeClock): { media: SdmMedia; transports: SdmTransports } {
  const streams = new Map<string, SdmStream>();
  const serve = (stream: SdmStream) => {
    streams.set(stream.id, stream);
    return Promise.resolve({
      where: `rtsps://127.0.0.1/sdm_live_stream/${stream.id}`,
      close: () => streams.delete(stream.id),
    });
  };
  const session = (id: string): Session => {
    const stream = streams.get(id);
    if (!stream?.isAlive()) throw sourceError("offline", "404");
    const over = new AbortController();
    const startMs = clock.monotonic();
    const units = async function* (): AsyncGenerator<AccessUnit> {
      while (!over.signal.aborted) {
        if (!stream.isAlive()) throw sourceError("offline", "the stream is over");
        const us = Math.round((clock.monotonic() - startMs) * 1000);
        // Bytes that both streams of a camera would never share.
        const data = new TextEncoder().encode(`${id} ${us}`);
        const capturedAtMs = Math.round(clock.now());
        yield { trackId: 1, data, ptsUs: us, dtsUs: us, isKey: true, capturedAtMs };
        await clock.sleep(UNIT_MS, { signal: over.signal }).catch(() => {});
      }
    };
    const iterator = units();
    return {
      tracks: [{
        id: 1,
        kind: "video",
        codec: "h264",
        widthPx: 640,
        heightPx: 360,
        config: new Uint8Array(),
      }],
      [Symbol.asyncIterator]: () => iterator,
      async [Symbol.asyncDispose]() {
        over.abort();
        await iterator.return(undefined);
      },
    };
  };
  return {
    media: { rtsp: (_, stream) => serve(stream), webRtc: (_, stream) => serve(stream) },
    transports: {
      rtsp: ({ url }) => Promise.resolve(session(url.pathname.split("/").at(-1) ?? "")),
      webRtc: async ({ exchange }) => {
        const answer = await exchange("offer");
        return session(answer.split("/").at(-1) ?? "");
      },
    },
  };
}

interface World extends AsyncDisposable {
  readonly clock: FakeClock;
  readonly cloud: SdmSimulator;
  readonly account: Account;
  readonly log: ReturnType<typeof createTestLog>;
}

async function createWorld(cameras: readonly SdmCameraOptions[]): Promise<World> {
  const clock = createFakeClock();
  const { media, transports } = createMedia(clock);
  const random = seededRandom(7);
  const cloud = await startSdmSimulator({ cameras, clock, random, media });
  const { projectId, clientId, clientSecret, refreshToken } = cloud.credentials;
  const log = createTestLog();
  const account = openGoogleSdmAccount(
    v.parse(googleSdmOptions, {
      ...{ projectId, clientId, clientSecret, refreshToken },
      endpoints: cloud.endpoints,
    }),
    { clock, log, random, fetch: cloud.fetch, transports },
  );
  return {
    ...{ clock, cloud, account, log },
    async [Symbol.asyncDispose]() {
      await account[Symbol.asyncDispose]();
      await cloud.close();
    },
  };
}

/** How one camera's recording went. */
interface Report {
  readonly name: string;
  startedAtMs: number;
  units: number;
  /** Times without a picture for more than a unit's time and two seconds. */
  gaps: { readonly atMs: number; readonly ms: number; readonly reason: string }[];
}

/** What a recorder does, and a report of it. */
async function record(
  { name, source }: DiscoveredCamera,
  { clock }: World,
  signal: AbortSignal,
): Promise<Report> {
  const report: Report = { name, startedAtMs: -1, units: 0, gaps: [] };
  let lastMs = clock.monotonic();
  let reason = "";
  let attempt = 0;
  while (!signal.aborted) {
    try {
      const session = await source.open({ signal });
      try {
        for await (const _unit of session) {
          attempt = 0;
          const ms = clock.monotonic() - lastMs;
          if (report.startedAtMs < 0) report.startedAtMs = clock.monotonic();
          else if (ms > UNIT_MS + 2000) {
            report.gaps.push({ atMs: lastMs, ms: ms - UNIT_MS, reason });
          }
          lastMs = clock.monotonic();
          report.units++;
        }
      } finally {
        await session[Symbol.asyncDispose]();
      }
    } catch (error) {
      if (signal.aborted) break;
      reason = String(error);
      const asked = error instanceof Error && "retryAfterMs" in error
        ? Number(error.retryAfterMs)
        : 0;
      await clock.sleep(Math.max(backoffMs(++attempt, () => 0.5), asked), { signal })
        .catch(() => {});
    }
  }
  return report;
}

async function recordAll(world: World, ms: number): Promise<readonly Report[]> {
  const { account, clock } = world;
  const stop = new AbortController();
  const cameras = await settled(account.cameras(stop), clock);
  const following = (async () => {
    while (!stop.signal.aborted) {
      await clock.sleep(60_000, stop).catch(() => {});
      if (!stop.signal.aborted) await account.cameras(stop).catch(() => {});
    }
  })();
  const recording = Promise.all(cameras.map((camera) => record(camera, world, stop.signal)));
  await clock.advance(ms);
  stop.abort(new Error("enough"));
  const reports = await settled(recording, clock);
  await following;
  return reports;
}

const names = (count: number, prefix: string) =>
  Array.from({ length: count }, (_, index) => `${prefix} ${index + 1}`);

const hours = Number(Deno.env.get("GOOGLE_HOURS") ?? 2.2);

Deno.test(`${hours} hours of 8 cameras: no gap over 2 s, its tokens renewed, commands within quota`, async () => {
  await using world = await createWorld([
    ...names(3, "RTSP").map((customName) => ({ customName, protocol: "RTSP" as const })),
    ...names(3, "WebRTC").map((customName) => ({ customName })),
    // Their streams cannot be extended: a new one every five minutes.
    ...names(2, "Doorbell").map((customName) => ({
      customName,
      type: "DOORBELL" as const,
      battery: true,
    })),
  ]);
  const reports = await recordAll(world, hours * HOUR_MS);
  const { peaks, requests } = world.cloud;
  assert.deepEqual(reports.flatMap(({ name, gaps }) => gaps.map((gap) => ({ name, ...gap }))), []);
  assert.equal(reports.length, 8);
  for (const { name, units } of reports) {
    assert.ok(units >= hours * HOUR_MS / UNIT_MS - 30, `${name} gave ${units} units`);
  }
  assert.equal(peaks.refused, 0);
  assert.ok(peaks.commandsPerMinute <= 10, `${peaks.commandsPerMinute} commands in a minute`);
  assert.ok(peaks.deviceCommandsPerHour <= 100, `${peaks.deviceCommandsPerHour} in an hour`);
  assert.ok((requests.get("oauth POST /token") ?? 0) <= hours * 60 / 55 + 1);
  for (const camera of world.cloud.cameras) {
    if (camera.options.battery) continue;
    assert.equal(camera.counts.expired, 0, `${camera.name}: a stream ran out`);
    assert.equal(camera.counts.generated, 1, camera.name);
  }
  // What could not be stopped for want of a turn is given up with the account.
  await world.account[Symbol.asyncDispose]();
  await world.clock.advance(1);
  assert.equal(world.clock.sleepers, 0, "timers are left behind");
});

Deno.test("a fleet of 20 cameras starts without one 429, and stays", async () => {
  await using world = await createWorld(
    names(20, "Camera").map((customName, index) => ({
      customName,
      protocol: index % 2 === 0 ? "RTSP" as const : "WEB_RTC" as const,
    })),
  );
  const reports = await recordAll(world, 900_000);
  assert.equal(world.cloud.peaks.refused, 0);
  assert.deepEqual(reports.flatMap(({ gaps }) => gaps), []);
  const started = reports.map(({ startedAtMs }) => startedAtMs);
  assert.ok(started.every((ms) => ms >= 0));
  assert.ok(
    Math.max(...started) <= 200_000,
    `the last one started after ${Math.max(...started)} ms`,
  );
  assert.ok(world.log.lines.some((line) => /waiting \d+ s for its turn/.test(line)));
});

Deno.test("a camera that allows one stream at a time loses only what a new stream takes", async () => {
  await using world = await createWorld([{ customName: "Bell", battery: true, maxStreams: 1 }]);
  const [report] = await recordAll(world, HOUR_MS);
  assert.ok(report);
  assert.deepEqual(report.gaps, []); // the simulator's next stream is there at once
  const [camera] = world.cloud.cameras;
  assert.equal(camera?.counts.expired, 0);
  assert.equal(world.log.lines.filter((line) => line.includes("one stream at a time")).length, 1);
  // It was asked for a second one only once.
  assert.ok((world.cloud.requests.get("sdm GenerateWebRtcStream") ?? 0) <= 14);
});

Deno.test("a camera that is moved to Google Home is recorded on, the other way, without a restart", async () => {
  await using world = await createWorld([{ customName: "Yard", protocol: "RTSP" }]);
  const { account, clock, cloud, log } = world;
  const stop = new AbortController();
  const [camera] = await settled(account.cameras(stop), clock);
  assert.ok(camera);
  const recording = record(camera, world, stop.signal);
  await clock.advance(60_000);
  cloud.camera("Yard").migrate("WEB_RTC");
  await clock.advance(60_000);
  stop.abort();
  const { gaps, units } = await settled(recording, clock);
  assert.ok(units > 8);
  assert.ok(gaps.every(({ ms }) => ms < 12_000), JSON.stringify(gaps));
  assert.ok(
    log.lines.some((line) => line.includes("Yard: it was moved from RTSP to WebRTC")),
    log.lines.join("\n"),
  );
  assert.equal(cloud.requests.get("sdm GenerateWebRtcStream"), 1);
});

Deno.test("a refusal by quota stops everything for a minute, and the streams outlive it", async () => {
  await using world = await createWorld(names(3, "Camera").map((customName) => ({ customName })));
  const { clock, cloud } = world;
  const stop = new AbortController();
  const cameras = await settled(world.account.cameras(stop), clock);
  const recording = Promise.all(cameras.map((camera) => record(camera, world, stop.signal)));
  await clock.advance(200_000);
  // The next extension is refused: somebody else has used the quota.
  cloud.faults.add({ on: "sdm", kind: "status", status: 429, count: 1, path: "executeCommand" });
  await clock.advance(400_000);
  stop.abort();
  const reports = await settled(recording, clock);
  assert.deepEqual(reports.flatMap(({ gaps }) => gaps), []);
});
