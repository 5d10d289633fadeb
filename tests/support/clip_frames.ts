/**
 * What is really in a clip: every picture decoded, and the strip in it read. Decodes with the
 * system's ffmpeg where there is one, else with ffmpeg.wasm in this process.
 *
 * @module
 */
import { ALL_FORMATS, BufferSource, EncodedPacketSink, Input } from "mediabunny";
import { readStrip, type Strip, stripSize } from "../../simulators/scene/strip.ts";

/** One decoded picture. */
export interface ClipFrame {
  /** Presentation time in the clip, ms. */
  readonly ptsMs: number;
  /** Absent where the strip cannot be read. */
  readonly strip?: Strip;
}

/** A clip, taken apart. */
export interface ClipContent {
  readonly widthPx: number;
  readonly heightPx: number;
  readonly durationMs: number;
  readonly frames: readonly ClipFrame[];
}

/** Decodes a whole clip. @throws if a decoder finds anything wrong with it */
export async function readClip(bytes: Uint8Array): Promise<ClipContent> {
  const input = new Input({
    source: new BufferSource(bytes as Uint8Array<ArrayBuffer>),
    formats: ALL_FORMATS,
  });
  const track = await input.getPrimaryVideoTrack();
  if (!track) throw new Error("the clip has no video track");
  const timesMs: number[] = [];
  let endMs = 0;
  for await (const packet of new EncodedPacketSink(track).packets()) {
    timesMs.push(packet.timestamp * 1000);
    endMs = Math.max(endMs, (packet.timestamp + packet.duration) * 1000);
  }
  timesMs.sort((a, b) => a - b);
  const widthPx = track.codedWidth;
  const heightPx = track.codedHeight;
  // Only the strip's area is asked of the decoder.
  const area = stripSize(widthPx);
  const luma = await decodeLuma(bytes, area);
  const pictureBytes = area.widthPx * area.heightPx;
  if (luma.length !== pictureBytes * timesMs.length) {
    throw new Error(
      `the decoder gave ${luma.length / pictureBytes} pictures, the clip lists ${timesMs.length}`,
    );
  }
  const frames = timesMs.map((ptsMs, index) => {
    const picture = luma.subarray(index * pictureBytes, (index + 1) * pictureBytes);
    const strip = readStrip(picture, area.widthPx);
    return strip ? { ptsMs, strip } : { ptsMs };
  });
  return { widthPx, heightPx, durationMs: endMs, frames };
}

interface Area {
  readonly widthPx: number;
  readonly heightPx: number;
}

const decodeArguments = (input: string, area: Area, output: string) => [
  ...["-v", "error", "-xerror", "-i", input, "-map", "0:v:0"],
  // Times as fine as the clip's: ffmpeg would round them to a frame rate that it guesses.
  ...["-vsync", "passthrough", "-enc_time_base", "1:1000000"],
  ...["-vf", `crop=${area.widthPx}:${area.heightPx}:0:0,format=gray`],
  ...["-f", "rawvideo", output],
];

async function decodeLuma(bytes: Uint8Array, area: Area): Promise<Uint8Array> {
  const path = await Deno.makeTempFile({ suffix: ".mp4" });
  try {
    await Deno.writeFile(path, bytes);
    const { success, stdout, stderr } = await new Deno.Command("ffmpeg", {
      args: ["-nostdin", ...decodeArguments(path, area, "pipe:1")],
      stdin: "null",
    }).output();
    const said = new TextDecoder().decode(stderr);
    if (!success || said !== "") throw new Error(`ffmpeg cannot decode the clip: ${said}`);
    return stdout;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return await decodeLumaInProcess(bytes, area);
    throw error;
  } finally {
    await Deno.remove(path);
  }
}

function decodeLumaInProcess(bytes: Uint8Array, area: Area): Promise<Uint8Array> {
  const worker = new Worker(import.meta.resolve("./decode_worker.ts"), { type: "module" });
  return new Promise<Uint8Array>((resolve, reject) => {
    worker.onmessage = ({ data }) =>
      data.error === undefined ? resolve(data.output) : reject(new Error(data.error));
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage({ bytes, args: decodeArguments("in.mp4", area, "out.raw") });
  }).finally(() => worker.terminate());
}
