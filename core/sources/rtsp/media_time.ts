/**
 * From RTP timestamps to the session's media time and to wall time.
 *
 * **Media time** follows the video's own clock, so that pictures keep the distances that the camera
 * gave them. Sound has a clock of its own that starts anywhere and runs a little faster or slower;
 * where it stands beside the pictures is told by the camera's sender reports (RFC 3550 §6.4.1), before
 * the first of them by `RTP-Info`, and without either by the times of arrival. What has to be put right
 * is put right slowly, so that a frame becomes a little longer or shorter and none is lost.
 *
 * **Wall time** is that of arrival: cameras' clocks are wrong. A packet can be late but never early, so
 * the least delay of some seconds is the one that counts, and pictures keep their distances in wall
 * time too.
 *
 * **Jumps.** A timestamp that leaves the clock on the wall by seconds is a new beginning: media time
 * goes on from where it was.
 *
 * **Decode times** are not sent. Where pictures are reordered by at most N, the time at which a picture
 * is decoded is the N-th shown before it.
 *
 * @module
 */
import type { SenderReport } from "./rtp_receiver.ts";

/** Media time and arrival may drift apart so far before it is taken for a jump, ms. */
const JUMP_MS = 5000;
const WINDOW_MS = 10_000;

/** One track's clock. */
export class TrackClock {
  readonly #rateHz: number;
  #originTicks = 0;
  #originUs = 0;
  #lastUs = -Infinity;
  #lastArrivalMs = 0;
  #hasBegun = false;
  /** Least delay of this window and of the last one, ms. */
  #windowEndMs = -Infinity;
  #least = Infinity;
  #leastBefore = Infinity;
  #offsetMs = 0;
  /** Jumps so far: what was told about timestamps before one is void. */
  jumps = 0;

  constructor(rateHz: number) {
    this.#rateHz = rateHz;
  }

