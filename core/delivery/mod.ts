/**
 * Brings clips to one sink, oldest first, for as long as it takes. All patience is here: sinks try
 * once and say what went wrong, and this decides when to try again. Each sink has its own delivery,
 * so a dead or slow one holds up nobody else.
 *
 * What an error's kind means: `retry` waits 1 s, 2 s, … up to a minute, for ever; `auth` and `full`
 * park the sink and probe it now and then; `permanent` and `conflict` put the one clip aside.
 *
 * @module
 */
import { backoffMs } from "../clock.ts";
import type { SinkStatus } from "../status/board.ts";
import {
  type Clip,
  type Clock,
  type Log,
  type PutResult,
  type Sink,
  SinkError,
  sinkErrorKind,
} from "../types.ts";

/** What a delivery needs of the spool. */
export interface DeliverySpool {
  /** Grows with everything that may concern a delivery. */
  readonly version: number;
  /** The oldest clip that the sink lacks. */
  next(sink: string, options?: { readonly excluding?: ReadonlySet<string> }): Clip | undefined;
  /** How much the sink lacks. */
  backlog(sink: string): { readonly clips: number; readonly bytes: number };
  /** Durable when it resolves. */
  receipt(
    sink: string,
    key: string,
    receipt: PutResult & { readonly bytes: number; readonly sha256: string },
  ): Promise<void>;
  /** Puts a clip aside for this sink. */
  quarantine(sink: string, key: string, reason: string): Promise<void>;
  /** Resolves when `version` is no longer `since`, or `signal` is aborted. */
  changed(options: { readonly signal: AbortSignal; readonly since?: number }): Promise<void>;
}

/** What a delivery works with. */
export interface DeliveryOptions {
  readonly name: string;
  readonly sink: Sink;
  readonly spool: DeliverySpool;
  readonly status: SinkStatus;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly log: Log;
  /** Clips on their way at the same time; 4 by default. */
  readonly concurrency?: number;
  /** A put that makes no progress for so long is given up, ms; 30 s by default. */
  readonly stallMs?: number;
}

