/**
 * How the simulators encode: one run of ffmpeg, from memory to memory, so that a simulator that is
 * killed leaves nothing behind. The ffmpeg of the machine where there is one, else ffmpeg.wasm in a
 * worker, so that a live camera can be simulated with nothing installed.
 *
 * @module
 */
import { programFile } from "../../core/program.ts";

/** One run of ffmpeg. */
export interface SceneEncoding {
  /** What the input is. */
  readonly inputArgs: readonly string[];
  readonly input: Uint8Array;
  /** How it is encoded, with the format: nothing is told by a file's name. */
  readonly outputArgs: readonly string[];
}

/** Runs ffmpeg and gives what it made. @throws if it fails, with what it said */
export type SceneEncoder = (encoding: SceneEncoding) => Promise<Uint8Array>;

/** What an encoder is called with besides: quiet, and never asking. */
const QUIET = ["-hide_banner", "-nostdin", "-v", "error", "-y"];

/** The command line that reads and writes these files. */
export function encodingArguments(
  { inputArgs, outputArgs }: SceneEncoding,
  files: { readonly input: string; readonly output: string },
): string[] {
  return [...QUIET, ...inputArgs, "-i", files.input, ...outputArgs, files.output];
}

/** The ffmpeg on the PATH. @throws Deno.errors.NotFound where there is none */
export const encodeWithSystem: SceneEncoder = async (encoding) => {
  const child = new Deno.Command("ffmpeg", {
    args: encodingArguments(encoding, { input: "pipe:0", output: "pipe:1" }),
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const [{ code, stdout, stderr }] = await Promise.all([
    child.output(),
    new Blob([encoding.input.slice()]).stream().pipeTo(child.stdin).catch(() => {}), // it says why
  ]);
  if (code !== 0) throw new Error(failure("ffmpeg", code, new TextDecoder().decode(stderr)));
  return stdout;
};

/** ffmpeg.wasm, in a worker for this one run. */
export const encodeWithWasm: SceneEncoder = async (encoding) => {
  const worker = new Worker(programFile("simulators/scene/scene_encoder_worker.ts"), {
    type: "module",
    name: "scene encoder",
  });
  try {
    return await new Promise<Uint8Array>((resolve, reject) => {
      worker.onmessage = ({ data }: MessageEvent<WorkerAnswer>) => {
        if (data.bytes) resolve(data.bytes);
        else reject(new Error(failure("ffmpeg.wasm", data.code, data.said)));
      };
      worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(`ffmpeg.wasm cannot be run: ${event.message}`));
      };
      worker.postMessage(encoding);
    });
  } finally {
    worker.terminate();
  }
};

/** What the worker answers: the file, or how it failed. */
export interface WorkerAnswer {
  readonly bytes?: Uint8Array;
  readonly code: number;
  readonly said: string;
}

/** One encoder after the other, until one can. @throws with what each of them said */
export function firstThatCan(...encoders: readonly SceneEncoder[]): SceneEncoder {
  return async (encoding) => {
    const said: string[] = [];
    for (const encode of encoders) {
      try {
        return await encode(encoding);
      } catch (error) {
        said.push(error instanceof Error ? error.message : String(error));
      }
    }
    throw new Error(said.join("; "));
  };
}

/** The ffmpeg of this machine; where there is none, or it lacks a codec, ffmpeg.wasm. */
export const encodeScene: SceneEncoder = firstThatCan(encodeWithSystem, encodeWithWasm);

function failure(program: string, code: number, said: string): string {
  return `${program} cannot encode the simulated scene (code ${code}): ${said.trim().slice(-500)}`;
}
