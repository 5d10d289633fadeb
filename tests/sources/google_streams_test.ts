/**
 * The life of a Device Access stream by its commands: Generate, Extend ahead of its end with the newest
 * token, Stop; and what each of Google's refusals is taken for.
 *
 * @module
 */
import assert from "node:assert/strict";
import * as v from "valibot";
import { openGoogleSdmAccount } from "../../core/sources/google/account.ts";
import { googleRefusal, googleStatusOf } from "../../core/sources/google/api.ts";
import { googleSdmOptions } from "../../core/sources/google/options.ts";
import { type Session, sourceErrorKind } from "../../core/types.ts";
import { startSdmSimulator } from "../../simulators/sdm/simulator.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { createTestLog, settled } from "./world.ts";

/** A stream that carries a picture every nine seconds. */
function quietSession(clock: ReturnType<typeof createFakeClock>): Session {
  const over = new AbortController();
  const units = async function* () {
    while (!over.signal.aborted) {
      const us = Math.round(clock.monotonic() * 1000);
      const data = new Uint8Array(1);
      yield { trackId: 1, data, ptsUs: us, dtsUs: us, isKey: true, capturedAtMs: clock.now() };
      await clock.sleep(9000, { signal: over.signal }).catch(() => {});
    }
  };
  const iterator = units();
  const config = new Uint8Array();
  return {
    tracks: [{ id: 1, kind: "video", codec: "h264", widthPx: 640, heightPx: 360, config }],
    [Symbol.asyncIterator]: () => iterator,
    async [Symbol.asyncDispose]() {
      over.abort();
      await iterator.return(undefined);
    },
  };
}

interface Command {
  readonly atMs: number;
  readonly verb: string;
  readonly params: Readonly<Record<string, string>>;
  readonly results: Readonly<Record<string, string>>;
}

/** Runs a camera's stream for twenty minutes; gives the commands that it took, and their answers. */
async function commandsOf(protocol: "RTSP" | "WEB_RTC") {
  const clock = createFakeClock();
  const random = seededRandom(3);
  const serve = (where: string) => Promise.resolve({ where, close() {} });
  const cloud = await startSdmSimulator({
    ...{ clock, random, cameras: [{ customName: "Yard", protocol }] },
    media: {
      rtsp: () => serve("rtsps://127.0.0.1/sdm_live_stream/x"),
      webRtc: () => serve("answer"),
    },
  });
  const commands: Command[] = [];
  const { projectId, clientId, clientSecret, refreshToken } = cloud.credentials;
  const account = openGoogleSdmAccount(
    v.parse(googleSdmOptions, {
      ...{ projectId, clientId, clientSecret, refreshToken, endpoints: cloud.endpoints },
    }),
    {
      ...{ clock, random, log: createTestLog() },
      transports: {
        rtsp: () => Promise.resolve(quietSession(clock)),
        webRtc: async ({ exchange }) => {
          await exchange("offer");
          return quietSession(clock);
        },
      },
      async fetch(input, init) {
        const response = await cloud.fetch(input, init);
        if (!String(input).endsWith(":executeCommand")) return response;
        const { command, params } = JSON.parse(String(init?.body));
        const { results = {} } = await response.clone().json();
        const verb = String(command).split(".").at(-1) ?? "";
        commands.push({ atMs: clock.now(), verb, params, results });
        return response;
      },
    },
  );
  const stop = new AbortController();
  const [camera] = await settled(account.cameras({ signal: stop.signal }), clock);
  assert.ok(camera);
  const session = await settled(camera.source.open({ signal: stop.signal }), clock);
  const reading = (async () => {
    for await (const _unit of session);
  })();
  await clock.advance(1_200_000);
  await settled(Promise.resolve(session[Symbol.asyncDispose]()), clock);
  await reading;
  await settled(Promise.resolve(account[Symbol.asyncDispose]()), clock);
  const { openStreams, counts } = cloud.camera("Yard");
  await cloud.close();
  return { commands, openStreams, counts };
}

