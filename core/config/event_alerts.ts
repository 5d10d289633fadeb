/**
 * The key `alerts.events`: which events before the cameras the webhook is told of.
 *
 * @module
 */
import * as v from "valibot";
import { duration, wholeNumber } from "./values.ts";

/** Google's word for it is another than ours. */
const ALIASES: Readonly<Record<string, string>> = { chime: "doorbell", bell: "doorbell" };

const expectedKinds =
  'expected "all" or a list of kinds in small letters, such as "person", "motion", "sound", "doorbell"';
const kind = v.pipe(
  v.string("expected a kind of event"),
  v.regex(
    /^[a-z][a-z-]{0,39}$/,
    'expected a kind of event in small letters, such as "person", "motion", "sound", "doorbell"',
  ),
  v.transform((text) => ALIASES[text] ?? text),
);
const kinds = v.union([v.literal("all"), v.array(kind)], expectedKinds);
const name = v.pipe(v.string(), v.nonEmpty("expected a camera's name"));

/** Its schema. */
export const eventAlertsField = v.optional(
  v.pipe(
    v.strictObject({
      kinds: v.pipe(
        v.optional(kinds, ["person", "doorbell"]),
        v.description(
          'Kinds of events: "all", or a list of "motion", "person", "sound", "doorbell" and what ' +
            "else a camera's cloud tells.",
        ),
      ),
      cameras: v.pipe(
        v.optional(
          v.union(
            [v.literal("all"), v.array(name), v.record(name, kinds)],
            'expected "all", a list of camera names, or an object of kinds by camera name',
          ),
          "all",
        ),
        v.description(
          'Of which cameras: "all", a list of names, or kinds for each, such as ' +
            '{ "Front door": ["person", "doorbell"], "Yard": "all" }.',
        ),
      ),
      every: v.pipe(
        v.optional(duration({ minMs: 1000, maxMs: 86_400_000 }), "2m"),
        v.description(
          "One of a kind at a camera is told of at most so often; what comes meanwhile is counted.",
        ),
      ),
      perHour: v.pipe(
        v.optional(
          wholeNumber(1, 1000),
          60,
        ),
        v.description("Most events told of in an hour, of all cameras together."),
      ),
    }, 'expected an object, such as { "kinds": ["person"] }'),
    v.transform(({ every, ...rest }) => ({ ...rest, everyMs: every })),
    v.description(
      "Tells the webhook what happens before the cameras too: once when it is known, and once when " +
        "its clip is finished. Without it, nothing of that is sent.",
    ),
  ),
);

/** Which events somebody is told of, as validated. */
export type EventAlertsConfig = NonNullable<v.InferOutput<typeof eventAlertsField>>;
