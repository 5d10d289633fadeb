/**
 * Hears of a camera's events for as long as it is recorded. Where they cannot be heard, that is said
 * once, and shown for as long as it is so; everything is recorded, and it is tried again.
 *
 * @module
 */
import { backoffMs } from "../clock.ts";
import type { CameraStatus } from "../status/board.ts";
import { type CameraEvent, type Clock, type Log, sourceErrorKind } from "../types.ts";
import { retryAfterMs } from "./pauses.ts";

/** Where events come from. */
export interface EventListening {
  /** What the camera or its cloud tells; absent where it tells nothing. */
  readonly listen?: (
    options: { readonly signal: AbortSignal },
  ) => AsyncIterable<CameraEvent>;
  /** Motion in its pictures makes the events. */
  readonly motion?: boolean;
}

/** The longest pause before a camera that nobody asked about is asked again, ms. */
const UNASKED_PAUSE_MS = 600_000;
/** No error for so long means that events are heard, ms. */
const TRUSTED_MS = 20_000;

/** Who is told of events. */
export interface EventHearer {
  /** Takes an event. */
  note(event: CameraEvent): void;
  /** Whether events are heard of. */
  isHeard: boolean;
}

/** Listens until `signal` is aborted. */
export async function listenForEvents(
  gate: EventHearer,
  { listen, consequence = "everything is recorded", isAsked = true, status, clock, random, log }:
    & EventListening
    & {
      /** What it means when nothing is heard. */
      readonly consequence?: string;
      /** It is said when nothing is heard. `false` where nobody asked for it. */
      readonly isAsked?: boolean;
      /** Where it is shown for as long as nothing is heard. */
      readonly status: Pick<CameraStatus, "eventsUnheard">;
      readonly clock: Clock;
      /** Numbers in [0, 1). */
      readonly random: () => number;
      readonly log: Log;
    },
  signal: AbortSignal,
): Promise<void> {
  if (!listen) {
    gate.isHeard = false;
    status.eventsUnheard = `nobody tells of this camera's events: ${consequence}`;
    log.warn(status.eventsUnheard, { event: "events-unknown" });
    return;
  }
  let attempt = 0;
  const heard = () => {
    attempt = 0;
    if (gate.isHeard) return;
    gate.isHeard = true;
    status.eventsUnheard = undefined;
    if (isAsked) log.info("events are heard of again", { event: "events-heard" });
  };
  while (!signal.aborted) {
    const round = new AbortController();
    clock.sleep(TRUSTED_MS, { signal: round.signal }).then(heard, () => {}); // it failed before
    try {
      for await (const event of listen({ signal })) {
        heard();
        gate.note(event);
        log.debug(`${event.kind} at ${new Date(event.startMs).toISOString()}`, {
          event: "camera-event",
          kind: event.kind,
        });
      }
      if (!signal.aborted) throw new Error("the list of events ended");
    } catch (error) {
      round.abort();
      if (signal.aborted) return;
      const reason = error instanceof Error ? error.message : String(error);
      if (isAsked) status.eventsUnheard = `events cannot be heard (${reason}): ${consequence}`;
      if (gate.isHeard) {
        const message = `cannot hear of events: ${reason}; ${consequence} until it works`;
        log[isAsked ? "warn" : "debug"](message, { event: "events-unheard" });
      }
      gate.isHeard = false;
      // Who is away comes back; who refuses goes on refusing.
      const longestMs = isAsked || sourceErrorKind(error) === "offline"
        ? undefined
        : UNASKED_PAUSE_MS;
      const pauseMs = Math.max(backoffMs(++attempt, random, longestMs), retryAfterMs(error));
      await clock.sleep(pauseMs, { signal }).catch(() => {});
    }
  }
}
