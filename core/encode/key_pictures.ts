/**
 * Key pictures of coded video as small gray ones, for whoever looks at what a camera sees: decoded by a
 * long-lived run of the installed ffmpeg for each camera, or by ffmpeg.wasm in a worker that all
 * cameras share.
 *
 * One picture is inside at a time, and one waits; a newer one takes the place of that which waits. So
 * recording never waits for the looking, a machine that is too slow looks less often, and which picture
 * came out is never a question. A run that dies, or keeps a picture, is replaced after a pause.
 *
 * @module
 */
import { H264_NAL, h264NalType, parseAvcConfig, parseH264Sps } from "../media/h264.ts";
import { h265NalType, parseH265Sps, parseHevcConfig } from "../media/h265.ts";
import type { AccessUnit, Clock, VideoTrack } from "../types.ts";
import type { PictureLane, PictureLaneOptions } from "./engine.ts";

/** A picture's brightness, row by row. */
export interface GrayPicture {
  readonly widthPx: number;
  readonly heightPx: number;
  /** 0 is black, 255 white. */
  readonly pixels: Uint8Array;
  /** Wall time at which it was taken, ms. */
  readonly capturedAtMs: number;
}

/** Decodes one camera's key pictures. */
export interface PictureDecoder extends AsyncDisposable {
  /**
   * Takes a key unit and copies it, so that the unit may be released. Never waits,
   * never throws.
   */
  push(unit: AccessUnit, track: VideoTrack): void;
}

/** What a {@linkcode PictureDecoder} is made with. */
export interface PictureDecoderOptions {
  /** Takes each picture. */
  onPicture(picture: GrayPicture): void;
  /** Nothing can be decoded just now; it is tried again, and the next picture tells that it worked. */
  onBlind(reason: string): void;
}

/** The longer side of a gray picture, px. */
const LONGER_SIDE_PX = 160;
/** So many pictures may come while one is decoded; then it is taken for lost. */
const MOST_MISSED = 8;
/** The pause after a run that died, ms; it doubles with each that follows, up to the longest. */
const PAUSE_MS = { first: 1000, longest: 60_000 };
/** `nal_unit_type` of H.265's clean and broken-link random access pictures (Table 7-1). */
const CRA = 21;
const BLA = 16;
/** A NAL unit of supplemental information with its length: whole pictures from this one on. */
const RECOVERY_POINT = Uint8Array.of(0, 0, 0, 5, 6, 6, 1, 0xc4, 0x80);

/** The size to which a picture is made smaller. */
export function graySize({ widthPx, heightPx }: Pick<VideoTrack, "widthPx" | "heightPx">) {
  const factor = Math.min(1, LONGER_SIDE_PX / Math.max(widthPx, heightPx));
  const scaled = (px: number) => Math.max(1, Math.round(px * factor));
  return { widthPx: scaled(widthPx), heightPx: scaled(heightPx) };
}

/** ffmpeg's arguments from a stream of {@link ./matroska.ts} in to raw gray pictures out. */
export function pictureArguments(
  { track, input, output, passthrough }: Pick<PictureLaneOptions, "track"> & {
    readonly input: string;
    readonly output: string;
    /** See {@linkcode ffmpegArguments}. */
    readonly passthrough: readonly string[];
  },
): string[] {
  const { widthPx, heightPx } = graySize(track);
  return [
    ...["-hide_banner", "-loglevel", "error", "-nostdin", "-nofind_stream_info"],
    // A damaged picture must not be taken for one in which much has changed.
    ...["-xerror", "-fflags", "nobuffer", "-probesize", "32"],
    // Threads of a decoder or an encoder would each hold a picture back.
    ...["-threads", "1", "-filter_threads", "1", "-skip_loop_filter", "all"],
    ...["-f", "matroska", "-i", input, "-an", ...passthrough],
    ...["-vf", `scale=${widthPx}:${heightPx}:flags=area,format=gray`],
    ...["-threads", "1", "-flush_packets", "1", "-f", "rawvideo", output],
  ];
}

/**
 * A key unit in memory of its own, as one that begins a sequence. A clean random access picture of H.265
 * is made a broken-link one, for which a decoder lets go of what was before. Before a key picture of
 * H.264 that is no IDR picture goes the word that decoding may begin there (D.2.8, recovery point),
 * which not every camera sends.
 */
export function asFirstPicture(
  data: Uint8Array,
  { codec }: Pick<VideoTrack, "codec">,
): Uint8Array<ArrayBuffer> {
  if (codec === "h264" && !beginsSequence(data, { codec })) {
    const copy = new Uint8Array(RECOVERY_POINT.length + data.length);
    copy.set(RECOVERY_POINT);
    copy.set(data, RECOVERY_POINT.length);
    return copy;
  }
  const copy = new Uint8Array(data);
  if (codec !== "h265") return copy;
  for (const at of nalHeaders(copy)) {
    const first = copy[at] ?? 0;
    if (h265NalType(first) === CRA) copy[at] = (first & 0x81) | (BLA << 1);
  }
  return copy;
}

