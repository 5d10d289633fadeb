/** Events of an ONVIF camera: what it tells, for how long, and what goes wrong on the way. */
import assert from "node:assert/strict";
import * as v from "valibot";
import { type FleetCamera, recordFleet } from "../../core/capture/fleet.ts";
import { recordCamera } from "../../core/capture/recorder.ts";
import { cameraTypes } from "../../core/sources/mod.ts";
import { listenToOnvif, parseMessages } from "../../core/sources/onvif/events.ts";
import { createBoard } from "../../core/status/board.ts";
import type { CameraEvent } from "../../core/types.ts";
import { type OnvifDeviceOptions, startOnvifDevice } from "../../simulators/onvif_device.ts";
import {
  createFakeCamera,
  createMemorySpool,
  createNotes,
  recorderOptions,
  relabel,
  VIDEO_TRACK,
} from "../support/capture_fakes.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { PATIENCE_MS } from "../support/until.ts";
import { errorOf, settled, testContext } from "./world.ts";

const LOGIN = { username: "owner", password: "a-password" };

async function createWorld(options: Partial<OnvifDeviceOptions> = {}) {
  const clock = createFakeClock(undefined, { breathMs: 1 });
  const device = await startOnvifDevice({
    ...{ ...LOGIN, name: "Yard", streamUri: "rtsp://h/", snapshotUri: "http://h/", clock },
    ...options,
  });
  const stop = new AbortController();
  const heard: CameraEvent[] = [];
  let error: unknown;
  let ended = false;
  /** Listens in the background. */
  const listen = () => {
    const events = listenToOnvif({
      ...{ url: device.url, credentials: LOGIN, ca: undefined, clock, fetch: undefined },
    }, { signal: stop.signal });
    return (async () => {
      try {
        for await (const event of events) heard.push(event);
      } catch (thrown) {
        error = thrown;
      }
      ended = true;
    })();
  };
  /** Lets time pass until it is so. */
  const until = async (isSo: () => boolean, stepMs = 100) => {
    for (let step = 0; !isSo(); step++) {
      if (step > 5000) throw new Error("it never came to be");
      await clock.advance(stepMs);
    }
  };
  const { events } = device;
  return {
    ...{ clock, device, stop, heard, listen, until, events },
    calls: (name: string) => device.calls.filter((call) => call === name).length,
    get error() {
      return error;
    },
    get ended() {
      return ended;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await device[Symbol.asyncDispose]();
    },
  };
}

for (const isOld of [false, true]) {
  Deno.test(`motion is told when it begins, while it lasts and when it ends${isOld ? ", by an old camera" : ""}`, async () => {
    await using world = await createWorld({
      ...{ isOld, clockAheadMs: -8e11, wrongHost: "10.1.1.1:81" }, // a clock that is years off
    });
    const { clock, events, heard, until } = world;
    const done = world.listen();
    await until(() => world.calls("PullMessages") > 0);
    const beganMs = clock.now();
    events.set(true);
    await until(() => heard.length > 0, 10);
    assert.equal(heard[0]?.kind, "motion");
    assert.ok(Math.abs((heard[0]?.startMs ?? 0) - beganMs) <= 1500, "by the camera's own clock");
    // While it lasts its end is always some seconds away.
    for (let second = 0; second < 10; second++) {
      for (let step = 0; step < 4; step++) await clock.advance(250);
      const last = heard.at(-1);
      assert.ok((last?.endMs ?? 0) > clock.now(), `${second} s on`);
      assert.equal(last?.startMs, heard[0]?.startMs);
    }
    const endedMs = clock.now();
    events.set(false);
    await until(() => (heard.at(-1)?.endMs ?? Infinity) <= clock.now(), 10);
    assert.ok(Math.abs((heard.at(-1)?.endMs ?? 0) - endedMs) <= 1500);
    const told = heard.length;
    for (let step = 0; step < 60; step++) await clock.advance(500);
    assert.equal(heard.length, told, "nothing more happens");
    world.stop.abort();
    await settled(done, clock, { stepMs: 1 }); // the good-bye has a second
    assert.equal(world.events.subscriptions, 0, "the subscription was given back");
  });
}

