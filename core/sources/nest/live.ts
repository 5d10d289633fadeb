/**
 * A camera of a Nest account as one source, whichever way it is seen: by its live stream, or where
 * that does not work by its pictures. The stream is what is wanted; so while pictures are recorded in
 * its place it is tried again every ten minutes, in the background and without a gap, and the
 * recording goes over to it when it plays.
 *
 * A camera that the cloud cannot reach has neither: then nothing is changed over.
 *
 * @module
 */
import {
  type AccessUnit,
  type Clock,
  type Log,
  type Session,
  type Source,
  sourceError,
  sourceErrorKind,
} from "../../types.ts";
import { isCameraUnreachable } from "./nexus_session.ts";

/** What the choice works with. */
export interface LiveOrPicturesOptions {
  /** `auto` as described above; the others without an alternative. */
  readonly video: "auto" | "stream" | "snapshot";
  readonly clock: Clock;
  readonly log: Log;
  /** Ends everything when the account is closed. */
  readonly closing: AbortSignal;
  /** The camera's name; throws where it is no longer in its account. */
  label(): string;
  /** Why there is no live stream to be tried; `undefined` where there is one. */
  noStream(): string | undefined;
  /** Opens the live stream. */
  openStream(signal: AbortSignal): Promise<Session>;
  /** Opens the pictures. */
  readonly pictures: Source;
  /** Asks the cloud anew about the camera, where both are lost; not more than once a minute. */
  refresh(signal: AbortSignal): Promise<void>;
}

const TRY_AGAIN_MS = 600_000;
/** A stream that was opened beside the pictures waits so long to be taken. */
const CLAIM_MS = 15_000;
/** Streams that end so soon, so often in a row, do not work. */
const SHORT_MS = 3000;
const MAX_SHORT = 5;
const REFRESH_MS = 60_000;

/** A live stream that is open and waits for the one who records. */
interface Waiting {
  readonly session: Session;
  readonly stop: AbortController;
  /** It was taken, or given up. */
  readonly settled: AbortController;
}

