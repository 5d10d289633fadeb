/** The Azurite emulator as a child process. Without it in the cache only the failure is tested. */
import assert from "node:assert/strict";
import { isAzuriteCached, startAzurite } from "../../simulators/mod.ts";

const MODULE = new URL("../../simulators/azurite.ts", import.meta.url).href;
const cached = await isAzuriteCached();
const withAzurite = {
  ignore: !cached,
  reason: cached ? "" : " (skipped: Azurite is not in Deno's cache)",
};

Deno.test({
  name: `the emulator answers on a free port and is gone after stop${withAzurite.reason}`,
  ignore: withAzurite.ignore,
  fn: async () => {
    const azurite = await startAzurite();
    const response = await fetch(`${azurite.blobUrl}?comp=list`);
    await response.body?.cancel();
    assert.match(response.headers.get("server") ?? "", /^Azurite-Blob\//);
    assert.match(azurite.connectionString, new RegExp(`BlobEndpoint=${azurite.blobUrl};`));
    await azurite.stop();
    await assert.rejects(fetch(azurite.blobUrl));
  },
});

Deno.test({
  name: `the emulator ends when its parent is killed${withAzurite.reason}`,
  ignore: withAzurite.ignore,
  fn: async () => {
    const parent = new Deno.Command(Deno.execPath(), {
      args: [
        "eval",
        `const { startAzurite } = await import(${JSON.stringify(MODULE)});` +
        `const { port } = await startAzurite(); console.log(port);` +
        `await new Promise((resolve) => setTimeout(resolve, 1e6));`,
      ],
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const reader = parent.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const port = Number((await reader.read()).value);
    parent.kill("SIGKILL");
    await parent.status;
    await reader.cancel();
    // Only the system can say when the child is gone: each answer takes a round through it.
    let answers = 0;
    for (let gone = false; !gone && answers < 5000; answers++) {
      gone = await fetch(`http://127.0.0.1:${port}/`).then(
        async (response) => {
          await response.body?.cancel();
          return false;
        },
        () => true,
      );
    }
    assert.ok(answers < 5000, "it still answers");
  },
});

Deno.test("an emulator that cannot be downloaded is told with what it said", async () => {
  const cache = await Deno.makeTempDir({ prefix: "camsink-azurite-" });
  try {
    // In a process of its own: the environment belongs to all tests that run at the same time.
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: [
        "eval",
        `const { isAzuriteCached, startAzurite } = await import(${JSON.stringify(MODULE)});` +
        `console.log(await isAzuriteCached());` +
        `await startAzurite().catch((error) => console.log(error.message));`,
      ],
      env: { DENO_DIR: cache, NPM_CONFIG_REGISTRY: "http://127.0.0.1:9/" },
    }).output();
    const [cached, message = ""] = new TextDecoder().decode(stdout).split("\n");
    assert.equal(cached, "false");
    assert.match(message, /emulator ended before it was ready: it said ".*azurite/);
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
});

Deno.test("a start that is given up ends with the signal's reason", async () => {
  const giveUp = new AbortController();
  const starting = startAzurite({ signal: giveUp.signal });
  giveUp.abort(new Error("never mind"));
  await assert.rejects(starting, /never mind/);
});
