/**
 * Recording one camera through everything that happens to it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { gopLengthMs, recordCamera, type RecorderOptions } from "../../core/capture/recorder.ts";
import { spoolError } from "../../core/spool/errors.ts";
import { type AccessUnit, type CameraEvent, type Encoder, sourceError } from "../../core/types.ts";
import {
  createFakeCamera,
  createMemorySpool,
  JPEG_TRACK,
  recorderOptions,
  relabel,
  SOUND_TRACK,
  VIDEO_TRACK,
} from "../support/capture_fakes.ts";
import { demuxWithMp4box } from "../support/media_samples.ts";
import { createFakeClock, type FakeClock } from "../support/fake_clock.ts";

type Camera = ReturnType<typeof createFakeCamera>;

/** A camera that is being recorded. `tracks` are the camera's. */
function start(
  more: Partial<RecorderOptions> & { tracks?: Camera["tracks"]; deaf?: boolean } = {},
) {
  const clock = createFakeClock();
  const camera = createFakeCamera(clock, more.tracks);
  camera.deaf = more.deaf ?? false;
  const spool = createMemorySpool();
  const options = recorderOptions(clock, { source: camera, spool, ...more });
  const stop = new AbortController();
  let ended = false;
  const running = recordCamera(options, stop.signal).finally(() => ended = true);
  return {
    ...{ clock, camera, spool, stop, running },
    status: options.status,
    lines: options.log.lines,
    get ended() {
      return ended;
    },
  };
}

/** Feeds two pictures a second. */
async function shoot(
  { clock, camera }: { clock: FakeClock; camera: Camera },
  { forMs, unit }: { forMs: number; unit?: Partial<AccessUnit> },
): Promise<void> {
  for (let ms = 0; ms < forMs; ms += 500) {
    camera.picture(unit);
    await clock.advance(500);
  }
}

const count = (lines: readonly string[], what: RegExp) =>
  lines.filter((line) => what.test(line)).length;

/** Stops it; gives the time that it took, ms. */
async function stopped(recording: ReturnType<typeof start>): Promise<number> {
  const fromMs = recording.clock.monotonic();
  recording.stop.abort(new DOMException("stopped", "AbortError"));
  for (let step = 0; step < 100 && !recording.ended; step++) await recording.clock.advance(100);
  assert.ok(recording.ended, "recording has not ended after ten seconds");
  await recording.running;
  return recording.clock.monotonic() - fromMs;
}

Deno.test("every picture of a camera is on the spool when recording has been stopped", async () => {
  const recording = start();
  await shoot(recording, { forMs: 25_000 });
  assert.ok(await stopped(recording) <= 500);
  const { spool, status } = recording;
  assert.equal(status.framesCaptured, 50);
  assert.equal(status.framesRecorded, 50);
  assert.equal(spool.finished.reduce((sum, { end }) => sum + (end?.frames ?? 0), 0), 50);
  assert.equal(spool.finished.length, spool.clips.length);
  assert.equal(status.state, "stopped");
  assert.deepEqual(status.gaps, { count: 0, totalMs: 0 });
});

Deno.test("stopping a camera that has not answered yet is quiet and no gap", async () => {
  const recording = start();
  assert.ok(await stopped(recording) <= 500);
  assert.equal(recording.status.gaps.count, 0);
  assert.equal(count(recording.lines, /^(warn|error)/), 0);
});

Deno.test("a source that throws its own error when it is stopped does not make a gap", async () => {
  const clock = createFakeClock();
  const stop = new AbortController();
  const options = recorderOptions(clock, {
    source: {
      open: ({ signal }) =>
        new Promise((_, reject) =>
          signal.addEventListener("abort", () => reject(new TypeError("connection closed")))
        ),
    },
  });
  const running = recordCamera(options, stop.signal);
  await clock.advance(100);
  stop.abort(new DOMException("stopped", "AbortError"));
  await clock.advance(1000);
  await running;
  assert.equal(options.status.gaps.count, 0);
  assert.deepEqual(options.log.lines, []);
});

Deno.test("a camera that answers nothing and heeds no signal does not hold up the end", async () => {
  const recording = start({ deaf: true });
  await recording.clock.advance(100);
  assert.ok(await stopped(recording) <= 1000);
});

Deno.test("a session that does not heed the end is left behind, with its clip finished", async () => {
  const recording = start();
  await shoot(recording, { forMs: 5000 });
  recording.camera.deaf = true;
  assert.ok(await stopped(recording) <= 1500);
  assert.equal(recording.spool.finished.length, 1);
  assert.equal(recording.status.framesRecorded, 10);
});

