/**
 * One camera's sound in ffmpeg.wasm: a worker of its own, whose one run lasts as long as the camera's
 * session and mostly waits for samples.
 *
 * @module
 */
import { programFile } from "../program.ts";
import { createPipeMemory, PipeWriter } from "./byte_pipe.ts";
import type { SoundLane, SoundLaneOptions } from "./engine.ts";
import {
  INPUT_DEVICE,
  OUTPUT_DEVICE,
  type SoundJob,
  type WorkerReport,
  type WorkerSetup,
} from "./ffmpeg_wasm_protocol.ts";
import { soundArguments } from "./sound.ts";

/** Some seconds of a telephone's sound. */
const PIPE_BYTES = 64 * 1024;

/** Starts a worker. */
export function openWasmSound(
  { module, coreUrl, ...options }: SoundLaneOptions & {
    readonly module: WebAssembly.Module;
    readonly coreUrl: string | undefined;
  },
): SoundLane {
  const worker = new Worker(programFile("core/encode/ffmpeg_wasm_worker.ts"), { type: "module" });
  const memory = createPipeMemory(PIPE_BYTES);
  const pipe = new PipeWriter(memory);
  const outbox: Uint8Array[] = [];
  let isEnded = false;
  let isOver = false;

  const over = (error?: Error) => {
    if (isOver) return;
    isOver = true;
    outbox.length = 0;
    pipe.end(); // a thread that waits for bytes is not ended before it wakes
    worker.terminate();
    options.onEnd(error);
  };
  const feed = () => {
    for (let next = outbox[0]; next && !isOver; next = outbox[0]) {
      const taken = pipe.write(next);
      if (taken < next.length) {
        outbox[0] = next.subarray(taken);
        return;
      }
      outbox.shift();
    }
    if (isEnded) pipe.end();
  };

  worker.onmessage = ({ data: report }: MessageEvent<WorkerReport>) => {
    if (isOver) return;
    if (report.kind === "room") feed();
    else if (report.kind === "bytes") options.onBytes(report.bytes);
    else if (report.kind === "failed") over(new Error(report.message));
    else if (report.kind === "done") {
      over(isEnded ? undefined : new Error("ffmpeg.wasm ended before the sound did"));
    }
  };
  worker.onerror = (event) => {
    event.preventDefault();
    over(new Error(`the worker of ffmpeg.wasm crashed: ${event.message}`));
  };
  const setup: WorkerSetup = { kind: "setup", module, ...(coreUrl ? { coreUrl } : {}) };
  worker.postMessage(setup);
  const args = soundArguments({ ...options, input: INPUT_DEVICE, output: OUTPUT_DEVICE });
  const job: SoundJob = { kind: "sound", args, pipe: memory };
  worker.postMessage(job);

  return {
    write(samples) {
      if (isOver || isEnded) return;
      outbox.push(samples);
      feed();
    },
    end() {
      isEnded = true;
      feed();
    },
    kill() {
      over();
      return Promise.resolve();
    },
  };
}
