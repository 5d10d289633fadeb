/**
 * What happened during a clip, as the spool keeps it; and pictures as clips.
 *
 * @module
 */
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { openSpool, openSpoolView, type Spool } from "../../core/spool/mod.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import {
  recoverToyClip,
  TOY_HEADER,
  TOY_PATCH,
  TOY_TAIL,
  toyFragment,
} from "../support/toy_clip.ts";

const START_MS = Date.UTC(2026, 7, 21, 14, 5, 0);

async function bench() {
  const path = await Deno.makeTempDir({ prefix: "spool-tags-" });
  const clock = createFakeClock(START_MS);
  const messages: string[] = [];
  const note = (message: string) => void messages.push(message);
  return {
    messages,
    path: `${path}/spool`,
    open: () =>
      openSpool({
        ...{ path: `${path}/spool`, clock, sinks: ["a"], recover: recoverToyClip, reserveBytes: 0 },
        log: { debug: note, info: note, warn: note, error: note },
      }),
    view: () => openSpoolView(`${path}/spool`, clock),
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}

async function record(spool: Spool, tags?: readonly string[]) {
  const start = new Date(START_MS);
  const file = await spool.begin({ camera: "Yard", slug: "yard", start, contentType: "video/mp4" });
  await file.append([TOY_HEADER, ...toyFragment(new Uint8Array(100))]);
  const end = new Date(START_MS + 1000);
  return await file.finish({
    ...{ end, tail: [TOY_TAIL], patch: TOY_PATCH, frames: 1 },
    ...(tags ? { tags } : {}),
  });
}

async function picture(spool: Spool) {
  const start = new Date(START_MS);
  const file = await spool.begin({
    camera: "Yard",
    slug: "yard",
    start,
    contentType: "image/jpeg",
  });
  await file.append([Uint8Array.of(0xff, 0xd8, 0xff, 0xd9)]);
  return file;
}

Deno.test("tags are listed, filtered by, added to, and outlive a lost catalogue", async () => {
  await using world = await bench();
  let key = "";
  {
    await using spool = await world.open();
    const clip = await record(spool, ["motion"]);
    key = clip.key;
    assert.deepEqual(clip.tags, ["motion"]);
    await spool.tag(key, ["person", "motion"]);
    await spool.tag("yard/2026/08/21/20260821T000000Z.mp4", ["person"]); // there is none: no error
    assert.deepEqual(spool.next("a")?.tags, ["motion", "person"]);
    assert.deepEqual(spool.list({ tag: "person" }).map((clip) => clip.key), [key]);
    assert.deepEqual(spool.list({ tag: "perso" }), []);
    using view = await world.view();
    assert.deepEqual(view.get(key)?.tags, ["motion", "person"]);
  }
  for (const suffix of ["", "-wal", "-shm"]) {
    await Deno.remove(`${world.path}/catalogue.db${suffix}`).catch(() => {});
  }
  await using spool = await world.open();
  assert.deepEqual(spool.get(key)?.tags, ["motion", "person"]);
  await spool.pin(key);
  assert.deepEqual(spool.get(key)?.tags, ["motion", "person"]);
});

Deno.test("what was told of a clip while it was recorded outlives a kill, and what it began with", async () => {
  await using world = await bench();
  let key = "";
  {
    await using spool = await world.open();
    const file = await spool.begin({
      ...{ camera: "Yard", slug: "yard", start: new Date(START_MS), contentType: "video/mp4" },
      tags: ["doorbell"],
    });
    key = file.key;
    await file.append([TOY_HEADER, ...toyFragment(new Uint8Array(100))]);
    await file.tag(["motion"]);
    await file.tag(["person", "motion"]);
    // Closing leaves the clip as a kill does: open, to be recovered.
  }
  // A rename that a kill came before.
  const [part] = (await Array.fromAsync(Deno.readDir(`${world.path}/open`)))
    .filter(({ name }) => name.endsWith(".json"));
  await Deno.writeTextFile(`${world.path}/open/${part?.name}.tmp`, "{ to");
  await using spool = await world.open();
  const clip = spool.get(key);
  assert.deepEqual([clip?.recovered, clip?.tags], [true, ["doorbell", "motion", "person"]]);
  assert.deepEqual(spool.next("a")?.tags, ["doorbell", "motion", "person"]);
  assert.deepEqual(await Array.fromAsync(Deno.readDir(`${world.path}/open`)), []);
});

Deno.test("tags at a clip's end are those that count, and what was told before is not lost with a failed end", async () => {
  await using world = await bench();
  await using spool = await world.open();
  const start = new Date(START_MS);
  const file = await spool.begin({
    ...{ camera: "Yard", slug: "yard", start, contentType: "video/mp4", tags: ["motion"] },
  });
  await file.append([TOY_HEADER, ...toyFragment(new Uint8Array(100))]);
  const clip = await file.finish({
    ...{ end: new Date(START_MS + 1000), tail: [TOY_TAIL], patch: TOY_PATCH, frames: 1 },
    tags: ["person"],
  });
  assert.deepEqual(clip.tags, ["person"]);
});

Deno.test("a catalogue and a sidecar of a release without tags are taken as they are", async () => {
  await using world = await bench();
  let key = "";
  {
    await using spool = await world.open();
    key = (await record(spool)).key;
    await spool.receipt("a", key, { state: "stored" });
  }
  const sidecar = `${world.path}/clips/${key}.json`;
  const there = await Deno.stat(sidecar).catch(() => undefined);
  if (there) {
    const { tags: _, ...old } = JSON.parse(await Deno.readTextFile(sidecar));
    await Deno.writeTextFile(sidecar, JSON.stringify(old));
  }
  const db = new DatabaseSync(`${world.path}/catalogue.db`);
  db.exec("ALTER TABLE clip DROP COLUMN tags");
  db.close();
  await using spool = await world.open();
  assert.equal(world.messages.some((text) => text.includes("made anew")), false);
  assert.deepEqual(spool.get(key)?.tags, []);
  assert.equal(spool.deliveries(key)[0]?.state, "stored");
});

Deno.test("a picture is a clip like any other: it waits for every sink, and is known after a restart", async () => {
  await using world = await bench();
  let key = "";
  {
    await using spool = await world.open();
    const file = await picture(spool);
    const end = new Date(START_MS);
    const clip = await file.finish({ end, tail: [], frames: 1, tags: ["person", "event-image"] });
    key = clip.key;
    assert.match(key, /20260821T140500Z\.jpg$/);
    assert.equal(spool.next("a")?.contentType, "image/jpeg");
  }
  await Deno.remove(`${world.path}/clips/${key}.json`);
  for (const suffix of ["", "-wal", "-shm"]) {
    await Deno.remove(`${world.path}/catalogue.db${suffix}`).catch(() => {});
  }
  await using spool = await world.open();
  const clip = spool.get(key);
  assert.deepEqual([clip?.bytes, clip?.frames, clip?.tags], [4, 1, []]);
  assert.equal(await spool.verify(key), "ok");
});

Deno.test("a picture that a crash cut short is removed, and nothing is called damaged", async () => {
  await using world = await bench();
  {
    await using spool = await world.open();
    await picture(spool); // left open
  }
  await using spool = await world.open();
  assert.deepEqual(spool.list(), []);
  const left = await Array.fromAsync(Deno.readDir(`${world.path}/open`));
  assert.deepEqual(left, []);
  assert.equal(await Deno.stat(`${world.path}/damaged`).catch(() => undefined), undefined);
});
