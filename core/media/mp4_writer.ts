/**
 * The clip writer: access units in, the bytes of a hybrid MP4 out. It does no input or output; the
 * caller appends what it gets to a file.
 *
 * While recording, the file is a fragmented MP4 (ISO/IEC 14496-12 §8.8) that players open at any
 * moment and that a crash cannot spoil:
 *
 *     ftyp · free (16 bytes) · moov with mvex · { [uuid] · prft · moof · mdat } …
 *
 * At the end one regular `moov` is appended, and the 16 bytes of `free` are overwritten with the
 * 64-bit header of one big `mdat` that swallows everything up to it. The finished clip is an ordinary
 * MP4 and nothing was written twice:
 *
 *     ftyp · mdat ( … all of the above … ) · moov
 *
 * Sample data is not copied: a fragment is returned as its header and the units' own buffers,
 * neighbours in one buffer as one piece. Only scattered pieces below 4 kB (sound) are gathered into
 * one, because a write costs more than their copy.
 *
 * **Times.** Every time is rounded once, from the unit's own microseconds, so no error adds up. The
 * clip's zero is its first picture's or sound's presentation time. In the finished clip composition
 * offsets are signed, so that B-frames need no edit list; a track that begins later has one. ffmpeg
 * shifts signed offsets inside fragments, and the sound with them would be off; so there, if pictures
 * are reordered, all tracks are shown later by the reordering delay, and a `uuid` box tells the recovery.
 *
 * **New parameter sets inside a clip.** The finished clip has one sample description for each. The
 * `moov` in front of the fragments cannot know them, so they also stand in front of the key unit that
 * begins with them, where every decoder finds them, and a `uuid` box tells them to the recovery. A
 * change of codec or of sound needs a new clip: see `fits`.
 *
 * @module
 */
import type { AccessUnit, Track } from "../types.ts";
import { AAC_FRAME_SAMPLES, parseAudioSpecificConfig } from "./aac.ts";
import { joinLengthPrefixed } from "./annexb.ts";
import { MediaError } from "./media_error.ts";
import {
  type FragmentDelay,
  type FragmentRun,
  Pieces,
  writeMovieFragment,
} from "./mp4_fragment.ts";
import { box, BoxBuffer, bytes, fourcc, u32, u64 } from "./mp4_boxes.ts";
import { MAX_DURATION_TICKS, sampleDuration, TrackIndex } from "./mp4_index.ts";
import {
  finishedMovieBox,
  fragmentedMovieBox,
  type MovieHead,
  parameterSets,
  sampleEntry,
  scale,
  trackHead,
  userDataBox,
} from "./mp4_movie.ts";
import { opusPacketSamples } from "./opus.ts";

/** Marks the box that tells a new sample description to the recovery. */
export const DESCRIPTION_UUID: Uint8Array = Uint8Array.from(
  [0x3c, 0x1d, 0x7a, 0x52, 0x8e, 0x0b, 0x4f, 0x6d, 0xa1, 0x97, 0x43, 0x61, 0x6d, 0x73, 0x6e, 0x6b],
);

/** Marks the box that tells the recovery by how much a track's times in fragments are moved. */
export const DELAY_UUID: Uint8Array = Uint8Array.from(
  [0x7e, 0x5a, 0x10, 0xc9, 0x31, 0xd4, 0x4b, 0x02, 0x9c, 0x68, 0x43, 0x61, 0x6d, 0x73, 0x6e, 0x6b],
);

/** Seconds from 1900, where NTP begins to count, to 1970. */
const NTP_EPOCH_S = 2_208_988_800;

/** What a clip is made of. */
export interface Mp4WriterOptions {
  readonly tracks: readonly Track[];
  /** Wall time of the first unit. */
  readonly startedAt: Date;
  /** The camera's name as its owner wrote it. */
  readonly camera: string;
  /** Name and version of the program. */
  readonly product: string;
}

/** Per track: the decode time of the unit that follows the last one given, µs of session time. */
export interface NextUnits {
  /**
   * Where it is not given, a sound frame's own length or the last picture's duration stands in. In the
   * finished clip only the very last unit depends on it; in the fragments some players add durations
   * up instead of reading each fragment's time, and would be off until the clip is finished.
   */
  readonly nextDtsUs?: ReadonlyMap<number, number>;
}

