/**
 * The conformance kit with the real rclone and a local remote: `camsink plugin test .`
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { createReadStream } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { join, relative } from "node:path";
import { Readable } from "node:stream";
import type { SinkTest } from "camsink";

const test: SinkTest = {
  unavailable: () =>
    spawnSync("rclone", ["version"]).error === undefined ? undefined : "rclone is not installed",
  start: async ({ folder }) => {
    await mkdir(join(folder, "store"));
    return {
      config: () => ({ rclone: `:local:${join(folder, "store")}` }),
      objects: async () => {
        const entries = await readdir(folder, { recursive: true, withFileTypes: true });
        return entries.filter((entry) => entry.isFile()).map((entry) => {
          const path = join(entry.parentPath, entry.name);
          return {
            name: relative(folder, path),
            read: () => Readable.toWeb(createReadStream(path)) as ReadableStream<Uint8Array>,
          };
        });
      },
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  },
};
export default test;
