/**
 * The simulated scene: what a simulated camera sees, as one JPEG after another. A place that stands
 * still under a sensor's noise, a ball that rolls and bounces through it, and written over it the
 * camera's name, the frame's number and the time, once for people and once for machines
 * (`strip.ts`).
 *
 * A frame must cost next to nothing, or the simulator would eat the time that the program under
 * test is measured by. So a picture is a row of *bands*, each a run of restart intervals. Every band
 * of the backdrop is coded a few times under different noise and copied from then on, each frame
 * choosing anew among its variants; only the intervals under the strip, the text and the ball are
 * coded afresh.
 *
 * @module
 */
import { type Colour, colour, createPlanes, paintBackdrop, type Planes } from "./backdrop.ts";
import { drawText, GLYPH_ADVANCE, LINE_ADVANCE, textWidthPx } from "./font.ts";
import { IntervalCoder, jpegHeader, MCU_PX } from "./jpeg.ts";
import { gaussianNoise, seededRandom } from "./random.ts";
import { cameraCode, drawStrip, stripSize } from "./strip.ts";

/** What a scene is made from. */
export interface SceneOptions {
  /** The camera's name: written into the picture, and the seed of its place. */
  readonly name: string;
  /** At least 160. */
  readonly widthPx: number;
  /** At least 90. */
  readonly heightPx: number;
  /** Another seed shows another place under the same name. */
  readonly seed?: number;
  /** Nothing moves and the noise is low: only the clock and the strip change. */
  readonly still?: boolean;
  /** As most real cameras: no clock and no strip in the picture, so that only what moves changes. */
  readonly plain?: boolean;
  /** JPEG quality, 1 to 100; 85 by default, at which 1280 x 720 takes about 130 kB. */
  readonly quality?: number;
}

/** A camera's view. */
export interface Scene {
  /** Width of every frame, px. */
  readonly widthPx: number;
  /** Height of every frame, px. */
  readonly heightPx: number;
  /** The picture of this moment: a whole JPEG, in a buffer of its own. */
  frame(
    options: {
      readonly counter: number;
      readonly takenAtMs: number;
      /** Written for people in place of time and number. */
      readonly caption?: string;
    },
  ): Uint8Array<ArrayBuffer>;
}

/** Length of a restart interval. Longer: more is coded around what moved. Shorter: more markers. */
const RESTART_MCUS = 4;
/** How many ways a band is coded. */
const VARIANTS = 6;
/** Bands coded per frame until every variant exists: spreads the work of starting. */
const NEW_BANDS_PER_FRAME = 4;
const NOISE_COUNT = 1 << 16;
/** Standard deviation of the sensor's noise, of 255. */
const NOISE_SIGMA = 2.2;

/** A rectangle, px; `right` and `bottom` are outside of it. */
interface Box {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** Some restart intervals that are chosen and copied together. */
interface Band {
  readonly firstInterval: number;
  readonly variants: CodedBand[];
  last: number;
}

/** `ends[i]` is where interval `i` of the band ends, its RST marker included. */
interface CodedBand {
  readonly bytes: Uint8Array;
  readonly ends: Uint32Array;
}

/** Makes a scene; the first frames cost more than the later ones. */
export function createScene(options: SceneOptions): Scene {
  const { widthPx, heightPx } = options;
  for (const [what, value, least] of [["width", widthPx, 160], ["height", heightPx, 90]] as const) {
    if (!Number.isInteger(value) || value < least || value > 8192) {
      throw new RangeError(
        `cannot make a scene with a ${what} of ${value} px: give a whole number from ${least} to 8192`,
      );
    }
  }
  return new CodedScene(options);
}

class CodedScene implements Scene {
  readonly widthPx: number;
  readonly heightPx: number;
  readonly #name: string;
  readonly #camera: number;
  readonly #still: boolean;
  readonly #plain: boolean;
  readonly #random: () => number;
  readonly #backdrop: Planes;
  /** The backdrop with what is drawn over it in the present frame. */
  readonly #canvas: Planes;
  readonly #noise: Int8Array;
  readonly #coder: IntervalCoder;
  readonly #samples = new Uint8ClampedArray(384);
  readonly #header: Uint8Array;
  readonly #mcusPerRow: number;
  readonly #mcuCount: number;
  readonly #intervalCount: number;
  readonly #intervalsPerBand: number;
  readonly #bands: readonly Band[];
  readonly #textScale: number;
  readonly #textTopPx: number;
  readonly #ball: Ball;
  #out: Uint8Array = new Uint8Array(256 * 1024);

