/**
 * The session of an MJPEG stream: pictures as they come, those beyond the rate left out evenly, those
 * that are no whole JPEG left out and counted. Nothing is read while nobody pulls, so that the
 * connection, and not memory, holds what is too much.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { parseJpeg } from "../../media/jpeg.ts";
import { MediaError } from "../../media/media_error.ts";
import {
  type AccessUnit,
  type Clock,
  type Session,
  sourceError,
  type VideoTrack,
} from "../../types.ts";
import { statusError } from "../camera_http.ts";
import type { HttpStream } from "../http.ts";
import { createJpegSplitter, MjpegError } from "./splitter.ts";

/** The largest picture that is accepted. */
export const MAX_MJPEG_PICTURE_BYTES = 8 * 2 ** 20;
/** So long no good picture is endured, ms. */
const SILENCE_MS = 10_000;
const WATCH_MS = 500;
const TRACK_ID = 1;

/** What a session has been through. */
export interface MjpegCounters {
  /** Pictures yielded. */
  readonly pictures: number;
  /** Pictures left out because of `fps`. */
  readonly skipped: number;
  /** Pictures that were damaged or cut off. */
  readonly bad: number;
}

/** A {@linkcode Session} of JPEGs that tells how it went. */
export interface MjpegSession extends Session {
  readonly tracks: readonly [VideoTrack];
  readonly counters: MjpegCounters;
}

/** What a session works with. */
export interface MjpegSessionOptions {
  readonly clock: Clock;
  /** The camera, for messages. */
  readonly what: string;
  /** Ends the session quietly. */
  readonly signal: AbortSignal;
  /** At most so many pictures per second. */
  readonly fps?: number | undefined;
  /** Makes the request; a redirect or a login is over when it resolves. */
  connect(signal: AbortSignal): Promise<HttpStream>;
  /** Called once when the session is over, also if it never began. */
  close(): void;
}

interface Arrived {
  readonly data: Uint8Array<ArrayBuffer>;
  readonly atMs: number;
  readonly wallMs: number;
  readonly widthPx: number;
  readonly heightPx: number;
}

