/**
 * The contract of a source, as one suite that every kind passes: it opens, yields units in decode
 * order with a key unit first, ends quietly when it is told to, ends with its cause when the camera
 * is lost, and leaves nothing behind at whatever moment it is stopped. Deno's sanitizers watch for
 * what is left open; the fake clock, for timers.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { AccessUnit, Session, Source } from "../../core/types.ts";
import type { FakeClock } from "../support/fake_clock.ts";

/** A source, and the camera behind it. */
export interface SourceWorld extends AsyncDisposable {
  readonly source: Source;
  readonly clock: FakeClock;
  /** How much fake time may pass between two looks at the network, ms. Default 1. */
  readonly stepMs?: number;
  /**
   * Opening needs time to pass: how many steps of it are a moment. Without it, a turn of the event loop
   * is one, and no time passes.
   */
  readonly momentSteps?: number;
  /** Waits for what goes on after a session was closed, such as telling the cloud of it. */
  settle?(): Promise<void>;
  /** From now on the camera takes requests and never answers. */
  hang(): void;
  /** The camera is gone: unplugged, switched off. */
  lose(): void | Promise<void>;
}

/** Registers the suite for one kind of source. Each test makes a world of its own. */
export function testSource(name: string, createWorld: () => Promise<SourceWorld>): void {
  const test = (fact: string, run: (world: SourceWorld) => Promise<void>) =>
    Deno.test(`${name}: ${fact}`, async () => {
      const world = await createWorld();
      try {
        await run(world);
        await world.settle?.();
        await world.clock.advance(0); // the camera's side hears of the end
        assert.equal(world.clock.sleepers, 0, "timers are left behind");
      } finally {
        await world[Symbol.asyncDispose]();
      }
    });

  test("the first unit is key and belongs to a track", async (world) => {
    await using session = await open(world);
    const [first] = await pull(session, 1, world);
    assert.ok(first);
    assert.equal(first.isKey, true);
    assert.ok(session.tracks.some(({ id }) => id === first.trackId));
    assert.ok(first.data.length > 0);
    await session[Symbol.asyncDispose]();
  });

  test("times go up in decode order, and wall time labels the present", async (world) => {
    await using session = await open(world);
    const units = await pull(session, 10, world);
    assert.equal(units.length, 10);
    const last = new Map<number, AccessUnit>();
    for (const unit of units) {
      const before = last.get(unit.trackId);
      last.set(unit.trackId, unit);
      assert.ok(Number.isInteger(unit.ptsUs) && unit.ptsUs >= unit.dtsUs);
      if (before) {
        assert.ok(unit.dtsUs > before.dtsUs, `${unit.dtsUs} after ${before.dtsUs}`);
        assert.ok(unit.capturedAtMs >= before.capturedAtMs);
      }
      assert.ok(Math.abs(unit.capturedAtMs - world.clock.now()) < 60_000);
    }
    await session[Symbol.asyncDispose]();
  });

  test("a jump of wall time does not touch media time", async (world) => {
    await using session = await open(world);
    const [before] = await pull(session, 1, world);
    world.clock.jump(-3_600_000);
    const [after] = await pull(session, 1, world);
    // Sound may begin with the very moment of the first picture.
    assert.ok(before && after && after.dtsUs >= before.dtsUs);
    assert.ok(after.dtsUs - before.dtsUs < 60_000_000);
    await session[Symbol.asyncDispose]();
  });

  test("leaving the loop ends the session", async (world) => {
    const session = await open(world);
    for await (const _unit of session) break;
    assert.deepEqual(await pull(session, 1, world), []);
    await session[Symbol.asyncDispose]();
  });

  test("disposing ends a wait for the next unit quietly, and may be done twice", async (world) => {
    const session = await open(world);
    await pull(session, 2, world);
    world.hang();
    const rest = collect(session);
    await world.clock.advance(100);
    await settle(session[Symbol.asyncDispose](), world);
    await session[Symbol.asyncDispose]();
    assert.ok(Array.isArray(await rest));
  });

  test("disposing before the first unit was pulled leaves nothing behind", async (world) => {
    const session = await open(world);
    await session[Symbol.asyncDispose]();
    assert.deepEqual(await pull(session, 1, world), []);
  });

  test("opening with a signal that is aborted already rejects with its reason", async ({ source }) => {
    const reason = new Error("enough");
    await assert.rejects(source.open({ signal: AbortSignal.abort(reason) }), isSame(reason));
  });

  test("an abort while the camera does not answer rejects with its reason", async (world) => {
    world.hang();
    const stop = new AbortController();
    const reason = new Error("enough");
    const opening = assert.rejects(world.source.open({ signal: stop.signal }), isSame(reason));
    await world.clock.advance(50);
    stop.abort(reason);
    await settle(opening, world);
  });

  test("an abort at any moment of opening rejects with its reason or opens a session that ends quietly", async (world) => {
    let opened = false;
    for (let moment = 0; moment < 400 && !opened; moment++) {
      const stop = new AbortController();
      const reason = new Error("enough");
      const opening = world.source.open({ signal: stop.signal });
      opening.catch(() => {});
      // Each turn of the event loop is a moment; the later ones are further apart.
      const { clock, stepMs = 1, momentSteps } = world;
      const turns = (moment + moment * moment / 100) * (momentSteps ?? 1);
      for (let turn = 0; turn < turns; turn++) {
        if (momentSteps === undefined) await new Promise((resolve) => setImmediate(resolve));
        else await clock.advance(stepMs);
      }
      // Some open only when time passes: with the camera's next picture.
      if (moment > 100) await world.clock.advance(moment - 100);
      stop.abort(reason);
      const result = await settle(
        opening.then((session) => ({ session }), (error: unknown) => ({ error })),
        world,
      );
      if ("error" in result) {
        assert.equal(result.error, reason);
        continue;
      }
      opened = true;
      await settle(collect(result.session), world);
      await result.session[Symbol.asyncDispose]();
    }
    assert.ok(opened, "never got as far as an open session");
  });

  test("an abort in mid-session ends it quietly", async (world) => {
    for (const waitMs of [0, 1, 5, 20, 50]) {
      const stop = new AbortController();
      const session = await settle(world.source.open({ signal: stop.signal }), world);
      await pull(session, 2, world);
      const rest = collect(session);
      await world.clock.advance(waitMs);
      stop.abort(new Error("enough"));
      assert.ok(Array.isArray(await settle(rest, world)));
      await session[Symbol.asyncDispose]();
    }
  });

  test("a lost camera ends the session with its cause", async (world) => {
    const session = await open(world);
    await pull(session, 2, world);
    await world.lose();
    const error = await settle(collect(session).then(() => undefined, (error) => error), world);
    assert.ok(error instanceof Error, "it ended without a cause");
    assert.ok("sourceErrorKind" in error, `not a source error: ${error}`);
    assert.ok(error.message.length > 10);
    await session[Symbol.asyncDispose]();
  });

  test("a camera that falls silent ends the session within 11 s", async (world) => {
    const session = await open(world);
    await pull(session, 2, world);
    world.hang();
    const startMs = world.clock.monotonic();
    const error = await settle(collect(session).then(() => undefined, (error) => error), {
      ...world,
      stepMs: 50,
    });
    assert.ok(error instanceof Error && "sourceErrorKind" in error, String(error));
    assert.ok(world.clock.monotonic() - startMs <= 11_000);
    await session[Symbol.asyncDispose]();
  });

  test("a source can be opened again and again, but not while its camera is away", async (world) => {
    await using session = await open(world);
    await session[Symbol.asyncDispose]();
    await using again = await open(world);
    assert.equal((await pull(again, 2, world)).length, 2);
    await again[Symbol.asyncDispose]();
    await world.lose();
    const { signal } = new AbortController();
    const error = await settle(
      world.source.open({ signal }).then(() => undefined, (error) => error),
      world,
    );
    assert.ok(error instanceof Error && "sourceErrorKind" in error, String(error));
  });
}

const isSame = (reason: unknown) => (error: unknown) => error === reason;

function open(world: SourceWorld): Promise<Session> {
  return settle(world.source.open({ signal: new AbortController().signal }), world);
}

/** Everything that is still to come. */
async function collect(session: Session): Promise<AccessUnit[]> {
  const units: AccessUnit[] = [];
  for await (const unit of session) units.push(unit);
  return units;
}

/** The next units; fewer if it ends. */
async function pull(session: Session, count: number, world: SourceWorld): Promise<AccessUnit[]> {
  const iterator = session[Symbol.asyncIterator]();
  const units: AccessUnit[] = [];
  while (units.length < count) {
    const { done, value } = await settle(iterator.next(), world);
    if (done) break;
    units.push(value);
  }
  return units;
}

/** Lets fake time run until the promise is settled; the network goes at its own, real pace. */
async function settle<T>(promise: PromiseLike<T>, { clock, stepMs = 1 }: SourceWorld): Promise<T> {
  let waiting = true;
  promise.then(() => waiting = false, () => waiting = false);
  for (let step = 0; waiting; step++) {
    assert.ok(step < 60_000, "nothing came of it");
    await clock.advance(stepMs);
  }
  return await promise;
}
