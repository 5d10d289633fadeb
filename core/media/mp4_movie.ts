/**
 * The `moov` box (ISO/IEC 14496-12 §8): the description of a clip, once without samples for the
 * fragments that follow it, and once with the tables of all samples, which makes the finished clip an
 * ordinary MP4. The sample entries of the four codecs are made here too: `avc1` and `hvc1`
 * (14496-15), `mp4a` with `esds` (14496-14), `Opus` with `dOps`.
 *
 * Times are 64-bit throughout. The movie counts in microseconds; a track that begins later than the
 * clip says so with an empty edit.
 *
 * @module
 */
import type { AudioTrack, Track, VideoTrack } from "../types.ts";
import { parseAudioSpecificConfig } from "./aac.ts";
import { parseAvcConfig, parseH264Sps } from "./h264.ts";
import { parseHevcConfig } from "./h265.ts";
import { MediaError } from "./media_error.ts";
import {
  box,
  type BoxPart,
  bytes,
  fixed32,
  fourcc,
  fullBox,
  tableBox,
  text,
  u16,
  u24,
  u32,
  u64,
  u8,
} from "./mp4_boxes.ts";
import type { TrackHead, TrackIndex } from "./mp4_index.ts";
import { OPUS_RATE_HZ, parseOpusConfig } from "./opus.ts";

/** The movie counts in microseconds. */
export const MOVIE_TIMESCALE = 1_000_000;

/** Sample flags (§8.8.3.1) of a sample that depends on no other. */
export const KEY_SAMPLE_FLAGS = 0x0200_0000;
/** Sample flags of one that does. */
export const DELTA_SAMPLE_FLAGS = 0x0101_0000;

/** Seconds from 1904, where MP4 begins to count, to 1970. */
const MAC_EPOCH_S = 2_082_844_800;
const MATRIX = bytes(...[0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000].map(u32));

/** All that a `moov` says besides its samples. */
export interface MovieHead {
  readonly startedAt: Date;
  /** The whole `udta` box. */
  readonly userData: Uint8Array;
}

/** The `udta` box with the tags that players and ffprobe show: title, date, encoder. */
export function userDataBox(
  tags: { readonly startedAt: Date; readonly camera: string; readonly product: string },
): Uint8Array {
  const tag = (name: string, value: string) => box(name, box("data", u32(1), u32(0), text(value)));
  const handler = fullBox("hdlr", {}, u32(0), text("mdirappl"), u32(0), u32(0), u8(0));
  const list = box(
    "ilst",
    tag("©nam", tags.camera),
    tag("©day", tags.startedAt.toISOString()),
    tag("©too", tags.product),
  );
  return box("udta", fullBox("meta", {}, handler, list));
}

/** The description that fragments follow (§8.8). */
export function fragmentedMovieBox(head: MovieHead, tracks: readonly TrackIndex[]): Uint8Array {
  return box(
    "moov",
    movieHeader(head, tracks, 0),
    ...tracks.map((track) => trackBox(head, track, undefined)),
    box("mvex", ...tracks.map((track) => trackExtends(track.head))),
    head.userData,
  );
}

/** The description of all samples; the tracks must be finished. */
export function finishedMovieBox(
  head: MovieHead,
  tracks: readonly { readonly index: TrackIndex; readonly lastDurationTicks: number }[],
): Uint8Array {
  const filled = tracks.filter(({ index }) => index.sampleCount > 0);
  const timed = filled.map(({ index, lastDurationTicks }) => {
    const { timescale } = index.head;
    const first = index.firstTicks ?? 0;
    const mediaTicks = index.lastTicks + lastDurationTicks - first;
    const toMovie = (ticks: number) => scale(ticks, MOVIE_TIMESCALE, timescale);
    return {
      index,
      mediaTicks,
      delay: toMovie(first),
      duration: toMovie(index.endTicks(lastDurationTicks) - first),
    };
  });
  const duration = Math.max(0, ...timed.map((track) => track.delay + track.duration));
  return box(
    "moov",
    movieHeader(head, timed.map(({ index }) => index), duration),
    ...timed.map((track) => trackBox(head, track.index, track)),
    head.userData,
  );
}

/** `value * numerator / denominator`, rounded, exact wherever the result is. */
export function scale(value: number, numerator: number, denominator: number): number {
  const whole = Math.floor(value / denominator);
  const rest = value - whole * denominator;
  return whole * numerator + Math.round((rest * numerator) / denominator);
}

interface FinishedTimes {
  readonly mediaTicks: number;
  /** Both in the movie's timescale. */
  readonly delay: number;
  readonly duration: number;
}

function macTime(date: Date): number {
  return Math.max(0, Math.floor(date.getTime() / 1000) + MAC_EPOCH_S);
}

