/**
 * The session of a camera that is asked for one JPEG after the other. What differs between cameras
 * is how one picture is fetched (`shoot`); here is what is the same for all: the steady rate, the
 * check that the answer is a whole JPEG, the timestamps, and how much trouble a session endures.
 *
 * **Time.** The picture was taken at some moment between the request and the start of the answer; no
 * camera says when. Its time is taken as the middle of the two, which is wrong by at most half the
 * answer's delay whichever end is nearer to the truth, and does not depend on how long the bytes
 * take to arrive. Media time is that moment on the monotonic clock, so that a jump of wall time
 * never touches it; wall time is a label on it.
 *
 * **Identity.** A picture with the same bytes as the one before (or which the server says is
 * unchanged) is yielded again with the *same* `data` object: whoever encodes sees by `===` that
 * there is nothing new, and the camera's rate stays steady.
 *
 * **Trouble.** A bad answer is counted and its moment lost. When no good one came for ten seconds,
 * or a hundred in a row were bad, the session ends with the last one's reason. An error that is not
 * marked as passing ends it at once. Nothing is tried twice: that is the recorder's business.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { MediaError } from "../media/media_error.ts";
import { parseJpeg } from "../media/jpeg.ts";
import {
  type AccessUnit,
  type Clock,
  type Session,
  type Source,
  sourceError,
  type VideoTrack,
} from "../types.ts";
import { type HttpResponse, isPassing, passingError } from "./http.ts";
import { createPace } from "./pace.ts";

/** An answer with a picture in it, or `"same"` where the server says that nothing changed. */
export type Shot = Pick<HttpResponse, "sentMs" | "respondedMs" | "respondedAtMs"> & {
  readonly picture: Uint8Array<ArrayBuffer> | "same";
};

/** What a session has been through. */
export interface PollingCounters {
  /** Pictures yielded. */
  readonly pictures: number;
  /** Of these, how many were the same as the one before. */
  readonly same: number;
  /** Answers that were no picture, and requests that were not answered. */
  readonly bad: number;
  /** Moments that passed while the answer before, or the one who pulls, took too long. */
  readonly missed: number;
}

/** A {@linkcode Session} of JPEGs that tells how it went. */
export interface PollingSession extends Session {
  readonly tracks: readonly [VideoTrack];
  readonly counters: PollingCounters;
}

/** A {@linkcode Source} of such sessions. */
export interface PollingSource extends Source {
  open(options: { readonly signal: AbortSignal }): Promise<PollingSession>;
}

/** What a polling session works with. */
export interface PollingOptions {
  readonly clock: Clock;
  /** Pictures per second. */
  readonly fps: number;
  /** The camera, for messages. */
  readonly what: string;
  /** Ends the session quietly. */
  readonly signal: AbortSignal;
  /** So long no good picture is endured, ms. Default ten seconds. */
  readonly silenceMs?: number;
  /**
   * Fetches one picture. Errors made by `passingError` are endured for a while, all others end the
   * session.
   */
  shoot(signal: AbortSignal): Promise<Shot>;
  /** Called once when the session is over, also if it never began. */
  close?(): void;
}

const SILENCE_MS = 10_000;
const MAX_BAD_IN_A_ROW = 100;
const TRACK_ID = 1;

