/** The source contract, for each kind of camera, over real sockets. */
import { join } from "node:path";
import * as v from "valibot";
import { accountTypes, cameraTypes } from "../../core/sources/mod.ts";
import {
  startMjpegCamera,
  startNestSimulator,
  startRtspCamera,
  startSnapshotCamera,
} from "../../simulators/mod.ts";
import { testSource } from "../contract/source_contract.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { settled, testContext } from "./world.ts";

const size = { widthPx: 160, heightPx: 96 };

testSource("snapshot", async () => {
  const clock = createFakeClock();
  const login = { username: "owner", password: "a-password" };
  const camera = await startSnapshotCamera({
    ...{ name: "Yard", clock, ...size },
    auth: { type: "digest", ...login, nonceUses: 3 },
  });
  return {
    clock,
    source: cameraTypes.snapshot.open(
      v.parse(cameraTypes.snapshot.options, { url: camera.url, fps: 20, ...login }),
      testContext(clock),
    ),
    hang: () => camera.faults.add({ kind: "never" }),
    lose: () => camera.close(),
    [Symbol.asyncDispose]: () => camera.close(),
  };
});

testSource("mjpeg", async () => {
  const clock = createFakeClock();
  // The camera's timers are its own business: they are not those that the source leaves behind.
  const serverClock = createFakeClock();
  const login = { username: "owner", password: "a-password" };
  const camera = await startMjpegCamera({
    ...{ name: "Yard", clock: serverClock, ...size, fps: 20 },
    auth: { type: "digest", ...login, nonceUses: 3 },
  });
  const both = {
    ...clock,
    get sleepers() {
      return clock.sleepers;
    },
    advance: async (ms: number) => {
      await serverClock.advance(ms);
      await clock.advance(ms);
    },
  };
  return {
    clock: both,
    stepMs: 5,
    source: cameraTypes.mjpeg.open(
      v.parse(cameraTypes.mjpeg.options, { url: camera.url, ...login }),
      testContext(both),
    ),
    hang: () => camera.hang(),
    lose: () => camera.close(),
    [Symbol.asyncDispose]: () => camera.close(),
  };
});

for (const kind of ["Nest account", "Google account"]) {
  testSource(`nest (${kind})`, async () => {
    const clock = createFakeClock();
    const cloud = await startNestSimulator({ clock, cameras: [{ name: "Yard", ...size }] });
    const { accessToken, issueToken, cookie } = cloud.credentials;
    const options = v.parse(accountTypes.nest.options, {
      ...(kind === "Nest account" ? { accessToken } : { issueToken, cookie }),
      endpoints: cloud.endpoints,
      width: 160,
      fps: 20,
    });
    const account = accountTypes.nest.open(options, testContext(clock));
    const { signal } = new AbortController();
    const [camera] = await settled(account.cameras({ signal }), clock);
    if (camera === undefined) throw new Error("the simulated cloud has no camera");
    return {
      clock,
      source: camera.source,
      hang: () => cloud.faults.add({ kind: "never" }),
      lose: () => cloud.camera("Yard").setState("offline"),
      async [Symbol.asyncDispose]() {
        await account[Symbol.asyncDispose]();
        await cloud.close();
      },
    };
  });
}

for (const transport of ["tcp", "udp"] as const) {
  testSource(`rtsp over ${transport}`, async () => {
    const clock = createFakeClock();
    const login = { username: "owner", password: "a-password" };
    const camera = await startRtspCamera({
      ...{ name: "Yard", clock, ...size, fps: 20, gopPictures: 10, gops: 1 },
      audio: { codec: "aac" },
      auth: { type: "digest", ...login, nonceUses: 3 },
    });
    return {
      clock,
      stepMs: 5,
      source: cameraTypes.rtsp.open(
        v.parse(cameraTypes.rtsp.options, { url: camera.url, transport, ...login }),
        testContext(clock),
      ),
      hang: () => camera.hang(true),
      lose: () => camera.close(),
      [Symbol.asyncDispose]: () => camera.close(),
    };
  });
}

testSource("nest, live", async () => {
  const clock = createFakeClock(undefined, { breathMs: 1 });
  // The servers' timers are their own business: they are not those that the source leaves behind.
  const serverClock = createFakeClock();
  const cloud = await startNestSimulator({
    clock: serverClock,
    cameras: [{ name: "Yard", widthPx: 320, heightPx: 180, live: { fps: 20, gopPictures: 10 } }],
  });
  await cloud.camera("Yard").ready();
  const folder = await Deno.makeTempDir();
  const ca = join(folder, "ca.pem");
  await Deno.writeTextFile(ca, cloud.caPem ?? "");
  const both = {
    ...clock,
    get sleepers() {
      return clock.sleepers;
    },
    advance: async (ms: number) => {
      await serverClock.advance(ms);
      await clock.advance(ms);
    },
  };
  const options = v.parse(accountTypes.nest.options, {
    ...{ accessToken: cloud.credentials.accessToken, endpoints: cloud.endpoints },
    ...{ ca, video: "stream" },
  });
  const account = accountTypes.nest.open(options, testContext(both));
  const { signal } = new AbortController();
  const [camera] = await settled(account.cameras({ signal }), both);
  if (camera === undefined) throw new Error("the simulated cloud has no camera");
  return {
    clock: both,
    stepMs: 5,
    momentSteps: 4,
    source: camera.source,
    hang: () => {
      for (const at of ["hello", "playing"] as const) cloud.faults.add({ kind: "stall", at });
    },
    lose: () => cloud.camera("Yard").setState("offline"),
    async [Symbol.asyncDispose]() {
      await account[Symbol.asyncDispose]();
      await cloud.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
});
