/**
 * The decoder of JPEGs to planes: against ffmpeg, in what it draws anew, and with damaged input.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import fc from "fast-check";
import { parseJpeg } from "../../core/media/jpeg.ts";
import { canDrawPlanes, JpegPlanes } from "../../core/media/jpeg_planes.ts";
import { SOURCE_SHA256 } from "../../core/media/jpeg_planes_wasm.ts";
import { MediaError } from "../../core/media/media_error.ts";
import { createScene } from "../../simulators/scene/scene.ts";
import { runFfmpeg } from "../support/ffmpeg.ts";
import { readFixture } from "../support/media_samples.ts";

const START_MS = Date.UTC(2026, 7, 21, 14, 5, 0);

function planesOf(planes: JpegPlanes): Uint8Array {
  const all = new Uint8Array(planes.frameBytes);
  assert.equal(planes.copy(all, 0), all.length);
  return all;
}

function drawn(jpeg: Uint8Array): Uint8Array {
  const planes = new JpegPlanes(parseJpeg(jpeg));
  planes.draw(jpeg);
  return planesOf(planes);
}

/** The JPEGs of a file that ffmpeg wrote, one behind the other. */
function split(file: Uint8Array): Uint8Array[] {
  const jpegs: Uint8Array[] = [];
  for (let at = 0; at < file.length;) {
    const { sizeBytes } = parseJpeg(file.subarray(at));
    jpegs.push(file.subarray(at, at + sizeBytes));
    at += sizeBytes;
  }
  return jpegs;
}

Deno.test("the compiled decoder is that of the source (deno task wasm)", async () => {
  const source = await Deno.readFile(
    new URL("../../core/media/jpeg_planes.as", import.meta.url),
  );
  assert.equal(createHash("sha256").update(source).digest("hex"), SOURCE_SHA256);
});

for (const name of ["jpeg_420", "jpeg_422", "jpeg_444", "jpeg_grey", "scene"]) {
  Deno.test(`planes of ${name} are those that ffmpeg makes`, async () => {
    const jpeg = name === "scene"
      ? createScene({ name, widthPx: 330, heightPx: 190 }).frame({
        counter: 1,
        takenAtMs: START_MS,
      })
      : readFixture(`${name}.jpg`);
    const { outputs } = await runFfmpeg({
      args: [
        ..."-f mjpeg -i in.jpg -vf".split(" "),
        "scale=in_range=full:out_range=limited:flags=area,format=yuv420p",
        ..."-f rawvideo out.yuv".split(" "),
      ],
      inputs: { "in.jpg": jpeg },
      outputs: ["out.yuv"],
    });
    const expected = outputs["out.yuv"] ?? new Uint8Array();
    const found = drawn(jpeg);
    assert.equal(found.length, expected.length);
    const lumaBytes = Math.round(found.length * 2 / 3);
    let sum = 0;
    for (let i = 0; i < found.length; i++) {
      const off = Math.abs((found[i] ?? 0) - (expected[i] ?? 0));
      sum += off;
      if (i < lumaBytes) assert.ok(off <= 1, `luma sample ${i} is off by ${off}`);
    }
    // Colours that are stored finer are shrunk by another filter.
    assert.ok(sum / found.length < (name === "jpeg_444" ? 1 : 0.5), `${sum / found.length}`);
  });
}

Deno.test("pictures may be read in pieces of any size", () => {
  const jpeg = readFixture("jpeg_420.jpg");
  const planes = new JpegPlanes(parseJpeg(jpeg));
  planes.draw(jpeg);
  const pieces: number[] = [];
  for (let offset = 0; offset < planes.frameBytes;) {
    const piece = new Uint8Array(1 + offset % 37);
    const copied = planes.copy(piece, offset);
    pieces.push(...piece.subarray(0, copied));
    offset += copied;
  }
  assert.deepEqual(Uint8Array.from(pieces), planesOf(planes));
});

