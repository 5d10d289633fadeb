/**
 * The system engine: an ffmpeg that is installed on the machine, found on the PATH or given by
 * `encoder.path`. Each camera has one long-lived child; JPEGs go in and coded pictures come out
 * through pipes, one for one, with no frame files. A child that dies costs its GOP and the next GOP
 * starts a new one. No child outlives its lane, and should this process be killed, the child sees the
 * end of its input and stops.
 *
 * @module
 */
import { type ChildProcessWithoutNullStreams, execFile, spawn } from "node:child_process";
import process from "node:process";
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
import { FlvReader } from "./flv.ts";
import { beginsSequence, graySize, pictureArguments, timesToGive } from "./key_pictures.ts";
import { matroskaHeader, matroskaPicture } from "./matroska.ts";
import { RepeatFinder } from "./repeat_finder.ts";
import { soundArguments } from "./sound.ts";
import { ffmpegArguments, PICTURE_MS, pictureOfTime, timeOfPicture } from "./x264.ts";

/** What the system engine is made with. */
export interface SystemEngineOptions {
  /** A path, or a name to look for on the PATH. Default: `ffmpeg`. */
  readonly path?: string;
  /** Monotonic time, ms. */
  monotonic(): number;
}

type PictureSize = Pick<GopOptions, "widthPx" | "heightPx">;

/** Picture times must stay far below FLV's 32-bit ms; a new child after this many. */
const PICTURES_PER_CHILD = 2_000_000;

const INSTALL_HINT =
  "install ffmpeg (Debian/Ubuntu: apt install ffmpeg, macOS: brew install ffmpeg, Windows: winget " +
  "install ffmpeg) or set encoder.path to where it is";

/**
 * Looks at the installed ffmpeg.
 *
 * @throws Error that says what is missing and how to get it
 */
export async function openSystemEngine(options: SystemEngineOptions): Promise<Engine> {
  const path = options.path ?? "ffmpeg";
  const { banner, encoders } = await ask(path);
  const version = /^ffmpeg version (\S+)/.exec(banner)?.[1];
  if (version === undefined) {
    throw new Error(
      `encoder.path: ${path} is not ffmpeg: expected its banner to begin with "ffmpeg version"; ${INSTALL_HINT}`,
    );
  }
  if (!/\blibx264\b/.test(encoders)) {
    throw new Error(
      `${path} (version ${version}) was built without libx264, which is needed to encode; ` +
        "install a full build of ffmpeg",
    );
  }
  const passthrough = passthroughOption(version);
  const lanes = new Set<SystemLane>();
  const runs = new Set<{ kill(): Promise<void> }>();
  /** A run that is ended with the engine. */
  const follow = <Run extends { kill(): Promise<void> }>(
    { onEnd }: { onEnd(error?: Error): void },
    open: (onEnd: (error?: Error) => void) => Run,
  ): Run => {
    const run = open((error) => {
      runs.delete(run);
      onEnd(error);
    });
    runs.add(run);
    return run;
  };
  return {
    name: "system",
    description: `${path} ${version}`,
    openLane() {
      const lane = new SystemLane(path, passthrough, options.monotonic, () => lanes.delete(lane));
      lanes.add(lane);
      return lane;
    },
    openSound: (sound) =>
      follow(sound, (onEnd) => {
        const args = soundArguments({ ...sound, input: "pipe:0", output: "pipe:1" });
        return openRun(path, args, { ...sound, onEnd });
      }),
    openPictures: (pictures) =>
      follow(pictures, (onEnd) => openSystemPictures(path, passthrough, { ...pictures, onEnd })),
    async [Symbol.asyncDispose]() {
      await Promise.all([
        ...[...runs].map((run) => run.kill()),
        ...[...lanes].map((lane) => lane[Symbol.asyncDispose]()),
      ]);
    },
  };
}

/**
 * A child that decodes one camera's key pictures, for as long as it is recorded; where they do not begin
 * a sequence each, a child for each.
 */
