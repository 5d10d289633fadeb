/**
 * One process per spool: two would both record into it and both delete from it.
 *
 * The lock is the kernel's own on an open file, so it ends with its process, whether that stopped or
 * was killed: there are no stale locks, and no guessing from process ids. `owner.json` only tells a
 * second process whom it met.
 *
 * @module
 */
import * as v from "valibot";
import { asSpoolError, spoolError } from "./errors.ts";
import { readText, type SpoolFs, writeText } from "./fs.ts";
import type { Layout } from "./layout.ts";

const ownerSchema = v.object({ pid: v.number() });

/**
 * Takes the spool for this process until it is disposed of.
 *
 * @throws a spool error of kind `locked`, with the other's `pid`, if another process has it
 */
export async function lockSpool(fs: SpoolFs, layout: Layout): Promise<Disposable> {
  try {
    const lock = await fs.lock(layout.lock);
    if (!lock) throw await lockedError(fs, layout);
    await writeText(fs, layout.owner, { text: `{ "pid": ${Deno.pid} }\n`, sync: false });
    return lock;
  } catch (error) {
    throw asSpoolError(error, `take the spool ${layout.root}`);
  }
}

async function lockedError(fs: SpoolFs, layout: Layout): Promise<Error> {
  let pid: number | undefined;
  try {
    pid = v.parse(ownerSchema, JSON.parse(await readText(fs, layout.owner) ?? "")).pid;
  } catch {
    // the other one is just about to write it
  }
  const who = pid === undefined ? "another process" : `the process ${pid}`;
  return spoolError(
    "locked",
    `the spool ${layout.root} is in use by ${who}; stop that one, or give this one a spool.path of its own`,
    { pid },
  );
}
