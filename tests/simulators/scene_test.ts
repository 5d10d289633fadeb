/** The simulated scene against a real decoder: valid JPEGs, a strip that outlives H.264. */
import assert from "node:assert/strict";
import { cameraCode, createScene, readStrip } from "../../simulators/mod.ts";
import { decodeLuma, runFfmpeg } from "../support/ffmpeg.ts";
import { needs } from "../support/programs.ts";

const TAKEN_AT_MS = Date.UTC(2026, 7, 21, 14, 5, 0);

/** Pictures of the scene as one Motion JPEG stream. */
function motionJpeg(
  options: { widthPx: number; heightPx: number; frames: number; still?: boolean },
) {
  const scene = createScene({ name: "Yard", ...options });
  const frames = Array.from(
    { length: options.frames },
    (_, index) => scene.frame({ counter: index + 1, takenAtMs: TAKEN_AT_MS + index * 100 }),
  );
  return { frames, bytes: new Uint8Array(frames.flatMap((frame) => [...frame])) };
}

/** The share of pixels that differ by more than noise does. */
function changedShare(left: Uint8Array, right: Uint8Array): number {
  let changed = 0;
  left.forEach((value, index) => {
    if (Math.abs(value - (right[index] ?? 0)) > 24) changed++;
  });
  return changed / left.length;
}

for (const engine of ["system", "wasm"] as const) {
  const { ignore, reason } = engine === "system" ? needs("ffmpeg") : { ignore: false, reason: "" };
  Deno.test({
    name: `a frame is a JPEG that ${engine} ffmpeg decodes without a word of complaint${reason}`,
    ignore,
    fn: async () => {
      const jpeg = createScene({ name: "Yard", widthPx: 640, heightPx: 360 })
        .frame({ counter: 7, takenAtMs: TAKEN_AT_MS });
      const { log } = await runFfmpeg({
        args: ["-v", "warning", "-f", "mjpeg", "-i", "in.jpg", "-f", "null", "-"],
        inputs: { "in.jpg": jpeg },
        engine,
      });
      assert.doesNotMatch(log, /error|invalid|overread|corrupt/i);
    },
  });
}

for (const [widthPx, heightPx] of [[320, 180], [640, 360], [1280, 720], [1920, 1080]] as const) {
  Deno.test(`the strip is read back from a ${widthPx} px JPEG`, async () => {
    const jpeg = createScene({ name: "Yard", widthPx, heightPx })
      .frame({ counter: 0xfedcba98, takenAtMs: TAKEN_AT_MS });
    const [luma = new Uint8Array()] = await decodeLuma(jpeg, { format: "jpg", widthPx, heightPx });
    assert.deepEqual(readStrip(luma, widthPx), {
      camera: cameraCode("Yard"),
      counter: 0xfedcba98,
      takenAtMs: TAKEN_AT_MS,
    });
  });

  Deno.test(`every strip is read back from ${widthPx} px H.264 at crf 30`, async () => {
    const { outputs } = await runFfmpeg({
      args: [
        ...["-f", "mjpeg", "-framerate", "10", "-i", "in.mjpeg", "-c:v", "libx264"],
        ...["-preset", "superfast", "-crf", "30", "-pix_fmt", "yuv420p", "out.mp4"],
      ],
      inputs: { "in.mjpeg": motionJpeg({ widthPx, heightPx, frames: 12 }).bytes },
      outputs: ["out.mp4"],
    });
    const decoded = await decodeLuma(outputs["out.mp4"] ?? new Uint8Array(), {
      format: "mp4",
      widthPx,
      heightPx,
    });
    assert.deepEqual(
      decoded.map((luma) => readStrip(luma, widthPx)),
      Array.from({ length: 12 }, (_, index) => ({
        camera: cameraCode("Yard"),
        counter: index + 1,
        takenAtMs: TAKEN_AT_MS + index * 100,
      })),
    );
  });
}

Deno.test("odd sizes that fill no whole block decode too", async () => {
  for (const [widthPx, heightPx] of [[322, 182], [1000, 562], [1296, 730], [160, 90]] as const) {
    const jpeg = createScene({ name: "Yard", widthPx, heightPx })
      .frame({ counter: 3, takenAtMs: TAKEN_AT_MS });
    const [luma = new Uint8Array()] = await decodeLuma(jpeg, { format: "jpg", widthPx, heightPx });
    assert.equal(readStrip(luma, widthPx)?.counter, 3, `${widthPx} x ${heightPx}`);
  }
});

Deno.test("the scene moves, and the still scene does not but for its clock", async () => {
  const size = { widthPx: 640, heightPx: 360 };
  const share = async (still: boolean) => {
    const { bytes } = motionJpeg({ ...size, frames: 12, still });
    const decoded = await decodeLuma(bytes, { format: "mjpeg", ...size });
    const first = decoded[0] ?? new Uint8Array(), last = decoded[11] ?? new Uint8Array();
    // Below the strip and the text.
    const from = 120 * size.widthPx;
    return changedShare(first.subarray(from), last.subarray(from));
  };
  assert.equal(await share(true), 0);
  const moved = await share(false);
  assert.ok(moved > 0.005 && moved < 0.2, `${moved} of the picture moved`);
});

Deno.test("the noise of two frames in a row differs almost everywhere", async () => {
  const size = { widthPx: 640, heightPx: 360 };
  const { bytes } = motionJpeg({ ...size, frames: 30 });
  const decoded = await decodeLuma(bytes, { format: "mjpeg", ...size });
  const before = decoded[28] ?? new Uint8Array(), after = decoded[29] ?? new Uint8Array();
  const same = after.reduce((sum, value, index) => sum + (value === before[index] ? 1 : 0), 0);
  assert.ok(same / after.length < 0.5, `${same / after.length} of the pixels did not change`);
});

Deno.test("two cameras look different, and one camera looks the same twice", async () => {
  const size = { widthPx: 640, heightPx: 360 };
  const picture = async (name: string) => {
    const jpeg = createScene({ name, ...size }).frame({ counter: 1, takenAtMs: TAKEN_AT_MS });
    return (await decodeLuma(jpeg, { format: "jpg", ...size }))[0] ?? new Uint8Array();
  };
  assert.deepEqual(await picture("Yard"), await picture("Yard"));
  assert.ok(changedShare(await picture("Yard"), await picture("Garage")) > 0.2);
});

Deno.test("a name with accents, signs or of any length does no harm", () => {
  for (const name of ["", "Küche / Flur", "../../x", "🎥".repeat(300), "x".repeat(5000)]) {
    const jpeg = createScene({ name, widthPx: 320, heightPx: 180 })
      .frame({ counter: 1, takenAtMs: 0 });
    assert.deepEqual([...jpeg.subarray(-2)], [0xff, 0xd9]);
  }
});

Deno.test("a picture without a strip has none", () => {
  assert.equal(readStrip(new Uint8Array(320 * 180), 320), undefined);
  assert.equal(readStrip(new Uint8Array(320 * 180).fill(128), 320), undefined);
  assert.equal(readStrip(new Uint8Array(320 * 180).fill(255), 320), undefined);
  assert.equal(readStrip(new Uint8Array(10), 320), undefined);
});

Deno.test("a size that no scene can have is refused with the limits", () => {
  assert.throws(() => createScene({ name: "a", widthPx: 100, heightPx: 90 }), /width of 100 px/);
  assert.throws(
    () => createScene({ name: "a", widthPx: 320, heightPx: 90.5 }),
    /height of 90.5 px/,
  );
});
