/**
 * Fetches what a camera's maker has recorded of it: lists the archive again and again, and brings
 * every piece that the spool does not know into the spool as a finished clip, oldest first. After a
 * time away (a restart, an outage) it catches up for as long as the archive reaches back.
 *
 * A piece is known by its camera and its times, which the catalogue remembers also when the clip has
 * gone: so each is fetched once. One that was cut short on the way is fetched again.
 *
 * @module
 */
import { backoffMs } from "../clock.ts";
import { formatBytes } from "../config/values.ts";
import { inspectMp4 } from "../media/mp4_inspect.ts";
import { MediaError } from "../media/media_error.ts";
import type { Spool } from "../spool/mod.ts";
import type { CameraStatus } from "../status/board.ts";
import {
  type Archive,
  type ArchivedClip,
  type Clock,
  type Log,
  sourceErrorKind,
} from "../types.ts";
import { isSpoolError, retryAfterMs, SPOOL_RETRY_MS } from "./pauses.ts";

/** What an archiver works with. */
export interface ArchiverOptions {
  readonly camera: string;
  readonly slug: string;
  readonly archive: Archive;
  readonly spool: Pick<Spool, "begin" | "list">;
  readonly status: CameraStatus;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly log: Log;
}

/** How often the archive is looked into, ms. */
const POLL_MS = 120_000;
/** A piece may be listed so long after it began, ms. */
const LATE_MS = 3_600_000;
/** A piece that was broken so often is left out: the next ones must not wait for it. */
const TRIES = 5;

/** Fetches until `signal` is aborted. */
export async function archiveCamera(options: ArchiverOptions, signal: AbortSignal): Promise<void> {
  const { archive, status, clock, random, log } = options;
  const broken = new Map<string, number>();
  let attempt = 0;
  /** Everything that began before this is on the spool. */
  let completeToMs = -Infinity;
  let gapSinceMs: number | undefined;
  status.state = "connecting";
  status.reason = undefined;
  while (!signal.aborted) {
    let pauseMs = POLL_MS;
    try {
      const startedAtMs = clock.now();
      const fromMs = Math.max(startedAtMs - archive.historyMs, completeToMs - LATE_MS);
      const listed = await archive.list({ from: new Date(fromMs), signal });
      const missing = listed.filter((clip) => !isKnown(clip, options) && !isGivenUp(clip, broken));
      if (status.state !== "recording") log.info("fetching recordings", { event: "recording" });
      status.state = "recording";
      status.reason = undefined;
      for (const clip of missing) {
        if (signal.aborted) break;
        await bring(clip, { ...options, broken }, signal);
      }
      if (gapSinceMs !== undefined) {
        const ms = clock.monotonic() - gapSinceMs;
        status.gaps.totalMs += ms;
        log.info(`the archive answers again after ${(ms / 1000).toFixed(1)} s`, {
          event: "gap-end",
          gapMs: ms,
        });
      }
      gapSinceMs = undefined;
      status.gapSinceMs = undefined;
      attempt = 0;
      if (![...broken.values()].some((tries) => tries < TRIES)) completeToMs = startedAtMs;
    } catch (error) {
      if (signal.aborted) break;
      const reason = error instanceof Error ? error.message : String(error);
      status.state = "waiting";
      status.reason = reason;
      if (gapSinceMs === undefined) {
        gapSinceMs = clock.monotonic();
        status.gapSinceMs = clock.now();
        status.gaps.count++;
        log.warn(`cannot fetch recordings: ${reason}; trying again until it works`, {
          event: "gap-begin",
        });
      }
      if (sourceErrorKind(error) === "gone") break;
      pauseMs = isSpoolError(error)
        ? SPOOL_RETRY_MS
        : Math.max(backoffMs(++attempt, random), retryAfterMs(error));
    }
    await clock.sleep(pauseMs, { signal }).catch(() => {});
  }
  if (gapSinceMs !== undefined) status.gaps.totalMs += clock.monotonic() - gapSinceMs;
  status.gapSinceMs = undefined;
  status.state = "stopped";
}

/** Whether the piece is on the spool, or was. */
function isKnown(
  { start, end }: ArchivedClip,
  { camera, spool }: Pick<ArchiverOptions, "camera" | "spool">,
): boolean {
  const startMs = start.getTime();
  const endMs = end.getTime();
  return spool.list({ camera, fromMs: startMs, toMs: endMs, state: "any" })
    .some((clip) => clip.start.getTime() === startMs && clip.end.getTime() === endMs);
}

const nameOf = ({ start, end }: ArchivedClip) => `${start.toISOString()}/${end.toISOString()}`;

const isGivenUp = (clip: ArchivedClip, broken: ReadonlyMap<string, number>) =>
  (broken.get(nameOf(clip)) ?? 0) >= TRIES;

/** Fetches a piece and makes it a finished clip. One that is broken is noted, and no error. */
async function bring(
  piece: ArchivedClip,
  { archive, camera, slug, spool, status, log, broken }: ArchiverOptions & {
    readonly broken: Map<string, number>;
  },
  signal: AbortSignal,
): Promise<void> {
  const bytes = await archive.fetch(piece, { signal });
  const name = nameOf(piece);
  if (bytes === undefined) {
    // It has left the archive between the list and now.
    broken.set(name, TRIES);
    log.warn(`the recording from ${piece.start.toISOString()} is not in the archive any more`);
    return;
  }
  let frames: number;
  try {
    const contents = inspectMp4(bytes);
    frames = contents.frames;
    status.widthPx = contents.widthPx;
    status.heightPx = contents.heightPx;
  } catch (error) {
    if (!(error instanceof MediaError)) throw error;
    const tries = (broken.get(name) ?? 0) + 1;
    broken.set(name, tries);
    const what = `the recording from ${piece.start.toISOString()} came broken (${error.message})`;
    if (tries < TRIES) log.debug(`${what}; it is fetched again`);
    else log.error(`${what} ${TRIES} times, and is left out`, { event: "archive-broken" });
    return;
  }
  broken.delete(name);
  const file = await spool.begin({ camera, slug, start: piece.start, contentType: "video/mp4" });
  try {
    // In one piece: a crash leaves either nothing that counts, and it is fetched again, or all.
    await file.append([bytes]);
  } catch (error) {
    await file.discard().catch(() => {}); // the reason is told by the first error
    throw error;
  }
  const clip = await file.finish({ end: piece.end, tail: [], frames });
  status.framesCaptured += frames;
  status.framesRecorded += frames;
  status.clipsFinished++;
  status.bytesFinished += clip.bytes;
  log.info(
    `clip fetched: ${frames} ${frames === 1 ? "picture" : "pictures"}, ${formatBytes(clip.bytes)}`,
    {
      event: "clip-finished",
      key: clip.key,
      bytes: clip.bytes,
      sha256: clip.sha256,
      frames,
    },
  );
}
