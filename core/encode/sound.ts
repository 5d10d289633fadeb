/**
 * Sound that MP4 players do not take (G.711, raw samples) as AAC: a long-lived run of ffmpeg for each
 * camera, the installed one or ffmpeg.wasm, which is given the samples as they come and gives a frame
 * back for every 1024 of them.
 *
 * **Times** never go through ffmpeg. Frame n begins with sample 1024·n - 1024, because the encoder
 * begins with a frame of silence; which time that sample has is known from the packet it came in. So
 * the encoder's delay costs nothing, and a camera's clock that runs fast or slow is followed.
 *
 * A run that dies or hangs is replaced, after a pause in the camera's own time; what was in it is
 * lost. The pictures never wait for the sound.
 *
 * @module
 */
import { AAC_FRAME_SAMPLES, makeAudioSpecificConfig, parseAdts } from "../media/aac.ts";
import { MediaError } from "../media/media_error.ts";
import type { AccessUnit, AudioTrack, Clock, Log } from "../types.ts";
import type { SoundLane, SoundLaneOptions } from "./engine.ts";

/** Codes one camera's sound. */
export interface SoundEncoder extends AsyncDisposable {
  /** What comes out: AAC under the id of the track that goes in. */
  readonly track: AudioTrack;
  /** Takes a packet of samples. Never waits, never throws. */
  push(unit: AccessUnit): void;
  /** No more come: resolves when the rest is out, or soon. */
  end(): Promise<void>;
}

/** What a {@linkcode SoundEncoder} is made with. */
export interface SoundEncoderOptions {
  /** Its codec is `pcm`. */
  readonly track: AudioTrack;
  /** Takes each coded frame. */
  onUnit(unit: AccessUnit): void;
  readonly log: Log;
}

/** What AAC-LC has, that MP4 players take. */
const RATES_HZ = [8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];
/** The encoder's first frame holds nothing but its own start. */
const PRIMING_SAMPLES = 1024;
/** A run that owes more sound than this hangs, s. */
const HANGS_S = 10;
/** Packets that are missing are silence; less is a clock that was put right, µs. */
const GAP_US = 60_000;
/** A longer gap is a new beginning, µs. */
const MAX_GAP_US = 2_000_000;
/** The first pause after a run that died, in the camera's time, µs; it doubles up to the last. */
const PAUSE_US = { first: 1_000_000, last: 64_000_000 };
/** How long the end may take, ms. */
const END_MS = 400;
/** More than this without a frame's beginning is not believed. */
const MAX_REST_BYTES = 65_536;

/** ffmpeg's arguments for sound. */
export function soundArguments(
  { sampleRateHz, channels, input, output }: Pick<SoundLaneOptions, "sampleRateHz" | "channels"> & {
    readonly input: string;
    readonly output: string;
  },
): string[] {
  return [
    // Not `-fflags nobuffer`: what is read while the input is looked at would be lost, 40 ms.
    ...["-hide_banner", "-loglevel", "error", "-nostdin", "-nofind_stream_info"],
    ...["-probesize", "32", "-analyzeduration", "0"],
    ...["-f", "s16le", "-ar", String(sampleRateHz), "-ac", String(channels), "-i", input],
    ...["-c:a", "aac", "-b:a", String(Math.min(64_000, 4 * sampleRateHz) * channels)],
    ...["-flush_packets", "1", "-f", "adts", output],
  ];
}

/** Why sound of this form cannot be coded; `undefined` if it can. */
export function soundProblem({ sampleRateHz, channels }: AudioTrack): string | undefined {
  if (!RATES_HZ.includes(sampleRateHz)) {
    return `it has ${sampleRateHz} samples a second; expected one of ${RATES_HZ.join(", ")}`;
  }
  if (channels !== 1 && channels !== 2) return `it has ${channels} channels; expected 1 or 2`;
  return undefined;
}

/** A run of ffmpeg, and what is known of what is in it. */
interface Run {
  readonly lane: SoundLane;
  /** Samples given. */
  given: number;
  /** Frames that came out. */
  frames: number;
  /** Bytes of a frame that is not whole. */
  rest: Uint8Array;
  /** Nothing more is taken from it. */
  isSpoiled: boolean;
  /** Which time the samples have that were given: each is the beginning of a packet. */
  readonly anchors: { readonly sample: number; readonly unit: AccessUnit }[];
}

