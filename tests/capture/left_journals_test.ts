/**
 * Clips out of the journals that a process left behind when it was killed.
 *
 * @module
 */
import assert from "node:assert/strict";
import { recordLeftJournals } from "../../core/capture/left_journals.ts";
import type { JournalPicture, LeftJournal } from "../../core/spool/mod.ts";
import { createMemorySpool, createNotes, relabel } from "../support/capture_fakes.ts";
import { demuxWithMp4box } from "../support/media_samples.ts";

const T0 = Date.UTC(2026, 7, 21, 12);

/** A picture every 200 ms, in the form that the encoder of these tests lets through. */
const picture = (index: number): JournalPicture => ({
  data: Uint8Array.of(0, 0, 0, 2, 0x65, index),
  capturedAtMs: T0 + index * 200,
  ptsUs: index * 200_000,
});

/** A journal with pictures `from` to `to`, and whether it was removed. */
function left(from: number, to: number): LeftJournal & { isRemoved: boolean } {
  const journal = {
    ...{ camera: "Yard", slug: "yard", isRemoved: false },
    async *pictures() {
      for (let index = from; index <= to; index++) yield picture(index);
    },
    remove: () => {
      journal.isRemoved = true;
      return Promise.resolve();
    },
  };
  return journal;
}

async function takeUp(journals: readonly LeftJournal[], spool = createMemorySpool()) {
  const notes = createNotes();
  const stop = new AbortController();
  await recordLeftJournals({
    spool: Object.assign(spool, { leftJournals: journals, mended: Promise.resolve(true) }),
    encoder: () => Promise.resolve(relabel),
    ...{ clipMs: 10_000, product: "test", log: () => notes },
  }, stop.signal);
  return { spool, notes };
}

/** The marks of all pictures in all finished clips. */
const marks = (spool: ReturnType<typeof createMemorySpool>) =>
  Promise.all(spool.finished.map(({ bytes }) => demuxWithMp4box(bytes))).then((clips) =>
    clips.flatMap((clip) => [...clip.tracks.values()].flat().map(({ data }) => data.at(-1)))
  );

Deno.test("pictures that only a journal holds become a clip, and the journal goes", async () => {
  const journal = left(0, 8);
  const { spool } = await takeUp([journal]);
  assert.deepEqual(await marks(spool), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(spool.finished[0]?.start.getTime(), T0);
  assert.equal(spool.finished[0]?.camera, "Yard");
  assert.ok(journal.isRemoved);
});

Deno.test("what a clip holds already is not recorded twice, also when it is tried a second time", async () => {
  const spool = createMemorySpool();
  // Of an interrupted clip the first five were saved; its end is where the next one was taken.
  const { spool: first } = await takeUp([left(0, 4)], spool);
  assert.equal(first.finished.length, 1);
  const end = first.finished[0]?.end?.end.getTime() ?? 0;
  assert.ok(Math.abs(end - picture(5).capturedAtMs) <= 1, `${end - T0}`);
  await takeUp([left(0, 8)], spool);
  await takeUp([left(0, 8)], spool);
  assert.deepEqual(await marks(spool), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
});

Deno.test("a journal that cannot be recorded stays, is told, and does not hold up the next", async () => {
  const spool = createMemorySpool();
  const [bad, good] = [left(0, 3), left(10, 13)];
  spool.fail = (operation, clip) => {
    if (operation === "begin" && clip.start.getTime() === T0) throw new Error("no room");
  };
  const { notes } = await takeUp([bad, good], spool);
  assert.equal(bad.isRemoved, false);
  assert.equal(good.isRemoved, true);
  assert.equal(notes.lines.filter((line) => /^error .*no room/.test(line)).length, 1);
});

Deno.test("an end that comes before the spool is mended is not held up", async () => {
  const stop = new AbortController();
  const journal = left(0, 3);
  const done = recordLeftJournals({
    spool: Object.assign(createMemorySpool(), {
      leftJournals: [journal],
      mended: new Promise<boolean>(() => {}),
    }),
    encoder: () => Promise.resolve(relabel),
    ...{ clipMs: 10_000, product: "test", log: () => createNotes() },
  }, stop.signal);
  stop.abort(new DOMException("stopped", "AbortError"));
  await done;
  assert.equal(journal.isRemoved, false);
});
