/**
 * The catalogue: which clips there are, and which sink has which, in SQLite.
 *
 * Invariants, which the tests check after every simulated crash:
 *
 * 1. The files are the truth about clips, the catalogue is the truth about receipts. A lost catalogue
 *    costs no clip: it is rebuilt from the sidecars, and every clip is offered to every sink again,
 *    which answers "already there".
 * 2. A clip with state `here` lies whole and synced under its key. Its row is written after its file.
 * 3. Every clip that is `here` has exactly one delivery row per active sink. A `waiting` or
 *    `quarantined` row belongs to a clip that is `here`.
 * 4. A clip becomes `gone` before its file is removed, never after: a crash between the two leaves a
 *    file that the next start removes, not a clip that is delivered twice.
 * 5. A clip becomes `gone` only when every required sink has `stored` (or since `removed`) it; or
 *    when the owner chose `drop-oldest` and the disk was full, which is counted.
 * 6. Every commit is synced before the call returns (WAL, `synchronous = FULL`), so a receipt is
 *    durable before anything is done on the strength of it.
 * 7. Rows stay when the clip is gone: they keep its key from being used again when the clock goes
 *    back, and tell retention what to remove from which sink.
 * 8. `id` grows in the order in which clips were finished: that is the order of delivery.
 *
 * @module
 */
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { isSqliteError, spoolError } from "./errors.ts";
import type { ClipSidecar } from "./sidecar.ts";

/**
 * Version of the tables. A higher one is refused: made anew from the clips, the catalogue would forget
 * which sink has which clip, and every clip that is not here any more. So a column that an older
 * release does not miss is added without a new version.
 */
const CATALOGUE_VERSION = 1;

const TABLES = `
  CREATE TABLE clip (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    camera TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL CHECK (end_ms >= start_ms),
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    md5 TEXT NOT NULL,
    content_type TEXT NOT NULL,
    frames INTEGER NOT NULL,
    recovered INTEGER NOT NULL,
    pinned INTEGER NOT NULL,
    finished_ms INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('here', 'gone', 'lost')),
    gone_ms INTEGER,
    tags TEXT NOT NULL DEFAULT ''
  ) STRICT;
  CREATE INDEX clip_here ON clip (id, bytes) WHERE state = 'here';
  CREATE INDEX clip_by_camera ON clip (camera, start_ms);
  CREATE INDEX clip_gone ON clip (gone_ms) WHERE state <> 'here';
  CREATE TABLE sink (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    active INTEGER NOT NULL,
    required INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE delivery (
    sink INTEGER NOT NULL REFERENCES sink,
    clip INTEGER NOT NULL REFERENCES clip,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'stored', 'quarantined', 'removed')),
    at_ms INTEGER NOT NULL,
    receipt TEXT,
    reason TEXT,
    PRIMARY KEY (sink, clip)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX delivery_waiting ON delivery (sink, clip) WHERE state = 'waiting';
  CREATE INDEX delivery_by_clip ON delivery (clip, state);
`;

function damaged(message: string): Error {
  return Object.assign(new Error(message), { isCatalogueDamaged: true });
}

/** Whether an error says that the catalogue is of no use, rather than that the disk is. */
export function isCatalogueDamaged(error: unknown): boolean {
  return error instanceof Error &&
    ("isCatalogueDamaged" in error || isSqliteError(error, "damaged"));
}

/** Whether a clip's file lies on the spool, was removed by it, or was taken away behind its back. */
export type ClipState = "here" | "gone" | "lost";
/** How one sink stands to one clip. */
export type DeliveryState = "waiting" | "stored" | "quarantined" | "removed";

/** A clip as the catalogue knows it. */
export interface ClipRow extends ClipSidecar {
  readonly id: number;
  readonly state: ClipState;
}

