/**
 * One session out of streams that follow each other. Google lets a stream live five minutes, or as
 * long as it is extended; some cameras' streams cannot be. Here the next stream is up before the old
 * one goes, and its units take over at a key unit, without a gap and without a picture twice, so that
 * whoever records notices nothing.
 *
 * **Where they meet.** Both streams show the same moments for a while. Where the cloud hands on the
 * same bytes to both, the new stream's first key unit is found again in the old one, and takes its
 * place exactly. Where each is coded by itself, they meet by the time at which the pictures were
 * taken. A key unit of something that was shown already is passed over, and the next one awaited.
 *
 * **Cameras with one stream at a time.** The old one is ended first; the gap is measured and said.
 *
 * This is a hand-over that was planned. A stream that is lost otherwise ends the session: opening it
 * again is the recorder's business.
 *
 * @module
 */
import {
  type AccessUnit,
  type Clock,
  type Log,
  type Session,
  sourceError,
  type Track,
} from "../../types.ts";

/** One stream, kept alive by whoever made it. */
export interface Leg {
  readonly session: Session;
  /** Resolves when it can be kept alive no longer, with the moment at which it ends, monotonic ms. */
  readonly ending: Promise<number>;
  /** Ends it; what was asked of the cloud for that has been answered when it resolves. */
  close(): Promise<void>;
  /** Ends it; the cloud may be told afterwards. */
  leave(): Promise<void>;
}

/** What a joined session works with. */
export interface JoinedSessionOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** The camera, for messages. */
  readonly what: string;
  /** Ends the session quietly. */
  readonly signal: AbortSignal;
  readonly first: Leg;
  /** Opens the next stream. @throws a source error */
  next(signal: AbortSignal): Promise<Leg>;
  /** Whether a second stream may be open beside the first. */
  allowsTwo(): boolean;
  /** So long no picture is endured, ms. Default ten seconds. */
  readonly silenceMs?: number;
}

/** What the hand-overs of a session were like. */
export interface HandOverCounters {
  /** Streams taken over from the one before. */
  handOvers: number;
  /** Of these, where the new stream began with the same bytes as the old one had. */
  exact: number;
  /** Of these, with a gap. */
  gaps: number;
  /** Length of all gaps, ms. */
  gapMs: number;
}

/** A {@linkcode Session} that tells how its hand-overs went. */
export interface JoinedSession extends Session {
  readonly handOvers: Readonly<HandOverCounters>;
}

const SILENCE_MS = 10_000;
/** Longer than this between two pictures is a gap, ms. */
const GAP_MS = 1000;
/** A stream that is alone is ended so long before it ends by itself, ms. */
const ALONE_LEAD_MS = 1500;
/** Pause before the next stream is tried again, while the old one lasts. */
const NEXT_PAUSE_MS = 5000;
/** So much of the new stream is kept while the old one has not come as far, ms. */
const OVERLAP_MS = 3000;
/** Sound of the new stream from before its first picture is kept for so long, ms. */
const SOUND_MS = 1000;
const MAX_INBOX = 512;
const MAX_KEPT = 1024;
const MAX_KEYS = 64;

/** A stream whose units are being read. */
interface Running {
  readonly leg: Leg;
  /** Media time of the session minus that of the stream, µs. */
  offsetUs: number;
  /** The session's track by the stream's. */
  readonly trackIds: ReadonlyMap<number, number>;
  /** Tracks to announce with the next unit, by the session's id. */
  readonly announce: Map<number, Track>;
  /** While it waits to take over: from its key unit on, and sound from shortly before. */
  kept: AccessUnit[];
  videoId: number;
}

type Item =
  | { readonly from: Running; readonly unit: AccessUnit }
  | { readonly from: Running; readonly end: unknown };

