/**
 * Records one camera for as long as it is told to: opens a session, sends its units through an
 * encoder if they are JPEGs, and into clips. A lost session is opened again, for ever, with
 * growing pauses; the gap is said once when it begins and once when it ends.
 *
 * @module
 */
import { backoffMs } from "../clock.ts";
import type { Spool } from "../spool/mod.ts";
import type { CameraStatus } from "../status/board.ts";
import {
  type AccessUnit,
  type Clock,
  type Encoder,
  type Log,
  type Session,
  type Source,
  sourceError,
  sourceErrorKind,
} from "../types.ts";
import { type ClipWriter, createClipWriter } from "./clip_writer.ts";
import { createUnitQueue } from "./queue.ts";

/** What a recorder works with. */
export interface RecorderOptions {
  readonly camera: string;
  readonly slug: string;
  readonly source: Source;
  /** Where to get an encoder when the camera gives JPEGs. */
  readonly encoder: () => Encoder;
  readonly spool: Pick<Spool, "begin">;
  readonly status: CameraStatus;
  readonly clipMs: number;
  readonly product: string;
  /** A session that yields nothing for so long is given up, ms. */
  readonly stallMs: number;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly log: Log;
}

/** How long the encoder may take to finish when recording is stopped. */
const DRAIN_MS = 4000;
/**
 * How much video may be in memory only. Pictures have been through an encoder, which had its own
 * delay; coded video comes with more bytes, for which fewer and larger writes are cheaper.
 */
const FRAGMENT_US = { encoded: 500_000, coded: 1_000_000 } as const;
/** Pause before the spool is tried again after it refused a write. */
const SPOOL_RETRY_MS = 5000;
/** What a camera may have waiting for its encoder or its disk. */
const QUEUE = { maxUnits: 128, maxBytes: 32 * 2 ** 20 };

/** The longest GOP of at most two seconds that divides the clip length, ms. */
export function gopLengthMs(clipMs: number): number {
  return clipMs / Math.ceil(clipMs / 2000);
}

/** Records until `signal` is aborted; then what is under way is finished, and it resolves. */
export async function recordCamera(options: RecorderOptions, signal: AbortSignal): Promise<void> {
  const { status, clock, log, random } = options;
  let attempt = 0;
  let gapSinceMonotonic: number | undefined;

  const gapBegins = (error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    status.state = "waiting";
    status.reason = reason;
    status.fps = 0;
    if (gapSinceMonotonic !== undefined) return;
    gapSinceMonotonic = clock.monotonic();
    status.gapSinceMs = clock.now();
    status.gaps.count++;
    log.warn(`not recording: ${reason}; trying again until it works`, { event: "gap-begin" });
  };
  const gapEnds = () => {
    if (gapSinceMonotonic === undefined) return;
    const ms = clock.monotonic() - gapSinceMonotonic;
    gapSinceMonotonic = undefined;
    status.gapSinceMs = undefined;
    status.gaps.totalMs += ms;
    log.info(`recording again after ${(ms / 1000).toFixed(1)} s`, { event: "gap-end", gapMs: ms });
  };

  status.state = "connecting";
  while (!signal.aborted) {
    let recorded = false;
    try {
      await recordSession(options, signal, () => {
        if (recorded) return;
        recorded = true;
        attempt = 0;
        status.state = "recording";
        status.reason = undefined;
        log.info(`recording ${status.widthPx}x${status.heightPx}`, { event: "recording" });
        gapEnds();
      });
      if (signal.aborted) break;
      gapBegins(sourceError("offline", "the camera ended the session"));
    } catch (error) {
      if (signal.aborted && error === signal.reason) break;
      gapBegins(error);
      if (sourceErrorKind(error) === "gone") break;
      const pauseMs = isSpoolError(error)
        ? SPOOL_RETRY_MS
        : Math.max(backoffMs(++attempt, random), retryAfterMs(error));
      log.debug(`next try in ${(pauseMs / 1000).toFixed(1)} s`, { attempt, error: String(error) });
      await clock.sleep(pauseMs, { signal }).catch(() => {});
    }
  }
  if (gapSinceMonotonic !== undefined) {
    status.gaps.totalMs += clock.monotonic() - gapSinceMonotonic;
    status.gapSinceMs = undefined;
  }
  status.state = "stopped";
  status.fps = 0;
}

/** The disk is full or faulty: not the camera's fault, and to be noticed soon when it is mended. */
function isSpoolError(error: unknown): boolean {
  return error instanceof Error && "spoolErrorKind" in error;
}

function retryAfterMs(error: unknown): number {
  return error instanceof Error && "retryAfterMs" in error && typeof error.retryAfterMs === "number"
    ? error.retryAfterMs
    : 0;
}