/** Fetches the first picture, and is open. */
export async function openPollingSession(options: PollingOptions): Promise<PollingSession> {
  const { clock, signal, shoot, what } = options;
  const closing = new AbortController();
  const onAbort = () => closing.abort(signal.reason);
  let closed = false;
  const close = () => {
    if (closed) return;
    closed = true;
    signal.removeEventListener("abort", onAbort);
    options.close?.();
  };
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();

  let first: Shot;
  let last: Picture;
  try {
    closing.signal.throwIfAborted();
    first = await shoot(closing.signal);
    last = readPicture(first, undefined, what);
  } catch (error) {
    close();
    throw error;
  }

  // The grid begins with the first picture's request; a login before it takes no part.
  const pace = createPace({ clock, intervalMs: 1000 / options.fps, originMs: first.sentMs });
  const counters = { pictures: 0, same: 0, bad: 0, missed: 0 };
  const originMs = takenMs(first);
  const track = trackOf(last);
  let lastPtsUs = -1;

  const unitOf = (shot: Shot, picture: Picture): AccessUnit => {
    const ptsUs = Math.max(lastPtsUs + 1, Math.round((takenMs(shot) - originMs) * 1000));
    const resized = last.widthPx !== picture.widthPx || last.heightPx !== picture.heightPx;
    counters.pictures++;
    last = picture;
    lastPtsUs = ptsUs;
    return {
      trackId: TRACK_ID,
      data: picture.data,
      ptsUs,
      dtsUs: ptsUs,
      isKey: true,
      capturedAtMs: Math.round(shot.respondedAtMs - (shot.respondedMs - takenMs(shot))),
      ...(resized ? { track: trackOf(picture) } : {}),
    };
  };

  async function* units(): AsyncGenerator<AccessUnit, void, undefined> {
    const silenceMs = options.silenceMs ?? SILENCE_MS;
    try {
      yield unitOf(first, last);
      let badInARow = 0;
      let failingSinceMs = 0;
      while (!closing.signal.aborted) {
        await pace.next(closing.signal);
        counters.missed = pace.missed;
        if (badInARow === 0) failingSinceMs = clock.monotonic();
        let shot: Shot;
        let picture: Picture;
        try {
          shot = await shoot(closing.signal);
          picture = readPicture(shot, last, what);
        } catch (error) {
          if (closing.signal.aborted) return;
          if (!isPassing(error)) throw error;
          counters.bad++;
          badInARow++;
          const failingMs = clock.monotonic() - failingSinceMs;
          if (failingMs < silenceMs && badInARow < MAX_BAD_IN_A_ROW) continue;
          throw sourceError(
            error.sourceErrorKind,
            `${what}: no picture for ${(failingMs / 1000).toFixed(1)} s ` +
              `(${badInARow} bad answers in a row); the last: ${error.message}`,
            { cause: error },
          );
        }
        badInARow = 0;
        if (picture === last) counters.same++;
        yield unitOf(shot, picture);
      }
    } catch (error) {
      if (!closing.signal.aborted) throw error; // an abort ends quietly
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
      closing.abort();
      await iterator.return(); // waits for what is under way
      close();
    },
  };
}

/** When a picture was taken, as far as can be known, on the monotonic clock, ms. */
function takenMs({ sentMs, respondedMs }: Shot): number {
  return sentMs + (respondedMs - sentMs) / 2;
}

interface Picture {
  readonly data: Uint8Array<ArrayBuffer>;
  readonly widthPx: number;
  readonly heightPx: number;
}

function trackOf({ widthPx, heightPx }: Picture): VideoTrack {
  return {
    id: TRACK_ID,
    kind: "video",
    codec: "jpeg",
    widthPx,
    heightPx,
    config: new Uint8Array(),
  };
}

/** The picture of an answer; the last one itself where it is the same. */
function readPicture({ picture }: Shot, last: Picture | undefined, what: string): Picture {
  if (picture === "same") {
    if (last !== undefined) return last;
    throw passingError("protocol", `${what}: "304 Not Modified" for the first request ever made`);
  }
  try {
    // Cameras fill up the end of a picture with anything; only what belongs to it is compared.
    if (
      last !== undefined && Buffer.compare(picture.subarray(0, last.data.length), last.data) === 0
    ) {
      return last;
    }
    const { widthPx, heightPx, sizeBytes } = parseJpeg(picture);
    return { data: picture.subarray(0, sizeBytes), widthPx, heightPx };
  } catch (cause) {
    if (!(cause instanceof MediaError)) throw cause;
    throw passingError("protocol", `${what}: ${describeBody(picture) ?? cause.message}`, { cause });
  }
}

const KINDS: readonly (readonly [RegExp, string])[] = [
  [/^\s*(<!doctype html|<html|<head|<body)/i, "an HTML page"],
  [/^\s*<\?xml/i, "an XML document"],
  [/^\s*<svg/i, "an SVG drawing"],
  [/^\s*[{[]/, "JSON"],
  [/^\x89PNG/, "a PNG picture"],
  [/^GIF8/, "a GIF picture"],
  [/^RIFF.{4}WEBP/s, "a WebP picture"],
  [/^BM.{4}\0{4}/s, "a BMP picture"],
  [/^.{4}ftyp(avif|heic|mif1)/s, "an AVIF or HEIC picture"],
  [/^.{4}ftyp/s, "an MP4 video"],
  [/^--.*\r?\ncontent-type: *image\/jpeg/is, 'a multipart stream (use the type "mjpeg" for it)'],
];

/** What came instead of a JPEG, told by its first bytes; `undefined` if it looks like a JPEG. */
function describeBody(bytes: Uint8Array): string | undefined {
  if (bytes.length === 0) return "got an empty answer where a JPEG picture was expected";
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return undefined;
  const start = String.fromCharCode(...bytes.subarray(0, 256));
  const kind = KINDS.find(([pattern]) => pattern.test(start))?.[1];
  if (kind === undefined) return undefined;
  const shown = JSON.stringify(start.slice(0, 24).replaceAll(/[^\x20-\x7e]/g, "."));
  return `got ${kind} (it begins with ${shown}) where a JPEG picture was expected`;
}