/** What makes a fragmented clip an ordinary one. */
export interface Mp4End {
  /** To be appended. */
  readonly tail: readonly Uint8Array[];
  /** To be written over what is there, after the tail is safe on the disk. */
  readonly patch: { readonly offset: number; readonly bytes: Uint8Array };
}

/** Writes one clip. */
export interface Mp4Writer {
  /** Bytes given out so far. */
  readonly bytes: number;
  /** Microseconds from the clip's first unit to the last one's end, as known now. */
  readonly durationUs: number;
  /** The first bytes of the file. */
  header(): Uint8Array;
  /** Whether units of this description can go on in this clip. */
  fits(track: Track): boolean;
  /**
   * One fragment of units in decode order, of any tracks; it need not begin with a key unit. Returns
   * the bytes to append, in pieces that mostly are views of the units' data.
   *
   * @throws MediaError, with nothing changed, if a unit cannot be part of this clip
   */
  fragment(units: readonly AccessUnit[], options?: NextUnits): Uint8Array[];
  /** Ends the clip. Nothing may follow. */
  finish(options?: NextUnits): Mp4End;
}

/** The bytes in front of the first `moov`, and where its 16 bytes to be patched are. */
export function fileStart(): { readonly bytes: Uint8Array; readonly patchOffset: number } {
  const type = box(
    "ftyp",
    fourcc("isom"),
    u32(0x200),
    ...["isom", "iso6", "mp42", "mp41"].map(fourcc),
  );
  return { bytes: bytes(type, box("free", u64(0))), patchOffset: type.length };
}

/** The patch that turns everything from `offset` to `end` into one `mdat`. */
export function mediaDataPatch(offset: number, end: number): Mp4End["patch"] {
  return { offset, bytes: bytes(u32(1), fourcc("mdat"), u64(end - offset)) };
}

/**
 * Begins a clip.
 *
 * @throws MediaError if a track cannot go into an MP4
 */
export function createMp4Writer(options: Mp4WriterOptions): Mp4Writer {
  return new Writer(options);
}

interface WriterTrack {
  /** The description that the newest unit has. */
  current: Track;
  readonly index: TrackIndex;
  /** Added to decode times, so that the first sample is decoded when it is shown. */
  shiftUs: number | undefined;
  /** How the times in fragments differ from those in the finished clip. */
  delay: FragmentDelay;
  lastDurationTicks: number;
}

/** What begins with a sample: a new description. */
interface NewDescription {
  readonly track: Track;
  readonly entry: Uint8Array;
  /** The parameter sets, which stand in front of the unit's own data. */
  readonly prefix: Uint8Array;
}

/** A run of one of this clip's tracks. */
interface TrackRun extends FragmentRun {
  readonly track: WriterTrack;
  /** By the unit that begins with it. */
  readonly descriptions: ReadonlyMap<number, NewDescription>;
  readonly shiftUs: number;
}

/** Of a fragment's boxes: what is there once, and what there is at most for a unit. */
const FRAGMENT_BYTES = 320;
const UNIT_BYTES = 16;

const NO_DESCRIPTIONS: ReadonlyMap<number, NewDescription> = new Map();

class Writer implements Mp4Writer {
  readonly #head: MovieHead;
  readonly #tracks: readonly WriterTrack[];
  readonly #header: Uint8Array;
  readonly #patchOffset: number;
  #originUs: number | undefined;
  #delayUs: number | undefined;
  #bytes: number;
  #fragments = 0;
  #finished = false;