Deno.test("what cameras call motion, persons, sounds and the bell is known; the rest is left out", async () => {
  await using world = await createWorld();
  const { events, heard, until } = world;
  events.set(true, { topic: "tns1:VideoSource/MotionAlarm", item: "State" }); // before anybody asked
  events.set(false, { topic: "tns1:VideoSource/ImageTooDark/ImagingService", item: "State" });
  const done = world.listen();
  await until(() => heard.length > 0);
  assert.equal(heard[0]?.kind, "motion", "what is so already comes first");
  events.set(true, { topic: "tns1:RuleEngine/MyRuleDetector/PeopleDetect", item: "State" });
  events.set(true, { topic: "tns1:RuleEngine/MyRuleDetector/Visitor", item: "State" });
  events.set(true, { topic: "tns1:AudioAnalytics/Audio/DetectedSound", item: "IsSoundDetected" });
  events.set(true, { topic: "tns1:VideoSource/GlobalSceneChange/ImagingService", item: "State" });
  events.set(true, { topic: "tns1:RuleEngine/TamperDetector/Tamper", item: "IsTamper" });
  events.happen("tns1:RuleEngine/LineDetector/Crossed", { ObjectId: "7" });
  await until(() => heard.some(({ kind }) => kind === "sound"));
  await until(() => heard.filter(({ kind }) => kind === "motion").length > 3);
  assert.deepEqual(
    new Set(heard.map(({ kind }) => kind)),
    new Set(["motion", "person", "doorbell", "sound"]),
  );
  world.stop.abort();
  await settled(done, world.clock);
});

Deno.test("a subscription is renewed again and again, and a camera without Renew is told to begin again", async () => {
  await using world = await createWorld();
  const { clock, events, heard, until } = world;
  const done = world.listen();
  await until(() => world.calls("PullMessages") > 0);
  for (let step = 0; step < 1200; step++) await clock.advance(500);
  assert.equal(world.ended, false);
  assert.equal(world.calls("CreatePullPointSubscription"), 1);
  assert.ok(world.calls("Renew") >= 7 && world.calls("Renew") <= 10, `${world.calls("Renew")}`);
  // Asked once in ten seconds or so: the camera does the waiting.
  assert.ok(world.calls("PullMessages") <= 65, `${world.calls("PullMessages")}`);
  events.faults.add("no-renew");
  await until(() => world.ended, 1000);
  assert.match(String(world.error), /no such subscription/, "who listens begins again");
  assert.equal(heard.length, 0);
  await done;
});

Deno.test("a camera that does not wait is not hammered", async () => {
  await using world = await createWorld();
  world.events.faults.add("does-not-wait");
  const done = world.listen();
  await world.until(() => world.calls("PullMessages") > 0);
  const before = world.calls("PullMessages");
  for (let step = 0; step < 120; step++) await world.clock.advance(500);
  assert.ok(world.calls("PullMessages") - before <= 61, `${world.calls("PullMessages") - before}`);
  world.stop.abort();
  await settled(done, world.clock);
});

for (const fault of ["forgets", "never", "reset", "full"] as const) {
  Deno.test(`events that cannot be heard any more end with their cause: ${fault}`, async () => {
    await using world = await createWorld();
    if (fault === "full") world.events.faults.add(fault);
    const done = world.listen();
    if (fault !== "full") {
      await world.until(() => world.calls("PullMessages") > 0);
      world.events.faults.add(fault);
    }
    await world.until(() => world.ended, 500);
    await done;
    const { error } = world;
    assert.ok(error instanceof Error && "sourceErrorKind" in error, String(error));
    assert.doesNotMatch(error.message, /a-password/);
  });
}

