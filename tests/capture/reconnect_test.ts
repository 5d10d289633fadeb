/**
 * How soon a camera is recorded again that was away, in simulated time.
 *
 * @module
 */
import assert from "node:assert/strict";
import * as v from "valibot";
import { recordCamera } from "../../core/capture/recorder.ts";
import { OWN_CAMERA_RETRY_MS } from "../../core/sources/context.ts";
import { cameraTypes } from "../../core/sources/mod.ts";
import { type Source, sourceError } from "../../core/types.ts";
import { createFakeCamera, createNotes, recorderOptions } from "../support/capture_fakes.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { seededRandom } from "../support/seeded_random.ts";

/**
 * Records a camera of one's own through many outages, of seconds to ten minutes, and tells how long after
 * each end of one a picture was recorded, ms. While it is away a connection is refused, or nobody answers
 * and the system sends its first packet again after one and three seconds.
 */
async function outages({ answers }: { answers: boolean }): Promise<readonly number[]> {
  const random = seededRandom(8);
  const clock = createFakeClock();
  const camera = createFakeCamera(clock);
  let isAway = false;
  const source: Source = {
    retryMs: OWN_CAMERA_RETRY_MS,
    async open(options) {
      for (const waitMs of answers ? [0] : [0, 1000, 2000]) {
        await clock.sleep(waitMs, options);
        if (!isAway) return await camera.open(options);
      }
      if (!answers) await clock.sleep(2000, options);
      throw sourceError("offline", "no connection");
    },
  };
  const options = recorderOptions(clock, { source, random });
  const stop = new AbortController();
  const running = recordCamera(options, stop.signal);
  const tookMs: number[] = [];
  for (let nth = 0; nth < 60; nth++) {
    for (let step = 0; step < 6; step++) {
      camera.picture();
      await clock.advance(500);
    }
    assert.equal(options.status.state, "recording");
    isAway = true;
    camera.end(sourceError("offline", "the connection broke"));
    await clock.advance(1000 + random() * (nth % 2 === 0 ? 20_000 : 600_000));
    isAway = false;
    const fromMs = clock.monotonic();
    while (options.status.state !== "recording") {
      camera.picture();
      await clock.advance(50);
    }
    tookMs.push(clock.monotonic() - fromMs);
  }
  stop.abort(new DOMException("stopped", "AbortError"));
  await clock.advance(1000);
  await running;
  return tookMs.toSorted((a, b) => a - b);
}

for (const answers of [true, false]) {
  const how = answers ? "refused connections" : "answered nothing";
  Deno.test(`a camera that ${how} is recorded within three seconds of being there, 95 times of 100`, async () => {
    const tookMs = await outages({ answers });
    assert.ok((tookMs[Math.floor(0.95 * tookMs.length)] ?? Infinity) <= 3000, String(tookMs));
  });
}

Deno.test("every kind of single camera is one of one's own: asked often while it is away", () => {
  const context = { clock: createFakeClock(), random: Math.random, log: createNotes() };
  for (const [type, { options, open }] of Object.entries(cameraTypes)) {
    const url = `${type === "rtsp" ? "rtsp" : "http"}://127.0.0.1/`;
    const source = open(v.parse<typeof options>(options, { url }) as never, context);
    assert.equal(source.retryMs, OWN_CAMERA_RETRY_MS, type);
  }
});

Deno.test("a camera that refuses the login is asked ever less often, though it is one's own", async () => {
  const clock = createFakeClock();
  let asked = 0;
  const source: Source = {
    retryMs: OWN_CAMERA_RETRY_MS,
    open() {
      asked++;
      return Promise.reject(sourceError("auth", "wrong password"));
    },
  };
  const stop = new AbortController();
  const running = recordCamera(recorderOptions(clock, { source }), stop.signal);
  await clock.advance(3_600_000);
  assert.ok(asked > 50 && asked < 100, String(asked));
  stop.abort(new DOMException("stopped", "AbortError"));
  await running;
});
