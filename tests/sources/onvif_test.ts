/** ONVIF: finding the stream of a simulated device, whose answers are as wrong as real ones. */
import assert from "node:assert/strict";
import * as v from "valibot";
import { systemClock } from "../../core/clock.ts";
import { findOnvifAddress } from "../../core/sources/onvif/device.ts";
import { discoverOnvif } from "../../core/sources/onvif/discovery.ts";
import { elementsOf, textOf } from "../../core/sources/onvif/soap.ts";
import { cameraTypes } from "../../core/sources/mod.ts";
import { startRtspCamera } from "../../simulators/mod.ts";
import { type OnvifDeviceOptions, startOnvifDevice } from "../../simulators/onvif_device.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { PATIENCE_MS } from "../support/until.ts";
import { createTestLog, errorOf } from "./world.ts";

const LOGIN = { username: "owner", password: "a-password" };
const DEVICE: OnvifDeviceOptions = {
  ...LOGIN,
  name: "Front yard",
  streamUri: "rtsp://192.0.2.9:8554/live",
  snapshotUri: "http://192.0.2.9/snap.jpg",
};
const { signal } = new AbortController();
const ask = (url: string, more: Partial<Parameters<typeof findOnvifAddress>[0]> = {}) =>
  findOnvifAddress({
    ...{ url, credentials: LOGIN, ca: undefined, profile: undefined, want: "stream" },
    ...{ clock: systemClock, fetch: undefined, signal },
    ...more,
  });

for (const isOld of [false, true]) {
  Deno.test(`the best profile's stream is found, at the host that the user named${isOld ? ", without GetServices" : ""}`, async () => {
    await using device = await startOnvifDevice({ ...DEVICE, isOld, wrongHost: "10.1.1.1:81" });
    const { uri, profile } = await ask(device.url);
    assert.equal(profile.name, "main");
    assert.equal(uri, "rtsp://127.0.0.1:8554/live?profile=main_token&x=1");
    const chosen = await ask(device.url, { profile: "sub", want: "snapshot" });
    assert.equal(chosen.uri, `${device.url}/snap.jpg?profile=sub_token&x=1`);
  });
}

Deno.test("a camera whose clock is years off accepts what is signed by its clock", async () => {
  for (const clockAheadMs of [-8e11, 7_200_000]) {
    await using device = await startOnvifDevice({ ...DEVICE, clockAheadMs });
    assert.equal((await ask(device.url)).profile.token, "main_token");
  }
});

Deno.test("a wrong password and a profile that is not there are told", async () => {
  await using device = await startOnvifDevice(DEVICE);
  const wrong = await errorOf(ask(device.url, { credentials: { ...LOGIN, password: "not-this" } }));
  assert.match(wrong.message, /refused the ONVIF login/);
  assert.doesNotMatch(wrong.message, /not-this/);
  const missing = await errorOf(ask(device.url, { profile: "other" }));
  assert.match(
    missing.message,
    /no profile "other"; it has: .*"main" \(main_token: H264 1920x1080\)/,
  );
});

Deno.test("a camera of type onvif is an RTSP camera once its address is found", async () => {
  await using camera = await startRtspCamera({
    ...{ name: "Yard", widthPx: 320, heightPx: 192, fps: 15, gopPictures: 5, gops: 2 },
    auth: { type: "digest", ...LOGIN },
  });
  const streamUri = camera.url.replace("127.0.0.1", "192.0.2.9");
  await using device = await startOnvifDevice({ ...DEVICE, streamUri });
  const source = cameraTypes.onvif.open(
    v.parse(cameraTypes.onvif.options, { url: device.url, ...LOGIN }),
    { clock: systemClock, log: createTestLog(), random: () => 0.5 },
  );
  for (let round = 0; round < 2; round++) {
    await using session = await source.open({ signal });
    for await (const unit of session) {
      assert.equal(unit.isKey, true);
      break;
    }
  }
  assert.equal(device.calls.filter((call) => call === "GetStreamUri").length, 1);
});

Deno.test("discovery finds the device, where it answers from and not where it says it is", async () => {
  await using device = await startOnvifDevice(DEVICE);
  const found = await discoverOnvif({
    clock: systemClock,
    waitMs: 200,
    to: device.discovery,
    signal,
  });
  assert.deepEqual(found, [
    { url: `${device.url}/onvif/device_service`, name: "Front yard", model: "SIM-1" },
  ]);
});

Deno.test("answers that are spoiled are searched without harm", () => {
  const random = seededRandom(8);
  const answer =
    '<a:Profiles token="x"><tt:Name>a</tt:Name><tt:Uri>rtsp://h/</tt:Uri></a:Profiles>';
  for (let i = 0; i < 100_000; i++) {
    const at = Math.floor(random() * answer.length);
    const text = answer.slice(0, at) + "<>\"'/&"[i % 6] +
      answer.slice(at + Math.floor(random() * 9));
    for (const { inner } of elementsOf(text, "Profiles")) textOf(inner, "Uri");
  }
  const beganMs = performance.now();
  elementsOf('<Profiles token="a">'.repeat(200_000), "Profiles");
  textOf("<Uri ".repeat(800_000), "Uri");
  assert.ok(performance.now() - beganMs < PATIENCE_MS);
});
