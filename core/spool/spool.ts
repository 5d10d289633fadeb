/**
 * The spool: a clip is on the disk from its first fragment, and stays until every sink that must have
 * it has proved that it does.
 *
 * What is promised, and by what: a finished clip is never lost (it is synced before `finish`
 * resolves, see `publish.ts`); a crash of the process costs nothing that was appended, a power cut
 * what was appended in the last moments (see `sync_rounds.ts`); nothing is removed before its
 * receipts are durable (see `catalogue.ts`).
 *
 * @module
 */
import { JumpWatch } from "../clock.ts";
import type { Backlog, Catalogue, ClipFilter, ClipRow, ClipState, Delivery } from "./catalogue.ts";
import { checkClipFile, type ClipPlace, spooledClip, writeMarks } from "./clip_files.ts";
import type { NewClip, Spool, SpoolOptions } from "./contract.ts";
import { asSpoolError, spoolError, spoolErrorKind } from "./errors.ts";
import { Folders } from "./folders.ts";
import { diskFs, type SpoolFs, writeText } from "./fs.ts";
import {
  createJournal,
  type JournalOwner,
  type LeftJournal,
  leftJournals,
  type PictureJournal,
} from "./journal.ts";
import { GroupCommit } from "./group_commit.ts";
import { clipKey, type Layout, layoutOf, parseKey } from "./layout.ts";
import { lockSpool } from "./lock.ts";
import { News } from "./news.ts";
import { type OpenClip, OpenClipFile, type OpenClipHost } from "./open_clip.ts";
import {
  checkFormat,
  openOrReplaceCatalogue,
  recoverOpenClip,
  recoverSpool,
  type RecoveryContext,
  type RecoveryReport,
  removeClipFiles,
  type TornClip,
} from "./recovery.ts";
import { Room, type SpoolSpace } from "./retention.ts";
import { type ClipSidecar, formatSidecar } from "./sidecar.ts";
import { Staging } from "./staging.ts";
import { SyncRounds } from "./sync_rounds.ts";
import type { Receipt, SpooledClip } from "./types.ts";

/** Retention runs at least this often, ms. */
const SWEEP_MS = 60_000;
const HISTORY_MS = 400 * 86_400_000;
/** A clock that shows less than this was never set. */
const PLAUSIBLE_FROM_MS = Date.UTC(2020, 0, 1);
/** What waits for longer is read again, and so proved, on its way to the sink. */
const FRESH_MS = 600_000;

/**
 * Opens the spool in a folder: takes its lock and puts it in order.
 *
 * @throws a spool error of kind `locked` (exit code 75, with the other's `pid`) if another process
 * has it, `format` if a newer release made it, `full` or `io` if the disk will not have it
 */
export async function openSpool(options: SpoolOptions): Promise<Spool> {
  const { fs = diskFs, clock, log } = options;
  const layout = layoutOf(options.path);
  using cleanup = new DisposableStack();
  try {
    const folders = new Folders(fs, layout.root);
    await folders.makeRoot();
    const lock = cleanup.use(await lockSpool(fs, layout));
    await checkFormat(fs, layout);
    await folders.make(layout.open);
    await folders.make(layout.clips);
    const catalogue = options.openCatalogue?.() ??
      await openOrReplaceCatalogue({ fs, folders, layout, clock, log });
    cleanup.use(catalogue);
    const optional = new Set(options.optionalSinks);
    const sinks = new Map(options.sinks.map((name) => [name, !optional.has(name)]));
    catalogue.setSinks([...sinks].map(([name, required]) => ({ name, required })), clock.now());
    const context = { ...options, fs, folders, layout, catalogue };
    const { torn, ...recovery } = await recoverSpool(context);
    const spool = new DiskSpool({ ...options, fs }, {
      layout,
      folders,
      catalogue,
      lock,
      sinks,
      recovery,
      torn,
      leftJournals: await leftJournals({ fs, layout }),
    });
    cleanup.move();
    const mending = spool.mend();
    if (options.mendLater) return spool;
    try {
      await mending;
      return spool;
    } catch (error) {
      await spool[Symbol.asyncDispose]();
      throw error;
    }
  } catch (error) {
    throw asSpoolError(error, `open the spool ${layout.root}`);
  }
}

interface Opened {
  readonly layout: Layout;
  readonly folders: Folders;
  readonly catalogue: Catalogue;
  readonly lock: Disposable;
  /** Name → whether required. */
  readonly sinks: Map<string, boolean>;
  readonly recovery: Omit<RecoveryReport, "recovered">;
  readonly torn: readonly TornClip[];
  readonly leftJournals: readonly LeftJournal[];
}