/** Joins streams; the first is open already. */
export function openJoinedSession(options: JoinedSessionOptions): JoinedSession {
  const { clock, log, what, signal } = options;
  const closing = new AbortController();
  const onAbort = () => closing.abort(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();

  const tracks = options.first.session.tracks;
  const handOvers: HandOverCounters = { handOvers: 0, exact: 0, gaps: 0, gapMs: 0 };
  const inbox: Item[] = [];
  let wake = Promise.withResolvers<void>();
  let room = Promise.withResolvers<void>();
  let current = run(options.first);
  let next: Running | undefined;
  /** A next stream is being opened, so that the end of the current one is not the end of all. */
  let opening = false;
  let switched = Promise.withResolvers<void>();
  /** Why no next stream could be had. */
  let nextError: unknown;
  let lastVideo: { readonly ptsUs: number; readonly capturedAtMs: number } | undefined;
  let frameUs = 66_667;
  const lastDtsUs = new Map<number, number>();
  /**
   * The current stream's newest picture, held back while a next one is to come: that may show the same
   * moment, and take its place.
   */
  let held: AccessUnit | undefined;
  /**
   * Fingerprints of the latest key pictures and their times: a next stream may begin with one that was
   * shown before it was asked for.
   */
  const seen = new Map<string, number>();
  const legs = new Set<Leg>([options.first]);
  const tasks = new Set<Promise<void>>();

  function run(leg: Leg): Running {
    const trackIds = new Map<number, number>();
    const announce = new Map<number, Track>();
    let videoId = -1;
    for (const track of leg.session.tracks) {
      const own = tracks.find(({ kind, codec }) => kind === track.kind && codec === track.codec);
      if (track.kind === "video" && own) videoId = track.id;
      if (!own) continue;
      trackIds.set(track.id, own.id);
      announce.set(own.id, { ...track, id: own.id });
    }
    return { leg, offsetUs: 0, trackIds, announce, kept: [], videoId };
  }
  /** Whether its units may go where those of the first stream went. */
  const isAlike = (others: readonly Track[]) =>
    others.every((track) =>
      !tracks.some(({ kind, codec }) => kind === track.kind && codec !== track.codec)
    ) && others.some(({ kind }) => kind === "video");
  const put = (item: Item) => {
    inbox.push(item);
    wake.resolve();
  };
  const task = (work: Promise<void>) => {
    const one = work.catch(() => {}).finally(() => tasks.delete(one));
    tasks.add(one);
  };

  /** Reads a stream to its end. */
  const pump = async (from: Running): Promise<void> => {
    try {
      for await (const unit of from.leg.session) {
        if (closing.signal.aborted) return;
        put({ from, unit });
        while (inbox.length >= MAX_INBOX && !closing.signal.aborted) await room.promise;
      }
      put({ from, end: sourceError("offline", `${what}: the stream ended`) });
    } catch (error) {
      put({ from, end: error });
    }
  };

  /** Brings the next stream up whenever the current one is about to end. */
  const handOver = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      const endsAtMs = await orClosing(current.leg.ending);
      opening = true;
      try {
        const leg = await openNext(endsAtMs);
        if (leg === undefined) return; // the end of the current stream is the end of the session
        legs.add(leg);
        if (closing.signal.aborted) return;
        const running = run(leg);
        if (!isAlike(leg.session.tracks)) {
          nextError = sourceError(
            "offline",
            `${what}: the camera sends another kind of video now; opening it anew`,
          );
          return;
        }
        next = running;
        task(pump(running));
      } finally {
        opening = false;
        wake.resolve();
      }
      await orClosing(switched.promise);
    }
  };

  const openNext = async (endsAtMs: number): Promise<Leg | undefined> => {
    while (options.allowsTwo()) {
      try {
        return await options.next(closing.signal);
      } catch (error) {
        if (closing.signal.aborted) throw error;
        if (!options.allowsTwo()) break;
        nextError = error;
        const asked = error instanceof Error && "retryAfterMs" in error
          ? Number(error.retryAfterMs)
          : 0;
        const pauseMs = Math.max(NEXT_PAUSE_MS, asked);
        if (clock.monotonic() + pauseMs >= endsAtMs) return undefined;
        log.debug(`${what}: no next stream yet, trying again: ${error}`);
        await clock.sleep(pauseMs, { signal: closing.signal });
      }
    }
    // One at a time: the old stream has to go first.
    await clock.sleep(endsAtMs - ALONE_LEAD_MS - clock.monotonic(), { signal: closing.signal });
    await current.leg.close();
    legs.delete(current.leg);
    try {
      return await options.next(closing.signal);
    } catch (error) {
      nextError = error;
      return undefined;
    }
  };

  const orClosing = <T>(promise: Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      if (closing.signal.aborted) return reject(closing.signal.reason);
      const abort = () => reject(closing.signal.reason);
      closing.signal.addEventListener("abort", abort, { once: true });
      promise.then(resolve, reject)
        .finally(() => closing.signal.removeEventListener("abort", abort));
    });

  /** A unit of the current stream as one of the session; nothing for what would go back in time. */
  const mapped = (unit: AccessUnit, from: Running): AccessUnit | undefined => {
    const trackId = from.trackIds.get(unit.trackId);
    const dtsUs = unit.dtsUs + from.offsetUs;
    if (trackId === undefined || dtsUs <= (lastDtsUs.get(trackId) ?? -Infinity)) {
      unit.release?.();
      return undefined;
    }
    lastDtsUs.set(trackId, dtsUs);
    const announced = from.announce.get(trackId);
    from.announce.delete(trackId);
    const track = unit.track ? { ...unit.track, id: trackId } : announced;
    const ptsUs = unit.ptsUs + from.offsetUs;
    if (unit.trackId === from.videoId) {
      if (lastVideo && ptsUs > lastVideo.ptsUs) {
        frameUs = Math.min(ptsUs - lastVideo.ptsUs, 1_000_000);
      }
      lastVideo = { ptsUs, capturedAtMs: unit.capturedAtMs };
    }
    if (from.offsetUs === 0 && trackId === unit.trackId && track === unit.track) return unit;
    return { ...unit, trackId, dtsUs, ptsUs, ...(track ? { track } : {}) };
  };

  const remember = (data: Uint8Array, ptsUs: number) => {
    seen.set(fingerprint(data), ptsUs);
    if (seen.size > MAX_KEYS) seen.delete(seen.keys().next().value ?? "");
  };

  /** Keeps what the next stream brings until it takes over. */
  const keep = (unit: AccessUnit, running: Running) => {
    if (unit.trackId === running.videoId) {
      const begins = running.kept.some(({ trackId }) => trackId === running.videoId);
      if (!begins && !unit.isKey) return unit.release?.();
      if (!begins && wasShown(unit)) return unit.release?.();
    }
    running.kept.push(unit);
    const key = keyOf(running);
    const newest = unit.capturedAtMs;
    if (key === undefined) {
      running.kept = running.kept.filter(({ capturedAtMs }) => capturedAtMs > newest - SOUND_MS);
    }
  };
  const wasShown = (unit: AccessUnit): boolean => {
    if (lastVideo === undefined || seen.has(fingerprint(unit.data))) return false;
    return unit.capturedAtMs <= lastVideo.capturedAtMs + frameUs / 2000;
  };
  const keyOf = (running: Running): AccessUnit | undefined =>
    running.kept.find(({ trackId }) => trackId === running.videoId);

  /** The next stream takes over; `at` is the session's time of its key unit, where that is known. */
  const takeOver = (running: Running, at?: number): AccessUnit[] => {
    const key = keyOf(running);
    if (key === undefined) return [];
    const old = current;
    const last = lastVideo ?? { ptsUs: 0, capturedAtMs: key.capturedAtMs };
    const betweenMs = key.capturedAtMs - last.capturedAtMs;
    const startUs = at ?? last.ptsUs + Math.max(Math.round(betweenMs * 1000), 1000);
    running.offsetUs = startUs - key.ptsUs;
    handOvers.handOvers++;
    if (at !== undefined) handOvers.exact++;
    else if (betweenMs > Math.max(GAP_MS, 3 * frameUs / 1000)) {
      handOvers.gaps++;
      handOvers.gapMs += betweenMs;
      log.warn(
        `${what}: ${(betweenMs / 1000).toFixed(1)} s are missing between two streams` +
          (options.allowsTwo() ? "" : ": this camera allows one at a time"),
        { event: "hand-over-gap", gapMs: betweenMs },
      );
    }
    log.debug(`${what}: the next stream has taken over`, { exact: at !== undefined });
    current = running;
    next = undefined;
    const { kept } = running;
    running.kept = [];
    if (legs.delete(old.leg)) task(old.leg.close());
    switched.resolve();
    switched = Promise.withResolvers();
    return kept.flatMap((unit) => mapped(unit, running) ?? []);
  };

  /** What comes out for an item. */
  const handle = (item: Item): readonly AccessUnit[] => {
    const { from } = item;
    if ("end" in item) {
      if (from === next) { // the newcomer is lost: the old one goes on as long as it can
        nextError = item.end;
        next = undefined;
        if (legs.delete(from.leg)) task(from.leg.close());
        switched.resolve(); // another one is tried
        switched = Promise.withResolvers();
        return letGo();
      }
      if (from !== current) return [];
      ended = { error: item.end };
      return [...letGo(), ...(next && keyOf(next) ? takeOver(next) : [])];
    }
    const { unit } = item;
    if (from === next) {
      keep(unit, next);
      const key = keyOf(next);
      if (key === undefined) return [];
      // The old stream has shown this very picture: what follows it goes on where that was.
      const at = seen.get(fingerprint(key.data));
      if (at !== undefined) return [...letGo(), ...takeOver(next, at)];
      if (held && key.capturedAtMs <= held.capturedAtMs + frameUs / 2000) {
        held.release?.(); // the same moment, by the old stream
        held = undefined;
        return takeOver(next);
      }
      const waits = !ended && unit.capturedAtMs - key.capturedAtMs < OVERLAP_MS &&
        next.kept.length < MAX_KEPT;
      return waits ? [] : [...letGo(), ...takeOver(next)];
    }
    if (from !== current) {
      unit.release?.();
      return [];
    }
    if (unit.trackId !== from.videoId) {
      const out = mapped(unit, from);
      return out ? [out] : [];
    }
    const out = letGo();
    const key = next && keyOf(next);
    if (next && key) {
      if (fingerprint(unit.data) === fingerprint(key.data)) {
        unit.release?.();
        return [...out, ...takeOver(next, unit.ptsUs + from.offsetUs)];
      }
      if (unit.capturedAtMs + frameUs / 2000 >= key.capturedAtMs) {
        unit.release?.();
        return [...out, ...takeOver(next)];
      }
    }
    held = unit;
    return next ? out : [...out, ...letGo()];
  };
  /** Gives out the picture that was held back. */
  const letGo = (): AccessUnit[] => {
    if (held === undefined) return [];
    if (held.isKey) remember(held.data, held.ptsUs + current.offsetUs);
    const out = mapped(held, current);
    held = undefined;
    return out ? [out] : [];
  };
  let ended: { readonly error: unknown } | undefined;

  const silence = watchSilence(clock, options.silenceMs ?? SILENCE_MS, () => wake.resolve());

  async function* units(): AsyncGenerator<AccessUnit, void, undefined> {
    try {
      task(pump(current));
      task(handOver());
      while (!closing.signal.aborted) {
        const item = inbox.shift();
        if (item === undefined) {
          if (ended && ended.error !== undefined && !opening && !next) {
            throw nextError === undefined ? ended.error : withNext(ended.error, nextError);
          }
          if (silence.isOver()) {
            throw sourceError("offline", `${what}: no picture for ${silence.ms / 1000} s`);
          }
          wake = Promise.withResolvers();
          await orClosing(wake.promise);
          continue;
        }
        if (inbox.length === MAX_INBOX >> 1) {
          room.resolve();
          room = Promise.withResolvers();
        }
        const before = current;
        for (const unit of handle(item)) {
          if (unit.trackId === tracks.find(({ kind }) => kind === "video")?.id) silence.fed();
          yield unit;
        }
        if (before !== current) ended = undefined;
      }
    } catch (error) {
      if (!closing.signal.aborted) throw error; // an abort ends quietly
    } finally {
      task(close()); // whoever disposes waits for it; whoever is told of an error does not
    }
  }

  let closed: Promise<void> | undefined;
  const close = (): Promise<void> =>
    closed ??= (async () => {
      signal.removeEventListener("abort", onAbort);
      closing.abort(new Error("the session is closed"));
      silence.stop();
      room.resolve();
      await Promise.all([...legs].map((leg) => leg.leave().catch(() => {})));
    })();

  const iterator = units();
  return {
    tracks,
    handOvers,
    [Symbol.asyncIterator]: () => iterator,
    async [Symbol.asyncDispose]() {
      closing.abort(new Error("the session is closed"));
      await iterator.return();
      await close();
      await Promise.all(tasks);
    },
  };
}

