/** Pictures that show what the one before shows are not encoded again, but recorded all the same. */
import assert from "node:assert/strict";
import { createEncoders } from "../../core/encode/mod.ts";
import { RepeatFinder } from "../../core/encode/repeat_finder.ts";
import { parseJpeg } from "../../core/media/jpeg.ts";
import type { AccessUnit } from "../../core/types.ts";
import { createScene } from "../../simulators/scene/scene.ts";
import { needs } from "../support/programs.ts";
import { createTestLog, encodeAll, START_MS, unitOf } from "./support.ts";

/** Pictures of a noisy sensor, ten a second; the ball rolls from `movesFrom` on. */
function noisyPictures(count: number, movesFrom = Infinity): AccessUnit[] {
  const scene = createScene({ name: "yard", widthPx: 320, heightPx: 180, plain: true });
  for (let n = 0; n < 60; n++) scene.frame({ counter: n, takenAtMs: START_MS }); // all its noise
  return Array.from({ length: count }, (_, n) => {
    const sceneMs = START_MS + Math.max(0, n - movesFrom) * 100;
    return unitOf(scene.frame({ counter: n, takenAtMs: sceneMs }), START_MS + n * 100);
  });
}

for (
  const { use, ignore, reason } of [
    { use: "wasm", ignore: false, reason: "" },
    { use: "system", ...needs("ffmpeg") },
  ] as const
) {
  Deno.test({
    name:
      `${use}: of a camera that sees only noise a key picture a GOP and one a second are coded${reason}`,
    ignore,
    async fn() {
      const units = noisyPictures(60);
      await using encoders = await createEncoders({ use, workers: 1, log: createTestLog() });
      let repeated = 0;
      const lost: unknown[] = [];
      const coded = await encodeAll(encoders.forCamera(), units, {
        onRepeated: (frames) => repeated += frames,
        onLost: (_, cause) => lost.push(cause),
      });
      assert.deepEqual(lost, []);
      const times = coded.map(({ capturedAtMs }) => (capturedAtMs - START_MS) / 1000);
      assert.ok(coded.length <= 20, `coded at ${times} s`);
      assert.deepEqual(
        coded.filter(({ isKey }) => isKey).map(({ capturedAtMs }) => capturedAtMs - START_MS),
        [0, 2000, 4000],
      );
      const gaps = times.slice(1).map((time, n) => time - (times[n] ?? 0));
      assert.ok(Math.max(...gaps) <= 1.001, `coded at ${times} s`);
      // The last picture is shown for as long as it should be, though it was a repeat.
      assert.equal(coded.at(-1)?.ptsUs, units.at(-1)?.ptsUs);
      assert.ok(repeated + coded.length - units.length <= 1 && repeated >= 40, `${repeated}`);
    },
  });

  Deno.test({
    name: `${use}: when something moves, every picture is coded${reason}`,
    ignore,
    async fn() {
      const units = noisyPictures(40, 20);
      await using encoders = await createEncoders({ use, workers: 1, log: createTestLog() });
      const coded = await encodeAll(encoders.forCamera(), units);
      const moving = coded.filter(({ capturedAtMs }) => capturedAtMs > START_MS + 2000);
      assert.equal(moving.length, 19);
      assert.deepEqual(moving.map(({ ptsUs }) => ptsUs), units.slice(21).map(({ ptsUs }) => ptsUs));
    },
  });
}

Deno.test("after comparisons in vain more and more pictures pass before the next", () => {
  const scene = createScene({ name: "yard", widthPx: 320, heightPx: 180 });
  const frame = (n: number) => scene.frame({ counter: n, takenAtMs: START_MS + n * 100 });
  const finder = new RepeatFinder();
  finder.begin(parseJpeg(frame(0)));
  for (let n = 0; n < 40; n++) assert.equal(finder.isRepeat(frame(n), n), false);
  // At rest: not even the same picture twice is seen at once, but within a few pictures it is.
  const same = frame(100);
  const seen = Array.from({ length: 20 }, (_, n) => finder.isRepeat(same, 40 + n));
  assert.ok(!seen[0] && seen[19], `${seen}`);
});

Deno.test("a damaged picture is never taken for a repeat", () => {
  const scene = createScene({ name: "yard", widthPx: 320, heightPx: 180 });
  const jpeg = scene.frame({ counter: 1, takenAtMs: START_MS });
  const finder = new RepeatFinder();
  finder.begin(parseJpeg(jpeg));
  assert.equal(finder.isRepeat(jpeg, 0), false);
  assert.equal(finder.isRepeat(jpeg, 1), true);
  const damaged = jpeg.slice(0, jpeg.length / 2);
  assert.equal(finder.isRepeat(damaged, 2), false);
});
