/** The source contract for Device Access cameras: real WebRTC over loopback. */
import * as v from "valibot";
import { openGoogleSdmAccount } from "../../core/sources/google/account.ts";
import { googleSdmOptions } from "../../core/sources/google/options.ts";
import type { CommandQuota } from "../../core/sources/google/quota.ts";
import { startSdmSimulator } from "../../simulators/sdm/simulator.ts";
import { testSource } from "../contract/source_contract.ts";
import { createClockPair } from "../support/fake_clock.ts";
import { settled, testContext } from "./world.ts";

/** The suite opens more often in a minute than Google allows. */
const unlimited: CommandQuota = {
  take: () => Promise.resolve(),
  tryTake: () => true,
  refused: () => 60_000,
  accepted() {},
  [Symbol.dispose]() {},
};

testSource("google-sdm (WebRTC)", async () => {
  const { clock, serverClock } = createClockPair();
  const cloud = await startSdmSimulator({
    clock: serverClock,
    quotas: false,
    cameras: [{ customName: "Yard", widthPx: 160, heightPx: 96, maxStreams: 1000 }],
  });
  // Encoded beforehand: it takes seconds, in which fake time would run away.
  for (const camera of cloud.cameras) await cloud.media.scene(camera);
  const { projectId, clientId, clientSecret, refreshToken } = cloud.credentials;
  const options = v.parse(googleSdmOptions, {
    ...{ projectId, clientId, clientSecret, refreshToken },
    endpoints: cloud.endpoints,
  });
  const account = openGoogleSdmAccount(options, { ...testContext(clock), quota: unlimited });
  const { signal } = new AbortController();
  const [camera] = await settled(account.cameras({ signal }), clock);
  if (camera === undefined) throw new Error("the simulated project has no camera");
  const [own] = cloud.cameras;
  if (own === undefined) throw new Error("the simulated project has no camera");
  return {
    clock,
    momentSteps: 60,
    source: camera.source,
    async settle() {
      // Stop is sent when the session is closed already.
      for (let turn = 0; turn < 2000 && clock.sleepers > 0; turn++) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    hang: () => own.hangs = true,
    lose: () => own.setOnline(false),
    async [Symbol.asyncDispose]() {
      await account[Symbol.asyncDispose]();
      await cloud.close();
    },
  };
});
