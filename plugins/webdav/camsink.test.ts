/**
 * The conformance kit against a real WebDAV server, `rclone serve webdav`: `camsink plugin test .`
 *
 * @module
 */
import { spawn, spawnSync } from "node:child_process";
import { createReadStream } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { join, relative } from "node:path";
import { Readable } from "node:stream";
import type { SinkTest } from "camsink";

const PASSWORD = "kit-webdav-0b77c2";

const test: SinkTest = {
  unavailable: () =>
    spawnSync("rclone", ["version"]).error === undefined ? undefined : "rclone is not installed",
  start: async ({ folder, signal }) => {
    const root = join(folder, "store");
    await mkdir(join(root, "cameras"), { recursive: true });
    const child = spawn("rclone", [
      ...["serve", "webdav", root, "--addr", "127.0.0.1:0"],
      ...["--user", "kit", "--config", "/dev/null", "-v"],
      ...["--dir-cache-time", "0s"],
    ], {
      stdio: ["ignore", "ignore", "pipe"],
      signal,
      env: { ...Deno.env.toObject(), RCLONE_PASS: PASSWORD },
    });
    const gone = new Promise<void>((done) => child.on("close", () => done()));
    child.on("error", () => {}); // an abort; the exit is waited for below
    const url = await new Promise<string>((resolve, reject) => {
      let said = "";
      child.stderr.on("data", (data) => {
        said += data;
        const found = /http:\/\/127\.0\.0\.1:\d+/.exec(said)?.[0];
        if (found !== undefined) resolve(found);
      });
      child.on("close", () => reject(new Error(`rclone did not start: ${said}`)));
    });
    return {
      url: `${url}/cameras`,
      config: (url) => ({ url, username: "kit" }),
      secrets: { password: PASSWORD },
      objects: async () => {
        const entries = await readdir(root, { recursive: true, withFileTypes: true });
        return entries.filter((entry) => entry.isFile()).map((entry) => {
          const path = join(entry.parentPath, entry.name);
          return {
            name: relative(root, path),
            read: () => Readable.toWeb(createReadStream(path)) as ReadableStream<Uint8Array>,
          };
        });
      },
      [Symbol.asyncDispose]: async () => {
        child.kill("SIGKILL");
        await gone;
      },
    };
  },
};
export default test;