/** The camera as a source. */
export function liveOrPicturesSource(options: LiveOrPicturesOptions): Source {
  const { clock, log, video, closing } = options;
  let picturesUntilMs = -Infinity;
  let waiting: Waiting | undefined;
  let shortLives = 0;
  let isOnPictures = false;
  let refreshedMs = -Infinity;

  const openStream = async (signal: AbortSignal): Promise<Session> => {
    const { label } = options;
    const session = await takeWaiting(signal) ?? await options.openStream(signal);
    if (isOnPictures) log.info(`${label()}: the live stream works again`);
    isOnPictures = false;
    const openedMs = clock.monotonic();
    return withEnd(session, (error) => {
      const isShort = error !== undefined && !isCameraUnreachable(error) &&
        clock.monotonic() - openedMs < SHORT_MS;
      shortLives = isShort ? shortLives + 1 : 0;
      if (shortLives < MAX_SHORT || video !== "auto") return;
      shortLives = 0;
      goToPictures(`it broke off ${MAX_SHORT} times in a row, the last time: ${messageOf(error)}`);
    });
  };

  const takeWaiting = async (signal: AbortSignal): Promise<Session | undefined> => {
    const taken = waiting;
    if (!taken) return undefined;
    waiting = undefined;
    taken.settled.abort();
    if (signal.aborted) {
      await taken.session[Symbol.asyncDispose]();
      signal.throwIfAborted();
    }
    const onAbort = () => taken.stop.abort(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    return withEnd(taken.session, () => signal.removeEventListener("abort", onAbort));
  };

  const goToPictures = (why: string) => {
    picturesUntilMs = clock.monotonic() + TRY_AGAIN_MS;
    if (isOnPictures) return; // said once
    isOnPictures = true;
    log.warn(
      `${options.label()}: the live stream does not work, so pictures are recorded instead; ` +
        `it is tried again every ${TRY_AGAIN_MS / 60_000} minutes (${
          why.replace(`${options.label()}: `, "")
        })`,
      { event: "stream-fallback" },
    );
  };

  /** Tries the stream again while pictures are recorded; resolves when it plays. */
  const watchForStream = async (signal: AbortSignal): Promise<void> => {
    while (true) {
      await clock.sleep(Math.max(0, picturesUntilMs - clock.monotonic()), { signal });
      const stop = new AbortController();
      const onAbort = () => stop.abort(signal.reason);
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        if (options.noStream() !== undefined) throw new Error("it has no live stream");
        const session = await options.openStream(stop.signal);
        const settled = new AbortController();
        const offered: Waiting = { session, stop, settled };
        waiting = offered;
        clock.sleep(CLAIM_MS, { signal: settled.signal }).then(async () => {
          if (waiting === offered) waiting = undefined;
          await session[Symbol.asyncDispose]();
        }, () => {});
        return;
      } catch (error) {
        signal.throwIfAborted();
        picturesUntilMs = clock.monotonic() + TRY_AGAIN_MS;
        log.debug(`the live stream still does not work: ${messageOf(error)}`);
      } finally {
        signal.removeEventListener("abort", onAbort);
      }
    }
  };

  const openPictures = async (signal: AbortSignal): Promise<Session> => {
    const inner = new AbortController();
    const onAbort = () => inner.abort(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    const watching = new AbortController();
    const stop = () => {
      signal.removeEventListener("abort", onAbort);
      watching.abort();
    };
    try {
      const session = await options.pictures.open({ signal: inner.signal });
      let isBack = false;
      watchForStream(watching.signal).then(() => {
        isBack = true;
        inner.abort(new Error("the live stream is back"));
      }, () => {}); // the pictures ended first
      return withEnd(session, () => {
        stop();
        if (isBack && !signal.aborted) {
          throw sourceError("offline", `${options.label()}: changing over to the live stream`);
        }
      });
    } catch (error) {
      stop();
      throw error;
    }
  };

  const refresh = async (signal: AbortSignal): Promise<void> => {
    if (clock.monotonic() - refreshedMs < REFRESH_MS) return;
    refreshedMs = clock.monotonic();
    await options.refresh(signal).catch(() => {}); // what is known stays
    options.label(); // throws where the camera has gone
  };

  return {
    async open({ signal: asked }) {
      const signal = AbortSignal.any([asked, closing]);
      signal.throwIfAborted();
      options.label();
      if (video === "snapshot") return await options.pictures.open({ signal });
      const problem = options.noStream();
      if (problem !== undefined) {
        if (video === "auto") return await options.pictures.open({ signal });
        throw sourceError(
          "protocol",
          `${options.label()}: ${problem}; with "video": "auto" its pictures are recorded`,
        );
      }
      if (video === "auto" && !waiting && clock.monotonic() < picturesUntilMs) {
        return await openPictures(signal);
      }
      try {
        return await openStream(signal);
      } catch (error) {
        signal.throwIfAborted();
        if (video === "stream" || isCameraUnreachable(error)) {
          if (!isCameraUnreachable(error)) await refresh(signal);
          throw error;
        }
        let session: Session;
        // Whatever opens looks for the stream again at once it may, so the time is set first.
        picturesUntilMs = clock.monotonic() + TRY_AGAIN_MS;
        try {
          session = await openPictures(signal);
        } catch (pictureError) {
          picturesUntilMs = -Infinity;
          signal.throwIfAborted();
          await refresh(signal);
          const kind = sourceErrorKind(pictureError);
          throw kind === "auth" || kind === "gone" ? pictureError : error;
        }
        goToPictures(messageOf(error));
        return session;
      }
    },
  };
}

/** The session, with something to be done once when its units end, however they do. */
function withEnd(session: Session, onEnd: (error: unknown) => void): Session {
  let hasEnded = false;
  const end = (failure: unknown) => {
    if (hasEnded) return;
    hasEnded = true;
    onEnd(failure);
  };
  const units = session[Symbol.asyncIterator]();
  const iterator: AsyncIterableIterator<AccessUnit, undefined> = {
    // No generator: there are a hundred units in a second.
    next: () =>
      units.next().then((result) => {
        if (!result.done) return result;
        end(undefined);
        return { done: true, value: undefined };
      }, (failure) => {
        end(failure);
        throw failure;
      }),
    async return() {
      await units.return?.();
      end(undefined);
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]: () => iterator,
  };
  return {
    tracks: session.tracks,
    [Symbol.asyncIterator]: () => iterator,
    async [Symbol.asyncDispose]() {
      await session[Symbol.asyncDispose]();
      await units.return?.();
      try {
        end(undefined);
      } catch {
        // Nobody iterates any more who could be told.
      }
    },
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