/**
 * Whether a decoder lets go of all that was before it: of the others it makes the next pictures of a
 * sequence, of which it misses those between.
 */
export function beginsSequence(
  data: Uint8Array,
  { codec }: Pick<VideoTrack, "codec">,
): boolean {
  if (codec !== "h264") return true;
  for (const at of nalHeaders(data)) {
    if (h264NalType(data[at] ?? 0) === H264_NAL.idr) return true;
  }
  return false;
}

/** Where the first byte of each NAL unit of a unit is. */
function* nalHeaders(data: Uint8Array): Generator<number> {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at + 4 < data.length; at += 4 + view.getUint32(at)) yield at + 4;
}

/**
 * How often a picture has to be given to a decoder that goes on running until it gives it back: where
 * pictures may be reordered, it waits for as many as might have to be shown before.
 */
export function timesToGive({ codec, config }: Pick<VideoTrack, "codec" | "config">): number {
  if (codec === "jpeg") return 1;
  try {
    const set = (codec === "h264" ? parseAvcConfig(config) : parseHevcConfig(config)).sps[0];
    if (set === undefined) return 1;
    // The beginning of the next sequence is enough for H.265.
    if (codec === "h265") return parseH265Sps(set).maxReorderFrames === 0 ? 1 : 2;
    return 1 + (parseH264Sps(set).maxReorderFrames ?? 0);
  } catch {
    return 1; // the decoder says what is wrong with it
  }
}

/** A key picture on its way. */
interface Picture {
  readonly data: Uint8Array<ArrayBuffer>;
  readonly track: VideoTrack;
  readonly capturedAtMs: number;
}

/** A run of ffmpeg, and the picture that is in it. */
interface Run {
  readonly lane: PictureLane;
  readonly track: VideoTrack;
  inside: Picture | undefined;
}

/** Makes a decoder; `openLane` starts a run. */
export function createPictureDecoder(
  { onPicture, onBlind, openLane, clock }: PictureDecoderOptions & {
    readonly openLane: (options: PictureLaneOptions) => PictureLane;
    readonly clock: Clock;
  },
): PictureDecoder {
  let run: Run | undefined;
  let waiting: Picture | undefined;
  /** Pictures that came while the one inside was decoded. */
  let missed = 0;
  let failures = 0;
  let resumeMs = -Infinity;
  let isClosed = false;
  const ending = new Set<Promise<void>>();

  const leave = () => {
    const left = run;
    run = undefined; // what it says from now on is of no interest
    if (left === undefined) return;
    const gone = left.lane.kill().finally(() => ending.delete(gone));
    ending.add(gone);
  };
  const fail = (reason: string) => {
    leave();
    waiting = undefined;
    resumeMs = clock.monotonic() +
      Math.min(PAUSE_MS.longest, PAUSE_MS.first * 2 ** Math.min(failures++, 10));
    onBlind(reason);
  };
  const begin = (track: VideoTrack): Run => {
    const own: Run = {
      track,
      inside: undefined,
      lane: openLane({
        track,
        onPicture: (pixels) => run === own && take(own, pixels),
        onEnd: (error) => run === own && fail(error?.message ?? "ffmpeg ended"),
      }),
    };
    return own;
  };
  const give = (picture: Picture) => {
    if (run && !isAlike(run.track, picture.track)) leave();
    try {
      run ??= begin(picture.track);
      run.inside = picture;
      missed = 0;
      run.lane.decode(picture.data);
    } catch (error) {
      fail(error instanceof Error ? error.message : String(error));
    }
  };
  const take = (own: Run, pixels: Uint8Array) => {
    const { inside } = own;
    if (inside === undefined) return; // nobody asked for it
    own.inside = undefined;
    failures = 0;
    onPicture({ ...graySize(inside.track), pixels, capturedAtMs: inside.capturedAtMs });
    const next = waiting;
    waiting = undefined;
    if (next && run === own) give(next);
  };

  return {
    push({ data, capturedAtMs }, track) {
      if (isClosed || clock.monotonic() < resumeMs) return;
      if (run?.inside && ++missed >= MOST_MISSED) {
        return fail(`ffmpeg gave nothing back of one while ${missed} more came`);
      }
      const picture = { data: asFirstPicture(data, track), track, capturedAtMs };
      if (run?.inside) waiting = picture;
      else give(picture);
    },
    async [Symbol.asyncDispose]() {
      isClosed = true;
      waiting = undefined;
      leave();
      await Promise.all(ending);
    },
  };
}

/** Whether a decoder of the one takes the other's pictures. */
function isAlike(a: VideoTrack, b: VideoTrack): boolean {
  return a === b || a.codec === b.codec && a.widthPx === b.widthPx && a.heightPx === b.heightPx &&
      a.config.length === b.config.length && a.config.every((byte, i) => byte === b.config[i]);
}
