/**
 * A live camera without a camera: the moving, counted scene as H.264 or H.265 with AAC, Opus or
 * G.711 sound, in real time by a clock. Simulators of live cameras put its units on their wires.
 *
 * A loop of the scene is encoded once and played round and round; what tells one round from the
 * next is the mark in every unit (`scene_mark.ts`): the camera's name, a counter that runs on, and
 * the time. The picture itself shows its number in the loop, `(counter - 1) % pictures + 1`, so that a
 * decoded picture can be held against its mark.
 *
 * All viewers see one timeline. Media time counts from the moment the scene was made; picture `n`
 * (from 0) is at `n / fps` and sound frame `n` at `n · samplesPerFrame / sampleRateHz`, exactly.
 *
 * @module
 */
import { systemClock } from "../../core/clock.ts";
import type { Clock } from "../../core/types.ts";
import {
  type AudioLoop,
  audioLoop,
  type LoopAudioOptions,
  type LoopContext,
  type LoopVideoOptions,
  type VideoLoop,
  videoLoop,
} from "./coded_loop.ts";
import { markAac, markNal, markOpus } from "./scene_mark.ts";

/** What a live scene is made from. */
export interface CodedSceneOptions extends Omit<LoopVideoOptions, "name">, LoopContext {
  /** The camera's name: in every mark. */
  readonly name: string;
  /** What the picture shows; scenes of one picture share its loop. The name, by default. */
  readonly pictureName?: string;
  /** Sound; none by default. */
  readonly audio?: Omit<LoopAudioOptions, "name">;
  /** The machine's own clocks by default. */
  readonly clock?: Clock;
  /** Where media time 0 lies; now by default. Scenes with one origin count alike. */
  readonly origin?: SceneOrigin;
}

/** A moment on both clocks. */
export interface SceneOrigin {
  readonly monotonicMs: number;
  readonly wallMs: number;
}

/** One coded picture, as it leaves the camera. */
export interface SceneVideoUnit {
  readonly kind: "video";
  /** The mark's SEI and the slices, without start codes. */
  readonly nals: readonly Uint8Array[];
  /** Belong in front of `nals` where they travel in band; empty but at key pictures. */
  readonly parameterSets: readonly Uint8Array[];
  readonly isKey: boolean;
  readonly ptsUs: number;
  /** The same as `ptsUs`: there are no B-frames. */
  readonly dtsUs: number;
  /** From 1. */
  readonly counter: number;
  readonly takenAtMs: number;
}

/** One coded frame of sound. */
export interface SceneAudioUnit {
  readonly kind: "audio";
  /** A raw AAC frame (see {@linkcode adtsFrame}), an Opus packet, or 20 ms of G.711. */
  readonly data: Uint8Array;
  /** Of its first sample. */
  readonly ptsUs: number;
  /** From 1. */
  readonly counter: number;
  readonly takenAtMs: number;
}

/** What a viewer sees. */
export type SceneUnit = SceneVideoUnit | SceneAudioUnit;

/** How a viewer watches. */
export interface PlayOptions {
  /** Ends it, quietly. */
  readonly signal: AbortSignal;
  /**
   * Where it begins: with the last key picture, at once (default); with the next one; or in the
   * middle of a GOP, as cameras do that broadcast.
   */
  readonly from?: "last-key" | "next-key" | "now";
  /** Without sound, though the scene has it. */
  readonly mute?: boolean;
}

/** A live scene. It costs nothing while nobody watches. */
export interface CodedScene {
  readonly name: string;
  readonly video: VideoLoop;
  readonly audio: AudioLoop | undefined;
  readonly origin: SceneOrigin;
  /** Picture `index`, from 0, whenever it is due. */
  picture(index: number): SceneVideoUnit;
  /** Sound frame `index`, from 0. @throws if the scene has no sound */
  sound(index: number): SceneAudioUnit;
  /** How many pictures were taken until now. */
  picturesTaken(): number;
  /** The units from now on, each when it is due; a viewer that is slow gets them late, never fewer. */
  play(options: PlayOptions): AsyncIterable<SceneUnit>;
}

/** Encodes the loop, where needed, and starts the scene. @throws if it cannot be encoded */
export async function createCodedScene(options: CodedSceneOptions): Promise<CodedScene> {
  const { name, pictureName = name, audio, clock = systemClock } = options;
  const [video, sound] = await Promise.all([
    videoLoop({ ...options, name: pictureName }, options),
    audio ? audioLoop({ ...audio, name: pictureName }, options) : undefined,
  ]);
  const origin = options.origin ?? { monotonicMs: clock.monotonic(), wallMs: clock.now() };
  return new LiveScene(name, { video, audio: sound, origin, clock });
}

