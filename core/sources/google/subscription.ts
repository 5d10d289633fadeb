/**
 * Hears of the events of all cameras of a project from one pull subscription of Cloud Pub/Sub, by
 * plain REST, and hands each to whoever listens for its camera. It pulls while somebody listens.
 *
 * Messages come at least once, in any order, and late. One that was told is not told again; events of
 * one session are one happening that begins with the earliest and ends with the latest of them.
 * A message is acknowledged as soon as it was handed on, long before its deadline: events are for
 * marking what is being recorded, and one that a crash costs is not worth being told of hours later.
 *
 * @module
 */
import { type CameraEvent, type Log, sourceError } from "../../types.ts";
import { below, jsonOf } from "../nest/api.ts";
import { googleRefusal, type SdmApi } from "./api.ts";
import { attachmentOf } from "./attachments.ts";
import type { SdmDevice } from "./devices.ts";
import { parsePull, type Pulled, type SdmEvent, type SdmMessage } from "./messages.ts";

/** The events of a project. */
export interface SdmSubscription {
  /** A camera's events from now on. @throws a source error */
  listen(options: {
    readonly resource: string;
    /** The camera as told last. */
    latest(): SdmDevice | undefined;
    readonly signal: AbortSignal;
  }): AsyncGenerator<CameraEvent>;
}

/** All cameras of the account begin to listen within this. */
const GATHER_MS = 1000;
/** A pull waits for messages at Google's, but may come back with none at once. */
const PULL_TIMEOUT_MS = 120_000;
const PULL_PAUSE_MS = 2000;
const MAX_MESSAGES = 100;
const ACK_TIMEOUT_MS = 8000;
/** Older than this tells nothing of what is being recorded. */
const STALE_MS = 3_600_000;
const MAX_REMEMBERED = 2000;
const MAX_WAITING = 200;
const MAX_BYTES = 16 * 2 ** 20;

interface Listener {
  readonly resource: string;
  readonly latest: () => SdmDevice | undefined;
  readonly events: CameraEvent[];
  failure?: unknown;
  wake: () => void;
}

/** A happening. */
interface HappeningState {
  kinds: Map<string, { startMs: number; endMs: number }>;
  /** Its picture was asked for. */
  pictured: boolean;
}

