/** `camsink simulate` prints a configuration that is right as it stands. */
import assert from "node:assert/strict";
import { madeUpCameras, simulateCamera, simulateNest } from "../../commands/simulate.ts";
import { parseConfig } from "../../core/config/load.ts";
import { accountTypes, cameraTypes } from "../../core/sources/mod.ts";
import { builtinSinks } from "../../sinks/mod.ts";

const tables = { accountTypes, cameraTypes, sinkTypes: builtinSinks };
const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** Runs a simulation until it has printed, and hands the text to `look` while it is up. */
async function printed(
  run: (options: { signal: AbortSignal; print: (text: string) => void }) => Promise<void>,
  look: (text: string) => Promise<void>,
): Promise<void> {
  const done = new AbortController();
  const text = Promise.withResolvers<string>();
  const running = run({ signal: done.signal, print: text.resolve });
  running.catch(text.reject);
  try {
    await look(await text.promise);
  } finally {
    done.abort();
    await running;
  }
}

Deno.test("the configuration of the simulated cloud is valid and names running hosts", async () => {
  await printed(
    (options) => simulateNest({ cameras: 2, port: 0, widthPx: 640, log: silent, ...options }),
    async (text) => {
      const { config } = await parseConfig(text, { tables, path: "camsink.jsonc" });
      assert.deepEqual(Object.keys(config.accounts), ["simulated"]);
      const home = /"home": "(http:[^"]+)"/.exec(text)?.[1];
      const shown = await (await fetch(`${home}/__control`)).json();
      assert.equal(shown.cameras.length, 2);
    },
  );
});

for (const auth of ["none", "basic", "digest"] as const) {
  Deno.test(`the configuration of a simulated camera with ${auth} login is valid`, async () => {
    await printed(
      (options) =>
        simulateCamera({ name: "Yard", auth, port: 0, widthPx: 320, log: silent, ...options }),
      async (text) => {
        const { config } = await parseConfig(text, { tables, path: "camsink.jsonc" });
        assert.deepEqual(Object.keys(config.cameras), ["Yard"]);
        const url = /"url": "([^"]+)"/.exec(text)?.[1] ?? "";
        const response = await fetch(url);
        assert.equal(response.status, auth === "none" ? 200 : 401);
        await response.body?.cancel();
      },
    );
  });
}

Deno.test("as many cameras as are wanted have names of their own", () => {
  const names = madeUpCameras(64).map(({ name }) => name);
  assert.equal(new Set(names).size, 64);
});