Deno.test("a camera that is never open in time is opened again", async () => {
  const recording = start({ deaf: true });
  await recording.clock.advance(60_000);
  recording.camera.deaf = false;
  while (!recording.camera.isOpen) await recording.clock.advance(500);
  assert.ok(recording.camera.opens >= 3, `${recording.camera.opens}`);
  await shoot(recording, { forMs: 2000 });
  assert.equal(recording.status.state, "recording");
  await stopped(recording);
});

Deno.test("pictures that are missing in the midst of a session are a gap, and said", async () => {
  const recording = start({ tracks: [VIDEO_TRACK] });
  await shoot(recording, { forMs: 5000 });
  await recording.clock.advance(6000);
  await shoot(recording, { forMs: 5000 });
  const { status, lines, camera } = recording;
  assert.equal(camera.opens, 1);
  assert.deepEqual(status.gaps, { count: 1, totalMs: 6000 });
  assert.equal(count(lines, /^warn no picture for 6\.0 s/), 1, lines.join("\n"));
  assert.equal(status.state, "recording");
  await stopped(recording);
});

Deno.test("pictures that come late, all of them, are no gap", async () => {
  const recording = start({ tracks: [VIDEO_TRACK] });
  await shoot(recording, { forMs: 5000 });
  const fromMs = recording.clock.monotonic();
  await recording.clock.advance(6000);
  for (let ms = 0; ms <= 6000; ms += 500) {
    const us = (fromMs + ms) * 1000;
    recording.camera.picture({ ptsUs: us, dtsUs: us });
  }
  await shoot(recording, { forMs: 5000 });
  await stopped(recording);
  assert.equal(recording.status.gaps.count, 0);
});

Deno.test("a camera that gives a picture now and then has no gaps", async () => {
  const recording = start({ tracks: [VIDEO_TRACK] });
  const { clock, camera, status } = recording;
  for (let pictures = 0; pictures < 20; pictures++) {
    camera.picture();
    await clock.advance(5000);
  }
  assert.equal(status.gaps.count, 0);
  // One that had more is missed a few times.
  await shoot(recording, { forMs: 10_000 });
  for (let pictures = 0; pictures < 40; pictures++) {
    camera.picture();
    await clock.advance(5000);
  }
  assert.ok(status.gaps.count >= 1 && status.gaps.count < 10, `${status.gaps.count}`);
  await stopped(recording);
});

Deno.test("a silent camera is noticed within ten seconds, and its gap counts from the last picture", async () => {
  const recording = start();
  await shoot(recording, { forMs: 5000 });
  const { clock, status, camera, lines } = recording;
  await clock.advance(9600);
  assert.equal(status.state, "waiting");
  assert.match(status.reason ?? "", /no picture for 10 s/);
  await clock.advance(2000);
  assert.equal(camera.opens, 2);
  await shoot(recording, { forMs: 3000 });
  assert.equal(status.state, "recording");
  assert.equal(status.gaps.count, 1);
  // The last picture came at 4.5 s, the next one at 16.6 s.
  assert.equal(status.gaps.totalMs, 12_100);
  assert.equal(count(lines, /^warn not recording/), 1);
  assert.equal(count(lines, /recording again after 12.1 s/), 1);
  await stopped(recording);
});

Deno.test("sound without pictures is silence", async () => {
  const recording = start({ tracks: [VIDEO_TRACK, SOUND_TRACK] });
  await shoot(recording, { forMs: 2000 });
  await shoot(recording, { forMs: 12_000, unit: { trackId: 2 } });
  assert.equal(recording.status.gaps.count, 1);
  await stopped(recording);
});

Deno.test("a camera of JPEGs with sound has both in its clips, whatever its encoder holds back", async () => {
  const encoder = () => {
    // Gives a picture only when the next three are in.
    const held: AccessUnit[] = [];
    const slow: Encoder = {
      async *encode(units: AsyncIterable<AccessUnit>) {
        for await (const unit of units) {
          assert.equal(unit.trackId, 1, "no sound goes through the encoder");
          held.push(held.length === 0 ? { ...unit, track: VIDEO_TRACK } : unit);
          if (held.length > 3) yield held[held.length - 4] as AccessUnit;
        }
        yield* held.slice(-3);
      },
    };
    return Promise.resolve(slow);
  };
  const recording = start({ tracks: [JPEG_TRACK, SOUND_TRACK], encoder });
  const sound = { trackId: 2, data: Uint8Array.of(7) };
  for (let n = 0; n < 50; n++) {
    recording.camera.picture();
    recording.camera.picture(sound);
    await recording.clock.advance(500);
  }
  await stopped(recording);
  const clips = recording.spool.finished.map(({ bytes }) => demuxWithMp4box(bytes).tracks);
  for (const id of [1, 2]) {
    assert.equal(clips.reduce((sum, tracks) => sum + (tracks.get(id)?.length ?? 0), 0), 50);
  }
  for (const tracks of clips) {
    assert.equal(tracks.get(1)?.[0]?.ptsTicks, 0);
    assert.equal(tracks.get(2)?.[0]?.ptsTicks, 0);
  }
});

