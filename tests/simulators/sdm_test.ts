/** The simulated Device Access project holds to what is known of the real one. */
import assert from "node:assert/strict";
import type { SdmCameraOptions } from "../../simulators/sdm/camera.ts";
import { startSdmSimulator } from "../../simulators/sdm/simulator.ts";
import { connect } from "node:net";
import { createFakeClock } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";

async function createWorld(camera: SdmCameraOptions) {
  const clock = createFakeClock();
  const cloud = await startSdmSimulator({
    clock,
    random: seededRandom(1),
    cameras: [camera],
    media: {
      rtsp: () => Promise.resolve({ where: "rtsps://127.0.0.1/live", close() {} }),
      webRtc: () => Promise.resolve({ where: "v=0", close() {} }),
    },
  });
  const { projectId, clientId, clientSecret, refreshToken } = cloud.credentials;
  const ask = async (path: string, init?: RequestInit) => {
    const response = await cloud.fetch(`${cloud.endpoints.sdm}${path}`, init);
    return { status: response.status, body: await response.json() };
  };
  const token = async () => {
    const form = new URLSearchParams({
      grant_type: "refresh_token",
      client_id: clientId,
      client_secret: clientSecret,
      refresh_token: refreshToken,
    });
    const { body } = await ask("/token", { method: "POST", body: form });
    return String(body.access_token);
  };
  let bearer = await token();
  const headers = () => ({ authorization: `Bearer ${bearer}` });
  const [device] = cloud.cameras;
  assert.ok(device);
  return {
    ...{ clock, cloud, device, ask },
    renew: async () => bearer = await token(),
    get: (path: string) => ask(`/v1/enterprises/${projectId}/${path}`, { headers: headers() }),
    command: (name: string, params: object = {}) =>
      ask(`/v1/enterprises/${projectId}/devices/${device.id}:executeCommand`, {
        method: "POST",
        headers: headers(),
        body: JSON.stringify({ command: `sdm.devices.commands.CameraLiveStream.${name}`, params }),
      }),
    [Symbol.asyncDispose]: () => cloud.close(),
  };
}

Deno.test("an extension changes both tokens, and the old one is refused", async () => {
  await using world = await createWorld({ customName: "Yard", protocol: "RTSP" });
  const first = (await world.command("GenerateRtspStream")).body.results;
  assert.match(first.streamUrls.rtspUrl, /\?auth=g\.0\./);
  const { streamExtensionToken } = first;
  const second = (await world.command("ExtendRtspStream", { streamExtensionToken })).body.results;
  assert.notEqual(second.streamExtensionToken, streamExtensionToken);
  assert.match(second.streamToken, /^g\.1\./);
  assert.equal(second.streamUrls, undefined);
  const old = await world.command("ExtendRtspStream", { streamExtensionToken });
  assert.deepEqual([old.status, old.body.error.status], [400, "INVALID_ARGUMENT"]);
});

Deno.test("the sixth command of a kind, and the eleventh of all, are refused as Google does", async () => {
  await using world = await createWorld({ customName: "Yard", protocol: "RTSP", maxStreams: 99 });
  for (let i = 0; i < 5; i++) {
    assert.equal((await world.command("GenerateRtspStream")).status, 200);
  }
  const { status, body } = await world.command("GenerateRtspStream");
  const message = "Rate limited for the GenerateRtspStream command for the user.";
  assert.equal(status, 429);
  assert.deepEqual(body, {
    error: {
      code: 429,
      message,
      errors: [{ message, domain: "global", reason: "rateLimitExceeded" }],
      status: "RESOURCE_EXHAUSTED",
    },
  });
  for (let i = 0; i < 5; i++) await world.command("StopRtspStream");
  const all = await world.command("ExtendRtspStream");
  assert.equal(
    all.body.error.message,
    "Rate limited for the ExecuteDeviceCommand API for the user.",
  );
  await world.clock.advance(60_001);
  assert.equal((await world.command("GenerateRtspStream")).status, 200);
});

