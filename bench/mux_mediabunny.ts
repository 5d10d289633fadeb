/**
 * The same job as `mux_ours.ts` with mediabunny, as well as it can be had: it gets what our own reader
 * makes of the byte stream (length-prefixed units and the decoder's configuration), so that only the
 * muxing differs, and writes its fragments to a file as they come.
 *
 *     deno run --allow-all bench/mux_mediabunny.ts VIDEO AUDIO FOLDER
 *
 * @module
 */
import { openSync, writeSync } from "node:fs";
import {
  EncodedAudioPacketSource,
  EncodedPacket,
  EncodedVideoPacketSource,
  Mp4OutputFormat,
  Output,
  StreamTarget,
} from "mediabunny";
import type { AccessUnit, Track } from "../core/types.ts";
import { readStream } from "./mux_stream.ts";

const CLIP_US = 60_000_000;
const [videoPath = "", audioPath = "", folder = ""] = Deno.args;
let tracks: readonly Track[] = [];
let clips = 0;

interface Clip {
  readonly output: Output;
  readonly video: EncodedVideoPacketSource;
  readonly audio: EncodedAudioPacketSource;
  readonly startUs: number;
  firstPictures: boolean;
  firstSounds: boolean;
}

async function begin(startUs: number): Promise<Clip> {
  const file = openSync(`${folder}/${String(++clips).padStart(3, "0")}.mp4`, "w");
  const output = new Output({
    format: new Mp4OutputFormat({ fastStart: "fragmented" }),
    target: new StreamTarget(
      new WritableStream({
        write: ({ data, position }) => {
          writeSync(file, data, 0, data.length, position);
        },
      }),
    ),
  });
  const video = new EncodedVideoPacketSource("avc");
  const audio = new EncodedAudioPacketSource("aac");
  output.addVideoTrack(video, { frameRate: 30 });
  output.addAudioTrack(audio);
  await output.start();
  return { output, video, audio, startUs, firstPictures: true, firstSounds: true };
}

async function add(clip: Clip, unit: AccessUnit): Promise<void> {
  const seconds = (unit.ptsUs - clip.startUs) / 1e6;
  if (unit.trackId === 1) {
    const track = tracks[0];
    const meta = clip.firstPictures && track?.kind === "video"
      ? {
        decoderConfig: {
          codec: "avc1.640028",
          codedWidth: track.widthPx,
          codedHeight: track.heightPx,
          description: track.config.slice(),
        },
      }
      : undefined;
    clip.firstPictures = false;
    await clip.video.add(
      new EncodedPacket(unit.data, unit.isKey ? "key" : "delta", seconds, 1 / 30),
      meta,
    );
  } else {
    const track = tracks[1];
    const meta = clip.firstSounds && track?.kind === "audio"
      ? {
        decoderConfig: {
          codec: "mp4a.40.2",
          numberOfChannels: track.channels,
          sampleRate: track.sampleRateHz,
          description: track.config.slice(),
        },
      }
      : undefined;
    clip.firstSounds = false;
    await clip.audio.add(
      new EncodedPacket(unit.data, "key", Math.max(0, seconds), 1024 / 48_000),
      meta,
    );
  }
}

let clip: Clip | undefined;
await readStream({ video: openSync(videoPath, "r"), audio: openSync(audioPath, "r") }, {
  onTracks: (found) => {
    tracks = found;
  },
  onSecond: async (units) => {
    const first = units[0];
    if (!first) return;
    if (!clip || (first.isKey && first.dtsUs >= clip.startUs + CLIP_US)) {
      await clip?.output.finalize();
      clip = await begin(first.dtsUs);
    }
    for (const unit of units) await add(clip, unit);
  },
});
await clip?.output.finalize();
console.log(JSON.stringify({ clips }));
