/**
 * The spool on a real disk: recording, delivery, what stays and what goes, the clock.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { SpooledClip } from "../../core/spool/mod.ts";
import { diskFs } from "../../core/spool/fs.ts";
import { TOY_PATCH, TOY_TAIL, toyClip } from "../support/toy_clip.ts";
import { begin, bench, bytesOf, payload, record, START_MS, stored } from "./spool_bench.ts";

Deno.test("a finished clip has the bytes, hashes and times that it was given", async () => {
  await using test = await bench();
  await using spool = await test.open();
  const clip = await record(spool);
  const expected = toyClip([payload(0), payload(1)]);
  assert.equal(clip.key, "yard/2026/08/21/20260821T140500Z.mp4");
  assert.equal(clip.camera, "Yard");
  assert.deepEqual(await bytesOf(clip), expected);
  assert.deepEqual(await bytesOf(clip, 10), expected.slice(10));
  assert.deepEqual(new Uint8Array(await Deno.readFile(clip.path)), expected);
  assert.equal(clip.bytes, expected.length);
  assert.equal(clip.sha256, createHash("sha256").update(expected).digest("hex"));
  assert.equal(clip.md5, createHash("md5").update(expected).digest("hex"));
  assert.equal(clip.end.getTime() - clip.start.getTime(), 2000);
  assert.equal(await spool.verify(clip.key), "ok");
  assert.deepEqual([...Deno.readDirSync(`${test.path}/spool/open`)], []);
});

Deno.test("a sink may take a clip's file only where nobody else needs it and it would be removed", async () => {
  await using test = await bench();
  {
    await using spool = await test.open();
    const { key } = await record(spool);
    assert.equal(spool.next("a")?.mayBeTaken, false, "b lacks it");
    await spool.receipt("b", key, stored);
    assert.equal(spool.next("a")?.mayBeTaken, true);
    await spool.pin(key);
    assert.equal(spool.next("a")?.mayBeTaken, false, "it is kept");
    await spool.unpin(key);
    await spool.redeliver("b", key);
    await spool.quarantine("b", key, "too large");
    assert.equal(spool.next("a")?.mayBeTaken, false, "b may be offered it again");
    await spool.receipt("b", key, stored);
    assert.equal(spool.next("a")?.mayBeTaken, true);
    await test.clock.advance(600_000);
    assert.equal(spool.next("a")?.mayBeTaken, false, "it was hashed long ago");
  }
  {
    await using spool = await test.open({ keepMs: 60_000, sinks: ["a"] });
    await record(spool, { startMs: test.clock.now() });
    assert.equal(spool.next("a")?.mayBeTaken, false, "it stays for a while");
  }
  await using spool = await test.open({ sinks: ["a", "c"], optionalSinks: ["a", "c"] });
  await spool.receipt("c", spool.next("a")?.key ?? "", stored);
  assert.equal(spool.next("a")?.mayBeTaken, false, "no sink's having it makes it go");
});

Deno.test("where no sink wants an MD5 none is computed, and the catalogue is rebuilt without", async () => {
  await using test = await bench();
  {
    await using spool = await test.open({ md5: false });
    const clip = await record(spool);
    assert.equal(clip.md5, undefined);
    assert.equal(await spool.verify(clip.key), "ok");
  }
  await Deno.remove(`${test.path}/spool/catalogue.db`);
  await using spool = await test.open({ md5: false });
  const [clip] = spool.list();
  assert.ok(clip);
  assert.equal(clip.md5, undefined);
  assert.equal(clip.recovered, false);
  assert.equal(await spool.verify(clip.key), "ok");
});

Deno.test("what a sink stored since a moment is known after a restart, also of clips that went", async () => {
  await using b = await bench();
  let bytes = 0;
  {
    await using spool = await b.open({ sinks: ["a"] });
    await spool.receipt("a", (await record(spool)).key, { state: "stored" });
    b.clock.jump(86_400_000);
    for (const seconds of [3, 4]) {
      const clip = await record(spool, { startMs: b.clock.now() + seconds, seconds });
      bytes += clip.bytes;
      await spool.receipt("a", clip.key, { state: "stored" });
    }
    await spool.sweep();
    assert.deepEqual(spool.list(), [], "all went from the spool");
  }
  await using spool = await b.open({ sinks: ["a"] });
  assert.equal(spool.storedBytesSince("a", new Date(b.clock.now())), bytes);
  assert.equal(spool.storedBytesSince("a", new Date(b.clock.now() + 1)), 0);
});

Deno.test("each sink gets every clip, oldest first, until it has given a receipt", async () => {
  await using test = await bench();
  await using spool = await test.open({ keepMs: 1e6 });
  const first = await record(spool);
  const second = await record(spool, { startMs: START_MS + 60_000 });
  assert.equal(spool.next("a")?.key, first.key);
  assert.equal(spool.next("a", { excluding: new Set([first.key]) })?.key, second.key);
  await spool.receipt("a", first.key, { ...stored, etag: "1" });
  assert.equal(spool.next("a")?.key, second.key);
  assert.equal(spool.next("b")?.key, first.key);
  assert.deepEqual(spool.backlog("a"), { clips: 1, bytes: second.bytes, quarantined: 0 });
  assert.deepEqual(spool.deliveries(first.key)[0]?.receipt, { ...stored, etag: "1" });
  await assert.rejects(spool.receipt("c", first.key, stored), /knows no sink "c"/);
});

Deno.test("a clip leaves the spool when every sink has it, and not before", async () => {
  await using test = await bench();
  await using spool = await test.open();
  const clip = await record(spool);
  await spool.receipt("a", clip.key, stored);
  await spool.sweep();
  assert.ok(await diskFs.sizeOf(clip.path));
  await spool.receipt("b", clip.key, stored);
  await spool.sweep();
  assert.equal(await diskFs.sizeOf(clip.path), undefined);
  assert.equal(spool.get(clip.key)?.state, "gone");
  assert.deepEqual([...Deno.readDirSync(`${test.path}/spool/clips`)], []);
  assert.equal((await spool.space()).usedBytes, 0);
});

Deno.test("clips whose last receipts came just before the end leave the spool all the same", async () => {
  await using test = await bench();
  const clips: SpooledClip[] = [];
  {
    await using spool = await test.open();
    for (let nth = 0; nth < 5; nth++) {
      clips.push(await record(spool, { startMs: test.clock.now() + nth * 60_000 }));
    }
    for (const { key } of clips) await spool.receipt("a", key, stored);
    // All at once: one is being removed while the others are still to be.
    await Promise.all(clips.map(({ key }) => spool.receipt("b", key, stored)));
  }
  for (const { path, key } of clips) assert.equal(await diskFs.sizeOf(path), undefined, key);
});

Deno.test("a delivered clip stays for as long as the owner keeps clips", async () => {
  await using test = await bench();
  await using spool = await test.open({ keepMs: 3_600_000 });
  const clip = await record(spool);
  for (const sink of ["a", "b"]) await spool.receipt(sink, clip.key, stored);
  await test.clock.advance(3_500_000);
  await spool.sweep();
  assert.equal(spool.get(clip.key)?.state, "here");
  await test.clock.advance(200_000);
  await spool.sweep();
  assert.equal(spool.get(clip.key)?.state, "gone");
});

Deno.test("without a sink nothing is removed", async () => {
  await using test = await bench();
  await using spool = await test.open({ sinks: [] });
  const clip = await record(spool);
  await spool.sweep();
  assert.equal(spool.get(clip.key)?.state, "here");
});

Deno.test("a clip that is put aside is not offered again, and stays", async () => {
  await using test = await bench();
  await using spool = await test.open();
  const clip = await record(spool);
  await spool.receipt("a", clip.key, stored);
  await spool.quarantine("b", clip.key, "400: no");
  await spool.sweep();
  assert.equal(spool.next("b"), undefined);
  assert.equal(spool.backlog("b").quarantined, 1);
  assert.equal(spool.list({ delivery: { sink: "b", state: "quarantined" } })[0]?.key, clip.key);
  await spool.redeliver("b", clip.key);
  assert.equal(spool.next("b")?.key, clip.key);
});

Deno.test("a pinned clip stays, also when the catalogue is lost", async () => {
  await using test = await bench();
  let key = "";
  {
    await using spool = await test.open({ keepMs: 1 });
    key = (await record(spool)).key;
    await spool.pin(key);
  }
  for (const suffix of ["", "-wal", "-shm"]) {
    await diskFs.remove(`${test.path}/spool/catalogue.db${suffix}`);
  }
  await using spool = await test.open();
  assert.equal(spool.get(key)?.pinned, true);
  for (const sink of ["a", "b"]) await spool.receipt(sink, key, stored);
  await spool.sweep();
  assert.equal(spool.get(key)?.state, "here");
  await spool.unpin(key);
  await spool.sweep();
  assert.equal(spool.get(key)?.state, "gone");
});

Deno.test("a new sink gets what is here; one that went away holds nothing back", async () => {
  await using test = await bench();
  let key = "";
  {
    await using spool = await test.open();
    key = (await record(spool)).key;
    await spool.receipt("a", key, stored);
  }
  {
    await using spool = await test.open({ sinks: ["a", "c"], keepMs: 1e9 });
    assert.equal(spool.next("c")?.key, key);
    assert.equal(spool.next("a"), undefined);
    assert.equal(spool.next("b"), undefined);
    spool.addSink("b");
    assert.equal(spool.next("b")?.key, key);
    spool.removeSink("b");
  }
  await using spool = await test.open({ sinks: ["a"] });
  await spool.sweep();
  assert.equal(spool.get(key)?.state, "gone");
});

Deno.test("an optional sink gets clips but holds none back", async () => {
  await using test = await bench();
  await using spool = await test.open({ optionalSinks: ["b"] });
  const clip = await record(spool);
  assert.equal(spool.next("b")?.key, clip.key);
  await spool.receipt("a", clip.key, stored);
  await spool.sweep();
  assert.equal(spool.get(clip.key)?.state, "gone");
});

Deno.test("news of a finished clip wakes who waits for it", async () => {
  await using test = await bench();
  await using spool = await test.open();
  const { signal } = new AbortController();
  const since = spool.version;
  const news = spool.changed({ signal });
  const clip = await record(spool);
  await news;
  assert.equal(spool.next("a")?.key, clip.key);
  await spool.changed({ signal, since }); // at once: it has changed since
  await spool.changed({ signal: AbortSignal.abort() });
});

Deno.test("what sinks stored long ago can be found and noted as removed", async () => {
  await using test = await bench();
  await using spool = await test.open();
  const clip = await record(spool);
  for (const sink of ["a", "b"]) await spool.receipt(sink, clip.key, stored);
  await spool.sweep();
  await test.clock.advance(1000);
  assert.equal(spool.removableFrom("a", new Date(test.clock.now() + 600_000))[0]?.key, clip.key);
  await spool.removed("a", clip.key);
  assert.deepEqual(spool.removableFrom("a", new Date(test.clock.now() + 600_000)), []);
});

Deno.test("a clock that goes back overwrites nothing and ends no clip before its start", async () => {
  await using test = await bench();
  await using spool = await test.open();
  const first = await record(spool);
  for (const sink of ["a", "b"]) await spool.receipt(sink, first.key, stored);
  await spool.sweep(); // even a key whose clip has gone is not used again
  const second = await record(spool);
  assert.equal(second.key, "yard/2026/08/21/20260821T140500Z-2.mp4");

  const open = await begin(spool, { startMs: START_MS + 60_000 });
  const rival = await begin(spool, { startMs: START_MS + 60_000 });
  assert.notEqual(open.key, rival.key);
  await test.clock.advance(5000);
  test.clock.jump(-3_600_000);
  const clip = await open.finish({
    end: new Date(test.clock.now()),
    tail: [TOY_TAIL],
    patch: TOY_PATCH,
    frames: 2,
  });
  assert.equal(clip.end.getTime() - clip.start.getTime(), 5000);
  await rival.discard();
});

Deno.test("a machine that starts in 1970 again and again makes a new key each time", async () => {
  await using test = await bench();
  const keys = new Set<string>();
  for (let boot = 0; boot < 3; boot++) {
    await using spool = await test.open({ historyMs: 1 });
    const clip = await record(spool, { startMs: 5000 });
    for (const sink of ["a", "b"]) await spool.receipt(sink, clip.key, stored);
    await test.clock.advance(60_000);
    await spool.sweep();
    keys.add(clip.key);
  }
  assert.equal(keys.size, 3);
});

Deno.test("a clock that shows another year for a while forgets no history", async () => {
  await using test = await bench();
  await using spool = await test.open();
  const { key } = await record(spool);
  for (const sink of ["a", "b"]) await spool.receipt(sink, key, stored);
  await spool.sweep();
  test.clock.jump(500 * 86_400_000);
  await spool.sweep();
  test.clock.jump(-500 * 86_400_000);
  assert.deepEqual(spool.deliveries(key).map(({ state }) => state), ["stored", "stored"]);
});
