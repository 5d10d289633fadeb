/**
 * A login or an access token that all cameras of an account share, whatever it is made from. Each kind
 * of account has its own request; the rest is here, once:
 *
 * - It is made when first needed, and renewed in the background five minutes before it ends, so that
 *   nobody ever waits for it. However many ask at the same time, one request is under way.
 * - Where a server refuses it, it is renewed once and asked with once more ({@linkcode TokenKeeper.use}).
 * - One that was refused for good is not asked for again with the same secrets for five minutes: the
 *   cameras go on asking, but the cloud would take note. A rotated secret is tried at once. That it
 *   cannot be renewed is said once, with its remedy, while the old one is still good.
 *
 * @module
 */
import { orAborted } from "../clock.ts";
import { formatDuration } from "../config/values.ts";
import { type Clock, type Log, sourceErrorKind } from "../types.ts";
import { hideToken } from "./hidden_tokens.ts";

/** What a request gave. */
export interface Grant<Value> {
  readonly value: Value;
  /** How long it is good for, ms from now. */
  readonly lifetimeMs: number;
  /** When to renew it at the latest although it would live longer, ms from now. */
  readonly renewWithinMs?: number;
  /** Every secret in it, for the log to take out. */
  readonly secrets: readonly string[];
}

/** A request that is ready to be sent. */
export interface GrantRequest<Value> {
  /** What it is made from, as it is now. */
  readonly secrets: readonly string[];
  /** @throws a source error; `auth` means that the user has to do something */
  send(signal: AbortSignal): Promise<Grant<Value>>;
}

/** Which of the ones that followed each other it is. */
export interface Generation {
  readonly generation: number;
}

/** What is shared. */
export interface Held<Value> extends Generation {
  readonly value: Value;
}

/** Gives everybody the same, valid one. */
export interface TokenKeeper<Value> extends AsyncDisposable {
  /** The one as it is now; waits only where there is none that is good. */
  current(signal: AbortSignal): Promise<Held<Value>>;
  /**
   * Another than `stale`, which was refused. `mayAsk` is called where that takes a new request, and
   * may throw.
   */
  renewed(
    stale: Generation,
    options: { readonly signal: AbortSignal; readonly mayAsk?: () => void },
  ): Promise<Held<Value>>;
  /** Asks with the present one and, where it is refused, once more with another. */
  use<Answer>(
    ask: (value: Value) => Promise<Answer>,
    options: {
      readonly signal: AbortSignal;
      readonly isRefused: (answer: Answer) => boolean;
      readonly mayAsk?: () => void;
    },
  ): Promise<Answer>;
}

/** What a keeper works with. */
export interface TokenKeeperOptions<Value> {
  /** What it keeps, for the log: `the login`. */
  readonly what: string;
  /** Reads the user's secrets anew each time. @throws a source error of the kind `auth` */
  readonly prepare: () => Promise<GrantRequest<Value>>;
  readonly clock: Clock;
  readonly log: Log;
}

const RENEW_EARLY_MS = 300_000;
const RENEW_AGAIN_MS = 30_000;
const REFUSED_PAUSE_MS = 300_000;

interface Dated<Value> extends Held<Value> {
  readonly renewAtMs: number;
  readonly endsAtMs: number;
}

/** Makes one. Nothing is sent before it is asked for. */
export function createTokenKeeper<Value>(
  { what, prepare, clock, log }: TokenKeeperOptions<Value>,
): TokenKeeper<Value> {
  const closing = new AbortController();
  let held: Dated<Value> | undefined;
  let underWay: Promise<Dated<Value>> | undefined;
  let refused:
    | { readonly secrets: string; readonly error: unknown; readonly atMs: number }
    | undefined;
  let nextBackgroundMs = -Infinity;
  let backgroundFails = false;

  // Not tied to the signal of the one who asks: others may wait for it too.
  const renew = (): Promise<Dated<Value>> =>
    underWay ??= request().finally(() => {
      underWay = undefined;
    });

  const request = async (): Promise<Dated<Value>> => {
    closing.signal.throwIfAborted();
    const { secrets: texts, send } = await prepare();
    const secrets = JSON.stringify(texts);
    if (refused?.secrets === secrets && clock.monotonic() - refused.atMs < REFUSED_PAUSE_MS) {
      throw refused.error;
    }
    // What was cut off the secrets makes them other texts than those that the log knows.
    texts.forEach(hideToken);
    try {
      const { value, lifetimeMs, renewWithinMs = Infinity, secrets: made } = await send(
        closing.signal,
      );
      made.forEach(hideToken);
      const nowMs = clock.monotonic();
      const earlyMs = Math.min(RENEW_EARLY_MS, lifetimeMs / 2);
      held = {
        value,
        generation: (held?.generation ?? 0) + 1,
        endsAtMs: nowMs + lifetimeMs,
        renewAtMs: nowMs + Math.min(lifetimeMs - earlyMs, renewWithinMs),
      };
      refused = undefined;
      backgroundFails = false;
      log.debug(`${what} is good for ${formatDuration(lifetimeMs)}`);
      return held;
    } catch (error) {
      if (sourceErrorKind(error) === "auth") {
        refused = { secrets, error, atMs: clock.monotonic() };
      }
      throw error;
    }
  };

  const renewInBackground = () => {
    if (underWay || clock.monotonic() < nextBackgroundMs) return;
    nextBackgroundMs = clock.monotonic() + RENEW_AGAIN_MS;
    renew().catch((error) => {
      if (closing.signal.aborted || backgroundFails) return;
      backgroundFails = true; // said once; it is said again as an error if it is not mended in time
      const restMs = Math.max(0, (held?.endsAtMs ?? 0) - clock.monotonic());
      log.warn(
        `cannot renew ${what}, which is good for another ${formatDuration(restMs) || "0s"}: ${
          error instanceof Error ? error.message : error
        }`,
        { event: "login-not-renewed" },
      );
    });
  };

  const current = async (signal: AbortSignal): Promise<Dated<Value>> => {
    signal.throwIfAborted();
    const nowMs = clock.monotonic();
    if (held === undefined || nowMs >= held.endsAtMs) return await orAborted(renew(), signal);
    if (nowMs >= held.renewAtMs) renewInBackground();
    return held;
  };

  const renewed: TokenKeeper<Value>["renewed"] = async (stale, { signal, mayAsk }) => {
    if (held !== undefined && held.generation > stale.generation) return await current(signal);
    signal.throwIfAborted();
    if (underWay === undefined) mayAsk?.();
    return await orAborted(renew(), signal);
  };

  return {
    current,
    renewed,
    async use(ask, { signal, isRefused, mayAsk }) {
      const first = await current(signal);
      const answer = await ask(first.value);
      if (!isRefused(answer)) return answer;
      return await ask((await renewed(first, { signal, mayAsk })).value);
    },
    async [Symbol.asyncDispose]() {
      closing.abort(new Error("the account is closed"));
      await underWay?.catch(() => {});
    },
  };
}