Deno.test("answers that make no sense tell nothing, and are not asked for without a pause", async () => {
  await using world = await createWorld();
  world.events.faults.add("garbage");
  const done = world.listen();
  await world.until(() => world.calls("PullMessages") >= 5);
  assert.deepEqual(world.heard, []);
  world.events.faults.clear();
  world.events.set(true);
  await world.until(() => world.heard.length > 0);
  world.stop.abort();
  await settled(done, world.clock);
});

Deno.test("a camera without events says so, and a wrong login is told without the password", async () => {
  await using deaf = await createWorld({ isDeaf: true });
  const without = errorOf(deaf.listen().then(() => Promise.reject(deaf.error)));
  assert.match((await settled(without, deaf.clock)).message, /no event service/);
  await using world = await createWorld({ password: "another-one" });
  const refused = errorOf(world.listen().then(() => Promise.reject(world.error)));
  const error = await settled(refused, world.clock);
  assert.match(error.message, /refused the ONVIF login/);
  assert.doesNotMatch(error.message, /a-password/);
});

Deno.test("a camera of type onvif that is recorded around events: only what happened is in its clips", async () => {
  await using world = await createWorld();
  const { clock, events, until } = world;
  const { events: listen } = cameraTypes.onvif.open(
    v.parse(cameraTypes.onvif.options, { url: world.device.url, ...LOGIN }),
    testContext(clock),
  );
  assert.ok(listen);
  const camera = createFakeCamera(clock, [VIDEO_TRACK]);
  const spool = createMemorySpool();
  const recording = recordCamera(
    recorderOptions(clock, {
      ...{ source: camera, spool, clipMs: 60_000 },
      events: { plan: { beforeMs: 2000, afterMs: 3000 }, listen },
    }),
    world.stop.signal,
  );
  const shoot = async (seconds: number) => {
    for (let i = 0; i < 2 * seconds; i++) {
      camera.picture();
      await clock.advance(500);
    }
  };
  await until(() => world.calls("PullMessages") > 0);
  await shoot(20);
  events.set(true);
  await shoot(10);
  events.set(false);
  await shoot(30);
  world.stop.abort();
  await settled(recording, clock);
  const lengths = spool.finished.map(({ start, end }) =>
    ((end?.end.getTime() ?? 0) - start.getTime()) / 1000
  );
  const seconds = lengths.reduce((sum, length) => sum + length, 0);
  assert.ok(seconds >= 15 && seconds <= 22, `${seconds} s of 60 were recorded: ${lengths}`);
  assert.deepEqual(
    new Set(spool.finished.flatMap(({ end }) => end?.tags ?? [])),
    new Set(["motion"]),
  );
});

/** A camera of type onvif in a fleet, whose pictures a test takes. */
function startFleet(
  world: Awaited<ReturnType<typeof createWorld>>,
  events?: FleetCamera["events"],
) {
  const { clock, device, stop } = world;
  const onvif = cameraTypes.onvif.open(
    v.parse(cameraTypes.onvif.options, { url: device.url, ...LOGIN }),
    testContext(clock),
  );
  const camera = createFakeCamera(clock, [VIDEO_TRACK]);
  const source = Object.assign(camera, { events: onvif.events, tellsAlways: onvif.tellsAlways });
  const spool = createMemorySpool();
  const notes = createNotes();
  const running = recordFleet({
    ...{ accounts: [], board: createBoard(clock.now()), spool, clock, clipMs: 10_000 },
    ...{ product: "test", rediscoverMs: 60_000, random: () => 0.5, log: () => notes },
    encoder: () => Promise.resolve(relabel),
    cameras: [{ name: "Yard", source, stallMs: 10_000, ...(events ? { events } : {}) }],
  }, stop.signal);
  return {
    ...{ spool, notes, running },
    shoot: async (seconds: number) => {
      for (let i = 0; i < 2 * seconds; i++) {
        camera.picture();
        await clock.advance(500);
      }
    },
    tags: () => spool.finished.map(({ end }) => end?.tags?.join() ?? ""),
  };
}

