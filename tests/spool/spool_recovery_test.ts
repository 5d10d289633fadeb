/**
 * What the spool makes of what a crash, or somebody, left of it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { type SpooledClip, spoolErrorKind } from "../../core/spool/mod.ts";
import { diskFs, type SpoolFs } from "../../core/spool/fs.ts";
import { recoverToyClip, TOY_HEADER, toyClip, toyFragment } from "../support/toy_clip.ts";
import { begin, bench, bytesOf, payload, record, START_MS, stored } from "./spool_bench.ts";

Deno.test("a clip cut short by a crash is cut at its last whole fragment and delivered", async () => {
  await using test = await bench();
  let key = "";
  {
    await using spool = await test.open();
    const open = await begin(spool, { seconds: 3 });
    key = open.key;
  }
  const part = `${test.path}/spool/open/yard~20260821T140500Z.mp4.part`;
  const bytes = await Deno.readFile(part);
  const recorded = TOY_HEADER.length + 3 * toyFragment(payload(0)).flatMap((c) => [...c]).length;
  await Deno.writeFile(part, bytes.subarray(0, recorded - 5));
  await using spool = await test.open();
  assert.deepEqual(spool.recovery, { recovered: 1, relisted: 0, lost: 0 });
  const clip = spool.next("a");
  assert.equal(clip?.key, key);
  assert.equal(clip?.recovered, true);
  assert.equal(clip?.camera, "Yard");
  assert.equal(clip && clip.end.getTime() - clip.start.getTime(), 2000);
  assert.deepEqual(clip && await bytesOf(clip), toyClip([payload(0), payload(1)]));
});

Deno.test("a clip without a picture leaves nothing behind", async () => {
  await using test = await bench();
  {
    await using spool = await test.open();
    await begin(spool, { seconds: 0 });
    await (await begin(spool, { seconds: 3 })).discard();
  }
  await using spool = await test.open();
  assert.deepEqual(spool.recovery, { recovered: 0, relisted: 0, lost: 0 });
  assert.deepEqual([...Deno.readDirSync(`${test.path}/spool/open`)], []);
});

for (const damage of ["lost", "overwritten", "of another version"]) {
  Deno.test(`a catalogue that is ${damage} is rebuilt exactly from the files`, async () => {
    await using test = await bench();
    const facts = (
      { key, camera, start, end, bytes, sha256, md5, contentType, frames }: SpooledClip,
    ) => ({ key, camera, start, end, bytes, sha256, md5, contentType, frames }); // deno-fmt-ignore
    let before: unknown[] = [];
    {
      await using spool = await test.open();
      for (let minute = 0; minute < 5; minute++) {
        await record(spool, {
          startMs: START_MS + 123 + minute * 60_000,
          camera: minute % 2 ? "Yard" : "Hall",
        });
      }
      before = spool.list().map(facts);
    }
    const path = `${test.path}/spool/catalogue.db`;
    if (damage === "lost") await Deno.remove(path);
    if (damage === "overwritten") await Deno.writeFile(path, new Uint8Array(20_000).fill(65));
    if (damage === "of another version") {
      const { DatabaseSync } = await import("node:sqlite");
      const db = new DatabaseSync(path);
      db.exec("PRAGMA user_version = -1");
      db.close();
    }
    await using spool = await test.open();
    assert.equal(spool.recovery.relisted, 5);
    assert.deepEqual(spool.list().map(facts), before);
    assert.equal(spool.backlog("a").clips, 5);
    const aside = damage === "lost" ? 0 : 1;
    assert.equal(test.messages.filter((message) => /made anew/.test(message)).length, aside);
  });
}

Deno.test("a clip whose file somebody took away is told of once and no longer waited for", async () => {
  await using test = await bench();
  {
    await using spool = await test.open();
    await Deno.remove((await record(spool)).path);
  }
  {
    await using spool = await test.open();
    assert.equal(spool.recovery.lost, 1);
    assert.equal(spool.next("a"), undefined);
  }
  await using spool = await test.open();
  assert.equal(spool.recovery.lost, 0);
});

Deno.test("a clip without its sidecar is described from its content", async () => {
  await using test = await bench();
  {
    await using spool = await test.open();
    const { path } = await record(spool);
    await Deno.remove(`${path}.json`);
  }
  await Deno.remove(`${test.path}/spool/catalogue.db`);
  await using spool = await test.open();
  const clip = spool.next("a");
  assert.equal(clip?.camera, "yard");
  assert.equal(clip && clip.end.getTime() - clip.start.getTime(), 2000);
  assert.equal(
    clip?.sha256,
    createHash("sha256").update(toyClip([payload(0), payload(1)])).digest("hex"),
  );
});

Deno.test("a spool of a newer release is refused", async () => {
  await using test = await bench();
  await (await test.open())[Symbol.asyncDispose]();
  await Deno.writeTextFile(`${test.path}/spool/format.json`, '{ "spool": 2 }');
  await assert.rejects(
    test.open(),
    (error) => spoolErrorKind(error) === "format" && /format 2.*only up to 1/.test(String(error)),
  );
  await Deno.writeTextFile(`${test.path}/spool/format.json`, '{ "spool": 1 }');
  await (await test.open())[Symbol.asyncDispose](); // the refused try has left no lock
});

Deno.test("a camera's name cannot lead out of the spool", async () => {
  await using test = await bench();
  await using spool = await test.open();
  const start = new Date(START_MS);
  for (const slug of ["../x", "a/b", "..", "", "A", "a\0"]) {
    await assert.rejects(
      spool.begin({ camera: "x", slug, start, contentType: "video/mp4" }),
      /cannot be a folder/,
    );
  }
});

Deno.test("with mendLater clips are recorded while those that a crash cut short are still waiting", async () => {
  await using test = await bench();
  {
    await using spool = await test.open();
    await begin(spool, { seconds: 3 });
    await begin(spool, { seconds: 2, camera: "Hall" });
  }
  const goOn = Promise.withResolvers<void>();
  await using spool = await test.open({
    mendLater: true,
    md5: false,
    recover: async (file) => {
      await goOn.promise;
      return await recoverToyClip(file);
    },
  });
  assert.equal(spool.recovery.recovered, 0);
  // In the very second of the one that waits, whose key it must not get.
  const clip = await record(spool, { seconds: 1 });
  assert.equal(clip.key, "yard/2026/08/21/20260821T140500Z-2.mp4");
  assert.equal(spool.next("a")?.key, clip.key);
  await spool.receipt("a", clip.key, stored);
  goOn.resolve();
  assert.equal(await spool.mended, true);
  assert.equal(spool.recovery.recovered, 2);
  assert.deepEqual(
    spool.list().map(({ key, frames, recovered, md5 }) => [key, frames, recovered, md5]).sort(),
    [
      ["hall/2026/08/21/20260821T140500Z.mp4", 2, true, undefined],
      ["yard/2026/08/21/20260821T140500Z-2.mp4", 1, false, undefined],
      ["yard/2026/08/21/20260821T140500Z.mp4", 3, true, undefined],
    ],
  );
  assert.deepEqual([...Deno.readDirSync(`${test.path}/spool/open`)], []);
});

Deno.test("a clip that cannot be mended for now is told, and tried again with the next round", async () => {
  await using test = await bench();
  {
    await using spool = await test.open();
    await begin(spool, { seconds: 3 });
  }
  let isBroken = true;
  const fs: SpoolFs = {
    ...diskFs,
    open: (path, mode) =>
      isBroken && path.endsWith(".part") && mode === "update"
        ? Promise.reject(new Error("EIO"))
        : diskFs.open(path, mode),
  };
  await assert.rejects(test.open({ fs }), /EIO/); // and the lock is free again
  await using spool = await test.open({ fs, mendLater: true });
  assert.equal(await spool.mended, false);
  assert.ok(test.messages.some((message) => /tried again: .*EIO/.test(message)));
  isBroken = false;
  await spool.sweep();
  assert.equal(spool.recovery.recovered, 1);
  assert.equal(spool.list().length, 1);
});

Deno.test("the journals that were left are found when a spool is opened, and its own are not", async () => {
  await using test = await bench();
  const picture = { data: payload(1), capturedAtMs: START_MS, ptsUs: 0 };
  {
    await using spool = await test.open();
    const journal = spool.journal({ camera: "Yard", slug: "yard" });
    await journal.append([picture]);
    await journal.end({ keep: true });
    assert.deepEqual(spool.leftJournals, []);
  }
  await using spool = await test.open();
  const [left, ...more] = spool.leftJournals;
  assert.deepEqual(more, []);
  assert.equal(left?.camera, "Yard");
  assert.deepEqual(await Array.fromAsync(left.pictures()), [picture]);
  await left.remove();
  assert.deepEqual([...Deno.readDirSync(`${test.path}/spool/open`)], []);
});
