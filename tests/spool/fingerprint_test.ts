/** What a clip's hashes are made of, however its file is read. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { setImmediate } from "node:timers";
import type { SpoolFile } from "../../core/spool/fs.ts";
import { fingerprint } from "../../core/spool/publish.ts";

const BYTES = Uint8Array.from({ length: 5_000_001 }, (_, i) => (i * 2_654_435_761) >>> 13);
const SHA256 = createHash("sha256").update(BYTES).digest("hex");
const MD5 = createHash("md5").update(BYTES).digest("hex");

/** A file in memory that tells how it was read. */
function fileOf({ syncMs = 0 }: { readonly syncMs?: number } = {}) {
  const reads = { sync: 0, async: 0 };
  const read = (into: Uint8Array, at: number) => {
    const part = BYTES.subarray(at, at + into.length);
    into.set(part);
    return part.length;
  };
  const file: SpoolFile = {
    write: () => Promise.reject(new Error("not to be written")),
    truncate: () => Promise.reject(new Error("not to be cut")),
    sync: () => Promise.resolve(),
    close() {},
    read(into, at) {
      reads.async++;
      return Promise.resolve(read(into, at));
    },
    readSync(into, at) {
      reads.sync++;
      const untilMs = performance.now() + syncMs;
      while (performance.now() < untilMs);
      return read(into, at);
    },
  };
  return { file, reads };
}

Deno.test("a clip's hashes are the same, whether it is read on the spot or not", async () => {
  for (const isJustWritten of [true, false]) {
    const { file, reads } = fileOf();
    const found = await fingerprint(file, { md5: true, isJustWritten });
    assert.deepEqual(found, { bytes: BYTES.length, sha256: SHA256, md5: MD5 });
    if (!isJustWritten) assert.equal(reads.sync, 0, "an old clip may be on a slow disk");
    else assert.ok(reads.sync > 0);
  }
});

Deno.test("a disk that takes its time holds everybody up once", async () => {
  const { file, reads } = fileOf({ syncMs: 30 });
  const { sha256 } = await fingerprint(file, { md5: false, isJustWritten: true });
  assert.equal(sha256, SHA256);
  assert.equal(reads.sync, 1);
  assert.ok(reads.async > 1);
});

Deno.test("others have their turn while a clip is hashed", async () => {
  const { file } = fileOf();
  let turns = 0;
  let isHashed = false;
  const tick = () => {
    turns++;
    if (!isHashed) setImmediate(tick);
  };
  setImmediate(tick);
  await fingerprint(file, { md5: false, isJustWritten: true });
  isHashed = true;
  assert.ok(turns > 1);
});
