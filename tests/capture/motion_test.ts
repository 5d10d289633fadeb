/**
 * Motion in pictures: what counts as it, and what does not.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createEventGate } from "../../core/capture/event_gate.ts";
import { watchMotion } from "../../core/capture/event_listener.ts";
import { createMotionFinder } from "../../core/capture/motion.ts";
import { createScene } from "../../simulators/mod.ts";
import { createNotes, videoUnit } from "../support/capture_fakes.ts";
import { readFixture } from "../support/media_samples.ts";

const SIZE = { name: "Yard", widthPx: 640, heightPx: 360 };

/** What a finder says of pictures, two a second; `moves` tells whether the ball moves in each. */
function see(moves: readonly boolean[]): string[] {
  const scenes = { still: createScene({ ...SIZE, still: true }), moving: createScene(SIZE) };
  const finder = createMotionFinder();
  return moves.map((isMoving, counter) => {
    const takenAtMs = 1_000_000 + counter * 500;
    const scene = isMoving ? scenes.moving : scenes.still;
    return finder.look(scene.frame({ counter, takenAtMs }), takenAtMs);
  });
}

const times = <T>(count: number, value: T): T[] => Array.from({ length: count }, () => value);

Deno.test("a still scene with noise and a running clock in it has no motion", () => {
  const seen = see(times(60, false));
  assert.ok(seen.slice(0, 7).every((what) => what === "unknown"));
  assert.ok(seen.slice(7).every((what) => what === "still"), seen.join(" "));
});

Deno.test("something that begins to move is motion, and its end is the end of it", () => {
  const seen = see([...times(30, false), ...times(10, true), ...times(20, false)]);
  assert.ok(seen.slice(30, 40).every((what) => what === "motion"), seen.join(" "));
  assert.ok(seen.slice(42).every((what) => what === "still"), seen.join(" "));
});

Deno.test("pictures in between are not looked at", () => {
  const finder = createMotionFinder();
  const jpeg = readFixture("picture.jpg");
  assert.equal(finder.look(jpeg, 1000), "unknown");
  assert.equal(finder.look(jpeg, 1200), "resting");
  assert.notEqual(finder.look(jpeg, 1500), "resting");
  assert.notEqual(finder.look(jpeg, -3_600_000), "resting");
});

Deno.test("a damaged picture is neither motion nor an error", () => {
  const finder = createMotionFinder();
  const jpeg = readFixture("picture.jpg");
  finder.look(jpeg, 0);
  assert.equal(finder.look(jpeg.subarray(0, jpeg.length / 2), 1000), "resting");
  assert.equal(finder.look(new Uint8Array(), 2000), "resting");
});

Deno.test("of coded video everything is recorded, and that is said once", () => {
  const gate = createEventGate({ beforeMs: 0, afterMs: 0 });
  const log = createNotes();
  const watch = watchMotion(gate, { log });
  for (let ms = 0; ms < 10_000; ms += 500) watch.look(videoUnit(ms), "h264");
  assert.equal(gate.isHeard, false);
  assert.equal(log.lines.length, 1);
  assert.match(log.lines[0] ?? "", /everything is recorded/);
});
