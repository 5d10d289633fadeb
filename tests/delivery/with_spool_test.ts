/**
 * Delivery between the real spool and a real sink: nothing leaves the spool before every sink has
 * proved that it holds it, also over a restart.
 *
 * @module
 */
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { createDelivery } from "../../core/delivery/mod.ts";
import { openSpool, type Spool } from "../../core/spool/mod.ts";
import { type Sink, SinkError } from "../../core/types.ts";
import { localFolder } from "../../sinks/local_folder.ts";
import { systemClock } from "../../core/clock.ts";
import {
  recoverToyClip,
  TOY_HEADER,
  TOY_PATCH,
  TOY_TAIL,
  toyClip,
  toyFragment,
} from "../support/toy_clip.ts";
import { FakeSink, freshStatus, keepLog } from "./fakes.ts";

const SINKS = ["folder", "cloud"];

async function record(spool: Spool, minute: number): Promise<string> {
  const start = new Date(Date.UTC(2026, 7, 21, 14, minute));
  const open = await spool.begin({ camera: "Yard", slug: "yard", start, contentType: "video/mp4" });
  await open.append([TOY_HEADER, ...toyFragment(Uint8Array.of(minute, 1, 2, 3))]);
  const { key } = await open.finish({
    end: new Date(start.getTime() + 60_000),
    tail: [TOY_TAIL],
    patch: TOY_PATCH,
    frames: 1,
  });
  return key;
}

async function deliver(spool: Spool, sinks: Record<string, Sink>, timeoutMs: number) {
  const stop = new AbortController();
  const deliveries = Object.entries(sinks).map(([name, sink]) =>
    createDelivery({
      name,
      sink,
      spool,
      status: freshStatus(name),
      clock: systemClock,
      random: Math.random,
      log: keepLog(),
    })
  );
  const running = deliveries.map((delivery) => delivery.run(stop.signal));
  const left = await Promise.all(
    deliveries.map((delivery) => delivery.drain({ timeoutMs, signal: stop.signal })),
  );
  stop.abort();
  await Promise.all(running);
  return left.map(({ left }) => left);
}

Deno.test("a clip leaves the spool only when both sinks have it, over a restart", async () => {
  const path = await Deno.makeTempDir({ prefix: "camsink-delivery-" });
  try {
    const open = () =>
      openSpool({
        path: join(path, "spool"),
        clock: systemClock,
        log: keepLog(),
        sinks: SINKS,
        recover: recoverToyClip,
        reserveBytes: 0,
      });
    const folder = await localFolder.open({
      name: "folder",
      config: { path: join(path, "clips") },
      log: keepLog(),
      fetch,
    });
    const cloud = new FakeSink(() => 0, () => new SinkError("auth", "403: the SAS has expired"));
    const keys: string[] = [];
    {
      await using spool = await open();
      for (let minute = 0; minute < 5; minute++) keys.push(await record(spool, minute));
      assert.deepEqual(await deliver(spool, { folder, cloud }, 10_000), [0, 5]);
      await spool.sweep();
      assert.deepEqual(keys.map((key) => spool.get(key)?.state), Array(5).fill("here"));
    }
    cloud.behave = () => undefined;
    {
      await using spool = await open();
      assert.equal(spool.backlog("folder").clips, 0);
      assert.equal(spool.backlog("cloud").clips, 5);
      assert.deepEqual(await deliver(spool, { folder, cloud }, 10_000), [0, 0]);
      await spool.sweep();
      assert.deepEqual(keys.map((key) => spool.get(key)?.state), Array(5).fill("gone"));
    }
    assert.deepEqual(cloud.puts.slice(-5).map(({ key }) => key), keys);
    const files = await readdir(join(path, "clips/yard/2026/08/21"));
    assert.equal(files.length, 5);
    for (const [minute, key] of keys.entries()) {
      const stored = new Uint8Array(await readFile(join(path, "clips", key)));
      assert.deepEqual(stored, toyClip([Uint8Array.of(minute, 1, 2, 3)]));
    }
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});

Deno.test("the file of a clip that one folder alone receives becomes the folder's, and is not copied", async () => {
  const path = await Deno.makeTempDir({ prefix: "camsink-delivery-" });
  try {
    await using spool = await openSpool({
      path: join(path, "spool"),
      clock: systemClock,
      log: keepLog(),
      sinks: ["folder"],
      recover: recoverToyClip,
      reserveBytes: 0,
    });
    const folder = await localFolder.open({
      name: "folder",
      config: { path: join(path, "clips") },
      log: keepLog(),
      fetch,
    });
    const key = await record(spool, 1);
    const own = spool.get(key)?.path ?? "";
    const { ino } = await Deno.stat(own);
    assert.deepEqual(await deliver(spool, { folder }, 60_000), [0]);
    await spool.sweep();
    assert.equal(spool.get(key)?.state, "gone");
    await assert.rejects(Deno.stat(own), Deno.errors.NotFound);
    const delivered = join(path, "clips", key);
    assert.equal((await Deno.stat(delivered)).ino, ino);
    assert.deepEqual(
      new Uint8Array(await readFile(delivered)),
      toyClip([Uint8Array.of(1, 1, 2, 3)]),
    );
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});
