/**
 * Files that somebody else made: whole ones are understood, broken ones refused.
 *
 * @module
 */
import assert from "node:assert/strict";
import { inspectMp4 } from "../../core/media/mp4_inspect.ts";
import { MediaError } from "../../core/media/media_error.ts";
import {
  demuxWithMp4box,
  readFixture,
  readRecording,
  writeClip,
} from "../support/media_samples.ts";
import { seededRandom } from "../support/seeded_random.ts";

for (const name of ["h264_b_frames_aac.mp4", "h265_opus.mp4", "h264_larger.mp4"]) {
  Deno.test(`${name}, made by ffmpeg, has as many pictures as another demuxer finds`, () => {
    const file = readFixture(name);
    const found = inspectMp4(file);
    assert.equal(found.frames, demuxWithMp4box(file).tracks.get(1)?.length);
    assert.ok(found.durationMs > 100 && found.widthPx > 0 && found.heightPx > 0);
  });
}

Deno.test("a fragmented file's pictures are counted too", async () => {
  const recording = await readRecording("h264_b_frames_aac.mp4");
  const { torn, finished } = writeClip(recording);
  assert.equal(inspectMp4(torn).frames, inspectMp4(finished).frames);
});

Deno.test("a file that is cut anywhere is refused, and nothing but a media error comes out", () => {
  const file = readFixture("h264_larger.mp4");
  for (let length = 0; length < file.length; length += 101) {
    assert.throws(() => inspectMp4(file.subarray(0, length)), MediaError);
  }
});

Deno.test("a web page in place of a file is refused with what it is", () => {
  assert.throws(
    () => inspectMp4(new TextEncoder().encode("<!DOCTYPE html><html><body>Sign in</body></html>")),
    MediaError,
  );
});

Deno.test("50,000 damaged files give an answer or a media error", () => {
  const random = seededRandom(7);
  const file = readFixture("h264_larger.mp4").slice();
  for (let round = 0; round < 50_000; round++) {
    // The tables stand at the end or the beginning: both are where damage matters.
    const at = random() < 0.5
      ? Math.floor(random() * 600)
      : file.length - 1 - Math.floor(random() * 1500);
    const before = file[at] ?? 0;
    file[at] = Math.floor(random() * 256);
    try {
      inspectMp4(file);
    } catch (error) {
      assert.ok(error instanceof MediaError, String(error));
    }
    file[at] = before;
  }
});
