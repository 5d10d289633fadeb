/**
 * The clip writer as a whole program: Annex B and ADTS in, hybrid MP4 clips of a minute out, one
 * fragment a second, each finished into an ordinary MP4. Prints the bytes written and those of the
 * clips.
 *
 *     deno run --allow-all bench/mux_ours.ts VIDEO AUDIO FOLDER
 *
 * @module
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { createMp4Writer, type Mp4Writer } from "../core/media/mp4_writer.ts";
import type { Track } from "../core/types.ts";
import { readStream } from "./mux_stream.ts";

const CLIP_US = 60_000_000;
const [videoPath = "", audioPath = "", folder = ""] = Deno.args;
let tracks: readonly Track[] = [];
let writer: Mp4Writer | undefined;
let output = -1;
let clips = 0;
let clipEndUs = 0;
let writtenBytes = 0;
let clipBytes = 0;

function write(pieces: readonly Uint8Array[], position: number | null = null): void {
  for (const piece of pieces) writtenBytes += writeSync(output, piece, 0, piece.length, position);
}

function finish(): void {
  if (!writer) return;
  const { tail, patch } = writer.finish();
  write(tail);
  write([patch.bytes], patch.offset);
  clipBytes += writer.bytes + tail.reduce((sum, piece) => sum + piece.length, 0);
  closeSync(output);
}

await readStream({ video: openSync(videoPath, "r"), audio: openSync(audioPath, "r") }, {
  onTracks: (found) => tracks = found,
  onSecond: (units) => {
    const first = units[0];
    if (!first) return;
    if (!writer || (first.isKey && first.dtsUs >= clipEndUs)) {
      finish();
      output = openSync(`${folder}/${String(++clips).padStart(3, "0")}.mp4`, "w");
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
