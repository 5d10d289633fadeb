/**
 * A fragment of a clip (ISO/IEC 14496-12 §8.8): its `moof`, and its data in as few pieces as pay. An
 * hour of one camera has 3,600 of them with 300,000 units, so nothing is made here for each unit: a
 * run keeps what is known of its units in lists, and the boxes are written straight into one buffer.
 *
 * @module
 */
import type { AccessUnit, Track } from "../types.ts";
import type { BoxBuffer } from "./mp4_boxes.ts";
import { DELTA_SAMPLE_FLAGS, KEY_SAMPLE_FLAGS } from "./mp4_movie.ts";

/** Copying less than this costs less than another write. */
const SMALL_PIECE_BYTES = 4096;

/** Added to a track's decode times and to its composition offsets where they stand in a fragment. */
export interface FragmentDelay {
  readonly decodeTicks: number;
  readonly offsetTicks: number;
}

/** A track's part of a fragment, with each unit's place in the clip. */
export interface FragmentRun {
  readonly track: { readonly current: Track; readonly delay: FragmentDelay };
  readonly units: readonly AccessUnit[];
  readonly dtsTicks: readonly number[];
  readonly offsetTicks: readonly number[];
  readonly durations: readonly number[];
  /** Bytes of each sample. */
  readonly sizes: readonly number[];
  readonly dataBytes: number;
}

/**
 * `moof` (§8.8.4): per track its first decode time and a run of samples. What all samples of a run
 * share is said once.
 */
export function writeMovieFragment(
  front: BoxBuffer,
  sequence: number,
  runs: readonly FragmentRun[],
): void {
  const moof = front.begin("moof");
  const header = front.beginFull("mfhd");
  front.u32(sequence);
  front.end(header);
  const dataOffsets = runs.map((run) => writeTrackFragment(front, run));
  front.end(moof);
  let dataOffset = front.length - moof + 8;
  for (let i = 0; i < runs.length; i++) {
    front.setU32(dataOffsets[i] ?? 0, dataOffset);
    dataOffset += runs[i]?.dataBytes ?? 0;
  }
}

/** `traf`. Gives the place of its data offset, which is known when the `moof` is whole. */
function writeTrackFragment(front: BoxBuffer, run: FragmentRun): number {
  const { track, units, durations, sizes, offsetTicks } = run;
  const isVideo = track.current.kind === "video";
  const duration = durations[0] ?? 0;
  const isSteady = durations.every((other) => other === duration);
  const fragment = front.begin("traf");
  // Offsets count from the moof.
  const header = front.beginFull("tfhd", { flags: 0x02_0000 | (isSteady ? 0x08 : 0) });
  front.u32(track.current.id);
  if (isSteady) front.u32(duration);
  front.end(header);
  const decodeTime = front.beginFull("tfdt", { version: 1 });
  front.u64((run.dtsTicks[0] ?? 0) + track.delay.decodeTicks);
  front.end(decodeTime);
  const flags = 0x201 | (isSteady ? 0 : 0x100) | (isVideo ? 0xc00 : 0);
  const samples = front.beginFull("trun", { version: 1, flags });
  front.u32(units.length);
  const dataOffsetAt = front.u32(0);
  for (let i = 0; i < units.length; i++) {
    if (!isSteady) front.u32(durations[i] ?? 0);
    front.u32(sizes[i] ?? 0);
    if (isVideo) {
      front.u32(units[i]?.isKey ? KEY_SAMPLE_FLAGS : DELTA_SAMPLE_FLAGS);
      front.u32((offsetTicks[i] ?? 0) + track.delay.offsetTicks);
    }
  }
  front.end(samples);
  front.end(fragment);
  return dataOffsetAt;
}

/**
 * The bytes of a fragment in as few pieces as pay: neighbours in one buffer become one piece, and small
 * ones next to each other are copied together.
 */
export class Pieces {
  readonly #pieces: Uint8Array[] = [];
  /** From here on they are small, and so many bytes together. */
  #smallFrom = 0;
  #smallBytes = 0;
  /** The one that may still grow. */
  #first: Uint8Array;
  #length: number;

  constructor(first: Uint8Array) {
    this.#first = first;
    this.#length = first.length;
  }

  add(piece: Uint8Array): void {
    const first = this.#first;
    if (
      piece.byteOffset === first.byteOffset + this.#length && piece.buffer === first.buffer
    ) {
      this.#length += piece.length;
    } else if (piece.length > 0) {
      this.#push();
      this.#first = piece;
      this.#length = piece.length;
    }
  }

  /** All of them; nothing may be added afterwards. */
  taken(): Uint8Array[] {
    this.#push();
    this.#joinSmall();
    return this.#pieces;
  }

  #push(): void {
    const { buffer, byteOffset, length } = this.#first;
    const whole = length === this.#length
      ? this.#first
      : new Uint8Array(buffer, byteOffset, this.#length);
    if (whole.length >= SMALL_PIECE_BYTES) this.#joinSmall();
    this.#pieces.push(whole);
    if (whole.length >= SMALL_PIECE_BYTES) this.#smallFrom = this.#pieces.length;
    else this.#smallBytes += whole.length;
  }

  #joinSmall(): void {
    const pieces = this.#pieces;
    const from = this.#smallFrom;
    if (pieces.length > from + 1) {
      const joined = new Uint8Array(this.#smallBytes);
      let at = 0;
      for (let i = from; i < pieces.length; i++) {
        const piece = pieces[i] as Uint8Array;
        joined.set(piece, at);
        at += piece.length;
      }
      pieces.length = from;
      pieces.push(joined);
    }
    this.#smallFrom = pieces.length;
    this.#smallBytes = 0;
  }
}
