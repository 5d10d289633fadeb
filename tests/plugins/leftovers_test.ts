/** What a process that was killed has left on a server beside its clip goes with the next try. */
import assert from "node:assert/strict";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { testClip } from "../../kit/clips.ts";
import { inProcess, type SinkTest } from "../../kit/mod.ts";
import sftp from "../../plugins/sftp/mod.ts";
import sftpTest from "../../plugins/sftp/camsink.test.ts";
import webdav from "../../plugins/webdav/mod.ts";
import webdavTest from "../../plugins/webdav/camsink.test.ts";
import { inTempFolder } from "../support/run_cli.ts";

const log = { debug() {}, info() {}, warn() {}, error() {} };
const put = { signal: new AbortController().signal, attempt: 1, progress: () => {} };

const SINKS = [
  ["sftp", inProcess(sftp), sftpTest, "store"],
  ["webdav", inProcess(webdav), webdavTest, "store/cameras"],
] as const;

for (const [name, host, test, place] of SINKS) {
  const reason = await (test as SinkTest).unavailable?.();
  Deno.test({
    name: `${name}: a hidden part is gone when its clip is there${reason ? ` (${reason})` : ""}`,
    ignore: reason !== undefined,
    fn: () =>
      inTempFolder(async (folder) => {
        await using server = await test.start({ folder, signal: new AbortController().signal });
        const secrets: Record<string, string> = {};
        for (const [option, value] of Object.entries(server.secrets ?? {})) {
          await writeFile(secrets[option] = join(folder, option), value, { mode: 0o600 });
        }
        const references = Object.entries(secrets).map(([key, path]) => [key, `file:${path}`]);
        const config = { ...server.config(server.url ?? ""), ...Object.fromEntries(references) };
        const { sink } = await host.open({ config, log });
        const clip = testClip(2 ** 20);
        const target = join(folder, place, clip.key);
        const hidden = join(dirname(target), `.${target.split("/").at(-1)}.part`);
        const left = async () => await readdir(dirname(target));
        await mkdir(dirname(target), { recursive: true });
        // Killed in the middle, …
        await writeFile(hidden, "half of it, and longer than what comes".repeat(100_000));
        assert.equal((await sink.put(clip, put)).state, "stored");
        assert.deepEqual(await left(), [target.split("/").at(-1)]);
        // … or when the clip had its name already.
        await writeFile(hidden, "half of it");
        assert.equal((await sink.put(clip, { ...put, attempt: 2 })).state, "already-there");
        assert.deepEqual(await left(), [target.split("/").at(-1)]);
        await sink.close?.();
      }),
  });
}
