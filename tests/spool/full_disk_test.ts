/**
 * A really full disk: a memory file system of a few megabytes, where this machine lets us mount one.
 *
 * @module
 */
import assert from "node:assert/strict";
import { openSpool, spoolErrorKind } from "../../core/spool/mod.ts";
import { systemClock } from "../../core/clock.ts";
import { mountSmallDisk, smallDisks } from "../support/small_disk.ts";
import {
  readToyClip,
  recoverToyClip,
  TOY_HEADER,
  TOY_PATCH,
  TOY_TAIL,
  toyFragment,
} from "../support/toy_clip.ts";

const quiet = () => {};

const { ignore, reason } = await smallDisks();

const fragment = (seed: number) =>
  Array.from({ length: 160 }, (_, index) => toyFragment(new Uint8Array(250).fill(seed + index)))
    .flat();

for (const reserveBytes of [undefined, 0]) {
  const kind = reserveBytes === undefined ? "with its reserve" : "to the last byte";
  Deno.test({
    name: `a disk full ${kind} costs no finished clip, and recording goes on afterwards${reason}`,
    ignore,
    async fn() {
      await using disk = await mountSmallDisk(16);
      assert.ok(disk);
      const path = `${disk.path}/spool`;
      await Deno.writeFile(`${disk.path}/ballast`, new Uint8Array(1e6));
      const options = {
        path,
        clock: systemClock,
        log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
        sinks: ["a"],
        recover: recoverToyClip,
        reserveBytes,
      };
      const keys: string[] = [];
      {
        await using spool = await openSpool(options);
        const record = async (minute: number) => {
          const start = new Date(Date.UTC(2026, 7, 21, 14, minute));
          const clip = await spool.begin({
            camera: "Yard",
            slug: "yard",
            start,
            contentType: "video/mp4",
          });
          const end = { end: start, tail: [TOY_TAIL], patch: TOY_PATCH, frames: 1 };
          try {
            await clip.append([TOY_HEADER]);
            for (let count = 0; count < 30; count++) await clip.append(fragment(minute));
          } catch (error) {
            assert.equal(spoolErrorKind(error), "full");
            await clip.finish(end).then(() => keys.push(clip.key), (cause) => {
              assert.equal(spoolErrorKind(cause), "full");
            });
            throw error;
          }
          await clip.finish(end);
          keys.push(clip.key);
        };
        await assert.rejects(async () => {
          for (let minute = 0; minute < 60; minute++) await record(minute);
        }, (error) => spoolErrorKind(error) === "full");
        assert.ok(keys.length >= 5, `only ${keys.length} clips fit`);
        const space = await spool.space();
        assert.ok(space.isFull || reserveBytes === 0);
        if (reserveBytes === undefined) {
          // The open clip's end, its sidecar and the catalogue live off the reserve.
          assert.ok(space.freeBytes > space.reserveBytes * 0.5, `${space.freeBytes} left`);
        }
        for (const key of keys) assert.equal(await spool.verify(key), "ok");

        // Room comes back: somebody makes some, the sink takes what it lacks, recording goes on.
        if (reserveBytes === 0) await Deno.remove(`${disk.path}/ballast`);
        await spool.sweep();
        let delivered = 0;
        for (let clip = spool.next("a"); clip; clip = spool.next("a")) {
          const bytes = new Uint8Array(await new Response(clip.open()).arrayBuffer());
          assert.ok(readToyClip(bytes).isFinished);
          await spool.receipt("a", clip.key, { state: "stored" });
          delivered++;
        }
        assert.ok(delivered >= keys.length);
        await spool.sweep();
        await record(59);
        assert.equal((await spool.space()).isFull, false);
      }
      await using again = await openSpool(options);
      assert.deepEqual(again.recovery, { recovered: 0, relisted: 0, lost: 0 });
      assert.equal(again.next("a")?.start.getUTCMinutes(), 59);
    },
  });
}
