/**
 * One process per spool, shown with real processes.
 *
 * @module
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { systemClock } from "../../core/clock.ts";
import { openSpool, spoolErrorKind } from "../../core/spool/mod.ts";
import { recoverToyClip } from "../support/toy_clip.ts";

const CHILD = fileURLToPath(new URL("./lock_child.ts", import.meta.url));
const quiet = () => {};
const options = (path: string) => ({
  path,
  clock: systemClock,
  log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
  sinks: [],
  recover: recoverToyClip,
});

/** Starts a process on the spool; resolves with its first line. */
async function startChild(path: string) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "-A", CHILD, path],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value = "" } = await reader.read();
  const end = async (how: "stop" | "SIGKILL") => {
    if (how === "SIGKILL") child.kill("SIGKILL");
    await child.stdin.close().catch(() => {});
    await reader.cancel();
    await child.status;
  };
  return { pid: child.pid, line: value.trim(), end };
}

Deno.test("a second process is told which one has the spool, with exit code 75", async () => {
  const path = await Deno.makeTempDir({ prefix: "spool-test-" });
  try {
    const first = await startChild(path);
    assert.equal(first.line, "open 0");
    const second = await startChild(path);
    assert.equal(second.line, `refused 75 ${first.pid}`);
    await second.end("stop");
    await first.end("stop");
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});

Deno.test("the lock of a killed process is no obstacle", async () => {
  const path = await Deno.makeTempDir({ prefix: "spool-test-" });
  try {
    const first = await startChild(path);
    await assert.rejects(openSpool(options(path)), (error) => spoolErrorKind(error) === "locked");
    await first.end("SIGKILL");
    await using spool = await openSpool(options(path));
    assert.equal(spool.recovery.lost, 0);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});

Deno.test("one process cannot open a spool twice, and can after it has closed it", async () => {
  const path = await Deno.makeTempDir({ prefix: "spool-test-" });
  try {
    {
      await using _spool = await openSpool(options(path));
      await assert.rejects(
        openSpool(options(path)),
        new RegExp(`in use by the process ${Deno.pid}`),
      );
    }
    await using _again = await openSpool(options(path));
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});
