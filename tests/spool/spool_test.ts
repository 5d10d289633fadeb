/**
 * The spool on a real disk: recording, delivery, retention, recovery.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { openSpool, type Spool, type SpooledClip, spoolErrorKind } from "../../core/spool/mod.ts";
import { diskFs, type SpoolFile, type SpoolFs } from "../../core/spool/fs.ts";
import type { SpoolOptions } from "../../core/spool/mod.ts";
import { createFakeClock, type FakeClock } from "../support/fake_clock.ts";
import {
  readToyClip,
  recoverToyClip,
  TOY_HEADER,
  TOY_PATCH,
  TOY_TAIL,
  toyClip,
  toyFragment,
} from "../support/toy_clip.ts";

const START_MS = Date.UTC(2026, 7, 21, 14, 5, 0);
const payload = (seed: number, length = 100) =>
  Uint8Array.from({ length }, (_, index) => (seed * 31 + index) % 256);

interface Bench extends AsyncDisposable {
  readonly path: string;
  readonly clock: FakeClock;
  readonly messages: string[];
  open(more?: Partial<SpoolOptions>): Promise<Spool>;
}

/** A folder of its own for one test. */
async function bench(): Promise<Bench> {
  const path = await Deno.makeTempDir({ prefix: "spool-test-" });
  const clock = createFakeClock(START_MS);
  const messages: string[] = [];
  const note = (message: string) => void messages.push(message);
  return {
    path,
    clock,
    messages,
    open: (more) =>
      openSpool({
        path: `${path}/spool`,
        clock,
        log: { debug: note, info: note, warn: note, error: note },
        sinks: ["a", "b"],
        recover: recoverToyClip,
        reserveBytes: 0,
        ...more,
      }),
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}

interface Shot {
  readonly startMs?: number;
  readonly seconds?: number;
  readonly camera?: string;
}

/** Begins a clip of the camera "Yard" with some fragments. */
async function begin(
  spool: Spool,
  { startMs = START_MS, seconds = 2, camera = "Yard" }: Shot = {},
) {
  const open = await spool.begin({
    camera,
    slug: camera.toLowerCase(),
    start: new Date(startMs),
    contentType: "video/mp4",
  });
  await open.append([TOY_HEADER]);
  for (let second = 0; second < seconds; second++) await open.append(toyFragment(payload(second)));
  return open;
}

/** Records a whole clip. */
async function record(spool: Spool, shot: Shot = {}): Promise<SpooledClip> {
  const { startMs = START_MS, seconds = 2 } = shot;
  const open = await begin(spool, shot);
  return await open.finish({
    end: new Date(startMs + seconds * 1000),
    tail: [TOY_TAIL],
    patch: TOY_PATCH,
    frames: seconds,
  });
}

const bytesOf = async (clip: SpooledClip, fromByte?: number) =>
  new Uint8Array(await new Response(clip.open(fromByte)).arrayBuffer());
const stored = { state: "stored" } as const;

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
  await Deno.writeFile(part, bytes.subarray(0, bytes.length - 5));
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
