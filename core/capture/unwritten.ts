/**
 * The pictures of a camera that have come and are in no clip yet: where the oldest of them waits, and
 * for how long. That is what a crash would cost, so it has a bound: where it would be passed before the
 * next look, and until a session's first picture has come into a clip, they are written to the spool's
 * journal as they are. An encoder that keeps up takes a fraction of the bound, and then nothing is
 * written.
 *
 * A picture with the very bytes of the one before it shows nothing new and does not count.
 *
 * @module
 */
import type { PictureJournal } from "../spool/mod.ts";
import type { AccessUnit, Clock, Log } from "../types.ts";

/** Where the oldest picture waits. */
export type WaitingStage = "queue" | "encoder" | "writer";

/** See the module. */
export interface Unwritten {
  /** A picture came from the camera. Never waits. */
  came(unit: AccessUnit): void;
  /** Passes on what the encoder takes. */
  taken(units: AsyncIterable<AccessUnit>): AsyncIterable<AccessUnit>;
  /** The unit that came out of the encoder; who writes it must call its `release`, as always. */
  coded(unit: AccessUnit): AccessUnit;
  /**
   * No more comes. With `keep` what waits still is left for the next start; gives whether all of it is.
   * Never rejects.
   */
  end(options?: { readonly keep?: boolean }): Promise<boolean>;
}

/** What it works with. */
export interface UnwrittenOptions {
  /** Begins the journal; asked for when it is needed. */
  readonly journal: () => PictureJournal;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Whoever waits for so long is written down at once, ms: an encoder that keeps up is far below. What is
 * promised is 2 s, but a machine that is so busy takes a while for this too.
 */
const LONG_MS = 1000;

/** No picture shall be this old at the next look, ms. */
const BOUND_MS = 1500;

/** No picture takes longer to come; a wall clock that was set makes it seem so, ms. */
const MAX_LATE_MS = 2000;

/** Waiting for so many: who is behind so far sheds pictures anyway. */
const MAX_WAITING = 1024;

interface Waiting {
  readonly unit: AccessUnit;
  /** When it was taken, monotonic. */
  readonly sinceMs: number;
  /** It is in the journal, or on its way there. */
  isKept: boolean;
}

/** None has come yet. */
export function createUnwritten(
  { journal: begin, clock, log }: UnwrittenOptions,
): Unwritten {
  /** In the order in which they came. */
  let waiting: Waiting[] = [];
  let journal: PictureJournal | undefined;
  let lastCameMs: number | undefined;
  let lastData: Uint8Array | undefined;
  let takenUs = -1;
  let codedUs = -1;
  let isTold = false;
  /** An encoder that has just been opened takes a while to begin, longer the busier the machine is. */
  let hasWritten = false;
  let keeping: Promise<void> | undefined;

  const stageOf = ({ unit: { ptsUs } }: Waiting): WaitingStage =>
    ptsUs > takenUs ? "queue" : ptsUs > codedUs ? "encoder" : "writer";

  /** Writes down what waits, until nothing does that is not in the journal. */
  async function keep(): Promise<void> {
    try {
      for (;;) {
        const due = waiting.filter(({ isKept }) => !isKept);
        if (due.length === 0) break;
        for (const one of due) one.isKept = true;
        journal ??= begin();
        await journal.append(due.map(({ unit }) => unit));
      }
      isTold = false;
    } catch (error) {
      for (const one of waiting) one.isKept = false;
      if (!isTold) {
        log.warn(
          `the encoder is behind, and the pictures that wait cannot be kept: a crash would cost them; ${
            error instanceof Error ? error.message : error
          }`,
          { event: "unprotected" },
        );
      }
      isTold = true;
    }
  }

  function look(intervalMs: number): void {
    const nowMs = clock.monotonic();
    const oldest = waiting[0];
    if (!oldest) return;
    const ageMs = nowMs - oldest.sinceMs;
    if (ageMs >= LONG_MS) {
      const stage = stageOf(oldest);
      log.debug(`pictures wait for ${(ageMs / 1000).toFixed(1)} s (${stage})`, {
        event: "behind",
        stage,
        ageMs: Math.round(ageMs),
        pictures: waiting.length,
      });
    }
    const unkept = waiting.find(({ isKept }) => !isKept);
    const unkeptMs = unkept ? nowMs - unkept.sinceMs : -Infinity;
    if (unkept && !hasWritten || unkeptMs >= LONG_MS || unkeptMs + intervalMs > BOUND_MS) {
      keeping ??= keep().finally(() => keeping = undefined);
    }
  }

  /** All up to this media time is in a clip. */
  function written(untilUs: number): void {
    hasWritten = true;
    const first = waiting.findIndex(({ unit }) => unit.ptsUs > untilUs);
    waiting = first < 0 ? [] : waiting.slice(first);
    journal?.settle(untilUs).catch((error) => log.debug(`a journal cannot be removed: ${error}`));
  }

  return {
    came(unit) {
      const nowMs = clock.monotonic();
      const intervalMs = nowMs - (lastCameMs ?? nowMs);
      lastCameMs = nowMs;
      if (unit.data !== lastData) {
        // It may have been under way for a while: a crash costs what was seen, not what has come.
        const lateMs = Math.min(Math.max(0, clock.now() - unit.capturedAtMs), MAX_LATE_MS);
        waiting.push({ unit, sinceMs: nowMs - lateMs, isKept: false });
        if (waiting.length > MAX_WAITING) waiting.shift();
      }
      lastData = unit.data;
      look(intervalMs);
    },
    async *taken(units) {
      for await (const unit of units) {
        takenUs = unit.ptsUs;
        yield unit;
      }
    },
    coded(unit) {
      codedUs = unit.ptsUs;
      return {
        ...unit,
        release: () => {
          unit.release?.();
          written(unit.ptsUs);
        },
      };
    },
    async end(options) {
      await keeping;
      if (options?.keep) await keep();
      await journal?.end(options).catch((error) => log.debug(`a journal is left: ${error}`));
      return options?.keep === true && waiting.every(({ isKept }) => isKept);
    },
  };
}
