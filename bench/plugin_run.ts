/**
 * One competitor of {@link ./plugin.ts}: `plugin_run.ts isolated|in-process PLUGIN CLIP COUNT` puts a
 * clip so many times, and ends.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { dirname } from "node:path";
import { pathToFileURL } from "node:url";
import type { Clip, Log, SinkPlugin } from "../core/types.ts";
import { inProcess, isolated } from "../kit/mod.ts";

const [how, plugin = "", path = "", count = "0"] = Deno.args;
const silent: Log = { debug() {}, info() {}, warn() {}, error() {} };

await using host = how === "isolated"
  ? await isolated(plugin, { folder: dirname(plugin) })
  : inProcess((await import(pathToFileURL(plugin).href) as { default: SinkPlugin }).default);
const { sink, dispose } = await host.open({ config: {}, log: silent });
const { size } = await Deno.stat(path);
const hash = createHash("sha256");
for await (const part of (await Deno.open(path)).readable) hash.update(part);
const clip: Clip = {
  key: "yard/clip.mp4",
  camera: "Yard",
  start: new Date(0),
  end: new Date(60_000),
  bytes: size,
  sha256: hash.digest("hex"),
  contentType: "video/mp4",
  ...(how === "isolated" ? { path } : {}),
  open: () => {
    const file = Deno.openSync(path);
    return file.readable;
  },
};
for (let turn = 0; turn < Number(count); turn++) {
  await sink.put({ ...clip, key: `yard/${turn}.mp4` }, {
    signal: new AbortController().signal,
    attempt: 1,
    progress: () => {},
  });
}
await sink.close?.();
await dispose();
