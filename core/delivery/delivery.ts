/**
 * Hands each clip on the spool to one sink until the sink has proved that it holds it. Every sink has
 * its own delivery, so a dead or slow one touches neither the others nor the recording. Sinks never
 * retry and never queue: this is the one place where it is decided what a failure means.
 *
 * The oldest clip goes first, a few at a time. After a failure:
 *
 * - `retry` (and anything unknown): the sink pauses, 1 s doubling to 60 s with jitter or as long as
 *   the sink asks for, and goes on for ever. The pause grows with failures in a row over all clips,
 *   so an outage is met with one pause; a clip that fails alone waits alone while the others pass.
 *   After 20 in a row the breaker opens: one clip at a time until one arrives.
 * - `auth`, `full`: the sink is parked; one clip probes it every 5 minutes (`full`: every minute),
 *   and within seconds of a change of its credentials.
 * - `permanent`: this clip is put aside. Three in a row say that the sink, not the clips, is the
 *   trouble: it is parked instead.
 * - `conflict`: the sink holds another object under the key; the clip is stored beside it.
 *
 * Trouble is logged once when it begins and once when it ends; single failures that the next try
 * heals are seen at debug level only.
 *
 * @module
 */
import { backoffMs } from "../clock.ts";
import { formatBytes, formatDuration } from "../config/values.ts";
import type { SinkStatus } from "../status/board.ts";
import {
  type Clip,
  type Clock,
  type Log,
  type Secret,
  type Sink,
  sinkErrorKind,
} from "../types.ts";
import { conflictKey, type DeliverySpool, type Receipt } from "./contract.ts";
import { Bandwidth, DailyCap, type Rate } from "./pace.ts";
import { secretsFingerprint } from "./secrets.ts";
import { watchedPut } from "./watched_put.ts";

/** What a delivery works with, and how it goes about it. */
export interface DeliveryOptions {
  /** The name that the user gave the sink. */
  readonly name: string;
  readonly sink: Sink;
  readonly spool: DeliverySpool;
  /** Kept up to date; made by the caller. */
  readonly status: SinkStatus;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  /** Of this sink: messages do not name it again. */
  readonly log: Log;
  /** Clips on their way at once. Default 4. */
  readonly concurrency?: number;
  /** A try without progress for so long is given up, ms. Default 30 s. */
  readonly stallMs?: number;
  /**
   * Resolves when the sink could begin, where it has to wait for others of its machine first: that is
   * no stall.
   */
  readonly turn?: (options: { readonly signal: AbortSignal }) => Promise<void>;
  /** Most bytes per UTC day. */
  readonly perDayBytes?: number;
  /** What this day has seen already, bytes. */
  readonly usedTodayBytes?: number;
  /** Most bytes per second, over all clips of this sink. */
  readonly bytesPerSecond?: Rate;
  /** Takes secrets out of what is written down: a server may throw a request back in its answer. */
  readonly redact?: (text: string) => string;
  /** The sink's credentials: a parked sink is probed when one changes. See `secretsIn`. */
  readonly secrets?: readonly Secret[];
}

/** One sink's delivery. */
export interface Delivery {
  /** Delivers until `signal` is aborted; then stops the tries under way and resolves. */
  run(signal: AbortSignal): Promise<void>;
  /**
   * Resolves when nothing is left, when the sink is parked (waiting would not help), when the time
   * is up, or on abort. `run` must be running.
   */
  drain(options: {
    readonly timeoutMs: number;
    readonly signal: AbortSignal;
  }): Promise<{ readonly left: number }>;
  /** Tries again now, whatever pause was meant. */
  nudge(): void;
}

/** Makes the delivery of one sink. The caller opened the sink and closes it. */
export function createDelivery(options: DeliveryOptions): Delivery {
  return new SinkDelivery(options);
}

const BREAKER_FAILURES = 20;
const REFUSED_IN_A_ROW = 3;
const LOGGED_AFTER_ROUNDS = 3;
const PROBE_MS = { auth: 300_000, full: 60_000, refused: 300_000 } as const;
const SECRET_POLL_MS = 5000;
const GRACE_MS = 2000;
/** Characters of a reason that are kept. */
const MAX_REASON = 500;
const DAY_MS = 86_400_000;

/** Why nothing goes at the moment. */
interface Trouble {
  readonly kind: "retry" | "auth" | "full" | "refused";
  readonly sinceMs: number;
  reason: string;
  logged: boolean;
  /** When the next try may start, monotonic ms. */
  nextTryAtMs: number;
}

