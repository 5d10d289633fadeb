/**
 * Time in a NexusTalk playback. Each channel counts for itself, in ticks and by differences; here
 * they come onto the session's one line of media time, which is the monotonic clock of this machine.
 *
 * A channel stands at `start_time` plus all deltas so far. Where that leads astray it is set right:
 *
 * - a single delta of more than five seconds that no pause in the arrivals explains (a jump of the
 *   camera's clock) counts as the pause that there was;
 * - when for ten seconds everything came more than two seconds late (the server left something out
 *   and did not say so) or more than five early, all channels move together, so that sound and
 *   picture stay with each other. This also takes up the drift of the camera's clock;
 * - sound that is counted in samples has a clock of its own, which a hundred millionths take half a
 *   second away in an hour. What a channel was late by at least in ten seconds tells: where sound has
 *   moved away from the pictures since the beginning, it is moved back a little at a time.
 *
 * A negative delta is kept in the sum, because the next one makes up for it where it was meant; the
 * times given out never go back.
 *
 * @module
 */
import type { Clock } from "../../types.ts";

const JUMP_US = 5_000_000;
const WINDOW_MS = 10_000;
const LATE_US = 2_000_000;
const EARLY_US = 5_000_000;
/** Channels of one playback begin together; more apart than this is not believed. */
const MAX_OFFSET_US = 250_000;
/** A first picture older than this was not just taken: the server's clock is wrong, or ours. */
const MAX_AGE_MS = 10_000;
/** Sound that has moved away from the pictures by more is put right, by so much in a window, µs. */
const DRIFT_US = 15_000;
const MOST_STEP_US = 10_000;
/** Windows after which the usual distance of the two is known. */
const LEARNING_WINDOWS = 3;
/** Two units of a track are at least so far apart. */
const LEAST_STEP_US = 1000;

/** The two channels that are recorded. */
export type ChannelKind = "video" | "audio";

/** What PLAYBACK_BEGIN says of a channel's time. */
export interface ChannelTime {
  readonly kind: ChannelKind;
  readonly ticksPerSecond: number;
  /** Unix seconds; 0 where the server does not say. */
  readonly startTime: number;
}

interface Counter {
  readonly ticksPerSecond: number;
  /** Where the channel's 0 lies in media time. */
  zeroUs: number;
  ticks: number;
  lastArrivalUs: number;
  /** What it was late by at least in this window. */
  leastLateUs: number;
  /** The last time given out. */
  lastUs: number;
}

/** Media time of one session, over all its playbacks. */
export class NexusClock {
  readonly #clock: Clock;
  readonly #counters = new Map<ChannelKind, Counter>();
  #windowEndMs = -Infinity;
  #leastLateUs = Infinity;
  #corrections = 0;
  /** How much later than the pictures sound used to come, window by window. */
  #distancesUs: number[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How often time was set right. */
  get corrections(): number {
    return this.#corrections;
  }

  /** A playback begins with these channels; times go on from those of the one before. */
  begin(channels: readonly ChannelTime[]): void {
    const nowMs = this.#clock.monotonic();
    const starts = channels.map(({ startTime }) => startTime).filter((time) => time > 0);
    const firstStart = starts.length === 0 ? 0 : Math.min(...starts);
    const ageMs = this.#clock.now() - firstStart * 1000;
    const zeroMs = ageMs >= 0 && ageMs <= MAX_AGE_MS ? nowMs - ageMs : nowMs;
    const previous = new Map(this.#counters);
    this.#counters.clear();
    for (const channel of channels) {
      const offsetUs = channel.startTime > 0 ? (channel.startTime - firstStart) * 1e6 : 0;
      this.#counters.set(channel.kind, {
        ticksPerSecond: channel.ticksPerSecond,
        zeroUs: Math.round(zeroMs * 1000 + Math.min(offsetUs, MAX_OFFSET_US)),
        ticks: 0,
        lastArrivalUs: nowMs * 1000,
        leastLateUs: Infinity,
        lastUs: previous.get(channel.kind)?.lastUs ?? -Infinity,
      });
    }
    this.#windowEndMs = nowMs + WINDOW_MS;
    this.#leastLateUs = Infinity;
    this.#distancesUs = [];
  }

  /** Moves a channel on by the delta of a packet that has arrived. */
  advance(kind: ChannelKind, delta: number): void {
    const counter = this.#counters.get(kind);
    if (!counter) return;
    const arrivalUs = this.#clock.monotonic() * 1000;
    counter.ticks += delta;
    const deltaUs = delta * 1e6 / counter.ticksPerSecond;
    const pauseUs = arrivalUs - counter.lastArrivalUs;
    if (Math.abs(deltaUs) > JUMP_US && Math.abs(deltaUs - pauseUs) > JUMP_US) {
      counter.zeroUs += Math.round(pauseUs - deltaUs);
      this.#corrections++;
      this.#distancesUs = []; // where the two stand now is the new beginning
    }
    counter.lastArrivalUs = arrivalUs;
    const lateUs = arrivalUs - this.#standsAtUs(counter);
    counter.leastLateUs = Math.min(counter.leastLateUs, lateUs);
    this.#watch(arrivalUs, lateUs);
  }

  /** Where the channel stands, µs of media time; later each time it is asked. */
  takeUs(kind: ChannelKind): number {
    const counter = this.#counters.get(kind);
    if (!counter) return 0;
    counter.lastUs = Math.max(this.#standsAtUs(counter), counter.lastUs + LEAST_STEP_US);
    return counter.lastUs;
  }

  /** The wall time of a moment of media time, ms. */
  wallMs(atUs: number): number {
    return Math.round(this.#clock.now() - (this.#clock.monotonic() - atUs / 1000));
  }

  #standsAtUs({ zeroUs, ticks, ticksPerSecond }: Counter): number {
    return zeroUs + Math.round(ticks * 1e6 / ticksPerSecond);
  }

  #watch(arrivalUs: number, lateUs: number): void {
    this.#leastLateUs = Math.min(this.#leastLateUs, lateUs);
    if (arrivalUs < this.#windowEndMs * 1000) return;
    if (this.#leastLateUs > LATE_US || this.#leastLateUs < -EARLY_US) {
      for (const counter of this.#counters.values()) {
        counter.zeroUs += Math.round(this.#leastLateUs);
      }
      this.#corrections++;
    }
    this.#followSound();
    this.#windowEndMs = arrivalUs / 1000 + WINDOW_MS;
    this.#leastLateUs = Infinity;
  }

  /** Moves sound back to where it stood beside the pictures. */
  #followSound(): void {
    const video = this.#counters.get("video");
    const audio = this.#counters.get("audio");
    const distanceUs = (audio?.leastLateUs ?? Infinity) - (video?.leastLateUs ?? Infinity);
    for (const counter of this.#counters.values()) counter.leastLateUs = Infinity;
    if (audio === undefined || !Number.isFinite(distanceUs)) return; // one of them is silent
    if (this.#distancesUs.length < LEARNING_WINDOWS) {
      this.#distancesUs.push(distanceUs);
      return;
    }
    const usualUs = this.#distancesUs.toSorted((a, b) => a - b)[1] ?? distanceUs;
    const driftUs = distanceUs - usualUs;
    if (Math.abs(driftUs) <= DRIFT_US) return;
    audio.zeroUs += Math.round(Math.max(-MOST_STEP_US, Math.min(MOST_STEP_US, driftUs)));
  }
}
