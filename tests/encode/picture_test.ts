/** What the pictures look like: colours and likeness, engine by engine. */
import assert from "node:assert/strict";
import { createEncoders, type EngineName, type Quality } from "../../core/encode/mod.ts";
import { parseAvcConfig, parseH264Sps } from "../../core/media/h264.ts";
import type { AccessUnit } from "../../core/types.ts";
import { createScene } from "../../simulators/scene/scene.ts";
import { runFfmpeg } from "../support/ffmpeg.ts";
import { needs } from "../support/programs.ts";
import { asAnnexB, createTestLog, encodeAll, START_MS, unitOf } from "./support.ts";

const WIDTH_PX = 640;
const HEIGHT_PX = 360;

function scenePictures(count: number): AccessUnit[] {
  const scene = createScene({ name: "yard", widthPx: WIDTH_PX, heightPx: HEIGHT_PX });
  return Array.from({ length: count }, (_, counter) => {
    const takenAtMs = START_MS + counter * 100;
    return unitOf(scene.frame({ counter, takenAtMs }), takenAtMs);
  });
}

async function encode(
  use: EngineName,
  units: readonly AccessUnit[],
  quality: Quality = "standard",
): Promise<AccessUnit[]> {
  await using encoders = await createEncoders({ use, quality, workers: 1, log: createTestLog() });
  return await encodeAll(encoders.forCamera(), units);
}

/** Luma SSIM of the coded pictures against their JPEGs, by ffmpeg's own filter. */
async function ssim(
  coded: readonly AccessUnit[],
  originals: readonly AccessUnit[],
): Promise<number> {
  const { log } = await runFfmpeg({
    args: [
      ..."-f h264 -r 25 -i coded.h264 -f mjpeg -r 25 -i originals.mjpeg -lavfi".split(" "),
      "[0]scale=out_range=full,format=yuvj420p[a];[1]format=yuvj420p[b];[a][b]ssim",
      "-f",
      "null",
      "-",
    ],
    inputs: {
      "coded.h264": asAnnexB(coded),
      "originals.mjpeg": concat(originals.map((unit) => unit.data)),
    },
  });
  return Number(/SSIM Y:([\d.]+)/.exec(log)?.[1]);
}

/** Mean of each plane of the first picture, in full range. */
async function planeMeans(file: Uint8Array, format: string, size: [number, number]) {
  const { outputs } = await runFfmpeg({
    args: [
      "-f",
      format,
      "-i",
      "in.bin",
      "-frames:v",
      "1",
      "-vf",
      "scale=out_range=full,format=yuvj420p",
      "-f",
      "rawvideo",
      "out.raw",
    ],
    inputs: { "in.bin": file },
    outputs: ["out.raw"],
  });
  const raw = outputs["out.raw"] ?? new Uint8Array();
  const lumaBytes = size[0] * size[1];
  const mean = (bytes: Uint8Array) => bytes.reduce((sum, byte) => sum + byte, 0) / bytes.length;
  return [
    mean(raw.subarray(0, lumaBytes)),
    mean(raw.subarray(lumaBytes, lumaBytes * 5 / 4)),
    mean(raw.subarray(lumaBytes * 5 / 4)),
  ];
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let position = 0;
  for (const part of parts) {
    whole.set(part, position);
    position += part.length;
  }
  return whole;
}

const ENGINES = [
  { use: "wasm", ignore: false, reason: "" },
  { use: "system", ...needs("ffmpeg") },
] as const;

for (const { use, ignore, reason } of ENGINES) {
  Deno.test({
    name: `${use}: the default quality keeps an SSIM of at least 0.95${reason}`,
    ignore,
    async fn() {
      const units = scenePictures(30);
      const value = await ssim(await encode(use, units), units);
      assert.ok(value >= 0.95, `SSIM ${value}`);
    },
  });

  Deno.test({
    name: `${use}: a higher quality looks more alike and takes more bytes${reason}`,
    ignore,
    async fn() {
      const units = scenePictures(10);
      const sizes: number[] = [];
      const likeness: number[] = [];
      for (const quality of ["low", "standard", "high"] as const) {
        const coded = await encode(use, units, quality);
        sizes.push(coded.reduce((sum, unit) => sum + unit.data.length, 0));
        likeness.push(await ssim(coded, units));
      }
      assert.deepEqual(sizes, sizes.toSorted((a, b) => a - b));
      assert.deepEqual(likeness, likeness.toSorted((a, b) => a - b));
    },
  });

  Deno.test({
    name: `${use}: the stream says limited range and BT.601, and has no B-pictures${reason}`,
    ignore,
    async fn() {
      const [first] = await encode(use, scenePictures(3));
      assert.ok(first?.track?.kind === "video");
      const { sps: [nal] } = parseAvcConfig(first.track.config);
      assert.ok(nal);
      const sps = parseH264Sps(nal);
      assert.deepEqual(sps.color, { primaries: 1, transfer: 1, matrix: 6, fullRange: false });
      const { log } = await runFfmpeg({
        args: ["-i", "in.h264", "-f", "null", "-"],
        inputs: { "in.h264": asAnnexB([first]) },
      });
      assert.match(log, /yuv420p\(tv, smpte170m\/bt709\/bt709/);
      assert.equal(sps.maxReorderFrames ?? 0, 0);
    },
  });

  for (const pixels of ["yuvj420p", "yuvj422p", "yuvj444p"]) {
    Deno.test({
      name: `${use}: a ${pixels} JPEG keeps its colours${reason}`,
      ignore,
      async fn() {
        const { outputs } = await runFfmpeg({
          args: [
            ..."-f lavfi -i smptebars=size=320x180 -frames:v 1 -pix_fmt".split(" "),
            pixels,
            ..."-strict unofficial -q:v 2 bars.jpg".split(" "),
          ],
          inputs: {},
          outputs: ["bars.jpg"],
        });
        const jpeg = outputs["bars.jpg"] ?? new Uint8Array();
        const coded = await encode(use, [unitOf(jpeg, START_MS)], "high");
        const before = await planeMeans(jpeg, "mjpeg", [320, 180]);
        const after = await planeMeans(asAnnexB(coded), "h264", [320, 180]);
        for (const [plane, mean] of before.entries()) {
          const difference = Math.abs(mean - (after[plane] ?? NaN));
          assert.ok(difference < 0.5, `plane ${plane}: ${mean} became ${after[plane]}`);
        }
      },
    });
  }
}
