/**
 * What a clip knows of its samples: sizes, times and places, as the sample tables of a finished MP4
 * need them (ISO/IEC 14496-12 §8.6, §8.7). The writer fills it while it records, the recovery from
 * what it finds in a torn file, and both end in the same tables.
 *
 * Four bytes per sample, plus eight for each change of duration or composition offset: an hour of
 * 30 pictures a second costs below 2 MB.
 *
 * @module
 */
import { MediaError } from "./media_error.ts";

/** The field has 32 bits, but ffmpeg and mp4box.js take its highest for a sign. */
export const MAX_DURATION_TICKS: number = 2 ** 31 - 1;

/** An append-only list of 32-bit numbers. */
export class NumberList {
  #values = new Uint32Array(64);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const larger = new Uint32Array(this.#values.length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#length++] = value;
  }

  at(index: number): number {
    return this.#values[index] ?? 0;
  }

  /** Adds to the number at `index`. */
  increase(index: number, by: number): void {
    this.#values[index] = this.at(index) + by;
  }

  /** The numbers, as a view. */
  values(): Uint32Array {
    return this.#values.subarray(0, this.#length);
  }
}

/** Pairs of (count, value), one for each run of equal values: the form of `stts` and `ctts`. */
export class RunList {
  readonly pairs: NumberList = new NumberList();

  /** Appends a value; negative ones are kept as two's complement. */
  push(value: number): void {
    const stored = value >>> 0;
    const last = this.pairs.length - 2;
    if (last >= 0 && this.pairs.at(last + 1) === stored) {
      this.pairs.increase(last, 1);
    } else {
      this.pairs.push(1);
      this.pairs.push(stored);
    }
  }

  /** Whether all values are 0. */
  get isZero(): boolean {
    return this.pairs.length === 0 || (this.pairs.length === 2 && this.pairs.at(1) === 0);
  }
}

/** A sample's place in time, in its track's ticks. */
export interface SampleTime {
  readonly dtsTicks: number;
  /** Presentation minus decode time; may be negative. */
  readonly offsetTicks: number;
}

/** What never changes about a track. */
export interface TrackHead {
  readonly id: number;
  readonly kind: "video" | "audio";
  readonly timescale: number;
  /** As shown, so after the sample aspect ratio; 0 for sound. */
  readonly widthPx: number;
  readonly heightPx: number;
}

/** The samples of one track. */
export class TrackIndex {
  readonly head: TrackHead;
  /** Whole sample entry boxes (`avc1` …), in the order of their description index. */
  readonly entries: Uint8Array[];
  readonly sizes: NumberList = new NumberList();
  readonly durations: RunList = new RunList();
  readonly offsets: RunList = new RunList();
  /** Numbers (from 1) of the samples at which decoding may start. */
  readonly keys: NumberList = new NumberList();
  /** Per chunk: its place in the file, as two halves of 64 bits. */
  readonly chunkOffsets: NumberList = new NumberList();
  /** Per chunk: first chunk number, samples and description, where they change: `stsc`. */
  readonly chunkRuns: NumberList = new NumberList();
  #chunks = 0;
  #chunkSamples = 0;
  #chunkEntry = 0;
  #firstTicks: number | undefined;
  #lastTicks = 0;
  #lastShownTicks = 0;

  constructor(head: TrackHead, entry: Uint8Array) {
    this.head = head;
    this.entries = [entry];
  }

  get sampleCount(): number {
    return this.sizes.length;
  }

  /** Decode time of the first sample; `undefined` while there is none. */
  get firstTicks(): number | undefined {
    return this.#firstTicks;
  }

  /** Decode time of the last sample. */
  get lastTicks(): number {
    return this.#lastTicks;
  }

  /** When the last picture shown ends: a clip cut within reordered pictures ends after its last decoded. */
  endTicks(lastDurationTicks: number): number {
    return Math.max(this.#lastTicks, this.#lastShownTicks) + lastDurationTicks;
  }

  /** Begins a run of samples that lie one behind the other at `offset`, with the newest description. */
  beginChunk(offset: number): void {
    if (this.#chunks > 0 && this.#chunkSamples === 0) {
      // A chunk was begun here and a new description came before its first sample.
      this.#chunkEntry = this.entries.length;
      return;
    }
    this.#endChunk();
    this.chunkOffsets.push(Math.floor(offset / 2 ** 32));
    this.chunkOffsets.push(offset % 2 ** 32);
    this.#chunks++;
    this.#chunkSamples = 0;
    this.#chunkEntry = this.entries.length;
  }

  /** Appends a sample to the chunk. Its duration is known when the next one comes. */
  add(time: SampleTime, sizeBytes: number, isKey: boolean): void {
    if (this.#firstTicks === undefined) this.#firstTicks = time.dtsTicks;
    else this.durations.push(sampleDuration(this.#lastTicks, time.dtsTicks));
    this.#lastTicks = time.dtsTicks;
    this.#lastShownTicks = Math.max(this.#lastShownTicks, time.dtsTicks + time.offsetTicks);
    this.sizes.push(sizeBytes);
    this.offsets.push(time.offsetTicks);
    this.#chunkSamples++;
    if (isKey) this.keys.push(this.sizes.length);
  }

  /** Ends the track: nothing may be added afterwards. */
  finish(lastDurationTicks: number): void {
    this.#endChunk();
    if (this.#firstTicks !== undefined) this.durations.push(lastDurationTicks);
  }

  #endChunk(): void {
    if (this.#chunks === 0) return;
    const last = this.chunkRuns.length - 3;
    if (
      last < 0 || this.chunkRuns.at(last + 1) !== this.#chunkSamples ||
      this.chunkRuns.at(last + 2) !== this.#chunkEntry
    ) {
      this.chunkRuns.push(this.#chunks);
      this.chunkRuns.push(this.#chunkSamples);
      this.chunkRuns.push(this.#chunkEntry);
    }
    this.#chunkSamples = 0;
  }
}

/** Ticks between two decode times. @throws MediaError if a sample cannot last so long */
export function sampleDuration(fromTicks: number, toTicks: number): number {
  const duration = toTicks - fromTicks;
  if (duration < 0 || duration > MAX_DURATION_TICKS) {
    throw new MediaError(
      duration < 0
        ? `decode times go back by ${-duration} ticks: access units must come in decode order`
        : `a gap of ${duration} ticks does not fit into one clip: begin a new one after a gap`,
    );
  }
  return duration;
}
