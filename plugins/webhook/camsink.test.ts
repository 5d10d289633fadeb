/**
 * The conformance kit against a receiver that takes the files: `camsink plugin test .`
 *
 * @module
 */
import type { SinkTest, SinkTestServer } from "camsink";
import { startReceiver } from "./receiver.ts";

const TOKEN = "kit-webhook-771a0c";
const SIGNING_KEY = "kit-signing-90ab31";

async function start(send: "file" | "metadata"): Promise<SinkTestServer> {
  const signs = send === "metadata";
  const receiver = await startReceiver({
    token: TOKEN,
    ...(signs ? { signingKey: SIGNING_KEY } : {}),
  });
  return {
    url: receiver.url,
    config: (url) => ({ url, send }),
    secrets: { token: TOKEN, ...(signs ? { signingKey: SIGNING_KEY } : {}) },
    carries: signs ? "events" : "clips",
    objects: () =>
      Promise.resolve([...receiver.received].map(([name, data]) => ({ name, read: () => data }))),
    [Symbol.asyncDispose]: () => receiver[Symbol.asyncDispose](),
  };
}

/** The same for events. */
export const metadataTest: SinkTest = { start: () => start("metadata") };

const test: SinkTest = { start: () => start("file") };
export default test;
