/**
 * The journal of pictures that wait for their encoder, on a real disk.
 *
 * @module
 */
import assert from "node:assert/strict";
import { diskFs } from "../../core/spool/fs.ts";
import { createJournal, type JournalPicture, leftJournals } from "../../core/spool/journal.ts";
import { layoutOf } from "../../core/spool/layout.ts";
import { inTempFolder } from "../support/run_cli.ts";

const picture = (index: number, bytes = 1000): JournalPicture => ({
  data: new Uint8Array(bytes).fill(index + 1),
  capturedAtMs: 1_787_320_000_000.25 + index * 200,
  ptsUs: index * 200_000,
});

async function inSpool(
  body: (spool: {
    readonly open: string;
    readonly begin: (nowMs?: number) => ReturnType<typeof createJournal>;
    readonly left: () => ReturnType<typeof leftJournals>;
    readonly usedBytes: () => number;
    room: number;
  }) => Promise<void>,
): Promise<void> {
  await inTempFolder(async (root) => {
    const layout = layoutOf(root);
    await Deno.mkdir(layout.open);
    let usedBytes = 0;
    const spool = {
      open: layout.open,
      room: Infinity,
      usedBytes: () => usedBytes,
      begin: (nowMs = 1000) =>
        createJournal({
          ...{ fs: diskFs, layout, now: () => nowMs },
          admit: (bytes) => {
            if (usedBytes + bytes > spool.room) return Promise.reject(new Error("full"));
            usedBytes += bytes;
            return Promise.resolve();
          },
          freed: (bytes) => usedBytes -= bytes,
        }, { camera: "Yard ~ 1", slug: "yard-1" }),
      left: () => leftJournals({ fs: diskFs, layout }),
    };
    await body(spool);
  });
}

const names = async (folder: string) =>
  (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);

Deno.test("what was appended is found after the process has ended, with its times and its camera", () =>
  inSpool(async ({ begin, left }) => {
    const journal = begin();
    await Promise.all([
      journal.append([picture(0), picture(1)]),
      journal.append([picture(2, 200_000)]),
    ]);
    const [found, ...others] = await left();
    assert.equal(others.length, 0);
    assert.equal(found?.camera, "Yard ~ 1");
    assert.equal(found.slug, "yard-1");
    assert.deepEqual(await Array.fromAsync(found.pictures()), [
      picture(0),
      picture(1),
      picture(2, 200_000),
    ]);
    await found.remove();
    assert.deepEqual(await left(), []);
  }));

Deno.test("a journal that was cut at any byte gives its whole pictures", () =>
  inSpool(async ({ begin, left, open }) => {
    const journal = begin();
    await journal.append([picture(0, 30)]);
    await journal.append([picture(1, 30)]);
    const [name] = await names(open);
    const whole = await Deno.readFile(`${open}/${name}`);
    const record = 20 + 30;
    const head = whole.length - 2 * record;
    for (let length = whole.length; length >= 0; length--) {
      await Deno.writeFile(`${open}/${name}`, whole.subarray(0, length));
      const [found] = await left();
      const pictures = found ? await Array.fromAsync(found.pictures()) : [];
      const expected = Math.max(0, Math.floor((length - head) / record));
      assert.equal(pictures.length, expected, `${length} of ${whole.length} bytes`);
    }
    assert.deepEqual(await names(open), []); // one without a head was never begun
  }));

Deno.test("zeros behind the last picture, as a power cut leaves them, are none", () =>
  inSpool(async ({ begin, left, open }) => {
    await begin().append([picture(0)]);
    const [name] = await names(open);
    await Deno.writeFile(`${open}/${name}`, new Uint8Array(5000), { append: true });
    const [found] = await left();
    assert.deepEqual(await Array.fromAsync(found!.pictures()), [picture(0)]);
  }));

Deno.test("files whose pictures are all in a clip go while later ones wait", () =>
  inSpool(async ({ begin, open, left, usedBytes }) => {
    const journal = begin();
    for (let index = 0; index < 12; index++) await journal.append([picture(index, 1_000_000)]);
    const before = (await names(open)).length;
    assert.ok(before >= 3, `${before} files`);
    await journal.settle(picture(5).ptsUs);
    const after = await left();
    assert.ok(after.length < before);
    const rest = (await Promise.all(after.map((one) => Array.fromAsync(one.pictures())))).flat();
    assert.deepEqual(rest.at(-1), picture(11, 1_000_000));
    for (let index = 6; index < 12; index++) {
      assert.ok(rest.some(({ ptsUs }) => ptsUs === picture(index).ptsUs), `picture ${index}`);
    }
    await journal.settle(picture(11).ptsUs);
    assert.deepEqual(await names(open), []);
    assert.equal(usedBytes(), 0);
    await journal.append([picture(12)]);
    assert.equal((await left()).length, 1);
    await journal.end();
    assert.deepEqual(await names(open), []);
  }));

Deno.test("an append that fails leaves what was there before, and those after it are whole", () =>
  inSpool(async (spool) => {
    const journal = spool.begin();
    await journal.append([picture(0)]);
    spool.room = 0;
    await assert.rejects(journal.append([picture(1)]), /keep the pictures of "Yard ~ 1"/);
    spool.room = Infinity;
    await journal.append([picture(2)]);
    await journal.end({ keep: true });
    const found = await spool.left();
    const all = (await Promise.all(found.map((one) => Array.fromAsync(one.pictures())))).flat();
    assert.deepEqual(all, [picture(0), picture(2)]);
  }));

Deno.test("journals are found oldest first", () =>
  inSpool(async ({ begin, left }) => {
    await begin(10_000).append([picture(2)]);
    await begin(9000).append([picture(1)]);
    const all = await Promise.all((await left()).map((one) => Array.fromAsync(one.pictures())));
    assert.deepEqual(all.flat(), [picture(1), picture(2)]);
  }));