  constructor(options: Mp4WriterOptions) {
    const ids = new Set(options.tracks.map((track) => track.id));
    if (
      ids.size !== options.tracks.length || ids.size === 0 ||
      options.tracks.some(({ id }) => !Number.isInteger(id) || id < 1 || id > 0x7fff_ffff)
    ) {
      throw new MediaError(
        `a clip needs tracks with different ids from 1 upwards, got ${
          options.tracks.map((track) => track.id).join(", ") || "none"
        }`,
      );
    }
    this.#head = { startedAt: options.startedAt, userData: userDataBox(options) };
    this.#tracks = options.tracks.map((track) => ({
      current: track,
      index: new TrackIndex(trackHead(track), sampleEntry(track)),
      shiftUs: undefined,
      delay: { decodeTicks: 0, offsetTicks: 0 },
      lastDurationTicks: 0,
    }));
    const start = fileStart();
    this.#patchOffset = start.patchOffset;
    this.#header = bytes(
      start.bytes,
      fragmentedMovieBox(this.#head, this.#tracks.map((track) => track.index)),
    );
    this.#bytes = this.#header.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get durationUs(): number {
    return Math.max(
      0,
      ...this.#tracks.filter((track) => track.index.sampleCount > 0).map((track) =>
        scale(
          track.index.endTicks(track.lastDurationTicks),
          1_000_000,
          track.index.head.timescale,
        )
      ),
    );
  }

  header(): Uint8Array {
    return this.#header;
  }

  fits(track: Track): boolean {
    const known = this.#tracks.find(({ current }) => current.id === track.id);
    if (!known || known.current.kind !== track.kind || known.current.codec !== track.codec) {
      return false;
    }
    return track.kind === "video" || sameTrack(known.current, track);
  }

  fragment(units: readonly AccessUnit[], options: NextUnits = {}): Uint8Array[] {
    if (this.#finished) throw new MediaError("the clip is finished: nothing may follow");
    const first = units[0];
    if (!first) return [];
    const originUs = this.#originUs ?? units.reduce((min, u) => Math.min(min, u.ptsUs), Infinity);
    if (!Number.isFinite(originUs)) throw new MediaError(`a unit's time is ${originUs} µs`);
    const runs = this.#plan(units, originUs, options);

    // Nothing above changed anything; from here on nothing throws.
    this.#originUs = originUs;
    this.#delayUs ??= runs.reduce((max, { shiftUs }) => Math.max(max, shiftUs), 0);
    const front = new BoxBuffer(FRAGMENT_BYTES + UNIT_BYTES * units.length);
    for (const run of runs) {
      if (run.track.shiftUs === undefined) front.put(this.#delayTrack(run));
      // `uuid` · marker (16) · track (4) · sample of the fragment (4) · sample entry
      for (const [i, { entry }] of run.descriptions) {
        front.put(box("uuid", DESCRIPTION_UUID, u32(run.track.current.id), u32(i), entry));
      }
    }
    this.#writeReferenceTime(front, first, originUs);
    writeMovieFragment(front, ++this.#fragments, runs);
    front.u32(8 + runs.reduce((sum, { dataBytes }) => sum + dataBytes, 0));
    front.put(fourcc("mdat"));
    let offset = this.#bytes + front.length;
    const pieces = new Pieces(front.bytes());
    for (const run of runs) {
      commit(run, offset);
      offset += run.dataBytes;
      const { units, descriptions } = run;
      for (let i = 0; i < units.length; i++) {
        const description = descriptions.get(i);
        if (description) pieces.add(description.prefix);
        pieces.add((units[i] as AccessUnit).data);
      }
    }
    this.#bytes = offset;
    return pieces.taken();
  }

  finish(options: NextUnits = {}): Mp4End {
    if (this.#finished) throw new MediaError("the clip is finished already");
    this.#finished = true;
    const tracks = this.#tracks.map((track) => {
      const { index } = track;
      const next = options.nextDtsUs?.get(track.current.id);
      if (next !== undefined && track.shiftUs !== undefined && this.#originUs !== undefined) {
        const nextTicks = toTicks(next - this.#originUs + track.shiftUs, index.head.timescale);
        const durationTicks = nextTicks - index.lastTicks;
        if (durationTicks > 0 && durationTicks <= MAX_DURATION_TICKS) {
          track.lastDurationTicks = durationTicks;
        }
      }
      index.finish(track.lastDurationTicks);
      return { index, lastDurationTicks: track.lastDurationTicks };
    });
    return {
      tail: [finishedMovieBox(this.#head, tracks)],
      patch: mediaDataPatch(this.#patchOffset, this.#bytes),
    };
  }

  /** Places the units in the clip, and finds every fault before anything is changed. */
  #plan(units: readonly AccessUnit[], originUs: number, options: NextUnits): TrackRun[] {
    const runs: TrackRun[] = [];
    let placed = 0;
    for (const track of this.#tracks) {
      const own = units.filter((unit) => unit.trackId === track.current.id);
      placed += own.length;
      if (own.length > 0) runs.push(planRun(track, own, originUs, options));
    }
    if (placed < units.length) {
      const stranger = units.find((unit) =>
        !this.#tracks.some((track) => track.current.id === unit.trackId)
      );
      throw new MediaError(
        `a unit belongs to track ${stranger?.trackId}, but the clip has ${
          this.#tracks.map((track) => track.current.id).join(", ")
        }`,
      );
    }
    return runs;
  }

  /** Settles a new track's delay in fragments. `uuid` · marker (16) · track (4) · both ticks (4, 4). */
  #delayTrack({ track, shiftUs }: TrackRun): Uint8Array {
    const { timescale } = track.index.head;
    // A track that comes later and is reordered more than the first ones cannot be moved any more.
    const decodeTicks = toTicks(Math.max(0, (this.#delayUs ?? 0) - shiftUs), timescale);
    const offsetTicks = toTicks(shiftUs, timescale);
    track.delay = { decodeTicks, offsetTicks };
    if (decodeTicks === 0 && offsetTicks === 0) return new Uint8Array();
    return box("uuid", DELAY_UUID, u32(track.current.id), u32(decodeTicks), u32(offsetTicks));
  }

  /** `prft` (§8.16.5): the wall time of the fragment's first unit. */
  #writeReferenceTime(front: BoxBuffer, first: AccessUnit, originUs: number): void {
    const track = this.#tracks.find(({ current }) => current.id === first.trackId);
    const mediaTicks = toTicks(
      Math.max(0, first.ptsUs - originUs),
      track?.index.head.timescale ?? 1,
    );
    const seconds = Math.floor(first.capturedAtMs / 1000);
    const fraction = Math.round((first.capturedAtMs / 1000 - seconds) * 2 ** 32);
    const at = front.beginFull("prft", { version: 1, flags: 24 });
    front.u32(first.trackId);
    front.u32((seconds + NTP_EPOCH_S) % 2 ** 32);
    front.u32(Math.min(fraction, 2 ** 32 - 1));
    front.u64(mediaTicks);
    front.end(at);
  }
}

function planRun(
  track: WriterTrack,
  units: readonly AccessUnit[],
  originUs: number,
  { nextDtsUs }: NextUnits,
): TrackRun {
  const { timescale } = track.index.head;
  const shiftUs = track.shiftUs ??
    units.reduce((min, unit) => Math.min(min, unit.ptsUs), Infinity) - (units[0]?.dtsUs ?? 0);
  // A track that begins late may still hold something from before the clip: it is shown at zero.
  const ticks = (us: number) => toTicks(Math.max(0, us), timescale);
  const dtsTicks: number[] = [];
  const offsetTicks: number[] = [];
  const sizes: number[] = [];
  let descriptions: Map<number, NewDescription> | undefined;
  let current = track.current;
  let dataBytes = 0;
  for (let i = 0; i < units.length; i++) {
    const unit = units[i] as AccessUnit;
    checkUnit(unit);
    const decodedAt = ticks(unit.dtsUs - originUs + shiftUs);
    const offset = ticks(unit.ptsUs - originUs) - decodedAt;
    if (Math.max(Math.abs(offset), Math.abs(shiftUs)) > MAX_DURATION_TICKS / 2) {
      throw new MediaError(
        `a unit is shown ${
          unit.ptsUs - unit.dtsUs
        } µs after it is decoded, more than a clip can hold`,
      );
    }
    let sizeBytes = unit.data.length;
    if (unit.track && !sameTrack(unit.track, current)) {
      const description = describe(unit, unit.track, current);
      (descriptions ??= new Map()).set(i, description);
      current = unit.track;
      sizeBytes += description.prefix.length;
    }
    dataBytes += sizeBytes;
    dtsTicks.push(decodedAt);
    offsetTicks.push(offset);
    sizes.push(sizeBytes);
  }
  if (dataBytes > 2 ** 31) throw new MediaError(`a fragment of ${dataBytes} bytes is too large`);
  if (track.index.sampleCount > 0) sampleDuration(track.index.lastTicks, dtsTicks[0] ?? 0);
  const next = nextDtsUs?.get(track.current.id);
  const nextTicks = next === undefined ? undefined : ticks(next - originUs + shiftUs);
  return {
    ...{ track, units, dtsTicks, offsetTicks, sizes, shiftUs, dataBytes },
    durations: durationsOf(track, units, dtsTicks, nextTicks),
    descriptions: descriptions ?? NO_DESCRIPTIONS,
  };
}

function durationsOf(
  track: WriterTrack,
  units: readonly AccessUnit[],
  dtsTicks: readonly number[],
  nextTicks: number | undefined,
): number[] {
  const durations: number[] = [];
  for (let i = 1; i < dtsTicks.length; i++) {
    durations.push(sampleDuration(dtsTicks[i - 1] as number, dtsTicks[i] as number));
  }
  const lastTicks = dtsTicks.at(-1) ?? 0;
  const last = units.at(-1);
  durations.push(
    nextTicks === undefined
      ? (last && usualDuration(track, last)) ?? durations.at(-1) ?? track.lastDurationTicks
      : sampleDuration(lastTicks, nextTicks),
  );
  return durations;
}

/** Enters a run, whose data lies at `offset`, into its track's index. */
function commit(run: TrackRun, offset: number): void {
  const { track, units, dtsTicks, offsetTicks, sizes, descriptions } = run;
  const { index } = track;
  track.shiftUs = run.shiftUs;
  track.lastDurationTicks = run.durations.at(-1) ?? 0;
  let at = offset;
  index.beginChunk(at);
  for (let i = 0; i < units.length; i++) {
    const description = descriptions.get(i);
    if (description) {
      track.current = description.track;
      index.entries.push(description.entry);
      index.beginChunk(at);
    }
    const sizeBytes = sizes[i] as number;
    const time = { dtsTicks: dtsTicks[i] as number, offsetTicks: offsetTicks[i] as number };
    index.add(time, sizeBytes, (units[i] as AccessUnit).isKey);
    at += sizeBytes;
  }
}

function checkUnit(unit: AccessUnit): void {
  if (!Number.isFinite(unit.ptsUs) || !Number.isFinite(unit.dtsUs)) {
    throw new MediaError(
      `a unit of track ${unit.trackId} has times ${unit.ptsUs}, ${unit.dtsUs} µs`,
    );
  }
}

/** The length that a sound frame has by itself. */
function usualDuration({ current }: WriterTrack, unit: AccessUnit): number | undefined {
  if (current.kind === "video") return undefined;
  try {
    if (current.codec === "aac") {
      // High-efficiency AAC plays at twice the rate of its core, so each frame lasts twice as long.
      const { objectType } = parseAudioSpecificConfig(current.config);
      return objectType === 5 || objectType === 29 ? 2 * AAC_FRAME_SAMPLES : AAC_FRAME_SAMPLES;
    }
    return opusPacketSamples(unit.data);
  } catch (error) {
    if (!(error instanceof MediaError)) throw error;
    return undefined;
  }
}

/** What a unit brings along that begins a new description. */
function describe(unit: AccessUnit, track: Track, current: Track): NewDescription {
  if (track.kind !== "video" || track.codec !== current.codec || track.id !== current.id) {
    throw new MediaError(
      `track ${current.id} changes from ${current.codec} to another kind of ${track.codec}: begin a new clip`,
    );
  }
  if (!unit.isKey) {
    throw new MediaError(
      `track ${current.id} changes its parameter sets at a unit that is not key: begin a new clip at the next key unit`,
    );
  }
  return { track, entry: sampleEntry(track), prefix: joinLengthPrefixed(parameterSets(track)) };
}

function sameTrack(a: Track, b: Track): boolean {
  return a.codec === b.codec && a.config.length === b.config.length &&
    a.config.every((byte, i) => byte === b.config[i]);
}

function toTicks(us: number, timescale: number): number {
  return scale(us, timescale, 1_000_000);
}
