/**
 * A loop of the scene as coded video and sound: encoded once, then played round and round by
 * `coded_scene.ts`. Every viewer, and every scene with the same options, shares one loop. With a
 * cache folder also later runs of the program do.
 *
 * @module
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createScene } from "./scene.ts";
import { encodeScene, type SceneEncoder, type SceneEncoding } from "./scene_encoder.ts";
import { encodeG711, SOUND_LOOP_MS, soundLoop } from "./scene_sound.ts";
import { cameraCode } from "./strip.ts";

/** How pictures are coded. */
export interface LoopVideoOptions {
  /** Written into the picture, and the seed of its place. */
  readonly name: string;
  /** `h264` by default. */
  readonly codec?: "h264" | "h265";
  /** 1280 by default. */
  readonly widthPx?: number;
  /** 9/16 of the width by default. */
  readonly heightPx?: number;
  /** 15 by default. */
  readonly fps?: number;
  /** Pictures from one key picture to the next; one second by default. */
  readonly gopPictures?: number;
  /** By default what a camera gives that size: about 1 Mbit/s for 720p15. */
  readonly bitsPerSecond?: number;
  /** Slices of a picture, each a NAL unit of its own; 1 by default. */
  readonly slices?: number;
  /** GOPs in the loop; 8 by default. */
  readonly gops?: number;
}

/** How sound is coded; mono. */
export interface LoopAudioOptions {
  /** The seed of the sound. */
  readonly name: string;
  readonly codec: "aac" | "opus" | "pcma" | "pcmu";
  /** AAC: 16000, 32000 or 48000 (default); Opus: 48000; G.711: 8000. */
  readonly sampleRateHz?: number;
  /** 32000 by default; G.711 has 64000. */
  readonly bitsPerSecond?: number;
}

/** Where it is encoded and kept. */
export interface LoopContext {
  /** The ffmpeg of the machine, or ffmpeg.wasm, by default. */
  readonly encode?: SceneEncoder;
  /** A folder for what was encoded; without it only this process remembers. */
  readonly cacheFolder?: string;
}

/** One coded picture of the loop. */
export interface LoopPicture {
  /** Slices, without start codes; no parameter sets. */
  readonly nals: readonly Uint8Array[];
  readonly isKey: boolean;
}

/** Coded pictures; there are no B-frames. */
export interface VideoLoop {
  readonly codec: "h264" | "h265";
  readonly widthPx: number;
  readonly heightPx: number;
  readonly fps: number;
  readonly gopPictures: number;
  /** SPS and PPS, for H.265 with the VPS in front; without start codes. */
  readonly parameterSets: readonly Uint8Array[];
  readonly pictures: readonly LoopPicture[];
}

/** Coded sound. */
export interface AudioLoop {
  readonly codec: LoopAudioOptions["codec"];
  readonly sampleRateHz: number;
  readonly channels: 1;
  readonly samplesPerFrame: number;
  /** Raw AAC frames (no ADTS header), Opus packets, or 20 ms of G.711. */
  readonly frames: readonly Uint8Array[];
}

const loops = new Map<string, Promise<unknown>>();

/** Makes it once in this process; a failure is forgotten. */
async function once<T>(key: string, make: () => Promise<T>): Promise<T> {
  const known = loops.get(key) as Promise<T> | undefined;
  if (known) return await known;
  const made = make();
  loops.set(key, made);
  try {
    return await made;
  } catch (error) {
    loops.delete(key);
    throw error;
  }
}

/** A loop of pictures. @throws if it cannot be encoded, saying why */
export function videoLoop(
  options: LoopVideoOptions,
  context: LoopContext = {},
): Promise<VideoLoop> {
  const { codec = "h264", widthPx = 1280, fps = 15, slices = 1, gops = 8, name } = options;
  const heightPx = options.heightPx ?? Math.round(widthPx * 9 / 32) * 2;
  const gopPictures = options.gopPictures ?? Math.max(1, Math.round(fps));
  const bitsPerSecond = options.bitsPerSecond ??
    Math.round(widthPx * heightPx * fps * (codec === "h264" ? 0.075 : 0.05));
  const exact = { codec, widthPx, heightPx, fps, gopPictures, bitsPerSecond, slices, gops, name };
  const key = JSON.stringify(exact);
  return once(`${context.cacheFolder} ${key}`, async () => {
    const stream = await cached(key, context, () => {
      const scene = createScene({ name, widthPx, heightPx });
      const count = gops * gopPictures;
      const jpegs = Array.from({ length: count }, (_, index) =>
        scene.frame({
          counter: index + 1,
          takenAtMs: Math.round(index * 1000 / fps),
          caption: `live #${index + 1} of ${count}`,
        }));
      return videoEncoding(concat(jpegs), exact);
    });
    const coded = parseStream(stream, codec);
    if (coded.pictures.length !== gops * gopPictures || coded.parameterSets.length < 2) {
      throw new Error(
        `the encoder gave ${coded.pictures.length} pictures and ${coded.parameterSets.length} ` +
          `parameter sets of the simulated scene: expected ${gops * gopPictures} and 2 or 3`,
      );
    }
    return { codec, widthPx, heightPx, fps, gopPictures, ...coded };
  });
}

