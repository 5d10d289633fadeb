/**
 * The tutorial for authors, followed to the letter: its code is taken out, checked and run, outside
 * the repository, and fails and passes the kit where the page says so.
 *
 * @module
 */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

async function deno(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    env: { NO_COLOR: "1" },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
}

Deno.test("the tutorial's sink fails one case, and passes with its two lines more", async () => {
  const page = await readFile(join(ROOT, "docs/writing-a-sink.md"), "utf8");
  const [sink = "", test = "", mend = ""] = [...page.matchAll(/```ts\n([\s\S]*?)```/g)]
    .map(([, code]) => code);
  const folder = await mkdtemp(join(tmpdir(), "camsink-tutorial-"));
  try {
    await writeFile(join(folder, "mod.ts"), sink);
    await writeFile(join(folder, "camsink.test.ts"), test);
    const config = `--config=${ROOT}deno.json`;
    const checked = await deno(
      "check",
      config,
      join(folder, "mod.ts"),
      join(folder, "camsink.test.ts"),
    );
    assert.equal(checked.code, 0, checked.err);
    const kit = () =>
      deno("run", "--allow-all", config, `${ROOT}cli.ts`, "plugin", "test", folder, "--json");
    const before = JSON.parse((await kit()).out);
    const failed = before.cases.filter(({ outcome }: { outcome: string }) => outcome === "failed");
    assert.deepEqual(
      failed.map(({ id }: { id: string }) => id),
      ["conflict"],
      JSON.stringify(failed),
    );
    await writeFile(
      join(folder, "mod.ts"),
      sink.replace("sendClip }", "sendClip, SinkError }").replace(
        "      if (!answer.ok)",
        `${mend}$&`,
      ),
    );
    const after = await kit();
    assert.equal(after.code, 0, after.out + after.err);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
