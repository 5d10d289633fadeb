/**
 * Cuts a camera's units into clips and writes them to the spool.
 *
 * A clip begins with a key unit and ends at the key unit nearest to the next wall-clock multiple of
 * the clip length. What has come in is appended to the clip's file as a fragment at every key unit
 * and, between them, every `fragmentUs`, so that a crash costs no more than that; where pictures come in
 * bursts, at the end of one, while their bytes are still in the processor's cache. A clip is finished
 * (indexed, hashed, made durable) while the next one is already being written: recording never waits.
 *
 * **Sound** is cut where the pictures are: a frame belongs to the clip during which it begins to
 * sound, whether it came earlier than those pictures or later. So each frame is in exactly one clip,
 * and in step with the pictures in each. For sound that comes later the clip before a cut stays open
 * a little longer, beside the next one.
 *
 * @module
 */
import { formatBytes } from "../config/values.ts";
import { MediaError } from "../media/media_error.ts";
import { sampleEntry, trackHead } from "../media/mp4_movie.ts";
import { createMp4Writer, type Mp4Writer } from "../media/mp4_writer.ts";
import type { OpenClip, Spool } from "../spool/mod.ts";
import type { CameraStatus } from "../status/board.ts";
import type { AccessUnit, Log, Track } from "../types.ts";
import type { EventMarks } from "./event_marks.ts";

/** See {@linkcode createClipWriter}. */
export interface ClipWriter {
  /**
   * Takes the next unit in decode order. What it returns is to be waited for; most units need no wait.
   *
   * @throws or rejects if the spool cannot take it
   */
  write(unit: AccessUnit): Promise<void> | undefined;
  /** Ends the open clip, if there is one, and waits until every clip is durable; the last call. */
  finish(): Promise<void>;
}

/** What a clip writer needs to know. */
export interface ClipWriterOptions {
  readonly camera: string;
  readonly slug: string;
  readonly tracks: readonly Track[];
  readonly clipMs: number;
  /** What has come in is written at least so often, in media time, µs; half as much again with bursts. */
  readonly fragmentUs: number;
  /**
   * Where pictures are played faster than they were taken: so long is each on the wall clock, ms. A
   * clip then ends so long after its last picture was taken, whatever its media time.
   */
  readonly frameMs?: number;
  /** Name and version of the program, for the clip's metadata. */
  readonly product: string;
  readonly spool: Pick<Spool, "begin">;
  /** Knows what happened during a clip. */
  readonly marks?: Pick<EventMarks, "tagsOf" | "opened" | "ended" | "finished">;
  readonly status: CameraStatus;
  readonly log: Log;
}

interface Recording {
  readonly file: OpenClip;
  readonly mp4: Mp4Writer;
  readonly startMs: number;
  readonly startUs: number;
  /** When its first picture is shown: sound from then on belongs to it. */
  readonly shownUs: number;
  readonly slot: number;
  /** When its newest picture was taken. */
  lastMs: number;
  /** Sound that is not in the file yet. */
  sound: AccessUnit[];
  frames: number;
  /** In the MP4's index, but refused by the disk: the next write, or the last one, takes it along. */
  unwritten: {
    readonly chunks: readonly Uint8Array[];
    readonly frames: number;
    /** Whose bytes the chunks are. */
    readonly units: readonly AccessUnit[];
  };
}

/** A clip whose pictures are complete. */
interface Ending {
  readonly recording: Recording;
  /** When the next clip's first picture is shown, µs. */
  readonly cutUs: number;
  readonly endUs: number;
  /** Tracks whose sound has not come to the cut yet. */
  readonly awaited: Set<number>;
}

const NOTHING: Recording["unwritten"] = { chunks: [], frames: 0, units: [] };

/** So much later than the pictures may sound come, µs of media time. */
const LATE_SOUND_US = 2_000_000;

/** A longer time between two frames of sound is a pause, and no length of the first one. */
const SOUND_PAUSE_US = 200_000;

/** A fragment may be so many times as long as usual where a burst would have to be cut for it. */
const BURST_STRETCH = 1.5;

/** Sound that waits for its pictures; what is older than so much goes. */
const MAX_SOUND_UNITS = 4096;

