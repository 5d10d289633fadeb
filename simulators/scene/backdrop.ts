/**
 * The unmoving part of a simulated picture, as planes of YUV 4:2:0: sky or wall with a soft light,
 * hills, houses and a rough ground. Every camera name gives another place, another hour and other
 * colours, so that two cameras cannot be mistaken for one another, by a person or by a test.
 *
 * @module
 */
import { seededRandom } from "./random.ts";

/** One picture in full-range YUV 4:2:0; the planes are padded to whole MCUs. */
export interface Planes {
  readonly y: Uint8Array;
  readonly cb: Uint8Array;
  readonly cr: Uint8Array;
  /** Bytes in a row of `y`; the other two have half of it. */
  readonly strideBytes: number;
  /** Rows of `y`; the other two have half of them. */
  readonly rows: number;
}

/** A colour as full-range YUV. */
export type Colour = readonly [y: number, cb: number, cr: number];

/** The BT.601 full-range colour of JFIF for an RGB triple of 0 to 255. */
export function colour(red: number, green: number, blue: number): Colour {
  return [
    0.299 * red + 0.587 * green + 0.114 * blue,
    128 - 0.168736 * red - 0.331264 * green + 0.5 * blue,
    128 + 0.5 * red - 0.418688 * green - 0.081312 * blue,
  ];
}

interface Palette {
  readonly high: Colour;
  readonly low: Colour;
  readonly hill: Colour;
  readonly wall: Colour;
  readonly ground: Colour;
  readonly light: number;
}

const PALETTES: readonly Palette[] = [
  { // noon
    high: colour(92, 142, 205),
    low: colour(196, 214, 228),
    hill: colour(84, 118, 82),
    wall: colour(178, 120, 96),
    ground: colour(110, 132, 78),
    light: 40,
  },
  { // evening
    high: colour(70, 74, 122),
    low: colour(226, 152, 104),
    hill: colour(70, 62, 80),
    wall: colour(128, 104, 112),
    ground: colour(98, 84, 72),
    light: 55,
  },
  { // overcast
    high: colour(150, 156, 162),
    low: colour(196, 198, 198),
    hill: colour(104, 116, 110),
    wall: colour(142, 146, 156),
    ground: colour(120, 118, 112),
    light: 12,
  },
  { // indoors
    high: colour(196, 178, 150),
    low: colour(168, 146, 118),
    hill: colour(132, 104, 82),
    wall: colour(92, 116, 138),
    ground: colour(142, 104, 70),
    light: 50,
  },
  { // infrared at night
    high: [44, 128, 128],
    low: [88, 128, 128],
    hill: [66, 128, 128],
    wall: [120, 128, 128],
    ground: [100, 128, 128],
    light: 60,
  },
];

/** Smooth noise of 0 to 1 with features about `1 / frequency` long, from a lattice of random values. */
function smoothNoise(random: () => number): (x: number, y: number) => number {
  const SIDE = 64;
  const lattice = Float32Array.from({ length: SIDE * SIDE }, random);
  const at = (x: number, y: number) => lattice[(y & SIDE - 1) * SIDE + (x & SIDE - 1)] ?? 0;
  return (x, y) => {
    const left = Math.floor(x), top = Math.floor(y);
    const u = x - left, v = y - top;
    const upper = at(left, top) * (1 - u) + at(left + 1, top) * u;
    const lower = at(left, top + 1) * (1 - u) + at(left + 1, top + 1) * u;
    return upper * (1 - v) + lower * v;
  };
}

/** Empty planes for a picture of this size. */
export function createPlanes(widthPx: number, heightPx: number): Planes {
  const strideBytes = Math.ceil(widthPx / 16) * 16;
  const rows = Math.ceil(heightPx / 16) * 16;
  return {
    y: new Uint8Array(strideBytes * rows),
    cb: new Uint8Array(strideBytes * rows / 4),
    cr: new Uint8Array(strideBytes * rows / 4),
    strideBytes,
    rows,
  };
}

