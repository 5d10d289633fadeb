/**
 * Records one camera for as long as it is told to: opens a session, sends its units through an
 * encoder if they are JPEGs, and into clips. A lost session is opened again, for ever, with
 * growing pauses; the gap is said once when it begins and once when it ends.
 *
 * @module
 */
import { backoffMs, orAborted } from "../clock.ts";
import type { SoundEncoder, SoundEncoderOptions } from "../encode/mod.ts";
import type { Spool } from "../spool/mod.ts";
import type { CameraStatus } from "../status/board.ts";
import {
  type AccessUnit,
  type CameraEvent,
  type Clock,
  type Encoder,
  type Log,
  type Session,
  type Source,
  sourceError,
  sourceErrorKind,
} from "../types.ts";
import { type ClipWriter, createClipWriter } from "./clip_writer.ts";
import { createEventGate, type EventGate, type EventPlan } from "./event_gate.ts";
import { type EventHearer, type EventListening, listenForEvents } from "./event_listener.ts";
import { createEventMarks, type EventMarks } from "./event_marks.ts";
import { LeftOutPictures } from "./left_out.ts";
import { type MotionWatch, type MotionWatchOptions, watchMotion } from "./motion_watch.ts";
import { isSpoolError, retryAfterMs, SPOOL_RETRY_MS } from "./pauses.ts";
import { createUnitQueue } from "./queue.ts";
import { createTimelapse, type Timelapse, type TimelapsePlan } from "./timelapse.ts";
import { createUnwritten } from "./unwritten.ts";

/** What a recorder works with. */
export interface RecorderOptions {
  readonly camera: string;
  readonly slug: string;
  readonly source: Source;
  /** Where to get an encoder when the camera gives JPEGs. */
  readonly encoder: () => Promise<Encoder>;
  /** Where to get one for sound that a clip cannot hold as it is; without it such sound is left out. */
  readonly soundEncoder?: (options: SoundEncoderOptions) => Promise<SoundEncoder>;
  /** Where to get a decoder for the key pictures of coded video, to see motion in them. */
  readonly pictureDecoder?: MotionWatchOptions["pictureDecoder"];
  readonly spool: Pick<Spool, "begin" | "list" | "tag" | "journal">;
  readonly status: CameraStatus;
  readonly clipMs: number;
  readonly product: string;
  /** A session that yields nothing for so long is given up, ms. */
  readonly stallMs: number;
  /** Only what happens around events is recorded. */
  readonly events?: EventRecording;
  /** What tells of events for the tags of its clips, where it is not recorded for those events alone. */
  readonly tags?: {
    readonly listen: NonNullable<EventListening["listen"]>;
    /** It is said when nothing can be heard. */
    readonly isAsked: boolean;
  };
  /** Called for every event that is told or seen, also again while one lasts. It must not throw. */
  readonly onEvent?: (event: CameraEvent) => void;
  /** A second recording of the same pictures, with the name, folder and status that it has. */
  readonly timelapse?: {
    readonly plan: TimelapsePlan;
    readonly camera: string;
    readonly slug: string;
    readonly status: CameraStatus;
  };
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly log: Log;
}

/** When a camera is recorded that is not recorded all the time. */
export interface EventRecording extends EventListening {
  readonly plan: EventPlan;
}

/** How long the encoder may take to finish when recording is stopped. */
const DRAIN_MS = 3500;
/** How long what was told to end may take before it is left behind. */
const GRACE_MS = 500;
/**
 * How much video may be in memory only. Pictures have been through an encoder, which had its own
 * delay; coded video comes with more bytes, for which fewer and larger writes are cheaper.
 */