Deno.test("the noise of a standing camera is not drawn, what moves is", () => {
  const scene = createScene({ name: "yard", widthPx: 640, heightPx: 360, plain: true });
  const frame = (counter: number, takenAtMs: number) => scene.frame({ counter, takenAtMs });
  // The scene codes its variants of noise in the first pictures.
  for (let n = 0; n < 60; n++) frame(n, START_MS);
  const planes = new JpegPlanes(parseJpeg(frame(60, START_MS)));
  const counts = Array.from({ length: 20 }, (_, n) => planes.draw(frame(n, START_MS)));
  assert.equal(counts[0], planes.macroblocks);
  const settled = counts.slice(3);
  assert.ok(
    settled.filter((count) => count === 0).length >= 15,
    `of ${planes.macroblocks} macroblocks these were drawn: ${settled}`,
  );
  // Where a ball has rolled on, at least a ball is drawn.
  assert.ok(planes.draw(frame(21, START_MS + 1500)) >= 8);
  assert.equal(planes.draw(frame(21, START_MS + 1500), { all: true }), planes.macroblocks);
});

Deno.test("what was learned of a camera's noise goes to another decoder with it", async () => {
  const jpegs = (await spotPictures(24, 1)).slice(0, 30);
  const [first] = jpegs;
  assert.ok(first);
  const one = new JpegPlanes(parseJpeg(first));
  assert.equal(one.noise === undefined, true);
  for (const jpeg of jpegs.slice(0, 20)) one.draw(jpeg);
  const { noise } = one;
  assert.ok(
    noise && noise.luma > 0 && noise.compared === 19 && noise.local.some((byte) => byte > 0),
  );
  const worthOf = (planes: JpegPlanes) => {
    planes.draw(jpegs[20] ?? first, { all: true });
    return jpegs.slice(21).filter((jpeg) => {
      planes.draw(jpeg);
      return planes.isWorth;
    }).length;
  };
  const taught = new JpegPlanes(parseJpeg(first));
  taught.noise = noise;
  assert.equal(worthOf(taught), 0);
  taught.noise = undefined;
  assert.ok(worthOf(taught) > 0, "without it it has to learn again");
});

Deno.test("a change too slow to be seen between two pictures is not left behind", async () => {
  const { outputs } = await runFfmpeg({
    args: [
      ..."-f lavfi -i color=gray:s=64x48:r=10:d=10 -vf geq=lum=80+N/4:cb=128:cr=128".split(" "),
      ..."-pix_fmt yuvj420p -q:v 2 -f mjpeg out.mjpeg".split(" "),
    ],
    inputs: {},
    outputs: ["out.mjpeg"],
  });
  const jpegs = split(outputs["out.mjpeg"] ?? new Uint8Array());
  const [first] = jpegs;
  assert.ok(first);
  const planes = new JpegPlanes(parseJpeg(first));
  let drawings = 0;
  for (const jpeg of jpegs) {
    if (planes.draw(jpeg) > 0) drawings++;
    const shown = planesOf(planes)[1000] ?? 0;
    const true_ = drawn(jpeg)[1000] ?? 0;
    assert.ok(Math.abs(shown - true_) <= 2, `${true_} is shown as ${shown}`);
  }
  assert.ok(drawings >= 8 && drawings < jpegs.length / 2, `${drawings}`);
});

/** A spot of 8 x 8 px that is `contrast` brighter, and goes on by `pxPerPicture`, under a sensor's noise. */
async function spotPictures(contrast: number, pxPerPicture: number): Promise<Uint8Array[]> {
  const grey = (value: number) => `0x${value.toString(16).repeat(3)}`;
  const { outputs } = await runFfmpeg({
    args: [
      ..."-f lavfi -i".split(" "),
      `color=${grey(0x60)}:s=320x240:r=10:d=8[a];color=${
        grey(0x60 + contrast)
      }:s=8x8:r=10:d=8[b];` +
      `[a][b]overlay=x='if(lt(n,40),-20,40+floor(${pxPerPicture}*(n-40)))':y=100,noise=alls=4:allf=t`,
      ..."-pix_fmt yuvj420p -q:v 3 -f mjpeg out.mjpeg".split(" "),
    ],
    inputs: {},
    outputs: ["out.mjpeg"],
  });
  return split(outputs["out.mjpeg"] ?? new Uint8Array());
}

