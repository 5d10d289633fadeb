/**
 * One camera's encoding: JPEGs are checked, cut into GOPs at wall-clock multiples, given to whichever
 * engine the gearbox says, and come out as H.264 access units with the times of their pictures.
 *
 * - A GOP that fails is lost with what was still in it; the next one starts afresh.
 * - A picture with the very bytes of the one before it in its GOP is not encoded again: the unit
 *   before it simply lasts longer; nor is one that the engine finds to differ by noise alone. Should the
 *   input end on such a picture, it is encoded after all, so that the recording ends when the camera did.
 * - A camera that falls silent does not leave its GOP open: it ends a little after its time is up.
 *
 * @module
 */
import { orAborted } from "../clock.ts";
import { type JpegInfo, parseJpeg } from "../media/jpeg.ts";
import { canDrawPlanes, type PlanesFormat } from "../media/jpeg_planes.ts";
import type { AccessUnit, Clock, EncodeOptions, Encoder, VideoTrack } from "../types.ts";
import type { CodedPicture, Gop, Lane } from "./engine.ts";
import { OutputQueue } from "./output_queue.ts";
import type { Gear } from "./x264.ts";

/** What a GOP's encoding was like; the gearbox decides by it. */
export type GopReport =
  | {
    readonly kind: "encoded";
    readonly gear: Gear;
    readonly widthPx: number;
    readonly heightPx: number;
    readonly pictures: number;
    /** Time that the GOP covers, ms. */
    readonly spanMs: number;
    /** Time that the engine worked on it, ms. */
    readonly busyMs: number;
    /** The engine could not take the pictures as they came. */
    readonly late: boolean;
  }
  | { readonly kind: "failed"; readonly gear: Gear; readonly error: Error };

/** What a camera encoder needs from the encoders' house. */
export interface CameraEncoderOptions {
  readonly clock: Clock;
  /** The gear for this camera's next GOP. */
  gear(camera: string): Gear;
  /** A place in the engine of a gear. */
  openLane(gear: Gear): Lane;
  onReport(camera: string, report: GopReport): void;
}

/** How long after its end a GOP waits for a last late picture, ms. */
const GRACE_MS = 250;

/** A bound that only a stopped clock could reach. */
const MAX_PICTURES_PER_GOP = 600;

/** GOPs of a camera that may be under way: one being finished, one being filled. */
const MAX_OPEN_GOPS = 2;

/** Makes the {@linkcode Encoder} of one camera. */
export function createCameraEncoder(house: CameraEncoderOptions): Encoder {
  return {
    async *encode(units, options) {
      const stop = new AbortController();
      const signal = AbortSignal.any([stop.signal, options.signal]);
      const encoding = new Encoding(house, options, signal);
      const running = encoding.run(units);
      try {
        yield* encoding.output.taken();
      } finally {
        stop.abort(new DOMException("nobody takes the pictures any more", "AbortError"));
        await running;
      }
    },
  };
}

/** A GOP under way, with what its pictures were before they were coded. */
interface OpenGop {
  readonly gop: Gop;
  readonly gear: Gear;
  /** Which of the stretches of `cellMs` since the epoch it fills. */
  readonly cell: number;
  readonly cellMs: number;
  /** What its first picture is like; the others are. */
  readonly info: JpegInfo;
  readonly openedAtMs: number;
  readonly pictures: AccessUnit[];
  /** Which of them the engine did not code because they show the same as the one before. */
  readonly repeated: Set<number>;
  /** Coded, but an earlier GOP is not whole yet. */
  readonly waiting: { readonly unit: AccessUnit; readonly picture: CodedPicture }[];
  /** The key picture is out, so what follows can be decoded. */
  keySeen: boolean;
  nextIndex: number;
  blockedMs: number;
  endedAtMs: number | undefined;
  settled: boolean;
  lastJpeg: Uint8Array;
}