/** What is remembered of a clip that failed. */
interface Tries {
  count: number;
  /** While the sink is well otherwise: not before, monotonic ms. */
  notBeforeMs: number;
  storeAs?: string;
}

class SinkDelivery implements Delivery {
  readonly #options: DeliveryOptions;
  readonly #concurrency: number;
  /** Counts also where there is no limit. */
  readonly #cap: DailyCap;
  readonly #bandwidth: Bandwidth | undefined;
  readonly #underWay = new Map<string, Promise<void>>();
  readonly #tries = new Map<string, Tries>();
  #trouble: Trouble | undefined;
  /** Failures without a success between, counted once per pause; they set its length. */
  #rounds = 0;
  /** The same, counted one by one; they open the breaker. */
  #failuresInRow = 0;
  #refusedInRow = 0;
  /** Clips of the last failures in a row. */
  readonly #failedLast = new Set<string>();
  /** Counts pauses: a try that began before the last pause makes it no longer. */
  #pauses = 0;
  #capReached = false;
  #capLoggedDay = -Infinity;
  #fingerprint = "";
  #secretsReadAtMs = -Infinity;
  #bell = Promise.withResolvers<void>();

  constructor(options: DeliveryOptions) {
    this.#options = options;
    this.#concurrency = options.concurrency ?? 4;
    const { clock, perDayBytes, usedTodayBytes, bytesPerSecond } = options;
    this.#cap = new DailyCap(perDayBytes ?? Infinity, clock, usedTodayBytes);
    if (bytesPerSecond !== undefined) this.#bandwidth = new Bandwidth(bytesPerSecond, clock);
    this.#show();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { spool } = this.#options;
    while (!signal.aborted) {
      // Taken before looking, so that what happens meanwhile is not slept over.
      const rung = this.#bell.promise;
      const since = spool.version;
      await this.#watchSecrets();
      this.#startTries(signal);
      this.#show();
      await this.#wait(rung, since, signal);
    }
    await Promise.all(this.#underWay.values());
    this.#show();
  }

  async drain(
    { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<{ readonly left: number }> {
    const { clock, spool, name } = this.#options;
    const endMs = clock.monotonic() + timeoutMs;
    this.nudge();
    // A pause that begins now is a try's answer, not one from before.
    let nudged = true;
    for (;;) {
      const rung = this.#bell.promise;
      const left = spool.backlog(name).clips;
      const leftMs = endMs - clock.monotonic();
      const still = this.#underWay.size === 0;
      const hopeless = still && (this.#capReached || this.#isParked() && !nudged);
      if (left === 0 && still || hopeless || leftMs <= 0 || signal.aborted) return { left };
      nudged = false;
      await this.#race(signal, [rung], leftMs);
    }
  }

  nudge(): void {
    if (this.#trouble) this.#trouble.nextTryAtMs = this.#options.clock.monotonic();
    for (const tries of this.#tries.values()) tries.notBeforeMs = -Infinity;
    this.#ring();
  }

  /** Starts as many tries as the sink's state allows. */
  #startTries(signal: AbortSignal): void {
    const { spool, name } = this.#options;
    const excluding = this.#excluded();
    while (this.#underWay.size < this.#slots()) {
      const clip = spool.next(name, { excluding });
      if (clip === undefined) return this.#setCapReached(false);
      if (!this.#cap.allows(clip.bytes)) return this.#setCapReached(true);
      this.#setCapReached(false);
      excluding.add(clip.key);
      this.#cap.add(clip.bytes);
      const { key } = clip;
      const tried = this.#try(clip, signal).finally(() => {
        this.#underWay.delete(key);
        this.#ring();
      });
      this.#underWay.set(key, tried);
    }
  }

  /** How many tries may be under way now. */
  #slots(): number {
    const trouble = this.#trouble;
    if (trouble === undefined) return this.#concurrency;
    if (this.#options.clock.monotonic() < trouble.nextTryAtMs) return 0;
    const breakerOpen = this.#failuresInRow >= BREAKER_FAILURES;
    return this.#isParked() || breakerOpen ? 1 : this.#concurrency;
  }

  /** Waiting alone will not heal it. */
  #isParked(): boolean {
    return this.#trouble !== undefined && this.#trouble.kind !== "retry";
  }

  /** Clips that are not to be tried now. */
  #excluded(): Set<string> {
    const { clock, spool, name } = this.#options;
    const underWay = new Set(this.#underWay.keys());
    const now = clock.monotonic();
    const keys = new Set(underWay);
    if (this.#trouble === undefined || this.#rounds === 0 && this.#trouble.kind === "retry") {
      for (const [key, { notBeforeMs }] of this.#tries) if (notBeforeMs > now) keys.add(key);
      return keys;
    }
    // Every other round passes over those that failed last, and a probe over those that were
    // refused: if they alone are the trouble, the next one proves it.
    const passOver = this.#trouble.kind === "refused" ||
      this.#rounds >= LOGGED_AFTER_ROUNDS && this.#rounds % 2 === 1;
    if (!passOver) return keys;
    for (const key of this.#failedLast) keys.add(key);
    if (spool.next(name, { excluding: keys }) !== undefined) return keys;
    this.#failedLast.clear();
    return underWay;
  }

  /** One try of one clip, and what follows from it. Never rejects. */
  async #try(clip: Clip, signal: AbortSignal): Promise<void> {
    const { sink, clock, log } = this.#options;
    const tries = this.#tries.get(clip.key) ?? { count: 0, notBeforeMs: -Infinity };
    this.#tries.set(clip.key, tries);
    tries.count++;
    const pausesBefore = this.#pauses;
    const { storeAs } = tries;
    const sent: Clip = storeAs === undefined ? clip : { ...clip, key: storeAs };
    let sentBytes = 0;
    let ended = false;
    try {
      if (this.#options.secrets?.length) {
        this.#fingerprint = await secretsFingerprint(this.#options.secrets);
      }
      await this.#options.turn?.({ signal });
      const bandwidth = this.#bandwidth;
      const result = await watchedPut(sink, sent, {
        signal,
        clock,
        attempt: tries.count,
        stallMs: this.#options.stallMs ?? 30_000,
        graceMs: GRACE_MS,
        ...(bandwidth ? { pace: (clip, options) => bandwidth.slow(clip, options) } : {}),
        onProgress: (bytes) => sentBytes = Math.max(sentBytes, bytes),
        onLeftBehind: () =>
          log.warn(`the sink did not stop when told to; it is left behind`, {
            event: "sink-left-behind",
            key: clip.key,
          }),
      });
      ended = true;
      await this.#arrived(clip, {
        ...result,
        bytes: clip.bytes,
        sha256: clip.sha256,
        ...(clip.md5 === undefined ? {} : { md5: clip.md5 }),
        ...(storeAs === undefined ? {} : { storedAs: storeAs }),
      });
    } catch (error) {
      // Stopping is no failure; the clip stays where it is.
      if (!signal.aborted || ended) await this.#failed(clip, tries, pausesBefore, error);
    } finally {
      if (!ended) this.#cap.add(sentBytes - clip.bytes);
    }
  }

  async #arrived(clip: Clip, receipt: Receipt): Promise<void> {
    const { spool, name, status, clock, log } = this.#options;
    await spool.receipt(name, clip.key, receipt);
    status.clipsDelivered++;
    status.bytesDelivered += clip.bytes;
    status.lastDeliveryAtMs = clock.now();
    log.debug("delivered", { event: "clip-delivered", ...receipt, key: clip.key });
    this.#tries.delete(clip.key);
    this.#recovered();
  }

  /** The sink takes clips: whatever it was, it is over. */
  #recovered(): void {
    const { log, name, clock, spool } = this.#options;
    const trouble = this.#trouble;
    // Who failed in the outage only, need not wait; who fails alone, must.
    for (const tries of this.#tries.values()) {
      if (tries.count <= this.#rounds) tries.notBeforeMs = -Infinity;
    }
    this.#trouble = undefined;
    this.#rounds = this.#failuresInRow = this.#refusedInRow = 0;
    this.#failedLast.clear();
    if (!trouble?.logged) return;
    const waiting = spool.backlog(name);
    log.info(
      `delivers again after ${formatDuration(clock.monotonic() - trouble.sinceMs)}` +
        (waiting.clips > 0 ? `; ${waiting.clips} clips (${formatBytes(waiting.bytes)}) wait` : ""),
      { event: "sink-recovered", sink: name, waitingClips: waiting.clips },
    );
  }

  async #failed(clip: Clip, tries: Tries, pausesBefore: number, error: unknown): Promise<void> {
    const { log, name } = this.#options;
    const kind = sinkErrorKind(error);
    const reason = error instanceof Error ? error.message : String(error);
    log.debug(`try ${tries.count} of ${clip.key} failed: ${reason}`, { kind });
    if (kind === "conflict" && tries.storeAs === undefined) {
      tries.storeAs = conflictKey(clip);
      log.warn(
        `${reason}; this clip is stored beside it as ${tries.storeAs}`,
        { event: "conflict", sink: name, key: clip.key, storedAs: tries.storeAs },
      );
      return;
    }
    if (kind === "auth" || kind === "full") return this.#park(kind, reason);
    if (kind !== "retry") {
      if (++this.#refusedInRow > REFUSED_IN_A_ROW || this.#trouble?.kind === "refused") {
        this.#failedLast.add(clip.key);
        return this.#park("refused", `refuses one clip after the other: ${reason}`);
      }
      return await this.#putAside(clip, reason);
    }
    this.#pause(clip, tries, pausesBefore, reason, retryAfterMs(error));
  }

