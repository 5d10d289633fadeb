/**
 * The bounded queue between a camera and what records it. A camera cannot be told to wait, so when
 * the reader falls behind, units are shed, and every shed picture is counted.
 *
 * Pictures that stand alone (JPEG) are shed evenly: each time the queue is full, every second one
 * goes, and from then on only every second, fourth, … incoming picture is taken until the queue
 * has stayed short for a while. It is full too when its pictures have waited for long: what waits here
 * is lost at a crash, and a machine that is too slow loses as many pictures with a short queue as with
 * a long one. A stall of a moment only thins what waits. Coded video is shed up to the next key unit, because the units
 * between cannot be decoded without the ones that were shed; sound goes on as long as there is room.
 *
 * @module
 */
import type { AccessUnit, Track } from "../types.ts";

/** See {@linkcode createUnitQueue}. */
export interface UnitQueue extends AsyncIterable<AccessUnit> {
  /** Takes a unit, or sheds it. Never waits. */
  push(unit: AccessUnit): void;
  /** No more units will come; what is queued is still read. */
  end(): void;
  /** Units waiting to be read. */
  readonly length: number;
}

/** Bounds of a queue, and what kind of units it holds. */
export interface UnitQueueOptions {
  readonly maxUnits: number;
  readonly maxBytes: number;
  /** For pictures that stand alone: how long the oldest may wait before they are thinned, ms. */
  readonly maxWaitMs?: number;
  /** Monotonic time, ms. */
  readonly monotonic: () => number;
  /** Every unit of the video track stands alone. */
  readonly allKey: boolean;
  /** The track whose units decide where coded video may be cut. */
  readonly videoTrackId: number;
  /** Called with the number of pictures just shed. */
  readonly onShed: (pictures: number) => void;
}

const MAX_STRIDE = 16;

const DONE: IteratorResult<AccessUnit, undefined> = { done: true, value: undefined };

/** When nothing has waited for long for such a time, twice as many are taken again, ms. */
const RECOVERED_MS = 1000;

/** Makes an empty queue for one reader. */
export function createUnitQueue(options: UnitQueueOptions): UnitQueue {
  const { maxUnits, maxBytes, maxWaitMs = Infinity, allKey, videoTrackId, onShed } = options;
  let units: AccessUnit[] = [];
  /** When each of them came, where that counts. */
  let since: number[] = [];
  const thins = maxWaitMs < Infinity;
  let thinnedAtMs = -Infinity;
  let waitedAtMs = -Infinity;
  let bytes = 0;
  let ended = false;
  /** Who waits for the next unit. */
  let reader: ((result: IteratorResult<AccessUnit, undefined>) => void) | undefined;
  // Even shedding of pictures: one of `stride` incoming ones is taken.
  let stride = 1;
  let phase = 0;
  let takenWhileShort = 0;
  // Shedding of coded video: on until the next key unit.
  let skipping = false;
  // A description that came with a unit that was shed: the next unit of its track brings it.
  const shedTracks = new Map<number, Track>();

  const isFull = () => units.length >= maxUnits || bytes >= maxBytes;

  function halve(): void {
    const kept = units.filter((_, index) => index % 2 === 1);
    for (let index = 0; index < units.length; index += 2) units[index]?.release?.();
    onShed(units.length - kept.length);
    units = kept;
    since = since.filter((_, index) => index % 2 === 1);
    bytes = units.reduce((sum, unit) => sum + unit.data.length, 0);
    stride = Math.min(stride * 2, MAX_STRIDE);
    takenWhileShort = 0;
  }

  /** Thins what waits too long, and takes more again when nothing does. */
  function keepShort(): void {
    const nowMs = options.monotonic();
    const waitedMs = nowMs - (since[0] ?? nowMs);
    if (waitedMs > maxWaitMs / 2) waitedAtMs = nowMs;
    // One at a time: what has just been thinned needs a moment to be read.
    if (waitedMs > maxWaitMs && nowMs - thinnedAtMs >= maxWaitMs / 2 && units.length > 1) {
      thinnedAtMs = nowMs;
      halve();
    } else if (stride > 1 && nowMs - Math.max(waitedAtMs, thinnedAtMs) >= RECOVERED_MS) {
      stride /= 2;
      thinnedAtMs = nowMs;
    }
  }

  function acceptPicture(): boolean {
    if (isFull()) halve();
    if (thins) keepShort();
    if (units.length > maxUnits / 4) takenWhileShort = 0;
    else if (stride > 1 && ++takenWhileShort >= maxUnits) {
      stride /= 2;
      takenWhileShort = 0;
    }
    phase = (phase + 1) % stride;
    return phase === 0 || stride === 1;
  }

  function acceptCoded(unit: AccessUnit): boolean {
    if (unit.trackId !== videoTrackId) return !isFull();
    if (skipping && unit.isKey && !isFull()) skipping = false;
    else if (isFull()) skipping = true;
    return !skipping;
  }

  return {
    push(unit) {
      if (ended) return;
      const accepted = allKey ? acceptPicture() : acceptCoded(unit);
      if (!accepted) {
        if (unit.trackId === videoTrackId) onShed(1);
        if (unit.track) shedTracks.set(unit.trackId, unit.track);
        return unit.release?.();
      }
      const track = unit.track ?? shedTracks.get(unit.trackId);
      shedTracks.delete(unit.trackId);
      const value = track === unit.track ? unit : { ...unit, track };
      if (reader !== undefined) {
        reader({ done: false, value });
        reader = undefined;
        return;
      }
      units.push(value);
      if (thins) since.push(options.monotonic());
      bytes += unit.data.length;
    },
    end() {
      ended = true;
      reader?.(DONE);
    },
    get length() {
      return units.length;
    },
    // By hand, because a generator takes three turns of the microtask queue for each unit.
    [Symbol.asyncIterator]: () => ({
      next() {
        const value = units.shift();
        if (value === undefined) {
          return ended ? Promise.resolve(DONE) : new Promise((resolve) => reader = resolve);
        }
        since.shift();
        bytes -= value.data.length;
        return Promise.resolve({ done: false, value });
      },
      return: () => Promise.resolve(DONE),
    }),
  };
}
