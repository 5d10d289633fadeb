/**
 * Tells others over HTTP: a webhook gets the news, a heartbeat is called while all is well. Neither
 * may hold anything up, so they run beside the rest and give up in the end. Their addresses are
 * secrets, so no error of `fetch`, which would show them, is passed on.
 *
 * @module
 */
import { backoffMs } from "../clock.ts";
import type { Clock, Log, Secret } from "../types.ts";
import type { AlertNews } from "./alerts.ts";

/** What calls are made with. */
export interface CallOptions {
  readonly clock: Clock;
  readonly random: () => number;
  readonly fetch: typeof fetch;
  readonly log: Log;
  readonly signal: AbortSignal;
}

const TIMEOUT_MS = 10_000;
const TRIES = 5;
const MAX_WAITING = 100;

/** One call; gives why it failed, if it did. */
async function call(
  address: Secret,
  { init, options }: { readonly init: RequestInit; readonly options: CallOptions },
): Promise<string | undefined> {
  const end = new AbortController();
  const signal = AbortSignal.any([options.signal, end.signal]);
  const timeout = options.clock.sleep(TIMEOUT_MS, { signal }).then(() => end.abort(), () => {});
  let url: string;
  try {
    url = await address.reveal();
  } catch {
    end.abort();
    return `its address ${address.reference} cannot be read`;
  }
  try {
    if (!/^https?:\/\//i.test(url)) return "its address is no http:// or https:// URL";
    const response = await options.fetch(url, { ...init, signal });
    await response.body?.cancel();
    return response.ok ? undefined : `it answers HTTP ${response.status}`;
  } catch {
    return end.signal.aborted
      ? `it did not answer within ${TIMEOUT_MS / 1000} s`
      : "it cannot be reached";
  } finally {
    end.abort();
    await timeout;
  }
}

/** Says once that calls fail and once that they work again. */
function createTold(what: string, log: Log): (failure: string | undefined) => void {
  let isFailing = false;
  return (failure) => {
    if (failure !== undefined && !isFailing) {
      log.warn(`${what}: ${failure}`, { event: "call-failed" });
    } else if (failure === undefined && isFailing) {
      log.info(`${what}: it works again`, { event: "call-works" });
    }
    isFailing = failure !== undefined;
  };
}

/** A webhook that is told of something. */
export interface Webhook {
  /** Waits in line; the oldest gives way where too many wait. */
  post(body: Readonly<Record<string, unknown>>): void;
  /** Resolves when nothing waits. */
  readonly idle: Promise<void>;
}

/** Posts JSON to a webhook, one after the other, each tried a few times. `what`: for the log. */
export function createWebhook(
  address: Secret,
  options: CallOptions & { readonly what?: string },
): Webhook {
  const { clock, random, signal, what = "alerts.webhook" } = options;
  const told = createTold(what, options.log);
  const waiting: string[] = [];
  let sending: Promise<void> | undefined;
  const sendAll = async () => {
    for (let body = waiting.shift(); body !== undefined; body = waiting.shift()) {
      const init = { method: "POST", headers: { "content-type": "application/json" }, body };
      for (let attempt = 1; attempt <= TRIES && !signal.aborted; attempt++) {
        const failure = await call(address, { init, options });
        if (signal.aborted) break;
        told(failure);
        if (failure === undefined) break;
        await clock.sleep(backoffMs(attempt, random), { signal }).catch(() => {});
      }
    }
    sending = undefined;
  };
  return {
    post(body) {
      if (waiting.length >= MAX_WAITING) waiting.shift();
      waiting.push(JSON.stringify(body));
      sending ??= sendAll();
    },
    get idle() {
      return sending ?? Promise.resolve();
    },
  };
}

/** News of trouble, as it is posted. */
export function newsBody(
  { event, kind, subject, message, sinceMs, untilMs }: AlertNews,
  product: string,
): Readonly<Record<string, unknown>> {
  return {
    event,
    kind,
    subject,
    message,
    since: new Date(sinceMs),
    ...(untilMs === undefined ? {} : { until: new Date(untilMs) }),
    product,
  };
}

/** Calls an address, at most one call at a time. */
export function createHeartbeat(
  address: Secret,
  options: CallOptions,
): { beat(): void; readonly idle: Promise<void> } {
  const told = createTold("alerts.heartbeat", options.log);
  let calling: Promise<void> | undefined;
  return {
    beat() {
      calling ??= call(address, { init: {}, options }).then((failure) => {
        if (!options.signal.aborted) told(failure);
        calling = undefined;
      });
    },
    get idle() {
      return calling ?? Promise.resolve();
    },
  };
}
