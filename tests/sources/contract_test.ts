/** The source contract, for each kind of camera, over real sockets. */
import * as v from "valibot";
import { accountTypes, cameraTypes } from "../../core/sources/mod.ts";
import { startNestSimulator, startSnapshotCamera } from "../../simulators/mod.ts";
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