  /** The time of a timestamp, µs from the track's beginning; may be called for any timestamp. */
  usOf(ticks: number): number {
    return Math.round((ticks - this.#originTicks) * 1e6 / this.#rateHz) + this.#originUs;
  }

  /** Ticks as µs. */
  durationUs(ticks: number): number {
    return ticks * 1e6 / this.#rateHz;
  }

  /** The time of a unit that came at `arrivalMs` (monotonic). */
  take(ticks: number, arrivalMs: number): number {
    if (!this.#hasBegun) {
      this.#hasBegun = true;
      this.#originTicks = ticks;
      this.#lastUs = 0;
      this.#lastArrivalMs = arrivalMs;
      this.#offsetMs = arrivalMs;
    }
    let us = this.usOf(ticks);
    const arrivedUs = (arrivalMs - this.#lastArrivalMs) * 1000;
    if (Math.abs(us - this.#lastUs - arrivedUs) > JUMP_MS * 1000) {
      this.#originTicks = ticks;
      this.#originUs = Math.round(this.#lastUs + Math.max(1000, arrivedUs));
      us = this.#originUs;
      this.jumps++;
      this.#least = this.#leastBefore = Infinity;
      this.#windowEndMs = -Infinity;
    }
    this.#lastUs = us;
    this.#lastArrivalMs = arrivalMs;
    this.#measure(us / 1000, arrivalMs);
    return us;
  }

  #measure(mediaMs: number, arrivalMs: number): void {
    const delayMs = arrivalMs - mediaMs;
    if (arrivalMs >= this.#windowEndMs) {
      if (this.#windowEndMs !== -Infinity) this.#leastBefore = this.#least;
      this.#least = delayMs;
      this.#windowEndMs = arrivalMs + WINDOW_MS;
    } else if (delayMs < this.#least) this.#least = delayMs;
    const target = Math.min(this.#least, this.#leastBefore);
    const error = target - this.#offsetMs;
    // Slowly: at most some ms for each unit, so that wall time never goes back.
    this.#offsetMs += Math.abs(error) > JUMP_MS ? error : Math.max(-5, Math.min(1, error));
  }

  /** What must be added to media time to get the monotonic clock's time, ms. */
  get offsetMs(): number {
    return this.#offsetMs;
  }
}

/** Sound that is off by more than this is put right, µs. */
const DEADBAND_US = { told: 5000, guessed: 6000 };
/**
 * Arrival alone tells where sound stands only roughly, at each moment: packets come unevenly and are
 * read once to ten times a second. The mean of so long does not jump, and follows crystals that are 150
 * millionths apart by 5 ms.
 */
const GUESS_MS = 30_000;
const LEARNING_MS = 5000;
/** More than this is noticed, so it is put right fast; less, so slowly that nothing is heard of it. */
const NOTICED_US = 35_000;
/** A report that says something else than arrival does, by so much, is not believed. */
const MAX_SKEW_US = 2_000_000;

/** A sender report, and how many jumps there had been when it came. */
interface KnownReport {
  readonly ntpUs: number;
  readonly ticks: number;
  readonly jumps: number;
}

/** Places sound beside the pictures. */
export class SoundPlacer {
  readonly #video: TrackClock;
  readonly #audio: TrackClock;
  #videoReport: KnownReport | undefined;
  #audioReport: KnownReport | undefined;
  #begin: { readonly videoTicks: number; readonly audioTicks: number } | undefined;
  #shiftUs: number | undefined;
  #adjusting = false;
  #jumps = 0;
  #lastUs = -Infinity;
  /** What arrival says, on the average, and of how long that is the average. */
  #guess = { us: 0, overMs: 0 };

  constructor(clocks: { readonly video: TrackClock; readonly audio: TrackClock }) {
    this.#video = clocks.video;
    this.#audio = clocks.audio;
  }

  /** `RTP-Info` named these timestamps for the same moment. */
  begin(begin: { readonly videoTicks: number; readonly audioTicks: number }): void {
    this.#begin = begin;
  }

  /** A sender report came; `ticks` is its timestamp made endless. */
  report(kind: "video" | "audio", report: SenderReport, ticks: number): void {
    const jumps = this.#video.jumps + this.#audio.jumps;
    const known = { ntpUs: report.ntpUs, ticks, jumps };
    if (kind === "video") this.#videoReport = known;
    else this.#audioReport = known;
  }

  /** The time of a frame of sound in the session's media time, µs; never goes back. */
  take(ticks: number, durationTicks: number, arrivalMs: number): number {
    const ownUs = this.#audio.take(ticks, arrivalMs);
    const jumps = this.#video.jumps + this.#audio.jumps;
    if (jumps !== this.#jumps) {
      this.#jumps = jumps;
      this.#shiftUs = undefined;
      this.#begin = undefined;
      this.#guess = { us: 0, overMs: 0 };
    }
    const { shiftUs: target, isTold } = this.#target(this.#guessed(durationTicks));
    if (this.#shiftUs === undefined) this.#shiftUs = target;
    const error = target - this.#shiftUs;
    if (Math.abs(error) > (isTold ? DEADBAND_US.told : DEADBAND_US.guessed)) this.#adjusting = true;
    if (this.#adjusting) {
      const share = Math.abs(error) > NOTICED_US ? 0.25 : 0.02;
      const step = share * this.#audio.durationUs(durationTicks);
      this.#shiftUs += Math.max(-step, Math.min(step, error));
      if (Math.abs(error) <= step) this.#adjusting = false;
    }
    const us = Math.max(this.#lastUs + 1, Math.round(ownUs + this.#shiftUs));
    this.#lastUs = us;
    return us;
  }

  /** What arrival says now and has said lately. */
  #guessed(durationTicks: number): number {
    const nowUs = (this.#audio.offsetMs - this.#video.offsetMs) * 1000;
    const frameMs = this.#audio.durationUs(durationTicks) / 1000;
    const guess = this.#guess;
    guess.overMs = Math.min(GUESS_MS, guess.overMs + frameMs);
    // At first it only finds out what the least delays are.
    const share = guess.overMs < LEARNING_MS ? 1 : frameMs / guess.overMs;
    guess.us += (nowUs - guess.us) * share;
    return Math.round(guess.us);
  }

  /** What should be added to the sound's own time. */
  #target(arrivalUs: number): { readonly shiftUs: number; readonly isTold: boolean } {
    const video = this.#videoReport;
    const audio = this.#audioReport;
    if (video?.jumps === this.#jumps && audio?.jumps === this.#jumps) {
      const shiftUs = this.#video.usOf(video.ticks) + (audio.ntpUs - video.ntpUs) -
        this.#audio.usOf(audio.ticks);
      if (Math.abs(shiftUs - arrivalUs) <= MAX_SKEW_US) return { shiftUs, isTold: true };
    }
    if (this.#begin !== undefined) {
      const shiftUs = this.#video.usOf(this.#begin.videoTicks) -
        this.#audio.usOf(this.#begin.audioTicks);
      if (Math.abs(shiftUs - arrivalUs) <= MAX_SKEW_US / 4) return { shiftUs, isTold: true };
    }
    return { shiftUs: arrivalUs, isTold: false };
  }
}

/** How much earlier than shown the first pictures are decoded, for each one of reordering, µs. */
export const REORDER_STEP_US = 20_000;
const MAX_DEPTH = 16;

/** Makes decode times. */
export class DecodeTimes {
  #depth: number;
  /** Presentation times not yet used as decode times, in their order. */
  #waiting: number[] = [];
  #firstUs = 0;
  #count = 0;
  #lastUs = -Infinity;

  constructor(depth: number) {
    this.#depth = depth;
  }

  /** Pictures by which decoding runs ahead of showing. */
  get depth(): number {
    return this.#depth;
  }

  /** For pictures from the next key picture on. */
  restart(depth: number): void {
    this.#depth = Math.min(MAX_DEPTH, depth);
    this.#waiting = [];
    this.#count = 0;
  }

  /** The decode time of the next picture; `undefined` where it is reordered by more than was known. */
  take(ptsUs: number): number | undefined {
    if (this.#count === 0) this.#firstUs = ptsUs;
    const waiting = this.#waiting;
    let at = waiting.length;
    while (at > 0 && (waiting[at - 1] ?? 0) > ptsUs) at--;
    if (at === waiting.length) waiting.push(ptsUs); // nearly always, and without an array for nothing
    else waiting.splice(at, 0, ptsUs);
    const raw = this.#count < this.#depth
      ? this.#firstUs - (this.#depth - this.#count) * REORDER_STEP_US
      : waiting.shift() ?? ptsUs;
    this.#count++;
    const us = Math.max(raw, this.#lastUs + 1);
    if (us > ptsUs) return undefined;
    this.#lastUs = us;
    return us;
  }
}