/** Makes one; nothing is sent before somebody listens. */
export function openSubscription(
  { api, subscription, attachments, log, closing }: {
    readonly api: SdmApi;
    /** `projects/…/subscriptions/…`. */
    readonly subscription: string;
    /** Whether pictures and previews are wanted. */
    readonly attachments: boolean;
    readonly log: Log;
    readonly closing: AbortSignal;
  },
): SdmSubscription {
  const { clock, endpoints } = api;
  const listeners = new Set<Listener>();
  const told = new Set<string>();
  const sessions = new Map<string, HappeningState>();
  let pulling: AbortController | undefined;
  let saidUnread = false;

  const post = (verb: string, json: unknown, { signal, timeoutMs }: {
    readonly signal: AbortSignal;
    readonly timeoutMs: number;
  }) =>
    api.authorized(below(endpoints.pubsub, `/v1/${subscription}:${verb}`), {
      signal,
      json,
      timeoutMs,
      maxBytes: MAX_BYTES,
    });

  const pull = async (signal: AbortSignal): Promise<readonly Pulled[]> => {
    const options = { signal, timeoutMs: PULL_TIMEOUT_MS };
    const response = await post("pull", { maxMessages: MAX_MESSAGES }, options);
    if (response.status === 200) return parsePull(jsonOf(response));
    // Google's way of saying that nothing came in time.
    if (response.status === 504) return [];
    throw refusal(response);
  };
  const refusal = (response: Parameters<typeof googleRefusal>[0]): Error => {
    const error = googleRefusal(response, { clock, what: `events of ${subscription}` });
    if (response.status !== 403 && response.status !== 404) return error;
    return sourceError(
      "auth",
      `${error.message.split(": ").slice(0, 2).join(": ")}: is "subscription" the full name of a ` +
        "pull subscription of the Google Cloud project whose OAuth client this is, and was Pub/Sub " +
        "consented to? Run camsink init to consent again",
      { retryAfterMs: 300_000 },
    );
  };

  const acknowledge = async (pulled: readonly Pulled[], signal: AbortSignal) => {
    if (pulled.length === 0) return;
    const ackIds = pulled.map(({ ackId }) => ackId);
    try {
      const response = await post("acknowledge", { ackIds }, { signal, timeoutMs: ACK_TIMEOUT_MS });
      if (response.status !== 200) throw refusal(response);
    } catch (error) {
      if (signal.aborted) throw error;
      log.debug(`events were not acknowledged, and come again: ${error}`);
    }
  };

  const take = ({ content }: Pulled) => {
    if (content === "other") return;
    if (content === undefined) {
      if (!saidUnread) log.warn("a message of the subscription cannot be read: it is left out");
      saidUnread = true;
      return;
    }
    if (told.has(content.id) || content.atMs < clock.now() - STALE_MS) return;
    remember(content.id);
    const listener = [...listeners].find(({ resource }) => resource === content.resource);
    if (listener === undefined) return; // a camera that is not recorded, or a thermostat
    for (const event of content.events) tell(listener, event, content);
  };
  const remember = (id: string) => {
    told.add(id);
    if (told.size > MAX_REMEMBERED) told.delete(told.values().next().value ?? "");
  };

  const tell = (listener: Listener, event: SdmEvent, { atMs, resource }: SdmMessage) => {
    const key = `${resource} ${event.sessionId}`;
    const session = sessions.get(key) ?? { kinds: new Map(), pictured: false };
    sessions.set(key, session);
    if (sessions.size > MAX_REMEMBERED) sessions.delete(sessions.keys().next().value ?? "");
    // A preview alone is of what its session told, or of something that moved.
    const kind = event.kind !== "clip" ? event.kind : [...session.kinds.keys()][0] ?? "motion";
    const before = session.kinds.get(kind);
    const startMs = Math.min(atMs, before?.startMs ?? Infinity);
    const endMs = Math.max(atMs, before?.endMs ?? -Infinity);
    session.kinds.set(kind, { startMs, endMs });
    const device = listener.latest();
    const isPicture = event.previewUrl === undefined;
    const attachment = !attachments || device === undefined || (isPicture && session.pictured)
      ? undefined
      : attachmentOf({ api, device, event, atMs });
    if (attachment && isPicture) session.pictured = true;
    listener.events.push({
      kind,
      startMs,
      ...(endMs > startMs ? { endMs } : {}),
      ...(attachment ? { attachment } : {}),
    });
    if (listener.events.length > MAX_WAITING) listener.events.shift();
    listener.wake();
  };

  const run = async (signal: AbortSignal): Promise<void> => {
    await clock.sleep(GATHER_MS, { signal });
    while (true) {
      const askedMs = clock.monotonic();
      const pulled = await pull(signal);
      for (const one of pulled) take(one);
      await acknowledge(pulled, signal);
      const restMs = askedMs + PULL_PAUSE_MS - clock.monotonic();
      if (pulled.length < MAX_MESSAGES && restMs > 0) await clock.sleep(restMs, { signal });
    }
  };
  const start = () => {
    if (pulling) return;
    const own = pulling = new AbortController();
    run(AbortSignal.any([own.signal, closing])).catch((error) => {
      if (pulling === own) pulling = undefined;
      if (own.signal.aborted) return;
      for (const listener of listeners) {
        listener.failure = error;
        listener.wake();
      }
    });
  };

  return {
    async *listen({ resource, latest, signal }) {
      const both = AbortSignal.any([signal, closing]);
      const listener: Listener = { resource, latest, events: [], wake: () => {} };
      listeners.add(listener);
      const onAbort = () => listener.wake();
      both.addEventListener("abort", onAbort, { once: true });
      try {
        start();
        while (!both.aborted) {
          const event = listener.events.shift();
          if (event) yield event;
          else if (listener.failure !== undefined) throw listener.failure;
          else {
            await new Promise<void>((resolve) => {
              listener.wake = resolve;
              if (both.aborted) resolve();
            });
          }
        }
      } finally {
        both.removeEventListener("abort", onAbort);
        listeners.delete(listener);
        if (listeners.size === 0) {
          pulling?.abort(new Error("nobody listens any more"));
          pulling = undefined;
        }
      }
    },
  };
}
