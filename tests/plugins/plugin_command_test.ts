/** `camsink plugin …` as a user meets it: the real program in an empty folder. */
import assert from "node:assert/strict";
import { systemClock } from "../../core/clock.ts";
import { describePlugin, readPluginGraph } from "../../core/plugins/mod.ts";
import { inTempFolder, runCli } from "../support/run_cli.ts";

const GOOD = `import * as v from "valibot";
import { defineSink, httpUrl, secret } from "camsink";
export default defineSink({
  name: "toy",
  config: v.strictObject({ url: httpUrl(), token: secret() }),
  net: ({ url }) => [new URL(url).host, "api.example"],
  open: ({ config }) => ({
    put: () => Promise.resolve({ state: "stored" as const }),
    check: async () => {
      if (await config.token.reveal() !== "the-secret-value") throw new Error("another token");
    },
  }),
});
`;

const CONFIG = `{
  "cameras": { "yard": { "type": "snapshot", "url": "http://127.0.0.1:1/x.jpg" } },
  "sinks": { "mine": { "type": "toy", "url": "https://nas.local/x", "token": "env:TOY_TOKEN" } }
}`;

Deno.test("a plugin is shown, approved, checked, changed and refused, approved again, removed", () =>
  inTempFolder(async (folder) => {
    const env = { TOY_TOKEN: "the-secret-value" };
    const run = (...args: string[]) => runCli(args, { cwd: folder, env });
    await Deno.writeTextFile(`${folder}/toy.ts`, GOOD);
    await Deno.writeTextFile(`${folder}/camsink.jsonc`, CONFIG);
    const asked = await run("plugin", "add", "./toy.ts");
    assert.equal(asked.code, 2);
    assert.match(asked.stderr, /reach nas\.local\n.*reach .*api\.example/s);
    assert.match(asked.stderr, /nobody can be asked here.*--yes/);
    assert.equal((await run("config", "validate")).code, 78);
    const added = await run("plugin", "add", "./toy.ts", "--yes");
    assert.equal(added.code, 0, added.stderr);
    assert.equal((await run("config", "validate")).code, 0);
    assert.match((await run("config", "schema")).stdout, /"const": "toy"/);
    const checked = await run("check", "--json");
    assert.match(checked.stdout, /"what":"sink","name":"mine","ok":true/);
    assert.doesNotMatch(checked.stdout + checked.stderr, /the-secret-value/);

    await Deno.writeTextFile(`${folder}/toy.ts`, `${GOOD}// one more line\n`);
    const changed = await run("check");
    assert.match(changed.stdout, /is not what was approved.*camsink plugin add \.\/toy\.ts/);
    assert.equal((await run("plugin", "info", "toy")).code, 1);
    assert.match(
      (await run("plugin", "add", "./toy.ts", "--yes")).stderr,
      /\(changed; approved was/,
    );
    const removed = await run("plugin", "remove", "toy");
    assert.match(removed.stderr, /still names it.*mine/);
    assert.match((await run("plugin", "list")).stderr, /No plugin was added/);
  }));

Deno.test("what cannot be a plugin is told exactly", () =>
  inTempFolder(async (folder) => {
    const log = { debug() {}, info() {}, warn() {}, error() {} };
    const refused = async (text: string, pattern: RegExp) => {
      await Deno.writeTextFile(`${folder}/p.ts`, text);
      await assert.rejects(async () => {
        const graph = await readPluginGraph("./p.ts", { folder });
        await describePlugin({ graph, log, clock: systemClock });
      }, { name: "PluginError", message: pattern });
    };
    await refused("this is no program", /cannot load the plugin \.\/p\.ts/);
    await refused("export const sink = 1;", /exports no sink: expected "export default defineSink/);
    await refused(
      "export default { api: 2, name: 'x' };",
      /is written for version 2 of the sink api, and this Camsink speaks version 1: update Camsink/,
    );
    await Deno.writeTextFile(`${folder}/data.txt`, "x");
    await refused('import t from "./data.txt" with { type: "text" }; t;', /may import code only/);
    await refused('import "https://example.com/x.ts";', /code from the web is not loaded/);
    await refused('import "data:text/javascript,0";', /data: modules are not loaded/);
    await refused(
      'if (0) await import("file:///etc/passwd", { with: { type: "text" } });',
      /outside/,
    );
  }));
