/**
 * The key `events` of a camera or an account: whether it is recorded all the time, or only around
 * what happens.
 *
 * @module
 */
import * as v from "valibot";
import { duration } from "./values.ts";

/** When a camera is recorded, as validated. */
export interface EventsConfig {
  /** `event`: what the camera or its cloud tells; `motion`: what is seen in its pictures here. */
  readonly mode: "event" | "motion";
  /** So much before each event, ms. */
  readonly beforeMs: number;
  /** So much after it, ms. */
  readonly afterMs: number;
}

/** Its schema; `undefined` where the camera is recorded all the time. */
export const eventsField = v.optional(
  v.pipe(
    v.strictObject({
      mode: v.pipe(
        v.optional(v.picklist(["continuous", "event", "motion"]), "continuous"),
        v.description(
          '"continuous" records all the time, "event" around what the camera or its cloud tells ' +
            '(motion, persons, sounds, the bell), "motion" around changes that Camsink sees in the ' +
            "pictures (of coded video, in its key pictures).",
        ),
      ),
      before: v.pipe(
        v.optional(duration({ minMs: 0, maxMs: 60_000 }), "5s"),
        v.description("How much before each event is recorded."),
      ),
      after: v.pipe(
        v.optional(duration({ minMs: 1000, maxMs: 3_600_000 }), "20s"),
        v.description("How much after its end."),
      ),
    }, "expected an object"),
    v.transform(({ mode, before, after }): EventsConfig | undefined =>
      mode === "continuous" ? undefined : { mode, beforeMs: before, afterMs: after }
    ),
    v.description(
      "Records only around events. Where events cannot be had, everything is recorded, and that is " +
        "said.",
    ),
  ),
);
