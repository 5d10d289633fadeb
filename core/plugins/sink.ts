/**
 * A plugin as a {@linkcode Sink}: to delivery it is one like any other. Behind it stands a process
 * that is started when it is needed, started again after it ended, and never waited for: whatever
 * the plugin does, this process goes on.
 *
 * @module
 */
import { link, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { backoffMs, orAborted } from "../clock.ts";
import {
  type Clip,
  type Clock,
  type Log,
  type PutOptions,
  type PutResult,
  type Secret,
  type Sink,
  SinkError,
  type StoredObject,
} from "../types.ts";
import type { Approval } from "./approvals.ts";
import { PluginError, type PluginGraph, readPluginGraph } from "./graph.ts";
import type { PluginAbout } from "./messages.ts";
import { type PluginLimits, PluginProcess } from "./process.ts";
import { type Rights, rightsOf } from "./rights.ts";

/** What is needed to run a plugin. */
export interface PluginSinkOptions {
  /** The user's name of the sink. */
  readonly name: string;
  /** Its `type`. */
  readonly type: string;
  readonly approval: Approval;
  /** The folder that a relative `from` starts at. */
  readonly folder: string;
  /** As the file has them, with paths made absolute. */
  readonly options: unknown;
  /** The secrets among them. */
  readonly secrets: readonly { readonly text: string; readonly secret: Secret }[];
  readonly log: Log;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly onRefused?: (host: string) => void;
  /** Told at once when its process ends though nobody closed it. */
  readonly onEnded?: (why: string) => void;
  /**
   * For its author's tests: runs what was looked through already, whatever was approved, and does not
   * ask it again what it wants with these options.
   */
  readonly unapproved?: { readonly graph: PluginGraph; readonly about: PluginAbout };
  readonly memoryBytes?: number;
  readonly limits?: PluginLimits;
  /**
   * A folder on the disk of the clips' files, for names of those that are under way. Where a disk has
   * no second names, and where this is left out, a clip's bytes go through a pipe.
   */
  readonly handover?: string;
}

/** The sink of a plugin. */
export interface PluginSink extends Sink {
  /** Resolves when it is open. @throws why it cannot be */
  ready(): Promise<void>;
  /** The hosts that it may reach; known when it is open. */
  readonly hosts: readonly string[];
  /** Of its process, while it runs. */
  readonly pid: number | undefined;
  /**
   * Resolves when its process runs or is being started: only a few are at a time. Starts it where it
   * does not run; whether that works is told by whatever is asked of it next.
   *
   * @throws the signal's reason
   */
  turn(options: { readonly signal: AbortSignal }): Promise<void>;
  /** Ends it at once, without a word to the plugin. */
  kill(): Promise<void>;
}

const CALL_MS = 60_000;
const CLOSE_MS = 10_000;
/** So many are started at the same time: a start takes a second of a small machine's processor. */
const STARTS_AT_ONCE = 2;
let starting = 0;
const waitingToStart: (() => void)[] = [];

async function inTurn<Result>(start: () => Promise<Result>): Promise<Result> {
  if (starting >= STARTS_AT_ONCE) await new Promise<void>((go) => waitingToStart.push(go));
  else starting++;
  try {
    return await start();
  } finally {
    const next = waitingToStart.shift();
    if (next === undefined) starting--;
    else next(); // the place is handed on
  }
}

const NO_RIGHTS: Rights = { hosts: [], run: [], read: [], write: [], scratch: false };

/** Learns what a plugin is, and with options what it wants; it gets no rights for that. */
export async function describePlugin(
  asking:
    & { readonly graph: PluginGraph; readonly options?: unknown; readonly name?: string }
    & Pick<PluginSinkOptions, "log" | "clock" | "limits">,
): Promise<PluginAbout> {
  await using describer = await openDescriber(asking);
  return describer.about;
}

/** A plugin that is asked what it wants with several options, one after the other. */
export interface PluginDescriber extends AsyncDisposable {
  /** What it is; with options also what it wants. */
  readonly about: PluginAbout;
  /** What it wants with these options. */
  ask(options: unknown): Promise<PluginAbout>;
}

/** Starts a plugin to be asked; it gets no rights for that. @throws what is wrong with it */
export async function openDescriber(
  { graph, options, name = "", log, clock, limits }: Parameters<typeof describePlugin>[0],
): Promise<PluginDescriber> {
  const { process, about } = await PluginProcess.start({
    graph,
    rights: NO_RIGHTS,
    start: {
      mode: "describe",
      from: graph.from,
      name,
      ...(options === undefined ? {} : { options }),
    },
    log,
    clock,
    reveal: () => Promise.reject(new Error("a secret may not be read while options are checked")),
    ...(limits === undefined ? {} : { limits }),
  });
  const dispose = async () => {
    process.kill("it was only asked what it is");
    await process.ended;
  };
  const checked = (value: unknown): PluginAbout => {
    const known = value as PluginAbout | undefined;
    if (typeof known === "object" && known !== null && typeof known.name === "string") return known;
    throw new PluginError(`the plugin ${graph.from} does not say what it is`);
  };
  try {
    return {
      about: checked(about),
      ask: async (asked) =>
        checked(await process.call({ t: "describe", options: asked }, { limitMs: CALL_MS })),
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** The sink of a plugin. Nothing is started before it is used, or `ready` is called. */
export function openPluginSink(options: PluginSinkOptions): PluginSink {
  return new IsolatedSink(options);
}

/** Whether a sink is a plugin's. */
export function isPluginSink(sink: Sink): sink is PluginSink {
  return sink instanceof IsolatedSink;
}

class IsolatedSink implements PluginSink {
  readonly #options: PluginSinkOptions;
  #process: PluginProcess | undefined;
  #starting: Promise<PluginProcess> | undefined;
  #place = Promise.withResolvers<void>();
  #graph: PluginGraph | undefined;
  #rights: Rights | undefined;
  #scratch: string | undefined;
  /** Its own part of the folder. */
  readonly #handover: string | undefined;
  #lastHanded = 0;
  #can: readonly string[] = [];
  #endings = 0;
  #notBeforeMs = -Infinity;
  #lastWhy = "";
  #closed = false;

  constructor(options: PluginSinkOptions) {
    this.#options = options;
    const { handover } = options;
    this.#handover = handover === undefined ? undefined : join(handover, crypto.randomUUID());
  }

  get hosts(): readonly string[] {
    return this.#rights?.hosts ?? [];
  }

  get pid(): number | undefined {
    return this.#process?.isOver === false ? this.#process.pid : undefined;
  }

  /** As its newest process has told, also while that is started again. */
  get credentialExpiresAtMs(): number | undefined {
    return this.#process?.credentialExpiresAtMs;
  }

  async ready(): Promise<void> {
    await this.#running();
  }

  async turn({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    signal.throwIfAborted();
    const running = this.#running().then(() => {}, () => {}); // told by the next call
    await orAborted(Promise.race([this.#place.promise, running]), signal);
  }

  async kill(): Promise<void> {
    this.#closed = true;
    const process = this.#process ?? await this.#starting?.catch(() => undefined);
    process?.kill("it was closed");
    await process?.ended;
    await this.#removeFolders();
  }

  async put(clip: Clip, { signal, attempt, progress }: PutOptions): Promise<PutResult> {
    const process = await this.#running();
    const file = await this.#handOver(clip);
    let value: unknown;
    try {
      value = await process.call({
        t: "put",
        attempt,
        clip: {
          key: clip.key,
          camera: clip.camera,
          startMs: clip.start.getTime(),
          endMs: clip.end.getTime(),
          bytes: clip.bytes,
          sha256: clip.sha256,
          contentType: clip.contentType,
          ...(clip.tags === undefined ? {} : { tags: clip.tags }),
          ...(clip.md5 === undefined ? {} : { md5: clip.md5 }),
          ...(file === undefined ? {} : { file }),
        },
      }, { signal, clip, progress });
    } finally {
      if (file !== undefined) await rm(file, { force: true });
    }
    const result = putResult(value);
    this.#endings = 0;
    return result;
  }

  get stat(): Sink["stat"] {
    if (!this.#can.includes("stat")) return undefined;
    return async (key, { signal, camera }) =>
      storedObject(
        await (await this.#running()).call({ t: "stat", key, camera }, {
          signal,
          limitMs: CALL_MS,
        }),
      );
  }

  get remove(): Sink["remove"] {
    if (!this.#can.includes("remove")) return undefined;
    return async (key, { signal, camera }) => {
      const process = await this.#running();
      await process.call({ t: "remove", key, camera }, { signal, limitMs: CALL_MS });
    };
  }

  get check(): Sink["check"] {
    if (!this.#can.includes("check")) return undefined;
    return async ({ signal }) => {
      await (await this.#running()).call({ t: "check" }, { signal, limitMs: CALL_MS });
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    const process = this.#process ?? await this.#starting?.catch(() => undefined);
    if (process !== undefined && !process.isOver) {
      await process.call({ t: "close" }, { limitMs: CLOSE_MS }).catch(() => {});
      process.kill("it was closed");
      await process.ended;
    }
    await this.#removeFolders();
  }

  async #removeFolders(): Promise<void> {
    for (const folder of [this.#scratch, this.#handover]) {
      if (folder !== undefined) await rm(folder, { recursive: true, force: true });
    }
  }

  /**
   * Gives a clip's file a name that the plugin's process may read, and nothing beside it: so a clip
   * costs no more than it would in this process.
   */
  async #handOver({ path }: Clip): Promise<string | undefined> {
    const folder = this.#handover;
    if (path === undefined || folder === undefined) return undefined;
    const file = join(folder, String(++this.#lastHanded));
    try {
      await link(path, file);
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) return undefined;
      try {
        await mkdir(folder, { recursive: true, mode: 0o700 });
        await link(path, file);
      } catch {
        return undefined; // who opens the clip is told
      }
    }
    return file;
  }

  /** The running process; started if there is none. */
  async #running(): Promise<PluginProcess> {
    if (this.#process?.isOver === false) return this.#process;
    if (this.#closed) throw new SinkError("retry", "the sink was closed");
    this.#starting ??= inTurn(() => {
      this.#place.resolve();
      return this.#start();
    }).finally(() => {
      this.#starting = undefined;
      this.#place = Promise.withResolvers();
    });
    return await this.#starting;
  }

  async #start(): Promise<PluginProcess> {
    const { clock, log, name, type, approval } = this.#options;
    const waitMs = this.#notBeforeMs - clock.monotonic();
    if (waitMs > 0) {
      throw new SinkError("retry", `the plugin was ended: ${this.#lastWhy}`, {
        retryAfterMs: waitMs,
      });
    }
    try {
      const { graph, rights } = await this.#prepare();
      let isOpen = false;
      const { process } = await PluginProcess.start({
        graph,
        rights,
        start: {
          mode: "open",
          from: graph.from,
          name,
          options: this.#options.options,
          ...(this.#scratch === undefined ? {} : { scratch: this.#scratch }),
        },
        log,
        clock,
        reveal: (text) => this.#reveal(text),
        ...(this.#options.onRefused ? { onRefused: this.#options.onRefused } : {}),
        ...(this.#options.memoryBytes ? { memoryBytes: this.#options.memoryBytes } : {}),
        ...(this.#options.limits ? { limits: this.#options.limits } : {}),
        ...(this.#handover === undefined ? {} : { handover: this.#handover }),
        onOver: (why) => {
          if (isOpen && !this.#closed) this.#options.onEnded?.(why);
        },
      });
      isOpen = true;
      this.#process = process;
      this.#can = process.can;
      void process.ended.then((why) => this.#hasEnded(why));
      log.debug(`the plugin ${approval.from} runs in process ${process.pid}`, {
        event: "plugin-started",
        type,
        pid: process.pid,
        hosts: rights.hosts,
      });
      if (this.#closed) process.kill("it was closed");
      return process;
    } catch (error) {
      if (!(error instanceof PluginError)) {
        this.#hasEnded(error instanceof Error ? error.message : String(error), true);
      }
      // What only the user can mend parks the sink, and delivery looks again now and then.
      throw error instanceof PluginError
        ? new SinkError("auth", error.message, { cause: error })
        : error;
    }
  }

  #hasEnded(why: string, atStart = false): void {
    if (this.#closed) return;
    const { clock, random, log } = this.#options;
    this.#endings++;
    this.#lastWhy = why.replace(/^the plugin was ended: /, "");
    const waitMs = backoffMs(this.#endings, random);
    this.#notBeforeMs = clock.monotonic() + waitMs;
    if (atStart) return; // delivery tells it
    log.warn(
      `the plugin was ended: ${this.#lastWhy}; it is started again in ${
        Math.ceil(waitMs / 1000)
      } s`,
      { event: "plugin-ended", endings: this.#endings, waitMs: Math.round(waitMs) },
    );
  }

  /** Looks the plugin through and finds out which rights it has; again only where a file changed. */
  async #prepare(): Promise<{ graph: PluginGraph; rights: Rights }> {
    const { approval, folder, type, name, options, log, clock, unapproved } = this.#options;
    const graph = unapproved?.graph ?? await readPluginGraph(approval.from, { folder });
    if (!unapproved && graph.sha256 !== approval.sha256) {
      throw new PluginError(
        `the plugin ${type} (${approval.from}) is not what was approved: its hash is ` +
          `${graph.sha256.slice(0, 12)}…, approved was ${
            approval.sha256.slice(0, 12)
          }…; look at what ` +
          `changed, then run: camsink plugin add ${approval.from}`,
      );
    }
    if (this.#rights !== undefined && this.#graph?.sha256 === graph.sha256) {
      return { graph, rights: this.#rights };
    }
    const about = unapproved?.about ??
      await describePlugin({ graph, options, name, log, clock });
    const [issue] = about.issues;
    if (issue !== undefined) {
      const lines = about.issues.map(({ path, message }) =>
        `${["sinks", name, ...path].join(".")}: ${message}`
      );
      throw new PluginError(lines.join("; "));
    }
    const { rights, missing } = rightsOf(about, { granted: approval, options });
    if (missing.length > 0) {
      throw new PluginError(
        `the plugin ${type} asks for what was not granted; if it may have it, run: ` +
          `camsink plugin add ${approval.from} ${missing.join(" ")}`,
      );
    }
    if (rights.scratch) this.#scratch ??= await mkdtemp(join(tmpdir(), "camsink-scratch-"));
    this.#graph = graph;
    this.#rights = rights;
    return { graph, rights };
  }

  /** Only what stands in this sink's own options. */
  async #reveal(text: string): Promise<string> {
    const found = this.#options.secrets.find((one) => one.text === text);
    if (found === undefined) {
      throw new Error("the plugin asked for a secret that its options do not name");
    }
    return await found.secret.reveal();
  }
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value.length <= 4000 ? value : undefined;
}

function putResult(value: unknown): PutResult {
  const { state, url, etag } = (value ?? {}) as Record<string, unknown>;
  if (state !== "stored" && state !== "already-there") {
    throw new SinkError("retry", 'the plugin\'s put() resolved without { state: "stored" }');
  }
  return {
    state,
    ...(text(url) === undefined ? {} : { url: text(url) }),
    ...(text(etag) === undefined ? {} : { etag: text(etag) }),
  };
}

function storedObject(value: unknown): StoredObject | undefined {
  if (value === undefined || value === null) return undefined;
  const { bytes, sha256, md5, etag } = value as Record<string, unknown>;
  if (typeof bytes !== "number") throw new SinkError("retry", "the plugin's stat() gave no size");
  return {
    bytes,
    ...(text(sha256) === undefined ? {} : { sha256: text(sha256) }),
    ...(text(md5) === undefined ? {} : { md5: text(md5) }),
    ...(text(etag) === undefined ? {} : { etag: text(etag) }),
  };
}