/** Makes a writer for one session of one camera. */
export function createClipWriter(options: ClipWriterOptions): ClipWriter {
  const { camera, slug, clipMs, fragmentUs, frameMs, product, spool, marks, status, log } = options;
  const videoId = options.tracks.find((track) => track.kind === "video")?.id;
  const tracks = new Map(
    options.tracks
      .filter((track) => track.id === videoId || (track.kind === "audio" && isHoldable(track, log)))
      .map((track) => [track.id, track]),
  );
  /** The longest fragment where pictures come in bursts. */
  const stretchedUs = BURST_STRETCH * fragmentUs;
  let recording: Recording | undefined;
  /** The clips before it that wait for late sound, in order. */
  let endings: Ending[] = [];
  let pictures: AccessUnit[] = [];
  /** Sound that came before the first picture. */
  let early: AccessUnit[] = [];
  /** Per track of sound: when its newest frame begins. */
  const soundUs = new Map<number, number>();
  /** Sound whose description has changed: it goes on in the next clip. */
  const changed = new Set<number>();
  let soundIsMisplaced = false;
  /** When the session's first recorded picture is shown. */
  let firstShownUs: number | undefined;
  let lastKeyUs: number | undefined;
  let gopUs = 0;
  /** When the picture that ended the last burst is decoded. */
  let burstEndUs: number | undefined;
  let lastVideoUs = 0;
  let frameUs = 100_000;
  let finished = false;
  const finishing = new Set<Promise<void>>();

  const slotOf = (unit: AccessUnit) =>
    // A key unit up to half a GOP before the boundary is nearer to it than the next one will be.
    Math.floor((unit.capturedAtMs + (gopUs < 4_000_000 ? 0 : gopUs / 2000)) / clipMs);

  function belongsToNextClip(unit: AccessUnit): boolean {
    if (!recording || !unit.isKey) return false;
    return (unit.track !== undefined && !recording.mp4.fits(unit.track)) ||
      changed.size > 0 ||
      slotOf(unit) > recording.slot ||
      unit.capturedAtMs < recording.startMs || // the clock went back
      unit.dtsUs - recording.startUs >= 2000 * clipMs;
  }

  async function begin(unit: AccessUnit, sound: AccessUnit[]): Promise<void> {
    const start = new Date(unit.capturedAtMs);
    const mp4 = createMp4Writer({
      tracks: [...tracks.values()],
      startedAt: start,
      camera,
      product,
    });
    const file = await spool.begin({
      ...{ camera, slug, start, contentType: "video/mp4" },
      tags: marks?.tagsOf(unit.capturedAtMs, Infinity) ?? [],
    });
    try {
      await file.append([mp4.header()]);
    } catch (error) {
      await file.discard().catch(() => {}); // the reason is told by the first error
      throw error;
    }
    marks?.opened(file, unit.capturedAtMs);
    changed.clear();
    firstShownUs ??= unit.ptsUs;
    recording = {
      file,
      mp4,
      startMs: unit.capturedAtMs,
      startUs: unit.dtsUs,
      shownUs: unit.ptsUs,
      slot: slotOf(unit),
      lastMs: unit.capturedAtMs,
      sound,
      frames: 0,
      unwritten: NOTHING,
    };
    status.openClip = file.key;
    status.openClipBytes = file.bytes;
  }

  /** Writes the pictures that have come in, and the sound before `untilUs`. */
  async function flush(nextVideoUs: number, untilUs = nextVideoUs): Promise<void> {
    if (!recording || videoId === undefined || pictures.length === 0) return;
    const { file, mp4, unwritten, sound } = recording;
    const units = pictures;
    pictures = [];
    const due = sound.filter((unit) => unit.ptsUs < untilUs);
    recording.sound = sound.filter((unit) => unit.ptsUs >= untilUs);
    const nextDtsUs = nextSoundUs(due, recording.sound).set(videoId, nextVideoUs);
    let chunks: readonly Uint8Array[];
    try {
      chunks = mp4.fragment([...units, ...due], { nextDtsUs });
    } catch (error) {
      status.framesDropped += units.length;
      throw error;
    }
    recording.frames += units.length;
    recording.unwritten = {
      chunks: [...unwritten.chunks, ...chunks],
      frames: unwritten.frames + units.length,
      units: [...unwritten.units, ...units, ...due],
    };
    await file.append(recording.unwritten.chunks);
    for (const { release } of recording.unwritten.units) release?.();
    status.framesRecorded += recording.unwritten.frames;
    status.openClipBytes = file.bytes;
    recording.unwritten = NOTHING;
  }

  /** Ends the clip before `key`, which begins the next one. Returns the sound that is not its own. */
  async function cut(key: AccessUnit): Promise<AccessUnit[]> {
    await flush(key.dtsUs, key.ptsUs);
    if (!recording) return [];
    const { sound } = recording;
    const awaited = new Set(
      [...tracks.keys()].filter((id) => {
        const us = soundUs.get(id) ?? firstShownUs ?? 0;
        return id !== videoId && !changed.has(id) && us < key.ptsUs &&
          us >= key.ptsUs - LATE_SOUND_US;
      }),
    );
    marks?.ended(recording.file.key);
    endings.push({
      recording: { ...recording, sound: [] },
      ...{ cutUs: key.ptsUs, endUs: key.dtsUs, awaited },
    });
    recording = undefined;
    closeEndings((ending) => ending.awaited.size === 0);
    return sound;
  }

  /** Ends the waiting of those that `isDone` says. */
  function closeEndings(isDone: (ending: Ending) => boolean): void {
    const done = endings.filter(isDone);
    endings = endings.filter((ending) => !done.includes(ending));
    for (const { recording, endUs } of done) close(recording, endUs);
  }

  /** Finishes a clip with the sound that still waits for it; needs no wait. */
  function close(recording: Recording, endUs: number): void {
    const { file, mp4, startMs, startUs, lastMs, sound, frames, unwritten } = recording;
    marks?.ended(file.key);
    const end = new Date(
      frameMs === undefined
        ? startMs + Math.max(0, Math.round((endUs - startUs) / 1000))
        : lastMs + frameMs,
    );
    const done = (async () => {
      if (frames === 0) return await file.discard();
      const late = lateSound(mp4, sound);
      const { tail, patch } = mp4.finish();
      const clip = await file.finish({
        end,
        tail: [...unwritten.chunks, ...late, ...tail],
        patch,
        frames,
        tags: marks?.tagsOf(startMs, end.getTime()) ?? [],
      });
      marks?.finished(clip);
      status.framesRecorded += unwritten.frames;
      status.clipsFinished++;
      status.bytesFinished += clip.bytes;
      log.info(
        `clip finished: ${frames} ${frames === 1 ? "picture" : "pictures"}, ${
          formatBytes(clip.bytes)
        }${clip.tags.length > 0 ? `, ${clip.tags.join(", ")}` : ""}`,
        {
          event: "clip-finished",
          key: clip.key,
          bytes: clip.bytes,
          sha256: clip.sha256,
          frames,
        },
      );
    })().catch((error) => {
      status.framesDropped += unwritten.frames;
      log.error(
        `the clip ${file.key} could not be finished; the spool goes on trying: ${error}`,
        { event: "clip-unfinished", key: file.key },
      );
    }).finally(() => finishing.delete(done));
    finishing.add(done);
  }

  function writePicture(unit: AccessUnit): Promise<void> | undefined {
    if (endings.length > 0) closeEndings(({ endUs }) => unit.dtsUs - endUs > LATE_SOUND_US);
    if (!recording || belongsToNextClip(unit)) return writeFirst(unit);
    note(unit);
    recording.lastMs = unit.capturedAtMs;
    const first = pictures[0];
    const isFull = first &&
      (burstEndUs === undefined
        ? unit.isKey || unit.dtsUs - first.dtsUs >= fragmentUs
        : unit.dtsUs - first.dtsUs >= stretchedUs);
    if (isFull) {
      return flush(unit.dtsUs).then(() => void pictures.push(unit));
    }
    pictures.push(unit);
    return unit.endsBurst ? endBurst(unit) : undefined;
  }

  /** Writes what has come in, if it were too old when as much again has come. */
  function endBurst(last: AccessUnit): Promise<void> | undefined {
    const burstUs = last.dtsUs - (burstEndUs ?? last.dtsUs);
    burstEndUs = last.dtsUs;
    const nextUs = last.dtsUs + frameUs;
    const heldUs = nextUs - (pictures[0]?.dtsUs ?? nextUs);
    return heldUs + burstUs > stretchedUs ? flush(nextUs) : undefined;
  }

  /** Begins a clip with the picture, if it can. */
  async function writeFirst(unit: AccessUnit): Promise<void> {
    const sound = recording ? await cut(unit) : early;
    note(unit);
    if (!unit.isKey) return; // nothing can be decoded before a key unit
    await begin(unit, sound.filter(({ ptsUs }) => ptsUs >= unit.ptsUs));
    early = [];
    pictures.push(unit);
  }

  /** What the next pictures are measured by. */
  function note(unit: AccessUnit): void {
    if (unit.track) tracks.set(unit.track.id, unit.track);
    if (unit.isKey) {
      if (lastKeyUs !== undefined) gopUs = unit.dtsUs - lastKeyUs;
      lastKeyUs = unit.dtsUs;
    }
    if (unit.dtsUs > lastVideoUs && lastVideoUs > 0) frameUs = unit.dtsUs - lastVideoUs;
    lastVideoUs = unit.dtsUs;
  }

  function writeSound(unit: AccessUnit): void {
    if (!tracks.has(unit.trackId)) return;
    if (unit.track) noteSound(unit.track);
    if (changed.has(unit.trackId)) return;
    const beforeUs = soundUs.get(unit.trackId) ?? -Infinity;
    const isOwn = !recording || unit.ptsUs >= recording.shownUs;
    const owner = isOwn
      ? recording
      : endings.findLast(({ recording }) => unit.ptsUs >= recording.shownUs)?.recording;
    if (unit.dtsUs < beforeUs || !(isOwn || owner)) {
      // The sound of a session's very first picture may well have begun before it; else it is a fault.
      if (beforeUs === -Infinity || soundIsMisplaced) return;
      soundIsMisplaced = true;
      return log.debug(`sound at ${unit.ptsUs} µs came too late or out of order: left out`);
    }
    soundUs.set(unit.trackId, unit.dtsUs);
    const sound = owner?.sound ?? early;
    sound.push(unit);
    if (sound.length > MAX_SOUND_UNITS) sound.shift();
    if (endings.length === 0) return;
    closeEndings(({ awaited, cutUs }) =>
      unit.ptsUs >= cutUs && awaited.delete(unit.trackId) && awaited.size === 0
    );
  }

  /** A track of sound says what it is. */
  function noteSound(track: Track): void {
    const fits = recording?.mp4.fits(track) ?? true;
    if (!fits && !changed.has(track.id)) {
      if (!isHoldable(track, log)) return;
      log.info("the camera changed its sound: it is recorded again with the next clip");
      changed.add(track.id);
    } else if (fits) {
      changed.delete(track.id);
    }
    tracks.set(track.id, track);
  }

  return {
    write(unit) {
      if (finished) return undefined;
      if (unit.trackId === videoId) return writePicture(unit);
      writeSound(unit);
      return undefined;
    },
    async finish() {
      finished = true;
      const endUs = lastVideoUs + frameUs;
      try {
        closeEndings(() => true);
        await flush(endUs, Infinity);
      } finally {
        if (recording) close(recording, endUs);
        recording = undefined;
        status.openClip = undefined;
        status.openClipBytes = 0;
        await Promise.all(finishing);
      }
    },
  };
}

