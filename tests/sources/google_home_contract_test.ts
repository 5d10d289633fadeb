/** The contracts for a Google Home: its live cameras by real WebRTC over loopback, and its recordings. */
import * as v from "valibot";
import { makeSecret } from "../../core/config/values.ts";
import { openGoogleHomeAccount } from "../../core/sources/google_home/account.ts";
import { googleHomeOptions } from "../../core/sources/google_home/options.ts";
import { startGoogleHomeSimulator } from "../../simulators/mod.ts";
import { testArchive } from "../contract/archive_contract.ts";
import { testSource } from "../contract/source_contract.ts";
import { createClockPair } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { settled, testContext } from "./world.ts";

const footage = (stretch: { readonly startMs: number; readonly endMs: number }) =>
  new TextEncoder().encode(`from ${stretch.startMs} to ${stretch.endMs}`);

/** A home with one camera, and the account at it. */
async function createWorld(mode: "live" | "recordings") {
  const { clock, serverClock } = createClockPair();
  const home = await startGoogleHomeSimulator({
    cameras: [{ name: "Porch", id: "DEVICE_0123456789ABCDEF" }],
    ...{ clock: serverClock, random: seededRandom(1), live: { widthPx: 160, heightPx: 96 } },
    footage,
  });
  if (mode === "live") await home.ready();
  const { email, androidId, masterToken } = home.credentials;
  const options = v.parse(googleHomeOptions, {
    ...{ masterToken: "env:X", email, androidId, mode, endpoints: home.endpoints },
  });
  const account = openGoogleHomeAccount(
    { ...options, masterToken: makeSecret(masterToken) },
    testContext(clock),
  );
  const { signal } = new AbortController();
  const [camera] = await settled(account.cameras({ signal }), clock);
  if (camera === undefined) throw new Error("the simulated home has no camera");
  return {
    ...{ clock, home, camera },
    async [Symbol.asyncDispose]() {
      await account[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

testSource("google-home, live", async () => {
  const world = await createWorld("live");
  const { clock, home, camera } = world;
  if (!("source" in camera)) throw new Error("the camera is not live");
  return {
    clock,
    momentSteps: 60,
    source: camera.source,
    hang: () => home.hangs = true,
    lose: () => home.setOnline(false),
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
});

testArchive("google-home, recordings", async () => {
  const world = await createWorld("recordings");
  const { clock, home, camera } = world;
  if (!("archive" in camera)) throw new Error("the camera has no recordings");
  const asked = (kind: string) => home.requests.get(kind) ?? 0;
  return {
    clock,
    archive: camera.archive,
    record: (startMs, endMs) => void home.addEvent({ camera: "Porch", startMs, endMs }),
    fileOf: ({ start, end }) => footage({ startMs: start.getTime(), endMs: end.getTime() }),
    hang: () => home.fail("never"),
    fail: (way) => home.fail(way === "cut" ? "cut" : "status-500"),
    get requests() {
      return asked("manifest") + asked("clip");
    },
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
});