Deno.test("wrong family, battery, one stream, unknown device, dead token: each its own refusal", async () => {
  await using world = await createWorld({ customName: "Bell", battery: true, maxStreams: 1 });
  const said = async (name: string, params = {}) => {
    const { status, body } = await world.command(name, params);
    return `${status} ${body.error?.status ?? ""} ${body.error?.message ?? ""}`;
  };
  assert.match(await said("GenerateRtspStream"), /^400 INVALID_ARGUMENT/);
  const { mediaSessionId } = (await world.command("GenerateWebRtcStream")).body.results;
  assert.match(await said("GenerateWebRtcStream"), /^409 /);
  assert.equal(
    await said("ExtendWebRtcStream", { mediaSessionId }),
    "400 FAILED_PRECONDITION Command is not supported for doorbell.",
  );
  assert.match((await world.get("devices/none")).body.error.message, /^Device .* not found\.$/);
  await world.clock.advance(3_600_000);
  assert.equal((await world.get("devices")).body.error.status, "UNAUTHENTICATED");
});

/** Asks an RTSP server for a description, and goes on to PLAY where it is told to; gives the status. */
async function describe(address: string, { play = false } = {}) {
  const url = new URL(address);
  const socket = connect(Number(url.port), url.hostname);
  let text = "";
  let wake = () => {};
  let isOver = false;
  for (const event of ["close", "error"]) {
    socket.on(event, () => {
      isOver = true;
      wake();
    });
  }
  socket.on("data", (data: Uint8Array) => {
    text += new TextDecoder("latin1").decode(data);
    wake();
  });
  const ask = async (method: string, uri: string, sequence: number, ...fields: string[]) => {
    text = "";
    socket.write(
      [`${method} ${uri} RTSP/1.0`, `CSeq: ${sequence}`, ...fields, "", ""].join("\r\n"),
    );
    while (!isOver && !text.includes("\r\n\r\n")) {
      await new Promise<void>((resolve) => wake = resolve);
    }
    return Number(/^RTSP\/1\.0 (\d+)/.exec(text)?.[1]);
  };
  const status = await ask("DESCRIBE", address, 1, "Accept: application/sdp");
  if (play) {
    const transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1";
    assert.equal(await ask("SETUP", `${address}/track1`, 2, transport), 200);
    const session = /Session: ([^;\r]+)/i.exec(text)?.[1] ?? "";
    assert.equal(await ask("PLAY", address, 3, `Session: ${session}`), 200);
  }
  return { status, close: () => socket.destroy() };
}

Deno.test("an RTSP address takes its newest token only, one client at a time, and none when it is over", async () => {
  const clock = createFakeClock();
  await using cloud = await startSdmSimulator({
    clock,
    random: seededRandom(1),
    cameras: [{ customName: "Yard", protocol: "RTSP", widthPx: 160, heightPx: 96 }],
  });
  const [camera] = cloud.cameras;
  assert.ok(camera);
  const results = async (name: string, params: object = {}) => {
    const answer = await camera.command(name, { ...params });
    assert.ok(typeof answer !== "string");
    return JSON.parse(String(answer.body)).results;
  };
  const made = await results("GenerateRtspStream");
  const address: string = made.streamUrls.rtspUrl;
  const statusOf = async (address: string) => {
    const { status, close } = await describe(address);
    close();
    return status;
  };
  assert.equal(await statusOf(address), 200);
  assert.equal(await statusOf(address.replace(/auth=.*/, "auth=g.0.other")), 403);
  const { streamExtensionToken } = made;
  const extended = await results("ExtendRtspStream", { streamExtensionToken });
  assert.equal(await statusOf(address), 403, "the token was replaced");
  const renewed = address.replace(/\?.*/, `?auth=${extended.streamToken}`);
  const viewer = await describe(renewed, { play: true });
  assert.equal(await statusOf(renewed), 403, "somebody watches already");
  viewer.close();
  await clock.advance(301_000 + 22_000);
  assert.notEqual(await statusOf(renewed).catch(() => 0), 200);
});