function openSystemPictures(
  path: string,
  passthrough: readonly string[],
  { track, onPicture, onEnd }: PictureLaneOptions,
): PictureLane {
  const args = pictureArguments({ track, passthrough, input: "pipe:0", output: "pipe:1" });
  const times = timesToGive(track);
  interface PictureRun {
    readonly run: SoundLane;
    readonly isAlone: boolean;
    given: number;
    taken: number;
  }
  let current: PictureRun | undefined;
  const begin = (isAlone: boolean): PictureRun => {
    const own: PictureRun = {
      ...{ isAlone, given: 0, taken: 0 },
      run: openRun(path, args, {
        onBytes: whole(graySize(track), (picture) => {
          if (current === own && own.taken++ % times === 0) onPicture(picture);
        }),
        onEnd(error) {
          if (current !== own) return;
          current = undefined;
          if (error || !own.isAlone || own.taken === 0) onEnd(error);
        },
      }),
    };
    own.run.write(matroskaHeader({ ...track, pictureMs: PICTURE_MS }));
    return current = own;
  };
  const leave = async () => {
    const { run } = current ?? {};
    current = undefined; // what it says from now on is of no interest
    await run?.kill();
  };
  return {
    decode(data) {
      const isAlone = !beginsSequence(data, track);
      if (isAlone || current?.isAlone) void leave();
      const own = current ?? begin(isAlone);
      for (let time = 0; time < (isAlone ? 1 : times); time++) {
        own.run.write(matroskaPicture(PICTURE_MS * own.given++, data));
      }
      if (isAlone) own.run.end();
    },
    kill: leave,
  };
}

/** Puts raw gray pictures together from pieces of any size. */
function whole(
  { widthPx, heightPx }: PictureSize,
  onPicture: (pixels: Uint8Array) => void,
): (bytes: Uint8Array) => void {
  const picture = new Uint8Array(widthPx * heightPx);
  let filledBytes = 0;
  return (bytes) => {
    for (let at = 0; at < bytes.length;) {
      const part = bytes.subarray(at, at + picture.length - filledBytes);
      picture.set(part, filledBytes);
      at += part.length;
      filledBytes += part.length;
      if (filledBytes < picture.length) return;
      filledBytes = 0;
      onPicture(picture.slice());
    }
  };
}

/** A child that is given bytes and gives bytes, for as long as a camera's session. */
function openRun(
  path: string,
  args: readonly string[],
  options: Pick<SoundLaneOptions, "onBytes" | "onEnd">,
): SoundLane {
  const child = spawn(path, args, {
    detached: process.platform !== "win32",
    windowsHide: true,
  });
  let said = "";
  let isOver = false;
  const over = (error?: Error) => {
    if (isOver) return;
    isOver = true;
    options.onEnd(error);
  };
  child.stdin.on("error", () => {}); // it died: `close` tells
  child.stderr.on("data", (text) => said = (said + text).slice(-2000));
  child.stdout.on("data", (bytes: Uint8Array) => isOver || options.onBytes(bytes));
  const gone = Promise.withResolvers<void>();
  child.on("error", (error) => {
    if (child.pid === undefined) gone.resolve(); // never ran: no `close` follows
    over(new Error(`cannot run ffmpeg: ${error.message}`));
  });
  child.on("close", (code, signal) => {
    gone.resolve();
    if (code === 0) return over();
    const how = signal ? `was ended by ${signal}` : `ended with code ${code}`;
    const last = said.trim().split("\n").at(-1);
    over(new Error(`ffmpeg ${how}${last ? `: ${last}` : ""}`));
  });
  return {
    write: (bytes) => void child.stdin.write(bytes),
    end: () => void child.stdin.end(),
    kill() {
      over();
      child.stdin.destroy();
      child.kill("SIGKILL");
      return gone.promise;
    },
  };
}

/** `-vsync` was renamed in ffmpeg 5.1. Builds from git have no number and are taken as new. */
export function passthroughOption(version: string): readonly string[] {
  const [, major, minor] = /^n?(\d+)\.(\d+)/.exec(version) ?? [];
  const old = major !== undefined &&
    (Number(major) < 5 || (Number(major) === 5 && Number(minor) < 1));
  return old ? ["-vsync", "passthrough"] : ["-fps_mode", "passthrough"];
}

/** Lets ffmpeg list its encoders, above which it says on stderr what it is: one start tells both. */
function ask(path: string): Promise<{ readonly banner: string; readonly encoders: string }> {
  return new Promise((resolve, reject) => {
    const options = { timeout: 15_000, maxBuffer: 4e6 };
    execFile(path, ["-encoders"], options, (error, encoders, banner) => {
      if (!error) return resolve({ banner, encoders });
      const missing = error.code === "ENOENT";
      const reason = missing ? "it was not found" : error.message.trim().split("\n")[0];
      reject(new Error(`cannot run ${path}: ${reason}; ${INSTALL_HINT}`, { cause: error }));
    });
  });
}

/** One camera's ffmpeg, replaced when it died, and when size or settings change. */
class SystemLane implements Lane {
  readonly #path: string;
  readonly #passthrough: readonly string[];
  readonly #monotonic: () => number;
  readonly #onClosed: () => void;
  readonly #children = new Set<Child>();
  readonly #repeats = new RepeatFinder();
  #current: Child | undefined;
  #closed = false;

  constructor(
    path: string,
    passthrough: readonly string[],
    monotonic: () => number,
    onClosed: () => void,
  ) {
    this.#path = path;
    this.#passthrough = passthrough;
    this.#monotonic = monotonic;
    this.#onClosed = onClosed;
  }