/** The last fragment of a clip, which holds sound alone; the clip goes without it if it is faulty. */
function lateSound(mp4: Mp4Writer, sound: readonly AccessUnit[]): Uint8Array[] {
  try {
    return mp4.fragment(sound);
  } catch (error) {
    if (!(error instanceof MediaError)) throw error;
    return [];
  }
}

/** When the sound that follows the last of `units` begins, per track, where it is known. */
function nextSoundUs(
  units: readonly AccessUnit[],
  following: readonly AccessUnit[],
): Map<number, number> {
  const last = new Map(units.map(({ trackId, dtsUs }) => [trackId, dtsUs]));
  const next = new Map<number, number>();
  for (const { trackId, dtsUs } of following) {
    if (!next.has(trackId) && dtsUs - (last.get(trackId) ?? -Infinity) < SOUND_PAUSE_US) {
      next.set(trackId, dtsUs);
    }
  }
  return next;
}

/** Whether a clip can hold this sound. Pictures are not given up for sound that it cannot. */
function isHoldable(track: Track, log: Log): boolean {
  try {
    trackHead(track);
    sampleEntry(track);
    return true;
  } catch (error) {
    if (!(error instanceof MediaError)) throw error;
    log.warn(`the camera's sound is not recorded: ${error.message}`);
    return false;
  }
}
