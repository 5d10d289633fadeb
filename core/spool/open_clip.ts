/**
 * A clip that is being recorded: a file in the spool's `open/` folder that grows by a fragment at a
 * time and that a crash at any moment leaves recoverable.
 *
 * Only whole fragments count. When a write fails half-way (a full disk), what it left is written over
 * by the next one or cut off at the end, so a clip is good up to its last whole fragment whatever
 * happens.
 *
 * @module
 */
import type { Clock } from "../types.ts";
import { DirectWrites } from "./direct_writes.ts";
import { asSpoolError, spoolError } from "./errors.ts";
import type { Folders } from "./folders.ts";
import { replaceText, type SpoolFile, type SpoolFs, syncFile, writeGathered } from "./fs.ts";
import type { Layout } from "./layout.ts";
import { type Draft, publish } from "./publish.ts";
import { type ClipSidecar, formatSidecar, type OpenSidecar } from "./sidecar.ts";
import type { SpooledClip } from "./types.ts";

/** How a clip ends. */
export interface ClipEnd {
  /** When its last picture ends. One before the start (the clock went back) is put right. */
  readonly end: Date;
  /** The last bytes. */
  readonly tail: readonly Uint8Array[];
  /** Bytes to write over others when the tail is durable. */
  readonly patch?: { readonly offset: number; readonly bytes: Uint8Array };
  /** Pictures in the clip. */
  readonly frames: number;
  /** What happened during it, a word each; those that it got before count no more. */
  readonly tags?: readonly string[];
}

/** A clip that is being recorded. Calls may overlap; they are done in their order. */
export interface OpenClip {
  readonly key: string;
  /** Bytes in whole fragments. */
  readonly bytes: number;
  /** So many of them survive a power cut; grows within moments after an append. */
  readonly durableBytes: number;
  /**
   * Adds one fragment at the end. When this resolves it survives the end of the process, and
   * moments later a power cut.
   *
   * @throws a spool error of kind `full` or `io`; the clip is then as it was before the call, and
   * `append` may be tried again or `finish` called
   */
  append(chunks: readonly Uint8Array[]): Promise<void>;
  /**
   * Adds to what happens during it, a word each, for the case that it is cut short: a recovered clip
   * has them. When this resolves it survives the end of the process, and moments later a power cut.
   *
   * @throws a spool error of kind `full` or `io`; the clip is then as it was
   */
  tag(tags: readonly string[]): Promise<void>;
  /**
   * Completes the clip. When this resolves it survives a power cut, and waits for every sink.
   *
   * @throws a spool error of kind `full` or `io`; nothing is lost and nothing is left to do: the
   * spool itself goes on trying to finish the clip as a recovered one
   */
  finish(end: ClipEnd): Promise<SpooledClip>;
  /** Throws the clip away. */
  discard(): Promise<void>;
}

/** What an open clip needs of its spool. */
export interface OpenClipHost {
  readonly fs: SpoolFs;
  readonly folders: Folders;
  readonly layout: Layout;
  readonly clock: Clock;
  /** Whether finished clips get one. */
  readonly md5: boolean;
  /** Makes room for so many bytes more, and counts them. @throws a spool error of kind `full` */
  admit(bytes: number): Promise<void>;
  /** Lends a buffer for gathering small writes. */
  withStaging<T>(work: (staging: Uint8Array) => Promise<T>): Promise<T>;
  /** Have {@linkcode OpenClipFile.sync} called soon. */
  syncSoon(clip: OpenClipFile): void;
  /** Run while a clip gets its final name, so that nobody tidies its folder away. */
  whilePublishing<T>(work: () => Promise<T>): Promise<T>;
  /** The clip is published. */
  finished(clip: OpenClipFile, published: ClipSidecar): Promise<SpooledClip>;
  /** The clip is not open any more: thrown away, or left to be recovered. */
  closed(clip: OpenClipFile, left: "nothing" | "torn"): void;
}

/**
 * A disk that takes longer for a fragment is not waited for again: through the system's cache what
 * comes next survives the end of the process without it.
 */
const SLOW_MS = 250;

/** See {@linkcode OpenClip}. */
export class OpenClipFile implements OpenClip {
  readonly #host: OpenClipHost;
  #sidecar: OpenSidecar;
  readonly #file: SpoolFile;
  readonly #beganMonotonicMs: number;
  /** As long as it is written past the system's cache. */
  #direct: DirectWrites | undefined;
  #bytes = 0;
  #admittedBytes = 0;
  #durableBytes = 0;
  /** The sidecar that a power cut would leave. */
  #durableSidecar: OpenSidecar | undefined;
  #isClosed = false;
  #syncError: unknown;
  #last: Promise<unknown> = Promise.resolve();

  constructor(host: OpenClipHost, sidecar: OpenSidecar, file: SpoolFile) {
    this.#host = host;
    this.#sidecar = sidecar;
    this.#file = file;
    if (file.setDirect?.(true)) this.#direct = new DirectWrites(file);
    this.#beganMonotonicMs = host.clock.monotonic();
  }