/** The end of a stream that had no follower: both reasons, and the wait that the second asks for. */
function withNext(error: unknown, nextError: unknown): unknown {
  return nextError instanceof Error && "sourceErrorKind" in nextError ? nextError : error;
}

/** Tells pictures apart: their length and some bytes from all over them. */
function fingerprint(data: Uint8Array): string {
  let hash = 0x811c9dc5;
  const step = Math.max(1, Math.floor(data.length / 256));
  for (let at = 0; at < data.length; at += at < 160 ? 1 : step) {
    hash = Math.imul(hash ^ (data[at] ?? 0), 0x01000193);
  }
  return `${data.length} ${hash >>> 0}`;
}

/** Wakes the session when no picture has come for `ms`. */
function watchSilence(clock: Clock, ms: number, onSilence: () => void) {
  const stopped = new AbortController();
  let fedAtMs = clock.monotonic();
  (async () => {
    while (true) {
      const restMs = fedAtMs + ms - clock.monotonic();
      if (restMs <= 0) onSilence();
      await clock.sleep(restMs > 0 ? restMs : ms, { signal: stopped.signal });
    }
  })().catch(() => {}); // stopped
  return {
    ms,
    fed: () => {
      fedAtMs = clock.monotonic();
    },
    isOver: () => clock.monotonic() - fedAtMs >= ms,
    stop: () => stopped.abort(),
  };
}
