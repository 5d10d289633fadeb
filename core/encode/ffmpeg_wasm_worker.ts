/**
 * The worker in which ffmpeg.wasm runs. One job is one GOP is one run of ffmpeg's `main`, which
 * blocks this thread until the GOP's last picture: it reads from a device that waits for the next
 * bytes in a pipe of shared memory, and writes to a device that posts each coded picture at once. So a
 * GOP is encoded while it is being captured, without files and without anything saved up.
 *
 * @module
 */
import { PipeReader } from "./byte_pipe.ts";
import {
  INPUT_DEVICE,
  OUTPUT_DEVICE,
  type WorkerJob,
  type WorkerReport,
  type WorkerSetup,
} from "./ffmpeg_wasm_protocol.ts";
import { FlvReader } from "./flv.ts";
import { pictureOfTime } from "./x264.ts";

/**
 * Every run leaks 64 KB of the instance's stack and the 121st traps (ffmpegwasm/ffmpeg.wasm#820), so
 * an instance is replaced well before.
 */
const RUNS_PER_INSTANCE = 60;

/** The part of Emscripten's file system that is used here. */
interface DeviceOps {
  open(stream: { seekable: boolean }): void;
  close(): void;
  read(stream: unknown, buffer: Int8Array, offset: number, length: number): number;
  write(stream: unknown, buffer: Int8Array, offset: number, length: number): number;
}

/** The part of `@ffmpeg/core` that is used here. */
interface Core {
  readonly FS: {
    makedev(major: number, minor: number): number;
    registerDevice(device: number, ops: DeviceOps): void;
    mkdev(path: string, device: number): void;
  };
  exec(...args: readonly string[]): number;
  setLogger(logger: (entry: { readonly message: string }) => void): void;
  reset(): void;
}

type CreateCore = (options: {
  instantiateWasm(
    imports: WebAssembly.Imports,
    ready: (instance: WebAssembly.Instance, module: WebAssembly.Module) => void,
  ): object;
}) => Promise<Core>;

/** The run under way, as the two devices see it. */
interface Run {
  readonly input: PipeReader;
  readonly reader: FlvReader;
  config: Uint8Array<ArrayBuffer> | undefined;
  readonly messages: string[];
}

let module: WebAssembly.Module;
let createCore: CreateCore;
let core: Core | undefined;
let runsLeft = 0;
let run: Run | undefined;

const scope = self as unknown as {
  postMessage(report: WorkerReport, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<WorkerSetup | WorkerJob>) => void) | null;
};

/** A job may come before the glue is loaded: it waits for it. */
let settingUp: Promise<void> = Promise.resolve();

scope.onmessage = ({ data }) => {
  const work = data.kind === "setup" ? settingUp = setUp(data) : settingUp.then(() => encode(data));
  work.catch((error: unknown) => report({ kind: "failed", busyMs: 0, message: String(error) }));
};

async function setUp(setup: WorkerSetup): Promise<void> {
  module = setup.module;
  const glue = setup.coreUrl === undefined
    ? await import("@ffmpeg/core")
    : await import(setup.coreUrl);
  createCore = glue.default;
  core = await instantiate();
  report({ kind: "ready" });
}

async function encode(job: WorkerJob): Promise<void> {
  core ??= await instantiate();
  run = {
    input: new PipeReader(job.pipe, () => report({ kind: "room" })),
    reader: new FlvReader(),
    config: undefined,
    messages: [],
  };
  const startMs = performance.now();
  let failure: string | undefined;
  try {
    const code = core.exec(...job.args);
    if (code !== 0) failure = `ffmpeg.wasm ended with code ${code}`;
  } catch (error) {
    failure = `ffmpeg.wasm crashed: ${error instanceof Error ? error.message : String(error)}`;
  }
  const busyMs = performance.now() - startMs - run.input.waitedMs;
  if (failure !== undefined) {
    core = undefined; // whatever state it is in
    const said = run.messages.slice(-3).join("; ");
    report({ kind: "failed", busyMs, message: said ? `${failure}: ${said}` : failure });
    return;
  }
  core.reset();
  if (--runsLeft <= 0) core = undefined;
  report({ kind: "done", busyMs });
  core ??= await instantiate();
}

/** A fresh instance of the shared module: about 15 ms and 17 MB. */
async function instantiate(): Promise<Core> {
  let refuse: (reason: unknown) => void = () => {};
  const failed = new Promise<never>((_, reject) => refuse = reject);
  const created = createCore({
    instantiateWasm(imports, ready) {
      WebAssembly.instantiate(module, imports).then(
        (instance) => ready(instance, module),
        (error) => refuse(error), // the glue would wait for ever
      );
      return {};
    },
  });
  const fresh = await Promise.race([created, failed]);
  const device = fresh.FS.makedev(64, 0);
  fresh.FS.registerDevice(device, {
    open: (stream) => void (stream.seekable = false),
    close: () => {},
    read: readPictures,
    write: writeCoded,
  });
  fresh.FS.mkdev(INPUT_DEVICE, device);
  fresh.FS.mkdev(OUTPUT_DEVICE, device);
  fresh.setLogger(({ message }) => run?.messages.push(message));
  runsLeft = RUNS_PER_INSTANCE;
  return fresh;
}

function readPictures(
  _stream: unknown,
  buffer: Int8Array,
  offset: number,
  length: number,
): number {
  return run?.input.read(new Uint8Array(buffer.buffer, buffer.byteOffset + offset, length)) ?? 0;
}

function writeCoded(
  _stream: unknown,
  buffer: Int8Array,
  offset: number,
  length: number,
): number {
  if (!run) return length;
  const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset + offset, length);
  for (const packet of run.reader.push(bytes)) {
    if (packet.kind === "config") {
      run.config = packet.config;
      continue;
    }
    if (!run.config) throw new Error("ffmpeg.wasm gave a picture before its configuration");
    report({
      kind: "coded",
      index: pictureOfTime(packet.timeMs),
      isKey: packet.isKey,
      data: packet.data.slice(),
      config: run.config,
    });
  }
  return length;
}

function report(message: WorkerReport): void {
  scope.postMessage(message);
}
