/**
 * How much room a spool has, and which clip goes first when there is too little.
 *
 * @module
 */
import { formatBytes } from "../config/values.ts";
import type { Clock, Log } from "../types.ts";
import type { ClipRow } from "./catalogue.ts";
import { spoolError } from "./errors.ts";
import type { DiskSpace, SpoolFs } from "./fs.ts";

/** What to do when there is no room and every clip that could go is still waiting for a sink. */
export type WhenFull = "stop" | "drop-oldest";

/** How full a spool is. */
export interface SpoolSpace extends DiskSpace {
  /** Kept free for the open clips' ends, the catalogue and everybody else on the machine. */
  readonly reserveBytes: number;
  /** In finished and open clips. */
  readonly usedBytes: number;
  /** What the user allows, if anything. */
  readonly limitBytes?: number;
  /** Recording cannot go on for want of room. */
  readonly isFull: boolean;
  /** Clips given up undelivered since the start, because the user said so. */
  readonly droppedClips: number;
}

/** Free space is asked for at least this often while recording, ms. */
const MEASURE_MS = 5000;

/**
 * The reserve when the user names none: 5 % of the disk or 1 GiB, whichever is more, but never more
 * than a fifth of it, or a small disk would be all reserve.
 */
export function defaultReserveBytes(totalBytes: number): number {
  return Math.round(Math.min(Math.max(totalBytes * 0.05, 2 ** 30), totalBytes * 0.2));
}

/** What {@linkcode Room} watches over and may give up. */
export interface RoomOptions {
  readonly fs: SpoolFs;
  readonly path: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly limitBytes?: number;
  readonly reserveBytes?: number;
  readonly whenFull: WhenFull;
  /** Bytes in finished clips at the start. */
  readonly usedBytes: number;
  /** The oldest clips that may go, delivered everywhere or not. */
  readonly oldest: (delivered: boolean) => readonly ClipRow[];
  /** Removes one. */
  readonly remove: (row: ClipRow) => Promise<void>;
}

/** Keeps account of the room for recording, and makes room by giving up old clips. */
export class Room {
  readonly #options: RoomOptions;
  /** What may be written before the disk is asked again. */
  #budgetBytes = 0;
  #measuredAtMs = -Infinity;
  #disk: DiskSpace = { freeBytes: Infinity, totalBytes: Infinity };
  #usedBytes: number;
  #isFull = false;
  #isDropping = false;
  #droppedClips = 0;

  constructor(options: RoomOptions) {
    this.#options = options;
    this.#usedBytes = options.usedBytes;
  }

  /** Notes that files have grown or (negative) gone. */
  grow(bytes: number): void {
    this.#usedBytes += bytes;
  }

  /** How full it is, as of now. */
  async space(): Promise<SpoolSpace> {
    await this.measure();
    return {
      ...this.#disk,
      reserveBytes: this.#reserveBytes,
      usedBytes: this.#usedBytes,
      limitBytes: this.#options.limitBytes,
      isFull: this.#isFull,
      droppedClips: this.#droppedClips,
    };
  }

  /**
   * Whether so many bytes may be written without looking at the disk. They then count as written
   * until it is looked at.
   */
  takeFromBudget(bytes: number): boolean {
    const isFresh = this.#options.clock.monotonic() - this.#measuredAtMs < MEASURE_MS;
    if (!isFresh || this.#budgetBytes < bytes) return false;
    this.#budgetBytes -= bytes;
    return true;
  }

  /**
   * Gives up clips until so many bytes may be written: delivered ones, oldest first, and then, if
   * the user said so, undelivered ones.
   *
   * @throws a spool error of kind `full` if there is not enough even then
   */
  async make(bytes: number): Promise<void> {
    const { whenFull, oldest, remove, log } = this.#options;
    let missing = await this.#missing(bytes);
    let dropped = 0;
    for (const delivered of whenFull === "drop-oldest" ? [true, false] : [true]) {
      while (missing > 0) {
        const rows = oldest(delivered);
        if (rows.length === 0) break;
        for (const row of rows) {
          if (missing <= 0) break;
          await remove(row);
          missing -= row.bytes;
          if (!delivered) {
            dropped++;
            if (!this.#isDropping) {
              log.error(
                `the spool is full: clips are given up before they were delivered, oldest first ` +
                  `(spool.whenFull is "drop-oldest"), from ${row.key} on`,
                { event: "drop-begin", key: row.key },
              );
            }
            this.#isDropping = true;
          }
        }
        // Look again: what was removed may still be held open by somebody who reads it.
        if (missing <= 0) missing = Math.max(0, await this.#missing(bytes));
        else await this.measure();
      }
    }
    this.#droppedClips += dropped;
    missing = await this.#missing(bytes);
    this.#setFull(missing > 0);
    if (missing > 0) throw this.#fullError(missing);
    this.#budgetBytes -= bytes;
  }

  /** Says that the dropping is over when a whole round of retention did without it. */
  endOfRound(droppedBefore: number): void {
    if (!this.#isDropping || this.#droppedClips > droppedBefore) return;
    this.#isDropping = false;
    this.#options.log.info(
      `the spool has room again; ${this.#droppedClips} clips were given up undelivered`,
      { event: "drop-end", clips: this.#droppedClips },
    );
  }

  /** Clips given up undelivered since the start. */
  get droppedClips(): number {
    return this.#droppedClips;
  }

  get #reserveBytes(): number {
    const { reserveBytes } = this.#options;
    if (reserveBytes !== undefined) return reserveBytes;
    return Number.isFinite(this.#disk.totalBytes) ? defaultReserveBytes(this.#disk.totalBytes) : 0;
  }

  /** Looks at the disk. */
  async measure(): Promise<void> {
    const { fs, path, clock, limitBytes = Infinity } = this.#options;
    this.#disk = await fs.space(path);
    this.#measuredAtMs = clock.monotonic();
    this.#budgetBytes = Math.min(
      this.#disk.freeBytes - this.#reserveBytes,
      limitBytes - this.#usedBytes,
    );
  }

  async #missing(bytes: number): Promise<number> {
    await this.measure();
    return bytes - this.#budgetBytes;
  }

  #setFull(isFull: boolean): void {
    if (isFull === this.#isFull) return;
    this.#isFull = isFull;
    if (!isFull) this.#options.log.info("the spool has room again", { event: "full-end" });
  }

  #fullError(missingBytes: number): Error {
    const { limitBytes, path } = this.#options;
    const isLimit = limitBytes !== undefined &&
      limitBytes - this.#usedBytes < this.#disk.freeBytes - this.#reserveBytes;
    const what = isLimit
      ? `the spool ${path} holds ${formatBytes(this.#usedBytes)} and may hold no more than ` +
        `${formatBytes(limitBytes)} (spool.limit)`
      : `the disk of the spool ${path} has ${formatBytes(this.#disk.freeBytes)} left, of which ` +
        `${formatBytes(this.#reserveBytes)} are kept in reserve (spool.reserve)`;
    return spoolError(
      "full",
      `${what}: ${formatBytes(missingBytes)} more are needed. Clips that wait for a sink are not ` +
        `given up; mend the sink, free some space, or set spool.whenFull to "drop-oldest"`,
    );
  }
}
