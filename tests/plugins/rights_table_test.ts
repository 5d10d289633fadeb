/** What `docs/plugins.md` says that the shipped plugins ask for is what they do ask for. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import type { SinkPlugin } from "../../mod.ts";

const PLUGINS = new URL("../../plugins/", import.meta.url);
const PAGE = readFileSync(new URL("../../docs/plugins.md", import.meta.url), "utf8");

const KEY = `SHA256:${"a".repeat(43)}`;

/** Options that each of them needs, beside the one that names a host. */
const NEEDED: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  s3: { bucket: "bucket", accessKeyId: "id", secretAccessKey: "env:X" },
  webdav: { username: "me", password: "env:X" },
  webhook: {},
  sftp: { username: "me", password: "env:X", hostKey: KEY, path: "clips" },
  mqtt: {},
  telegram: { token: "env:X", chatId: "42" },
  command: { rclone: "remote:clips" },
};

/** An option's value that names a host. */
const NAMING: Readonly<Record<string, unknown>> = {
  endpoint: "https://there.example:4433",
  url: "https://there.example:4433",
  apiUrl: "https://there.example:4433",
  host: "there.example",
  port: 4433,
};

interface Asked {
  readonly hosts: readonly string[];
  readonly run: readonly string[];
  readonly others: readonly unknown[];
}

async function asks(plugin: SinkPlugin, options: Record<string, unknown>): Promise<Asked> {
  const { value, issues } = await plugin.config["~standard"].validate(options) as {
    readonly value?: unknown;
    readonly issues?: unknown;
  };
  assert.equal(issues, undefined, JSON.stringify(issues));
  const { run = [], read = [], write = [], scratch } = plugin.needs?.(value) ?? {};
  const others = [...read, ...write, ...(scratch === true ? ["scratch"] : [])];
  return { hosts: plugin.net(value), run, others };
}

const rows = [...PAGE.matchAll(/^\| ((?:`\w+`(?:, )?)+) +\| (.*?) +\| (.*?) +\| (.*?) +\|$/gm)]
  .flatMap(([, names = "", hosts = "", programs = "", files = ""]) =>
    quoted(names).map((name) => ({ name, hosts, programs, files }))
  );

function quoted(text: string): string[] {
  return [...text.matchAll(/`(.*?)`/g)].map(([, one = ""]) => one);
}

Deno.test("every shipped plugin has a row in the table of what plugins ask for", () => {
  assert.deepEqual(rows.map(({ name }) => name).sort(), readdirSync(PLUGINS).sort());
});

for (const { name, hosts, programs, files } of rows) {
  Deno.test(`${name} asks for what the table says: ${hosts}; ${programs}; ${files}`, async () => {
    const { default: plugin } = await import(new URL(`${name}/mod.ts`, PLUGINS).href);
    const options = quoted(hosts).filter((one) => Object.hasOwn(NAMING, one));
    const naming = Object.fromEntries(options.map((option) => [
      option,
      name === "mqtt" ? "mqtts://there.example:4433" : NAMING[option],
    ]));
    const asked = await asks(plugin, { ...NEEDED[name], ...naming });
    assert.deepEqual(asked.hosts, options.length > 0 ? ["there.example:4433"] : []);
    assert.equal(/^none/.test(hosts), options.length === 0);
    for (const host of quoted(hosts).filter((one) => one.includes("."))) {
      assert.deepEqual((await asks(plugin, { ...NEEDED[name] })).hosts, [host]);
    }
    assert.deepEqual(asked.run, quoted(programs));
    assert.equal(/^none/.test(programs), asked.run.length === 0);
    assert.equal(files, "none");
    assert.deepEqual(asked.others, []);
  });
}
