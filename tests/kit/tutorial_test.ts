/**
 * The tutorial for authors, followed to the letter: its code is taken out, checked and run, outside
 * the repository, and fails and passes the kit where the page says so.
 *
 * @module
 */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { inProcess, KIT_CASES, runKit } from "../../kit/mod.ts";
import webdavTest from "../../plugins/webdav/camsink.test.ts";
import { PATIENT } from "./support.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

const PAGE = join(ROOT, "docs/writing-a-sink.md");

/** The page's pieces of code, in order. */
const codeOf = (page: string) =>
  [...page.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code = ""]) => code);

async function deno(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    env: { NO_COLOR: "1" },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
}

Deno.test("the tutorial's sink fails one case, and passes with its two lines more", async () => {
  const page = await readFile(PAGE, "utf8");
  const [, sink = "", test = "", mend = ""] = codeOf(page);
  const mended = sink.replace("sendClip }", "sendClip, SinkError }").replace(
    "      if (!answer.ok)",
    `${mend}$&`,
  );
  const folder = await mkdtemp(join(tmpdir(), "camsink-tutorial-"));
  try {
    const config = `--config=${ROOT}deno.json`;
    const write = async (name: string, code: string) => {
      await mkdir(join(folder, name));
      await writeFile(join(folder, name, "mod.ts"), code);
      await writeFile(join(folder, name, "camsink.test.ts"), test);
    };
    await write("first", sink);
    await write("mended", mended);
    const kit = (name: string, ...only: string[]) =>
      deno(
        ...["run", "--allow-all", config, `${ROOT}cli.ts`, "plugin", "test", join(folder, name)],
        ...["--json", "--patience", "2m", ...only.flatMap((id) => ["--only", id])],
      );
    // The two lines have nothing to do with the clip's size.
    const smaller = KIT_CASES.map(({ id }) => id).filter((id) => id !== "large-clip");
    const [checked, first, after] = await Promise.all([
      deno("check", config, join(folder, "first/mod.ts"), join(folder, "mended/camsink.test.ts")),
      kit("first", ...smaller),
      kit("mended"),
    ]);
    assert.equal(checked.code, 0, checked.err);
    const before = JSON.parse(first.out);
    const failed = before.cases.filter(({ outcome }: { outcome: string }) => outcome === "failed");
    assert.deepEqual(
      failed.map(({ id }: { id: string }) => id),
      ["conflict"],
      JSON.stringify(failed),
    );
    assert.equal(after.code, 0, after.out + after.err);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

const noServer = await webdavTest.unavailable?.();

Deno.test({
  name: "the shortest sink has fifteen lines, and a real WebDAV server finds what the page says",
  ignore: noServer !== undefined,
  fn: async () => {
    const page = await readFile(PAGE, "utf8");
    const [shortest = ""] = codeOf(page);
    assert.ok(shortest.trimEnd().split("\n").length <= 15);
    const folder = await mkdtemp(join(tmpdir(), "camsink-tutorial-"));
    try {
      const file = join(folder, "mod.ts");
      await writeFile(file, shortest);
      const checked = await deno("check", `--config=${ROOT}deno.json`, file);
      assert.equal(checked.code, 0, checked.err);
      const { default: plugin } = await import(pathToFileURL(file).href);
      const { cases } = await runKit({
        host: inProcess(plugin),
        test: webdavTest,
        soonMs: PATIENT.soonMs,
        only: KIT_CASES.map(({ id }) => id).filter((id) => id !== "large-clip"),
      });
      const failed = cases.filter(({ outcome }) => outcome === "failed").map(({ id }) => id);
      const [, told = ""] = /finds four cases that it fails: ([\s\S]*?)\. `plugins/.exec(page) ??
        [];
      assert.deepEqual(failed, [...told.matchAll(/`(.*?)`/g)].map(([, id]) => id));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
});