/** How one sink stands to one clip, and since when. */
export interface Delivery {
  readonly sink: string;
  readonly state: DeliveryState;
  readonly atMs: number;
  /** What the sink gave as proof; present when `stored`. */
  readonly receipt?: unknown;
  /** Why it was put aside; present when `quarantined`. */
  readonly reason?: string;
}

/** What a sink still lacks. */
export interface Backlog {
  readonly clips: number;
  readonly bytes: number;
  /** Clips put aside because the sink will never take them; not counted in the others. */
  readonly quarantined: number;
}

/** Which clips to list; all conditions must hold. */
export interface ClipFilter {
  readonly key?: string;
  /** The camera's name as its owner wrote it. */
  readonly camera?: string;
  /** Clips that end after this, wall ms. */
  readonly fromMs?: number;
  /** Clips that start before this, wall ms. */
  readonly toMs?: number;
  /** Clips that start at this or later, wall ms; spares the search of a long history. */
  readonly startFromMs?: number;
  /** Default `here`. */
  readonly state?: ClipState | "any";
  readonly pinned?: boolean;
  /** Only clips that have it. */
  readonly tag?: string;
  /** Only clips to which this sink, or without one any sink, stands so. */
  readonly delivery?: { readonly sink?: string; readonly state: DeliveryState };
  /** Only clips finished after the one with this key: for reading page by page. */
  readonly afterKey?: string;
  /** Default oldest first. */
  readonly newestFirst?: boolean;
  /** Default 1000. */
  readonly limit?: number;
}

const COLUMNS = "c.id, c.key, c.camera, c.start_ms, c.end_ms, c.bytes, c.sha256, c.md5, " +
  "c.content_type, c.frames, c.recovered, c.pinned, c.finished_ms, c.state, c.tags";

/** Reads a row of {@linkcode COLUMNS}. The tables are STRICT, so the types are what they say. */
function clipRow(row: Record<string, unknown>): ClipRow {
  const state = row.state;
  return {
    id: Number(row.id),
    key: String(row.key),
    camera: String(row.camera),
    contentType: String(row.content_type),
    startMs: Number(row.start_ms),
    endMs: Number(row.end_ms),
    bytes: Number(row.bytes),
    sha256: String(row.sha256),
    ...(row.md5 === "" ? {} : { md5: String(row.md5) }),
    frames: Number(row.frames),
    recovered: row.recovered === 1,
    pinned: row.pinned === 1,
    finishedMs: Number(row.finished_ms),
    state: state === "here" || state === "gone" ? state : "lost",
    tags: tagsOf(row.tags),
  };
}

/** Tags are words, so a space parts them. */
function tagsOf(value: unknown): string[] {
  return String(value).split(" ").filter((tag) => tag !== "");
}

function deliveryState(value: unknown): DeliveryState {
  return value === "waiting" || value === "stored" || value === "quarantined" ? value : "removed";
}

/** The catalogue of one spool. All calls are synchronous and durable when they return. */
export class Catalogue implements Disposable {
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #dataVersion: number | undefined;

