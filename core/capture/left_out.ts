/**
 * Notices pictures that are missing in the midst of a live session: a camera that falls silent for
 * some seconds, or that leaves pictures out because its network is too slow, does not end it. It is the
 * pictures' own times that tell, so what only comes late is not missed.
 *
 * @module
 */

/** Less than this is no gap, µs. */
const LEAST_US = 2_000_000;
/** Nor is less than so many times the usual distance of two pictures. */
const LEAST_STEPS = 4;
/** The share of the newest distance in the usual one. */
const NEWEST_SHARE = 1 / 8;

/** Looks at the pictures of one session. */
export class LeftOutPictures {
  #lastUs: number | undefined;
  #usualUs: number | undefined;

  /** The next picture, by its decode time. @returns the length of the gap before it, ms, if there is one */
  gapBefore(dtsUs: number): number | undefined {
    const lastUs = this.#lastUs;
    this.#lastUs = dtsUs;
    if (lastUs === undefined) return undefined;
    const stepUs = dtsUs - lastUs;
    const usualUs = this.#usualUs ?? stepUs;
    const mostUs = Math.max(LEAST_US, LEAST_STEPS * usualUs);
    // A camera may become slower for good: then that is what is usual.
    this.#usualUs = usualUs + (Math.min(stepUs, mostUs) - usualUs) * NEWEST_SHARE;
    return stepUs > mostUs ? (stepUs - usualUs) / 1000 : undefined;
  }
}