for (const [contrast, pxPerPicture] of [[24, 4], [24, 1], [48, 0.25]] as const) {
  Deno.test(`a spot of ${contrast} of 255 that goes on by ${pxPerPicture} px is no noise, what it leaves behind is`, async () => {
    const jpegs = await spotPictures(contrast, pxPerPicture);
    const [first] = jpegs;
    assert.ok(first);
    const drawing = new JpegPlanes(parseJpeg(first));
    const comparing = new JpegPlanes(parseJpeg(first));
    const drawn: boolean[] = [];
    const coded: boolean[] = [];
    for (const jpeg of jpegs) {
      drawing.draw(jpeg);
      drawn.push(drawing.isWorth);
      if (drawing.isWorth) drawing.settle();
      coded.push(comparing.differs(jpeg));
      if (coded.at(-1)) comparing.remember(jpeg);
    }
    // An overlay stands at even places only, and counts pictures from 1.
    const placeOf = (n: number) => 2 * Math.floor(Math.floor(pxPerPicture * (n - 39)) / 2);
    for (const list of [drawn, coded]) {
      const seen = list.map((is) => is ? "x" : ".").join("");
      assert.doesNotMatch(seen.slice(5, 39), /x/, "noise");
      for (let n = 40; n < list.length; n++) {
        if (placeOf(n) !== placeOf(n - 1)) assert.ok(list[n], `it moved in picture ${n}: ${seen}`);
      }
    }
  });
}

Deno.test("a picture is compared with the one remembered", () => {
  const scene = createScene({ name: "yard", widthPx: 320, heightPx: 180 });
  const one = scene.frame({ counter: 1, takenAtMs: START_MS });
  const other = scene.frame({ counter: 2, takenAtMs: START_MS + 100 });
  const planes = new JpegPlanes(parseJpeg(one));
  assert.equal(planes.differs(one), true, "nothing is remembered yet");
  planes.remember(one);
  assert.equal(planes.differs(one), false);
  assert.equal(planes.differs(other), true, "its clock has gone on");
  assert.equal(planes.differs(one), false, "comparing changes nothing");
});

Deno.test("pictures of another kind are left to ffmpeg", async () => {
  // ffmpeg writes 4:2:2 with several blocks of a colour in an MCU.
  const { outputs } = await runFfmpeg({
    args: [
      ..."-f lavfi -i testsrc2=s=64x48 -frames:v 1 -pix_fmt yuvj422p".split(" "),
      ..."-q:v 3 a.jpg".split(" "),
    ],
    inputs: {},
    outputs: ["a.jpg"],
  });
  assert.equal(canDrawPlanes(parseJpeg(outputs["a.jpg"] ?? new Uint8Array())), false);
  assert.equal(canDrawPlanes(parseJpeg(readFixture("jpeg_420.jpg"))), true);
});

Deno.test("fuzz: only a MediaError comes out of the decoder, and a good picture is drawn after it", () => {
  const seeds = ["jpeg_420", "jpeg_422", "jpeg_444", "jpeg_grey"].map((name) =>
    readFixture(`${name}.jpg`)
  );
  seeds.push(
    createScene({ name: "fuzz", widthPx: 160, heightPx: 90 }).frame({
      counter: 1,
      takenAtMs: START_MS,
    }),
  );
  const decoders = seeds.map((seed) => new JpegPlanes(parseJpeg(seed)));
  const whole = seeds.map(drawn);
  const change = fc.tuple(fc.nat(), fc.nat(255));
  let refused = 0;
  fc.assert(
    fc.property(
      fc.nat(seeds.length - 1),
      fc.array(change, { minLength: 1, maxLength: 12 }),
      fc.boolean(),
      (which, changes, headersToo) => {
        const seed = seeds[which] ?? new Uint8Array();
        const planes = decoders[which];
        assert.ok(planes);
        const jpeg = seed.slice();
        const from = headersToo ? 2 : 640;
        for (const [at, value] of changes) {
          if (jpeg.length > from) jpeg[from + at % (jpeg.length - from)] = value;
        }
        try {
          planes.draw(jpeg);
        } catch (error) {
          assert.ok(error instanceof MediaError, String(error));
          refused++;
        }
        planes.draw(seed, { all: true });
        assert.deepEqual(planesOf(planes), whole[which]);
      },
    ),
    { seed: 5, numRuns: 2000 },
  );
  assert.ok(refused > 200, `${refused}`);
});
