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
  type Clock,
  type Encoder,
  type Log,
  type Session,
  type Source,
  sourceError,
  sourceErrorKind,
} from "../types.ts";
import { createClipWriter } from "./clip_writer.ts";
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
const DRAIN_MS = 3500;
/** How long what was told to end may take before it is left behind. */
const GRACE_MS = 500;
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
  let lastPictureMs = clock.monotonic();
  let gapSinceMs: number | undefined;

  const gapBegins = (error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    status.state = "waiting";
    status.reason = reason;
    status.fps = 0;
    if (gapSinceMs !== undefined) return;
    gapSinceMs = lastPictureMs;
    status.gapSinceMs = clock.now() - (clock.monotonic() - gapSinceMs);
    status.gaps.count++;
    log.warn(`not recording: ${reason}; trying again until it works`, { event: "gap-begin" });
  };
  const gapEnds = (atMs: number) => {
    if (gapSinceMs === undefined) return;
    const ms = atMs - gapSinceMs;
    gapSinceMs = undefined;
    status.gapSinceMs = undefined;
    status.gaps.totalMs += ms;
    log.info(`recording again after ${(ms / 1000).toFixed(1)} s`, { event: "gap-end", gapMs: ms });
  };

  status.state = "connecting";
  status.reason = undefined;
  while (!signal.aborted) {
    let firstPictureMs: number | undefined;
    let recorded = false;
    try {
      await recordSession(options, signal, {
        onPicture() {
          lastPictureMs = clock.monotonic();
          firstPictureMs ??= lastPictureMs;
        },
        onRecorded() {
          if (recorded) return;
          recorded = true;
          attempt = 0;
          status.state = "recording";
          status.reason = undefined;
          log.info(`recording ${status.widthPx}x${status.heightPx}`, { event: "recording" });
          gapEnds(firstPictureMs ?? clock.monotonic());
        },
      });
    } catch (error) {
      if (signal.aborted) {
        if (error !== signal.reason) log.error(`the end of the recording is lost: ${error}`);
        break;
      }
      gapBegins(error);
      if (sourceErrorKind(error) === "gone") break;
      const pauseMs = isSpoolError(error)
        ? SPOOL_RETRY_MS
        : Math.max(backoffMs(++attempt, random), retryAfterMs(error));
      log.debug(`next try in ${(pauseMs / 1000).toFixed(1)} s`, { attempt, error: String(error) });
      await clock.sleep(pauseMs, { signal }).catch(() => {});
    }
  }
  if (gapSinceMs !== undefined) {
    status.gaps.totalMs += clock.monotonic() - gapSinceMs;
    status.gapSinceMs = undefined;
  }
  status.state = "stopped";
  status.fps = 0;
}

/** The disk is full or faulty: not the camera's fault, and to be noticed soon when it is mended. */
function isSpoolError(error: unknown): boolean {
  return error instanceof Error && "spoolErrorKind" in error;
}

/** How long an error asks to be waited for, ms. */
export function retryAfterMs(error: unknown): number {
  return error instanceof Error && "retryAfterMs" in error && typeof error.retryAfterMs === "number"
    ? error.retryAfterMs
    : 0;
}

/** What is told of a session while it lasts. */
interface SessionEvents {
  /** A picture came from the camera. */
  onPicture(): void;
  /** Something has come onto the disk. */
  onRecorded(): void;
}

/**
 * One session, from open to the last clip made durable. Throws why the session was lost; when
 * `signal` was aborted, only what could not be recorded. What does not heed an abort is left behind.
 */
