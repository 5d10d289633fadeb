/**
 * Makes a finished clip of a torn one. A recording that was interrupted (a crash, a power cut) is a
 * file cut at any byte, possibly with zeros where the disk had not written yet, possibly between the
 * two last steps of finishing it. What is whole in it is kept: every fragment whose `moof` and `mdat`
 * are there and fit together.
 *
 * The recovery reads boxes only, some hundred bytes per fragment, and the NAL unit lengths of the
 * last fragment, to see that its data was really written. No declared length is trusted: what is read
 * at once is bounded, and what does not fit ends the search.
 *
 * @module
 */
import { type Box, FieldReader, findBox, parseBoxes, parseBoxHeader } from "./mp4_boxes.ts";
import { sampleDuration, TrackIndex } from "./mp4_index.ts";
import { finishedMovieBox, MOVIE_TIMESCALE, type MovieHead, scale } from "./mp4_movie.ts";
import {
  DELAY_UUID,
  DESCRIPTION_UUID,
  fileStart,
  mediaDataPatch,
  type Mp4End,
} from "./mp4_writer.ts";
import { MediaError } from "./media_error.ts";

/** A file that can be read anywhere. */
export interface RandomAccess {
  readonly sizeBytes: number;
  /** Exactly `length` bytes from `offset`; less only where the file ends. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** What a clip holds. */
export interface ClipContents {
  /** Wall time of the first unit. */
  readonly start: Date;
  readonly end: Date;
  readonly durationUs: number;
  /** Pictures, over all video tracks. */
  readonly frames: number;
  /** Of the file when it is finished. */
  readonly bytes: number;
  /** As the clip's metadata names it; empty if it does not. */
  readonly camera: string;
}

/**
 * What is to be done with a file: nothing (`finished`); cut it to `keepBytes`, append `tail`, make
 * that durable, then write `patch` (`torn`); or give it up, for the reason named (`empty`).
 */
export type Recovery =
  | { readonly state: "finished"; readonly clip: ClipContents }
  | ({
    readonly state: "torn";
    readonly keepBytes: number;
    readonly fragments: number;
    readonly clip: ClipContents;
  } & Mp4End)
  | { readonly state: "empty"; readonly reason: string };

/** More than any `moov` of a clip's start or any fragment's boxes need. */
const MAX_BOX_BYTES = 8 << 20;
/** A finished clip's tables: 12 bytes per sample for a day at 60 pictures a second. */
const MAX_TABLES_BYTES = 128 << 20;
/** New descriptions in one fragment. */
const MAX_DESCRIPTIONS = 64;
/** Fragments whose data is checked to have been written; older ones have long been flushed. */
const CHECKED_FRAGMENTS = 16;

/**
 * Looks at a file that may be torn. Only errors of the reader come out: whatever the bytes are, the
 * answer is one of the three states.
 */
export async function recoverMp4(file: RandomAccess): Promise<Recovery> {
  try {
    const finished = await readFinished(file);
    return finished ?? await recoverFragments(file);
  } catch (error) {
    if (error instanceof MediaError) return { state: "empty", reason: error.message };
    throw error;
  }
}

interface Movie {
  readonly head: MovieHead;
  readonly camera: string;
  readonly tracks: readonly TrackIndex[];
  /** Duration that a finished `moov` names, µs. */
  readonly durationUs: number;
  /** Of each track. */
  readonly sampleCounts: readonly number[];
}

/** A file with one `mdat` that reaches up to a `moov` that reaches up to the end. */
async function readFinished(file: RandomAccess): Promise<Recovery | undefined> {
  const start = fileStart();
  const head = await file.read(start.patchOffset, 16);
  const header = parseBoxHeader(head);
  if (header?.type !== "mdat" || header.headerBytes !== 16) return undefined;
  const moovOffset = start.patchOffset + header.sizeBytes;
  const moovBytes = file.sizeBytes - moovOffset;
  if (!Number.isSafeInteger(moovOffset) || moovBytes < 8 || moovBytes > MAX_TABLES_BYTES) {
    return undefined;
  }
  try {
    const data = await file.read(moovOffset, moovBytes);
    const [moov, ...rest] = parseBoxes(data);
    if (moov?.type !== "moov" || rest.length > 0) return undefined;
    const movie = parseMovie(moov);
    const frames = movie.tracks.reduce(
      (sum, track, i) => sum + (track.head.kind === "video" ? movie.sampleCounts[i] ?? 0 : 0),
      0,
    );
    const { durationUs } = movie;
    return {
      state: "finished",
      clip: describeClip(movie, { durationUs, frames, bytes: file.sizeBytes }),
    };
  } catch (error) {
    // The end of the file was not written whole; the fragments in front of it may be.
    if (error instanceof MediaError) return undefined;
    throw error;
  }
}

async function recoverFragments(file: RandomAccess): Promise<Recovery> {
  const start = fileStart();
  const type = await file.read(0, start.patchOffset);
  if (!equal(type, start.bytes.subarray(0, start.patchOffset))) {
    return { state: "empty", reason: "it does not begin as a clip of this program does" };
  }
  const moov = await readBox(file, start.bytes.length);
  if (moov?.type !== "moov") {
    return {
      state: "empty",
      reason: `it ends after ${file.sizeBytes} bytes, before its description`,
    };
  }
  let offset = start.bytes.length + moov.whole.length;
  const fragments: Fragment[] = [];
  const tracks = new Map(
    parseMovie(moov).tracks.map(({ head }): [number, KnownTrack] => [
      head.id,
      { video: head.kind === "video", lastTicks: undefined, decodeTicks: 0, offsetTicks: 0 },
    ]),
  );
  for (;;) {
    const fragment = await readFragment(file, offset, tracks);
    if (!fragment) break;
    fragments.push(fragment);
    offset = fragment.endOffset;
  }
  for (let checked = 0; checked < CHECKED_FRAGMENTS; checked++) {
    const last = fragments.at(-1);
    if (!last || await isWritten(file, last)) break;
    fragments.pop();
  }
  const last = fragments.at(-1);
  if (!last) return { state: "empty", reason: "it holds no whole fragment" };
  return finish(parseMovie(moov), fragments, last.endOffset);
}

function finish(
  movie: Movie,
  fragments: readonly Fragment[],
  keepBytes: number,
): Recovery {
  const lastDurations = new Map<number, number>();
  for (const { runs } of fragments) {
    for (const run of runs) {
      const track = movie.tracks.find(({ head }) => head.id === run.trackId);
      if (!track) continue;
      let offset = run.dataOffset;
      track.beginChunk(offset);
      for (let i = 0; i < run.sizes.length; i++) {
        const entry = run.descriptions.get(i);
        if (entry) {
          track.entries.push(entry);
          track.beginChunk(offset);
        }
        const time = { dtsTicks: run.dtsTicks[i] ?? 0, offsetTicks: run.offsets[i] ?? 0 };
        const size = run.sizes[i] ?? 0;
        track.add(time, size, run.keys[i] === 1);
        offset += size;
      }
      lastDurations.set(run.trackId, run.lastDurationTicks);
    }
  }
  const tracks = movie.tracks.map((index) => {
    const lastDurationTicks = lastDurations.get(index.head.id) ?? 0;
    index.finish(lastDurationTicks);
    return { index, lastDurationTicks };
  });
  const tail = finishedMovieBox(movie.head, tracks);
  const durationUs = Math.max(
    0,
    ...tracks.filter(({ index }) => index.sampleCount > 0).map(({ index, lastDurationTicks }) =>
      scale(index.endTicks(lastDurationTicks), MOVIE_TIMESCALE, index.head.timescale)
    ),
  );
  const frames = movie.tracks.reduce(
    (sum, track) => sum + (track.head.kind === "video" ? track.sampleCount : 0),
    0,
  );
  return {
    state: "torn",
    keepBytes,
    fragments: fragments.length,
    tail: [tail],
    patch: mediaDataPatch(fileStart().patchOffset, keepBytes),
    clip: describeClip(movie, { durationUs, frames, bytes: keepBytes + tail.length }),
  };
}

function describeClip(
  movie: Movie,
  facts: Pick<ClipContents, "durationUs" | "frames" | "bytes">,
): ClipContents {
  const start = movie.head.startedAt;
  return {
    ...facts,
    start,
    end: new Date(start.getTime() + Math.round(facts.durationUs / 1000)),
    camera: movie.camera,
  };
}

/** Reads the box at `offset` if it is whole, and no larger than such a box can be. */
async function readBox(file: RandomAccess, offset: number): Promise<Box | undefined> {
  const header = parseBoxHeader(await file.read(offset, 16));
  if (
    !header || header.sizeBytes < header.headerBytes || header.sizeBytes > MAX_BOX_BYTES ||
    offset + header.sizeBytes > file.sizeBytes
  ) return undefined;
  const whole = await file.read(offset, header.sizeBytes);
  if (whole.length < header.sizeBytes) return undefined;
  return { type: header.type, whole, body: whole.subarray(header.headerBytes) };
}

/** The samples of one track in one fragment. */
interface Run {
  readonly trackId: number;
  readonly dataOffset: number;
  readonly dtsTicks: Float64Array;
  readonly offsets: Int32Array;
  readonly sizes: Uint32Array;
  readonly keys: Uint8Array;
  readonly lastDurationTicks: number;
  /** Whole sample entries by the sample with which they begin. */
  readonly descriptions: ReadonlyMap<number, Uint8Array>;
  /** Whether each sample is NAL units with 4-byte lengths. */
  readonly nals: boolean;
}

/** What the search has to remember of a track. */
interface KnownTrack {
  readonly video: boolean;
  /** Decode time of the last sample found. */
  lastTicks: number | undefined;
  /** By how much its times in fragments are later than in the finished clip. */
  decodeTicks: number;
  offsetTicks: number;
}

interface Fragment {
  readonly runs: readonly Run[];
  readonly endOffset: number;
}

/** The whole fragment that begins at `offset`, or `undefined`. */
async function readFragment(
  file: RandomAccess,
  offset: number,
  tracks: ReadonlyMap<number, KnownTrack>,
): Promise<Fragment | undefined> {
  try {
    const descriptions: Description[] = [];
    let at = offset;
    let moof: Box | undefined;
    while (!moof) {
      const box = await readBox(file, at);
      if (box?.type === "uuid") parseOwnBox(box, { tracks, descriptions });
      else if (box?.type === "moof") moof = box;
      else if (box?.type !== "prft") return undefined;
      if (descriptions.length > MAX_DESCRIPTIONS) return undefined;
      at += box.whole.length;
    }
    const data = parseBoxHeader(await file.read(at, 8));
    if (data?.type !== "mdat" || at + data.sizeBytes > file.sizeBytes) return undefined;
    const runs: Run[] = [];
    let dataOffset = at + 8;
    for (const traf of parseBoxes(moof.body).filter(({ type }) => type === "traf")) {
      const run = parseRun(traf, { moofOffset: at - moof.whole.length, tracks, descriptions });
      // The writer puts the runs one behind the other: anything else is not its work, or damaged.
      if (
        run.dataOffset !== dataOffset || runs.some(({ trackId }) => trackId === run.trackId)
      ) return undefined;
      for (const size of run.sizes) dataOffset += size;
      runs.push(run);
    }
    if (runs.length === 0 || dataOffset !== at + data.sizeBytes) return undefined;
    for (const { trackId, dtsTicks } of runs) {
      const track = tracks.get(trackId);
      if (track) track.lastTicks = dtsTicks.at(-1);
    }
    return { runs, endOffset: dataOffset };
  } catch (error) {
    if (error instanceof MediaError) return undefined;
    throw error;
  }
}

interface Description {
  readonly trackId: number;
  readonly sample: number;
  readonly entry: Uint8Array;
}

/** The two kinds of `uuid` boxes that the writer makes. */
function parseOwnBox(
  box: Box,
  found: {
    readonly tracks: ReadonlyMap<number, KnownTrack>;
    readonly descriptions: Description[];
  },
): void {
  const marker = box.body.subarray(0, 16);
  const r = new FieldReader(box);
  r.skip(16);
  const trackId = r.u32();
  if (equal(marker, DELAY_UUID)) {
    const track = found.tracks.get(trackId);
    if (!track) throw new MediaError(`a delay of track ${trackId}, which is not described`);
    track.decodeTicks = r.u32();
    track.offsetTicks = r.i32();
  } else if (equal(marker, DESCRIPTION_UUID)) {
    const sample = r.u32();
    const [entry, ...rest] = parseBoxes(box.body.subarray(24));
    if (!entry || rest.length > 0) throw new MediaError("a uuid box without one sample entry");
    found.descriptions.push({ trackId, sample, entry: entry.whole });
  } else {
    throw new MediaError("an unknown uuid box");
  }
}

function parseRun(
  traf: Box,
  context: {
    readonly moofOffset: number;
    readonly tracks: ReadonlyMap<number, KnownTrack>;
    readonly descriptions: readonly Description[];
  },
): Run {
  const boxes = parseBoxes(traf.body);
  const tfhd = new FieldReader(findBox(boxes, "tfhd"));
  const headFlags = tfhd.u32() & 0xff_ffff;
  const trackId = tfhd.u32();
  const track = context.tracks.get(trackId);
  if (!track) throw new MediaError(`a fragment of track ${trackId}, which is not described`);
  if ((headFlags & ~0x02_0008) !== 0) throw new MediaError("a tfhd box with unknown fields");
  const sharedDuration = (headFlags & 0x08) !== 0 ? tfhd.u32() : 0;

  const tfdt = new FieldReader(findBox(boxes, "tfdt"));
  tfdt.skip(4);
  let dts = tfdt.u64() - track.decodeTicks;
  if (dts < 0) throw new MediaError("a time before the clip's start");
  if (track.lastTicks !== undefined) sampleDuration(track.lastTicks, dts);

  const trun = new FieldReader(findBox(boxes, "trun"));
  const flags = trun.u32() & 0xff_ffff;
  const count = trun.u32();
  const dataOffset = context.moofOffset + trun.i32();
  const rowBytes = 4 * ([0x100, 0x200, 0x400, 0x800].filter((flag) => (flags & flag) !== 0).length);
  if (
    (flags & ~0xf00) !== 1 || (flags & 0x200) === 0 || count === 0 ||
    count * rowBytes !== trun.bytesLeft
  ) {
    throw new MediaError(`a trun box of ${count} samples that does not fit`);
  }
  const run = {
    trackId,
    dataOffset,
    dtsTicks: new Float64Array(count),
    offsets: new Int32Array(count),
    sizes: new Uint32Array(count),
    keys: new Uint8Array(count),
    descriptions: new Map(
      context.descriptions.filter((other) => other.trackId === trackId)
        .map(({ sample, entry }) => [sample, entry]),
    ),
    nals: track.video,
  };
  let duration = sharedDuration;
  for (let i = 0; i < count; i++) {
    if (!Number.isSafeInteger(dts)) throw new MediaError("a time beyond 2^53");
    run.dtsTicks[i] = dts;
    if ((flags & 0x100) !== 0) duration = trun.u32();
    run.sizes[i] = trun.u32();
    run.keys[i] = (flags & 0x400) === 0 || (trun.u32() & 0x1_0000) === 0 ? 1 : 0;
    if ((flags & 0x800) !== 0) run.offsets[i] = trun.i32() - track.offsetTicks;
    dts += duration;
  }
  return { ...run, lastDurationTicks: duration };
}

/**
 * Whether the fragment's data is there and not the zeros of an unwritten block: the lengths of the NAL
 * units add up, and no sound frame begins with sixteen zeros.
 */
async function isWritten(file: RandomAccess, fragment: Fragment): Promise<boolean> {
  for (const run of fragment.runs) {
    let at = run.dataOffset;
    for (const size of run.sizes) {
      const end = at + size;
      if (!run.nals) {
        const start = await file.read(at, Math.min(size, 16));
        if (start.length === 16 && start.every((byte) => byte === 0)) return false;
        at = end;
      }
      while (at < end) {
        const prefix = await file.read(at, 4);
        if (prefix.length < 4) return false;
        const length = new DataView(prefix.buffer, prefix.byteOffset, 4).getUint32(0);
        if (length === 0 || at + 4 + length > end) return false;
        at += 4 + length;
      }
    }
  }
  return true;
}

/** Parses a `moov` that the writer made, with or without samples. @throws MediaError */
function parseMovie(moov: Box): Movie {
  const boxes = parseBoxes(moov.body);
  const mvhd = new FieldReader(findBox(boxes, "mvhd"));
  mvhd.skip(24);
  const duration = mvhd.u64();
  const userData = findBox(boxes, "udta");
  const tags = parseTags(userData);
  const startedAt = new Date(tags.get("©day") ?? "");
  if (Number.isNaN(startedAt.getTime())) {
    throw new MediaError("the clip does not say when it began");
  }
  const tracks = boxes.filter(({ type }) => type === "trak").map(parseTrack);
  if (tracks.length === 0) throw new MediaError("the clip describes no track");
  return {
    head: { startedAt, userData: userData.whole },
    camera: tags.get("©nam") ?? "",
    tracks: tracks.map(({ index }) => index),
    sampleCounts: tracks.map(({ sampleCount }) => sampleCount),
    durationUs: duration,
  };
}

function parseTags(userData: Box): Map<string, string> {
  const meta = findBox(parseBoxes(userData.body), "meta");
  const list = findBox(parseBoxes(meta.body.subarray(4)), "ilst");
  return new Map(
    parseBoxes(list.body).map((tag) => [
      tag.type,
      new TextDecoder().decode(findBox(parseBoxes(tag.body), "data").body.subarray(8)),
    ]),
  );
}

function parseTrack(trak: Box): { readonly index: TrackIndex; readonly sampleCount: number } {
  const boxes = parseBoxes(trak.body);
  const tkhd = new FieldReader(findBox(boxes, "tkhd"));
  tkhd.skip(20);
  const id = tkhd.u32();
  tkhd.skip(64);
  const [widthPx, heightPx] = [tkhd.u32() / 65_536, tkhd.u32() / 65_536];
  const mdhd = new FieldReader(findBox(boxes, "mdia", "mdhd"));
  mdhd.skip(20);
  const timescale = mdhd.u32();
  if (timescale === 0) throw new MediaError("a track counts in a timescale of 0");
  const hdlr = new FieldReader(findBox(boxes, "mdia", "hdlr"));
  hdlr.skip(8);
  const kind = hdlr.u32() === 0x7669_6465 ? "video" : "audio";
  const tables = parseBoxes(findBox(boxes, "mdia", "minf", "stbl").body);
  const [entry, ...more] = parseBoxes(findBox(tables, "stsd").body.subarray(8));
  if (!entry) throw new MediaError("a track has no sample entry");
  const index = new TrackIndex({ id, kind, timescale, widthPx, heightPx }, entry.whole);
  for (const other of more) index.entries.push(other.whole);
  const stsz = new FieldReader(findBox(tables, "stsz"));
  stsz.skip(8);
  return { index, sampleCount: stsz.u32() };
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
