/**
 * What both muxing competitors written in TypeScript share: the same recording, 1080p H.264 as
 * Annex B at 30 pictures a second beside AAC with ADTS headers at 48 kHz, read from two files in
 * blocks and given out as access units, a second at a time. They lie in a window that is filled again
 * from its start, so a unit's bytes live for some seconds.
 *
 * @module
 */
import { makeAudioSpecificConfig, parseAdts } from "../core/media/aac.ts";
import { takeAccessUnits } from "../core/media/annexb.ts";
import { h264NalType, makeAvcConfig, parseH264Sps } from "../core/media/h264.ts";
import type { AccessUnit, Track } from "../core/types.ts";

/** So much is read at once: it is still in the processor's cache when it is searched and written. */
const BLOCK_BYTES = 128 << 10;
/** Four seconds of pictures and more: a GOP of two and what comes beside it stay where they are. */
const WINDOW_BYTES = 2 << 20;
const PICTURE_US = 1_000_000 / 30;
const FRAME_US = (1024 * 1_000_000) / 48_000;

/** A window over a file that is moved on as its start is used up. */
class Window {
  readonly #file: Deno.FsFile;
  readonly #bytes = new Uint8Array(WINDOW_BYTES);
  #from = 0;
  #end = 0;
  done = false;

  constructor(file: Deno.FsFile) {
    this.#file = file;
  }

  /** What of the last window is used up. */
  consume(bytes: number): void {
    this.#from += bytes;
  }

  /** The rest of the last window and what follows. The oldest bytes are overwritten. */
  next(): Uint8Array {
    if (this.#end + BLOCK_BYTES > this.#bytes.length) {
      this.#bytes.copyWithin(0, this.#from, this.#end);
      this.#end -= this.#from;
      this.#from = 0;
    }
    const read = this.#file.readSync(this.#bytes.subarray(this.#end, this.#end + BLOCK_BYTES)) ?? 0;
    this.done = read === 0;
    this.#end += read;
    return this.#bytes.subarray(this.#from, this.#end);
  }
}

/** Reads both files to their ends. `onSecond` gets each second's units. */
export async function readStream(
  files: { readonly video: Deno.FsFile; readonly audio: Deno.FsFile },
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
        audio.consume(soundAt);
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
    video.consume(taken.consumedBytes);
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
