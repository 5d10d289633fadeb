/**
 * The key `events` of a camera or an account: whether it is recorded all the time, or only around
 * what happens; and whether its clips tell what did.
 *
 * @module
 */
import * as v from "valibot";
import { duration } from "./values.ts";

/** When a camera is recorded, as validated. */
export interface EventsConfig {
  /**
   * `event`: what the camera or its cloud tells; `motion`: what is seen in its pictures here;
   * `continuous`: it is recorded all the time.
   */
  readonly mode: "continuous" | "event" | "motion";
  /** Clips are tagged with what the camera or its cloud tells; absent where nobody says. */
  readonly tags?: boolean;
  /** So much before each event, ms. */
  readonly beforeMs: number;
  /** So much after it, ms. */
  readonly afterMs: number;
}

/** Its schema. */
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
      tags: v.pipe(
        v.optional(v.boolean("expected true or false")),
        v.description(
          "Whether clips are tagged with what the camera or its cloud tells. In the mode " +
            '"event" they always are. Elsewhere, where it is left out, they are if that costs ' +
            "next to nothing: ONVIF cameras, and Device Access with a subscription. For a Nest " +
            "camera true is a request to the cloud every five seconds.",
        ),
      ),
    }, "expected an object"),
    v.transform(({ mode, before, after, tags }): EventsConfig => ({
      ...{ mode, beforeMs: before, afterMs: after },
      ...(tags === undefined ? {} : { tags }),
    })),
    v.description(
      "Records only around events, or tags clips with them. Where events cannot be had, " +
        "everything is recorded, and that is said.",
    ),
  ),
);