Deno.test("a camera of type onvif that is recorded all the time: what happened is in its clips' tags", async () => {
  await using world = await createWorld();
  const fleet = startFleet(world);
  await fleet.shoot(20);
  world.events.set(true);
  await fleet.shoot(10);
  world.events.set(false);
  await fleet.shoot(30);
  world.stop.abort();
  await settled(fleet.running, world.clock);
  const tags = fleet.tags();
  assert.ok(tags.length >= 6, `${tags.length} clips`);
  assert.ok(tags.includes("motion") && tags.includes(""), tags.join(" | "));
});

Deno.test("a camera that tells no events is recorded all the time without a word, and not asked again", async () => {
  await using world = await createWorld({ isDeaf: true });
  const fleet = startFleet(world);
  await fleet.shoot(120);
  assert.deepEqual(fleet.notes.lines.filter((line) => /^(warn|error)/.test(line)), []);
  assert.equal(world.calls("CreatePullPointSubscription"), 0);
  assert.equal(world.calls("GetServices") + world.calls("GetCapabilities"), 2);
  world.stop.abort();
  await settled(fleet.running, world.clock);
});

Deno.test("where tags are asked for it is said once that there are none", async () => {
  await using world = await createWorld({ isDeaf: true });
  const fleet = startFleet(world, { mode: "continuous", tags: true, beforeMs: 0, afterMs: 1000 });
  await fleet.shoot(60);
  const warned = fleet.notes.lines.filter((line) => /^(warn|error)/.test(line));
  assert.equal(warned.length, 1, warned.join("\n"));
  assert.match(warned.join(), /no event service; clips have no tags/);
  world.stop.abort();
  await settled(fleet.running, world.clock);
});

Deno.test("where tags are not wanted the camera is not asked for events", async () => {
  await using world = await createWorld();
  const fleet = startFleet(world, { mode: "continuous", tags: false, beforeMs: 0, afterMs: 1000 });
  world.events.set(true);
  await fleet.shoot(30);
  assert.equal(world.events.subscriptions, 0);
  assert.deepEqual(new Set(fleet.tags()), new Set([""]));
  world.stop.abort();
  await settled(fleet.running, world.clock);
});

Deno.test("a camera in whose pictures motion is looked for has what it tells itself in its tags too", async () => {
  await using world = await createWorld();
  const fleet = startFleet(world, { mode: "motion", beforeMs: 0, afterMs: 1000 });
  await fleet.shoot(20);
  world.events.set(true, { topic: "tns1:RuleEngine/MyRuleDetector/PeopleDetect", item: "State" });
  await fleet.shoot(20); // nothing here decodes, so everything is recorded
  world.stop.abort();
  await settled(fleet.running, world.clock);
  assert.ok(fleet.tags().includes("person"), fleet.tags().join(" | "));
});

Deno.test("answers that are spoiled are read without harm", () => {
  const random = seededRandom(8);
  const answer =
    `<e:PullMessagesResponse><w:NotificationMessage><w:Topic Dialect="d">tns1:VideoSource/` +
    `MotionAlarm</w:Topic><w:Message><t:Message UtcTime="2026-01-01T00:00:00Z" PropertyOperation=` +
    `"Changed"><t:Source><t:SimpleItem Name="S" Value="0"/></t:Source><t:Data><t:SimpleItem Name=` +
    `"State" Value="true"/></t:Data></t:Message></w:Message></w:NotificationMessage></e:PullMessagesResponse>`;
  assert.equal(parseMessages(answer)[0]?.isOn, true);
  for (let i = 0; i < 100_000; i++) {
    const at = Math.floor(random() * answer.length);
    const spoiled = answer.slice(0, at) + "<>\"'/&"[i % 6] +
      answer.slice(at + Math.floor(random() * 9));
    for (const { kind } of parseMessages(spoiled)) assert.equal(typeof kind, "string");
  }
  const beganMs = performance.now();
  parseMessages("<NotificationMessage><Topic>Motion</Topic>".repeat(80_000));
  parseMessages(`<NotificationMessage>${"<SimpleItem ".repeat(320_000)}</NotificationMessage>`);
  assert.ok(performance.now() - beganMs < PATIENCE_MS);
});