class DiskSpool implements Spool {
  readonly leftJournals: readonly LeftJournal[];
  readonly mended: Promise<boolean>;
  readonly #options: SpoolOptions & { readonly fs: SpoolFs };
  readonly #layout: Layout;
  readonly #folders: Folders;
  readonly #catalogue: Catalogue;
  readonly #lock: Disposable;
  readonly #sinks: Map<string, boolean>;
  readonly #room: Room;
  readonly #host: OpenClipHost;
  readonly #rounds = new SyncRounds();
  readonly #jumps: JumpWatch;
  readonly #notes: GroupCommit;
  readonly #stop = new AbortController();
  /** Clips being recorded, by key; keys that are about to be. */
  readonly #open = new Map<string, OpenClipFile | undefined>();
  /** Keys of clips in `open/` that were interrupted, or whose finishing failed. */
  readonly #torn: Set<string>;
  readonly #onMended: (all: boolean) => void;
  #recovery: RecoveryReport;
  /** Clips on the disk that the catalogue could not take yet. */
  readonly #unlisted = new Map<string, ClipSidecar>();
  readonly #staging = new Staging();
  readonly #news = new News();
  #publishing = 0;
  #tidying: Promise<unknown> = Promise.resolve();
  /** Whatever removes clips runs one after the other. */
  #removing: Promise<unknown> = Promise.resolve();
  #sweepQueued: Promise<void> | undefined;
  readonly #background: Promise<void>;