for (
  const { protocol, family, handle } of [
    { protocol: "RTSP", family: "Rtsp", handle: "streamExtensionToken" },
    { protocol: "WEB_RTC", family: "WebRtc", handle: "mediaSessionId" },
  ] as const
) {
  Deno.test(`a ${family} stream is extended ahead of its end with the newest ${handle}, and stopped with it`, async () => {
    const { commands, openStreams, counts } = await commandsOf(protocol);
    const [generate, ...others] = commands;
    const extensions = others.slice(0, -1);
    assert.equal(generate?.verb, `Generate${family}Stream`);
    assert.equal(others.at(-1)?.verb, `Stop${family}Stream`);
    assert.ok(extensions.length >= 4 && extensions.length <= 6, `${extensions.length} extensions`);
    let before = generate;
    for (const command of others) {
      assert.equal(command.params[handle], before.results[handle], command.verb);
      const aheadMs = Date.parse(before.results["expiresAt"] ?? "") - command.atMs;
      assert.ok(aheadMs > 30_000, `${command.verb} ${aheadMs} ms before the end`);
      if (command.verb === `Extend${family}Stream`) before = command;
      else assert.equal(command, commands.at(-1));
    }
    // The token that future connections need changes with it.
    const tokens = commands.flatMap(({ results }) => results["streamToken"] ?? []);
    if (protocol === "RTSP") assert.equal(new Set(tokens).size, extensions.length + 1);
    assert.equal(openStreams, 0);
    assert.deepEqual(counts, { generated: 1, extended: extensions.length, stopped: 1, expired: 0 });
  });
}

Deno.test("the list names each camera, the room that it is in, and the way it streams", async () => {
  const clock = createFakeClock();
  const cloud = await startSdmSimulator({
    ...{ clock, random: seededRandom(3) },
    cameras: [
      { customName: "Yard", room: "Garden", protocol: "RTSP" },
      { room: "Porch", type: "DOORBELL" },
      { name: "another", customName: "Yard" },
      // What nobody knows yet is left alone.
      { customName: "New", traits: { "sdm.devices.traits.CameraTelepathy": { range: "far" } } },
    ],
  });
  const { projectId, clientId, clientSecret, refreshToken } = cloud.credentials;
  const account = openGoogleSdmAccount(
    v.parse(googleSdmOptions, {
      ...{ projectId, clientId, clientSecret, refreshToken, endpoints: cloud.endpoints },
    }),
    { clock, random: seededRandom(4), log: createTestLog(), fetch: cloud.fetch },
  );
  const { signal } = new AbortController();
  const cameras = await settled(account.cameras({ signal }), clock);
  assert.equal(new Set(cameras.map(({ name }) => name)).size, 4, "each has a name of its own");
  assert.deepEqual(
    cameras.map(({ name, model }) => `${name.replace(/ \([\w-]+\)$/, "")}: ${model}`).sort(),
    [
      "New: camera, WebRTC",
      "Porch: doorbell, WebRTC",
      "Yard: camera, RTSP, in Garden",
      "Yard: camera, WebRTC",
    ],
  );
  await account[Symbol.asyncDispose]();
  await cloud.close();
});

Deno.test("each of Google's refusals has its kind, its words and its wait", () => {
  const clock = createFakeClock();
  const rateLimited = (what: string) => ({
    message: `Rate limited for the ${what} for the user.`,
    errors: [{
      message: `Rate limited for the ${what} for the user.`,
      ...{ domain: "global", reason: "rateLimitExceeded" },
    }],
  });
  const REFUSALS = [
    [400, "INVALID_ARGUMENT", { message: "Request contains an invalid argument." }, "protocol", 0],
    [
      400,
      "FAILED_PRECONDITION",
      { message: "Command is not supported for doorbell." },
      "offline",
      0,
    ],
    [401, "UNAUTHENTICATED", { message: "Request had invalid credentials." }, "auth", 0],
    [403, "PERMISSION_DENIED", { message: "The caller has no permission." }, "auth", 60_000],
    [404, "NOT_FOUND", { message: "Device enterprises/P/devices/D not found." }, "offline", 30_000],
    [409, "ABORTED", { message: "The operation was aborted." }, "rate", 30_000],
    [429, "RESOURCE_EXHAUSTED", rateLimited("ExecuteDeviceCommand API"), "rate", 60_000],
    [429, "RESOURCE_EXHAUSTED", rateLimited("GenerateCameraEventImage command"), "rate", 60_000],
    [504, "DEADLINE_EXCEEDED", { message: "Camera image is no longer available." }, "offline", 0],
  ] as const;
  for (const [status, name, content, kind, waitMs] of REFUSALS) {
    const body = { error: { code: status, status: name, ...content } };
    const error = googleRefusal({
      ...{ status, headers: new Headers(), url: new URL("https://example.com/v1/x") },
      ...{ bytes: new TextEncoder().encode(JSON.stringify(body)) },
      ...{ sentMs: 0, respondedMs: 0, respondedAtMs: 0 },
    }, { clock, what: "Yard: GenerateWebRtcStream" });
    assert.equal(sourceErrorKind(error), kind, name);
    assert.equal(googleStatusOf(error), name);
    assert.ok(
      error.message.startsWith(
        `Yard: GenerateWebRtcStream: Google says ${status} ${name}, "${content.message}"`,
      ),
      error.message,
    );
    const asked = "retryAfterMs" in error ? Number(error.retryAfterMs) : 0;
    assert.equal(asked, waitMs, `${name}: ${asked} ms`);
  }
});
