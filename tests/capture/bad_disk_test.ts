/**
 * A recorder and a real spool over a disk that is slow, faulty, read-only or out of handles; the disk
 * is in memory and its delays are those of a clock that the test moves.
 *
 * @module
 */
import assert from "node:assert/strict";
import { recordCamera } from "../../core/capture/recorder.ts";
import { Catalogue } from "../../core/spool/catalogue.ts";
import type { SpoolFile, SpoolFs } from "../../core/spool/fs.ts";
import { openSpool } from "../../core/spool/mod.ts";
import type { Clock } from "../../core/types.ts";
import { createFakeCamera, recorderOptions, VIDEO_TRACK } from "../support/capture_fakes.ts";
import { CrashFs } from "../support/crash_fs.ts";
import { createFakeClock, type FakeClock } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { recoverToyClip } from "../support/toy_clip.ts";

/** What a disk does to whoever uses it. */
interface Fault {
  /** Every write and every sync takes so long. */
  delayMs: number;
  /** Every opening and every write fails with this. */
  code?: string;
}

function faultyFs(fs: SpoolFs, { fault, clock }: { fault: Fault; clock: Clock }): SpoolFs {
  const suffer = async () => {
    if (fault.delayMs > 0) await clock.sleep(fault.delayMs);
    if (fault.code) {
      throw Object.assign(new Error(`${fault.code}: made up`), { code: fault.code });
    }
  };
  const wrap = (file: SpoolFile): SpoolFile => ({
    read: (into, atByte) => file.read(into, atByte),
    truncate: (sizeBytes) => file.truncate(sizeBytes),
    close: () => file.close(),
    setDirect: (isOn) => file.setDirect?.(isOn) ?? false,
    write: async (bytes, atByte) => {
      await suffer();
      return await file.write(bytes, atByte);
    },
    sync: async () => {
      await suffer();
      await file.sync();
    },
  });
  const methods: SpoolFs = {
    open: async (path, mode) => {
      if (fault.code) await suffer();
      return wrap(await fs.open(path, mode));
    },
    makeFolder: (path) => fs.makeFolder(path),
    list: (path) => fs.list(path),
    sizeOf: (path) => fs.sizeOf(path),
    rename: (from, to) => fs.rename(from, to),
    remove: (path) => fs.remove(path),
    removeFolder: (path) => fs.removeFolder(path),
    syncFolder: (path) => fs.syncFolder(path),
    space: (path) => fs.space(path),
    lock: (path) => fs.lock(path),
  };
  return methods;
}

const FPS = 20;

async function record(
  work: (at: {
    readonly clock: FakeClock;
    readonly fault: Fault;
    /** A coded stream of a key unit a second. */
    readonly shoot: (forMs: number) => Promise<void>;
    readonly status: ReturnType<typeof recorderOptions>["status"];
    readonly lines: readonly string[];
  }) => Promise<void>,
): Promise<{ frames: number }> {
  const clock = createFakeClock();
  const fault: Fault = { delayMs: 0 };
  await using spool = await openSpool({
    path: "/spool",
    clock,
    log: { debug() {}, info() {}, warn() {}, error() {} },
    sinks: [],
    recover: recoverToyClip,
    fs: faultyFs(new CrashFs(seededRandom(1)).mount(), { fault, clock }),
    openCatalogue: () => new Catalogue(":memory:"),
  });
  const camera = createFakeCamera(clock, [VIDEO_TRACK]);
  const options = recorderOptions(clock, { source: camera, spool });
  const stop = new AbortController();
  const running = recordCamera(options, stop.signal);
  let shot = 0;
  await work({
    clock,
    fault,
    status: options.status,
    lines: options.log.lines,
    async shoot(forMs) {
      for (let ms = 0; ms < forMs; ms += 1000 / FPS) {
        camera.picture({ isKey: shot++ % FPS === 0 });
        await clock.advance(1000 / FPS);
      }
    },
  });
  stop.abort(new DOMException("stopped", "AbortError"));
  for (let step = 0; step < 100; step++) await clock.advance(100);
  await running;
  const clips = spool.list();
  assert.ok(clips.every(({ state, end, start }) => state === "here" && end >= start));
  return { frames: clips.reduce((sum, clip) => sum + (clip.frames ?? 0), 0) };
}

Deno.test("a disk that takes 200 ms for every write and every sync costs no picture", async () => {
  let captured = 0;
  const { frames } = await record(async ({ fault, shoot, status, lines }) => {
    fault.delayMs = 200;
    await shoot(60_000);
    captured = status.framesCaptured;
    assert.equal(status.framesDropped, 0);
    assert.equal(status.gaps.count, 0);
    assert.ok(lines.every((line) => !/^(warn|error)/.test(line)));
  });
  assert.ok(captured >= 60 * FPS - 1);
  assert.equal(frames, captured);
});

for (const code of ["EIO", "EROFS", "EMFILE"]) {
  Deno.test(`a disk that answers ${code} for a while is one gap, told once, and over in ten seconds`, async () => {
    await record(async ({ fault, shoot, status, lines }) => {
      await shoot(15_000);
      fault.code = code;
      await shoot(40_000);
      assert.equal(status.state, "waiting");
      delete fault.code;
      await shoot(10_000);
      assert.equal(status.state, "recording");
      assert.equal(status.gaps.count, 1);
      assert.equal(lines.filter((line) => /^warn not recording/.test(line)).length, 1);
      assert.equal(lines.filter((line) => /recording again after/.test(line)).length, 1);
      assert.ok(lines.some((line) => line.includes(code)), "the fault is not named");
    });
  });
}
