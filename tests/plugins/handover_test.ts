/** What a recording that was killed in the middle of a plugin's put leaves in the spool. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, readdir, stat, writeFile } from "node:fs/promises";
import { handoverFolder } from "../../commands/rooms.ts";
import { inTempFolder, killAndWait, runCli } from "../support/run_cli.ts";
import { until } from "../support/until.ts";

const at = (path: string) => new URL(`../../${path}`, import.meta.url);

/** Hands a clip to a plugin that never answers. */
const PUTS = `
import { clipOnDisk } from ${JSON.stringify(at("kit/clips.ts").href)};
import { isolated } from ${JSON.stringify(at("kit/mod.ts").href)};
const [folder] = Deno.args;
const log = { debug() {}, info() {}, warn() {}, error() {} };
const host = await isolated("./toy.js", { folder });
const { sink } = await host.open({ config: {}, log });
const clip = await clipOnDisk(1000, folder);
console.log(JSON.stringify({ pid: sink.pid, path: clip.path }));
await sink.put(clip, { signal: new AbortController().signal, attempt: 1, progress() {} });
`;

Deno.test({
  name: "a clip's second name goes with the next recording, and the plugin's process by itself",
  ignore: Deno.build.os !== "linux",
  fn: () =>
    inTempFolder(async (folder) => {
      const spool = `${folder}/spool`;
      const handover = handoverFolder(spool);
      await mkdir(handover, { recursive: true });
      await writeFile(
        `${folder}/toy.js`,
        `import { defineSink } from "camsink";
export default defineSink({
  name: "toy",
  config: { type: "object", properties: {}, additionalProperties: false },
  net: () => [],
  open: () => ({ put: () => new Promise(() => {}) }),
});
`,
      );
      await writeFile(`${folder}/puts.ts`, PUTS);
      const config = `--config=${at("deno.json").pathname}`;
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "--allow-all", "--no-check", config, `${folder}/puts.ts`, folder],
        env: { TMPDIR: handover }, // the kit hands over there
        stdout: "piped",
        stderr: "inherit",
      }).spawn();
      const ended = child.status;
      const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
      try {
        const { pid, path } = JSON.parse((await reader.read()).value ?? "");
        const names = async () => (await stat(path)).nlink;
        await until(async () => await names() === 2, () => "the clip was not handed over");
        await killAndWait(child, ended);
        await until(() => !existsSync(`/proc/${pid}`), () => "the plugin's process lives on");
        assert.equal(await names(), 2, "nobody was there to take the name away");

        await writeFile(
          `${folder}/camsink.jsonc`,
          JSON.stringify({
            cameras: { yard: { type: "snapshot", url: "http://127.0.0.1:1/", enabled: false } },
            spool: { path: "./spool" },
            sinks: { local: { type: "local-folder", path: "./clips" } },
          }),
        );
        await runCli(["capture", "--for", "100ms"], { cwd: folder });
        assert.equal(await names(), 1);
        assert.ok(!(await readdir(spool)).includes("handover"));
      } finally {
        await killAndWait(child, ended);
        await reader.cancel();
      }
    }),
});