export const FRAGMENT_US = { encoded: 500_000, coded: 1_000_000 } as const;
/** What a camera may have waiting for its encoder or its disk. */
const QUEUE = {
  encoded: { maxUnits: 128, maxBytes: 32 * 2 ** 20, maxWaitMs: 2000 },
  /** Coded units are small and, with sound, come eighty a second. */
  coded: { maxUnits: 2048, maxBytes: 32 * 2 ** 20 },
} as const;
/** Sound that waits for its pictures to come out of the encoder; the oldest goes. */
const MAX_WAITING_SOUND = 4096;

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

  /** Only who is away is asked often: a refused login that is tried again and again locks accounts. */
  const longestPauseMs = (error: unknown) =>
    sourceErrorKind(error) === "offline" ? options.source.retryMs : undefined;

  const timelapse = options.timelapse && createTimelapse({ ...options, ...options.timelapse });
  let ending: Promise<void> | undefined;
  const endTimelapse = () => ending ??= timelapse?.finish() ?? Promise.resolve();
  // While the session ends, not after it: both have little time.
  signal.addEventListener("abort", endTimelapse, { once: true });

  const gate = options.events && createEventGate(options.events.plan);
  const marks = createEventMarks({ ...options, signal });
  /** Hears what goes into the tags. */
  const tagger: EventHearer = {
    isHeard: true,
    note(event) {
      marks.note(event);
      options.onEvent?.(event);
    },
  };
  /** Hears what is to be recorded. */
  const hearer: EventHearer | undefined = gate && {
    note(event) {
      gate.note(event);
      tagger.note(event);
    },
    get isHeard() {
      return gate.isHeard;
    },
    set isHeard(value) {
      gate.isHeard = value;
    },
  };
  const motion = options.events?.motion && hearer
    ? watchMotion(hearer, { ...options, ...options.events.plan })
    : undefined;
  const context = { status, clock, random, log };
  const listening = hearer && !motion
    ? listenForEvents(hearer, { ...options.events, ...context }, signal)
    : options.tags
    ? listenForEvents(
      tagger,
      { ...options.tags, ...context, consequence: "clips have no tags" },
      signal,
    )
    : Promise.resolve();

  status.state = "connecting";
  status.reason = undefined;
  while (!signal.aborted) {
    let firstPictureMs: number | undefined;
    let recorded = false;
    try {
      await recordSession({ ...options, timelapseOf: timelapse, gate, motion, marks }, signal, {
        onPicture(nowMs) {
          lastPictureMs = nowMs;
          firstPictureMs ??= nowMs;
        },
        onLeftOut(ms) {
          status.gaps.count++;
          status.gaps.totalMs += ms;
          log.warn(
            `no picture for ${(ms / 1000).toFixed(1)} s: the camera or its network left them out`,
            { event: "gap", gapMs: Math.round(ms) },
          );
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
        : Math.max(backoffMs(++attempt, random, longestPauseMs(error)), retryAfterMs(error));
      log.debug(`next try in ${(pauseMs / 1000).toFixed(1)} s`, { attempt, error: String(error) });
      await clock.sleep(pauseMs, { signal }).catch(() => {});
    }
  }
  signal.removeEventListener("abort", endTimelapse);
  await endTimelapse();
  await motion?.[Symbol.asyncDispose]();
  if (signal.aborted) await listening;
  status.eventsUnheard = undefined;
  await marks.idle();
  if (gapSinceMs !== undefined) {
    status.gaps.totalMs += clock.monotonic() - gapSinceMs;
    status.gapSinceMs = undefined;
  }
  status.state = "stopped";
  status.fps = 0;
}

/** What is told of a session while it lasts. */
interface SessionEvents {
  /** A picture came from the camera, now by the monotonic clock. */
  onPicture(nowMs: number): void;
  /** For so long none did, although the session goes on, ms. */
  onLeftOut(ms: number): void;
  /** Something has come onto the disk. */
  onRecorded(): void;
}

/**
 * One session, from open to the last clip made durable. Throws why the session was lost; when
 * `signal` was aborted, only what could not be recorded. What does not heed an abort is left behind.
 */
async function recordSession(
  options: RecorderOptions & {
    readonly timelapseOf: Timelapse | undefined;
    readonly gate: EventGate | undefined;
    readonly motion: MotionWatch | undefined;
    readonly marks: EventMarks;
  },
  signal: AbortSignal,
  { onPicture, onLeftOut, onRecorded }: SessionEvents,
): Promise<void> {
  const { camera, status, log, clock } = options;
  const lost = new AbortController();
  let watchdog = createWatchdog(options, lost, options.source.openWithinMs);
  const sessionSignal = AbortSignal.any([signal, lost.signal]);
  let session: Session;
  try {
    session = await openSession(options, sessionSignal);
  } catch (error) {
    watchdog.stop();
    throw sessionSignal.aborted ? sessionSignal.reason : error;
  }
  if (options.source.openWithinMs !== undefined) {
    watchdog.stop();
    watchdog = createWatchdog(options, lost);
  }
  const refused = async (reason: unknown) => {
    watchdog.stop();
    await closeSession(session, options);
    return reason;
  };
  const video = session.tracks.find((track) => track.kind === "video");
  if (!video) throw await refused(sourceError("protocol", "the camera offers no video"));
  status.widthPx = video.widthPx;
  status.heightPx = video.heightPx;

  const countedBefore: Counts = { ...status };
  const encoding = video.codec === "jpeg";
  const isOnlyTimelapse = options.timelapse?.plan.only ?? false;
  // Before pictures are asked for: while the process's first encoder is opened they would be shed.
  const encoder = encoding && !isOnlyTimelapse
    ? await orAborted(options.encoder(), sessionSignal).catch(async (error) => {
      throw await refused(error);
    })
    : undefined;
  const queue = createUnitQueue({
    ...(encoding ? QUEUE.encoded : QUEUE.coded),
    allKey: encoding,
    monotonic: () => clock.monotonic(),
    videoTrackId: video.id,
    onShed: (pictures) => status.framesDropped += pictures,
  });
  const rate = createRateMeter((fps) => status.fps = fps);
  const leftOut = new LeftOutPictures();
  const { timelapseOf: timelapse, gate, motion } = options;
  let videoNow = video;
  // Pictures that wait for an event may be lost.
  const unwritten = encoding && !gate && !isOnlyTimelapse
    ? createUnwritten({ ...options, journal: () => options.spool.journal(options) })
    : undefined;

  /** Sound of a camera whose pictures are encoded: it goes round the encoder. */
  const sound: AccessUnit[] = [];
  const takeSound = (unit: AccessUnit): void => {
    if (!encoding) return queue.push(unit);
    sound.push(unit);
    if (sound.length > MAX_WAITING_SOUND) sound.shift();
  };
  const coder = isOnlyTimelapse
    ? undefined
    : await openSoundEncoder(options, { session, onUnit: takeSound, signal: sessionSignal });
  const tracks = session.tracks
    .map((track) => track.id === coder?.track.id ? coder.track : track)
    .filter(({ kind, codec }) => kind === "video" || codec !== "pcm");

  /** From the camera into the queue, until the session ends. */
  const pump = async (): Promise<void> => {
    for await (const unit of session) {
      if (sessionSignal.aborted) return;
      if (unit.trackId !== video.id) {
        if (isOnlyTimelapse) unit.release?.();
        else if (unit.trackId === coder?.track.id) coder.push(unit);
        else takeSound(unit);
        continue;
      }
      const nowMs = clock.monotonic();
      watchdog.fed(nowMs); // sound without pictures is silence too
      onPicture(nowMs);
      const gapMs = leftOut.gapBefore(unit.dtsUs);
      if (gapMs !== undefined) onLeftOut(gapMs);
      rate.tick(nowMs);
      if (unit.track?.kind === "video") {
        videoNow = unit.track;
        status.widthPx = videoNow.widthPx;
        status.heightPx = videoNow.heightPx;
      }
      timelapse?.offer(unit, videoNow);
      motion?.look(unit, videoNow);
      if (isOnlyTimelapse) {
        onRecorded(); // it is, in its own time
        unit.release?.();
        continue;
      }
      if (!gate) status.framesCaptured++;
      unwritten?.came(unit);
      queue.push(unit);
    }
  };

  const drain = new AbortController();
  let captured = false;
  let isCutShort = false;
  /** Why the session ended. */
  const capturing: Promise<unknown> = withinGrace(pump().finally(() => coder?.end()), {
    signal: sessionSignal,
    clock,
  }).catch((error: unknown) => error)
    .then((error) => {
      captured = true;
      watchdog.stop();
      queue.end();
      clock.sleep(DRAIN_MS, { signal: drain.signal }).then(() => {
        if (encoding) {
          const message = `the encoder did not finish within ${DRAIN_MS / 1000} s`;
          const isKept = unwritten !== undefined && signal.aborted;
          const fate = isKept ? "are recorded at the next start" : "are lost";
          log.warn(`${message}: the last pictures ${fate}`);
          isCutShort = true;
          drain.abort(new Error(message));
        }
      }, () => {});
      if (sessionSignal.aborted) return sessionSignal.reason;
      return error ?? sourceError("offline", "the camera ended the session");
    });
  const newWriter = () =>
    createClipWriter({
      camera,
      slug: options.slug,
      // An encoder's track comes with its first unit.
      tracks: tracks.map((track) =>
        encoding && track === video ? { ...video, codec: "h264" } : track
      ),
      clipMs: options.clipMs,
      fragmentUs: encoding ? FRAGMENT_US.encoded : FRAGMENT_US.coded,
      product: options.product,
      spool: options.spool,
      marks: options.marks,
      status,
      log,
    });
  let writer: ClipWriter | undefined;
  /** Units that belong together onto the disk. */
  const writeStretch = async (stretch: AsyncIterable<AccessUnit>): Promise<void> => {
    const into = writer = newWriter();
    const before = status.framesRecorded;
    const units = encoder
      ? encoder.encode(unwritten?.taken(stretch) ?? stretch, {
        camera,
        gopMs: gopLengthMs(options.clipMs),
        signal: drain.signal,
        onLost: (frames, cause) => {
          status.framesDropped += frames;
          log.debug(`${frames} pictures could not be encoded: ${cause}`);
        },
        onRepeated: (frames) => status.framesRecorded += frames,
      })
      : stretch;
    for await (const unit of units) {
      try {
        const written = into.write(unwritten?.coded(unit) ?? unit);
        if (written !== undefined) await written;
        if (sound.length > 0) { for (const other of sound.splice(0)) await into.write(other); }
      } catch (error) {
        lost.abort(error); // no use in capturing what cannot be recorded
        throw error;
      }
      if (status.framesRecorded > before) onRecorded();
    }
  };
  /** From the queue onto the disk: all of it, or what belongs to events. */
  const write = async (): Promise<void> => {
    if (!gate) await writeStretch(queue);
    else {
      // Watching is as good as recording: what shall be recorded is.
      const options = { videoId: video.id, onHeld: onRecorded };
      for await (const stretch of gate.stretches(queue, options)) {
        await writeStretch(countPictures(stretch, { videoId: video.id, status }));
        await writer?.finish();
        writer = undefined;
      }
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
  await coder?.[Symbol.asyncDispose]();
  try {
    for (const other of sound.splice(0)) await writer?.write(other);
    await writer?.finish();
  } catch (error) {
    failure ??= { error };
  }
  const isKept = await unwritten?.end({ keep: isCutShort && signal.aborted });
  // What the encoder, the queue or the disk still had. A timelapse counts for itself.
  if (!isKept && !isOnlyTimelapse) status.framesDropped += missingSince(countedBefore, status);
  await closeSession(session, options);
  if (failure) throw failure.error;
  throw sessionError;
}

/** Pictures that were captured and are neither recorded nor counted as dropped. */
function missingSince(before: Counts, now: Counts): number {
  const since = (key: keyof Counts) => now[key] - before[key];
  return Math.max(0, since("framesCaptured") - since("framesRecorded") - since("framesDropped"));
}

type Counts = Pick<CameraStatus, "framesCaptured" | "framesRecorded" | "framesDropped">;

/** An encoder for the session's sound, where it is of a kind that clips do not hold. */
async function openSoundEncoder(
  { soundEncoder, log }: RecorderOptions,
  { session, onUnit, signal }: {
    readonly session: Session;
    readonly onUnit: (unit: AccessUnit) => void;
    readonly signal: AbortSignal;
  },
): Promise<SoundEncoder | undefined> {
  const track = session.tracks.find(({ kind, codec }) => kind === "audio" && codec === "pcm");
  if (track?.kind !== "audio") return undefined;
  try {
    if (soundEncoder !== undefined) {
      return await orAborted(soundEncoder({ track, log, onUnit }), signal);
    }
    log.warn("its sound is left out: nothing here can code it");
  } catch (error) {
    if (!signal.aborted) {
      log.warn(`its sound is left out: ${error instanceof Error ? error.message : error}`);
    }
  }
  return undefined;
}

/** Pictures count as captured when they are to be recorded. */
async function* countPictures(
  units: AsyncIterable<AccessUnit>,
  { videoId, status }: { readonly videoId: number; readonly status: CameraStatus },
): AsyncGenerator<AccessUnit> {
  for await (const unit of units) {
    if (unit.trackId === videoId) status.framesCaptured++;
    yield unit;
  }
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

/** Gives the session up when the camera has been silent for too long, or `patienceMs` if that is more. */
function createWatchdog(
  { clock, stallMs: usualMs }: RecorderOptions,
  lost: AbortController,
  patienceMs = 0,
): { fed(nowMs: number): void; stop(): void } {
  const stallMs = Math.max(usualMs, patienceMs);
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
  return { fed: (nowMs) => fedAt = nowMs, stop: () => stopped.abort() };
}

/** Pictures per second over the last ten seconds. */
function createRateMeter(report: (fps: number) => void): { tick(nowMs: number): void } {
  let times: number[] = [];
  let oldest = 0;
  return {
    tick(nowMs) {
      times.push(nowMs);
      while (times.length - oldest > 2 && nowMs - (times[oldest] ?? nowMs) > 10_000) oldest++;
      if (oldest > 256) {
        times = times.slice(oldest);
        oldest = 0;
      }
      const spanMs = nowMs - (times[oldest] ?? nowMs);
      if (spanMs > 0) report((times.length - oldest - 1) / spanMs * 1000);
    },
  };
}
