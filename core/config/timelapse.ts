/**
 * The key `timelapse` of a camera or an account: a recording that is played faster than life.
 *
 * @module
 */
import * as v from "valibot";
import { duration } from "./values.ts";

/** A recording that is played faster than life, as validated. */
export interface TimelapseConfig {
  /** A picture is kept so often, ms. */
  readonly everyMs: number;
  /** Pictures shown a second. */
  readonly fps: number;
  /** Length of a clip on the wall clock, ms. */
  readonly clipMs: number;
  /** The camera is recorded in no other way. */
  readonly only: boolean;
}

const TIMELAPSE_CLIP_MS = { hour: 3_600_000, day: 86_400_000 } as const;

/** Its schema. */
export const timelapseField = v.optional(
  v.pipe(
    v.strictObject({
      every: v.pipe(
        v.optional(duration({ minMs: 1000, maxMs: 3_600_000 }), "10s"),
        v.description("How often a picture is kept."),
      ),
      fps: v.pipe(
        v.optional(
          v.pipe(
            v.number("expected a number from 1 to 60"),
            v.minValue(1, "expected a number from 1 to 60"),
            v.maxValue(60, "expected a number from 1 to 60"),
          ),
          25,
        ),
        v.description("How many of them are shown a second."),
      ),
      clip: v.pipe(
        v.optional(v.picklist(["hour", "day"]), "day"),
        v.description("Whether a clip covers an hour or a day (UTC)."),
      ),
      only: v.pipe(
        v.optional(v.boolean(), false),
        v.description("true records nothing but the timelapse."),
      ),
    }, "expected an object"),
    v.transform(({ every, fps, clip, only }): TimelapseConfig => ({
      everyMs: every,
      fps,
      clipMs: TIMELAPSE_CLIP_MS[clip],
      only,
    })),
    v.description(
      "Keeps a picture now and then and plays them fast, beside the recording or in its place: " +
        'clips of their own, in the folder of a camera called "NAME (timelapse)".',
    ),
  ),
);
