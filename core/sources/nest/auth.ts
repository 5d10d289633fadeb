/**
 * The login that all cameras of an account share. It is made when first needed, renewed in the
 * background five minutes before it ends so that no camera ever waits for it, and made anew when a
 * camera finds it refused; however many ask at the same time, there is one login under way.
 *
 * A login that was refused for good is not tried again with the same secrets for five minutes: the
 * cameras go on asking, but Google would take note. A rotated secret is tried at once.
 *
 * @module
 */
import { formatDuration, revealedSecrets } from "../../config/values.ts";
import { type Log, sourceError, sourceErrorKind } from "../../types.ts";
import type { NestApi } from "./api.ts";
import { logIn, type NestLogin, revealCredentials } from "./login.ts";
import type { NestOptions } from "./options.ts";

/** A login and which one it is. */
export interface NestTicket extends NestLogin {
  readonly generation: number;
}

/** Gives every camera the same, valid login. */
export interface NestAuth extends AsyncDisposable {
  /** The login as it is now; waits only where there is none that is good. */
  current(signal: AbortSignal): Promise<NestTicket>;
  /**
   * Another login than `stale`, which was refused. `proven`: it has worked before for the one who
   * asks; one for whom none ever worked gets a new one at most once a minute.
   */
  renewed(
    stale: NestTicket,
    options: { readonly signal: AbortSignal; readonly proven: boolean },
  ): Promise<NestTicket>;
}

const RENEW_EARLY_MS = 300_000;
const RENEW_AGAIN_MS = 30_000;
const REFUSED_PAUSE_MS = 300_000;
const UNPROVEN_PAUSE_MS = 60_000;

interface Held extends NestTicket {
  readonly renewAtMs: number;
  readonly endsAtMs: number;
}

/** Makes the shared login of one account. Nothing is sent before it is asked for. */
export function createNestAuth(
  { api, options, log }: {
    readonly api: NestApi;
    readonly options: Pick<NestOptions, "accessToken" | "issueToken" | "cookie" | "fieldTest">;
    readonly log: Log;
  },
): NestAuth {
  const { clock } = api;
  const closing = new AbortController();
  let held: Held | undefined;
  let underWay: Promise<Held> | undefined;
  let refused:
    | { readonly secrets: string; readonly error: unknown; readonly atMs: number }
    | undefined;
  let nextBackgroundMs = -Infinity;
  let lastUnprovenMs = -Infinity;
  let backgroundFails = false;

  const login = (): Promise<Held> =>
    underWay ??= makeLogin().finally(() => {
      underWay = undefined;
    });

  const makeLogin = async (): Promise<Held> => {
    closing.signal.throwIfAborted();
    const credentials = await revealCredentials(options);
    const secrets = JSON.stringify(credentials);
    if (refused?.secrets === secrets && clock.monotonic() - refused.atMs < REFUSED_PAUSE_MS) {
      throw refused.error;
    }
    // What was cut off the secrets makes them other texts than those that the log knows.
    for (const text of Object.values(credentials)) hide(text);
    try {
      const made = await logIn(credentials, {
        api,
        signal: closing.signal,
        fieldTest: options.fieldTest,
      });
      made.secrets.forEach(hide);
      const previous = held;
      const now = clock.monotonic();
      const early = Math.min(RENEW_EARLY_MS, made.lifetimeMs / 2);
      held = {
        ...made,
        generation: (previous?.generation ?? 0) + 1,
        endsAtMs: now + made.lifetimeMs,
        renewAtMs: now + Math.min(made.lifetimeMs - early, made.renewWithinMs),
      };
      refused = undefined;
      backgroundFails = false;
      log.debug(`logged in; good for ${formatDuration(made.lifetimeMs)}`);
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
    login().catch((error) => {
      if (closing.signal.aborted || backgroundFails) return;
      backgroundFails = true; // said once; it is said again as an error if it is not mended in time
      const restMs = Math.max(0, (held?.endsAtMs ?? 0) - clock.monotonic());
      log.warn(
        `cannot renew the login, which is good for another ${formatDuration(restMs) || "0s"}: ${
          error instanceof Error ? error.message : error
        }`,
      );
    });
  };

  const current = async (signal: AbortSignal): Promise<Held> => {
    signal.throwIfAborted();
    const now = clock.monotonic();
    if (held === undefined || now >= held.endsAtMs) return await orAborted(login(), signal);
    if (now >= held.renewAtMs) renewInBackground();
    return held;
  };

  return {
    current,
    async renewed(stale, { signal, proven }) {
      if (held !== undefined && held.generation > stale.generation) return await current(signal);
      if (!proven && underWay === undefined) {
        const sinceMs = clock.monotonic() - lastUnprovenMs;
        if (sinceMs < UNPROVEN_PAUSE_MS) {
          throw sourceError(
            "auth",
            "the cloud refuses the login for this camera, and a new login did not help: " +
              "does the camera belong to this account?",
            { retryAfterMs: UNPROVEN_PAUSE_MS - sinceMs },
          );
        }
        lastUnprovenMs = clock.monotonic();
      }
      return await orAborted(login(), signal);
    },
    async [Symbol.asyncDispose]() {
      closing.abort(new Error("the account is closed"));
      await underWay?.catch(() => {});
    },
  };
}

/**
 * Secrets made by a login, for the log to take out of what it prints. The oldest are forgotten: they
 * have long expired, and a year has many logins.
 */
const made: string[] = [];
const MADE_KEPT = 200;

function hide(text: string): void {
  if (text.length < 6 || revealedSecrets.has(text)) return;
  revealedSecrets.add(text);
  made.push(text);
  if (made.length > MADE_KEPT) revealedSecrets.delete(made.shift() ?? "");
}

/** The login goes on for the others when one of those who wait for it is told to stop. */
function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    promise.catch(() => {});
    return Promise.reject(signal.reason);
  }
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