async function recordSession(
  options: RecorderOptions,
  signal: AbortSignal,
  { onPicture, onRecorded }: SessionEvents,
): Promise<void> {
  const { camera, status, log, clock } = options;
  const lost = new AbortController();
  const watchdog = createWatchdog(options, lost);
  const sessionSignal = AbortSignal.any([signal, lost.signal]);
  let session: Session;
  try {
    session = await openSession(options, sessionSignal);
  } catch (error) {
    watchdog.stop();
    throw sessionSignal.aborted ? sessionSignal.reason : error;
  }
  const video = session.tracks.find((track) => track.kind === "video");
  if (!video) {
    watchdog.stop();
    await closeSession(session, options);
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
  const pump = async (): Promise<void> => {
    for await (const unit of session) {
      if (sessionSignal.aborted) return;
      if (unit.trackId === video.id) {
        watchdog.fed(); // sound without pictures is silence too
        onPicture();
        status.framesCaptured++;
        rate.tick();
      }
      if (unit.track?.kind === "video") {
        status.widthPx = unit.track.widthPx;
        status.heightPx = unit.track.heightPx;
      }
      queue.push(unit);
    }
  };

  const drain = new AbortController();
  let captured = false;
  /** Why the session ended. */
  const capturing: Promise<unknown> = withinGrace(pump(), { signal: sessionSignal, clock })
    .catch((error: unknown) => error)
    .then((error) => {
      captured = true;
      watchdog.stop();
      queue.end();
      clock.sleep(DRAIN_MS, { signal: drain.signal }).then(() => {
        if (encoding) {
          const message = `the encoder did not finish within ${DRAIN_MS / 1000} s`;
          log.warn(`${message}: the last pictures are lost`);
          drain.abort(new Error(message));
        }
      }, () => {});
      if (sessionSignal.aborted) return sessionSignal.reason;
      return error ?? sourceError("offline", "the camera ended the session");
    });
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
  /** From the queue onto the disk. */
  const write = async (): Promise<void> => {
    const before = status.framesRecorded;
    const units = encoding
      ? options.encoder().encode(queue, {
        camera,
        gopMs: gopLengthMs(options.clipMs),
        signal: drain.signal,
        onLost: (frames, cause) => {
          status.framesDropped += frames;
          log.debug(`${frames} pictures could not be encoded: ${cause}`);
        },
        onRepeated: (frames) => status.framesRecorded += frames,
      })
      : queue;
    for await (const unit of units) {
      try {
        await writer.write(unit);
      } catch (error) {
        lost.abort(error); // no use in capturing what cannot be recorded
        throw error;
      }
      if (status.framesRecorded > before) onRecorded();
    }
    if (!captured) throw new Error("the encoder ended before the camera did");
  };

  let failure: { readonly error: unknown } | undefined;
  try {
    await withinGrace(write(), { signal: drain.signal, clock });
  } catch (error) {
    if (!drain.signal.aborted) failure = { error };
    lost.abort(error);
  }
  const sessionError = await capturing;
  drain.abort();
  try {
    await writer.finish();
  } catch (error) {
    failure ??= { error };
  }
  await closeSession(session, options);
  if (failure) throw failure.error;
  throw sessionError;
}

/** Opens the camera's session, and closes one that comes when nobody waits any more. */
async function openSession(
  { source, clock }: RecorderOptions,
  signal: AbortSignal,
): Promise<Session> {
  const opening = source.open({ signal });
  try {
    return await withinGrace(opening, { signal, clock });
  } catch (error) {
    opening.then((late) => late[Symbol.asyncDispose]()).catch(() => {});
    throw error;
  }
}

async function closeSession(session: Session, { clock, log }: RecorderOptions): Promise<void> {
  const signal = AbortSignal.abort(new Error(`it did not end within ${GRACE_MS} ms`));
  try {
    await withinGrace(session[Symbol.asyncDispose](), { signal, clock });
  } catch (error) {
    log.debug(`the camera's session could not be closed: ${error}`);
  }
}

/** Waits for `work`, but once `signal` is aborted only a little longer; then throws its reason. */
async function withinGrace<T>(
  work: PromiseLike<T>,
  { signal, clock }: { readonly signal: AbortSignal; readonly clock: Clock },
): Promise<T> {
  const settled = new AbortController();
  const tooLong = new Promise<never>((_, reject) => {
    const wait = () =>
      clock.sleep(GRACE_MS, { signal: settled.signal }).then(() => reject(signal.reason), () => {});
    if (signal.aborted) wait();
    else signal.addEventListener("abort", wait, { once: true, signal: settled.signal });
  });
  try {
    return await Promise.race([work, tooLong]);
  } finally {
    settled.abort();
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