class LiveScene implements CodedScene {
  readonly name: string;
  readonly video: VideoLoop;
  readonly audio: AudioLoop | undefined;
  readonly origin: SceneOrigin;
  readonly #clock: Clock;

  constructor(
    name: string,
    parts: Pick<CodedScene, "video" | "audio" | "origin"> & { readonly clock: Clock },
  ) {
    this.name = name;
    this.video = parts.video;
    this.audio = parts.audio;
    this.origin = parts.origin;
    this.#clock = parts.clock;
  }

  picture(index: number): SceneVideoUnit {
    const { pictures, parameterSets, codec, fps } = this.video;
    const picture = pictures[index % pictures.length];
    if (!picture) throw new RangeError(`there is no picture ${index}`);
    const ptsUs = Math.round(index * 1e6 / fps);
    const counter = index + 1;
    const takenAtMs = this.#wallMs(ptsUs);
    return {
      kind: "video",
      nals: [markNal({ counter, takenAtMs, camera: this.name }, codec), ...picture.nals],
      parameterSets: picture.isKey ? parameterSets : [],
      isKey: picture.isKey,
      ptsUs,
      dtsUs: ptsUs,
      counter,
      takenAtMs,
    };
  }

  sound(index: number): SceneAudioUnit {
    if (!this.audio) throw new Error(`the scene ${JSON.stringify(this.name)} has no sound`);
    const { frames, codec, samplesPerFrame, sampleRateHz } = this.audio;
    const frame = frames[index % frames.length];
    if (!frame) throw new RangeError(`there is no sound frame ${index}`);
    const ptsUs = Math.round(index * samplesPerFrame * 1e6 / sampleRateHz);
    const mark = { counter: index + 1, takenAtMs: this.#wallMs(ptsUs) };
    const data = codec === "aac"
      ? markAac(frame, mark)
      : codec === "opus"
      ? markOpus(frame, mark)
      : frame;
    return { kind: "audio", data, ptsUs, ...mark };
  }

  picturesTaken(): number {
    return Math.floor(this.#elapsedMs() * this.video.fps / 1000) + 1;
  }

  async *play(options: PlayOptions): AsyncGenerator<SceneUnit> {
    const { signal, from = "last-key", mute = false } = options;
    const { gopPictures, fps } = this.video;
    const now = this.picturesTaken() - 1;
    const lastKey = now - now % gopPictures;
    let picture = from === "now"
      ? now
      : from === "last-key" || lastKey === now
      ? lastKey
      : lastKey + gopPictures;
    const soundMs = this.audio && !mute
      ? this.audio.samplesPerFrame * 1000 / this.audio.sampleRateHz
      : Infinity;
    let sound = Math.ceil(picture * 1000 / fps / soundMs);
    while (!signal.aborted) {
      const pictureAtMs = picture * 1000 / fps;
      // A frame of sound is there when its last sample is.
      const soundAtMs = soundMs === Infinity ? Infinity : (sound + 1) * soundMs;
      const waitMs = Math.min(pictureAtMs, soundAtMs) - this.#elapsedMs();
      if (waitMs > 0) {
        try {
          await this.#clock.sleep(waitMs, { signal });
        } catch (error) {
          if (signal.aborted) return;
          throw error;
        }
      }
      yield pictureAtMs <= soundAtMs ? this.picture(picture++) : this.sound(sound++);
    }
  }

  #elapsedMs(): number {
    return this.#clock.monotonic() - this.origin.monotonicMs;
  }

  #wallMs(ptsUs: number): number {
    return Math.round(this.origin.wallMs + ptsUs / 1000);
  }
}

/** A raw AAC-LC frame with an ADTS header (ISO/IEC 13818-7 §6.2) of 7 bytes, without CRC. */
export function adtsFrame(
  frame: Uint8Array,
  audio: Pick<AudioLoop, "sampleRateHz" | "channels">,
): Uint8Array {
  const rates = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000];
  const rate = rates.indexOf(audio.sampleRateHz);
  if (rate < 0) throw new RangeError(`ADTS has no number for ${audio.sampleRateHz} Hz here`);
  const length = frame.length + 7;
  const adts = new Uint8Array(length);
  adts.set([
    ...[0xff, 0xf1, 1 << 6 | rate << 2 | audio.channels >> 2],
    ...[(audio.channels & 3) << 6 | length >> 11, length >> 3 & 0xff, (length & 7) << 5 | 0x1f],
    0xfc,
  ]);
  adts.set(frame, 7);
  return adts;
}