  constructor(options: SceneOptions) {
    const { widthPx, heightPx, quality = 85 } = options;
    this.widthPx = widthPx;
    this.heightPx = heightPx;
    this.#name = options.name;
    this.#camera = cameraCode(options.name);
    this.#still = options.still ?? false;
    this.#plain = options.plain ?? false;
    const seed = this.#camera ^ Math.imul(options.seed ?? 0, 0x9e3779b1);
    this.#random = seededRandom(seed + 1);
    this.#backdrop = paintBackdrop({ widthPx, heightPx, seed });
    this.#noise = gaussianNoise(this.#random, {
      count: NOISE_COUNT,
      sigma: this.#still ? NOISE_SIGMA / 3 : NOISE_SIGMA,
    });
    this.#coder = new IntervalCoder(quality);
    this.#header = jpegHeader({ widthPx, heightPx, quality, restartMcus: RESTART_MCUS });
    this.#mcusPerRow = this.#backdrop.strideBytes / MCU_PX;
    this.#mcuCount = this.#mcusPerRow * this.#backdrop.rows / MCU_PX;
    this.#intervalCount = Math.ceil(this.#mcuCount / RESTART_MCUS);
    this.#intervalsPerBand = Math.max(1, Math.round(this.#mcusPerRow / RESTART_MCUS));
    this.#bands = Array.from(
      { length: Math.ceil(this.#intervalCount / this.#intervalsPerBand) },
      (_, index) => ({
        firstInterval: index * this.#intervalsPerBand,
        variants: [],
        last: -1,
      }),
    );
    this.#textScale = widthPx < 480 ? 1 : widthPx < 1100 ? 2 : widthPx < 1600 ? 3 : 4;
    const strip = stripSize(widthPx);
    this.#textTopPx = strip.heightPx;
    this.#writeName();
    this.#canvas = createPlanes(widthPx, heightPx);
    this.#canvas.y.set(this.#backdrop.y);
    this.#canvas.cb.set(this.#backdrop.cb);
    this.#canvas.cr.set(this.#backdrop.cr);
    this.#ball = createBall({ widthPx, heightPx, random: this.#random, planes: this.#canvas });
  }

  /** The name never changes, so it is a part of the backdrop. */
  #writeName(): void {
    const scale = this.#textScale;
    const space = Math.floor((this.widthPx - scale) / (GLYPH_ADVANCE * scale));
    const name = [...this.#name].slice(0, space).join("");
    const planes = this.#backdrop;
    fillBox(planes, {
      left: 0,
      top: this.#textTopPx,
      right: Math.min(this.widthPx, textWidthPx(name, scale) + 2 * scale),
      bottom: this.#textTopPx + (LINE_ADVANCE + 2) * scale,
    }, [16, 128, 128]);
    drawText(planes.y, name, {
      xPx: scale,
      yPx: this.#textTopPx + scale * 2,
      scale,
      strideBytes: planes.strideBytes,
      value: 235,
    });
  }

