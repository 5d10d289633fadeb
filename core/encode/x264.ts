/**
 * How ffmpeg and x264 are told to encode, the same for the wasm and the system engine: which preset
 * and rate each quality means, the colours, and the options that make every picture come out as soon
 * as it went in. `docs/decisions/encoding.md` has the measurements behind the numbers.
 *
 * Times on the way through ffmpeg are not real times: they say *which* picture this is. Picture n of
 * a run is shown at `n * 40 ms`, and 20 ms later if it must become key. So x264 sees a steady 25
 * pictures/s whatever the camera does (its rate control spends more on pictures that last longer,
 * and a slow camera's clips would grow many times), a lost picture shows as a gap, and a key picture
 * asks for itself. The real times stay on our side.
 *
 * @module
 */
import type { EngineName, Quality } from "./engine.ts";

/** Nominal length of a picture on the way through ffmpeg, ms. */
export const PICTURE_MS = 40;
const KEY_MARK_MS = 20;

/**
 * The time that carries picture `index` through ffmpeg. The first one is key anyway, and must not be
 * marked: ffmpeg counts the time in `-force_key_frames` from the first picture that it sees.
 */
export function timeOfPicture(index: number, isKey: boolean): number {
  return index * PICTURE_MS + (isKey && index > 0 ? KEY_MARK_MS : 0);
}

/** The picture that a time stands for. */
export function pictureOfTime(timeMs: number): number {
  return Math.floor(timeMs / PICTURE_MS);
}

/** One way to encode: an engine and how hard it works. */
export interface Gear {
  readonly engine: EngineName;
  /** The preset's name, for a person. */
  readonly label: string;
  readonly x264: readonly string[];
}

/**
 * From best compression to least work. The quantiser is constant (`-qp`): to hold a quality (`-crf`)
 * x264 first looks at every picture in half size, which without its assembly is a quarter of all
 * work, and weighted prediction needs that look too. Adaptive quantisation is off: it spends the bits
 * on a sensor's noise in flat parts. A larger `ipratio` pays for itself in short GOPs of a fixed
 * camera: what the key picture has, the following ones need not send again.
 */
const GEARS: readonly (Omit<Gear, "x264"> & {
  readonly preset: string;
  readonly params: string;
  /** To be added to the quality's quantiser, so that the gears look alike. */
  readonly qpOffset: number;
})[] = [
  {
    engine: "wasm",
    label: "ultrafast",
    preset: "ultrafast",
    params: "cabac=1:me=dia:merange=4:ipratio=2.0",
    qpOffset: 0,
  },
  {
    engine: "system",
    label: "veryfast",
    preset: "veryfast",
    params: "aq-mode=0:ipratio=2.0:weightp=0",
    qpOffset: 1,
  },
  {
    engine: "system",
    label: "ultrafast",
    preset: "ultrafast",
    params: "cabac=1:me=dia:ipratio=2.0",
    qpOffset: 0,
  },
];

const QP: Readonly<Record<Quality, number>> = { low: 31, standard: 27, high: 23 };

/** The gears of an engine at a quality, from best compression to least work. */
export function gearsOf(engine: EngineName, quality: Quality): readonly Gear[] {
  return GEARS.filter((gear) => gear.engine === engine).map((gear) => ({
    engine: gear.engine,
    label: gear.label,
    x264: [
      "-preset",
      gear.preset,
      "-tune",
      "zerolatency",
      "-qp",
      String(QP[quality] + gear.qpOffset),
      "-x264-params",
      gear.params,
    ],
  }));
}

/**
 * ffmpeg's arguments from a stream of {@link ./matroska.ts} or of raw pictures in to a stream of
 * {@link ./flv.ts} out.
 */
export function ffmpegArguments(options: {
  readonly input: string;
  readonly output: string;
  readonly widthPx: number;
  readonly heightPx: number;
  readonly x264: readonly string[];
  /** The option that switches frame dropping off: its name depends on ffmpeg's version. */
  readonly passthrough: readonly string[];
  /** The input is limited-range 4:2:0 planes of even size, and no Matroska. */
  readonly raw?: boolean;
}): string[] {
  const even = (px: number) => px - px % 2;
  // Only an odd size needs cutting: 4:2:0 has none.
  const crop = options.widthPx % 2 || options.heightPx % 2
    ? `crop=${even(options.widthPx)}:${even(options.heightPx)}:0:0,`
    : "";
  return [
    "-hide_banner",
    "-loglevel",
    "error",
    "-threads",
    "1",
    "-copyts",
    "-nofind_stream_info",
    "-fflags",
    "nobuffer",
    "-probesize",
    "32",
    ...(options.raw
      ? [
        ...["-f", "rawvideo", "-pixel_format", "yuv420p", "-framerate", String(1000 / PICTURE_MS)],
        ...["-video_size", `${even(options.widthPx)}x${even(options.heightPx)}`],
      ]
      : ["-f", "matroska"]),
    "-i",
    options.input,
    "-an",
    ...options.passthrough,
    "-enc_time_base",
    "1:1000",
    // JPEGs are full-range BT.601 with sRGB's primaries; players expect the limited range.
    // Not fast_bilinear: a tenth less work in wasm, but there it shifts the colours by 1 of 255.
    ...(options.raw ? [] : [
      "-vf",
      `${crop}scale=in_range=full:out_range=limited:sws_flags=bilinear,format=yuv420p`,
    ]),
    "-color_range",
    "tv",
    "-colorspace",
    "smpte170m",
    "-color_primaries",
    "bt709",
    "-color_trc",
    "bt709",
    "-c:v",
    "libx264",
    ...options.x264,
    "-threads",
    "1",
    "-g",
    "100000",
    "-sc_threshold",
    "0",
    "-bf",
    "0",
    "-force_key_frames",
    `expr:gte(mod(t*1000+5,${PICTURE_MS}),${KEY_MARK_MS})`,
    "-flush_packets",
    "1",
    "-flvflags",
    "no_duration_filesize",
    "-f",
    "flv",
    options.output,
  ];
}