  openGop(options: GopOptions): Gop {
    if (this.#closed) return refusedGop();
    const args = ffmpegArguments({
      ...options,
      input: "pipe:0",
      output: "pipe:1",
      passthrough: this.#passthrough,
    });
    let child = this.#current;
    if (!child?.fits(args, options)) {
      child?.endInput();
      child = this.#spawn(args, options);
      this.#current = child;
    }
    if (options.planes) this.#repeats.begin(options.planes);
    return child.openGop(options, options.planes ? this.#repeats : undefined);
  }

  flush(): void {
    this.#current?.endInput();
    this.#current = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#current = undefined;
    await Promise.all([...this.#children].map((child) => child.kill()));
    this.#onClosed();
  }

  #spawn(args: readonly string[], size: PictureSize): Child {
    const child = new Child(this.#path, args, size, this.#monotonic);
    this.#children.add(child);
    child.closed.then(() => this.#children.delete(child));
    return child;
  }
}

/** What a closed lane gives: no child may begin once the others have been ended. */
function refusedGop(): Gop {
  const finished = Promise.reject(new Error("the encoder was closed"));
  finished.catch(() => {}); // whoever waits for it sees it
  return { push: () => Promise.resolve(), end: () => {}, finished };
}

/** A running ffmpeg, and the GOPs that are in it, oldest first. */
class Child {
  readonly closed: Promise<void>;
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #args: readonly string[];
  readonly #size: PictureSize;
  readonly #monotonic: () => number;
  readonly #reader = new FlvReader();
  readonly #gops: SystemGop[] = [];
  #config: Uint8Array<ArrayBuffer> | undefined;
  #pictures = 0;
  #inside = 0;
  #busySinceMs = 0;
  #busyMs = 0;
  #inputEnded = false;
  /** It did not make a key picture where it was told to. */
  #offBeat = false;
  #dead = false;
  #said = "";

  constructor(
    path: string,
    args: readonly string[],
    size: PictureSize,
    monotonic: () => number,
  ) {
    this.#args = args;
    this.#size = size;
    this.#monotonic = monotonic;
    // A group of its own: Ctrl-C in the terminal must not stop it before its last picture is out.
    this.#process = spawn(path, args, {
      detached: process.platform !== "win32",
      windowsHide: true,
    });
    this.#process.stdin.on("error", () => {}); // it died: `close` tells
    this.#process.stderr.on("data", (text) => this.#said = (this.#said + text).slice(-2000));
    this.#process.stdout.on("data", (bytes: Uint8Array) => this.#read(bytes));
    this.closed = new Promise((resolve) => {
      this.#process.on("error", (error) => {
        this.#die(new Error(`cannot run ffmpeg: ${error.message}`, { cause: error }));
        if (this.#process.pid === undefined) resolve(); // never ran: no `close` follows
      });
      this.#process.on("close", (code, signal) => {
        this.#end(code, signal);
        resolve();
      });
    });
    this.#process.stdin.write(matroskaHeader({ ...size, pictureMs: PICTURE_MS }));
  }

  /** Whether a GOP like this may follow in this child; pictures of another size would be scaled. */
  fits(args: readonly string[], size: PictureSize): boolean {
    const { widthPx, heightPx } = this.#size;
    return widthPx === size.widthPx && heightPx === size.heightPx && !this.#dead &&
      !this.#inputEnded && !this.#offBeat &&
      this.#pictures < PICTURES_PER_CHILD &&
      args.length === this.#args.length && args.every((arg, i) => arg === this.#args[i]);
  }