class Encoding {
  readonly output = new OutputQueue<AccessUnit>(64);
  readonly #house: CameraEncoderOptions;
  readonly #options: EncodeOptions;
  readonly #signal: AbortSignal;
  readonly #lanes = new Map<Gear["engine"], Lane>();
  /** In order; units leave from the first only. */
  readonly #gops: OpenGop[] = [];
  #current: OpenGop | undefined;
  /** The last of a row of identical pictures, not encoded so far. */
  #held: { readonly unit: AccessUnit; readonly count: number } | undefined;
  #track: VideoTrack | undefined;

  constructor(house: CameraEncoderOptions, options: EncodeOptions, signal: AbortSignal) {
    this.#house = house;
    this.#options = options;
    this.#signal = signal;
  }

  /** Encodes all of it. Never rejects: what goes wrong comes out of `output`. */
  async run(units: AsyncIterable<AccessUnit>): Promise<void> {
    const iterator = units[Symbol.asyncIterator]();
    let failure: { readonly error: unknown } | undefined;
    try {
      await this.#takeAll(iterator);
      await this.#finishAll();
    } catch (error) {
      if (!this.#signal.aborted) failure = { error };
      // Not awaited: a source that waits for its camera gives up in its own time.
      iterator.return?.().catch(() => {});
    }
    await Promise.allSettled([...this.#lanes.values()].map((lane) => lane[Symbol.asyncDispose]()));
    this.output.end(failure?.error);
  }

  async #takeAll(iterator: AsyncIterator<AccessUnit>): Promise<void> {
    while (true) {
      const next = await this.#orTimeUp(iterator.next());
      if (next.done) return;
      await this.#take(next.value);
      await orAborted(this.output.room(), this.#signal);
    }
  }

  async #take(taken: AccessUnit): Promise<void> {
    let info: JpegInfo;
    try {
      info = parseJpeg(taken.data);
    } catch (error) {
      this.#options.onLost?.(1, error);
      return;
    }
    const isWhole = taken.data.length === info.sizeBytes;
    const unit = isWhole ? taken : { ...taken, data: taken.data.subarray(0, info.sizeBytes) };
    let open = this.#current;
    if (
      !open || open.cell !== Math.floor(unit.capturedAtMs / open.cellMs) ||
      !isAlike(open.info, info) ||
      open.pictures.length >= MAX_PICTURES_PER_GOP
    ) {
      this.#dropHeld();
      open = await this.#open(unit, info);
    } else if (sameBytes(unit.data, open.lastJpeg)) {
      this.#held = { unit, count: (this.#held?.count ?? 0) + 1 };
      return;
    }
    this.#dropHeld();
    await this.#push(open, unit);
  }

  async #open(first: AccessUnit, info: JpegInfo): Promise<OpenGop> {
    this.#endCurrent();
    const waitingSinceMs = this.#house.clock.monotonic();
    while (this.#gops.filter((gop) => !gop.settled).length >= MAX_OPEN_GOPS) {
      const first = this.#gops.find((gop) => !gop.settled);
      await orAborted(
        first?.gop.finished.then(() => {}, () => {}) ?? Promise.resolve(),
        this.#signal,
      );
    }
    const gear = this.#house.gear(this.#options.camera);
    const lane = this.#lane(gear);
    const cellMs = lane.gathers ? this.#options.gopMs / 2 : this.#options.gopMs;
    const nowMs = this.#house.clock.monotonic();
    const open: OpenGop = {
      gop: lane.openGop({
        widthPx: info.widthPx,
        heightPx: info.heightPx,
        ...(canDrawPlanes(info) ? { planes: formatOf(info) } : {}),
        x264: gear.x264,
        onCoded: (picture) => this.#coded(open, picture),
        onRepeated: (index) => this.#repeated(open, index),
      }),
      gear,
      cell: Math.floor(first.capturedAtMs / cellMs),
      cellMs,
      info,
      openedAtMs: nowMs,
      pictures: [],
      repeated: new Set(),
      waiting: [],
      keySeen: false,
      nextIndex: 0,
      blockedMs: nowMs - waitingSinceMs,
      endedAtMs: undefined,
      settled: false,
      lastJpeg: new Uint8Array(0),
    };
    this.#gops.push(open);
    this.#current = open;
    open.gop.finished.then(
      ({ busyMs }) => this.#settled(open, busyMs),
      (error) => this.#failed(open, error),
    );
    return open;
  }

  /** Lanes are kept while their engine is in use, and left when the camera goes to another. */
  #lane(gear: Gear): Lane {
    let lane = this.#lanes.get(gear.engine);
    if (!lane) {
      for (const [engine, other] of this.#lanes) {
        other.flush();
        this.#lanes.delete(engine);
        Promise.allSettled(this.#gops.map((open) => open.gop.finished))
          .then(() => other[Symbol.asyncDispose]())
          .catch(() => {});
      }
      lane = this.#house.openLane(gear);
      this.#lanes.set(gear.engine, lane);
    }
    return lane;
  }

  async #push(open: OpenGop, unit: AccessUnit): Promise<void> {
    open.pictures.push(unit);
    open.lastJpeg = unit.data;
    if (open.settled) return this.#options.onLost?.(1, new Error("the GOP's encoder has failed"));
    const beforeMs = this.#house.clock.monotonic();
    const atMs = unit.capturedAtMs - open.cell * open.cellMs;
    await orAborted(open.gop.push(unit.data, atMs), this.#signal);
    open.blockedMs += this.#house.clock.monotonic() - beforeMs;
  }

  #coded(open: OpenGop, picture: CodedPicture): void {
    const unit = open.pictures[picture.index];
    if (!unit || picture.index < open.nextIndex) return;
    const skipped = missingOf(open, picture.index);
    if (skipped > 0) this.#options.onLost?.(skipped, new Error("damaged JPEG: not decodable"));
    open.nextIndex = picture.index + 1;
    if (picture.isKey) open.keySeen = true;
    if (!open.keySeen) return this.#options.onLost?.(1, new Error("its key picture was lost"));
    open.waiting.push({ unit, picture });
    this.#release();
  }