  constructor(options: SpoolOptions & { fs: SpoolFs }, opened: Opened) {
    this.#options = options;
    this.#jumps = new JumpWatch(options.clock);
    this.#layout = opened.layout;
    this.#folders = opened.folders;
    this.#catalogue = opened.catalogue;
    this.#notes = new GroupCommit((work) => opened.catalogue.transaction(work));
    this.#lock = opened.lock;
    this.#sinks = opened.sinks;
    this.#recovery = { ...opened.recovery, recovered: 0 };
    this.#torn = new Set(opened.torn.map(({ key }) => key));
    this.leftJournals = opened.leftJournals;
    this.#room = new Room({
      fs: options.fs,
      path: opened.layout.root,
      clock: options.clock,
      log: options.log,
      limitBytes: options.limitBytes,
      reserveBytes: options.reserveBytes,
      whenFull: options.whenFull ?? "stop",
      usedBytes: opened.torn.reduce(
        (sum, { bytes }) => sum + bytes,
        opened.catalogue.totals().bytes,
      ),
      oldest: (delivered) => this.#oldest(delivered),
      remove: (row) => this.#remove([row]),
    });
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.mended = promise;
    this.#onMended = resolve;
    this.#host = this.#hostOf();
    this.#background = this.#sweepForEver();
  }

  get recovery(): RecoveryReport {
    return this.#recovery;
  }

  /** Completes the interrupted clips that were found; to be called once. */
  async mend(): Promise<void> {
    try {
      await this.#exclusively(() => this.#recoverTorn());
      this.#onMended(this.#torn.size === 0);
    } catch (error) {
      this.#onMended(false);
      if (!this.#options.mendLater) throw error;
      this.#warnOfSweep(error);
    }
  }

  get version(): number {
    return this.#news.version;
  }

  async begin({ camera, slug, start, contentType, tags = [] }: NewClip): Promise<OpenClip> {
    const { fs } = this.#options;
    this.#assertOpen();
    let key = "";
    try {
      await this.#admit(0);
      for (let nth = 1;; nth++) {
        key = clipKey({ slug, start, contentType, nth });
        if (!parseKey(key)) {
          throw new RangeError(`"${slug}" cannot be a folder; expected what cameraSlug makes`);
        }
        if (this.#open.has(key) || this.#torn.has(key) || this.#catalogue.get(key)) continue;
        this.#open.set(key, undefined);
        const isTaken = this.#unlisted.has(key) ||
          await fs.sizeOf(this.#layout.clip(key)) !== undefined ||
          await fs.sizeOf(this.#layout.openClip(key)) !== undefined;
        if (!isTaken) break;
        this.#open.delete(key);
      }
      const sidecar = { key, camera, contentType, startMs: start.getTime(), tags: [...tags] };
      const file = await fs.open(this.#layout.openClip(key), "new");
      try {
        await writeText(fs, this.#layout.openSidecar(key), {
          text: formatSidecar(sidecar),
          sync: false, // the first sync of the clip does it
        });
      } catch (error) {
        file.close();
        await fs.remove(this.#layout.openClip(key));
        throw error;
      }
      this.#assertOpen();
      const clip = new OpenClipFile(this.#host, sidecar, file);
      this.#open.set(key, clip);
      return clip;
    } catch (error) {
      this.#open.delete(key);
      throw asSpoolError(error, `begin a clip of the camera "${camera}"`);
    }
  }

  next(
    sink: string,
    { excluding = new Set() }: { excluding?: ReadonlySet<string> } = {},
  ): SpooledClip | undefined {
    const row = this.#catalogue.next(sink, excluding);
    return row && { ...this.#clip(row, row.state), mayBeTaken: this.#goesWith(sink, row) };
  }

  /** Whether a clip's file is of no more use here once this sink has it, and was hashed just now. */
  #goesWith(sink: string, { key, pinned, finishedMs }: ClipRow): boolean {
    const ageMs = this.#options.clock.now() - finishedMs;
    if (this.#options.keepMs || pinned || ageMs < 0 || ageMs >= FRESH_MS) return false;
    const others = this.#catalogue.deliveries(key).filter((other) => other.sink !== sink);
    return this.#hasRequiredSink && others.every(({ state }) => /stored|removed/.test(state));
  }

  backlog(sink: string): Backlog {
    return this.#catalogue.backlog(sink);
  }

  receipt(sink: string, key: string, receipt: Receipt): Promise<void> {
    return this.#note(sink, key, { state: "stored", receipt });
  }

  quarantine(sink: string, key: string, reason: string): Promise<void> {
    return this.#note(sink, key, { state: "quarantined", reason });
  }

  async redeliver(sink: string, key: string): Promise<void> {
    if (this.#catalogue.get(key)?.state !== "here") {
      throw new Error(`the clip ${key} is not on the spool any more: it cannot be delivered again`);
    }
    await this.#note(sink, key, { state: "waiting" });
  }

  removed(sink: string, key: string): Promise<void> {
    return this.#note(sink, key, { state: "removed" });
  }

  storedBytesSince(sink: string, since: Date): number {
    return this.#catalogue.storedBytesSince(sink, since.getTime());
  }

  storedBytes(sink: string): number {
    return this.#catalogue.storedBytes(sink);
  }

  removableFrom(sink: string, endedBefore: Date, limit = 100): readonly SpooledClip[] {
    return this.#catalogue.removableFrom(sink, endedBefore.getTime(), limit)
      .map((row) => this.#clip(row, row.state));
  }

  deliveries(key: string): readonly Delivery[] {
    return this.#catalogue.deliveries(key);
  }

  list(filter: ClipFilter = {}): readonly SpooledClip[] {
    return this.#catalogue.list(filter).map((row) => this.#clip(row, row.state));
  }

  get(key: string): SpooledClip | undefined {
    const row = this.#catalogue.get(key);
    return row && this.#clip(row, row.state);
  }

  pin(key: string): Promise<void> {
    return this.#setPinned(key, true);
  }

  unpin(key: string): Promise<void> {
    return this.#setPinned(key, false);
  }

  tag(key: string, tags: readonly string[]): Promise<void> {
    return this.#exclusively(async () => {
      try {
        const row = this.#catalogue.get(key);
        const all = [...new Set([...row?.tags ?? [], ...tags])];
        if (row?.state !== "here" || all.length === row.tags.length) return;
        await writeMarks(this.#place, { key, tags: all });
        this.#catalogue.setTags(key, all);
      } catch (error) {
        throw asSpoolError(error, `tag the clip ${key}`);
      }
    });
  }

  addSink(sink: string): void {
    this.#sinks.set(sink, !this.#options.optionalSinks?.includes(sink));
    this.#sinksChanged();
  }

  removeSink(sink: string): void {
    this.#sinks.delete(sink);
    this.#sinksChanged();
  }

  async verify(key: string): Promise<"ok" | "missing" | "damaged"> {
    const clip = this.#catalogue.get(key) ?? this.#unlisted.get(key);
    return clip ? await checkClipFile(this.#place, { clip }) : "missing";
  }

  changed(options: { readonly signal: AbortSignal; readonly since?: number }): Promise<void> {
    return this.#news.changed(options);
  }

  sweep(): Promise<void> {
    // What was asked for before the end is still done.
    if (this.#stop.signal.aborted) return Promise.resolve();
    // One that has not begun yet will see all that is there now.
    return this.#sweepQueued ??= this.#exclusively(async () => {
      this.#sweepQueued = undefined;
      await this.#sweep();
    });
  }

  space(): Promise<SpoolSpace> {
    return this.#room.space();
  }

  journal(owner: JournalOwner): PictureJournal {
    return createJournal({
      fs: this.#options.fs,
      layout: this.#layout,
      now: () => this.#options.clock.now(),
      admit: (bytes) => this.#take(bytes),
      freed: (bytes) => this.#room.grow(-bytes),
    }, owner);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    await this.#background;
    await Promise.allSettled([...this.#open.values()].map((clip) => clip?.leave()));
    await this.#rounds.idle();
    await this.#notes.idle();
    await this.#removing;
    await this.#tidying;
    this.#news.announce();
    this.#catalogue[Symbol.dispose]();
    this.#lock[Symbol.dispose]();
  }

  #assertOpen(): void {
    if (this.#stop.signal.aborted) {
      throw spoolError("io", `the spool ${this.#layout.root} was closed`);
    }
  }

  /** What open clips may ask of the spool. */
  #hostOf(): OpenClipHost {
    return {
      md5: this.#options.md5 ?? true,
      fs: this.#options.fs,
      folders: this.#folders,
      layout: this.#layout,
      clock: this.#options.clock,
      admit: (bytes) => this.#take(bytes),
      withStaging: (work) => this.#staging.lend(work),
      syncSoon: (clip) => this.#rounds.add(clip),
      whilePublishing: (work) => this.#whilePublishing(work),
      finished: async (clip, published) => {
        this.#room.grow(published.bytes - clip.admittedBytes);
        await this.#enlist(published);
        this.#open.delete(clip.key);
        return this.#clip(published, "here");
      },
      closed: (clip, left) => {
        if (left === "torn") this.#torn.add(clip.key);
        else this.#room.grow(-clip.admittedBytes);
        this.#open.delete(clip.key);
      },
    };
  }

  /** Makes room, and counts it as used. */
  async #take(bytes: number): Promise<void> {
    await this.#admit(bytes);
    this.#room.grow(bytes);
  }

  async #admit(bytes: number): Promise<void> {
    this.#assertOpen();
    if (this.#room.takeFromBudget(bytes)) return;
    await this.#room.measure();
    if (this.#room.takeFromBudget(bytes)) return;
    await this.#exclusively(() => this.#room.make(bytes));
  }

  /** Enters a clip that lies finished on the disk; if the catalogue cannot take it, later. */
  async #enlist(clip: ClipSidecar): Promise<void> {
    try {
      await this.#notes.run(() => this.#catalogue.add(clip));
      this.#unlisted.delete(clip.key);
      this.#news.announce();
    } catch (error) {
      if (!this.#unlisted.has(clip.key)) {
        this.#options.log.error(
          `the clip ${clip.key} is safe on the disk but the catalogue cannot take it; it is tried ` +
            `again every minute and at the next start: ${error}`,
          { key: clip.key },
        );
      }
      this.#unlisted.set(clip.key, clip);
    }
  }

  async #note(
    sink: string,
    key: string,
    note: Pick<Delivery, "state" | "receipt" | "reason">,
  ): Promise<void> {
    this.#assertOpen();
    try {
      const atMs = this.#options.clock.now();
      if (!await this.#notes.run(() => this.#catalogue.setDelivery(sink, key, { ...note, atMs }))) {
        throw new Error(`the catalogue knows no sink "${sink}" or no clip ${key}`);
      }
    } catch (error) {
      throw asSpoolError(error, `note that ${key} is ${note.state} for the sink "${sink}"`);
    }
    this.#news.announce();
    if (note.state === "stored" && (this.#options.keepMs ?? 0) === 0) {
      await Promise.resolve(); // durable: the answer first, the tidying up behind it
      this.sweep().catch((error) => this.#warnOfSweep(error));
    }
  }

  async #setPinned(key: string, pinned: boolean): Promise<void> {
    await this.#exclusively(async () => {
      try {
        const row = this.#catalogue.get(key);
        if (!row) throw new Error("the catalogue knows no such clip");
        if (row.state === "here") await writeMarks(this.#place, { key, pinned });
        this.#catalogue.setPinned(key, pinned);
      } catch (error) {
        throw asSpoolError(error, `${pinned ? "pin" : "unpin"} the clip ${key}`);
      }
    });
  }

  #sinksChanged(): void {
    const sinks = [...this.#sinks].map(([name, required]) => ({ name, required }));
    this.#catalogue.setSinks(sinks, this.#options.clock.now());
    this.#news.announce();
  }

  /** Runs `work` when everything that removes clips and was asked for before is done. */
  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#removing.then(work);
    this.#removing = result.catch(() => {});
    return result;
  }

  async #whilePublishing<T>(work: () => Promise<T>): Promise<T> {
    this.#publishing++;
    try {
      await this.#tidying;
      return await work();
    } finally {
      this.#publishing--;
    }
  }

  async #sweepForEver(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#options.clock.sleep(SWEEP_MS, { signal }).catch(() => {});
      if (!signal.aborted) await this.sweep().catch((error) => this.#warnOfSweep(error));
    }
  }

  #warnOfSweep(error: unknown): void {
    this.#options.log.warn(`the spool could not be tidied up; it is tried again: ${error}`);
  }

  async #sweep(): Promise<void> {
    const { clock, keepMs, historyMs = HISTORY_MS } = this.#options;
    await Promise.all([...this.#unlisted.values()].map((clip) => this.#enlist(clip)));
    if (this.#catalogue.changedByOthers()) this.#news.announce(); // see view.ts
    const finishedBeforeMs = clock.now() - (keepMs ?? 0);
    // Without a sink nothing counts as delivered, but an age that the owner gave counts.
    while (this.#hasRequiredSink || (keepMs ?? 0) > 0) {
      const rows = this.#catalogue.removable({ delivered: true, finishedBeforeMs, limit: 100 });
      if (rows.length === 0) break;
      await this.#remove(rows);
    }
    const droppedBefore = this.#room.droppedClips;
    await this.#room.make(0).catch((error) => {
      if (spoolErrorKind(error) !== "full") throw error; // who records is told when he records
    });
    this.#room.endOfRound(droppedBefore);
    await this.#recoverTorn();
    this.#jumps.look();
    if (this.#jumps.isSteady) this.#catalogue.forget(clock.now() - historyMs, PLAUSIBLE_FROM_MS);
  }

  /** Completes clips whose finishing failed, now that the disk may be well again. */
  async #recoverTorn(): Promise<void> {
    for (const key of [...this.#torn]) {
      if (this.#stop.signal.aborted) return; // the next start does it
      const before = await this.#options.fs.sizeOf(this.#layout.openClip(key)) ?? 0;
      const clip = await this.#whilePublishing(() => recoverOpenClip(this.#recoveryContext, key));
      this.#torn.delete(key);
      this.#room.grow((clip?.bytes ?? 0) - before);
      if (!clip) continue;
      await this.#enlist(clip);
      this.#recovery = { ...this.#recovery, recovered: this.#recovery.recovered + 1 };
    }
  }

  get #recoveryContext(): RecoveryContext {
    return {
      ...this.#options,
      folders: this.#folders,
      layout: this.#layout,
      catalogue: this.#catalogue,
    };
  }

  get #hasRequiredSink(): boolean {
    return [...this.#sinks.values()].includes(true);
  }

  #oldest(delivered: boolean): readonly ClipRow[] {
    if (delivered && !this.#hasRequiredSink) return [];
    return this.#catalogue.removable({
      // With no sink at all, every clip is one that no sink has.
      delivered: delivered || !this.#hasRequiredSink,
      finishedBeforeMs: Number.MAX_SAFE_INTEGER,
      limit: 10,
    });
  }

  /** Removes clips from the spool. Invariant 4: the catalogue first, the files after. */
  async #remove(rows: readonly ClipRow[]): Promise<void> {
    this.#catalogue.setAway(rows.map((row) => row.key), "gone", this.#options.clock.now());
    this.#news.announce();
    for (const row of rows) {
      await removeClipFiles(this.#options.fs, this.#layout, row.key);
      this.#room.grow(-row.bytes);
      // Not while a clip is being named: that may be in this folder. The next start tidies too.
      if (this.#publishing === 0) {
        const folder = this.#layout.folder(row.key);
        await (this.#tidying = this.#folders.removeEmpty(folder, this.#layout.clips));
      }
    }
  }

  get #place(): ClipPlace {
    return { fs: this.#options.fs, layout: this.#layout };
  }

  #clip(clip: ClipSidecar, state: ClipState): SpooledClip {
    return spooledClip(this.#place, { ...clip, state });
  }
}