  async #putAside(clip: Clip, said: string): Promise<void> {
    const { spool, name, log, status, redact = (text) => text } = this.#options;
    // Whole when secrets are taken out: half of one would not be known.
    const reason = redact(said).slice(0, MAX_REASON);
    try {
      await spool.quarantine(name, clip.key, reason);
    } catch (error) {
      return this.#park("full", `cannot note that ${clip.key} is put aside: ${String(error)}`);
    }
    status.clipsQuarantined++;
    this.#tries.delete(clip.key);
    log.error(`${clip.key} is put aside and kept here: ${reason}`, {
      event: "clip-quarantined",
      sink: name,
      key: clip.key,
    });
  }

  #park(kind: "auth" | "full" | "refused", reason: string): void {
    const trouble = this.#enter(kind, reason);
    trouble.nextTryAtMs = this.#options.clock.monotonic() + PROBE_MS[kind];
    if (trouble.logged) return;
    trouble.logged = true;
    this.#options.log.error(
      `parked, its clips wait on the spool: ${reason}`,
      { event: "sink-parked", sink: this.#options.name, kind },
    );
  }

  #pause(
    clip: Clip,
    tries: Tries,
    pausesBefore: number,
    reason: string,
    askedMs: number | undefined,
  ): void {
    const { clock, random, log, name } = this.#options;
    const now = clock.monotonic();
    this.#failuresInRow++;
    if (this.#trouble !== undefined && this.#trouble.kind !== "retry" && this.#underWay.size > 1) {
      return; // a straggler from before the sink was parked
    }
    const trouble = this.#enter("retry", reason);
    // Of clips that fail together only the first makes the pause longer.
    if (pausesBefore === this.#pauses) {
      this.#pauses++;
      this.#rounds++;
      this.#failedLast.clear();
      trouble.nextTryAtMs = now + backoffMs(this.#rounds, random);
    }
    this.#failedLast.add(clip.key);
    if (askedMs !== undefined) {
      // The sink knows best; up to a second on top spreads those that were told the same.
      trouble.nextTryAtMs = now + Math.max(askedMs, 500) + random() * 1000;
    }
    tries.notBeforeMs = now + Math.max(backoffMs(tries.count, random), askedMs ?? 0);
    if (trouble.logged) return;
    if (this.#rounds < LOGGED_AFTER_ROUNDS && this.#failuresInRow < BREAKER_FAILURES) return;
    trouble.logged = true;
    log.warn(`cannot deliver, keeps trying: ${reason}`, {
      event: "sink-retrying",
      sink: name,
    });
  }

  /** The trouble of this kind; a new kind is a new trouble, that began when the first did. */
  #enter(kind: Trouble["kind"], reason: string): Trouble {
    const now = this.#options.clock.monotonic();
    if (this.#trouble?.kind === kind) {
      this.#trouble.reason = reason;
      return this.#trouble;
    }
    const sinceMs = this.#trouble?.sinceMs ?? now;
    return this.#trouble = { kind, sinceMs, reason, logged: false, nextTryAtMs: now };
  }

  /** A sink parked for its credentials is probed as soon as they change. */
  async #watchSecrets(): Promise<void> {
    const { secrets } = this.#options;
    const now = this.#options.clock.monotonic();
    if (this.#trouble?.kind !== "auth" || !secrets?.length) return;
    if (now - this.#secretsReadAtMs < SECRET_POLL_MS) return;
    this.#secretsReadAtMs = now;
    const fingerprint = await secretsFingerprint(secrets, { maxAgeMs: SECRET_POLL_MS });
    if (fingerprint === this.#fingerprint) return;
    this.#fingerprint = fingerprint;
    this.nudge();
  }

  #setCapReached(reached: boolean): void {
    const { log, name, clock, perDayBytes = 0 } = this.#options;
    if (reached === this.#capReached) return;
    const today = Math.floor(clock.now() / DAY_MS);
    // Once a day: the clips of an optional sink may go before it takes them, and new ones come.
    if (reached && today > this.#capLoggedDay) {
      this.#capLoggedDay = today;
      log.warn(
        `the limit of ${formatBytes(perDayBytes)} a day is reached; clips wait on the ` +
          `spool until 00:00 UTC, in ${formatDuration(this.#cap.waitMs)}`,
        { event: "daily-limit", sink: name },
      );
    }
    this.#capReached = reached;
    this.#ring(); // a drain gives up
  }

  /** Sleeps until something may have changed. */
  async #wait(rung: Promise<void>, since: number, signal: AbortSignal): Promise<void> {
    const { clock, spool } = this.#options;
    const now = clock.monotonic();
    const dueMs: number[] = [];
    if (this.#trouble) {
      if (this.#trouble.nextTryAtMs > now) dueMs.push(this.#trouble.nextTryAtMs - now);
      if (this.#trouble.kind === "auth" && this.#options.secrets?.length) {
        dueMs.push(SECRET_POLL_MS);
      }
    }
    if (this.#rounds === 0) {
      for (const { notBeforeMs } of this.#tries.values()) {
        if (notBeforeMs > now) dueMs.push(notBeforeMs - now);
      }
    }
    // The wall clock may jump, so midnight is looked for again and again.
    if (this.#capReached) dueMs.push(Math.min(this.#cap.waitMs, 60_000));
    await this.#race(
      signal,
      [rung],
      Math.min(...dueMs),
      (end) => spool.changed({ signal: end, since }),
    );
  }

  /** Resolves with the first of these, after `ms`, or on abort; leaves no listener behind. */
  async #race(
    signal: AbortSignal,
    promises: readonly Promise<void>[],
    ms: number,
    more?: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    if (signal.aborted) return;
    const end = new AbortController();
    const stop = () => end.abort();
    signal.addEventListener("abort", stop, { once: true });
    const ended = Promise.withResolvers<void>();
    end.signal.addEventListener("abort", () => ended.resolve(), { once: true });
    try {
      await Promise.race([
        ended.promise,
        ...promises,
        ...(ms < Infinity
          ? [this.#options.clock.sleep(ms, { signal: end.signal }).catch(() => {})]
          : []),
        ...(more ? [more(end.signal).catch(() => {})] : []),
      ]);
    } finally {
      signal.removeEventListener("abort", stop);
      end.abort();
    }
  }

  #ring(): void {
    this.#bell.resolve();
    this.#bell = Promise.withResolvers<void>();
  }

  /** Writes the sink's state on the board. */
  #show(): void {
    const { status, spool, name } = this.#options;
    const { clips, bytes } = spool.backlog(name);
    status.backlogClips = clips;
    status.backlogBytes = bytes;
    status.usedTodayBytes = this.#cap.usedBytes;
    const { perDayBytes, sink: { credentialExpiresAtMs } } = this.#options;
    if (perDayBytes !== undefined) status.perDayBytes = perDayBytes;
    if (credentialExpiresAtMs === undefined) delete status.credentialExpiresAtMs;
    else status.credentialExpiresAtMs = credentialExpiresAtMs;
    if (this.#isParked() || this.#capReached) status.state = "parked";
    else if (this.#trouble) status.state = "retrying";
    else status.state = this.#underWay.size > 0 ? "delivering" : "idle";
    const reason = this.#capReached ? "the daily limit is reached" : this.#trouble?.reason;
    if (reason === undefined) delete status.reason;
    else status.reason = reason;
  }
}

/** What the sink asked for, ms. */
function retryAfterMs(error: unknown): number | undefined {
  return error instanceof Error && "retryAfterMs" in error && typeof error.retryAfterMs === "number"
    ? error.retryAfterMs
    : undefined;
}