  /**
   * Opens a catalogue, or makes an empty one.
   *
   * @param path of the database, or `:memory:`
   * @throws if it is damaged, see {@linkcode isCatalogueDamaged}; a spool error of kind `format` if a
   *   newer release made it
   */
  constructor(path: string) {
    this.#db = new DatabaseSync(path);
    try {
      this.#db.exec(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; " +
          "PRAGMA busy_timeout = 5000; PRAGMA cache_size = -4000; " +
          // At most about 1 MB of log: the reserve of a small disk must hold it.
          "PRAGMA wal_autocheckpoint = 250; PRAGMA journal_size_limit = 1000000;",
      );
      const version = this.#get("PRAGMA user_version")?.user_version;
      this.changedByOthers(); // from here on
      if (version === 0) {
        this.transaction(() =>
          this.#db.exec(`${TABLES} PRAGMA user_version = ${CATALOGUE_VERSION};`)
        );
      } else if (Number(version) > CATALOGUE_VERSION) {
        throw spoolError(
          "format",
          `the spool's catalogue ${path} has version ${version}, but this release knows only up to ` +
            `${CATALOGUE_VERSION}: use the release that made it, or another spool.path`,
        );
      } else if (version !== CATALOGUE_VERSION) {
        throw damaged(`the catalogue has version ${version}, expected ${CATALOGUE_VERSION}`);
      } else {
        const check = this.#get("PRAGMA quick_check(1)")?.quick_check;
        if (check !== "ok") throw damaged(`the catalogue is damaged: ${check}`);
        this.#upgrade();
      }
    } catch (error) {
      this.#db.close();
      throw error;
    }
  }

  /** Adds what a catalogue of an older release lacks: the column of tags, the index of what has gone. */
  #upgrade(): void {
    const columns = this.#db.prepare("PRAGMA table_info(clip)").all();
    const indices = this.#db.prepare("PRAGMA index_list(clip)").all();
    if (!columns.some(({ name }) => name === "tags")) {
      this.transaction(() =>
        this.#db.exec("ALTER TABLE clip ADD COLUMN tags TEXT NOT NULL DEFAULT ''")
      );
    }
    if (!indices.some(({ name }) => name === "clip_gone")) {
      this.transaction(() =>
        this.#db.exec("CREATE INDEX clip_gone ON clip (gone_ms) WHERE state <> 'here'")
      );
    }
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) this.#statements.set(sql, statement = this.#db.prepare(sql));
    return statement;
  }

  #get(sql: string, ...values: SQLInputValue[]): Record<string, unknown> | undefined {
    return this.#prepare(sql).get(...values);
  }

  #all(sql: string, ...values: SQLInputValue[]): Record<string, unknown>[] {
    return this.#prepare(sql).all(...values);
  }

  #run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#prepare(sql).run(...values).changes);
  }

  /** Does all of `work` or none of it, with one sync. */
  transaction<T>(work: () => T): T {
    this.#db.exec("BEGIN IMMEDIATE");
    try {
      const result = work();
      this.#db.exec("COMMIT");
      return result;
    } catch (error) {
      try {
        this.#db.exec("ROLLBACK");
      } catch {
        // SQLite has rolled back by itself already, as it does when the disk is full
      }
      throw error;
    }
  }

  /**
   * Says which sinks there are now. A new one, and one that comes back, gets the clips that are here
   * and that it has not stored; one that went away no longer waits for any.
   */
  setSinks(sinks: readonly { name: string; required: boolean }[], nowMs: number): void {
    this.transaction(() => {
      this.#run("UPDATE sink SET active = 0");
      for (const { name, required } of sinks) {
        this.#run(
          `INSERT INTO sink (name, active, required) VALUES (?, 1, ?)
           ON CONFLICT (name) DO UPDATE SET active = 1, required = excluded.required`,
          name,
          required ? 1 : 0,
        );
      }
      this.#run(
        `DELETE FROM delivery WHERE state IN ('waiting', 'quarantined')
           AND sink IN (SELECT id FROM sink WHERE active = 0)`,
      );
      this.#run(
        `INSERT OR IGNORE INTO delivery (sink, clip, state, at_ms)
         SELECT s.id, c.id, 'waiting', ? FROM clip c, sink s WHERE c.state = 'here' AND s.active = 1`,
        nowMs,
      );
    });
  }

  /** The names of the sinks that there are now. */
  activeSinks(): readonly string[] {
    return this.#all("SELECT name FROM sink WHERE active = 1 ORDER BY name")
      .map((row) => String(row.name));
  }

  /** Whether another connection has written since this was last asked. */
  changedByOthers(): boolean {
    const version = Number(this.#get("PRAGMA data_version")?.data_version);
    const changed = this.#dataVersion !== undefined && version !== this.#dataVersion;
    this.#dataVersion = version;
    return changed;
  }

  /** Enters a finished clip, which then waits for every active sink. @throws if its key is taken */
  add(clip: ClipSidecar): ClipRow {
    this.#run(
      `INSERT INTO clip (key, camera, start_ms, end_ms, bytes, sha256, md5, content_type, frames,
         recovered, pinned, finished_ms, tags, state)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'here')`,
      clip.key,
      clip.camera,
      clip.startMs,
      clip.endMs,
      clip.bytes,
      clip.sha256,
      clip.md5 ?? "", // not computed
      clip.contentType,
      clip.frames,
      clip.recovered ? 1 : 0,
      clip.pinned ? 1 : 0,
      clip.finishedMs,
      clip.tags.join(" "),
    );
    const row = this.get(clip.key);
    if (!row) throw new Error(`the catalogue did not keep ${clip.key}`);
    this.#run(
      `INSERT INTO delivery (sink, clip, state, at_ms)
       SELECT id, ?, 'waiting', ? FROM sink WHERE active = 1`,
      row.id,
      clip.finishedMs,
    );
    return row;
  }

  /** One clip by its key, whatever its state. */
  get(key: string): ClipRow | undefined {
    const row = this.#get(`SELECT ${COLUMNS} FROM clip c WHERE c.key = ?`, key);
    return row && clipRow(row);
  }

  /** The oldest clip that waits for a sink and whose key is not among `excluding`. */
  next(sink: string, excluding: ReadonlySet<string>): ClipRow | undefined {
    const rows = this.#all(
      `SELECT ${COLUMNS} FROM delivery d JOIN clip c ON c.id = d.clip
       WHERE d.sink = (SELECT id FROM sink WHERE name = ?) AND d.state = 'waiting'
       ORDER BY d.clip LIMIT ?`,
      sink,
      excluding.size + 1,
    );
    const row = rows.find((row) => !excluding.has(String(row.key)));
    return row && clipRow(row);
  }

  /** What a sink lacks. */
  backlog(sink: string): Backlog {
    const waiting = this.#get(
      `SELECT count(*) AS clips, coalesce(sum(c.bytes), 0) AS bytes
       FROM delivery d JOIN clip c ON c.id = d.clip
       WHERE d.sink = (SELECT id FROM sink WHERE name = ?) AND d.state = 'waiting'`,
      sink,
    );
    const aside = this.#get(
      `SELECT count(*) AS clips FROM delivery
       WHERE sink = (SELECT id FROM sink WHERE name = ?) AND state = 'quarantined'`,
      sink,
    );
    return {
      clips: Number(waiting?.clips),
      bytes: Number(waiting?.bytes),
      quarantined: Number(aside?.clips),
    };
  }

  /**
   * Notes how a sink now stands to a clip.
   *
   * @returns whether there was such a clip and sink
   */
  setDelivery(
    sink: string,
    key: string,
    delivery: { state: DeliveryState; atMs: number; receipt?: unknown; reason?: string },
  ): boolean {
    return this.#run(
      `INSERT INTO delivery (sink, clip, state, at_ms, receipt, reason)
       SELECT s.id, c.id, ?, ?, ?, ? FROM sink s, clip c WHERE s.name = ? AND c.key = ?
       ON CONFLICT (sink, clip) DO UPDATE SET state = excluded.state, at_ms = excluded.at_ms,
         receipt = excluded.receipt, reason = excluded.reason`,
      delivery.state,
      delivery.atMs,
      delivery.receipt === undefined ? null : JSON.stringify(delivery.receipt),
      delivery.reason ?? null,
      sink,
      key,
    ) > 0;
  }

  /** How every sink stands to a clip. */
  deliveries(key: string): readonly Delivery[] {
    return this.#all(
      `SELECT s.name, d.state, d.at_ms, d.receipt, d.reason FROM delivery d
       JOIN clip c ON c.id = d.clip JOIN sink s ON s.id = d.sink WHERE c.key = ? ORDER BY s.name`,
      key,
    ).map((row) => ({
      sink: String(row.name),
      state: deliveryState(row.state),
      atMs: Number(row.at_ms),
      ...(row.receipt === null ? {} : { receipt: JSON.parse(String(row.receipt)) as unknown }),
      ...(row.reason === null ? {} : { reason: String(row.reason) }),
    }));
  }

  /** The clips that fit a filter. */
  list(filter: ClipFilter): readonly ClipRow[] {
    const where: string[] = ["1"];
    const values: SQLInputValue[] = [];
    const need = (sql: string, ...more: SQLInputValue[]) => {
      where.push(sql);
      values.push(...more);
    };
    const { state = "here" } = filter;
    if (state !== "any") need(`c.state = '${state}'`); // a literal, for the partial index
    if (filter.key !== undefined) need("c.key = ?", filter.key);
    if (filter.camera !== undefined) need("c.camera = ?", filter.camera);
    if (filter.fromMs !== undefined) need("c.end_ms > ?", filter.fromMs);
    if (filter.toMs !== undefined) need("c.start_ms < ?", filter.toMs);
    if (filter.startFromMs !== undefined) need("c.start_ms >= ?", filter.startFromMs);
    if (filter.tag !== undefined) {
      need("instr(' ' || c.tags || ' ', ' ' || ? || ' ') > 0", filter.tag);
    }
    if (filter.pinned !== undefined) need("c.pinned = ?", filter.pinned ? 1 : 0);
    if (filter.afterKey !== undefined) {
      need("c.id > (SELECT id FROM clip WHERE key = ?)", filter.afterKey);
    }
    if (filter.delivery) {
      const { sink, state } = filter.delivery;
      need(
        `EXISTS (SELECT 1 FROM delivery d JOIN sink s ON s.id = d.sink
           WHERE d.clip = c.id AND d.state = ? AND s.name = coalesce(?, s.name))`,
        state,
        sink ?? null,
      );
    }
    return this.#all(
      `SELECT ${COLUMNS} FROM clip c WHERE ${where.join(" AND ")}
       ORDER BY c.id ${filter.newestFirst ? "DESC" : "ASC"} LIMIT ?`,
      ...values,
      filter.limit ?? 1000,
    ).map(clipRow);
  }

  /** Sets or takes off the mark that keeps a clip from retention. */
  setPinned(key: string, pinned: boolean): void {
    this.#run("UPDATE clip SET pinned = ? WHERE key = ?", pinned ? 1 : 0, key);
  }

  /** Sets what happened during a clip. */
  setTags(key: string, tags: readonly string[]): void {
    this.#run("UPDATE clip SET tags = ? WHERE key = ?", tags.join(" "), key);
  }

  /**
   * Clips that may be removed from the spool, oldest first: here, not pinned, finished before a
   * moment, and with `delivered` such that every required sink has them, else the others.
   */
  removable(
    { delivered, finishedBeforeMs, limit }: {
      readonly delivered: boolean;
      readonly finishedBeforeMs: number;
      readonly limit: number;
    },
  ): readonly ClipRow[] {
    return this.#all(
      `SELECT ${COLUMNS} FROM clip c
       WHERE c.state = 'here' AND c.pinned = 0 AND c.finished_ms <= ?
         AND ${delivered ? "NOT" : ""} EXISTS (
           SELECT 1 FROM sink s LEFT JOIN delivery d ON d.sink = s.id AND d.clip = c.id
           WHERE s.active = 1 AND s.required = 1
             AND (d.state IS NULL OR d.state NOT IN ('stored', 'removed')))
       ORDER BY c.id LIMIT ?`,
      finishedBeforeMs,
      limit,
    ).map(clipRow);
  }

  /** Notes that clips' files are to be, or were, taken away; nobody waits for them any more. */
  setAway(keys: readonly string[], state: "gone" | "lost", nowMs: number): void {
    this.transaction(() => {
      for (const key of keys) {
        this.#run("UPDATE clip SET state = ?, gone_ms = ? WHERE key = ?", state, nowMs, key);
        this.#run(
          `DELETE FROM delivery WHERE state IN ('waiting', 'quarantined')
             AND clip = (SELECT id FROM clip WHERE key = ?)`,
          key,
        );
      }
    });
  }

  /** Notes that a clip that had gone is here again; it waits for every sink that has not stored it. */
  setHere(key: string, nowMs: number): void {
    this.transaction(() => {
      this.#run("UPDATE clip SET state = 'here', gone_ms = NULL WHERE key = ?", key);
      this.#run(
        `INSERT OR IGNORE INTO delivery (sink, clip, state, at_ms)
         SELECT s.id, c.id, 'waiting', ? FROM sink s, clip c WHERE s.active = 1 AND c.key = ?`,
        nowMs,
        key,
      );
    });
  }

  /** Bytes of the clips that a sink stored at or after a moment. */
  storedBytesSince(sink: string, sinceMs: number): number {
    const row = this.#get(
      `SELECT coalesce(sum(c.bytes), 0) AS bytes FROM delivery d JOIN clip c ON c.id = d.clip
       WHERE d.sink = (SELECT id FROM sink WHERE name = ?) AND d.state = 'stored' AND d.at_ms >= ?`,
      sink,
      sinceMs,
    );
    return Number(row?.bytes);
  }

  /** Bytes of all clips that a sink holds. */
  storedBytes(sink: string): number {
    return this.storedBytesSince(sink, Number.MIN_SAFE_INTEGER);
  }

  /**
   * Clips that may be removed from a sink, oldest first: it holds them, they ended before a moment,
   * they are not pinned, and no other required sink still lacks them.
   */
  removableFrom(sink: string, endedBeforeMs: number, limit: number): readonly ClipRow[] {
    return this.#all(
      `SELECT ${COLUMNS} FROM delivery d JOIN clip c ON c.id = d.clip
       WHERE d.sink = (SELECT id FROM sink WHERE name = ?) AND d.state = 'stored'
         AND c.end_ms < ? AND c.pinned = 0
         AND NOT EXISTS (
           SELECT 1 FROM sink s LEFT JOIN delivery o ON o.sink = s.id AND o.clip = c.id
           WHERE s.active = 1 AND s.required = 1
             AND o.state IN ('waiting', 'quarantined'))
       ORDER BY d.clip LIMIT ?`,
      sink,
      endedBeforeMs,
      limit,
    ).map(clipRow);
  }

  /** The keys of all clips that are here. */
  keysHere(): Set<string> {
    return new Set(
      this.#all("SELECT key FROM clip WHERE state = 'here'").map((row) => String(row.key)),
    );
  }

  /** How much is here. */
  totals(): { clips: number; bytes: number } {
    const row = this.#get(
      "SELECT count(*) AS clips, coalesce(sum(bytes), 0) AS bytes FROM clip WHERE state = 'here'",
    );
    return { clips: Number(row?.clips), bytes: Number(row?.bytes) };
  }

  /**
   * Forgets clips that went away before a moment. Those taken while the clock was plainly wrong stay:
   * a machine without a battery starts at the same false time again, and would use their keys again.
   * What stays is not looked at: it may be a year of clips, and this runs after each delivery.
   */
  forget(goneBeforeMs: number, plausibleFromMs: number): number {
    return this.transaction(() => {
      this.#run(
        `DELETE FROM delivery WHERE clip IN (
           SELECT id FROM clip WHERE state <> 'here' AND gone_ms < ? AND start_ms >= ?)`,
        goneBeforeMs,
        plausibleFromMs,
      );
      return this.#run(
        "DELETE FROM clip WHERE state <> 'here' AND gone_ms < ? AND start_ms >= ?",
        goneBeforeMs,
        plausibleFromMs,
      );
    });
  }

  [Symbol.dispose](): void {
    this.#statements.clear();
    this.#db.close();
  }
}
