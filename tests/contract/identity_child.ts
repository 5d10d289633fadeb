/**
 * Stores clips with the azure-blob sink in a process of its own, for `azure_identity_test.ts`: the
 * SDK keeps what it learned of a machine's identity for as long as the process lives.
 *
 * @module
 */
import { makeSecret } from "../../core/config/values.ts";
import { sinkErrorKind } from "../../core/types.ts";
import { azureBlob } from "../../sinks/azure_blob.ts";
import { clipOf, noise, putOptions } from "./clips.ts";

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const look = { signal: new AbortController().signal, camera: "yard" };
const { accountKey, ...options } = JSON.parse(Deno.args[0] ?? "{}");

const said: Record<string, unknown> = { states: [] };
try {
  const sink = await azureBlob.open({
    name: "azure",
    config: {
      container: `i-${crypto.randomUUID().slice(0, 8)}`,
      prefix: "",
      blockSize: 64 * 1024,
      ...options,
      ...(accountKey === undefined ? {} : { accountKey: makeSecret(accountKey) }),
    },
    log: quiet,
    fetch,
  });
  for (const bytes of [1000, 300_000]) {
    const clip = clipOf(noise(bytes), { key: `yard/${bytes}.mp4` });
    const first = await sink.put(clip, putOptions());
    const again = await sink.put(clip, putOptions({ attempt: 2 }));
    const found = await sink.stat!(clip.key, look);
    await sink.remove!(clip.key, look);
    said.states = [
      ...said.states as string[],
      first.state,
      again.state,
      found?.sha256 === clip.sha256 ? "same" : "another",
    ];
  }
  await sink.check!(look);
} catch (error) {
  said.kind = sinkErrorKind(error);
  said.message = String(error);
}
console.log(JSON.stringify(said));
Deno.exit(0);
