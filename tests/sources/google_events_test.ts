/**
 * Events of Device Access: the account against the simulated project's subscription, with messages
 * that come twice, late, out of order and broken; and the pictures and previews of events.
 *
 * @module
 */
import assert from "node:assert/strict";
import * as v from "valibot";
import { openGoogleSdmAccount } from "../../core/sources/google/account.ts";
import { googleSdmOptions } from "../../core/sources/google/options.ts";
import { inspectMp4 } from "../../core/media/mp4_inspect.ts";
import { type CameraEvent, sourceErrorKind } from "../../core/types.ts";
import type { SdmCameraOptions } from "../../simulators/sdm/camera.ts";
import { startSdmSimulator } from "../../simulators/sdm/simulator.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { createTestLog, settled } from "./world.ts";

const YARD: SdmCameraOptions = {
  customName: "Yard",
  protocol: "RTSP",
  widthPx: 320,
  heightPx: 192,
};

async function createWorld(cameras: readonly SdmCameraOptions[] = [YARD], change: object = {}) {
  const clock = createFakeClock();
  const random = seededRandom(3);
  const cloud = await startSdmSimulator({ cameras, clock, random });
  const { projectId, clientId, clientSecret, refreshToken } = cloud.credentials;
  const log = createTestLog();
  const account = openGoogleSdmAccount(
    v.parse(googleSdmOptions, {
      ...{ projectId, clientId, clientSecret, refreshToken },
      subscription: cloud.subscription,
      endpoints: cloud.endpoints,
      ...change,
    }),
    { clock, log, random, fetch: cloud.fetch },
  );
  const stop = new AbortController();
  const listed = await settled(account.cameras({ signal: stop.signal }), clock);
  const listen = (name: string) => {
    const events: CameraEvent[] = [];
    let failure: unknown;
    const camera = listed.find((camera) => camera.name === name);
    assert.ok(camera?.events, `nobody tells of ${name}`);
    const own = AbortSignal.any([stop.signal]);
    const done = (async () => {
      for await (const event of camera.events?.({ signal: own }) ?? []) events.push(event);
    })().catch((error) => failure = error);
    return { events, done, failure: () => failure };
  };
  return {
    ...{ clock, cloud, log, account, listen },
    /** Lets time pass, in steps that leave room for what is under way. */
    async pass(ms: number) {
      for (let gone = 0; gone < ms; gone += 250) {
        await clock.advance(250);
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
    async [Symbol.asyncDispose]() {
      stop.abort(new DOMException("over", "AbortError"));
      await account[Symbol.asyncDispose]();
      await cloud.close();
    },
  };
}

Deno.test("motion, a person, a sound and the bell come to the camera that they are of, and to no other", async () => {
  await using world = await createWorld([YARD, { customName: "Door", type: "DOORBELL" }]);
  const { cloud, clock } = world;
  const [yard, door] = [world.listen("Yard"), world.listen("Door")];
  await world.pass(2000);
  const atMs = clock.now();
  for (const kind of ["motion", "person", "sound"] as const) {
    cloud.events.publish(cloud.camera("Yard"), kind);
  }
  cloud.events.publish(cloud.camera("Door"), "chime");
  await world.pass(8000);
  assert.deepEqual(yard.events.map(({ kind }) => kind), ["motion", "person", "sound"]);
  assert.deepEqual(door.events.map(({ kind }) => kind), ["doorbell"]);
  assert.ok(yard.events.every(({ startMs }) => startMs === Math.floor(atMs)));
  assert.equal(cloud.events.waiting, 0, "every message was acknowledged");
});

Deno.test("a message that comes twice is told once, and one that is not acknowledged comes again", async () => {
  await using world = await createWorld();
  const { cloud } = world;
  const yard = world.listen("Yard");
  cloud.faults.add({ on: "pubsub", kind: "status", status: 503, path: ":acknowledge", count: 1 });
  cloud.events.publish(cloud.camera("Yard"), "motion", { times: 3 });
  await world.pass(30_000);
  assert.equal(yard.events.length, 1);
  assert.equal(cloud.events.waiting, 0);
});

Deno.test("events of a session are one happening, in whatever order they come", async () => {
  await using world = await createWorld();
  const { cloud, clock } = world;
  const yard = world.listen("Yard");
  await world.pass(1500);
  const atMs = Math.floor(clock.now());
  const camera = cloud.camera("Yard");
  const tell = (secondsAgo: number, threadState: "STARTED" | "UPDATED" | "ENDED") =>
    cloud.events.publish(camera, "person", {
      ...{ sessionId: "one", atMs: atMs - secondsAgo * 1000, threadState },
    });
  tell(2, "ENDED");
  tell(20, "STARTED");
  tell(9, "UPDATED");
  await world.pass(8000);
  assert.deepEqual(
    yard.events.map(({ startMs, endMs }) => [startMs - atMs, endMs && endMs - atMs]),
    [[-2000, undefined], [-20_000, -2000], [-20_000, -2000]],
  );
});

Deno.test("what is hours old, of no event, of another device or broken is acknowledged and left out", async () => {
  await using world = await createWorld();
  const { cloud, clock } = world;
  const yard = world.listen("Yard");
  const camera = cloud.camera("Yard");
  const put = (value: unknown) => cloud.events.publishRaw(JSON.stringify(value));
  cloud.events.publish(camera, "motion", { atMs: clock.now() - 2 * 3_600_000 });
  cloud.events.publishRaw("{ not JSON");
  const timestamp = new Date(clock.now()).toISOString();
  put({ eventId: "a", timestamp, relationUpdate: { type: "CREATED", subject: "", object: "" } });
  put({ eventId: "b", timestamp, resourceUpdate: { name: camera.path, traits: {} } });
  put({
    ...{ eventId: "c", timestamp },
    resourceUpdate: {
      name: "enterprises/P/devices/thermostat",
      events: { "sdm.devices.events.CameraMotion.Motion": {} },
    },
  });
  put({
    ...{ eventId: "d", timestamp },
    resourceUpdate: {
      name: camera.path,
      events: { "sdm.devices.events.CameraPackage.PackageDelivered": { eventSessionId: "x" } },
    },
  });
  await world.pass(8000);
  assert.deepEqual(yard.events.map(({ kind }) => kind), ["package-delivered"]);
  assert.equal(cloud.events.waiting, 0);
  assert.match(world.log.lines.join("\n"), /a message of the subscription cannot be read/);
});

Deno.test("an outage of the subscription is an error, and it is heard of again afterwards", async () => {
  await using world = await createWorld();
  const { cloud } = world;
  cloud.faults.add({ on: "pubsub", kind: "status", status: 403, count: 1 });
  const first = world.listen("Yard");
  await world.pass(3000);
  assert.equal(sourceErrorKind(first.failure()), "auth");
  assert.match(String(first.failure()), /403.*full name of a pull subscription/);
  const again = world.listen("Yard");
  cloud.events.publish(cloud.camera("Yard"), "motion");
  await world.pass(8000);
  assert.equal(again.events.length, 1);
});

Deno.test("the picture of an event is a JPEG of the camera's width, one for a session", async () => {
  await using world = await createWorld();
  const { cloud, clock } = world;
  const yard = world.listen("Yard");
  await world.pass(1500);
  const camera = cloud.camera("Yard");
  cloud.events.publish(camera, "motion", { sessionId: "one" });
  cloud.events.publish(camera, "person", { sessionId: "one" });
  await world.pass(6000);
  const attachments = yard.events.map(({ attachment }) => attachment);
  assert.deepEqual(attachments.map((one) => one?.kind), ["event-image", undefined]);
  const { signal } = new AbortController();
  const bytes = await settled(
    attachments[0]?.fetch({ signal }) ?? Promise.resolve(undefined),
    clock,
  );
  assert.deepEqual([...bytes?.subarray(0, 2) ?? []], [0xff, 0xd8]);
  assert.equal(cloud.requests.get("sdm GenerateImage"), 1);
});

Deno.test("a picture that is asked for after thirty seconds is gone, and no command is spent on it", async () => {
  await using world = await createWorld();
  const { cloud, clock } = world;
  const yard = world.listen("Yard");
  cloud.events.publish(cloud.camera("Yard"), "motion");
  await world.pass(6000);
  await world.pass(30_000);
  const { signal } = new AbortController();
  const [event] = yard.events;
  assert.ok(event?.attachment);
  assert.equal(await settled(event.attachment.fetch({ signal }), clock), undefined);
  assert.equal(cloud.requests.get("sdm GenerateImage"), undefined);
});

Deno.test("a camera on a battery gives a preview of ten pictures, of what its session told", async () => {
  await using world = await createWorld([{ ...YARD, battery: true, protocol: "WEB_RTC" }]);
  const { cloud } = world;
  const yard = world.listen("Yard");
  await world.pass(1500);
  const camera = cloud.camera("Yard");
  cloud.events.publish(camera, "person", { sessionId: "one" });
  cloud.events.publish(camera, "clip-preview", { sessionId: "one" });
  await world.pass(6000);
  assert.deepEqual(yard.events.map(({ kind, attachment }) => [kind, attachment?.kind]), [
    ["person", undefined],
    ["person", "clip-preview"],
  ]);
  const { signal } = new AbortController();
  const bytes = await yard.events[1]?.attachment?.fetch({ signal });
  assert.ok(bytes);
  assert.equal(inspectMp4(bytes).frames, 10);
});

Deno.test("a preview at an address that is not Google's is refused: the token stays here", async () => {
  await using world = await createWorld([{ ...YARD, battery: true }]);
  const { cloud, clock } = world;
  const yard = world.listen("Yard");
  cloud.events.publishRaw(JSON.stringify({
    ...{ eventId: "a", timestamp: new Date(clock.now()).toISOString() },
    resourceUpdate: {
      name: cloud.camera("Yard").path,
      events: {
        "sdm.devices.events.CameraClipPreview.ClipPreview": {
          eventSessionId: "s",
          previewUrl: "https://evil.example/clip",
        },
      },
    },
  }));
  await world.pass(6000);
  const { signal } = new AbortController();
  await assert.rejects(async () => await yard.events[0]?.attachment?.fetch({ signal }), /refused/);
});

Deno.test("without a subscription nobody tells of events", async () => {
  await using world = await createWorld([YARD], { subscription: undefined });
  const [camera] = await settled(
    world.account.cameras({ signal: new AbortController().signal }),
    world.clock,
  );
  assert.equal(camera?.events, undefined);
});
