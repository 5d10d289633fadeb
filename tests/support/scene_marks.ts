/**
 * The oracle of passed-through recordings: reads the marks of the coded scene out of recorded MP4
 * files, without decoding, and says what is missing, double or out of order, and how far sound and
 * picture have come apart.
 *
 * @module
 */
import { ALL_FORMATS, BufferSource, EncodedPacketSink, Input } from "mediabunny";
import {
  readMarkAac,
  readMarkNal,
  readMarkOpus,
  type SceneMark,
} from "../../simulators/scene/scene_mark.ts";

/** One recorded unit. */
export interface RecordedUnit {
  /** Presentation time in its clip, ms. */
  readonly ptsMs: number;
  readonly isKey: boolean;
  readonly bytes: number;
  /** Absent where the unit has none: it did not come from the coded scene, or not whole. */
  readonly mark?: SceneMark;
}

/** A clip's units, each list in the order of the file, which is decode order. */
export interface RecordedMarks {
  readonly video: readonly RecordedUnit[];
  readonly audio: readonly RecordedUnit[];
}

/** Reads a clip. @throws if it is no MP4 or has no video */
export async function readMarks(clip: Uint8Array): Promise<RecordedMarks> {
  using input = new Input({
    source: new BufferSource(clip as Uint8Array<ArrayBuffer>),
    formats: ALL_FORMATS,
  });
  const videoTrack = await input.getPrimaryVideoTrack();
  if (!videoTrack) throw new Error("the clip has no video track");
  const codec = await videoTrack.getCodec() === "hevc" ? "h265" : "h264";
  const video: RecordedUnit[] = [];
  for await (const packet of new EncodedPacketSink(videoTrack).packets()) {
    video.push(unit(packet, nalsOf(packet.data).map((nal) => readMarkNal(nal, codec))));
  }
  const audio: RecordedUnit[] = [];
  const audioTrack = await input.getPrimaryAudioTrack();
  if (audioTrack) {
    const read = await audioTrack.getCodec() === "opus" ? readMarkOpus : readMarkAac;
    for await (const packet of new EncodedPacketSink(audioTrack).packets()) {
      audio.push(unit(packet, [read(packet.data)]));
    }
  }
  return { video, audio };
}

function unit(
  packet: { readonly timestamp: number; readonly type: string; readonly data: Uint8Array },
  marks: readonly (SceneMark | undefined)[],
): RecordedUnit {
  const mark = marks.find((candidate) => candidate !== undefined);
  return {
    ptsMs: packet.timestamp * 1000,
    isKey: packet.type === "key",
    bytes: packet.data.length,
    ...(mark ? { mark } : {}),
  };
}

function nalsOf(data: Uint8Array): Uint8Array[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const nals: Uint8Array[] = [];
  for (let at = 0; at + 4 <= data.length;) {
    const length = view.getUint32(at);
    nals.push(data.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return nals;
}

/** What a run of counters says. */
export interface CounterReport {
  readonly first: number;
  readonly last: number;
  /** Units seen. */
  readonly count: number;
  /** Counters between `first` and `last` that are not there. */
  readonly lost: readonly number[];
  /** Counters that are there more than once. */
  readonly duplicated: readonly number[];
  /** Counters that stand behind a higher one. */
  readonly reordered: readonly number[];
  /** Units without a mark. */
  readonly unmarked: number;
}

/** Looks at units in their recorded order; those of several clips may be joined. */
export function countUnits(units: readonly RecordedUnit[]): CounterReport {
  const counters = units.flatMap(({ mark }) => mark ? [mark.counter] : []);
  const seen = new Set<number>();
  const duplicated: number[] = [];
  const reordered: number[] = [];
  let highest = 0;
  for (const counter of counters) {
    if (seen.has(counter)) duplicated.push(counter);
    else if (counter < highest) reordered.push(counter);
    seen.add(counter);
    highest = Math.max(highest, counter);
  }
  const first = Math.min(...counters);
  const lost: number[] = [];
  for (let counter = first; counter < highest; counter++) {
    if (!seen.has(counter)) lost.push(counter);
  }
  return {
    first,
    last: highest,
    count: units.length,
    lost,
    duplicated,
    reordered,
    unmarked: units.length - counters.length,
  };
}

/**
 * How far sound and picture are apart in a clip, ms: the largest difference, over all sound frames,
 * between what lies between it and the picture before it by presentation time and by capture time.
 *
 * @throws if there is nothing to compare
 */
export function largestSkewMs({ video, audio }: RecordedMarks): number {
  const pictures = video.filter(({ mark }) => mark).sort((a, b) => a.ptsMs - b.ptsMs);
  let largest = -1;
  let next = 0;
  for (const { ptsMs, mark } of audio) {
    while (next + 1 < pictures.length && (pictures[next + 1]?.ptsMs ?? 0) <= ptsMs) next++;
    const picture = pictures[next];
    if (!mark || !picture?.mark) continue;
    const skew = ptsMs - picture.ptsMs - (mark.takenAtMs - picture.mark.takenAtMs);
    largest = Math.max(largest, Math.abs(skew));
  }
  if (largest < 0) throw new Error("the clip has no sound and picture to compare");
  return largest;
}
