/**
 * The same job as `mux_ours.ts` with mediabunny, which writes its fragments to a file as they come. It
 * does not cut a byte stream into pictures: our reader does that for it in both modes. With `annexb` it
 * gets them with start codes and parameter sets, as they stood in the stream, and turns them over
 * itself; with `lengths` our reader has done that too, and only the muxing differs.
 *
 *     deno run --allow-all bench/mux_mediabunny.ts VIDEO AUDIO FOLDER annexb|lengths
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
import { joinAnnexB } from "../core/media/annexb.ts";
import { parameterSets } from "../core/media/mp4_movie.ts";
import type { AccessUnit, Track } from "../core/types.ts";
import { readStream } from "./mux_stream.ts";

const CLIP_US = 60_000_000;
const [videoPath = "", audioPath = "", folder = "", mode = ""] = Deno.args;
const annexB = mode === "annexb";
/** Parameter sets with start codes, for key pictures. */
let parameters: Uint8Array = new Uint8Array();
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
          ...(annexB ? {} : { description: track.config.slice() }),
        },
      }
      : undefined;
    clip.firstPictures = false;
    await clip.video.add(
      new EncodedPacket(
        annexB ? withStartCodes(unit) : unit.data,
        unit.isKey ? "key" : "delta",
        seconds,
        1 / 30,
      ),
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

/** Puts the start codes back where our reader has put lengths. */
function withStartCodes({ data, isKey }: AccessUnit): Uint8Array {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at < data.length;) {
    const length = view.getUint32(at);
    view.setUint32(at, 1);
    at += 4 + length;
  }
  if (!isKey) return data;
  const out = new Uint8Array(parameters.length + data.length);
  out.set(parameters);
  out.set(data, parameters.length);
  return out;
}

let clip: Clip | undefined;
await readStream({ video: Deno.openSync(videoPath), audio: Deno.openSync(audioPath) }, {
  onTracks: (found) => {
    tracks = found;
    const [video] = found;
    if (video?.kind === "video") parameters = joinAnnexB(parameterSets(video));
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
