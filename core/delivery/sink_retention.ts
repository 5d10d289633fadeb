/**
 * Keeps a sink within the age and size that its owner set: the oldest clips are removed from it. Only
 * what Camsink stored there and remembers is ever removed, never a clip that is pinned, nor one that
 * another required sink still lacks.
 *
 * Age is told by the wall clock. When that jumps by more than an hour while Camsink runs, nothing is
 * removed for a day: a clock that shows next year for a moment must not empty the storage.
 *
 * @module
 */
import { JumpWatch } from "../clock.ts";
import { formatBytes, formatDuration } from "../config/values.ts";
import type { Spool } from "../spool/mod.ts";
import type { Clock, Log, Sink } from "../types.ts";
import { storedKeyOf } from "./reconcile.ts";

/** What is kept, and where. */
export interface RetentionOptions {
  /** The name that the user gave the sink. */
  readonly name: string;
  readonly sink: Sink;
  readonly spool: Pick<Spool, "removableFrom" | "storedBytes" | "deliveries" | "removed">;
  readonly clock: Clock;
  /** Of this sink. */
  readonly log: Log;
  /** Clips that ended longer ago go, ms. */
  readonly ageMs?: number;
  /** The oldest go while there is more, bytes. */
  readonly sizeBytes?: number;
}

const ROUND_MS = 60_000;
/** Removed in one go, before it is looked at again. */
const PAGE_CLIPS = 100;

/** Looks every minute until `signal` is aborted. Never rejects; what fails is tried again. */
export async function keepRetention(
  options: RetentionOptions,
  signal: AbortSignal,
): Promise<void> {
  const { sink, clock, log, ageMs, sizeBytes } = options;
  if (ageMs === undefined && sizeBytes === undefined) return;
  if (sink.remove === undefined) {
    log.warn(`"retain" is set, but this kind of sink cannot remove anything: all is kept`);
    return;
  }
  const jumps = new JumpWatch(clock);
  let failing = false;
  while (!signal.aborted) {
    const jumpedMs = jumps.look();
    if (jumpedMs > 0) {
      log.warn(
        `the clock jumped by ${
          formatDuration(jumpedMs)
        }: nothing is removed from this sink for a day`,
        { event: "retention-held" },
      );
    }
    if (jumps.isSteady) {
      try {
        await removeOld(options, sink.remove.bind(sink), signal);
        failing = false;
      } catch (error) {
        if (!signal.aborted && !failing) {
          log.warn(`old clips cannot be removed, keeps trying: ${messageOf(error)}`, {
            event: "retention-failing",
          });
        }
        failing = true;
      }
    }
    await clock.sleep(ROUND_MS, { signal }).catch(() => {});
  }
}

async function removeOld(
  { name, spool, clock, log, ageMs, sizeBytes }: RetentionOptions,
  remove: NonNullable<Sink["remove"]>,
  signal: AbortSignal,
): Promise<void> {
  let clips = 0;
  let bytes = 0;
  try {
    for (;;) {
      const tooMuch = sizeBytes === undefined ? 0 : spool.storedBytes(name) - sizeBytes;
      const before = tooMuch > 0 ? clock.now() : clock.now() - (ageMs ?? Infinity);
      if (!Number.isFinite(before)) return;
      const page = spool.removableFrom(name, new Date(before), PAGE_CLIPS);
      let freed = 0;
      for (const clip of page) {
        if (tooMuch > 0 && freed >= tooMuch) break;
        signal.throwIfAborted();
        const delivery = spool.deliveries(clip.key).find(({ sink }) => sink === name);
        await remove(storedKeyOf(clip, delivery ?? {}), { signal, camera: clip.camera });
        // After it, so that a crash between the two removes nothing twice that matters.
        await spool.removed(name, clip.key);
        freed += clip.bytes;
        clips++;
        bytes += clip.bytes;
      }
      if (page.length === 0) return;
    }
  } finally {
    if (clips > 0) {
      log.info(`removed ${clips} old clips (${formatBytes(bytes)}), as "retain" says`, {
        event: "retention",
        clips,
        bytes,
      });
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
