/**
 * Compares what should be with what is: the clips that the catalogue knows, the files on the spool,
 * and what every sink says it holds (`stat`). It changes nothing, so it may run beside a recording;
 * whatever looks wrong is looked at once more, because it may just have been on its way.
 *
 * @module
 */
import { backoffMs } from "../clock.ts";
import type { Delivery, SpooledClip, SpoolView } from "../spool/mod.ts";
import type { Clock, Sink, StoredObject } from "../types.ts";

/**
 * What is wrong. On the spool (`sink` absent): a file is `lost` or `damaged`, or `orphaned` because
 * the catalogue does not know it. In a sink: a clip is `missing` or `damaged` there, was `put-aside`
 * because the sink refused it, or the sink is `unreachable`.
 */
export type MismatchKind =
  | "lost"
  | "damaged"
  | "orphaned"
  | "missing"
  | "put-aside"
  | "unreachable";

/** One thing that is not as it should be. */
export interface Mismatch {
  readonly kind: MismatchKind;
  readonly key?: string;
  readonly sink?: string;
  readonly detail: string;
  /** What mends it: another delivery, the spool's tidying up at its next opening, or nothing. */
  readonly remedy: "redeliver" | "reopen" | "none";
}

/** What was compared, and what was found. */
export interface Reconciliation {
  readonly clips: number;
  /** Files on the spool that were looked at. */
  readonly files: number;
  /** How often a sink was asked for a clip. */
  readonly asked: number;
  /** Deliveries that are still to be made: these are no mismatches. */
  readonly waiting: number;
  /** Sinks that cannot say what they hold: their receipts are believed. */
  readonly silentSinks: readonly string[];
  readonly mismatches: readonly Mismatch[];
}

/** What is compared, and how. */
export interface ReconcileOptions {
  readonly view: SpoolView;
  /** The sinks that are switched on, by their names. */
  readonly sinks: ReadonlyMap<string, Sink>;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly signal: AbortSignal;
  /** Compare only the lengths of files. */
  readonly quick?: boolean;
  /** Only clips that end after this, wall ms. */
  readonly sinceMs?: number;
  /** Only these clips. */
  readonly keys?: ReadonlySet<string>;
}

const PAGE_CLIPS = 1000;
/** Clips looked at at once: asking a distant sink is mostly waiting. */
const CONCURRENCY = 16;
const TRIES = 3;
/** A clip that is just being finished is a file before the catalogue knows it, ms. */
const FINISHING_MS = 1000;

/** Compares. @throws the signal's reason when it is aborted */
export async function reconcile(options: ReconcileOptions): Promise<Reconciliation> {
  return await new Comparison(options).run();
}

class Comparison {
  readonly #options: ReconcileOptions;
  readonly #mismatches: Mismatch[] = [];
  /** Sinks that are asked no more, and why. */
  readonly #unreachable = new Map<string, string>();
  #clips = 0;
  #files = 0;
  #asked = 0;
  #waiting = 0;

  constructor(options: ReconcileOptions) {
    this.#options = options;
  }

  async run(): Promise<Reconciliation> {
    const { sinks } = this.#options;
    const strays = await this.#strays();
    for (const page of this.#pages()) {
      const left = page.values();
      const work = async () => {
        for (const clip of left) await this.#compare(clip);
      };
      await Promise.all(Array.from({ length: CONCURRENCY }, work));
    }
    await this.#reportStrays(strays);
    for (const [sink, detail] of this.#unreachable) {
      this.#mismatches.push({ kind: "unreachable", sink, detail, remedy: "none" });
    }
    return {
      clips: this.#clips,
      files: this.#files,
      asked: this.#asked,
      waiting: this.#waiting,
      silentSinks: [...sinks].filter(([, sink]) => !sink.stat).map(([name]) => name),
      mismatches: this.#mismatches.toSorted((a, b) => (a.key ?? "") < (b.key ?? "") ? -1 : 1),
    };
  }