function movieHeader(head: MovieHead, tracks: readonly TrackIndex[], duration: number): Uint8Array {
  const created = macTime(head.startedAt);
  return fullBox(
    "mvhd",
    { version: 1 },
    u64(created),
    u64(created),
    u32(MOVIE_TIMESCALE),
    u64(duration),
    fixed32(1),
    u16(0x0100),
    u16(0),
    u64(0),
    MATRIX,
    ...Array.from({ length: 6 }, () => u32(0)),
    u32(Math.max(0, ...tracks.map((track) => track.head.id)) + 1),
  );
}

function trackExtends({ id, kind }: TrackHead): Uint8Array {
  const flags = kind === "audio" ? KEY_SAMPLE_FLAGS : DELTA_SAMPLE_FLAGS;
  return fullBox("trex", {}, u32(id), u32(1), u32(0), u32(0), u32(flags));
}

function trackBox(
  head: MovieHead,
  index: TrackIndex,
  times: FinishedTimes | undefined,
): Uint8Array {
  const created = macTime(head.startedAt);
  const { id, kind, timescale, widthPx, heightPx } = index.head;
  const video = kind === "video";
  const trackHeader = fullBox(
    "tkhd",
    { version: 1, flags: 3 },
    u64(created),
    u64(created),
    u32(id),
    u32(0),
    u64(times ? times.delay + times.duration : 0),
    u64(0),
    u16(0),
    u16(video ? 0 : 1),
    u16(video ? 0 : 0x0100),
    u16(0),
    MATRIX,
    fixed32(widthPx),
    fixed32(heightPx),
  );
  const edits = times && times.delay > 0
    ? [box(
      "edts",
      fullBox(
        "elst",
        { version: 1 },
        u32(2),
        ...[u64(times.delay), u64(-1), u16(1), u16(0)],
        ...[u64(times.duration), u64(0), u16(1), u16(0)],
      ),
    )]
    : [];
  const mediaHeader = fullBox(
    "mdhd",
    { version: 1 },
    u64(created),
    u64(created),
    u32(timescale),
    u64(times?.mediaTicks ?? 0),
    u16(0x55c4), // "und"
    u16(0),
  );
  const handler = fullBox(
    "hdlr",
    {},
    u32(0),
    fourcc(video ? "vide" : "soun"),
    ...[u32(0), u32(0), u32(0)],
    text(video ? "Video\0" : "Sound\0"),
  );
  const mediaInfo = video
    ? fullBox("vmhd", { flags: 1 }, u64(0))
    : fullBox("smhd", {}, u16(0), u16(0));
  const dataInfo = box("dinf", fullBox("dref", {}, u32(1), fullBox("url ", { flags: 1 })));
  return box(
    "trak",
    trackHeader,
    ...edits,
    box("mdia", mediaHeader, handler, box("minf", mediaInfo, dataInfo, sampleTable(index, times))),
  );
}

function sampleTable(index: TrackIndex, times: FinishedTimes | undefined): Uint8Array {
  const entries = times ? index.entries : index.entries.slice(0, 1);
  const descriptions = fullBox("stsd", {}, u32(entries.length), ...entries);
  if (!times) {
    return box(
      "stbl",
      descriptions,
      tableBox("stts", {}, []),
      tableBox("stsc", {}, []),
      tableBox("stsz", { before: [0] }, []),
      tableBox("stco", {}, []),
    );
  }
  const everyKey = index.keys.length === index.sampleCount;
  return box(
    "stbl",
    descriptions,
    tableBox("stts", { columns: 2 }, index.durations.pairs.values()),
    ...(index.offsets.isZero
      ? []
      : [tableBox("ctts", { version: 1, columns: 2 }, index.offsets.pairs.values())]),
    ...(everyKey ? [] : [tableBox("stss", {}, index.keys.values())]),
    tableBox("stsc", { columns: 3 }, index.chunkRuns.values()),
    tableBox("stsz", { before: [0] }, index.sizes.values()),
    chunkOffsets(index),
  );
}

function chunkOffsets(index: TrackIndex): Uint8Array {
  const halves = index.chunkOffsets.values();
  const high = halves.some((value, i) => i % 2 === 0 && value > 0);
  return high
    ? tableBox("co64", { columns: 2 }, halves)
    : tableBox("stco", {}, halves.filter((_, i) => i % 2 === 1));
}

