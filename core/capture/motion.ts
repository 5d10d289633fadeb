/**
 * Sees motion in a camera's pictures: which part of one is not what it was in the one before, beyond
 * the sensor's noise. A clock that is written into the picture, leaves in the wind or a screen change
 * all the time: what counts is clearly more than is usual.
 *
 * Usual is what the last looks gave and those some time ago did too. So somebody who stays is not taken
 * for usual before that time is over, and what was usual is forgotten soon after it ends.
 *
 * Of JPEGs two a second are looked at, each for one to five milliseconds: what goes on for two or three
 * minutes is usual then. Of coded video the key pictures are, which come every second to every fourth:
 * there it takes two to six times as long, and a camera is seen through after the first seven of them.
 *
 * @module
 */
import type { GrayPicture } from "../encode/mod.ts";
import { parseJpeg } from "../media/jpeg.ts";
import { canDrawPlanes, JpegPlanes } from "../media/jpeg_planes.ts";

/** What a look gives: `unknown` where not enough pictures were seen yet. */
export type Sight = "motion" | "still" | "unknown";

/** See {@linkcode createMotionFinder}. */
export interface MotionFinder {
  /**
   * Looks at a picture. `resting` where it is too soon for another look; `foreign` where it is of a kind
   * that cannot be looked into here: progressive, or on a processor without SIMD.
   */
  look(jpeg: Uint8Array, atMs: number): Sight | "resting" | "foreign";
}

/** Time between two looks at JPEGs, ms. */
const EVERY_MS = 500;
/** The last looks are so many. */
const RECENT_LOOKS = 60;
/** Those some time ago are so many, and there are so many more recent ones. */
const EARLIER = { looks: 120, ago: 240 };
/** Looks before anything is said. */
const LEARNING_LOOKS = 6;
/** So much of the picture must change beyond one and a half times the usual. */
const LEAST_SHARE = 0.005;

/** Makes one for a camera that gives JPEGs. */
export function createMotionFinder(): MotionFinder {
  const pace = createPace(EVERY_MS);
  const usual = createUsual();
  let planes: JpegPlanes | undefined;
  return {
    look(jpeg, atMs) {
      if (!pace.isDue(atMs)) return "resting";
      try {
        const format = parseJpeg(jpeg);
        const whole = jpeg.subarray(0, format.sizeBytes);
        if (!canDrawPlanes(format)) return "foreign";
        if (!planes?.fits(format)) {
          planes = new JpegPlanes(format);
          planes.draw(whole);
          usual.forget();
          return "unknown";
        }
        return usual.judge(planes.draw(whole) / planes.macroblocks);
      } catch {
        return "resting"; // damaged: the encoder tells of it
      }
    },
  };
}

/** Sides of a block of a gray picture, px. */
const BLOCK_PX = 4;
/** A block differs by at least so much per pixel, of 255. */
const LEAST_DIFFERENCE = 4;
/** How many times the median of the picture's blocks that must be, and the mean of its own. */
const TIMES = { median: 3, own: 1.5 };
/** A block's own mean is that of about so many looks, at most. */
const OWN_LOOKS = 120;

/** Makes one for pictures that something else has decoded: key pictures, one after the other. */
export function createKeyPictureMotionFinder(): { look(picture: GrayPicture): Sight } {
  const usual = createUsual();
  let before: GrayPicture | undefined;
  let own = new Float32Array();
  let looks = 0;
  return {
    look(picture) {
      const { widthPx, heightPx } = picture;
      const last = before;
      before = picture;
      if (last?.widthPx !== widthPx || last.heightPx !== heightPx) {
        own = new Float32Array(Math.ceil(widthPx / BLOCK_PX) * Math.ceil(heightPx / BLOCK_PX));
        looks = 0;
        usual.forget();
        return "unknown";
      }
      looks = Math.min(looks + 1, OWN_LOOKS);
      const differences = blockDifferences(last, picture);
      const least = LEAST_DIFFERENCE + TIMES.median * median(differences);
      let changed = 0;
      for (const [block, difference] of differences.entries()) {
        const mean = own[block] ?? 0;
        if (difference > least + TIMES.own * mean) changed++;
        own[block] = mean + (difference - mean) / looks;
      }
      return usual.judge(changed / differences.length);
    },
  };
}

/**
 * How much each block differs per pixel. A picture that has become lighter or darker all over, because
 * the sun went or the camera set its exposure anew, is put right by the median before.
 */
function blockDifferences(a: GrayPicture, b: GrayPicture): Float32Array {
  const { widthPx, heightPx } = b;
  const signed = Int16Array.from(b.pixels, (value, i) => value - (a.pixels[i] ?? 0));
  const shift = median(signed);
  const across = Math.ceil(widthPx / BLOCK_PX);
  const sums = new Float32Array(across * Math.ceil(heightPx / BLOCK_PX));
  const counts = new Uint8Array(sums.length);
  for (let y = 0, i = 0; y < heightPx; y++) {
    const row = Math.floor(y / BLOCK_PX) * across;
    for (let x = 0; x < widthPx; x++, i++) {
      const block = row + Math.floor(x / BLOCK_PX);
      sums[block] = (sums[block] ?? 0) + Math.abs((signed[i] ?? 0) - shift);
      counts[block] = (counts[block] ?? 0) + 1;
    }
  }
  return sums.map((sum, block) => sum / (counts[block] ?? 1));
}

/** The middle one; 0 of none. */
function median(values: readonly number[] | Int16Array | Float32Array): number {
  const sorted = Float32Array.from(values).sort();
  return sorted[sorted.length >> 1] ?? 0;
}

/** Says when the next look is due. */
export function createPace(everyMs: number): { isDue(atMs: number): boolean } {
  let nextMs = -Infinity;
  return {
    isDue(atMs) {
      // A clock that went back must not end the looking.
      if (atMs < nextMs && nextMs - atMs <= everyMs) return false;
      nextMs = atMs + everyMs;
      return true;
    },
  };
}

/** Knows which share of a camera's picture usually changes, and what is clearly more. */
function createUsual(): { judge(share: number): Sight; forget(): void } {
  let shares: number[] = [];
  return {
    judge(share) {
      // In the beginning the first looks are those some time ago.
      const earlier = shares.slice(0, Math.max(LEARNING_LOOKS, shares.length - EARLIER.ago));
      const usual = Math.min(median(shares.slice(-RECENT_LOOKS)), median(earlier));
      shares.push(share);
      if (shares.length > EARLIER.looks + EARLIER.ago) shares.shift();
      if (shares.length <= LEARNING_LOOKS) return "unknown";
      return share > 1.5 * usual + LEAST_SHARE ? "motion" : "still";
    },
    forget() {
      shares = [];
    },
  };
}