  /** The clips to compare, a page at a time: a year of recording is too much for the memory. */
  *#pages(): Generator<readonly SpooledClip[]> {
    const { view, keys, sinceMs, signal } = this.#options;
    if (keys) {
      yield [...keys].flatMap((key) => view.get(key) ?? []);
      return;
    }
    let afterKey: string | undefined;
    for (;;) {
      signal.throwIfAborted();
      const page = view.list({
        state: "any",
        limit: PAGE_CLIPS,
        ...(sinceMs === undefined ? {} : { fromMs: sinceMs }),
        ...(afterKey === undefined ? {} : { afterKey }),
      });
      yield page;
      afterKey = page.at(-1)?.key;
      if (page.length < PAGE_CLIPS) return;
    }
  }

  /** Files that the catalogue does not have as `here`. */
  async #strays(): Promise<readonly string[]> {
    const { view, keys, signal } = this.#options;
    const strays: string[] = [];
    for await (const key of view.files()) {
      signal.throwIfAborted();
      if (keys && !keys.has(key)) continue;
      this.#files++;
      if (view.get(key)?.state !== "here") strays.push(key);
    }
    return strays;
  }

  async #reportStrays(strays: readonly string[]): Promise<void> {
    if (strays.length === 0) return;
    const { view, clock, signal } = this.#options;
    await clock.sleep(FINISHING_MS, { signal });
    const files = new Set<string>();
    for await (const key of view.files()) files.add(key);
    for (const key of strays) {
      const state = view.get(key)?.state;
      if (state === "here" || !files.has(key)) continue;
      this.#mismatches.push({
        kind: "orphaned",
        key,
        detail: state === "gone"
          ? "its file lies on the spool though it was to be removed"
          : "its file lies on the spool but the catalogue does not have it",
        remedy: "reopen",
      });
    }
  }

  async #compare(clip: SpooledClip): Promise<void> {
    this.#options.signal.throwIfAborted();
    this.#clips++;
    const { view, sinks, quick } = this.#options;
    const { key } = clip;
    let file: "ok" | "missing" | "damaged" | "removed" = "removed";
    if (clip.state === "here") {
      file = await view.check(clip, { quick });
      // Retention may have removed it meanwhile, as it should.
      if (file !== "ok" && view.get(key)?.state !== "here") file = "removed";
    }
    const holders: string[] = [];
    for (const delivery of view.deliveries(key)) {
      const sink = sinks.get(delivery.sink);
      if (!sink) continue; // switched off
      if (delivery.state === "stored") {
        if (await this.#compareStored({ clip, delivery, sink, isHere: file === "ok" })) {
          holders.push(delivery.sink);
        }
      } else if (delivery.state === "quarantined") {
        this.#mismatches.push({
          kind: "put-aside",
          key,
          sink: delivery.sink,
          detail: delivery.reason ?? "the sink refused it",
          remedy: file === "ok" ? "redeliver" : "none",
        });
      } else if (delivery.state === "waiting" && file === "ok") this.#waiting++;
    }
    const whole = holders.length > 0
      ? `it is whole in ${holders.join(", ")}`
      : "no sink is known to have it";
    if (file === "damaged") {
      const detail = `its file on the spool is not what was recorded; ${whole}`;
      this.#mismatches.push({ kind: "damaged", key, detail, remedy: "none" });
    }
    const isEverywhere = holders.length === sinks.size && sinks.size > 0;
    if (file === "missing" || (clip.state === "lost" && !isEverywhere)) {
      this.#mismatches.push({
        kind: "lost",
        key,
        detail: `its file was taken from the spool by somebody else; ${whole}`,
        // The catalogue then knows it, and nothing is missing any more.
        remedy: file === "missing" && isEverywhere ? "reopen" : "none",
      });
    }
  }

  /** Whether a sink holds what its receipt says, as far as can be known. */
  async #compareStored(
    { clip, delivery, sink, isHere }: {
      readonly clip: SpooledClip;
      readonly delivery: Delivery;
      readonly sink: Sink;
      readonly isHere: boolean;
    },
  ): Promise<boolean> {
    const { view } = this.#options;
    if (!sink.stat) return true;
    if (this.#unreachable.has(delivery.sink)) return false;
    const storedKey = storedKeyOf(clip, delivery);
    let found: StoredObject | undefined;
    try {
      found = await this.#ask(sink.stat.bind(sink), { key: storedKey, camera: clip.camera });
    } catch (error) {
      this.#options.signal.throwIfAborted();
      this.#unreachable.set(delivery.sink, error instanceof Error ? error.message : String(error));
      return false;
    }
    const wrong = difference(clip, found);
    if (wrong === undefined) return true;
    // Retention may have removed it meanwhile, or another delivery begun.
    const now = view.deliveries(clip.key).find((other) => other.sink === delivery.sink);
    if (now?.state !== "stored") return false;
    this.#mismatches.push({
      kind: found ? "damaged" : "missing",
      key: clip.key,
      sink: delivery.sink,
      detail: wrong + (storedKey === clip.key ? "" : ` (stored as ${storedKey})`),
      remedy: isHere ? "redeliver" : "none",
    });
    return false;
  }

  async #ask(
    stat: NonNullable<Sink["stat"]>,
    { key, camera }: { readonly key: string; readonly camera: string },
  ): Promise<StoredObject | undefined> {
    const { signal, clock, random } = this.#options;
    for (let attempt = 1;; attempt++) {
      signal.throwIfAborted();
      try {
        this.#asked++;
        return await stat(key, { signal, camera });
      } catch (error) {
        if (attempt >= TRIES) throw error;
        await clock.sleep(backoffMs(attempt, random), { signal });
      }
    }
  }
}

/** The key under which a sink has a clip: another object may have stood in its place. */
export function storedKeyOf(
  clip: Pick<SpooledClip, "key">,
  { receipt }: Pick<Delivery, "receipt">,
): string {
  const storedAs = typeof receipt === "object" && receipt !== null && "storedAs" in receipt
    ? receipt.storedAs
    : undefined;
  return typeof storedAs === "string" ? storedAs : clip.key;
}

/** How what a sink holds differs from the clip, as far as the sink tells. */
function difference(clip: SpooledClip, found: StoredObject | undefined): string | undefined {
  if (!found) return "its receipt is here, but the sink does not have it";
  if (found.bytes !== clip.bytes) {
    return `the sink holds ${found.bytes} bytes, expected ${clip.bytes}`;
  }
  for (const hash of ["sha256", "md5"] as const) {
    if (found[hash] !== undefined && found[hash] !== clip[hash]) {
      return `the sink holds ${hash} ${found[hash]}, expected ${clip[hash]}`;
    }
  }
  return undefined;
}