  frame(
    { counter, takenAtMs, caption }: {
      readonly counter: number;
      readonly takenAtMs: number;
      readonly caption?: string;
    },
  ): Uint8Array<ArrayBuffer> {
    // The ball first: it may bounce behind the text, never in front of it.
    const ball = this.#ball.draw(this.#still ? 0 : takenAtMs);
    const text = caption ?? `${new Date(takenAtMs).toISOString().replace("T", " ")} #${counter}`;
    const texts = this.#plain ? [] : [this.#drawStrip(counter, takenAtMs), this.#drawCaption(text)];
    const bytes = this.#assemble(this.#dirtyIntervals([...texts, ball]), texts);
    for (const box of [...texts, ball]) restoreBox(this.#canvas, this.#backdrop, box);
    return bytes;
  }

  #drawStrip(counter: number, takenAtMs: number): Box {
    const { widthPx, heightPx } = stripSize(this.widthPx);
    drawStrip(this.#canvas.y, { camera: this.#camera, counter, takenAtMs }, {
      widthPx: this.widthPx,
      strideBytes: this.#canvas.strideBytes,
    });
    const box = { left: 0, top: 0, right: widthPx, bottom: heightPx };
    fillChroma(this.#canvas, box, 128, 128);
    return box;
  }

  #drawCaption(text: string): Box {
    const scale = this.#textScale;
    const top = this.#textTopPx + (LINE_ADVANCE + 2) * scale;
    const box = {
      left: 0,
      top,
      right: Math.min(this.widthPx, textWidthPx(text, scale) + 2 * scale),
      bottom: top + (LINE_ADVANCE + 1) * scale,
    };
    fillBox(this.#canvas, box, [16, 128, 128]);
    drawText(this.#canvas.y, text, {
      xPx: scale,
      yPx: top,
      scale,
      strideBytes: this.#canvas.strideBytes,
      value: 235,
    });
    return box;
  }

  #dirtyIntervals(boxes: readonly Box[]): Uint8Array {
    const dirty = new Uint8Array(this.#intervalCount);
    for (const box of boxes) {
      const rightMcu = Math.ceil(box.right / MCU_PX);
      for (let row = Math.floor(box.top / MCU_PX); row < Math.ceil(box.bottom / MCU_PX); row++) {
        const first = row * this.#mcusPerRow;
        const from = Math.floor((first + Math.floor(box.left / MCU_PX)) / RESTART_MCUS);
        const to = Math.floor((first + rightMcu - 1) / RESTART_MCUS);
        dirty.fill(1, from, to + 1);
      }
    }
    return dirty;
  }

  /** Joins coded and copied intervals to a JPEG. */
  #assemble(dirty: Uint8Array, clean: readonly Box[]): Uint8Array<ArrayBuffer> {
    let out = this.#out;
    out.set(this.#header);
    let length = this.#header.length;
    let newBands = NEW_BANDS_PER_FRAME;
    const append = (bytes: Uint8Array) => {
      if (out.length - length < bytes.length + 2) {
        const grown = new Uint8Array(Math.max(out.length * 2, length + bytes.length + 2));
        grown.set(out.subarray(0, length));
        out = this.#out = grown;
      }
      out.set(bytes, length);
      length += bytes.length;
    };
    for (const band of this.#bands) {
      const { coded, made } = this.#variant(band, newBands > 0);
      if (made) newBands--;
      const count = coded.ends.length;
      let index = 0;
      while (index < count) {
        let end = index;
        const isDirty = dirty[band.firstInterval + index];
        while (end < count && dirty[band.firstInterval + end] === isDirty) end++;
        if (isDirty) {
          this.#coder.length = 0;
          for (let interval = index; interval < end; interval++) {
            this.#codeInterval(this.#canvas, band.firstInterval + interval, clean);
          }
          append(this.#coder.out.subarray(0, this.#coder.length));
        } else {
          append(coded.bytes.subarray(coded.ends[index - 1] ?? 0, coded.ends[end - 1]));
        }
        index = end;
      }
    }
    return out.slice(0, length) as Uint8Array<ArrayBuffer>;
  }

  /** One coded form of a band, never the one of the last frame while there is another. */
  #variant(band: Band, mayMake: boolean): { coded: CodedBand; made: boolean } {
    const wanted = this.#still ? 1 : VARIANTS;
    let made = false;
    if (band.variants.length === 0 || (mayMake && band.variants.length < wanted)) {
      band.variants.push(this.#codeBand(band));
      band.last = band.variants.length - 1;
      made = true;
    } else if (band.variants.length > 1) {
      const step = 1 + Math.floor(this.#random() * (band.variants.length - 1));
      band.last = (band.last + step) % band.variants.length;
    }
    const coded = band.variants[band.last];
    if (!coded) throw new Error("a band of the scene has no variant: this is a bug");
    return { coded, made };
  }

  #codeBand(band: Band): CodedBand {
    const count = Math.min(this.#intervalsPerBand, this.#intervalCount - band.firstInterval);
    const ends = new Uint32Array(count);
    this.#coder.length = 0;
    for (let index = 0; index < count; index++) {
      this.#codeInterval(this.#backdrop, band.firstInterval + index, []);
      ends[index] = this.#coder.length;
    }
    return { bytes: this.#coder.out.slice(0, this.#coder.length), ends };
  }

  /** Codes one interval with the marker behind it; MCUs that lie in a `clean` box get no noise. */
  #codeInterval(planes: Planes, interval: number, clean: readonly Box[]): void {
    const first = interval * RESTART_MCUS;
    const last = Math.min(first + RESTART_MCUS, this.#mcuCount);
    for (let mcu = first; mcu < last; mcu++) {
      const left = mcu % this.#mcusPerRow * MCU_PX;
      const top = Math.floor(mcu / this.#mcusPerRow) * MCU_PX;
      const plain = clean.some((box) =>
        left >= box.left && left < box.right && top + MCU_PX > box.top && top < box.bottom
      );
      const noiseAt = plain ? -1 : Math.floor(this.#random() * (NOISE_COUNT - 384));
      readMcu(this.#samples, planes, left, top, this.#noise, noiseAt);
      this.#coder.mcu(this.#samples);
    }
    this.#coder.endInterval();
    const { out } = this.#coder;
    const isLast = interval === this.#intervalCount - 1;
    out[this.#coder.length++] = 0xff;
    out[this.#coder.length++] = isLast ? 0xd9 : 0xd0 + (interval & 7);
  }
}

/** Gathers the six blocks of an MCU; `noiseAt` < 0 means without noise. */
function readMcu(
  samples: Uint8ClampedArray,
  planes: Planes,
  left: number,
  top: number,
  noise: Int8Array,
  noiseAt: number,
): void {
  const { y, cb, cr, strideBytes } = planes;
  let to = 0;
  for (let block = 0; block < 4; block++) {
    let from = (top + (block >> 1) * 8) * strideBytes + left + (block & 1) * 8;
    for (let row = 0; row < 8; row++, from += strideBytes) {
      for (let x = 0; x < 8; x++, to++) {
        // `!`: the planes are padded to whole MCUs.
        samples[to] = noiseAt < 0 ? y[from + x]! : y[from + x]! + noise[noiseAt + to]!;
      }
    }
  }
  const chromaStride = strideBytes >> 1;
  let from = (top >> 1) * chromaStride + (left >> 1);
  for (let row = 0; row < 8; row++, from += chromaStride) {
    for (let x = 0; x < 8; x++, to++) {
      samples[to] = cb[from + x]!;
      samples[to + 64] = cr[from + x]!;
    }
  }
}

/** The thing that moves. */
interface Ball {
  /** Draws it where it is at this moment and returns the box that it covers. */
  draw(atMs: number): Box;
}

function createBall(
  { widthPx, heightPx, random, planes }: {
    readonly widthPx: number;
    readonly heightPx: number;
    readonly random: () => number;
    readonly planes: Planes;
  },
): Ball {
  const radius = Math.round(heightPx * 0.085);
  const periodMs = 7000 + random() * 6000;
  const bounceMs = 900 + random() * 700;
  const phaseMs = random() * periodMs;
  const stripes: readonly Colour[] = random() < 0.5
    ? [colour(214, 44, 40), colour(236, 230, 220)]
    : [colour(32, 96, 190), colour(244, 206, 60)];
  const floor = Math.round(heightPx * 0.94) - radius;
  const travel = widthPx - 2 * radius - 2;
  return {
    draw(atMs) {
      // To the right in the first half of the period and back in the second.
      const turn = (atMs + phaseMs) % periodMs / periodMs * 2;
      const along = turn < 1 ? turn : 2 - turn;
      const centreX = Math.round(radius + 1 + along * travel);
      const hop = Math.abs(Math.sin(Math.PI * (atMs % (bounceMs * 2)) / bounceMs));
      const centreY = Math.round(floor - hop * heightPx * 0.3);
      const spin = along * travel / radius;
      drawBall(planes, { centreX, centreY, radius, spin, stripes });
      return {
        left: centreX - radius,
        top: centreY - radius,
        right: centreX + radius,
        bottom: centreY + radius,
      };
    },
  };
}

function drawBall(
  planes: Planes,
  ball: {
    readonly centreX: number;
    readonly centreY: number;
    readonly radius: number;
    readonly spin: number;
    readonly stripes: readonly Colour[];
  },
): void {
  const { centreX, centreY, radius, stripes } = ball;
  const cos = Math.cos(ball.spin), sin = Math.sin(ball.spin);
  const chromaStride = planes.strideBytes >> 1;
  const [first = [128, 128, 128], second = first] = stripes;
  for (let dy = -radius; dy < radius; dy++) {
    const half = Math.floor(Math.sqrt(radius * radius - dy * dy));
    const y = centreY + dy;
    for (let dx = -half; dx < half; dx++) {
      const x = centreX + dx;
      // Four quarters in two colours that turn with the ball, lit from the upper left.
      const quarter = (dx * cos + dy * sin > 0) === (dy * cos - dx * sin > 0);
      const tint = quarter ? first : second;
      const shade = (dx * 0.5 + dy * 0.8) / radius;
      planes.y[y * planes.strideBytes + x] = Math.max(
        0,
        Math.min(255, tint[0] * (1 - 0.35 * shade) - 12 * shade * shade),
      );
      if ((x | y) & 1) continue;
      const index = (y >> 1) * chromaStride + (x >> 1);
      planes.cb[index] = tint[1];
      planes.cr[index] = tint[2];
    }
  }
}

function fillBox(planes: Planes, box: Box, [luma, cb, cr]: Colour): void {
  for (let y = box.top; y < box.bottom; y++) {
    planes.y.fill(luma, y * planes.strideBytes + box.left, y * planes.strideBytes + box.right);
  }
  fillChroma(planes, box, cb, cr);
}

function fillChroma(planes: Planes, box: Box, cb: number, cr: number): void {
  const stride = planes.strideBytes >> 1;
  for (let y = box.top >> 1; y < box.bottom >> 1; y++) {
    const from = y * stride + (box.left >> 1), to = y * stride + (box.right >> 1);
    planes.cb.fill(cb, from, to);
    planes.cr.fill(cr, from, to);
  }
}

function restoreBox(to: Planes, from: Planes, box: Box): void {
  for (let y = box.top; y < box.bottom; y++) {
    const start = y * to.strideBytes + box.left, end = y * to.strideBytes + box.right;
    to.y.set(from.y.subarray(start, end), start);
  }
  const stride = to.strideBytes >> 1;
  for (let y = box.top >> 1; y < box.bottom + 1 >> 1; y++) {
    const start = y * stride + (box.left >> 1), end = y * stride + (box.right + 1 >> 1);
    to.cb.set(from.cb.subarray(start, end), start);
    to.cr.set(from.cr.subarray(start, end), start);
  }
}
