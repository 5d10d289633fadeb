/**
 * The contract of an archive, as one suite that every kind passes: what it lists is complete, in
 * order and the same each time; a piece comes whole or not at all; an abort rejects with its reason;
 * whatever goes wrong is a source error, after one try; and nothing is left behind.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Archive, type ArchivedClip, sourceErrorKind } from "../../core/types.ts";
import type { FakeClock } from "../support/fake_clock.ts";

/** An archive, and the maker's service behind it. */
export interface ArchiveWorld extends AsyncDisposable {
  readonly archive: Archive;
  readonly clock: FakeClock;
  /** The camera records something; both times may be in the future. */
  record(startMs: number, endMs: number): void;
  /** The MP4 file of a piece, as the service has it. */
  fileOf(clip: ArchivedClip): Uint8Array;
  /** The next request is taken and never answered. */
  hang(): void;
  /** The next request is answered with an error, or broken off in the middle. */
  fail(way: "error" | "cut"): void;
  /** Requests for recordings until now. */
  readonly requests: number;
}

const SECOND_MS = 1000;
const HOUR_MS = 3600 * SECOND_MS;

/** Registers the suite for one kind of archive. Each test makes a world of its own. */
export function testArchive(name: string, createWorld: () => Promise<ArchiveWorld>): void {
  const test = (fact: string, run: (world: ArchiveWorld) => Promise<void>) =>
    Deno.test(`${name}: ${fact}`, async () => {
      const world = await createWorld();
      try {
        await run(world);
        await world.clock.advance(0);
        assert.equal(world.clock.sleepers, 0, "timers are left behind");
      } finally {
        await world[Symbol.asyncDispose]();
      }
    });
  const { signal } = new AbortController();
  const listed = (world: ArchiveWorld, agoMs = 2 * HOUR_MS) =>
    settle(world.archive.list({ from: new Date(world.clock.now() - agoMs), signal }), world);
  /** Its only piece. */
  const piece = async (world: ArchiveWorld): Promise<ArchivedClip> => {
    const endMs = world.clock.now() - HOUR_MS;
    world.record(endMs - 20 * SECOND_MS, endMs);
    const [clip] = await listed(world);
    assert.ok(clip);
    return clip;
  };

  test("what it lists is complete, in order, without overlap, and no older than asked for", async (world) => {
    const nowMs = world.clock.now();
    const spans = [[-5400, 200], [-9000, 20], [-1800, 30], [-1700, 1], [-20, 60]] as const;
    for (const [atS, lengthS] of spans) {
      world.record(nowMs + atS * SECOND_MS, nowMs + (atS + lengthS) * SECOND_MS);
    }
    const clips = await listed(world);
    assert.ok(clips.length >= 3);
    let beforeMs = nowMs - 2 * HOUR_MS;
    for (const { start, end } of clips) {
      assert.ok(start.getTime() >= beforeMs && start < end);
      beforeMs = end.getTime();
    }
    assert.ok(beforeMs <= nowMs, "it has not ended yet");
    const lengthMs = clips.reduce(
      (sum, { start, end }) => sum + end.getTime() - start.getTime(),
      0,
    );
    assert.equal(lengthMs, 231 * SECOND_MS, "every second of what has ended, once");
  });

  test("a piece has the same times whenever it is listed, and what goes on is listed once it has ended", async (world) => {
    const nowMs = world.clock.now();
    world.record(nowMs - 600 * SECOND_MS, nowMs - 400 * SECOND_MS);
    world.record(nowMs - 10 * SECOND_MS, nowMs + 50 * SECOND_MS);
    const before = await listed(world);
    await world.clock.advance(300 * SECOND_MS);
    const after = await listed(world);
    assert.deepEqual(after.slice(0, before.length), before);
    assert.ok(after.length > before.length);
  });

  test("an archive that holds nothing lists nothing", async (world) => {
    assert.deepEqual(await listed(world), []);
  });

  test("a piece comes whole, as often as it is asked for", async (world) => {
    const clip = await piece(world);
    for (let time = 0; time < 2; time++) {
      const bytes = await settle(world.archive.fetch(clip, { signal }), world);
      assert.deepEqual(bytes && [...bytes], [...world.fileOf(clip)]);
    }
  });

  test("a piece that is older than the archive reaches back is not there, which is no error", async (world) => {
    const clip = await piece(world);
    await world.clock.advance(world.archive.historyMs);
    assert.equal(await settle(world.archive.fetch(clip, { signal }), world), undefined);
  });

  type Call = (world: ArchiveWorld, signal: AbortSignal, clip: ArchivedClip) => Promise<unknown>;
  const calls: Readonly<Record<"list" | "fetch", Call>> = {
    list: ({ archive, clock }, signal) =>
      archive.list({ from: new Date(clock.now() - HOUR_MS / 2), signal }),
    fetch: ({ archive }, signal, clip) => archive.fetch(clip, { signal }),
  };
  for (const call of ["list", "fetch"] as const) {
    test(`${call} with a signal that is aborted already rejects with its reason`, async (world) => {
      const clip = await piece(world);
      const reason = new Error("enough");
      const before = world.requests;
      await assert.rejects(
        calls[call](world, AbortSignal.abort(reason), clip),
        (error) => error === reason,
      );
      assert.equal(world.requests, before);
    });

    test(`${call}: an abort while no answer comes rejects with its reason`, async (world) => {
      const clip = await piece(world);
      world.hang();
      const stop = new AbortController();
      const reason = new Error("enough");
      const rejected = assert.rejects(
        calls[call](world, stop.signal, clip),
        (error) => error === reason,
      );
      await world.clock.advance(50);
      stop.abort(reason);
      await settle(rejected, world);
    });

    test(`${call}: an answer that never comes is given up within five minutes`, async (world) => {
      const clip = await piece(world);
      const startMs = world.clock.monotonic();
      world.hang();
      const error = await failureOf(calls[call](world, signal, clip), world, 1000);
      assert.equal(sourceErrorKind(error), "offline");
      assert.ok(world.clock.monotonic() - startMs <= 300_000);
    });

    test(`${call}: what goes wrong is a source error, after one try`, async (world) => {
      const clip = await piece(world);
      for (const way of ["error", "cut"] as const) {
        world.fail(way);
        const before = world.requests;
        const error = await failureOf(calls[call](world, signal, clip), world);
        assert.ok(error instanceof Error && "sourceErrorKind" in error, String(error));
        assert.ok(error.message.length > 10);
        assert.equal(world.requests, before + 1);
      }
      await settle(calls[call](world, signal, clip), world);
    });
  }
}

async function failureOf(
  promise: PromiseLike<unknown>,
  world: ArchiveWorld,
  stepMs?: number,
): Promise<unknown> {
  const answer = promise.then(() => undefined, (error: unknown) => error);
  const error = await settle(answer, world, stepMs);
  assert.ok(error !== undefined, "expected it to fail, but it did not");
  return error;
}

/** Lets fake time run until the promise is settled; the network goes at its own, real pace. */
async function settle<T>(
  promise: PromiseLike<T>,
  { clock }: ArchiveWorld,
  stepMs = 1,
): Promise<T> {
  let waiting = true;
  promise.then(() => waiting = false, () => waiting = false);
  for (let step = 0; waiting; step++) {
    assert.ok(step < 60_000, "nothing came of it");
    await clock.advance(stepMs);
  }
  return await promise;
}
