/**
 * A real decoder and encoder for tests: the ffmpeg of the machine, or where there is none
 * ffmpeg.wasm in this process, so that tests of pictures and clips need nothing installed.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { findProgram } from "./programs.ts";

/** The part of Emscripten's module that is used here. */
interface FfmpegCore {
  readonly FS: {
    writeFile(path: string, data: Uint8Array): void;
    readFile(path: string): Uint8Array;
  };
  setLogger(logger: (entry: { readonly message: string }) => void): void;
  exec(...args: readonly string[]): number;
}

/** What one run of ffmpeg gave. */
export interface FfmpegRun {
  readonly outputs: Readonly<Record<string, Uint8Array>>;
  /** What it said on stderr. */
  readonly log: string;
}

/**
 * Runs ffmpeg over named files.
 *
 * @param options.args command line after `ffmpeg`, with the names of `inputs` and `outputs` in it
 * @param options.engine `system` or `wasm`; the default is what there is
 * @throws if ffmpeg fails, with what it said
 */
export async function runFfmpeg(
  options: {
    readonly args: readonly string[];
    readonly inputs: Readonly<Record<string, Uint8Array>>;
    readonly outputs?: readonly string[];
    readonly engine?: "system" | "wasm";
  },
): Promise<FfmpegRun> {
  const { inputs, outputs = [] } = options;
  const args = ["-hide_banner", "-nostdin", "-y", ...options.args];
  const program = findProgram("ffmpeg");
  if (options.engine === "wasm" || program === undefined) {
    const core = await loadCore();
    const lines: string[] = [];
    core.setLogger(({ message }) => lines.push(message));
    for (const [name, data] of Object.entries(inputs)) core.FS.writeFile(name, data);
    const code = core.exec(...args);
    assert.equal(code, 0, `ffmpeg.wasm ${args.join(" ")} failed:\n${lines.join("\n")}`);
    return {
      outputs: Object.fromEntries(outputs.map((name) => [name, core.FS.readFile(name)])),
      log: lines.join("\n"),
    };
  }
  const folder = await Deno.makeTempDir({ prefix: "camsink-ffmpeg-" });
  try {
    for (const [name, data] of Object.entries(inputs)) {
      await Deno.writeFile(join(folder, name), data);
    }
    const run = await new Deno.Command(program, { args, cwd: folder, stdin: "null" }).output();
    const log = new TextDecoder().decode(run.stderr);
    assert.equal(run.code, 0, `ffmpeg ${args.join(" ")} failed:\n${log}`);
    const read: Record<string, Uint8Array> = {};
    for (const name of outputs) read[name] = await Deno.readFile(join(folder, name));
    return { outputs: read, log };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Decodes every frame of a picture or a clip to its luma plane. */
export async function decodeLuma(
  file: Uint8Array,
  options: {
    /** Ending that tells ffmpeg what it is: `jpg`, `mp4`, `h264` … */
    readonly format: string;
    readonly widthPx: number;
    readonly heightPx: number;
    readonly engine?: "system" | "wasm";
  },
): Promise<Uint8Array[]> {
  const input = `in.${options.format}`;
  const { outputs } = await runFfmpeg({
    args: [
      "-i",
      input,
      "-fps_mode",
      "passthrough",
      "-f",
      "rawvideo",
      "-pix_fmt",
      "gray",
      "out.raw",
    ],
    inputs: { [input]: file },
    outputs: ["out.raw"],
    engine: options.engine,
  });
  const raw = outputs["out.raw"] ?? new Uint8Array();
  const frameBytes = options.widthPx * options.heightPx;
  assert.equal(raw.length % frameBytes, 0, `${input} is not ${options.widthPx} px wide`);
  return Array.from(
    { length: raw.length / frameBytes },
    (_, index) => raw.subarray(index * frameBytes, (index + 1) * frameBytes),
  );
}

async function loadCore(): Promise<FfmpegCore> {
  // Emscripten's glue looks at `location`, which the main thread of Deno does not have.
  if (!("location" in globalThis) || globalThis.location === undefined) {
    Object.defineProperty(globalThis, "location", {
      value: new URL("file:///"),
      configurable: true,
    });
  }
  const { default: create } = await import("@ffmpeg/core");
  return await (create as (options: object) => Promise<FfmpegCore>)({});
}
