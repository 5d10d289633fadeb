/**
 * A spool in memory and a sink that does as it is told, for tests of delivery.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { DeliverySpool, Receipt } from "../../core/delivery/mod.ts";
import type { SinkStatus } from "../../core/status/board.ts";
import type { Clip, Log, PutOptions, PutResult, Sink } from "../../core/types.ts";

/** A clip of `bytes` bytes, the `index`-th minute of a day. */
export function makeClip(index: number, bytes = 1000, camera = "yard"): Clip {
  const start = new Date(Date.UTC(2026, 7, 21, 0, index));
  const data = new Uint8Array(bytes).fill(index % 251);
  const stamp = start.toISOString().replace(/[-:]|\.000/g, "");
  return {
    key: `${camera}/2026/08/21/${stamp}.mp4`,
    camera,
    start,
    end: new Date(start.getTime() + 60_000),
    bytes,
    sha256: createHash("sha256").update(data).digest("hex"),
    contentType: "video/mp4",
    open: (fromByte = 0) => new Blob([data.subarray(fromByte)]).stream(),
  };
}

/** A spool for any number of sinks that can be read and added to. */
export class FakeSpool implements DeliverySpool {
  readonly clips: Clip[] = [];
  /** `sink key` → receipt, in the order in which they came. */
  readonly receipts = new Map<string, Receipt>();
  readonly quarantined = new Map<string, string>();
  /** What the next receipts fail with. */
  receiptErrors: Error[] = [];
  version = 0;
  #news = Promise.withResolvers<void>();

  add(...clips: Clip[]): void {
    this.clips.push(...clips);
    this.#changed();
  }

  next(
    sink: string,
    { excluding }: { readonly excluding: ReadonlySet<string> },
  ): Clip | undefined {
    return this.#lacking(sink).find(({ key }) => !excluding.has(key));
  }

  backlog(sink: string): { clips: number; bytes: number } {
    const lacking = this.#lacking(sink);
    return { clips: lacking.length, bytes: lacking.reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  receipt(sink: string, key: string, receipt: Receipt): Promise<void> {
    const error = this.receiptErrors.shift();
    if (error) return Promise.reject(error);
    this.receipts.set(`${sink} ${key}`, receipt);
    this.#changed();
    return Promise.resolve();
  }

  quarantine(sink: string, key: string, reason: string): Promise<void> {
    this.quarantined.set(`${sink} ${key}`, reason);
    this.#changed();
    return Promise.resolve();
  }

  changed({ signal, since }: { readonly signal: AbortSignal; readonly since: number }) {
    if (since !== this.version || signal.aborted) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    signal.addEventListener("abort", () => resolve(), { once: true });
    this.#news.promise.then(resolve);
    return promise;
  }

  #lacking(sink: string): Clip[] {
    return this.clips.filter(({ key }) =>
      !this.receipts.has(`${sink} ${key}`) && !this.quarantined.has(`${sink} ${key}`)
    ).sort((a, b) => a.start.getTime() - b.start.getTime());
  }

  #changed(): void {
    this.version++;
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }
}

/** What a put does. */
export type Behaviour = (
  clip: Clip,
  options: PutOptions,
) => Outcome | Promise<Outcome>;

/** An error is thrown; `undefined` stores the clip. */
export type Outcome = PutResult | Error | undefined;

/** A sink whose puts do what `behave` says, and that remembers them. */
export class FakeSink implements Sink {
  readonly puts: { readonly key: string; readonly attempt: number; readonly atMs: number }[] = [];
  /** Key → SHA-256. */
  readonly objects = new Map<string, string>();
  behave: Behaviour;
  underWay = 0;
  mostUnderWay = 0;
  readonly #nowMs: () => number;

  constructor(nowMs: () => number, behave: Behaviour = () => undefined) {
    this.#nowMs = nowMs;
    this.behave = behave;
  }

  async put(clip: Clip, options: PutOptions): Promise<PutResult> {
    this.puts.push({ key: clip.key, attempt: options.attempt, atMs: this.#nowMs() });
    this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay);
    try {
      const result = await this.behave(clip, options);
      if (result instanceof Error) throw result;
      if (result) return result;
      const state = this.objects.has(clip.key) ? "already-there" : "stored";
      this.objects.set(clip.key, clip.sha256);
      return { state };
    } finally {
      this.underWay--;
    }
  }
}

/** One line of a log. */
export interface LogLine {
  readonly level: keyof Log;
  readonly message: string;
  readonly event: unknown;
  readonly sink: unknown;
}

/** A log that keeps what it is told. */
export function keepLog(): Log & { readonly lines: LogLine[]; events(...names: string[]): number } {
  const lines: LogLine[] = [];
  const at = (level: keyof Log) => (message: string, properties?: Record<string, unknown>) => {
    lines.push({ level, message, event: properties?.event, sink: properties?.sink });
  };
  return {
    lines,
    events: (...names) => lines.filter(({ event }) => names.includes(String(event))).length,
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
  };
}

/** A sink's status before anything happened. */
export function freshStatus(name: string): SinkStatus {
  return {
    name,
    type: "fake",
    where: "nowhere",
    state: "idle",
    backlogClips: 0,
    backlogBytes: 0,
    clipsDelivered: 0,
    bytesDelivered: 0,
    clipsQuarantined: 0,
  };
}