Deno.test("a camera that is away is tried again for ever, ever less often, and that is one gap", async () => {
  const recording = start();
  const { clock, camera, status, lines } = recording;
  await shoot(recording, { forMs: 2000 });
  camera.openError = sourceError("offline", "no route");
  camera.end(sourceError("offline", "connection lost"));
  await clock.advance(3_600_000);
  assert.ok(camera.opens > 60 && camera.opens < 140, `${camera.opens} tries in an hour`);
  camera.openError = undefined;
  await clock.advance(60_000);
  await shoot(recording, { forMs: 2000 });
  assert.equal(status.gaps.count, 1);
  assert.equal(count(lines, /^warn/), 1);
  assert.equal(count(lines, /recording again/), 1);
  assert.equal(recording.spool.finished.length, 1);
  await stopped(recording);
});

Deno.test("after a session that recorded, the next one is tried within a second", async () => {
  const recording = start();
  for (let time = 0; time < 5; time++) {
    await shoot(recording, { forMs: 7000 });
    recording.camera.end(sourceError("offline", "connection lost"));
    await recording.clock.advance(1000);
  }
  assert.equal(recording.camera.opens, 6);
  await stopped(recording);
});

Deno.test("a camera that ends its sessions before the first picture is not asked in a loop", async () => {
  const clock = createFakeClock();
  const stop = new AbortController();
  let opens = 0;
  const options = recorderOptions(clock, {
    source: {
      open: () => {
        opens++;
        return Promise.resolve({
          tracks: [JPEG_TRACK],
          async *[Symbol.asyncIterator]() {},
          [Symbol.asyncDispose]: () => Promise.resolve(),
        });
      },
    },
  });
  const running = recordCamera(options, stop.signal);
  await clock.advance(60_000);
  assert.ok(opens >= 4 && opens <= 10, `${opens} tries in a minute`);
  assert.equal(options.status.gaps.count, 1);
  stop.abort();
  await clock.advance(1000);
  await running;
});

Deno.test("a pause that the camera asks for is kept", async () => {
  const recording = start();
  recording.camera.openError = sourceError("rate", "too often", { retryAfterMs: 50_000 });
  recording.camera.end(recording.camera.openError);
  await recording.clock.advance(49_000);
  assert.equal(recording.camera.opens, 1);
  await recording.clock.advance(2000);
  assert.equal(recording.camera.opens, 2);
  await stopped(recording);
});

for (
  const [when, encode] of [
    ["at once", () => {
      throw new Error("no memory for the encoder");
    }],
    ["later", async function* (units: AsyncIterable<AccessUnit>) {
      for await (const _ of units) throw new Error("no memory for the encoder");
      yield* [];
    }],
  ] satisfies readonly (readonly [string, Encoder["encode"]])[]
) {
  Deno.test(`an encoder that throws ${when} is told as a gap, and the session is closed`, async () => {
    const recording = start({ encoder: () => Promise.resolve({ encode }) });
    await shoot(recording, { forMs: 500 });
    assert.equal(recording.status.state, "waiting");
    assert.match(recording.status.reason ?? "", /no memory/);
    assert.equal(recording.camera.isOpen, false);
    await stopped(recording);
  });
}

Deno.test("a picture is asked for only when there is an encoder, and coded video needs none", async () => {
  const opening = Promise.withResolvers<Encoder>();
  let opened = 0;
  const encoder = () => {
    opened++;
    return opening.promise;
  };
  const coded = start({ encoder, tracks: [VIDEO_TRACK] });
  await shoot(coded, { forMs: 1000 });
  assert.equal(coded.status.state, "recording");
  assert.equal(opened, 0);
  await stopped(coded);
  const recording = start({ encoder });
  await shoot(recording, { forMs: 3000 });
  assert.equal(opened, 1);
  assert.equal(recording.status.framesCaptured, 0);
  opening.resolve(relabel);
  await shoot(recording, { forMs: 1000 });
  assert.equal(recording.status.state, "recording");
  assert.equal(recording.status.framesDropped, 0);
  await stopped(recording);
});

