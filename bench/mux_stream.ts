/**
 * What both muxing competitors written in TypeScript share: the same recording, 1080p H.264 as
 * Annex B at 30 pictures a second beside AAC with ADTS headers at 48 kHz, read from two files in
 * blocks and given out as access units, a second at a time. The two blocks of a file are used in turn,
 * so a unit's bytes live until the next but one is read, some seconds later.
 *
 * @module
 */
import { readSync } from "node:fs";
import { makeAudioSpecificConfig, parseAdts } from "../core/media/aac.ts";
import { takeAccessUnits } from "../core/media/annexb.ts";
import { h264NalType, makeAvcConfig, parseH264Sps } from "../core/media/h264.ts";
import type { AccessUnit, Track } from "../core/types.ts";

/** Two seconds of pictures and more, and small enough to stay in the processor's cache. */
const BLOCK_BYTES = 1 << 20;
const PICTURE_US = 1_000_000 / 30;
const FRAME_US = (1024 * 1_000_000) / 48_000;

/** A window over a file that is moved on as its start is used up. */
class Window {
  readonly #descriptor: number;
  readonly #buffers = [new Uint8Array(BLOCK_BYTES), new Uint8Array(BLOCK_BYTES)];
  #turn = 0;
  #end = 0;
  done = false;
  consumedBytes = 0;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /** The rest of the last block and what follows. What the block before the last held is overwritten. */
  next(): Uint8Array {
    const from = this.#buffers[this.#turn % 2] ?? new Uint8Array();
    const to = this.#buffers[++this.#turn % 2] ?? new Uint8Array();
    to.set(from.subarray(this.consumedBytes, this.#end));
    const rest = this.#end - this.consumedBytes;
    const read = readSync(this.#descriptor, to, rest, BLOCK_BYTES - rest, null);
    this.done = read === 0;
    this.#end = rest + read;
    this.consumedBytes = 0;
    return to.subarray(0, this.#end);
  }
}

/** Reads both files to their ends. `onSecond` gets each second's units. */
export async function readStream(
  files: { readonly video: number; readonly audio: number },
  handlers: {
    readonly onTracks: (tracks: readonly Track[]) => void;
    readonly onSecond: (units: AccessUnit[]) => void | Promise<void>;
  },
): Promise<void> {
  const video = new Window(files.video);
  const audio = new Window(files.audio);
  let tracks: readonly Track[] | undefined;
  let pictures = 0;
  let frames = 0;
  let sound: Uint8Array = new Uint8Array();
  let soundAt = 0;

  const takeSound = (untilUs: number, into: AccessUnit[]) => {
    while (frames * FRAME_US < untilUs) {
      let frame = parseAdts(sound, soundAt);
      if (!frame || soundAt + frame.frameBytes > sound.length) {
        audio.consumedBytes = soundAt;
        sound = audio.next();
        soundAt = 0;
        frame = parseAdts(sound);
        if (!frame || audio.done) return;
      }
      const us = Math.round(frames++ * FRAME_US);
      into.push({
        trackId: 2,
        data: sound.subarray(soundAt + frame.headerBytes, soundAt + frame.frameBytes),
        ptsUs: us,
        dtsUs: us,
        isKey: true,
        capturedAtMs: us / 1000,
      });
      soundAt += frame.frameBytes;
    }
  };

  let second: AccessUnit[] = [];
  const flush = async () => {
    takeSound(pictures * PICTURE_US, second);
    if (second.length > 0) await handlers.onSecond(second);
    second = [];
  };
  while (!video.done) {
    const window = video.next();
    const taken = takeAccessUnits(window, "h264", { last: video.done });
    video.consumedBytes = taken.consumedBytes;
    for (const unit of taken.units) {
      if (!tracks) {
        tracks = describe(unit.parameterSets);
        handlers.onTracks(tracks);
      }
      if (pictures % 30 === 0) await flush();
      const us = Math.round(pictures++ * PICTURE_US);
      second.push({
        trackId: 1,
        data: unit.data,
        ptsUs: us,
        dtsUs: us,
        isKey: unit.isKey,
        capturedAtMs: us / 1000,
      });
    }
  }
  await flush();
}

function describe(parameterSets: readonly Uint8Array[]): readonly Track[] {
  const sps = parameterSets.filter((nal) => h264NalType(nal[0] ?? 0) === 7);
  const pps = parameterSets.filter((nal) => h264NalType(nal[0] ?? 0) === 8);
  const { widthPx, heightPx } = parseH264Sps(sps[0] ?? new Uint8Array());
  return [
    {
      id: 1,
      kind: "video",
      codec: "h264",
      widthPx,
      heightPx,
      config: makeAvcConfig({ sps, pps }),
    },
    {
      id: 2,
      kind: "audio",
      codec: "aac",
      sampleRateHz: 48_000,
      channels: 1,
      config: makeAudioSpecificConfig({ objectType: 2, sampleRateHz: 48_000, channels: 1 }),
    },
  ];
}