/** What of a track goes into its head. @throws MediaError where MP4 cannot hold the codec */
export function trackHead(track: Track): TrackHead {
  if (track.kind === "audio") {
    const timescale = track.codec === "opus" ? OPUS_RATE_HZ : track.sampleRateHz;
    if (!(Number.isInteger(timescale) && timescale > 0 && timescale < 2 ** 32)) {
      throw new MediaError(`track ${track.id} has a sample rate of ${timescale} Hz`);
    }
    return { id: track.id, kind: "audio", timescale, widthPx: 0, heightPx: 0 };
  }
  const [horizontal, vertical] = pictureInfo(track).sampleAspect;
  return {
    id: track.id,
    kind: "video",
    // Microseconds, as access units have them: nothing is rounded, so nothing can drift.
    timescale: MOVIE_TIMESCALE,
    widthPx: track.widthPx * horizontal / vertical,
    heightPx: track.heightPx,
  };
}

/** The sample entry box of a track (§8.5.2). @throws MediaError where MP4 cannot hold the codec */
export function sampleEntry(track: Track): Uint8Array {
  return track.kind === "video" ? videoEntry(track) : audioEntry(track);
}

/** The parameter sets of a video track as NAL units, in the order in which a decoder wants them. */
export function parameterSets(track: VideoTrack): readonly Uint8Array[] {
  if (track.codec === "h264") {
    const { sps, pps } = parseAvcConfig(track.config);
    return [...sps, ...pps];
  }
  const { vps, sps, pps } = parseHevcConfig(track.config);
  return [...vps, ...sps, ...pps];
}

/** What the sequence parameter set says of showing; what cannot be read of it is left out. */
function pictureInfo(
  track: VideoTrack,
): Pick<ReturnType<typeof parseH264Sps>, "sampleAspect" | "color"> {
  try {
    if (track.codec === "h264") {
      const sps = parseAvcConfig(track.config).sps[0];
      if (sps) return parseH264Sps(sps);
    }
  } catch (error) {
    if (!(error instanceof MediaError)) throw error;
  }
  return { sampleAspect: [1, 1], color: undefined };
}

function videoEntry(track: VideoTrack): Uint8Array {
  if (track.codec === "jpeg") {
    throw new MediaError(
      `track ${track.id} is JPEG: encode it to H.264 before it goes into a clip`,
    );
  }
  const lengthSize = track.codec === "h264"
    ? parseAvcConfig(track.config).lengthSizeBytes
    : parseHevcConfig(track.config).lengthSizeBytes;
  if (lengthSize !== 4) {
    throw new MediaError(
      `track ${track.id} announces NAL lengths of ${lengthSize} bytes, expected 4`,
    );
  }
  const { sampleAspect: [horizontal, vertical], color } = pictureInfo(track);
  const square = horizontal === vertical;
  return box(
    track.codec === "h264" ? "avc1" : "hvc1",
    ...[u32(0), u16(0), u16(1), u32(0), u32(0), u32(0), u32(0)],
    u16(track.widthPx),
    u16(track.heightPx),
    fixed32(72),
    fixed32(72),
    u32(0),
    u16(1),
    new Uint8Array(32),
    u16(0x18),
    u16(0xffff),
    box(track.codec === "h264" ? "avcC" : "hvcC", track.config),
    ...(color
      ? [box(
        "colr",
        fourcc("nclx"),
        u16(color.primaries),
        u16(color.transfer),
        u16(color.matrix),
        u8(color.fullRange ? 0x80 : 0),
      )]
      : []),
    ...(square ? [] : [box("pasp", u32(horizontal), u32(vertical))]),
  );
}

function audioEntry(track: AudioTrack): Uint8Array {
  if (track.codec === "pcm") {
    throw new MediaError("an MP4 file cannot hold samples that are not coded");
  }
  const opus = track.codec === "opus";
  const rateHz = opus ? OPUS_RATE_HZ : track.sampleRateHz;
  if (opus) parseOpusConfig(track.config);
  else parseAudioSpecificConfig(track.config);
  return box(
    opus ? "Opus" : "mp4a",
    ...[u32(0), u16(0), u16(1), u32(0), u32(0)],
    u16(track.channels),
    u16(16),
    u32(0),
    // 16.16; a rate that does not fit is said by the configuration alone.
    u32(rateHz < 65_536 ? rateHz * 65_536 : 0),
    opus ? box("dOps", track.config) : esds(track.config),
  );
}

/** ES descriptor (14496-1 §7.2.6.5) with a decoder configuration for MPEG-4 audio. */
function esds(config: Uint8Array): Uint8Array {
  const descriptor = (tag: number, ...parts: readonly BoxPart[]) => {
    const body = bytes(...parts);
    return bytes(u8(tag), u8(0x80), u8(0x80), u8(0x80), u8(body.length), body);
  };
  return fullBox(
    "esds",
    {},
    descriptor(
      3,
      u16(0),
      u8(0),
      descriptor(
        4,
        u8(0x40), // MPEG-4 audio
        u8(0x15), // audio stream
        u24(0),
        u32(0),
        u32(0),
        descriptor(5, config),
      ),
      descriptor(6, u8(2)),
    ),
  );
}
