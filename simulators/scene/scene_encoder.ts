/**
 * How the simulators encode: one run of ffmpeg over files in memory. The ffmpeg of the machine where
 * there is one, else ffmpeg.wasm in a worker, so that a live camera can be simulated with nothing
 * installed.
 *
 * @module
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { programFile } from "../../core/program.ts";

/** One run of ffmpeg. */
export interface SceneEncoding {
  /** What follows `ffmpeg`, with the names of the inputs and the output in it. */
  readonly args: readonly string[];
  /** Files by name. */
  readonly inputs: Readonly<Record<string, Uint8Array>>;
  /** Name of the file that it makes. */
  readonly output: string;
}

/** Runs ffmpeg and gives what it made. @throws if it fails, with what it said */
export type SceneEncoder = (encoding: SceneEncoding) => Promise<Uint8Array>;

/** What an encoder is called with besides: quiet, and never asking. */
const QUIET = ["-hide_banner", "-nostdin", "-v", "error", "-y"];

/** The ffmpeg on the PATH. @throws Deno.errors.NotFound where there is none */
export const encodeWithSystem: SceneEncoder = async ({ args, inputs, output }) => {
  const folder = await mkdtemp(join(tmpdir(), "camsink-scene-"));
  try {
    for (const [name, bytes] of Object.entries(inputs)) await writeFile(join(folder, name), bytes);
    const { code, stderr } = await new Deno.Command("ffmpeg", {
      args: [...QUIET, ...args],
      cwd: folder,
      stdin: "null",
      stdout: "null",
    }).output();
    if (code !== 0) throw new Error(failure("ffmpeg", code, new TextDecoder().decode(stderr)));
    return await readFile(join(folder, output));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

/** ffmpeg.wasm, in a worker for this one run. */
export const encodeWithWasm: SceneEncoder = async ({ args, inputs, output }) => {
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
      worker.postMessage({ args: [...QUIET, ...args], inputs, output });
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