/** See {@linkcode createDelivery}. */
export interface Delivery {
  /** Delivers until `signal` is aborted. Never throws for what a sink does. */
  run(signal: AbortSignal): Promise<void>;
  /** Waits until nothing is left, or `timeoutMs` have passed; tells what is left. */
  drain(
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<{ readonly left: number }>;
}

/** A parked sink is tried so often, ms: its credentials may have been changed, or room made. */
const PROBE_MS = { auth: 10_000, full: 10_000 } as const;

/** Makes the delivery of one sink. */
export function createDelivery(options: DeliveryOptions): Delivery {
  const { name, sink, spool, status, clock, random, log } = options;
  const { concurrency = 4, stallMs = 30_000 } = options;
  const underWay = new Set<string>();
  let failures = 0;
  let notBeforeMs = 0;

  const refresh = () => {
    const { clips, bytes } = spool.backlog(name);
    status.backlogClips = clips;
    status.backlogBytes = bytes;
    if (failures === 0) status.state = underWay.size > 0 ? "delivering" : "idle";
  };

  const succeeded = () => {
    if (failures > 0) log.info("delivering again", { event: "sink-recovered", failures });
    failures = 0;
    notBeforeMs = 0;
    status.reason = undefined;
  };

  const failed = (error: unknown, kind: "retry" | "auth" | "full") => {
    const reason = error instanceof Error ? error.message : String(error);
    const parked = kind !== "retry";
    if (failures === 0 || (parked && status.state !== "parked")) {
      log.warn(
        `${
          parked ? "cannot deliver" : "a delivery failed"
        }: ${reason}; clips wait on the spool and it is tried until it works`,
        { event: parked ? "sink-parked" : "sink-retrying", kind },
      );
    } else log.debug(`still failing: ${reason}`, { failures });
    failures++;
    const asked = error instanceof Error && "retryAfterMs" in error ? error.retryAfterMs : 0;
    const pauseMs = Math.max(
      parked ? PROBE_MS[kind] : backoffMs(failures, random),
      typeof asked === "number" ? asked : 0,
    );
    notBeforeMs = Math.max(notBeforeMs, clock.monotonic() + pauseMs);
    status.state = parked ? "parked" : "retrying";
    status.reason = reason;
  };

  async function deliver(clip: Clip, signal: AbortSignal): Promise<void> {
    try {
      const result = await putWatched(
        { sink, clip, clock, stallMs, attempt: failures + 1 },
        signal,
      );
      await spool.receipt(name, clip.key, { ...result, bytes: clip.bytes, sha256: clip.sha256 });
      succeeded();
      status.clipsDelivered++;
      status.bytesDelivered += clip.bytes;
      status.lastDeliveryAtMs = clock.now();
      log.debug("delivered", {
        event: "clip-delivered",
        key: clip.key,
        bytes: clip.bytes,
        state: result.state,
        url: result.url,
      });
    } catch (error) {
      if (signal.aborted) return;
      const kind = sinkErrorKind(error);
      if (kind !== "permanent" && kind !== "conflict") return failed(error, kind);
      const reason = error instanceof Error ? error.message : String(error);
      log.error(`the sink will not take ${clip.key}: ${reason}; the clip stays on the spool`, {
        event: "clip-quarantined",
        key: clip.key,
        kind,
      });
      status.clipsQuarantined++;
      await spool.quarantine(name, clip.key, reason);
    }
  }

  return {
    async run(signal) {
      const running = new Set<Promise<void>>();
      refresh();
      while (!signal.aborted) {
        const since = spool.version;
        const waitMs = notBeforeMs - clock.monotonic();
        const clip = waitMs > 0 || running.size >= (failures >= 1 ? 1 : concurrency)
          ? undefined
          : spool.next(name, { excluding: underWay });
        if (clip) {
          underWay.add(clip.key);
          refresh();
          const work: Promise<void> = deliver(clip, signal)
            .catch((error) => failed(error, "retry"))
            .finally(() => {
              underWay.delete(clip.key);
              running.delete(work);
              refresh();
            });
          running.add(work);
          continue;
        }
        const woken = new AbortController();
        const wake = AbortSignal.any([signal, woken.signal]);
        await Promise.race([
          ...running,
          ...(waitMs > 0
            ? [clock.sleep(waitMs, { signal: wake }).catch(() => {})]
            : [spool.changed({ signal: wake, since })]),
          aborted(wake),
        ]);
        woken.abort();
        refresh();
      }
      await Promise.all(running);
      refresh();
    },
    async drain({ timeoutMs, signal }) {
      const endMs = clock.monotonic() + timeoutMs;
      while (!signal.aborted) {
        const { clips } = spool.backlog(name);
        const restMs = endMs - clock.monotonic();
        if (clips === 0 || restMs <= 0) return { left: clips };
        await clock.sleep(Math.min(50, restMs), { signal }).catch(() => {});
      }
      return { left: spool.backlog(name).clips };
    },
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true })
  );
}

interface WatchedPut {
  readonly sink: Sink;
  readonly clip: Clip;
  readonly clock: Clock;
  readonly stallMs: number;
  readonly attempt: number;
}

/** One put, given up when it makes no progress. */
async function putWatched(
  { sink, clip, clock, stallMs, attempt }: WatchedPut,
  signal: AbortSignal,
): Promise<PutResult> {
  const stalled = new AbortController();
  const done = new AbortController();
  let progressAtMs = clock.monotonic();
  (async () => {
    while (true) {
      const restMs = progressAtMs + stallMs - clock.monotonic();
      if (restMs <= 0) {
        stalled.abort(
          new SinkError("retry", `the sink took no bytes for ${Math.round(stallMs / 1000)} s`),
        );
        return;
      }
      await clock.sleep(restMs, { signal: done.signal });
    }
  })().catch(() => {}); // done
  const putSignal = AbortSignal.any([signal, stalled.signal]);
  try {
    return await Promise.race([
      sink.put(clip, {
        signal: putSignal,
        attempt,
        progress: () => progressAtMs = clock.monotonic(),
      }),
      aborted(putSignal).then(() => Promise.reject(putSignal.reason)),
    ]);
  } catch (error) {
    throw stalled.signal.aborted ? stalled.signal.reason : error;
  } finally {
    done.abort();
  }
}
