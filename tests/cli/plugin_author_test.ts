/**
 * What an author of a plugin does, from an empty folder outside the repository: `camsink plugin new`,
 * `camsink plugin test`, and the mistakes in between. Runs the real program.
 *
 * @module
 */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

async function camsink(cwd: string, ...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--allow-all",
      `--config=${ROOT}deno.json`,
      "--no-prompt",
      `${ROOT}cli.ts`,
      ...args,
    ],
    cwd,
    env: { NO_COLOR: "1" },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
}

/** On a machine that may be busy. */
const kit = (folder: string, ...options: string[]) =>
  camsink(folder, "plugin", "test", "my-store", "--patience", "2m", ...options);

async function withFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "camsink-author-"));
  try {
    await run(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

for (const template of ["http", "s3", "command"]) {
  Deno.test(`a new plugin of the template ${template} passes the kit as it is`, () =>
    withFolder(async (folder) => {
      const made = await camsink(folder, "plugin", "new", "my-store", "--template", template);
      assert.equal(made.code, 0, made.err);
      const { code, out, err } = await kit(folder, "--json");
      const report = JSON.parse(out || "{}");
      const failed = report.cases?.filter(({ outcome }: { outcome: string }) =>
        outcome === "failed"
      );
      assert.deepEqual(failed, [], err);
      assert.equal(code, 0, err);
      assert.ok(report.cases.length >= 24);
    }));
}

Deno.test("a plugin that is broken is told what failed, why it matters and how to mend it", () =>
  withFolder(async (folder) => {
    await camsink(folder, "plugin", "new", "my-store");
    const file = join(folder, "my-store", "mod.ts");
    const text = await readFile(file, "utf8");
    await writeFile(file, text.replace("found?.sha256 === clip.sha256", "found"));
    const { code, out } = await kit(folder, "--only", "conflict");
    assert.equal(code, 1);
    assert.match(out, /✗ another clip under a key that is taken is a conflict/);
    assert.match(out, /what failed: .*\n +why it matters: .*\n +how to mend it: /);
    assert.match(out, /0 passed, 1 failed/);
  }));

Deno.test("mistakes about a plugin's place are told, with what to do", () =>
  withFolder(async (folder) => {
    const missing = await camsink(folder, "plugin", "test", "nowhere");
    assert.match(missing.err, /no plugin nowhere/);
    await writeFile(join(folder, "empty.ts"), "export const x = 1;\n");
    const empty = await camsink(folder, "plugin", "test", "empty.ts");
    assert.match(empty.err, /exports no sink: expected "export default defineSink/);
    const odd = await camsink(folder, "plugin", "new", "My Store");
    assert.match(odd.err, /"My Store" cannot be a plugin's name/);
    await camsink(folder, "plugin", "new", "my-store");
    const again = await camsink(folder, "plugin", "new", "my-store");
    assert.match(again.err, /is there already/);
    const only = await camsink(folder, "plugin", "test", "my-store", "--only", "nothing");
    assert.match(only.err, /there is no case "nothing"/);
    for (const { code } of [missing, empty, odd, again, only]) assert.notEqual(code, 0);
  }));