  get key(): string {
    return this.#sidecar.key;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** For so many bytes the spool was asked for room. */
  get admittedBytes(): number {
    return this.#admittedBytes;
  }

  get durableBytes(): number {
    return this.#durableBytes;
  }

  append(chunks: readonly Uint8Array[]): Promise<void> {
    return this.#inTurn(async () => {
      try {
        // After a failed sync nobody knows what the disk holds; it must not look like success.
        if (this.#syncError) throw this.#syncError;
        const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
        const newBytes = this.#bytes + length - this.#admittedBytes;
        if (newBytes > 0) await this.#host.admit(newBytes); // less than all when tried again
        this.#admittedBytes = Math.max(this.#admittedBytes, this.#bytes + length);
        await this.#writeFragment(chunks);
        this.#bytes += length;
      } catch (error) {
        throw asSpoolError(error, `append to the clip ${this.key}`);
      }
      this.#host.syncSoon(this);
    });
  }

  tag(tags: readonly string[]): Promise<void> {
    return this.#inTurn(async () => {
      const { fs, layout } = this.#host;
      const all = [...new Set([...this.#sidecar.tags, ...tags])];
      if (all.length === this.#sidecar.tags.length) return;
      const sidecar = { ...this.#sidecar, tags: all };
      try {
        await replaceText(fs, layout.openSidecar(this.key), formatSidecar(sidecar));
      } catch (error) {
        throw asSpoolError(error, `tag the clip ${this.key}`);
      }
      this.#sidecar = sidecar;
      this.#host.syncSoon(this);
    });
  }

  finish({ end, tail, patch, frames, tags = [] }: ClipEnd): Promise<SpooledClip> {
    return this.#inTurn(async () => {
      const { fs, folders, layout, clock, md5 } = this.#host;
      const { startMs } = this.#sidecar;
      const endMs = end.getTime() >= startMs
        ? end.getTime()
        : startMs + Math.max(0, Math.round(clock.monotonic() - this.#beganMonotonicMs));
      try {
        if (this.#syncError) throw this.#syncError;
        this.#endDirect();
        await this.#file.truncate(this.#bytes); // a failed write or a padded block left more
        this.#bytes += await this.#write(tail, this.#bytes);
        if (patch) {
          await this.#file.sync(); // the patch points at the tail: it must never be there alone
          await this.#write([patch.bytes], patch.offset);
        }
        const draft: Draft = {
          ...this.#sidecar,
          endMs,
          frames,
          recovered: false,
          finishedMs: clock.now(),
          tags: [...tags],
        };
        this.#isClosed = true;
        const published = await this.#host.whilePublishing(() =>
          publish({ fs, folders, layout, draft, md5, file: this.#file })
        );
        return await this.#host.finished(this, published);
      } catch (error) {
        this.#abandon();
        throw asSpoolError(error, `finish the clip ${this.key}`);
      }
    });
  }

  discard(): Promise<void> {
    return this.#inTurn(async () => {
      const { fs, layout } = this.#host;
      this.#isClosed = true;
      this.#file.close();
      try {
        await fs.remove(layout.openClip(this.key));
        await fs.remove(layout.openSidecar(this.key));
        await fs.syncFolder(layout.open);
        // Not before: the key may be used again at once, and two clips must not be mixed up.
        this.#host.closed(this, "nothing");
      } catch (error) {
        this.#host.closed(this, "torn");
        throw asSpoolError(error, `discard the clip ${this.key}`);
      }
    });
  }

  /** Makes durable what was appended until now. Never fails: the next call on the clip tells. */
  async sync(): Promise<void> {
    const { fs, layout } = this.#host;
    const bytes = this.#bytes;
    if (this.#isClosed) return;
    try {
      await this.#file.sync();
      const sidecar = this.#sidecar;
      if (this.#durableSidecar !== sidecar) {
        await syncFile(fs, layout.openSidecar(this.key));
        await fs.syncFolder(layout.open);
        this.#durableSidecar = sidecar;
      }
      this.#durableBytes = bytes;
    } catch (error) {
      if (!this.#isClosed) this.#syncError ??= error;
    }
  }

  /** Leaves the clip as it is, to be recovered. */
  leave(): Promise<void> {
    return this.#inTurn(async () => {
      await this.sync();
      this.#abandon();
    });
  }

  #abandon(): void {
    if (!this.#isClosed) this.#file.close();
    this.#isClosed = true;
    this.#host.closed(this, "torn");
  }

  async #writeFragment(chunks: readonly Uint8Array[]): Promise<void> {
    const direct = this.#direct;
    if (direct === undefined) return void await this.#write(chunks, this.#bytes);
    const { clock, withStaging } = this.#host;
    const beganMs = clock.monotonic();
    await withStaging((staging) => direct.append(chunks, { atByte: this.#bytes, staging }));
    if (clock.monotonic() - beganMs > SLOW_MS) this.#endDirect();
  }

  #endDirect(): void {
    if (this.#direct) this.#file.setDirect?.(false);
    this.#direct = undefined;
  }

  #write(chunks: readonly Uint8Array[], atByte: number): Promise<number> {
    return this.#host.withStaging((staging) =>
      writeGathered(this.#file, chunks, { atByte, staging })
    );
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(() => {
      if (this.#isClosed) throw spoolError("io", `the clip ${this.key} is not open any more`);
      return work();
    });
    this.#last = result.catch(() => {});
    return result;
  }
}
