/**
 * Key pictures in ffmpeg.wasm: one worker that all cameras share, in which each picture is a run of its
 * own. A camera's worker would hold some fifty megabytes and a thread, to decode a tenth of a second of
 * every two; and a run that ends gives back its picture at once, whatever the coding.
 *
 * A picture that crashes the worker, or is never done, costs itself: the worker is replaced, and the
 * others' pictures go to the next one.
 *
 * @module
 */
import { programFile } from "../program.ts";
import type { PictureLane, PictureLaneOptions } from "./engine.ts";
import {
  INPUT_DEVICE,
  OUTPUT_DEVICE,
  type PictureJob,
  type WorkerReport,
  type WorkerSetup,
} from "./ffmpeg_wasm_protocol.ts";
import { graySize, pictureArguments } from "./key_pictures.ts";
import { matroskaHeader, matroskaPicture } from "./matroska.ts";
import { PICTURE_MS } from "./x264.ts";

/** A picture that waits for the worker, or is in it. */
interface Task {
  readonly job: PictureJob;
  readonly picture: Uint8Array;
  filledBytes: number;
  onPicture(pixels: Uint8Array): void;
  onFailed(error: Error): void;
}

/** Decodes the key pictures of all cameras. */
export class WasmPictures {
  readonly #module: WebAssembly.Module;
  readonly #coreUrl: string | undefined;
  readonly #waiting: Task[] = [];
  #worker: Worker | undefined;
  #task: Task | undefined;
  #isClosed = false;

  /** `coreUrl` is that of the glue script, where the import map does not know it. */
  constructor(module: WebAssembly.Module, coreUrl: string | undefined) {
    this.#module = module;
    this.#coreUrl = coreUrl;
  }

  /** A camera's place. Nothing is started before its first picture. */
  open({ track, onPicture, onEnd }: PictureLaneOptions): PictureLane {
    const { widthPx, heightPx } = graySize(track);
    const header = matroskaHeader({ ...track, pictureMs: PICTURE_MS });
    const args = pictureArguments({
      ...{ track, input: INPUT_DEVICE, output: OUTPUT_DEVICE },
      passthrough: ["-fps_mode", "passthrough"],
    });
    let task: Task | undefined;
    let isOver = false;
    return {
      decode: (data) => {
        if (isOver) return;
        const picture = matroskaPicture(0, data);
        const input = new Uint8Array(header.length + picture.length);
        input.set(header);
        input.set(picture, header.length);
        task = {
          ...{ job: { kind: "picture", args, input }, filledBytes: 0, onPicture },
          picture: new Uint8Array(widthPx * heightPx),
          onFailed(error) {
            if (isOver) return;
            isOver = true;
            onEnd(error);
          },
        };
        if (this.#isClosed) return task.onFailed(new Error("ffmpeg.wasm was closed"));
        this.#waiting.push(task);
        this.#next();
      },
      kill: () => {
        isOver = true;
        if (task !== undefined) this.#withdraw(task);
        return Promise.resolve();
      },
    };
  }

  /** Ends all that is under way. */
  close(): void {
    this.#isClosed = true;
    for (const task of this.#waiting.splice(0)) task.onFailed(new Error("ffmpeg.wasm was closed"));
    this.#fail(new Error("ffmpeg.wasm was closed"));
  }

  #withdraw(task: Task): void {
    const position = this.#waiting.indexOf(task);
    if (position >= 0) this.#waiting.splice(position, 1);
    // Nobody waits for it any more, and it may never be done.
    if (this.#task === task) this.#fail(new Error("it was given up"));
  }

  #next(): void {
    if (this.#task !== undefined) return;
    const task = this.#waiting.shift();
    if (task === undefined) return;
    this.#task = task;
    this.#worker ??= this.#start();
    this.#worker.postMessage(task.job, [task.job.input.buffer]);
  }

  #start(): Worker {
    const worker = new Worker(programFile("core/encode/ffmpeg_wasm_worker.ts"), { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<WorkerReport>) => {
      if (this.#worker === worker) this.#hear(data);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      if (this.#worker !== worker) return;
      this.#fail(new Error(`the worker of ffmpeg.wasm crashed: ${event.message}`));
    };
    const setup: WorkerSetup = {
      ...{ kind: "setup", module: this.#module },
      ...(this.#coreUrl ? { coreUrl: this.#coreUrl } : {}),
    };
    worker.postMessage(setup);
    return worker;
  }

  #hear(report: WorkerReport): void {
    const task = this.#task;
    if (report.kind === "bytes" && task) {
      const part = report.bytes.subarray(0, task.picture.length - task.filledBytes);
      task.picture.set(part, task.filledBytes);
      task.filledBytes += part.length;
    } else if (report.kind === "failed") {
      // The worker goes on with an instance of its own making.
      this.#task = undefined;
      task?.onFailed(new Error(report.message));
      this.#next();
    } else if (report.kind === "done") {
      this.#task = undefined;
      if (task && task.filledBytes === task.picture.length) task.onPicture(task.picture);
      else task?.onFailed(new Error("ffmpeg.wasm gave no picture"));
      this.#next();
    }
  }

  /** The worker is of no use any more; the next picture starts another. */
  #fail(error: Error): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    const task = this.#task;
    this.#task = undefined;
    task?.onFailed(error);
    this.#next();
  }
}
