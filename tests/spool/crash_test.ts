/**
 * The spool's promises under crashes: random histories of recording, delivery, retention, kills and
 * power cuts at any operation, also during recovery, over a file system that forgets what was not
 * synced. An oracle beside the spool knows what was promised. SQLite is trusted to keep what it has
 * committed; now and then the whole catalogue is lost.
 *
 * `SPOOL_HISTORIES=10000 deno test -A tests/spool/crash_test.ts` is the full run; a failure names
 * its seed, and `SPOOL_SEED=<seed>` runs that history alone.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Catalogue } from "../../core/spool/catalogue.ts";
import { type OpenClip, openSpool, type Spool } from "../../core/spool/mod.ts";
import { CrashFs, Stopped } from "../support/crash_fs.ts";
import { seededRandom } from "../support/seeded_random.ts";
import {
  readToyClip,
  recoverToyClip,
  TOY_HEADER,
  TOY_OVERHEAD_BYTES,
  TOY_PATCH,
  TOY_TAIL,
  toyClip,
  toyFragment,
} from "../support/toy_clip.ts";

const SINKS = ["a", "b"] as const;
const hex = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** What the oracle knows of one clip. */
interface Known {
  readonly payloads: Uint8Array[];
  open: OpenClip | undefined;
  /** Fragments whose append was answered. */
  appended: number;
  /** Fragments that may be there: one more while an append is under way. */
  attempted: number;
  /** `finish` was called; it was answered. */
  finishing: boolean;
  finished: boolean;
  discarded: boolean;
  camera?: string;
  /** Tags that were answered while it was recorded; a power cut may cost them. */
  tags: string[];
  /** At least so many survive a power cut. */
  durable: number;
  /** At least so many fragments must be there after the crash that came last. */
  owed: number;
  /** Sinks whose receipt was answered. */
  readonly receipts: Set<string>;
}

interface Totals {
  crashes: number;
  recovered: number;
  clips: number;
  lostFragments: number;
  catalogueLosses: number;
}

/** How many of a clip's fragments lie in its first bytes. */
function wholeFragments({ payloads, appended }: Known, bytes: number): number {
  let endByte = TOY_HEADER.length;
  let count = 0;
  for (const payload of payloads.slice(0, appended)) {
    endByte += payload.length + TOY_OVERHEAD_BYTES;
    if (endByte <= bytes) count++;
  }
  return count;
}