Deno.test("an encoder that cannot be opened is told as a gap, and is tried again", async () => {
  let tries = 0;
  const encoder = () =>
    ++tries === 1
      ? Promise.reject<Encoder>(new Error("no encoder that works"))
      : Promise.resolve(relabel);
  const recording = start({ encoder });
  await shoot(recording, { forMs: 200 });
  assert.match(recording.status.reason ?? "", /no encoder that works/);
  assert.equal(recording.camera.isOpen, false);
  await shoot(recording, { forMs: 5000 });
  assert.equal(recording.status.state, "recording");
  assert.equal(recording.status.gaps.count, 1);
  await stopped(recording);
});

Deno.test("a stop while an encoder is opened ends the recording and closes the session", async () => {
  const recording = start({ encoder: () => new Promise(() => {}) });
  await shoot(recording, { forMs: 200 });
  await stopped(recording);
  assert.equal(recording.camera.isOpen, false);
  assert.equal(count(recording.lines, /^error/), 0);
});

Deno.test("an encoder that ends before the camera does is told as a gap", async () => {
  const recording = start({
    encoder: () =>
      Promise.resolve({
        async *encode() {},
      }),
  });
  await shoot(recording, { forMs: 1000 });
  assert.match(recording.status.reason ?? "", /encoder ended/);
  await stopped(recording);
});

Deno.test("pictures that were inside an encoder that failed are counted as dropped, once", async () => {
  const encoder = () =>
    Promise.resolve<Encoder>({
      async *encode(units, { onLost }) {
        let taken = 0;
        for await (const unit of units) {
          if (++taken === 1) yield { ...unit, track: VIDEO_TRACK };
          if (taken === 2) onLost?.(1, new Error("not a JPEG"));
          if (taken === 4) throw new Error("no memory for the encoder");
        }
      },
    });
  const recording = start({ encoder });
  await shoot(recording, { forMs: 2000 });
  await stopped(recording);
  const { framesCaptured, framesRecorded, framesDropped } = recording.status;
  assert.deepEqual([framesCaptured, framesRecorded, framesDropped], [4, 1, 3]);
});

for (const [can, dropped] of [[true, 0], [false, 2]] as const) {
  const fate = can ? "kept for the next start" : "counted as dropped where they cannot be kept";
  Deno.test(`an encoder that never finishes is left behind within five seconds, its pictures ${fate}`, async () => {
    const recording = start({
      encoder: () =>
        Promise.resolve({
          async *encode(units) {
            for await (const _ of units);
            await new Promise(() => {});
            yield* [];
          },
        }),
    });
    const { status, spool, lines } = recording;
    if (!can) {
      spool.journal = () => ({
        append: () => Promise.reject(new Error("the disk is full")),
        settle: () => Promise.resolve(),
        end: () => Promise.resolve(),
      });
    }
    await shoot(recording, { forMs: 1000 });
    assert.ok(await stopped(recording) <= 5000);
    assert.equal(count(lines, /^warn the encoder did not finish/), 1);
    const { framesCaptured, framesRecorded, framesDropped } = status;
    assert.deepEqual([framesCaptured, framesRecorded, framesDropped], [2, 0, dropped]);
    assert.equal(spool.journals.flatMap(({ pictures }) => pictures).length, can ? 2 : 0);
  });
}

Deno.test("recording goes on within ten seconds after a full spool has room again, as one gap", async () => {
  const recording = start();
  const { spool, status, lines } = recording;
  await shoot(recording, { forMs: 5000 });
  spool.fail = (operation) => {
    if (operation !== "finish") throw spoolError("full", "the disk is full");
  };
  await shoot(recording, { forMs: 60_000 });
  assert.equal(status.state, "waiting");
  assert.match(status.reason ?? "", /the disk is full/);
  spool.fail = () => {};
  const before = status.framesRecorded;
  await shoot(recording, { forMs: 10_000 });
  assert.equal(status.state, "recording");
  assert.ok(status.framesRecorded > before);
  assert.equal(status.gaps.count, 1);
  assert.equal(count(lines, /^warn not recording/), 1);
  await stopped(recording);
  assert.ok(spool.finished.every(({ end }) => (end?.frames ?? 0) > 0));
});

