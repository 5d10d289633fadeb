/**
 * The worker in which ffmpeg.wasm runs. One job is one GOP is one run of ffmpeg's `main`, which
 * blocks this thread until the GOP's last picture: it reads from a device that waits for the next
 * bytes in a pipe of shared memory, and writes to a device that posts each coded picture at once. So a
 * GOP is encoded while it is being captured, without files and without anything saved up.
 *
 * Plain JPEGs are not given to ffmpeg: the worker draws them itself, with less than half the work, and
 * gives ffmpeg only those that differ from the one before. Others go to it as they are, in Matroska.
 *
 * @module
 */
import { PipeReader } from "./byte_pipe.ts";
import { JpegPlanes } from "../media/jpeg_planes.ts";
import { LONGEST_REPEAT_MS } from "./engine.ts";
import {
  INPUT_DEVICE,
  OUTPUT_DEVICE,
  type PictureJob,
  RECORD_HEADER_BYTES,
  type SoundJob,
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
  readonly input: Pick<PipeReader, "read" | "waitedMs">;
  readonly reader: FlvReader;
  config: Uint8Array<ArrayBuffer> | undefined;
  readonly messages: string[];
  readonly drawing?: Drawing;
  /** It codes no pictures: what comes out is handed on as it is. */
  readonly handsOn: boolean;
}

/** The pictures of a run that are drawn here. */
interface Drawing {
  readonly planes: JpegPlanes;
  /** Which pictures of the GOP ffmpeg was given. */
  readonly given: number[];
  /** Pictures that have come. */
  count: number;
  /** Of the picture being read by ffmpeg. */
  restBytes: number;
  givenAtMs: number;
  lastIsRepeat: boolean;
  /** ffmpeg was told that there are no more. */
  ended: boolean;
}

type Job = WorkerJob | SoundJob | PictureJob;

let module: WebAssembly.Module;
let createCore: CreateCore;
let core: Core | undefined;
let runsLeft = 0;
let run: Run | undefined;
/** Kept from run to run: it holds the memory of a picture. */
let planes: JpegPlanes | undefined;
let jpegBuffer = new Uint8Array(256 * 1024);

const scope = self as unknown as {
  postMessage(report: WorkerReport, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<WorkerSetup | Job>) => void) | null;
};

/** A job may come before the glue is loaded: it waits for it. */
let settingUp: Promise<void> = Promise.resolve();

scope.onmessage = ({ data }) => {
  const done = data.kind === "setup" ? settingUp = setUp(data) : settingUp.then(() => work(data));
  done.catch((error: unknown) => report({ kind: "failed", busyMs: 0, message: String(error) }));
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

async function work(job: Job): Promise<void> {
  core ??= await instantiate();
  run = {
    input: job.kind === "picture"
      ? readerOf(job.input)
      : new PipeReader(job.pipe, () => report({ kind: "room" })),
    reader: new FlvReader(),
    config: undefined,
    messages: [],
    handsOn: job.kind !== "job",
    ...(job.kind === "job" && job.planes ? { drawing: startDrawing(job.planes) } : {}),
  };
  const startMs = performance.now();
  let failure: string | undefined;
  try {
    const code = core.exec(...job.args);
    if (code !== 0 && !hasNothing(run)) failure = `ffmpeg.wasm ended with code ${code}`;
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
  const noise = run.drawing?.planes.noise;
  report({ kind: "done", busyMs, ...(noise ? { noise } : {}) });
  core ??= await instantiate();
}

/** Reads what is there already. */
function readerOf(bytes: Uint8Array): Run["input"] {
  let at = 0;
  return {
    waitedMs: 0,
    read(target) {
      const part = bytes.subarray(at, at + target.length);
      target.set(part);
      at += part.length;
      return part.length;
    },
  };
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
  const target = new Uint8Array(buffer.buffer, buffer.byteOffset + offset, length);
  if (!run?.drawing) return run?.input.read(target) ?? 0;
  const { input, drawing } = run;
  while (drawing.restBytes === 0) {
    if (drawNext(input, drawing)) continue;
    drawing.ended = true;
    return 0;
  }
  const { planes } = drawing;
  const copied = planes.copy(target, planes.frameBytes - drawing.restBytes);
  drawing.restBytes -= copied;
  return copied;
}

function startDrawing({ format, noise }: NonNullable<WorkerJob["planes"]>): Drawing {
  if (!planes?.fits(format)) planes = new JpegPlanes(format);
  planes.noise = noise;
  return {
    ...{ planes, given: [], count: 0, restBytes: 0, givenAtMs: 0 },
    ...{ lastIsRepeat: false, ended: false },
  };
}

/** No picture was whole, so ffmpeg had none; that is no fault of it. */
function hasNothing({ drawing }: Run): boolean {
  return drawing !== undefined && drawing.ended && drawing.given.length === 0;
}

/** Takes the next record and has it ready for ffmpeg if it is worth it; `false` at the end. */
function drawNext(input: Run["input"], drawing: Drawing): boolean {
  const header = readWhole(input, RECORD_HEADER_BYTES);
  if (!header) return false;
  const view = new DataView(header.buffer, header.byteOffset);
  const lengthBytes = view.getUint32(0, true);
  const atMs = view.getUint32(4, true);
  if (lengthBytes === 0) {
    if (drawing.lastIsRepeat) give(drawing, drawing.count - 1, atMs);
    return true;
  }
  const jpeg = readWhole(input, lengthBytes);
  if (!jpeg) return false;
  const index = drawing.count++;
  const { planes } = drawing;
  try {
    planes.draw(jpeg, { all: drawing.given.length === 0 });
  } catch {
    drawing.lastIsRepeat = false;
    return true; // a damaged picture is lost, and shows as a gap in the indices
  }
  drawing.lastIsRepeat = !planes.isWorth && atMs - drawing.givenAtMs < LONGEST_REPEAT_MS;
  if (drawing.lastIsRepeat) report({ kind: "repeated", index });
  else give(drawing, index, atMs);
  return true;
}

function give(drawing: Drawing, index: number, atMs: number): void {
  drawing.given.push(index);
  drawing.givenAtMs = atMs;
  drawing.restBytes = drawing.planes.frameBytes;
  drawing.planes.settle();
  drawing.lastIsRepeat = false;
}

/** So many bytes, in a buffer that the next call uses again; `undefined` if the end comes first. */
function readWhole(input: Run["input"], lengthBytes: number): Uint8Array | undefined {
  if (jpegBuffer.length < lengthBytes) jpegBuffer = new Uint8Array(2 * lengthBytes);
  for (let read = 0; read < lengthBytes;) {
    const more = input.read(jpegBuffer.subarray(read, lengthBytes));
    if (more === 0) return undefined;
    read += more;
  }
  return jpegBuffer.subarray(0, lengthBytes);
}

function writeCoded(
  _stream: unknown,
  buffer: Int8Array,
  offset: number,
  length: number,
): number {
  if (!run) return length;
  const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset + offset, length);
  if (run.handsOn) {
    report({ kind: "bytes", bytes: bytes.slice() });
    return length;
  }
  for (const packet of run.reader.push(bytes)) {
    if (packet.kind === "config") {
      run.config = packet.config;
      continue;
    }
    if (!run.config) throw new Error("ffmpeg.wasm gave a picture before its configuration");
    const number = pictureOfTime(packet.timeMs);
    report({
      kind: "coded",
      index: run.drawing ? run.drawing.given[number] ?? number : number,
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
