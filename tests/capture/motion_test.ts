/**
 * Motion in pictures: what counts as it, and what does not.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createKeyPictureMotionFinder, createMotionFinder } from "../../core/capture/motion.ts";
import type { GrayPicture } from "../../core/encode/mod.ts";
import { createScene } from "../../simulators/mod.ts";
import { readFixture } from "../support/media_samples.ts";
import { seededRandom } from "../support/seeded_random.ts";

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

Deno.test("what goes on moving for a minute is motion all the time", () => {
  const seen = see([...times(30, false), ...times(120, true)]);
  assert.ok(seen.slice(30).every((what) => what === "motion"), seen.join(" "));
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

/** A gray picture with noise in it, of a scene that a clock is written into. */
function grayScene(seed = 1) {
  const random = seededRandom(seed);
  const [widthPx, heightPx] = [160, 90];
  return ({ atMs = 0, lighter = 0, square, flickers = false }: {
    readonly atMs?: number;
    readonly lighter?: number;
    /** Where something stands that is 16 pixels wide. */
    readonly square?: readonly [x: number, y: number];
    /** A third of the picture is leaves in the wind. */
    readonly flickers?: boolean;
  }): GrayPicture => {
    const pixels = new Uint8Array(widthPx * heightPx);
    for (let y = 0, i = 0; y < heightPx; y++) {
      for (let x = 0; x < widthPx; x++, i++) {
        const isSquare = square !== undefined && x >= square[0] && x < square[0] + 16 &&
          y >= square[1] && y < square[1] + 16;
        const isClock = x < 8 && y < 8 && (atMs / 2000) % 2 === 0;
        const leaf = flickers && y > 60 ? 60 * random() : 0;
        const value = isSquare ? 40 : isClock ? 250 : 90 + x / 4 + leaf;
        pixels[i] = value + lighter + 3 * random();
      }
    }
    return { widthPx, heightPx, pixels, capturedAtMs: atMs };
  };
}

/** What a finder says of key pictures, one every two seconds. */
function seeKeys(pictures: readonly Parameters<ReturnType<typeof grayScene>>[0][]): string[] {
  const draw = grayScene();
  const finder = createKeyPictureMotionFinder();
  return pictures.map((picture, index) => finder.look(draw({ atMs: index * 2000, ...picture })));
}

Deno.test("key pictures of a still scene have no motion, a square that walks through it is motion", () => {
  const walk = Array.from({ length: 5 }, (_, step) => ({ square: [20 + 4 * step, 40] as const }));
  const seen = seeKeys([...times(12, {}), ...walk, ...times(12, {})]);
  assert.deepEqual(seen, [
    ...times(7, "unknown"),
    ...times(5, "still"),
    ...times(6, "motion"), // it is gone in the last of them
    ...times(11, "still"),
  ]);
});

Deno.test("a scene that becomes lighter or darker all over is still", () => {
  const seen = seeKeys([...times(10, {}), ...times(3, { lighter: 25 }), ...times(3, {})]);
  assert.deepEqual(seen.slice(7), times(9, "still"));
});

Deno.test("leaves in the wind are no motion once they are usual, and do not hide it elsewhere", () => {
  const leaves = { flickers: true };
  const seen = seeKeys([
    ...times(60, leaves),
    { ...leaves, square: [60, 20] },
    ...times(9, leaves),
  ]);
  assert.deepEqual(seen.slice(30), [
    ...times(30, "still"),
    ...times(2, "motion"),
    ...times(8, "still"),
  ]);
});

Deno.test("somebody who is busy for minutes is motion all the time, and a guest soon after is too", () => {
  const at = (step: number) => ({ square: [20 + 16 * (step % 5), 20 + 16 * (step % 3)] as const });
  const busy = Array.from({ length: 100 }, (_, step) => at(step));
  const seen = seeKeys([...times(20, {}), ...busy, ...times(40, {}), at(0), {}]);
  assert.deepEqual(seen.slice(20, 120), times(100, "motion"));
  // A place is seen when it is left, too.
  assert.deepEqual(seen.slice(120), ["motion", ...times(39, "still"), ...times(2, "motion")]);
});

Deno.test("wind that begins to blow is motion for some minutes, and usual then", () => {
  const seen = seeKeys([...times(20, {}), ...times(300, { flickers: true })]);
  assert.deepEqual(seen.slice(20, 60), times(40, "motion"));
  assert.deepEqual(seen.slice(-100), times(100, "still"));
});

Deno.test("pictures of another size are learned anew", () => {
  const finder = createKeyPictureMotionFinder();
  const draw = grayScene();
  for (let look = 0; look < 10; look++) finder.look(draw({}));
  const half = { ...draw({}), heightPx: 45, pixels: draw({}).pixels.subarray(0, 160 * 45) };
  assert.equal(finder.look(half), "unknown");
  assert.equal(finder.look(half), "unknown");
});