/** Paints the place that this seed stands for. */
export function paintBackdrop(
  options: { readonly widthPx: number; readonly heightPx: number; readonly seed: number },
): Planes {
  const random = seededRandom(options.seed);
  const palette = PALETTES[Math.floor(random() * PALETTES.length)] ?? PALETTES[0]!;
  const planes = createPlanes(options.widthPx, options.heightPx);
  // All of it is drawn in units of the picture's height, so that every size shows the same place.
  const unit = 1 / options.heightPx;
  const horizon = 0.45 + random() * 0.15;
  const hillPhase = random() * 10;
  const hillHeight = 0.05 + random() * 0.1;
  const light = { x: 0.3 + random() * 1.2, y: 0.15 + random() * 0.2 };
  const aspect = options.widthPx / options.heightPx;
  const houses = Array.from({ length: 2 + Math.floor(random() * 3) }, () => ({
    left: random() * aspect * 0.9,
    width: 0.15 + random() * 0.25,
    top: horizon - 0.06 - random() * 0.16,
    bottom: horizon + 0.04 + random() * 0.1,
    shade: 0.75 + random() * 0.5,
  }));
  const texture = smoothNoise(random);

  const at = (x: number, y: number): Colour => {
    for (const house of houses) {
      if (x < house.left || x > house.left + house.width || y < house.top || y > house.bottom) {
        continue;
      }
      const column = (x - house.left) / 0.06 % 1, row = (y - house.top) / 0.07 % 1;
      const window = column > 0.3 && column < 0.75 && row > 0.3 && row < 0.8;
      const bricks = texture(x * 90, y * 180) * 14 - 7;
      const [luma, cb, cr] = palette.wall;
      return window
        ? [38 + texture(x * 20, y * 20) * 60, 132, 124]
        : [luma * house.shade + bricks, cb, cr];
    }
    const hill = horizon - hillHeight * (1 + Math.sin(x * 4 + hillPhase) * Math.sin(x * 1.7));
    if (y < hill) {
      const depth = y / hill;
      const glow = palette.light * Math.exp(-((x - light.x) ** 2 + (y - light.y) ** 2) * 12);
      const cloud = (texture(x * 5, y * 9) * 0.65 + texture(x * 13, y * 22) * 0.35 - 0.5) * 26;
      return [
        palette.high[0] + (palette.low[0] - palette.high[0]) * depth + glow + cloud,
        palette.high[1] + (palette.low[1] - palette.high[1]) * depth - glow / 8,
        palette.high[2] + (palette.low[2] - palette.high[2]) * depth + glow / 8,
      ];
    }
    if (y < horizon) {
      const leaves = texture(x * 60, y * 90) * 28 - 14;
      return [palette.hill[0] + leaves, palette.hill[1], palette.hill[2]];
    }
    // The ground: grain that grows towards the viewer, and a paler path.
    const depth = (y - horizon) / (1 - horizon);
    const grain = texture(x * 60 / (0.3 + depth), y * 150 / (0.3 + depth)) * 34 - 17 +
      texture(x * 7, y * 18) * 20;
    const path = Math.abs(x - aspect / 2 - (depth - 1) * 0.3) < 0.06 + depth * 0.22;
    const [luma, cb, cr] = palette.ground;
    return path
      ? [luma + 38 + grain * 0.5, 128 + (cb - 128) * 0.4, 128 + (cr - 128) * 0.4]
      : [luma + depth * 14 + grain, cb, cr];
  };

  for (let y = 0; y < planes.rows; y++) {
    for (let x = 0; x < planes.strideBytes; x++) {
      const [luma, cb, cr] = at(x * unit, y * unit);
      planes.y[y * planes.strideBytes + x] = Math.max(0, Math.min(255, luma));
      if ((x & 1) === 0 && (y & 1) === 0) {
        const index = (y >> 1) * (planes.strideBytes >> 1) + (x >> 1);
        planes.cb[index] = Math.max(0, Math.min(255, cb));
        planes.cr[index] = Math.max(0, Math.min(255, cr));
      }
    }
  }
  return planes;
}