/** One session, from open to the last clip made durable. Throws why the session was lost. */
async function recordSession(
  options: RecorderOptions,
  signal: AbortSignal,
  onRecorded: () => void,
): Promise<void> {
  const { camera, status, log, clock } = options;
  const lost = new AbortController();
  const watchdog = createWatchdog(options, lost);
  const sessionSignal = AbortSignal.any([signal, lost.signal]);
  let session: Session;
  try {
    session = await options.source.open({ signal: sessionSignal });
  } catch (error) {
    watchdog.stop();
    throw lost.signal.aborted ? lost.signal.reason : error;
  }
  const video = session.tracks.find((track) => track.kind === "video");
  if (!video) {
    watchdog.stop();
    await session[Symbol.asyncDispose]();
    throw sourceError("protocol", "the camera offers no video");
  }
  status.widthPx = video.widthPx;
  status.heightPx = video.heightPx;

  const encoding = video.codec === "jpeg";
  const queue = createUnitQueue({
    ...QUEUE,
    allKey: encoding,
    videoTrackId: video.id,
    onShed: (pictures) => status.framesDropped += pictures,
  });
  const rate = createRateMeter(clock, (fps) => status.fps = fps);

  /** From the camera into the queue, until the session ends. */
  const pump = async (): Promise<unknown> => {
    try {
      for await (const unit of session) {
        watchdog.fed();
        if (unit.trackId === video.id) {
          status.framesCaptured++;
          rate.tick();
        }
        if (unit.track?.kind === "video") {
          status.widthPx = unit.track.widthPx;
          status.heightPx = unit.track.heightPx;
        }
        queue.push(unit);
        if (sessionSignal.aborted) break;
      }
      return lost.signal.aborted ? lost.signal.reason : undefined;
    } catch (error) {
      return lost.signal.aborted ? lost.signal.reason : error;
    } finally {
      watchdog.stop();
      queue.end();
    }
  };

  const drain = new AbortController();
  const pumping = pump().finally(() => {
    if (!encoding) return;
    clock.sleep(DRAIN_MS, { signal: drain.signal }).then(
      () => drain.abort(new Error(`the encoder did not finish within ${DRAIN_MS / 1000} s`)),
      () => {},
    );
  });
  const units: AsyncIterable<AccessUnit> = encoding
    ? options.encoder().encode(queue, {
      camera,
      gopMs: gopLengthMs(options.clipMs),
      signal: drain.signal,
      onLost: (frames, cause) => {
        status.framesDropped += frames;
        log.debug(`${frames} pictures could not be encoded: ${cause}`);
      },
      // Shown by the unit before them, which lasts longer.
      onRepeated: (frames) => status.framesRecorded += frames,
    })
    : queue;
  const writer = createClipWriter({
    camera,
    slug: options.slug,
    // An encoder's track comes with its first unit.
    tracks: encoding ? [{ ...video, codec: "h264" }] : session.tracks,
    clipMs: options.clipMs,
    fragmentUs: encoding ? FRAGMENT_US.encoded : FRAGMENT_US.coded,
    product: options.product,
    spool: options.spool,
    status,
    log,
  });
  let failure: unknown;
  try {
    await writeAll(units, writer, onRecorded);
  } catch (error) {
    failure = error;
    lost.abort(error); // no use in capturing what cannot be recorded
  }
  const sessionError = await pumping;
  drain.abort();
  try {
    await writer.finish();
  } catch (error) {
    failure ??= error;
  }
  await session[Symbol.asyncDispose]();
  if (failure !== undefined) throw failure;
  if (sessionError !== undefined) throw sessionError;
}

async function writeAll(
  units: AsyncIterable<AccessUnit>,
  writer: ClipWriter,
  onRecorded: () => void,
): Promise<void> {
  for await (const unit of units) {
    await writer.write(unit);
    onRecorded();
  }
}

/** Gives the session up when the camera has been silent for too long. */
function createWatchdog(
  { clock, stallMs }: RecorderOptions,
  lost: AbortController,
): { fed(): void; stop(): void } {
  const stopped = new AbortController();
  let fedAt = clock.monotonic();
  (async () => {
    while (true) {
      const restMs = fedAt + stallMs - clock.monotonic();
      if (restMs <= 0) {
        lost.abort(sourceError("offline", `no picture for ${Math.round(stallMs / 1000)} s`));
        return;
      }
      await clock.sleep(restMs, { signal: stopped.signal });
    }
  })().catch(() => {}); // stopped
  return { fed: () => fedAt = clock.monotonic(), stop: () => stopped.abort() };
}

/** Pictures per second over the last ten seconds. */
function createRateMeter(clock: Clock, report: (fps: number) => void): { tick(): void } {
  const times: number[] = [];
  return {
    tick() {
      const now = clock.monotonic();
      times.push(now);
      while (times.length > 2 && now - (times[0] ?? now) > 10_000) times.shift();
      const spanMs = now - (times[0] ?? now);
      if (spanMs > 0) report((times.length - 1) / spanMs * 1000);
    },
  };
}
