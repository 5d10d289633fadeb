/**
 * Clips are tagged with what happened during them, whenever that is told; pictures of events come into
 * the spool.
 *
 * @module
 */
import assert from "node:assert/strict";
import { recordCamera } from "../../core/capture/recorder.ts";
import { inspectMp4 } from "../../core/media/mp4_inspect.ts";
import type { CameraEvent } from "../../core/types.ts";
import {
  createFakeCamera,
  createMemorySpool,
  recorderOptions,
  VIDEO_TRACK,
} from "../support/capture_fakes.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { readFixture } from "../support/media_samples.ts";

/** A camera that is recorded all the time, and whose events are told. */
function start(
  { clock = createFakeClock(Date.UTC(2026, 7, 21, 12, 0, 0)), spool = createMemorySpool() } = {},
) {
  const camera = createFakeCamera(clock, [VIDEO_TRACK]);
  const told: CameraEvent[] = [];
  let wake = () => {};
  const options = recorderOptions(clock, {
    source: camera,
    spool,
    tags: {
      isAsked: true,
      async *listen({ signal }) {
        signal.addEventListener("abort", () => wake(), { once: true });
        while (!signal.aborted) {
          const event = told.shift();
          if (event) yield event;
          else await new Promise<void>((resolve) => wake = resolve);
        }
      },
    },
  });
  const stop = new AbortController();
  const running = recordCamera(options, stop.signal);
  return {
    ...{ clock, spool, options },
    lines: options.log.lines,
    tell(event: CameraEvent) {
      told.push(event);
      wake();
    },
    async shoot(forMs: number) {
      for (let ms = 0; ms < forMs; ms += 500) {
        camera.picture({ isKey: true });
        await clock.advance(500);
      }
    },
    async stop() {
      stop.abort(new DOMException("stopped", "AbortError"));
      await clock.advance(1000);
      await running;
    },
  };
}

const tags = ({ spool }: ReturnType<typeof start>) => spool.finished.map(({ end }) => end?.tags);

Deno.test("a clip has the kinds of the events during it, and its neighbours do not", async () => {
  const world = start();
  await world.shoot(12_000);
  world.tell({ kind: "person", startMs: world.clock.now() });
  world.tell({ kind: "motion", startMs: world.clock.now() - 1000 });
  await world.shoot(18_000);
  await world.stop();
  assert.deepEqual(tags(world), [[], ["motion", "person"], []]);
});

Deno.test("an event that is told after its clip was finished tags it all the same", async () => {
  const world = start();
  await world.shoot(25_000);
  world.tell({ kind: "doorbell", startMs: world.clock.now() - 20_000 });
  await world.shoot(5000);
  await world.stop();
  assert.deepEqual(tags(world), [["doorbell"], [], []]);
});

Deno.test("an event that lasts tags every clip that it reaches into", async () => {
  const world = start();
  await world.shoot(5000);
  const startMs = world.clock.now();
  world.tell({ kind: "sound", startMs });
  await world.shoot(10_000);
  world.tell({ kind: "sound", startMs, endMs: world.clock.now() });
  await world.shoot(15_000);
  await world.stop();
  assert.deepEqual(tags(world), [["sound"], ["sound"], []]);
});

Deno.test("what happens is noted with the clip that is being recorded, for a crash, and with no other", async () => {
  const world = start();
  await world.shoot(12_000);
  world.tell({ kind: "person", startMs: world.clock.now() });
  await world.shoot(1000);
  world.tell({ kind: "motion", startMs: world.clock.now() - 6000 }); // of the clip before
  await world.shoot(1000);
  const noted = world.spool.clips.map(({ state, tagsMeanwhile }) => [state, tagsMeanwhile]);
  assert.deepEqual(noted, [["finished", []], ["open", ["person"]]]);
  assert.deepEqual(tags(world), [["motion"]]);
  await world.stop();
});

Deno.test("an event that lasts over a cut is noted with the next clip from its first moment", async () => {
  const world = start();
  await world.shoot(5000);
  const startMs = world.clock.now();
  world.tell({ kind: "sound", startMs, endMs: startMs + 9000 });
  await world.shoot(6000);
  assert.deepEqual(world.spool.clips.map(({ tagsMeanwhile }) => tagsMeanwhile), [
    ["sound"],
    ["sound"],
  ]);
  await world.stop();
});

Deno.test("an event that is told after a restart tags the clip from before it", async () => {
  const before = start();
  await before.shoot(10_000);
  const startMs = before.clock.now() - 5000;
  await before.stop();
  const after = start(before);
  await after.shoot(3000);
  after.tell({ kind: "person", startMs });
  await after.shoot(1000);
  assert.deepEqual(tags(after)[0], ["person"]);
  await after.stop();
});

Deno.test("the picture of an event is a small clip with its tags; one that fails is said and costs no recording", async () => {
  const world = start();
  const attach = (fetch: () => Promise<Uint8Array | undefined>): CameraEvent => ({
    kind: "person",
    startMs: world.clock.now(),
    attachment: { kind: "event-image", contentType: "image/jpeg", fetch },
  });
  await world.shoot(2000);
  world.tell(attach(() => Promise.resolve(Uint8Array.of(0xff, 0xd8))));
  world.tell(attach(() => Promise.reject(new Error("429"))));
  world.tell(attach(() => Promise.resolve(undefined)));
  await world.shoot(13_000);
  await world.stop();
  const images = world.spool.finished.filter(({ contentType }) => contentType === "image/jpeg");
  assert.deepEqual(images.map(({ end, bytes }) => [end?.tags, bytes.length]), [
    [["person", "event-image"], 2],
  ]);
  const videos = world.spool.finished.filter(({ contentType }) => contentType === "video/mp4");
  assert.equal(videos.reduce((sum, { end }) => sum + (end?.frames ?? 0), 0), 30);
  assert.match(world.lines.join("\n"), /event-image of an event \(person\): 429/);
  assert.match(world.lines.join("\n"), /gone already/);
});

Deno.test("the preview of an event is a small clip with its length and pictures, beside the recording", async () => {
  const world = start();
  const preview = readFixture("h264_larger.mp4");
  const startMs = world.clock.now();
  await world.shoot(2000);
  world.tell({
    ...{ kind: "person", startMs },
    attachment: {
      ...{ kind: "clip-preview", contentType: "video/mp4" },
      fetch: () => Promise.resolve(preview),
    },
  });
  await world.shoot(5000);
  await world.stop();
  const saved = world.spool.finished.filter(({ end }) => end?.tags?.includes("clip-preview"));
  const { frames, durationMs } = inspectMp4(preview);
  assert.deepEqual(saved.map(({ start, end }) => [start.getTime(), end?.frames, end?.tags]), [
    [startMs, frames, ["person", "clip-preview"]],
  ]);
  assert.equal((saved[0]?.end?.end.getTime() ?? NaN) - startMs, Math.round(durationMs));
  assert.deepEqual(saved[0]?.bytes, new Uint8Array(preview));
});