Deno.test("a disk that takes a header and no pictures does not look like recording", async () => {
  const recording = start();
  recording.spool.fail = (operation, clip) => {
    if (operation === "append" && clip.bytes.length > 0) throw spoolError("full", "full");
  };
  await shoot(recording, { forMs: 30_000 });
  assert.equal(recording.status.gaps.count, 1);
  assert.equal(count(recording.lines, /recording again/), 0);
  await stopped(recording);
});

Deno.test("a wall clock that jumps an hour makes no gap and loses no picture", async () => {
  const recording = start();
  for (const jumpMs of [3_600_000, -3_600_000]) {
    await shoot(recording, { forMs: 13_000 });
    recording.clock.jump(jumpMs);
  }
  await shoot(recording, { forMs: 13_000 });
  await stopped(recording);
  const { spool, status } = recording;
  assert.equal(status.gaps.count, 0);
  assert.equal(status.framesRecorded, 78);
  assert.equal(new Set(spool.clips.map(({ key }) => key)).size, spool.clips.length);
  const lengthMs = spool.finished.reduce(
    (sum, { start, end }) => sum + (end?.end.getTime() ?? NaN) - start.getTime(),
    0,
  );
  assert.equal(lengthMs, 39_000);
});

Deno.test("a camera that its account no longer has is not tried again", async () => {
  const recording = start();
  recording.camera.openError = sourceError("gone", "no longer in its account");
  recording.camera.end(recording.camera.openError);
  await recording.clock.advance(600_000);
  await recording.running;
  assert.equal(recording.status.state, "stopped");
});

Deno.test("a camera without pictures is told so", async () => {
  const recording = start({ tracks: [SOUND_TRACK] });
  await recording.clock.advance(100);
  assert.match(recording.status.reason ?? "", /no video/);
  assert.equal(recording.camera.isOpen, false);
  await stopped(recording);
});

Deno.test("GOPs are at most two seconds long and divide the clip", () => {
  assert.deepEqual([10_000, 60_000, 15_000, 1000].map(gopLengthMs), [2000, 2000, 1875, 1000]);
});

Deno.test("a camera recorded around events has a clip for each, and none between", async () => {
  const told = Promise.withResolvers<void>();
  let note = (_: CameraEvent) => {};
  const recording = start({
    clipMs: 60_000,
    events: {
      plan: { beforeMs: 5000, afterMs: 10_000 },
      async *listen({ signal }) {
        const queue: CameraEvent[] = [];
        let wake = () => {};
        note = (event) => {
          queue.push(event);
          wake();
        };
        told.resolve();
        while (!signal.aborted) {
          const event = queue.shift();
          if (event) yield event;
          else {
            await new Promise<void>((resolve) => {
              wake = resolve;
              signal.addEventListener("abort", () => resolve(), { once: true });
            });
          }
        }
      },
    },
  });
  await told.promise;
  const { clock, spool, status } = recording;
  for (let round = 0; round < 2; round++) {
    await shoot(recording, { forMs: 100_000 });
    note({ kind: "motion", startMs: clock.now() - 3000 });
  }
  await shoot(recording, { forMs: 100_000 });
  assert.equal(status.state, "recording");
  assert.equal(status.gaps.count, 0);
  assert.ok(await stopped(recording) <= 5000);
  assert.equal(spool.finished.length, 2);
  for (const { end } of spool.finished) assert.ok(Math.abs((end?.frames ?? 0) - 30) <= 2);
  assert.equal(status.framesRecorded, status.framesCaptured);
});

Deno.test("where events cannot be heard, everything is recorded, and that is said once and shown", async () => {
  let hasNetwork = false;
  const recording = start({
    clipMs: 60_000,
    events: {
      plan: { beforeMs: 5000, afterMs: 10_000 },
      // deno-lint-ignore require-yield
      async *listen({ signal }) {
        if (!hasNetwork) throw sourceError("offline", "no network");
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
      },
    },
  });
  const { status, lines } = recording;
  await shoot(recording, { forMs: 180_000 });
  assert.equal(status.eventsUnheard, "events cannot be heard (no network): everything is recorded");
  hasNetwork = true;
  await shoot(recording, { forMs: 120_000 });
  assert.equal(status.eventsUnheard, undefined);
  await stopped(recording);
  assert.ok(status.framesRecorded >= 358, `${status.framesRecorded}`);
  assert.equal(count(lines, /^warn cannot hear of events: no network/), 1);
});
