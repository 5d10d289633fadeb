/**
 * The clip writer as a whole program: Annex B and ADTS in, hybrid MP4 clips of a minute out, one
 * fragment a second, each finished into an ordinary MP4. Prints the bytes written and those of the
 * clips.
 *
 *     deno run --allow-all bench/mux_ours.ts VIDEO AUDIO FOLDER
 *
 * @module
 */
import { createMp4Writer, type Mp4Writer } from "../core/media/mp4_writer.ts";
import type { Track } from "../core/types.ts";
import { readStream } from "./mux_stream.ts";

const CLIP_US = 60_000_000;
const [videoPath = "", audioPath = "", folder = ""] = Deno.args;
let tracks: readonly Track[] = [];
let writer: Mp4Writer | undefined;
let output: Deno.FsFile | undefined;
let clips = 0;
let clipEndUs = 0;
let writtenBytes = 0;
let clipBytes = 0;

function write(pieces: readonly Uint8Array[]): void {
  for (const piece of pieces) {
    for (let done = 0; done < piece.length;) done += output?.writeSync(piece.subarray(done)) ?? 0;
    writtenBytes += piece.length;
  }
}

function finish(): void {
  if (!writer) return;
  const { tail, patch } = writer.finish();
  write(tail);
  output?.seekSync(patch.offset, Deno.SeekMode.Start);
  write([patch.bytes]);
  clipBytes += writer.bytes + tail.reduce((sum, piece) => sum + piece.length, 0);
  output?.close();
}

await readStream({ video: Deno.openSync(videoPath), audio: Deno.openSync(audioPath) }, {
  onTracks: (found) => tracks = found,
  onSecond: (units) => {
    const first = units[0];
    if (!first) return;
    if (!writer || (first.isKey && first.dtsUs >= clipEndUs)) {
      finish();
      output = Deno.openSync(`${folder}/${String(++clips).padStart(3, "0")}.mp4`, {
        ...{ write: true, create: true, truncate: true },
      });
      writer = createMp4Writer({
        tracks,
        startedAt: new Date(first.capturedAtMs),
        camera: "bench",
        product: "camsink",
      });
      write([writer.header()]);
      clipEndUs = first.dtsUs + CLIP_US;
    }
    write(writer.fragment(units));
  },
});
finish();
console.log(JSON.stringify({ writtenBytes, clipBytes, clips }));
