/** Notes that are gathered into one transaction, and what becomes of the others when one is refused. */
import assert from "node:assert/strict";
import { Catalogue } from "../../core/spool/catalogue.ts";
import { GroupCommit } from "../../core/spool/group_commit.ts";

/** A transaction like the catalogue's over a list of what was done. */
function bench() {
  const done: number[] = [];
  const sizes: number[] = [];
  const commits = new GroupCommit((work) => {
    const before = [...done];
    try {
      const result = work();
      sizes.push(done.length - before.length);
      return result;
    } catch (error) {
      done.splice(0, Infinity, ...before);
      throw error;
    }
  });
  const note = (n: number) =>
    commits.run(() => {
      if (n < 0) throw new Error(`no ${n}`);
      done.push(n);
      return n * 10;
    });
  return { done, sizes, commits, note };
}

Deno.test("what is noted together is one transaction, in its order, and each gets its own answer", async () => {
  const { done, sizes, note } = bench();
  assert.deepEqual(await Promise.all([1, 2, 3].map(note)), [10, 20, 30]);
  assert.deepEqual([done, sizes], [[1, 2, 3], [3]]);
  assert.equal(await note(4), 40);
  assert.deepEqual(sizes, [3, 1]);
});

Deno.test("nothing is answered before it is committed", async () => {
  const { done, commits, note } = bench();
  let isAnswered = false;
  const noted = note(1).then(() => isAnswered = true);
  await Promise.resolve();
  assert.deepEqual([done, isAnswered], [[], false]);
  await commits.idle();
  assert.deepEqual(done, [1]);
  await noted;
});

Deno.test("a note that is refused costs none of the others theirs", async () => {
  const { done, note } = bench();
  const answers = await Promise.allSettled([1, -2, 3].map(note));
  assert.deepEqual(answers.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
  assert.deepEqual(done, [1, 3]);
  await assert.rejects(note(-4), /no -4/);
});

Deno.test("what is noted while a group is settled is the next group", async () => {
  const { done, sizes, commits, note } = bench();
  const later: Promise<number>[] = [];
  const first = commits.run(() => void later.push(note(2), note(3)));
  await first;
  await Promise.all(later);
  assert.deepEqual([done, sizes], [[2, 3], [0, 2]]);
  await commits.idle();
});

Deno.test("clips that went are forgotten by an index, also in a catalogue that had none", async () => {
  const folder = await Deno.makeTempDir({ prefix: "camsink-catalogue-" });
  try {
    const path = `${folder}/catalogue.db`;
    new Catalogue(path)[Symbol.dispose]();
    const { DatabaseSync } = await import("node:sqlite");
    const plan = () => {
      using db = new DatabaseSync(path);
      const rows = db.prepare(
        "EXPLAIN QUERY PLAN DELETE FROM clip WHERE state <> 'here' AND gone_ms < ? AND start_ms >= ?",
      ).all(1, 2);
      return rows.map(({ detail }) => detail).join("; ");
    };
    assert.match(plan(), /USING INDEX clip_gone/);
    {
      using db = new DatabaseSync(path);
      db.exec("DROP INDEX clip_gone");
    }
    assert.match(plan(), /^SCAN clip/);
    new Catalogue(path)[Symbol.dispose]();
    assert.match(plan(), /USING INDEX clip_gone/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
