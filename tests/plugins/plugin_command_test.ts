/** `camsink plugin …` as a user meets it: the real program in an empty folder. */
import assert from "node:assert/strict";
import { systemClock } from "../../core/clock.ts";
import { describePlugin, readPluginGraph } from "../../core/plugins/mod.ts";
import { PATIENCE_MS } from "../support/until.ts";
import { CLI_COMMAND, inTempFolder, runCli } from "../support/run_cli.ts";

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
  "sinks": { "mine": { "type": "toy", "url": "https://nas.local/x", "token": "env:TOY_TOKEN",
    "required": false, "limit": { "perDay": "1GB" }, "bandwidth": "2MB/s", "concurrency": 2,
    "retain": { "age": "30d" }, "enabled": true } }
}`;

/** The program on a terminal of its own, and what is typed when it asks. */
async function onTerminal(
  args: readonly string[],
  { folder, asks, types }: {
    readonly folder: string;
    readonly asks: RegExp;
    readonly types: string;
  },
): Promise<{ readonly code: number; readonly screen: string }> {
  const quoted = [Deno.execPath(), ...CLI_COMMAND, ...args].map((word) => `'${word}'`).join(" ");
  const child = new Deno.Command("script", {
    // A terminal that nobody looks at has no width of its own.
    args: ["--quiet", "--return", "--command", `stty cols 100 rows 40; ${quoted}`, "/dev/null"],
    signal: AbortSignal.timeout(PATIENCE_MS),
    cwd: folder,
    env: { XDG_CONFIG_HOME: folder, CAMSINK_CONFIG: "", NO_COLOR: "1" },
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const input = child.stdin.getWriter();
  let screen = "";
  let hasTyped = false;
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    screen += text;
    if (hasTyped || !asks.test(screen)) continue;
    hasTyped = true;
    await input.write(new TextEncoder().encode(types));
  }
  const { code } = await child.status;
  await input.close().catch(() => {});
  return { code, screen };
}

Deno.test({
  name: "on a terminal, plugin add shows what it wants and asks; only a yes approves it",
  ignore: Deno.build.os !== "linux",
  fn: () =>
    inTempFolder(async (folder) => {
      await Deno.writeTextFile(`${folder}/toy.ts`, GOOD);
      await Deno.writeTextFile(`${folder}/camsink.jsonc`, CONFIG);
      const add = (types: string) =>
        onTerminal(["plugin", "add", "./toy.ts"], { folder, asks: /Approve this\?/, types });
      const isApproved = async () =>
        /"toy"/.test(
          await Deno.readTextFile(`${folder}/camsink.plugins.json`).catch(() => ""),
        );
      const refused = await add("\r"); // No is what stands there
      assert.match(refused.screen, /toy +\.\/toy\.ts\s+hash [0-9a-f]{64} \(new\)/);
      assert.match(refused.screen, /reach nas\.local\s.*reach .*api\.example/s);
      assert.match(refused.screen, /Nothing was changed/);
      assert.equal(refused.code, 1);
      assert.equal(await isApproved(), false);
      const approved = await add("y");
      assert.match(approved.screen, /Approved in .*camsink\.plugins\.json/);
      assert.equal(approved.code, 0, approved.screen);
      assert.equal(await isApproved(), true);
    }),
});

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
    assert.doesNotMatch(asked.stderr, /note:/, "a sink's common keys are none of the plugin's");
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