  openGop(options: GopOptions, repeats: RepeatFinder | undefined): Gop {
    const gop = new SystemGop(options, this, this.#pictures, repeats);
    if (this.#dead) gop.fail(new Error("ffmpeg has ended"));
    else this.#gops.push(gop);
    return gop;
  }

  write(jpeg: Uint8Array, isKey: boolean): Promise<void> {
    if (this.#dead || this.#inputEnded) return Promise.resolve();
    const picture = matroskaPicture(timeOfPicture(this.#pictures++, isKey), jpeg);
    if (this.#inside++ === 0) this.#busySinceMs = this.#monotonic();
    // The callback comes when the pipe has taken it all, or when it broke.
    return new Promise((resolve) => this.#process.stdin.write(picture, () => resolve()));
  }

  /** Time spent with pictures inside since last asked, ms. */
  takeBusyMs(): number {
    const nowMs = this.#monotonic();
    if (this.#inside > 0) this.#busyMs += nowMs - this.#busySinceMs;
    this.#busySinceMs = nowMs;
    const busyMs = this.#busyMs;
    this.#busyMs = 0;
    return busyMs;
  }

  forget(gop: SystemGop): void {
    const position = this.#gops.indexOf(gop);
    if (position >= 0) this.#gops.splice(position, 1);
  }

  endInput(): void {
    if (this.#inputEnded) return;
    this.#inputEnded = true;
    this.#process.stdin.end();
  }

  async kill(): Promise<void> {
    this.#inputEnded = true;
    this.#process.stdin.destroy();
    this.#process.kill("SIGKILL");
    await this.closed;
  }

  #read(bytes: Uint8Array): void {
    try {
      for (const packet of this.#reader.push(bytes)) {
        if (packet.kind === "config") this.#config = packet.config;
        else this.#coded(pictureOfTime(packet.timeMs), packet.isKey, packet.data);
      }
    } catch (error) {
      this.#die(error instanceof Error ? error : new Error(String(error)));
      this.#process.kill("SIGKILL");
    }
  }

  #coded(index: number, isKey: boolean, data: Uint8Array<ArrayBuffer>): void {
    if (!this.#config) throw new Error("ffmpeg gave a picture before its configuration");
    this.#inside = this.#pictures - 1 - index;
    if (this.#inside === 0) this.#busyMs += this.#monotonic() - this.#busySinceMs;
    // A GOP whose last picture was lost ends when the next GOP's first one comes.
    while (this.#gops[0]?.isBefore(index)) this.#gops[0].finish();
    // So it goes when the key picture was undecodable: another child starts on the beat again.
    if (this.#gops[0]?.isFresh && !isKey) this.#offBeat = true;
    this.#gops[0]?.coded(index, { isKey, data, config: this.#config });
  }

  #end(code: number | null, signal: string | null): void {
    if (this.#inputEnded && code === 0) {
      while (this.#gops[0]) this.#gops[0].finish();
    }
    const how = signal ? `was ended by ${signal}` : `ended with code ${code}`;
    const said = this.#said.trim().split("\n").slice(-3).join("; ");
    this.#die(new Error(`ffmpeg ${how}${said ? `: ${said}` : ""}`));
  }

  #die(error: Error): void {
    this.#dead = true;
    while (this.#gops[0]) this.#gops[0].fail(error);
  }
}

class SystemGop implements Gop {
  readonly finished: Promise<GopResult>;
  readonly #options: GopOptions;
  readonly #child: Child;
  readonly #repeats: RepeatFinder | undefined;
  /** The number of its first picture in the child. */
  readonly #first: number;
  /** Which pictures of the GOP the child was given. */
  readonly #given: number[] = [];
  #pushed = 0;
  /** A repeat, if the last picture was one. */
  #held: Uint8Array | undefined;
  /** How many of those given came out. */
  #coded = 0;
  #ended = false;
  #resolve: (result: GopResult) => void = () => {};
  #reject: (error: Error) => void = () => {};

  constructor(
    options: GopOptions,
    child: Child,
    first: number,
    repeats: RepeatFinder | undefined,
  ) {
    this.#repeats = repeats;
    this.#options = options;
    this.#child = child;
    this.#first = first;
    this.finished = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.finished.catch(() => {}); // whoever waits for it sees it
  }

  push(jpeg: Uint8Array, atMs: number): Promise<void> {
    const index = this.#pushed++;
    if (this.#repeats?.isRepeat(jpeg, atMs)) {
      this.#held = jpeg;
      this.#options.onRepeated(index);
      return Promise.resolve();
    }
    return this.#give(jpeg, index);
  }

  #give(jpeg: Uint8Array, index: number): Promise<void> {
    this.#held = undefined;
    return this.#child.write(jpeg, this.#given.push(index) === 1);
  }

  end({ showLast = false }: { readonly showLast?: boolean } = {}): void {
    if (showLast && this.#held) this.#give(this.#held, this.#pushed - 1);
    this.#ended = true;
    this.#finishIfWhole();
  }

  /** Nothing has come out yet. */
  get isFresh(): boolean {
    return this.#coded === 0;
  }

  isBefore(index: number): boolean {
    return this.#ended && index >= this.#first + this.#given.length;
  }

  coded(
    index: number,
    picture: Omit<Parameters<GopOptions["onCoded"]>[0], "index">,
  ): void {
    const number = index - this.#first;
    this.#coded = number + 1;
    this.#options.onCoded({ ...picture, index: this.#given[number] ?? number });
    this.#finishIfWhole();
  }

  finish(): void {
    this.#child.forget(this);
    this.#resolve({ busyMs: this.#child.takeBusyMs() });
  }

  fail(error: Error): void {
    this.#child.forget(this);
    this.#reject(error);
  }

  #finishIfWhole(): void {
    if (this.#ended && this.#coded === this.#given.length) this.finish();
  }
}