  /** An engine says so before it gives a later picture. */
  #repeated(open: OpenGop, index: number): void {
    if (index < open.nextIndex || open.repeated.has(index)) return;
    open.repeated.add(index);
    this.#options.onRepeated?.(1);
  }

  #describe(open: OpenGop, unit: AccessUnit, picture: CodedPicture): AccessUnit {
    const coded: AccessUnit = {
      trackId: unit.trackId,
      data: picture.data,
      ptsUs: unit.ptsUs,
      dtsUs: unit.ptsUs, // no B-pictures: decoded in the order of display
      isKey: picture.isKey,
      capturedAtMs: unit.capturedAtMs,
    };
    const widthPx = open.info.widthPx - open.info.widthPx % 2;
    const heightPx = open.info.heightPx - open.info.heightPx % 2;
    if (
      this.#track?.widthPx === widthPx && this.#track.heightPx === heightPx &&
      sameBytes(this.#track.config, picture.config)
    ) return coded;
    const { config } = picture;
    this.#track = { id: unit.trackId, kind: "video", codec: "h264", widthPx, heightPx, config };
    return { ...coded, track: this.#track };
  }

  /** Hands out what is coded, GOP after GOP. */
  #release(): void {
    for (let open = this.#gops[0]; open; open = this.#gops[0]) {
      // Described as they leave: a later GOP may well be coded before an earlier one.
      for (const { unit, picture } of open.waiting.splice(0)) {
        this.output.put(this.#describe(open, unit, picture));
      }
      if (!open.settled) return;
      this.#gops.shift();
    }
  }

  #endCurrent(options: { readonly showLast?: boolean } = {}): void {
    const open = this.#current;
    if (!open) return;
    this.#current = undefined;
    open.endedAtMs = this.#house.clock.monotonic();
    open.gop.end(options);
  }

  #settled(open: OpenGop, busyMs: number): void {
    const lost = missingOf(open, open.pictures.length);
    if (lost > 0 && !this.#signal.aborted) {
      this.#options.onLost?.(lost, new Error("damaged JPEG: not decodable"));
    }
    open.settled = true;
    this.#release();
    if (this.#signal.aborted) return;
    const { cellMs } = open;
    const nowMs = this.#house.clock.monotonic();
    // Fed faster than life (a test, a backlog), an encoder is always busy and yet not late.
    const slow = nowMs - open.openedAtMs > 1.2 * cellMs;
    const tailMs = nowMs - (open.endedAtMs ?? nowMs);
    this.#house.onReport(this.#options.camera, {
      kind: "encoded",
      gear: open.gear,
      widthPx: open.info.widthPx,
      heightPx: open.info.heightPx,
      pictures: open.pictures.length,
      spanMs: spanOf(open.pictures, cellMs),
      busyMs,
      late: slow && (open.blockedMs > 0.3 * cellMs || tailMs > this.#options.gopMs),
    });
  }

  #failed(open: OpenGop, error: Error): void {
    open.settled = true;
    this.#release();
    if (this.#signal.aborted) return;
    const lost = missingOf(open, open.pictures.length);
    if (lost > 0) this.#options.onLost?.(lost, error);
    this.#house.onReport(this.#options.camera, { kind: "failed", gear: open.gear, error });
  }

  /** The pictures held back are shown by the unit before them. */
  #dropHeld(): void {
    if (this.#held) this.#options.onRepeated?.(this.#held.count);
    this.#held = undefined;
  }

  async #finishAll(): Promise<void> {
    const held = this.#held;
    this.#held = undefined;
    if (held) {
      if (held.count > 1) this.#options.onRepeated?.(held.count - 1);
      const open = this.#current ?? await this.#open(held.unit, parseJpeg(held.unit.data));
      await this.#push(open, held.unit);
    }
    this.#endCurrent({ showLast: true });
    for (const lane of this.#lanes.values()) lane.flush();
    await orAborted(Promise.allSettled(this.#gops.map((open) => open.gop.finished)), this.#signal);
    await Promise.resolve(); // lets the last GOP's units out
  }

  /** Waits for the next picture, and ends the GOP when its time is up before one comes. */
  async #orTimeUp<T>(next: Promise<T>): Promise<T> {
    const open = this.#current;
    if (!open) return await orAborted(next, this.#signal);
    const answered = new AbortController();
    const { clock } = this.#house;
    const restMs = open.openedAtMs + open.cellMs + GRACE_MS - clock.monotonic();
    const timeUp = clock.sleep(Math.max(0, restMs), { signal: answered.signal })
      .then(() => this.#endCurrent(), () => {});
    try {
      return await orAborted(next, this.#signal);
    } finally {
      answered.abort();
      await timeUp;
    }
  }
}

/** The time that the pictures cover, with one more interval for the last of them. */
function spanOf(pictures: readonly AccessUnit[], gopMs: number): number {
  const steps = pictures.length - 1;
  const spanMs = (pictures.at(-1)?.capturedAtMs ?? 0) - (pictures[0]?.capturedAtMs ?? 0);
  return steps > 0 && spanMs > 0 ? spanMs * (steps + 1) / steps : gopMs;
}

/** Pictures before `index` that neither came out nor were repeats. */
function missingOf(open: OpenGop, index: number): number {
  let missing = 0;
  for (let i = open.nextIndex; i < index; i++) if (!open.repeated.has(i)) missing++;
  return missing;
}

/** Whether a picture can go on in the GOP of another. */
function isAlike(a: JpegInfo, b: JpegInfo): boolean {
  return a.widthPx === b.widthPx && a.heightPx === b.heightPx && a.subsampling === b.subsampling &&
    canDrawPlanes(a) === canDrawPlanes(b);
}

function formatOf({ widthPx, heightPx, subsampling, components }: JpegInfo): PlanesFormat {
  return { widthPx, heightPx, subsampling, components };
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  // Pictures that differ do so early on: the first byte that does not fit ends it.
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
