/**
 * Trouble, news of it, calls and the state's file, in simulated time.
 *
 * @module
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type CameraStatus, createBoard, type SinkStatus } from "../../core/status/board.ts";
import type { DiskState } from "../../core/status/conditions.ts";
import { monitor } from "../../core/status/monitor.ts";
import {
  problemsIn,
  readStatus,
  statusPath,
  type StatusSnapshot,
} from "../../core/status/snapshot.ts";
import { makeSecret } from "../../core/config/values.ts";
import { createFakeClock } from "../support/fake_clock.ts";

const HOOK = "https://hooks.example/T0/very-secret-path";
const BEAT = "https://beat.example/uuid-1234";
const SECRET = "s3cret-in-an-error";

const MINUTE = 60_000;

function newCamera(name: string): CameraStatus {
  return {
    name,
    slug: name,
    state: "recording",
    framesCaptured: 10,
    framesDropped: 0,
    framesRecorded: 10,
    fps: 5,
    openClipBytes: 0,
    clipsFinished: 1,
    bytesFinished: 1000,
    gaps: { count: 0, totalMs: 0 },
  };
}

function newSink(name: string): SinkStatus {
  return {
    name,
    type: "local-folder",
    where: "/clips",
    state: "idle",
    backlogClips: 0,
    backlogBytes: 0,
    clipsDelivered: 1,
    bytesDelivered: 1000,
    clipsQuarantined: 0,
  };
}

interface Called {
  readonly url: string;
  readonly body?: Record<string, unknown>;
}

/** A monitored recording of one camera into one sink; time is the test's. */
async function withMonitor(
  body: (parts: {
    readonly clock: ReturnType<typeof createFakeClock>;
    readonly camera: CameraStatus;
    readonly sink: SinkStatus;
    readonly accounts: Map<string, string | undefined>;
    readonly disk: { -readonly [Key in keyof DiskState]: DiskState[Key] };
    readonly hooks: readonly Called[];
    readonly beats: readonly Called[];
    readonly said: readonly string[];
    readonly answers: { status: number };
    /** The file as it is now. */
    read(): Promise<StatusSnapshot | undefined>;
    stop(): Promise<void>;
  }) => Promise<void>,
): Promise<void> {
  const spoolPath = await Deno.makeTempDir({ prefix: "status-test-" });
  const clock = createFakeClock();
  const board = createBoard(clock.now());
  const camera = newCamera("yard");
  const sink = newSink("azure");
  board.cameras.set("yard", camera);
  board.sinks.set("azure", sink);
  const accounts = new Map<string, string | undefined>();
  const disk = { freeBytes: 50e9, reserveBytes: 1e9, usedBytes: 0, isFull: false };
  const hooks: Called[] = [];
  const beats: Called[] = [];
  const said: string[] = [];
  const answers = { status: 200 };
  const note = (message: string) => void said.push(message);
  const end = new AbortController();
  const running = monitor({
    board,
    silentAccounts: accounts,
    spoolPath,
    space: () => Promise.resolve(disk),
    webhook: makeSecret(HOOK),
    heartbeat: makeSecret(BEAT),
    product: "Camsink test",
    pid: 42,
    clock,
    random: () => 0.5,
    fetch: (input, init) => {
      const url = String(input);
      if (url === BEAT) beats.push({ url });
      else hooks.push({ url, body: JSON.parse(String(init?.body)) });
      return answers.status === 0
        ? Promise.reject(new TypeError(`error sending request for url (${url})`))
        : Promise.resolve(new Response(null, { status: answers.status }));
    },
    log: { debug: note, info: note, warn: note, error: note },
    redact: (text) => text.replaceAll(SECRET, "***"),
  }, end.signal);
  const stop = async () => {
    end.abort();
    await running;
  };
  try {
    await body({
      ...{ clock, camera, sink, accounts, disk, hooks, beats, said, answers, stop },
      read: async () => {
        // Files take real time; the monitor writes every five seconds of the simulated one.
        for (let tries = 0; tries < 200; tries++) {
          const snapshot = await readStatus(statusPath(spoolPath));
          if (snapshot && Date.parse(snapshot.writtenAt) > clock.now() - 5000) return snapshot;
          await clock.advance(100);
        }
        return undefined;
      },
    });
  } finally {
    await stop();
    await Deno.remove(spoolPath, { recursive: true });
  }
}