function videoEncoding(
  mjpeg: Uint8Array,
  options: Required<LoopVideoOptions>,
): SceneEncoding {
  const { codec, fps, gopPictures, bitsPerSecond, slices } = options;
  const parameters = [
    `keyint=${gopPictures}:min-keyint=${gopPictures}:scenecut=0:bframes=0:repeat-headers=1`,
    `slices=${slices}`,
    ...(codec === "h264"
      ? ["sliced-threads=0:sync-lookahead=0"]
      : ["open-gop=0:log-level=error:info=0"]),
  ].join(":");
  return {
    inputArgs: ["-f", "mjpeg", "-framerate", String(fps)],
    input: mjpeg,
    outputArgs: [
      "-an",
      ...(codec === "h264"
        ? ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-x264-params"]
        : ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params"]),
      parameters,
      ...["-bf", "0", "-b:v", String(bitsPerSecond), "-maxrate", String(bitsPerSecond)],
      ...["-bufsize", String(bitsPerSecond), "-pix_fmt", "yuv420p"],
      ...["-f", codec === "h264" ? "h264" : "hevc"],
    ],
  };
}

/** A loop of sound. @throws if it cannot be encoded, saying why */
export function audioLoop(
  options: LoopAudioOptions,
  context: LoopContext = {},
): Promise<AudioLoop> {
  const { codec, name, bitsPerSecond = 32_000 } = options;
  const rates =
    { aac: [48_000, 32_000, 16_000], opus: [48_000], pcma: [8000], pcmu: [8000] }[codec];
  const sampleRateHz = options.sampleRateHz ?? rates[0] ?? 0;
  if (!rates.includes(sampleRateHz)) {
    throw new RangeError(
      `cannot simulate ${codec} of ${sampleRateHz} Hz: expected ${rates.join(", ")}`,
    );
  }
  const key = JSON.stringify({ codec, name, sampleRateHz, bitsPerSecond });
  return once(`${context.cacheFolder} ${key}`, async () => {
    const samples = soundLoop({ seed: cameraCode(name), sampleRateHz });
    const common = { codec, sampleRateHz, channels: 1 } as const;
    if (codec === "pcma" || codec === "pcmu") {
      const coded = encodeG711(samples, codec);
      const frames = Array.from(
        { length: coded.length / 160 },
        (_, index) => coded.subarray(index * 160, index * 160 + 160),
      );
      return { ...common, samplesPerFrame: 160, frames };
    }
    const samplesPerFrame = codec === "aac" ? 1024 : 960;
    const stream = await cached(key, context, () => ({
      // Two and a half rounds: the second is what the loop is cut from, free of any start or end.
      inputArgs: ["-f", "s16le", "-ar", String(sampleRateHz), "-ac", "1"],
      input: bytesOf(samples, samples, samples.subarray(0, samples.length / 2)),
      outputArgs: [
        ...["-c:a", codec === "aac" ? "aac" : "libopus", "-b:a", String(bitsPerSecond)],
        ...(codec === "aac" ? ["-f", "adts"] : ["-frame_duration", "20", "-f", "ogg"]),
      ],
    }));
    const coded = codec === "aac" ? adtsFrames(stream) : oggPackets(stream).slice(2);
    const round = SOUND_LOOP_MS * sampleRateHz / 1000 / samplesPerFrame;
    // AAC's first frame holds the encoder's delay of one frame.
    const first = round + (codec === "aac" ? 1 : 0);
    const frames = coded.slice(first, first + round);
    if (frames.length !== round) {
      throw new Error(
        `the encoder gave ${coded.length} frames of the simulated sound: expected ${2 * round}`,
      );
    }
    return { ...common, samplesPerFrame, frames };
  });
}

/** What was encoded under this key before, or is now. */
async function cached(
  key: string,
  { cacheFolder, encode = encodeScene }: LoopContext,
  encoding: () => SceneEncoding,
): Promise<Uint8Array> {
  if (cacheFolder === undefined) return await encode(encoding());
  const name = createHash("sha256").update(`1 ${key}`).digest("hex").slice(0, 32);
  const path = join(cacheFolder, name);
  try {
    return new Uint8Array(await readFile(path));
  } catch {
    const bytes = await encode(encoding());
    await mkdir(cacheFolder, { recursive: true });
    const part = `${path}.${randomUUID()}`;
    await writeFile(part, bytes);
    await rename(part, path);
    return bytes;
  }
}

/** Takes a byte stream (Annex B) apart into parameter sets and pictures. */
function parseStream(
  stream: Uint8Array,
  codec: "h264" | "h265",
): Pick<VideoLoop, "parameterSets" | "pictures"> {
  const parameterSets = new Map<number, Uint8Array>();
  const pictures: { nals: Uint8Array[]; isKey: boolean }[] = [];
  for (const nal of splitNals(stream)) {
    const first = nal[0] ?? 0;
    const type = codec === "h264" ? first & 0x1f : first >> 1 & 0x3f;
    const isSet = codec === "h264" ? type === 7 || type === 8 : type >= 32 && type <= 34;
    const isSlice = codec === "h264" ? type === 1 || type === 5 : type < 32;
    if (isSet) parameterSets.set(type, nal);
    if (!isSlice) continue;
    // first_mb_in_slice is 0, first_slice_segment_in_pic_flag is 1: a one in the top bit, both.
    const starts = ((nal[codec === "h264" ? 1 : 2] ?? 0) & 0x80) !== 0;
    const isKey = codec === "h264" ? type === 5 : type >= 16 && type <= 23;
    if (starts) pictures.push({ nals: [nal], isKey });
    else pictures.at(-1)?.nals.push(nal);
  }
  const inOrder = [...parameterSets].sort(([a], [b]) => a - b).map(([, nal]) => nal);
  return { parameterSets: inOrder, pictures };
}

function splitNals(stream: Uint8Array): Uint8Array[] {
  const starts: number[] = [];
  for (let at = stream.indexOf(1, 2); at >= 0; at = stream.indexOf(1, at + 1)) {
    if (stream[at - 1] === 0 && stream[at - 2] === 0) starts.push(at + 1);
  }
  return starts.map((start, index) => {
    let end = index + 1 < starts.length ? (starts[index + 1] ?? 0) - 3 : stream.length;
    while (end > start && stream[end - 1] === 0) end--;
    return stream.subarray(start, end);
  });
}

/** Raw frames of an ADTS stream as ffmpeg writes it: without CRC, one block a frame. */
function adtsFrames(stream: Uint8Array): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let at = 0; at + 7 <= stream.length;) {
    const [b3 = 0, b4 = 0, b5 = 0] = stream.subarray(at + 3, at + 6);
    const length = (b3 & 3) << 11 | b4 << 3 | b5 >> 5;
    if (stream[at] !== 0xff || length < 7) throw new Error("the encoder gave no ADTS stream");
    frames.push(stream.subarray(at + 7, at + length));
    at += length;
  }
  return frames;
}

/** Packets of an Ogg stream (RFC 3533). */
function oggPackets(stream: Uint8Array): Uint8Array[] {
  const packets: Uint8Array[] = [];
  let pieces: Uint8Array[] = [];
  for (let at = 0; at + 27 <= stream.length;) {
    const segments = stream[at + 26] ?? 0;
    let from = at + 27 + segments;
    for (const length of stream.subarray(at + 27, from)) {
      pieces.push(stream.subarray(from, from + length));
      from += length;
      if (length < 255) {
        packets.push(concat(pieces));
        pieces = [];
      }
    }
    at = from;
  }
  return packets;
}

function bytesOf(...samples: readonly Int16Array[]): Uint8Array {
  return concat(
    samples.map((part) => new Uint8Array(part.buffer, part.byteOffset, part.byteLength)),
  );
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