/** Runs one history. */
async function runHistory(seed: number, totals: Totals): Promise<void> {
  const random = seededRandom(seed);
  const below = (limit: number) => Math.floor(random() * limit);
  const disk = new CrashFs(random);
  const known = new Map<string, Known>();
  /** What each sink holds: key → hash. */
  const held = new Map(SINKS.map((sink) => [sink as string, new Map<string, string>()]));
  /** Keys that the catalogue would still have known. */
  const lostCatalogueWith = new Set<string>();
  const delivering = new Set<string>();
  let catalogue = new Catalogue(":memory:");
  let wallMs = random() < 0.1 ? 5000 : Date.UTC(2026, 7, 21, 14, 5);
  let payloadSeed = 0;
  const keepMs = random() < 0.5 ? 0 : 120_000;
  const mendLater = random() < 0.5;
  const clock = {
    now: () => wallMs,
    monotonic: () => 0,
    sleep: (_: number, { signal }: { signal?: AbortSignal } = {}) =>
      new Promise<void>((_, reject) =>
        signal?.addEventListener("abort", () => reject(signal.reason))
      ),
  };
  const quiet = () => {};

  disk.onRemove = (path) => {
    const key = path.slice("/spool/clips/".length);
    if (!path.startsWith("/spool/clips/") || !key.endsWith(".mp4")) return;
    for (const sink of SINKS) {
      assert.ok(held.get(sink)?.has(key), `${key} was removed before the sink ${sink} had it`);
      const delivery = catalogue.deliveries(key).find((one) => one.sink === sink);
      assert.equal(delivery?.state, "stored", `${key} was removed before its receipt was durable`);
    }
  };

  const open = (): Promise<Spool> => {
    const fs = disk.mount();
    // The catalogue of a stopped process takes nothing any more, and may be stopped at any call.
    const mortal = new Proxy(catalogue, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (name === Symbol.dispose) return quiet;
        if (typeof value !== "function") return value;
        return (...args: unknown[]) => {
          disk.tick(fs.process);
          return Reflect.apply(value, target, args);
        };
      },
    });
    return openSpool({
      path: "/spool",
      clock,
      log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
      sinks: SINKS,
      keepMs,
      recover: recoverToyClip,
      mendLater,
      fs,
      openCatalogue: () => mortal,
    });
  };

  /** Stopped is how an operation of a stopped process ends; anything else is a fault. */
  const mayStop = async (work: () => PromiseLike<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (disk.isStopped) return;
      for (let at: unknown = error; at instanceof Error; at = at.cause) {
        if (at instanceof Stopped) return;
      }
      throw error;
    }
  };

  const bytesOf = async (clip: { open(): ReadableStream<Uint8Array<ArrayBuffer>> }) =>
    new Uint8Array(await new Response(clip.open()).arrayBuffer());

  /** One sink takes its next clip. */
  const deliver = async (spool: Spool, sink: string): Promise<boolean> => {
    const clip = spool.next(sink);
    if (!clip) return false;
    const entry = known.get(clip.key);
    assert.ok(entry, `nobody recorded ${clip.key}`);
    assert.ok(!entry.receipts.has(sink), `${clip.key} was offered to ${sink} after its receipt`);
    const bytes = await bytesOf(clip);
    assert.ok(readToyClip(bytes).isFinished, `${clip.key} is half a clip`);
    assert.equal(hex(bytes), clip.sha256, `${clip.key} is not what its hash says`);
    const before = held.get(sink)?.get(clip.key);
    assert.equal(before ?? clip.sha256, clip.sha256, `${clip.key} changed after it was stored`);
    held.get(sink)?.set(clip.key, clip.sha256);
    await spool.receipt(sink, clip.key, { state: "stored" });
    entry.receipts.add(sink);
    return true;
  };

  /** What must hold whenever the spool has been opened. */
  const check = async (spool: Spool): Promise<void> => {
    for (const [key, entry] of known) {
      if (entry.discarded) continue;
      const clip = spool.get(key);
      const isHeld = SINKS.every((sink) => held.get(sink)?.has(key));
      if (!clip || clip.state !== "here") {
        assert.notEqual(clip?.state, "lost", `${key} is lost`);
        assert.ok(
          isHeld || (!entry.finished && entry.owed === 0),
          `${key} is lost: finished ${entry.finished}, ${entry.owed} fragments owed`,
        );
        continue;
      }
      const bytes = await bytesOf(clip);
      const { payloads, isFinished } = readToyClip(bytes);
      assert.ok(isFinished, `${key} is half a clip`);
      assert.equal(hex(bytes), clip.sha256);
      assert.ok(payloads.length >= entry.owed, `${key} has lost fragments that were promised`);
      assert.ok(payloads.length <= entry.attempted);
      assert.deepEqual(bytes, toyClip(entry.payloads.slice(0, payloads.length)));
      assert.ok(clip.end >= clip.start);
      // Before its first sync a clip may survive by luck, and without its sidecar.
      entry.camera ??= entry.owed > 0 ? "Yard" : clip.camera;
      // Nor need a clip keep it that every sink has and whose removal was cut short.
      if (!isHeld) assert.equal(clip.camera, entry.camera);
      if (!entry.finished) {
        // What it ends with counts, and here it ends with none.
        if (entry.owed > 0 && !entry.finishing) {
          const missing = entry.tags.filter((tag) => !clip.tags.includes(tag));
          assert.deepEqual(missing, [], `${key} has lost tags: ${clip.tags}`);
        }
        totals.recovered++;
        totals.lostFragments += entry.appended - payloads.length;
        entry.owed = payloads.length;
      }
      entry.finished = true;
      for (const { sink, state } of spool.deliveries(key)) {
        if (entry.receipts.has(sink)) assert.equal(state, "stored", `a receipt of ${key} is lost`);
      }
    }
  };

  const crash = (kind: "kill" | "power cut") => {
    totals.crashes++;
    for (const entry of known.values()) {
      if (entry.finished || entry.discarded) continue;
      if (entry.open) {
        entry.owed = entry.appended;
        entry.durable = wholeFragments(entry, entry.open.durableBytes);
        entry.open = undefined;
      }
      // A kill costs nothing that was appended; a power cut, also one that comes while the spool
      // recovers from a kill, what no sync has covered.
      if (kind === "power cut") {
        entry.owed = entry.durable;
        entry.tags = [];
      }
    }
    disk.crash(kind);
    if (random() < 0.1) {
      totals.catalogueLosses++;
      for (const { key } of catalogue.list({ state: "gone" })) lostCatalogueWith.add(key);
      catalogue[Symbol.dispose]();
      catalogue = new Catalogue(":memory:");
      for (const entry of known.values()) entry.receipts.clear();
    }
  };

  /** Opens the spool, however often that is cut short. */
  const start = async ({ idle = false } = {}): Promise<Spool> => {
    for (let tries = 0;; tries++) {
      if (tries < 3 && random() < 0.4) disk.stopIn(1 + below(60));
      let spool: Spool | undefined;
      await mayStop(async () => void (spool = await open()));
      if (spool && mendLater) {
        // Cameras and sinks are at work while what was interrupted is still being completed.
        const opened: Spool = spool;
        const works = Array.from(
          { length: idle ? 0 : below(3) },
          () => mayStop(() => step(opened)),
        );
        await Promise.all([...works, opened.mended]);
      }
      if (spool && !disk.isStopped) {
        disk.stopIn(Infinity);
        await check(spool);
        return spool;
      }
      await spool?.[Symbol.asyncDispose]();
      crash(random() < 0.5 ? "kill" : "power cut");
    }
  };

  const step = async (spool: Spool): Promise<void> => {
    const openClips = [...known.values()].filter((entry) =>
      entry.open && !entry.finishing && !entry.discarded
    );
    const entry = openClips[below(openClips.length)];
    const luck = random();
    if (!entry || (luck < 0.12 && openClips.length < 4)) {
      const clip = await spool.begin({
        camera: "Yard",
        slug: "yard",
        start: new Date(wallMs),
        contentType: "video/mp4",
      });
      // A key may come again if nothing ever had it; or if the clock went back over a clip that was
      // delivered and gone when the catalogue was lost: then the sinks tell the two apart by hash.
      const earlier = known.get(clip.key);
      const isForgotten = earlier?.owed === 0 || earlier?.discarded ||
        lostCatalogueWith.has(clip.key);
      assert.ok(!earlier || isForgotten, `the key ${clip.key} was given out twice`);
      for (const holds of held.values()) holds.delete(clip.key);
      const next: Known = {
        payloads: [],
        open: clip,
        appended: 0,
        attempted: 0,
        finishing: false,
        finished: false,
        discarded: false,
        owed: 0,
        durable: 0,
        tags: [],
        receipts: new Set(),
      };
      known.set(clip.key, next);
      await clip.append([TOY_HEADER]);
    } else if (luck < 0.5) {
      const payload = Uint8Array.from({ length: 1 + below(9) }, () => (payloadSeed++ * 7) % 256);
      entry.payloads.push(payload);
      entry.attempted++;
      await entry.open?.append(toyFragment(payload));
      entry.appended++;
    } else if (luck < 0.54) {
      const tag = ["motion", "person", "sound"][below(3)] ?? "";
      await entry.open?.tag([tag]);
      entry.tags.push(tag);
    } else if (luck < 0.65) {
      if (entry.attempted === 0) return;
      entry.finishing = true;
      const count = entry.payloads.length;
      const clip = await entry.open?.finish({
        end: new Date(wallMs + below(3000) - 1000),
        tail: [TOY_TAIL],
        patch: TOY_PATCH,
        frames: count,
      });
      entry.finished = true;
      entry.owed = count;
      entry.open = undefined;
      totals.clips++;
      assert.ok(clip);
    } else if (luck < 0.67) {
      entry.discarded = true;
      await entry.open?.discard();
      entry.open = undefined;
    } else if (luck < 0.9) {
      const sink = SINKS[below(2)] ?? "a";
      if (delivering.has(sink)) return; // a sink takes one clip at a time
      delivering.add(sink);
      await deliver(spool, sink).finally(() => delivering.delete(sink));
    } else if (luck < 0.95) {
      await spool.sweep();
    } else {
      wallMs += [1000, 60_000, 3_600_000, -3_600_000, 0][below(5)] ?? 0;
    }
  };

  let spool = await start();
  const steps = 20 + below(40);
  for (let count = 0; count < steps; count++) {
    if (random() < 0.08) disk.stopIn(1 + below(40));
    // Up to three things at once, as cameras and sinks do them.
    const works = Array.from({ length: 1 + below(3) }, () => mayStop(() => step(spool)));
    await Promise.all(works);
    if (!disk.isStopped && random() > 0.03) continue;
    const dead = spool;
    crash(random() < 0.5 ? "kill" : "power cut");
    await mayStop(() => dead[Symbol.asyncDispose]());
    spool = await start();
  }

  // At the end everything recorded reaches both sinks, and then leaves the spool.
  await mayStop(() => spool[Symbol.asyncDispose]());
  crash("kill");
  spool = await start({ idle: true });
  for (const sink of SINKS) while (await deliver(spool, sink));
  wallMs += 400_000_000;
  await spool.sweep();
  for (const [key, entry] of known) {
    if (entry.discarded || !entry.finished) continue;
    for (const sink of SINKS) assert.ok(held.get(sink)?.has(key), `${sink} never got ${key}`);
  }
  assert.deepEqual(disk.files().filter((path) => /\/(clips|open|damaged)\//.test(path)), []);
  await spool[Symbol.asyncDispose]();
  catalogue[Symbol.dispose]();
}

const only = Deno.env.get("SPOOL_SEED");
const histories = only === undefined ? Number(Deno.env.get("SPOOL_HISTORIES") ?? 120) : 1;

Deno.test(`no crash in ${histories} histories breaks a promise of the spool`, async () => {
  const totals: Totals = {
    crashes: 0,
    recovered: 0,
    clips: 0,
    lostFragments: 0,
    catalogueLosses: 0,
  };
  const first = only === undefined ? 1 : Number(only);
  for (let seed = first; seed < first + histories; seed++) {
    try {
      await runHistory(seed, totals);
    } catch (error) {
      throw new Error(`history ${seed} (run it alone with SPOOL_SEED=${seed}): ${error}`, {
        cause: error,
      });
    }
  }
  if (histories > 120) console.log(totals);
  assert.ok(only !== undefined || totals.recovered > 0);
});
