/**
 * Lets only what belongs to events through to the clips: from some time before each event to some time
 * after it. What is before an event is at hand because the last seconds are always kept in memory, a
 * GOP at a time; nothing is written, and pictures that still have to be encoded are not, while nothing
 * happens.
 *
 * Events that the camera's cloud tells come late, so a little more is kept than is asked for. Where
 * events cannot be had at all, everything is let through: a recorder that records nothing because it
 * hears nothing would be worse than one that records too much.
 *
 * @module
 */
import type { AccessUnit, CameraEvent } from "../types.ts";

/** Which stretch of time an event makes. */
export interface EventPlan {
  /** So much before it, ms. */
  readonly beforeMs: number;
  /** So much after it, ms. */
  readonly afterMs: number;
}

/** See {@linkcode createEventGate}. */
export interface EventGate {
  /**
   * Something happens, or has happened a moment ago. What is told after something that happened later
   * begins with that.
   */
  note(event: CameraEvent): void;
  /** While it is `false`, everything is let through. At first it is `true`. */
  isHeard: boolean;
  /**
   * Cuts a session's units into the stretches that belong to events. Each stretch begins with a key
   * unit that brings its track's description, and is to be read to its end before the next.
   */
  stretches(
    units: AsyncIterable<AccessUnit>,
    options: { readonly videoId: number; readonly onHeld: () => void },
  ): AsyncIterable<AsyncIterable<AccessUnit>>;
}

/** An event may be told so much after it happened, ms. */
const LATE_MS = 10_000;
/** More than this is not kept, whatever the plan says. */
const MAX_HELD_BYTES = 64 * 2 ** 20;

/** Units that begin with a key picture. */
interface HeldGop {
  readonly startMs: number;
  readonly units: AccessUnit[];
  bytes: number;
}

/** Makes one for a camera; it outlives the camera's sessions. */
export function createEventGate({ beforeMs, afterMs }: EventPlan): EventGate {
  /** Stretches of wall time to be recorded, in the order of their events; merged where they meet. */
  let wanted: { fromMs: number; untilMs: number }[] = [];

  const gate: EventGate = {
    isHeard: true,
    note({ startMs, endMs = startMs }) {
      const stretch = { fromMs: startMs - beforeMs, untilMs: Math.max(startMs, endMs) + afterMs };
      const apart = wanted.filter(({ fromMs, untilMs }) =>
        fromMs > stretch.untilMs || untilMs < stretch.fromMs
      );
      for (const other of wanted) {
        if (apart.includes(other)) continue;
        stretch.fromMs = Math.min(stretch.fromMs, other.fromMs);
        stretch.untilMs = Math.max(stretch.untilMs, other.untilMs);
      }
      wanted = [...apart, stretch];
    },
    async *stretches(units, { videoId, onHeld }) {
      const iterator = units[Symbol.asyncIterator]();
      const held: HeldGop[] = [];
      let heldBytes = 0;
      let track: AccessUnit["track"];
      let ended = false;

      const drop = () => {
        const gop = held.shift();
        heldBytes -= gop?.bytes ?? 0;
        for (const unit of gop?.units ?? []) unit.release?.();
      };
      /** The next unit is held; gives whether it is one that a stretch may begin or end at. */
      const hold = async (): Promise<boolean> => {
        const { value: unit, done } = await iterator.next();
        if (done || unit === undefined) {
          ended = true;
          return true;
        }
        const isKey = unit.trackId === videoId && unit.isKey;
        if (unit.trackId === videoId && unit.track) track = unit.track;
        const described = isKey && track && !unit.track ? { ...unit, track } : unit;
        if (isKey) held.push({ startMs: unit.capturedAtMs, units: [], bytes: 0 });
        const gop = held.at(-1);
        if (gop === undefined) {
          unit.release?.(); // nothing can be decoded before a key unit
          return false;
        }
        gop.units.push(described);
        gop.bytes += unit.data.length;
        heldBytes += unit.data.length;
        if (unit.trackId === videoId) onHeld();
        return isKey;
      };
      /** Lets go what no event can need any more. */
      const forget = (nowMs: number) => {
        const keepMs = beforeMs + LATE_MS;
        while (
          held.length > 1 &&
          ((held[1]?.startMs ?? 0) < nowMs - keepMs || heldBytes > MAX_HELD_BYTES)
        ) drop();
        wanted = wanted.filter(({ untilMs }) => untilMs > nowMs - keepMs - LATE_MS);
      };
      /** Whether the GOP has a moment that is wanted; it lasts until the next one begins. */
      const belongs = (index: number): boolean => {
        const gop = held[index];
        if (gop === undefined) return false;
        const endMs = held[index + 1]?.startMs ??
          (gop.units.at(-1)?.capturedAtMs ?? gop.startMs) + 1;
        return !gate.isHeard ||
          wanted.some(({ fromMs, untilMs }) => fromMs < endMs && untilMs > gop.startMs);
      };

      async function* stretch(): AsyncGenerator<AccessUnit> {
        while (true) {
          const gop = held[0];
          if (gop === undefined || !belongs(0)) return;
          // Given out as it comes: the last GOP is still growing.
          while (gop.units.length > 0 || held.length === 1) {
            const unit = gop.units.shift();
            if (unit) {
              gop.bytes -= unit.data.length;
              heldBytes -= unit.data.length;
              yield unit;
            } else if (ended) return void held.shift();
            else await hold();
          }
          held.shift();
          forget(held.at(-1)?.startMs ?? 0);
        }
      }

      try {
        while (!ended) {
          const atKey = await hold();
          const nowMs = held.at(-1)?.units.at(-1)?.capturedAtMs ?? 0;
          if (!atKey && held.length === 0) continue;
          // A stretch begins at the first GOP that has something of it.
          const index = held.findIndex((_, index) => belongs(index));
          if (index >= 0) {
            for (let count = 0; count < index; count++) drop();
            yield stretch();
          } else if (atKey) forget(nowMs);
        }
      } finally {
        while (held.length > 0) drop();
        await iterator.return?.();
      }
    },
  };
  return gate;
}