/** Makes an encoder; `openLane` starts a run. */
export function createSoundEncoder(
  { track, onUnit, log, openLane, clock }: SoundEncoderOptions & {
    readonly openLane: (options: SoundLaneOptions) => SoundLane;
    readonly clock: Clock;
  },
): SoundEncoder {
  const { sampleRateHz, channels } = track;
  const problem = soundProblem(track);
  if (problem !== undefined) throw new MediaError(problem);
  const sampleBytes = 2 * channels;
  const usOf = (samples: number) => samples * 1e6 / sampleRateHz;
  const coded: AudioTrack = {
    ...track,
    codec: "aac",
    config: makeAudioSpecificConfig({ objectType: 2, sampleRateHz, channels }),
  };
  let run: Run | undefined;
  let ended = false;
  let failures = 0;
  let resumeUs = -Infinity;
  let hasWarned = false;
  let lastUs = -Infinity;
  const over = Promise.withResolvers<void>();

  const onEnd = (own: Run | undefined, error: Error | undefined) => {
    if (run === own) run = undefined;
    if (ended) return over.resolve();
    if (own === undefined || error === undefined) return;
    failures = own.frames > 0 ? 1 : failures + 1;
    const lastGivenUs = own.anchors.at(-1)?.unit.ptsUs ?? 0;
    resumeUs = lastGivenUs + Math.min(PAUSE_US.last, PAUSE_US.first * 2 ** (failures - 1));
    const message = `its sound could not be coded: ${error.message}; trying again`;
    if (hasWarned) log.debug(message);
    else log.warn(message, { event: "sound-lost" });
    hasWarned = true;
  };

  const begin = (unit: AccessUnit): Run | undefined => {
    if (unit.ptsUs < resumeUs) return undefined;
    let own: Run | undefined;
    try {
      const lane = openLane({
        ...{ sampleRateHz, channels },
        onBytes: (bytes) => own !== undefined && !own.isSpoiled && take(own, bytes),
        onEnd: (error) => onEnd(own, error),
      });
      own = {
        ...{ lane, given: 0, frames: 0, rest: new Uint8Array() },
        ...{ anchors: [], isSpoiled: false },
      };
      return own;
    } catch (error) {
      resumeUs = Infinity;
      log.warn(`its sound is left out: ${error instanceof Error ? error.message : error}`, {
        event: "sound-lost",
      });
      return undefined;
    }
  };

  const take = (own: Run, bytes: Uint8Array) => {
    const data = own.rest.length === 0 ? bytes : join(own.rest, bytes);
    let at = 0;
    try {
      while (true) {
        const frame = parseAdts(data, at);
        if (frame === undefined || at + frame.frameBytes > data.length) break;
        give(own, data.slice(at + frame.headerBytes, at + frame.frameBytes));
        at += frame.frameBytes;
      }
      own.rest = data.slice(at);
      if (own.rest.length > MAX_REST_BYTES) throw new MediaError("a frame without an end");
    } catch (error) {
      if (!(error instanceof MediaError)) throw error;
      own.isSpoiled = true;
      own.lane.kill();
      onEnd(own, error);
    }
  };

  const give = (own: Run, data: Uint8Array) => {
    const sample = own.frames++ * AAC_FRAME_SAMPLES - PRIMING_SAMPLES;
    const { anchors } = own;
    while ((anchors[1]?.sample ?? Infinity) <= sample) anchors.shift();
    const anchor = anchors[0];
    if (anchor === undefined) return;
    const offsetUs = Math.round(usOf(sample - anchor.sample));
    const exactUs = anchor.unit.ptsUs + offsetUs;
    // Before a session's beginning, or what an ended run had left when the next one had begun.
    if (exactUs < Math.max(0, lastUs - GAP_US)) return;
    const ptsUs = Math.max(lastUs + 1, exactUs);
    lastUs = ptsUs;
    onUnit({
      ...{ trackId: track.id, data, ptsUs, dtsUs: ptsUs, isKey: true },
      capturedAtMs: anchor.unit.capturedAtMs + Math.round(offsetUs / 1000),
    });
  };

  const push = (unit: AccessUnit) => {
    if (ended) return;
    const last = run?.anchors.at(-1);
    if (run !== undefined && last !== undefined) {
      const gapUs = unit.ptsUs - last.unit.ptsUs - usOf(run.given - last.sample);
      if (gapUs > MAX_GAP_US) {
        // What is in it comes out by itself; the next run begins with this packet.
        run.lane.end();
        run = undefined;
      } else if (gapUs > GAP_US) {
        const missing = Math.round(gapUs * sampleRateHz / 1e6);
        run.lane.write(new Uint8Array(missing * sampleBytes));
        run.given += missing;
      }
    }
    run ??= begin(unit);
    if (run === undefined) return;
    const whole = unit.data.length - unit.data.length % sampleBytes;
    run.anchors.push({ sample: run.given, unit: { ...unit, data: NO_BYTES } });
    run.given += whole / sampleBytes;
    run.lane.write(unit.data.subarray(0, whole));
    if (run.given - run.frames * AAC_FRAME_SAMPLES > HANGS_S * sampleRateHz) {
      const hanging = run;
      hanging.lane.kill();
      onEnd(hanging, new Error(`ffmpeg coded nothing of the last ${HANGS_S} s`));
    }
  };

  return {
    track: coded,
    push(unit) {
      push(unit);
      unit.release?.(); // it was copied on its way
    },
    async end() {
      ended = true;
      if (run === undefined) return;
      run.lane.end();
      const timeout = new AbortController();
      await Promise.race([
        over.promise,
        clock.sleep(END_MS, { signal: timeout.signal }).catch(() => {}),
      ]);
      timeout.abort();
    },
    async [Symbol.asyncDispose]() {
      ended = true;
      const last = run;
      run = undefined;
      over.resolve();
      await last?.lane.kill();
    },
  };
}

const NO_BYTES = new Uint8Array();

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
