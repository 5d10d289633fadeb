/**
 * The in-process engine: ffmpeg.wasm (`@ffmpeg/core`) in a bounded set of workers that all cameras
 * share. A GOP is one job. As long as there are at least as many workers as cameras, a camera's GOP
 * gets a worker at its first picture and is encoded live; a worker that waits for a picture costs no
 * CPU. With more cameras than workers a GOP is gathered first and encoded in a burst, because a
 * worker must not be held by a camera that is only taking its time.
 *
 * The wasm is compiled once and the module shared by the workers. A worker that crashes, or whose run
 * never returns, costs its GOP and is replaced.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import type { Noise } from "../media/jpeg_planes.ts";
import { programFile, release } from "../program.ts";
import type { Clock } from "../types.ts";
import { createPipeMemory, PipeWriter } from "./byte_pipe.ts";
import type {
  Engine,
  Gop,
  GopOptions,
  GopResult,
  Lane,
  PictureLane,
  PictureLaneOptions,
  SoundLane,
  SoundLaneOptions,
} from "./engine.ts";
import {
  INPUT_DEVICE,
  OUTPUT_DEVICE,
  recordHeader,
  type WorkerJob,
  type WorkerReport,
  type WorkerSetup,
} from "./ffmpeg_wasm_protocol.ts";
import { WasmPictures } from "./ffmpeg_wasm_pictures.ts";
import { openWasmSound } from "./ffmpeg_wasm_sound.ts";
import { matroskaHeader, matroskaPicture } from "./matroska.ts";
import { ffmpegArguments, PICTURE_MS, timeOfPicture } from "./x264.ts";

/** What the wasm engine is made with. */
export interface WasmEngineOptions {
  /** How many workers there may be. */
  readonly workers: number;
  /** For so many cameras workers are started at once; default: for one. */
  readonly cameras?: number;
  readonly clock: Clock;
  /** Where `@ffmpeg/core` lies when it is not found through the import map (a bundled program). */
  readonly core?: { readonly scriptUrl: string; readonly wasmUrl: string };
}

/**
 * What may be inside a worker that is working: a few pictures, so that it never waits, and not
 * more, so that a slow one is noticed. Larger pictures go through in parts.
 */
const PIPE_BYTES = 512 * 1024;

/**
 * A worker that has something to do and yet neither reads nor says anything for so many looks in a row
 * hangs. Looks are counted, not time: a machine that slept or a program that was stopped for a while
 * has not been hanging. A picture of a slow machine's largest camera takes a second or two.
 */
const HUNG_LOOKS = 10;

/** Each holds a thread and some 30 MB. */
const MAX_SOUNDS = 8;

/** How long between two looks, ms. */
const LOOK_MS = 1000;

/** How long closing waits for workers to finish what they hold before it ends them, ms. */
const CLOSE_MS = 2000;

/**
 * Loads ffmpeg.wasm and starts the first workers.
 *
 * @throws Error that says what could not be loaded
 */
export async function openWasmEngine(options: WasmEngineOptions): Promise<Engine> {
  let module: WebAssembly.Module;
  try {
    module = await moduleOf(wasmPath(options.core?.wasmUrl));
  } catch (cause) {
    throw new Error(
      `cannot load ffmpeg.wasm: ${message(cause)}; expected the file ffmpeg-core.wasm of the npm ` +
        "package @ffmpeg/core and the right to read it",
      { cause },
    );
  }
  const pool = new WorkerPool(module, options);
  try {
    await pool.start();
  } catch (error) {
    await pool[Symbol.asyncDispose]();
    throw error;
  }
  return pool;
}

/** By path. Kept, since the code that is compiled better while it runs is kept with it. */
const modules = new Map<string, Promise<WebAssembly.Module>>();

function moduleOf(path: string): Promise<WebAssembly.Module> {
  let module = modules.get(path);
  if (!module) {
    module = readFile(path).then((bytes) => WebAssembly.compile(new Uint8Array(bytes)));
    module.catch(() => modules.delete(path)); // it may be there the next time
    modules.set(path, module);
  }
  return module;
}

/** Where the wasm lies on disk: in a release beside the bundle, else in Deno's cache of packages. */
function wasmPath(url: string | undefined): string {
  const resolved = url ??
    (release ? programFile("ffmpeg-core.wasm").href : import.meta.resolve("@ffmpeg/core/wasm"));
  if (resolved.startsWith("file:")) return fileURLToPath(resolved);
  return createRequire(import.meta.url).resolve("@ffmpeg/core/wasm");
}

/**
 * Never called: it names, for tools that follow the imports of the program, the package that only
 * the worker loads. Without it `deno install -g` leaves the package out.
 */
