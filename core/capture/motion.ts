/**
 * Sees motion in a camera's JPEGs: which part of the picture is not what it was half a second ago,
 * beyond the sensor's noise. A clock that is written into the picture, leaves in the wind or a screen
 * change all the time: what counts is clearly more than has been usual in the last minute.
 *
 * Two pictures a second are looked at, each for one to five milliseconds.
 *
 * @module
 */
import { parseJpeg } from "../media/jpeg.ts";
import { canDrawPlanes, JpegPlanes } from "../media/jpeg_planes.ts";

/** See {@linkcode createMotionFinder}. */
export interface MotionFinder {
  /**
   * Looks at a picture. `unknown` where it is of a kind that cannot be looked into here, or not enough
   * pictures were seen yet; `resting` where it is too soon for another look.
   */
  look(jpeg: Uint8Array, atMs: number): "motion" | "still" | "resting" | "unknown";
}

/** Time between two looks, ms. */
const EVERY_MS = 500;
/** The usual is what the looks of the last minute gave. */
const USUAL_LOOKS = 120;
/** Looks before anything is said. */
const LEARNING_LOOKS = 6;
/** So much of the picture must change beyond one and a half times the usual. */
const LEAST_SHARE = 0.005;

/** Makes one for a camera. */
export function createMotionFinder(): MotionFinder {
  let planes: JpegPlanes | undefined;
  let nextMs = -Infinity;
  let shares: number[] = [];
  return {
    look(jpeg, atMs) {
      // A clock that went back must not end the looking.
      if (atMs < nextMs && nextMs - atMs <= EVERY_MS) return "resting";
      nextMs = atMs + EVERY_MS;
      try {
        const format = parseJpeg(jpeg);
        const whole = jpeg.subarray(0, format.sizeBytes);
        if (!planes?.fits(format)) {
          if (!canDrawPlanes(format)) return "unknown";
          planes = new JpegPlanes(format);
          planes.draw(whole);
          shares = [];
          return "unknown";
        }
        const share = planes.draw(whole) / planes.macroblocks;
        const usual = [...shares].sort((a, b) => a - b)[Math.floor(shares.length / 2)] ?? 1;
        shares.push(share);
        if (shares.length > USUAL_LOOKS) shares.shift();
        if (shares.length <= LEARNING_LOOKS) return "unknown";
        return share > 1.5 * usual + LEAST_SHARE ? "motion" : "still";
      } catch {
        return "resting"; // damaged: the encoder tells of it
      }
    },
  };
}
