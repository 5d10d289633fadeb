/**
 * What the spool is to the other rooms: how it is opened, and what it then does.
 *
 * @module
 */
import type { Clock, Log } from "../types.ts";
import type { Backlog, Catalogue, ClipFilter, Delivery } from "./catalogue.ts";
import type { SpoolFs } from "./fs.ts";
import type { JournalOwner, LeftJournal, PictureJournal } from "./journal.ts";
import type { OpenClip } from "./open_clip.ts";
import type { RecoveryReport } from "./recovery.ts";
import type { SpoolSpace, WhenFull } from "./retention.ts";
import type { Receipt, RecoverTornClip, SpooledClip } from "./types.ts";

/** How a spool is opened. */
export interface SpoolOptions {
  /** Its folder; made if missing. */
  readonly path: string;
  readonly clock: Clock;
  readonly log: Log;
  /** The sinks that get every clip. */
  readonly sinks: readonly string[];
  /** Those among the sinks for which a local copy is not kept. Default none. */
  readonly optionalSinks?: readonly string[];
  /** Whether clips get an MD5 beside their SHA-256, which some stores compare. Default true. */
  readonly md5?: boolean;
  /** Repairs an interrupted clip. */
  readonly recover: RecoverTornClip;
  /**
   * Interrupted clips are completed while clips are recorded and delivered already; see
   * {@linkcode Spool.mended}. Default: before it is open.
   */
  readonly mendLater?: boolean;
  /** At most so many bytes in clips. Default: no limit but the disk's. */
  readonly limitBytes?: number;
  /** Delivered clips stay for so long after they were finished, ms. Default 0. */
  readonly keepMs?: number;
  /** So much of the disk is left free. Default 5 % or 1 GiB, and less on a small disk. */
  readonly reserveBytes?: number;
  /** Default `stop`. */
  readonly whenFull?: WhenFull;
  /** For so long after a clip has gone it is known which sink has it, ms. Default 400 days. */
  readonly historyMs?: number;
  /** Default: the machine's file system. */
  readonly fs?: SpoolFs;
  /** Default: `catalogue.db` in the spool's folder. */
  readonly openCatalogue?: () => Catalogue;
}

/** What a new clip is. */
export interface NewClip {
  /** The camera's name as its owner wrote it. */
  readonly camera: string;
  /** Made by `cameraSlug`. */
  readonly slug: string;
  /** When its first picture was taken. */
  readonly start: Date;
  /** A MIME type; it gives the file's extension. */
  readonly contentType: string;
  /** What is known to happen during it, a word each; see {@linkcode OpenClip.tag}. */
  readonly tags?: readonly string[];
}

/** Clips that wait for delivery, kept safe. Errors are spool errors unless said otherwise. */
export interface Spool extends AsyncDisposable {
  /** What has been put in order since it was opened. */
  readonly recovery: RecoveryReport;
  /**
   * Resolves when the interrupted clips that were found have been dealt with: with `false` if the disk
   * would not have it, or the spool was closed before. They are then tried again. Never rejects.
   */
  readonly mended: Promise<boolean>;
  /** Grows with everything that may concern a delivery. */
  readonly version: number;
  /** Begins a clip. Its key is unique, also when the clock goes back. @throws kind `full` or `io` */
  begin(clip: NewClip): Promise<OpenClip>;
  /**
   * The oldest clip that a sink lacks, is not put aside for it, and is not among `excluding`. It may be
   * taken (see {@linkcode SpooledClip.mayBeTaken}) where its file would only be removed afterwards.
   */
  next(
    sink: string,
    options?: { readonly excluding?: ReadonlySet<string> },
  ): SpooledClip | undefined;
  /** How much a sink lacks. */
  backlog(sink: string): Backlog;
  /**
   * Notes that a sink has a clip. When this resolves the note survives a power cut, and not before
   * that can the local copy go.
   */
  receipt(sink: string, key: string, receipt: Receipt): Promise<void>;
  /** Puts a clip aside that a sink will never take. Its local copy stays. */
  quarantine(sink: string, key: string, reason: string): Promise<void>;
  /** Has a clip delivered to a sink again, be it stored there or put aside. It must be here. */
  redeliver(sink: string, key: string): Promise<void>;
  /** Notes that retention removed a clip from a sink. */
  removed(sink: string, key: string): Promise<void>;
  /**
   * Clips that may be removed from a sink, oldest first: it holds them, they ended before a moment,
   * they are not pinned, and no other required sink still lacks them.
   */
  removableFrom(sink: string, endedBefore: Date, limit?: number): readonly SpooledClip[];
  /** Bytes of all clips that a sink holds. */
  storedBytes(sink: string): number;
  /** How many bytes of clips a sink stored at or after a moment; the beginning of a try is no part. */
  storedBytesSince(sink: string, since: Date): number;
  /** How every sink stands to a clip. */
  deliveries(key: string): readonly Delivery[];
  /** Clips, oldest first unless told otherwise. */
  list(filter?: ClipFilter): readonly SpooledClip[];
  /** One clip, whatever its state. */
  get(key: string): SpooledClip | undefined;
  /** Keeps a clip from retention, on the spool and in the sinks. */
  pin(key: string): Promise<void>;
  /** Takes the pin off. */
  unpin(key: string): Promise<void>;
  /**
   * Adds to what happened during a clip, a word each; a clip that has gone is left as it is. What a
   * sink was told of the clip before that stays as it was.
   */
  tag(key: string, tags: readonly string[]): Promise<void>;
  /** A new sink gets the clips that are here; one that was there before, those it lacks. */
  addSink(sink: string): void;
  /** Clips are no longer kept for it. */
  removeSink(sink: string): void;
  /** Reads a clip again and compares length and hash with what they were. */
  verify(key: string): Promise<"ok" | "missing" | "damaged">;
  /**
   * Resolves when {@linkcode version} is no longer `since` (default: what it is now), at once if
   * it is not; resolves too when `signal` is aborted.
   */
  changed(options: { readonly signal: AbortSignal; readonly since?: number }): Promise<void>;
  /**
   * Applies retention, and tries again what the disk refused. The spool does so by itself every
   * minute, and after each receipt when clips are not kept; who waits for the result calls it.
   */
  sweep(): Promise<void>;
  /** How full it is. */
  space(): Promise<SpoolSpace>;
  /** Begins a journal for pictures of a camera that have to wait before they come into a clip. */
  journal(owner: JournalOwner): PictureJournal;
  /** The journals that were found when it was opened, oldest first. */
  readonly leftJournals: readonly LeftJournal[];
}
