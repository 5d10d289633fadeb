/**
 * The spool when there is no room: limits, the reserve, and disks that fail in the middle of a clip.
 *
 * @module
 */
import assert from "node:assert/strict";
import { spoolErrorKind } from "../../core/spool/mod.ts";
import { diskFs, type SpoolFile, type SpoolFs } from "../../core/spool/fs.ts";
import { readToyClip, TOY_PATCH, TOY_TAIL, toyClip, toyFragment } from "../support/toy_clip.ts";
import { begin, bench, bytesOf, payload, record, START_MS, stored } from "./spool_bench.ts";

Deno.test("at the limit the oldest delivered clips go, and then recording stops", async () => {
  await using test = await bench();
  await using spool = await test.open({ limitBytes: 2000, keepMs: 1e9 });
  const first = await record(spool, { seconds: 7 });
  const second = await record(spool, { seconds: 7, startMs: START_MS + 60_000 });
  for (const sink of ["a", "b"]) await spool.receipt(sink, second.key, stored);
  await record(spool, { seconds: 7, startMs: START_MS + 120_000 });
  assert.equal(spool.get(first.key)?.state, "here");
  assert.equal(spool.get(second.key)?.state, "gone");
  const open = await begin(spool, { seconds: 4, startMs: START_MS + 180_000 });
  await assert.rejects(
    open.append(toyFragment(payload(4, 200))),
    (error) => spoolErrorKind(error) === "full" && /spool\.limit/.test(String(error)),
  );
  assert.equal((await spool.space()).isFull, true);
  const clip = await open.finish({
    end: new Date(START_MS + 184_000),
    tail: [TOY_TAIL],
    patch: TOY_PATCH,
    frames: 4,
  });
  assert.equal(readToyClip(await bytesOf(clip)).payloads.length, 4);
  // and when the sinks are back, it goes on
  for (const sink of ["a", "b"]) await spool.receipt(sink, first.key, stored);
  await record(spool, { seconds: 4, startMs: START_MS + 240_000 });
  assert.equal((await spool.space()).isFull, false);
});

Deno.test("with drop-oldest the oldest undelivered clips go, counted and told of once", async () => {
  await using test = await bench();
  await using spool = await test.open({ limitBytes: 2000, whenFull: "drop-oldest" });
  for (let minute = 0; minute < 6; minute++) {
    await record(spool, { seconds: 7, startMs: START_MS + minute * 60_000 });
  }
  assert.equal((await spool.space()).droppedClips, 4);
  assert.equal(spool.backlog("a").clips, 2);
  assert.equal(test.messages.filter((message) => /given up before/.test(message)).length, 1);
  await spool.sweep();
  assert.equal(test.messages.filter((message) => /room again; 4 clips/.test(message)).length, 1);
});

Deno.test("the reserve is left free and a small disk is not all reserve", async () => {
  await using test = await bench();
  let freeBytes = 10_000;
  const fs: SpoolFs = {
    ...diskFs,
    space: () => Promise.resolve({ freeBytes, totalBytes: 20_000 }),
  };
  await using spool = await test.open({ fs, reserveBytes: undefined });
  assert.equal((await spool.space()).reserveBytes, 4000);
  const open = await begin(spool);
  freeBytes = 4050;
  await test.clock.advance(10_000);
  await assert.rejects(open.append(toyFragment(payload(2))), /kept in reserve/);
  freeBytes = 10_000;
  await open.append(toyFragment(payload(2)));
  await open.discard();
});

/** A disk whose writes to clips can be made to fail. */
function faultyFs() {
  const fault: { code?: string; shortBytes?: number } = {};
  const fail = () => {
    if (fault.code) throw Object.assign(new Error(`${fault.code}: made up`), { code: fault.code });
  };
  const wrap = (file: SpoolFile): SpoolFile => ({
    ...file,
    write: async (bytes, atByte) => {
      const taken = bytes.subarray(0, fault.shortBytes ?? bytes.length);
      const written = taken.length > 0 ? await file.write(taken, atByte) : 0;
      if (fault.code && written < bytes.length) fault.shortBytes = 0;
      if (written === 0) fail();
      return written;
    },
    sync: () => {
      if (fault.code === "EIO") fail();
      return file.sync();
    },
  });
  const fs: SpoolFs = {
    ...diskFs,
    open: async (path, mode) => wrap(await diskFs.open(path, mode)),
  };
  return { fs, fault };
}

Deno.test("short writes are gone on with", async () => {
  await using test = await bench();
  const { fs, fault } = faultyFs();
  fault.shortBytes = 7;
  await using spool = await test.open({ fs });
  assert.deepEqual(await bytesOf(await record(spool)), toyClip([payload(0), payload(1)]));
});

Deno.test("a fragment that the full disk took half of is not in the clip", async () => {
  await using test = await bench();
  const { fs, fault } = faultyFs();
  await using spool = await test.open({ fs });
  const open = await begin(spool);
  Object.assign(fault, { code: "ENOSPC", shortBytes: 50 });
  await assert.rejects(
    open.append(toyFragment(payload(2))),
    (error) => spoolErrorKind(error) === "full" && /disk is full/.test(String(error)),
  );
  delete fault.code;
  delete fault.shortBytes;
  const clip = await open.finish({
    end: new Date(START_MS + 2000),
    tail: [TOY_TAIL],
    patch: TOY_PATCH,
    frames: 2,
  });
  assert.deepEqual(await bytesOf(clip), toyClip([payload(0), payload(1)]));
});

for (const [code, kind] of [["ENOSPC", "full"], ["EIO", "io"], ["EROFS", "io"]] as const) {
  Deno.test(`a clip whose end fails with ${code} is completed when the disk is well`, async () => {
    await using test = await bench();
    const { fs, fault } = faultyFs();
    await using spool = await test.open({ fs });
    const finished = await record(spool);
    const open = await begin(spool, { startMs: START_MS + 60_000 });
    Object.assign(fault, { code, shortBytes: 0 });
    const end = { end: new Date(START_MS + 62_000), tail: [TOY_TAIL], patch: TOY_PATCH, frames: 2 };
    await assert.rejects(open.finish(end), (error) => spoolErrorKind(error) === kind);
    await assert.rejects(begin(spool, { startMs: START_MS + 120_000 }));
    assert.equal(spool.next("a")?.key, finished.key);
    delete fault.code;
    delete fault.shortBytes;
    await spool.sweep();
    const clip = spool.get(open.key);
    assert.equal(clip?.recovered, true);
    assert.deepEqual(clip && await bytesOf(clip), toyClip([payload(0), payload(1)]));
    assert.equal((await spool.space()).usedBytes, finished.bytes + (clip?.bytes ?? 0));
  });
}
