/**
 * Bringing a maker's recordings into the spool, through everything that happens on the way.
 *
 * @module
 */
import assert from "node:assert/strict";
import { archiveCamera } from "../../core/capture/archiver.ts";
import { spoolError } from "../../core/spool/errors.ts";
import { type Archive, type ArchivedClip, sourceError } from "../../core/types.ts";
import { createMemorySpool, createNotes, newStatus } from "../support/capture_fakes.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { readFixture } from "../support/media_samples.ts";

const HOUR_MS = 3_600_000;
const FILE = readFixture("h264_larger.mp4");

/** A camera with an archive that does as a test says; `agoMs` are recordings that are there at first. */
function start(...agoMs: readonly number[]) {
  const clock = createFakeClock();
  const pieces: ArchivedClip[] = [];
  const see = (agoMs: number) => {
    const startMs = clock.now() - agoMs;
    pieces.push({ start: new Date(startMs), end: new Date(startMs + 20_000) });
  };
  agoMs.forEach(see);
  const asked: { from: Date }[] = [];
  const fetched: string[] = [];
  const behaviour: {
    listError?: unknown;
    file: (clip: ArchivedClip) => Uint8Array | undefined;
  } = { file: () => FILE };
  const archive: Archive = {
    historyMs: 3 * HOUR_MS,
    list({ from }) {
      asked.push({ from });
      if (behaviour.listError !== undefined) return Promise.reject(behaviour.listError);
      return Promise.resolve(pieces.filter(({ start }) => start >= from));
    },
    fetch(clip) {
      fetched.push(clip.start.toISOString());
      return Promise.resolve(behaviour.file(clip));
    },
  };
  const spool = createMemorySpool();
  const status = newStatus();
  const log = createNotes();
  const stop = new AbortController();
  const running = archiveCamera({
    ...{ camera: "Yard", slug: "yard", archive, spool, status, clock, log },
    random: () => 0.5,
  }, stop.signal);
  return {
    ...{ clock, pieces, asked, fetched, behaviour, spool, status, lines: log.lines },
    see,
    async stop() {
      stop.abort(new DOMException("stopped", "AbortError"));
      await running;
    },
  };
}

Deno.test("every recording becomes a finished clip with its own times, once", async () => {
  const home = start(2 * HOUR_MS, HOUR_MS);
  await home.clock.advance(1000);
  home.see(0);
  await home.clock.advance(600_000);
  assert.deepEqual(
    home.spool.finished.map(({ start, end }) => [start, end?.end]),
    home.pieces.map(({ start, end }) => [start, end]),
  );
  assert.equal(home.fetched.length, 3);
  assert.ok(home.spool.finished.every(({ bytes }) => bytes.length === FILE.length));
  assert.equal(home.status.clipsFinished, 3);
  assert.equal(home.status.state, "recording");
  assert.equal(home.status.framesRecorded, home.status.framesCaptured);
  await home.stop();
  assert.equal(home.status.state, "stopped");
});

Deno.test("the archive is asked for all that it reaches back at first, and then for an hour", async () => {
  const home = start();
  await home.clock.advance(240_000);
  const agoMs = home.asked.map(({ from }, index) =>
    home.clock.now() - 240_000 + index * 120_000 - from.getTime()
  );
  assert.deepEqual(agoMs, [3 * HOUR_MS, HOUR_MS + 120_000, HOUR_MS + 120_000]);
  await home.stop();
});

Deno.test("a recording that comes broken is fetched again, and after five times left out", async () => {
  const home = start(HOUR_MS, HOUR_MS / 2);
  const [bad] = home.pieces;
  home.behaviour.file = (clip) => clip === bad ? FILE.subarray(0, 900) : FILE;
  await home.clock.advance(3_000_000);
  assert.equal(home.spool.finished.length, 1);
  assert.equal(home.fetched.length, 6);
  assert.equal(home.lines.filter((line) => /^error .*5 times/.test(line)).length, 1);
  await home.stop();
});

Deno.test("a recording that is whole at the second try is kept, also when it is hours old", async () => {
  const home = start(2 * HOUR_MS);
  let tries = 0;
  home.behaviour.file = () => ++tries === 1 ? FILE.subarray(0, 900) : FILE;
  await home.clock.advance(130_000);
  assert.equal(home.spool.finished.length, 1);
  await home.stop();
});

Deno.test("a recording that left the archive is told of once and holds nothing up", async () => {
  const home = start(2 * HOUR_MS, HOUR_MS);
  const [gone] = home.pieces;
  home.behaviour.file = (clip) => clip === gone ? undefined : FILE;
  await home.clock.advance(600_000);
  assert.equal(home.spool.finished.length, 1);
  assert.equal(home.lines.filter((line) => /not in the archive any more/.test(line)).length, 1);
  await home.stop();
});

Deno.test("an archive that is away is one gap, and everything is caught up when it is back", async () => {
  const home = start();
  await home.clock.advance(1000);
  home.behaviour.listError = sourceError("offline", "no network");
  home.see(-600_000);
  home.see(-2 * HOUR_MS);
  await home.clock.advance(2.5 * HOUR_MS);
  assert.equal(home.status.state, "waiting");
  assert.match(home.status.reason ?? "", /no network/);
  delete home.behaviour.listError;
  await home.clock.advance(120_000);
  assert.equal(home.spool.finished.length, 2);
  assert.equal(home.status.gaps.count, 1);
  assert.equal(home.lines.filter((line) => /^warn cannot fetch/.test(line)).length, 1);
  assert.equal(home.lines.filter((line) => /answers again/.test(line)).length, 1);
  await home.stop();
});

Deno.test("a full spool costs nothing: what it refused is fetched again within seconds", async () => {
  const home = start(HOUR_MS);
  home.spool.fail = () => {
    throw spoolError("full", "the disk is full");
  };
  await home.clock.advance(60_000);
  assert.equal(home.spool.finished.length, 0);
  home.spool.fail = () => {};
  await home.clock.advance(6000);
  assert.equal(home.spool.finished.length, 1);
  await home.stop();
});