/** Connects, waits for the first picture, and is open. @throws a source error */
export async function openMjpegSession(options: MjpegSessionOptions): Promise<MjpegSession> {
  const { clock, what, signal } = options;
  const closing = new AbortController();
  const onAbort = () => closing.abort(signal.reason);
  let quiet = false;
  signal.addEventListener("abort", onAbort, { once: true });
  let stream: HttpStream | undefined;
  let closed = false;
  const close = () => {
    if (closed) return;
    closed = true;
    signal.removeEventListener("abort", onAbort);
    closing.abort(new Error("closed"));
    stream?.close();
    options.close();
  };

  const counters = { pictures: 0, skipped: 0, bad: 0 };
  const splitter = createJpegSplitter({ maxBytes: MAX_MJPEG_PICTURE_BYTES });
  const takes = createRateCap(options.fps);
  let unreadable = 0;
  let lastProblem = "";
  const waiting: Arrived[] = [];

  /** When the wait for a picture began; nobody waits while the one before is being used. */
  let waitingSinceMs: number | undefined;
  const watch = async () => {
    for (;;) {
      await clock.sleep(WATCH_MS, { signal: closing.signal });
      if (waitingSinceMs === undefined || clock.monotonic() - waitingSinceMs < SILENCE_MS) continue;
      closing.abort(
        sourceError(
          "offline",
          `${what}: no picture for ${SILENCE_MS / 1000} s${lastProblem && `; ${lastProblem}`}`,
        ),
      );
    }
  };

  /** The next picture that is taken. */
  const next = async (from: HttpStream): Promise<Arrived> => {
    waitingSinceMs = clock.monotonic();
    try {
      for (;;) {
        const ready = waiting.shift();
        if (ready !== undefined) return ready;
        const piece = await from.read();
        if (piece === undefined) throw endError(from, what, counters.pictures);
        const atMs = clock.monotonic();
        const wallMs = clock.now();
        for (const picture of splitter.push(piece)) {
          try {
            const { widthPx, heightPx } = parseJpeg(picture);
            if (takes(atMs)) waiting.push({ data: picture, atMs, wallMs, widthPx, heightPx });
            else {
              counters.skipped++;
              waitingSinceMs = atMs; // the camera is well
            }
          } catch (error) {
            if (!(error instanceof MediaError)) throw error;
            unreadable++;
            lastProblem = error.message;
          }
        }
        counters.bad = unreadable + splitter.damaged;
      }
    } catch (error) {
      if (error instanceof MjpegError) {
        throw sourceError("protocol", `${what}: ${error.message}: is this an MJPEG stream?`);
      }
      throw error;
    } finally {
      waitingSinceMs = undefined;
    }
  };

  let first: Arrived;
  let open: HttpStream;
  try {
    signal.throwIfAborted();
    open = stream = await options.connect(closing.signal);
    if (open.status !== 200) throw statusError(open, what, clock.now());
    const type = open.headers.get("content-type") ?? "";
    if (/^(text\/|application\/(json|xml))/i.test(type)) {
      throw sourceError(
        "protocol",
        `${what}: got ${type.split(";")[0]} where a multipart stream of JPEGs was expected: ` +
          `check "url"`,
      );
    }
    watch().catch(() => {}); // ends with the session
    first = await next(open);
  } catch (error) {
    const reason = closing.signal.aborted ? closing.signal.reason : error;
    close();
    throw reason;
  }

  let last = first;
  let lastPtsUs = -1;
  const track = trackOf(first);
  const unitOf = (picture: Arrived): AccessUnit => {
    const resized = last.widthPx !== picture.widthPx || last.heightPx !== picture.heightPx;
    // The same bytes are given as the same object: the encoder sees that there is nothing new.
    const same = Buffer.compare(last.data, picture.data) === 0;
    const data = same ? last.data : picture.data;
    last = same ? last : picture;
    lastPtsUs = Math.max(lastPtsUs + 1, Math.round((picture.atMs - first.atMs) * 1000));
    counters.pictures++;
    return {
      trackId: TRACK_ID,
      data,
      ptsUs: lastPtsUs,
      dtsUs: lastPtsUs,
      isKey: true,
      capturedAtMs: Math.round(picture.wallMs),
      ...(resized ? { track: trackOf(picture) } : {}),
    };
  };

  async function* units(): AsyncGenerator<AccessUnit, void, undefined> {
    try {
      yield unitOf(first);
      while (!quiet && !signal.aborted) yield unitOf(await next(open));
    } catch (error) {
      if (!quiet && !signal.aborted) throw error; // an abort ends quietly
    } finally {
      close();
    }
  }

  const iterator = units();
  return {
    tracks: [track],
    counters,
    [Symbol.asyncIterator]: () => iterator,
    async [Symbol.asyncDispose]() {
      quiet = true;
      closing.abort(new Error("closed"));
      await iterator.return(); // waits for what is under way
      close();
    },
  };
}

/**
 * Decides which pictures are taken so that there are at most `fps` in a second on the average, evenly
 * spread. A picture may come a quarter of the interval early, so that a camera of just this rate
 * loses none to its jitter.
 */
export function createRateCap(fps: number | undefined): (atMs: number) => boolean {
  if (fps === undefined) return () => true;
  const intervalMs = 1000 / fps;
  let dueMs = -Infinity;
  return (atMs) => {
    if (atMs < dueMs - intervalMs / 4) return false;
    dueMs = dueMs + intervalMs > atMs ? dueMs + intervalMs : atMs + intervalMs;
    return true;
  };
}

function endError({ headers }: HttpStream, what: string, pictures: number) {
  const type = headers.get("content-type") ?? "";
  if (pictures <= 1 && /^image\/jpeg/i.test(type)) {
    return sourceError(
      "protocol",
      `${what}: the address gives one picture and no stream: use the type "snapshot" for it`,
    );
  }
  if (pictures > 0) return sourceError("offline", `${what}: the camera ended the stream`);
  return sourceError(
    "protocol",
    `${what}: the answer${type && ` (${type.split(";")[0]})`} ended without a JPEG picture`,
  );
}

function trackOf({ widthPx, heightPx }: Pick<Arrived, "widthPx" | "heightPx">): VideoTrack {
  const config = new Uint8Array();
  return { id: TRACK_ID, kind: "video", codec: "jpeg", widthPx, heightPx, config };
}