export const loadedByWorker = (): Promise<unknown> => import("@ffmpeg/core");

class WorkerPool implements Engine {
  readonly name = "wasm";
  readonly description = "ffmpeg.wasm 5.1.4 (@ffmpeg/core 0.12.10)";
  readonly #module: WebAssembly.Module;
  readonly #options: WasmEngineOptions;
  readonly #workers = new Set<WasmWorker>();
  readonly #lanes = new Set<WasmLane>();
  readonly #waiting: WasmGop[] = [];
  readonly #sounds = new Set<SoundLane>();
  readonly #pictures: WasmPictures;
  #closed = false;

  constructor(module: WebAssembly.Module, options: WasmEngineOptions) {
    this.#module = module;
    this.#options = options;
    this.#pictures = new WasmPictures(module, options.core?.scriptUrl);
  }

  /**
   * Proves that a worker can be had, and starts one for each camera that will need it: `new Worker` holds
   * this thread up for 15 ms, and for up to a second on a busy machine, when cameras are recorded already.
   */
  async start(): Promise<void> {
    await this.#addWorker().ready;
    const { workers, cameras = 1 } = this.#options;
    while (this.#workers.size < Math.min(workers, cameras)) this.#addWorker();
  }

  openLane(): Lane {
    const lane = new WasmLane(this);
    this.#lanes.add(lane);
    return lane;
  }

  openSound(options: SoundLaneOptions): SoundLane {
    if (this.#sounds.size >= MAX_SOUNDS) {
      throw new Error(
        `${MAX_SOUNDS} cameras' sound is coded already, and without an installed ffmpeg there is ` +
          "no room for more; install ffmpeg, or set the camera to AAC",
      );
    }
    const lane = openWasmSound({
      ...options,
      ...{ module: this.#module, coreUrl: this.#options.core?.scriptUrl },
      onEnd: (error) => {
        this.#sounds.delete(lane);
        options.onEnd(error);
      },
    });
    this.#sounds.add(lane);
    return lane;
  }

  openPictures(options: PictureLaneOptions): PictureLane {
    return this.#pictures.open(options);
  }

  leave(lane: WasmLane): void {
    this.#lanes.delete(lane);
    this.dispatch();
  }

  submit(gop: WasmGop): void {
    if (this.#closed) return gop.fail(new Error("the encoder was closed"));
    this.#waiting.push(gop);
    this.dispatch();
  }

  withdraw(gop: WasmGop): boolean {
    const position = this.#waiting.indexOf(gop);
    if (position >= 0) this.#waiting.splice(position, 1);
    return position >= 0;
  }

  /** There are more cameras than workers. */
  get gathers(): boolean {
    return this.#lanes.size > this.#options.workers;
  }

  /** Gives waiting GOPs to free workers, oldest first. */
  dispatch(): void {
    if (this.#closed) return;
    for (const gop of this.#waiting.filter((gop) => !this.gathers || gop.isEnded)) {
      const worker = this.#freeWorker();
      if (!worker) return;
      this.withdraw(gop);
      worker.take(gop);
    }
  }

  #freeWorker(): WasmWorker | undefined {
    for (const worker of this.#workers) if (worker.isFree) return worker;
    return this.#workers.size < this.#options.workers ? this.#addWorker() : undefined;
  }

  #addWorker(): WasmWorker {
    const { clock, core } = this.#options;
    const worker = new WasmWorker(this.#module, core?.scriptUrl, {
      clock,
      onFree: () => this.dispatch(),
      onDead: () => {
        this.#workers.delete(worker);
        this.dispatch();
      },
    });
    this.#workers.add(worker);
    return worker;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const gop of this.#waiting.splice(0)) gop.fail(new Error("the encoder was closed"));
    const timeout = new AbortController();
    const workers = [...this.#workers];
    await Promise.race([
      Promise.all(workers.map((worker) => worker.idle())),
      this.#options.clock.sleep(CLOSE_MS, { signal: timeout.signal }).catch(() => {}),
    ]);
    timeout.abort();
    for (const sound of this.#sounds) sound.kill();
    this.#pictures.close();
    for (const worker of workers) worker.terminate();
    this.#workers.clear();
  }
}

/** A worker thread, and the GOP that it is encoding. */
class WasmWorker {
  readonly ready: Promise<void>;
  readonly #worker: Worker;
  readonly #pipe = createPipeMemory(PIPE_BYTES);
  readonly #events: { readonly clock: Clock; onFree(): void; onDead(): void };
  #gop: WasmGop | undefined;
  /** Reports so far: a worker that says something does not hang. */
  #heard = 0;
  #watch: AbortController | undefined;
  #onReady: () => void = () => {};
  #onRefused: (error: Error) => void = () => {};
  #onIdle: (() => void) | undefined;
  #dead = false;

  constructor(
    module: WebAssembly.Module,
    coreUrl: string | undefined,
    events: { readonly clock: Clock; onFree(): void; onDead(): void },
  ) {
    this.#events = events;
    this.ready = new Promise((resolve, reject) => {
      this.#onReady = resolve;
      this.#onRefused = reject;
    });
    this.ready.catch(() => {}); // also told through onDead
    this.#worker = new Worker(programFile("core/encode/ffmpeg_wasm_worker.ts"), {
      type: "module",
    });
    this.#worker.onmessage = ({ data }: MessageEvent<WorkerReport>) => this.#hear(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#die(new Error(`the worker of ffmpeg.wasm crashed: ${event.message}`));
    };
    const setup: WorkerSetup = { kind: "setup", module, ...(coreUrl ? { coreUrl } : {}) };
    this.#worker.postMessage(setup);
  }

  get isFree(): boolean {
    return this.#gop === undefined && !this.#dead;
  }

  take(gop: WasmGop): void {
    this.#gop = gop;
    const job: WorkerJob = {
      ...{ kind: "job", args: gop.arguments, pipe: this.#pipe },
      ...(gop.planes ? { planes: gop.planes } : {}),
    };
    const pipe = new PipeWriter(this.#pipe);
    this.#worker.postMessage(job);
    gop.attach(pipe);
    this.#watch = new AbortController();
    void this.#endHung(pipe, this.#watch.signal);
  }

  /** Looks now and then whether the run still moves, until it is over; one that hangs is ended. */
  async #endHung(pipe: PipeWriter, signal: AbortSignal): Promise<void> {
    let looks = 0;
    let before = "";
    while (looks < HUNG_LOOKS) {
      try {
        await this.#events.clock.sleep(LOOK_MS, { signal });
      } catch {
        return; // the run is over
      }
      const now = `${this.#heard} ${pipe.readBytes}`;
      looks = pipe.isReaderDue && now === before ? looks + 1 : 0;
      before = now;
    }
    if (signal.aborted) return;
    const seconds = HUNG_LOOKS * LOOK_MS / 1000;
    this.#die(
      new Error(
        `ffmpeg.wasm hangs: nothing read and nothing coded for ${seconds} s though it had pictures; ` +
          "its worker was ended and replaced",
      ),
    );
  }

  /** Ends the GOP under way and resolves when the worker has let go of it. */
  idle(): Promise<void> {
    if (!this.#gop || this.#dead) return Promise.resolve();
    this.#gop.abandon();
    return new Promise((resolve) => this.#onIdle = resolve);
  }

  terminate(): void {
    this.#dead = true;
    this.#watch?.abort();
    this.#worker.terminate();
    this.#gop?.fail(new Error("the encoder was closed"));
    this.#gop = undefined;
  }

  #hear(report: WorkerReport): void {
    if (this.#dead) return; // it was still on its way
    this.#heard++;
    switch (report.kind) {
      case "ready":
        this.#onReady();
        break;
      case "room":
        this.#gop?.feed();
        break;
      case "coded":
        this.#gop?.coded(report);
        break;
      case "repeated":
        this.#gop?.repeated(report.index);
        break;
      case "done":
        this.#release((gop) => gop.finish(report));
        break;
      case "failed": {
        const error = new Error(report.message);
        if (this.#gop) this.#release((gop) => gop.fail(error));
        else this.#die(error);
      }
    }
  }

  #release(settle: (gop: WasmGop) => void): void {
    this.#watch?.abort();
    const gop = this.#gop;
    this.#gop = undefined;
    if (gop) settle(gop);
    this.#onIdle?.();
    this.#events.onFree();
  }

  #die(error: Error): void {
    if (this.#dead) return;
    this.#gop?.fail(error); // before it is told that all is closed
    this.terminate();
    this.#onRefused(error);
    this.#onIdle?.();
    this.#events.onDead();
  }
}

class WasmLane implements Lane {
  readonly #pool: WorkerPool;
  readonly #gops = new Set<WasmGop>();
  #noise: Noise | undefined;

  constructor(pool: WorkerPool) {
    this.#pool = pool;
  }

  get gathers(): boolean {
    return this.#pool.gathers;
  }

  openGop(options: GopOptions): Gop {
    const gop = new WasmGop(options, this.#pool, {
      get: () => this.#noise,
      set: (noise) => this.#noise = noise,
    });
    this.#gops.add(gop);
    const forget = () => this.#gops.delete(gop);
    gop.finished.then(forget, forget);
    this.#pool.submit(gop);
    return gop;
  }

  flush(): void {} // a GOP is complete by itself

  async [Symbol.asyncDispose](): Promise<void> {
    for (const gop of this.#gops) gop.abandon();
    await Promise.allSettled([...this.#gops].map((gop) => gop.finished));
    this.#pool.leave(this);
  }
}

interface NoiseMemory {
  get(): Noise | undefined;
  set(noise: Noise): void;
}

/** A GOP on its way: first it waits for a worker, then its pictures go to it one by one. */
class WasmGop implements Gop {
  readonly finished: Promise<GopResult>;
  readonly arguments: readonly string[];
  readonly #options: GopOptions;
  readonly #pool: WorkerPool;
  /** How noisy the camera is, from GOP to GOP. */
  readonly #noise: NoiseMemory;
  /** What the pipe has not taken yet. */
  readonly #outbox: Uint8Array[] = [];
  #pipe: PipeWriter | undefined;
  #pushed = 0;
  #lastAtMs = 0;
  #ended = false;
  #settled = false;
  #welcome: (() => void) | undefined;
  #resolve: (result: GopResult) => void = () => {};
  #reject: (error: Error) => void = () => {};

  constructor(options: GopOptions, pool: WorkerPool, noise: NoiseMemory) {
    this.#options = options;
    this.#pool = pool;
    this.#noise = noise;
    this.arguments = ffmpegArguments({
      ...options,
      input: INPUT_DEVICE,
      output: OUTPUT_DEVICE,
      passthrough: ["-fps_mode", "passthrough"],
      raw: options.planes !== undefined,
    });
    if (!options.planes) {
      this.#outbox.push(matroskaHeader({ ...options, pictureMs: PICTURE_MS }));
    }
    this.finished = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.finished.catch(() => {}); // whoever waits for it sees it
  }

  /** See {@linkcode WorkerJob}; asked for when the job begins. */
  get planes(): WorkerJob["planes"] {
    const format = this.#options.planes;
    const noise = this.#noise.get();
    return format && { format, ...(noise ? { noise } : {}) };
  }

  get isEnded(): boolean {
    return this.#ended;
  }

  push(jpeg: Uint8Array, atMs: number): Promise<void> {
    if (this.#settled || this.#ended) return Promise.resolve();
    const index = this.#pushed++;
    if (this.#options.planes) this.#outbox.push(recordHeader(jpeg.length, atMs), jpeg);
    else this.#outbox.push(matroskaPicture(timeOfPicture(index, index === 0), jpeg));
    this.#lastAtMs = atMs;
    this.feed();
    // Without a worker the GOP is gathered; it is at most a GOP.
    if (!this.#pipe || this.#outbox.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#welcome = resolve);
  }

  end({ showLast = false }: { readonly showLast?: boolean } = {}): void {
    if (showLast && this.#options.planes && !this.#ended) {
      this.#outbox.push(recordHeader(0, this.#lastAtMs));
    }
    this.#ended = true;
    this.feed();
    this.#pool.dispatch();
  }

  /** Nobody wants the rest: the worker is let go as soon as it has done what it already has. */
  abandon(): void {
    this.#outbox.length = 0;
    this.#ended = true;
    if (this.#pool.withdraw(this)) this.finish({ busyMs: 0 });
    else this.feed();
  }

  attach(pipe: PipeWriter): void {
    this.#pipe = pipe;
    this.feed();
  }

  coded(picture: Parameters<GopOptions["onCoded"]>[0]): void {
    if (!this.#settled) this.#options.onCoded(picture);
  }

  repeated(index: number): void {
    if (!this.#settled) this.#options.onRepeated(index);
  }

  finish(result: GopResult & { readonly noise?: Noise }): void {
    if (result.noise) this.#noise.set(result.noise);
    this.#settle(() => this.#resolve(result));
  }

  fail(error: Error): void {
    this.#settle(() => this.#reject(error));
  }

  /** Gives the pipe what it takes. */
  feed(): void {
    if (!this.#pipe || this.#settled) return;
    for (let next = this.#outbox[0]; next; next = this.#outbox[0]) {
      const taken = this.#pipe.write(next);
      if (taken < next.length) {
        this.#outbox[0] = next.subarray(taken);
        return;
      }
      this.#outbox.shift();
    }
    if (this.#ended) this.#pipe.end();
    this.#welcomeNext();
  }

  #welcomeNext(): void {
    this.#welcome?.();
    this.#welcome = undefined;
  }

  #settle(settle: () => void): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#outbox.length = 0;
    settle();
    this.#welcomeNext();
  }
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