/** Lets time pass in looks, each with the real time that its file takes. */
async function pass(clock: ReturnType<typeof createFakeClock>, ms: number): Promise<void> {
  for (let done = 0; done < ms; done += 1000) {
    await clock.advance(1000);
    // The file's own few steps.
    for (let turn = 0; turn < 20_000 && clock.sleepers === 0; turn++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

Deno.test("a silent camera is told of once after a minute and once when it is over", () =>
  withMonitor(async ({ clock, camera, hooks, said }) => {
    await pass(clock, 10_000);
    camera.state = "waiting";
    camera.reason = `no answer (${SECRET})`;
    await pass(clock, 50_000);
    equal(hooks.length, 0);
    await pass(clock, 10 * MINUTE);
    equal(hooks.length, 1);
    camera.state = "recording";
    camera.reason = undefined;
    await pass(clock, 5 * MINUTE);
    deepEqual(hooks.map(({ body }) => [body?.event, body?.kind, body?.subject]), [
      ["begin", "camera-silent", "yard"],
      ["end", "camera-silent", "yard"],
    ]);
    ok(!JSON.stringify(hooks).includes(SECRET));
    match(String(hooks[0]?.body?.message), /no answer \(\*\*\*\)/);
    equal(said.length, 2);
  }));

Deno.test("a camera that flickers makes no storm", () =>
  withMonitor(async ({ clock, camera, hooks }) => {
    for (let round = 0; round < 20; round++) {
      camera.state = "waiting";
      await pass(clock, 80_000);
      camera.state = "recording";
      await pass(clock, 30_000);
    }
    ok(hooks.length <= 5, `${hooks.length} messages in ${20 * 110} s`);
  }));

Deno.test("a recording that stopped, and one whose pictures do not reach the disk, are told", () =>
  withMonitor(async ({ clock, camera, hooks }) => {
    await pass(clock, 10_000);
    for (let second = 0; second < 80; second++) {
      camera.framesCaptured += 5;
      await pass(clock, 1000);
    }
    equal(hooks[0]?.body?.kind, "recording-stopped");
    camera.framesRecorded = camera.framesCaptured;
    await pass(clock, MINUTE);
    equal(hooks[1]?.body?.event, "end");
    camera.state = "stopped";
    camera.reason = "a mistake in the program";
    await pass(clock, 10_000);
    equal(hooks[2]?.body?.kind, "recording-stopped");
  }));

Deno.test("a slow camera whose pictures come every two minutes is recorded", () =>
  withMonitor(async ({ clock, camera, hooks }) => {
    for (let picture = 0; picture < 5; picture++) {
      await pass(clock, 2 * MINUTE);
      camera.framesCaptured++;
      camera.framesRecorded = camera.framesCaptured - 1;
    }
    equal(hooks.length, 0);
  }));

Deno.test("a parked sink is told at once, a failing one after a minute, as one trouble", () =>
  withMonitor(async ({ clock, sink, hooks }) => {
    sink.state = "retrying";
    sink.reason = "HTTP 503";
    await pass(clock, 55_000);
    equal(hooks.length, 0);
    await pass(clock, 20_000);
    sink.state = "parked";
    await pass(clock, 20_000);
    sink.state = "idle";
    await pass(clock, MINUTE);
    deepEqual(hooks.map(({ body }) => [body?.event, body?.kind]), [
      ["begin", "sink-failing"],
      ["end", "sink-failing"],
    ]);
    sink.state = "parked";
    await pass(clock, 6000);
    equal(hooks[2]?.body?.kind, "sink-parked");
  }));

Deno.test("a backlog that grows for ten minutes is told, one that goes up and down is not", () =>
  withMonitor(async ({ clock, sink, hooks }) => {
    for (let minute = 0; minute < 30; minute++) {
      sink.backlogClips = minute % 3 === 0 ? 0 : 20;
      await pass(clock, MINUTE);
    }
    equal(hooks.length, 0);
    for (let minute = 0; minute < 15; minute++) {
      sink.backlogClips += 4;
      await pass(clock, MINUTE);
    }
    equal(hooks[0]?.body?.kind, "backlog-growing");
    sink.backlogClips = 0;
    await pass(clock, MINUTE);
    equal(hooks[1]?.body?.event, "end");
  }));

Deno.test("a disk that runs low is told, and so is an account that never tells its cameras", () =>
  withMonitor(async ({ clock, disk, accounts, hooks }) => {
    disk.freeBytes = 0.8e9;
    accounts.set("home", "the login was refused");
    await pass(clock, 10_000);
    equal(hooks[0]?.body?.kind, "disk-low");
    await pass(clock, MINUTE);
    equal(hooks[1]?.body?.kind, "cameras-unknown");
  }));

Deno.test("the heartbeat is called every minute, but only while every camera is recorded", () =>
  withMonitor(async ({ clock, camera, beats }) => {
    await pass(clock, 5 * MINUTE);
    ok(beats.length >= 5 && beats.length <= 6, String(beats.length));
    const before = beats.length;
    camera.state = "waiting";
    await pass(clock, 5 * MINUTE);
    ok(beats.length <= before + 0, "no beat without a recording");
    camera.state = "recording";
    await pass(clock, 10_000);
    equal(beats.length, before + 1);
  }));

Deno.test("motion that is not seen for a minute is told, though the heartbeat goes on: all is recorded", () =>
  withMonitor(async ({ clock, camera, hooks, beats, read }) => {
    camera.eventsUnheard = `motion cannot be seen (${SECRET}): everything is recorded`;
    await pass(clock, MINUTE / 2);
    equal(hooks.length, 0);
    const message = "motion cannot be seen (***): everything is recorded";
    equal((await read())?.cameras[0]?.eventsUnheard, message);
    await pass(clock, MINUTE);
    deepEqual(hooks.map(({ body }) => [body?.event, body?.kind, body?.message]), [
      ["begin", "events-unheard", message],
    ]);
    const snapshot = await read();
    ok(snapshot);
    deepEqual(problemsIn(snapshot, { nowMs: clock.now() }), [
      `events-unheard (yard): ${message}`,
    ]);
    const before = beats.length;
    await pass(clock, 2 * MINUTE);
    ok(beats.length > before, "no beat, though all is recorded");
    camera.eventsUnheard = undefined;
    await pass(clock, MINUTE / 2);
    equal(hooks.at(-1)?.body?.event, "end");
    equal((await read())?.cameras[0]?.eventsUnheard, undefined);
  }));

Deno.test("a webhook that fails is tried again, told of once, and its address is never shown", () =>
  withMonitor(async ({ clock, sink, hooks, said, answers }) => {
    answers.status = 0;
    sink.state = "parked";
    await pass(clock, 8000);
    ok(hooks.length >= 2, "tried again");
    answers.status = 200;
    await pass(clock, 30_000);
    const calls = said.filter((line) => line.startsWith("alerts.webhook"));
    deepEqual(calls, [
      "alerts.webhook: it cannot be reached",
      "alerts.webhook: it works again",
    ]);
    ok(!said.join("\n").includes("very-secret-path"));
  }));

Deno.test("the state is written every few seconds, without secrets, and goes with the recording", () =>
  withMonitor(async ({ clock, camera, sink, read, stop }) => {
    await pass(clock, 6000);
    const well = await read();
    ok(well);
    deepEqual(problemsIn(well, { nowMs: clock.now() }), []);
    equal(well.sinks[0]?.clipsDelivered, 1);
    camera.state = "waiting";
    camera.reason = `login ${SECRET}`;
    sink.state = "parked";
    await pass(clock, 6000);
    const ill = await read();
    ok(ill);
    ok(!JSON.stringify(ill).includes(SECRET));
    deepEqual(problemsIn(ill, { nowMs: clock.now() }), [
      "sink-parked (azure): takes no clips",
      "yard is not being recorded (waiting): login ***",
    ]);
    match(
      problemsIn(ill, { nowMs: clock.now() + 40_000 })[0] ?? "",
      /no capture runs, or it hangs/,
    );
    await stop();
    equal(await read(), undefined);
    deepEqual(problemsIn(undefined, { nowMs: clock.now() }), ["no capture runs"]);
  }));

Deno.test("a credential that runs out is told 14, 3 and 1 days ahead and when it has, once each", () =>
  withMonitor(async ({ clock, sink, hooks, said, read }) => {
    const DAY = 86_400_000;
    // An hour past a round number, so that no look falls on the very moment of a threshold.
    sink.credentialExpiresAtMs = clock.now() + 20 * DAY + DAY / 24;
    const begins = () => hooks.filter(({ body }) => body?.kind === "credential-expiring");
    for (let quarter = 0; quarter < 20 * 4 + 2; quarter++) {
      clock.jump(DAY / 4 - 10_000);
      await pass(clock, 10_000);
    }
    deepEqual(begins().map(({ body }) => body?.event), ["begin", "begin", "begin", "begin"]);
    const days = begins().map(({ body }) => /expires in (\d+)d/.exec(String(body?.message))?.[1]);
    deepEqual(days.slice(0, 2).map(Number), [13, 2]);
    match(String(begins().at(-1)?.body?.message), /has expired .* no restart is needed/);
    equal(said.filter((line) => /credential-expiring/.test(line)).length, 4);
    const problems = problemsIn(await read(), { nowMs: clock.now() });
    ok(problems.some((problem) => /credential-expiring \(azure\)/.test(problem)), problems.join());
    // A new one ends it.
    sink.credentialExpiresAtMs = clock.now() + 90 * DAY;
    await pass(clock, 30_000);
    equal(begins().at(-1)?.body?.event, "end");
  }));
