/**
 * The keys that all sinks have in common: whether it is required, how much and how fast it may be
 * sent, and how much of it is kept.
 *
 * @module
 */
import * as v from "valibot";
import type { SinkConfig } from "./schema.ts";
import { duration, rate, size, timeOfDay, wholeNumber } from "./values.ts";

/** Of accounts, cameras and sinks. */
export const enabled = v.pipe(
  v.optional(v.boolean(), true),
  v.description("false switches it off and keeps its settings."),
);

/** The keys that every sink has, whatever its type. */
export const sinkFields = {
  enabled,
  required: v.pipe(
    v.optional(v.boolean(), true),
    v.description(
      "Whether a clip stays on the spool until this sink has it. With false it may go, when all " +
        "required sinks have it, before this one does.",
    ),
  ),
  limit: v.optional(
    v.pipe(
      v.strictObject({
        perDay: v.optional(
          v.pipe(
            size(),
            v.minValue(1, 'expected a size such as "500MB", "20GB" or "512MiB"'),
            v.description(
              "Most bytes a day (UTC); what is over waits on the spool for the next day.",
            ),
          ),
        ),
      }, "expected an object"),
      v.description("How much the sink may be sent: for those who pay by the byte."),
    ),
  ),
  bandwidth: v.optional(
    v.pipe(
      v.union(
        [
          rate(),
          v.array(v.strictObject({
            from: v.pipe(timeOfDay(), v.description("When it begins, such as `08:00`.")),
            to: v.pipe(timeOfDay(), v.description("When it ends; `22:00` to `06:00` is a night.")),
            rate: v.pipe(rate(), v.description("Most bytes per second in that time.")),
          })),
        ],
        'expected bytes per second, such as "500kB/s", or a list such as ' +
          '[{ "from": "08:00", "to": "22:00", "rate": "500kB/s" }]',
      ),
      v.description(
        "Most bytes per second, over all clips of this sink together; or a list of times of day " +
          '(`{ "from": "08:00", "to": "22:00", "rate": "500kB/s" }`), as the clock shows them in ' +
          "this machine's time zone, with no limit in between.",
      ),
    ),
  ),
  retain: v.optional(
    v.pipe(
      v.strictObject({
        age: v.optional(
          v.pipe(
            duration({ minMs: 60_000 }),
            v.description("Clips that ended longer ago are removed from the sink."),
          ),
        ),
        size: v.optional(
          v.pipe(
            size(),
            v.minValue(1, 'expected a size such as "500MB", "20GB" or "512MiB"'),
            v.description("The oldest clips are removed while the sink holds more."),
          ),
        ),
      }, "expected an object"),
      v.description(
        "How much of what Camsink stored the sink keeps; without it, everything. A clip that is " +
          "kept (`camsink clips keep`), or that another required sink still lacks, stays. Where " +
          "the credential must not delete, leave it out and set a rule in the storage itself.",
      ),
    ),
  ),
  concurrency: v.optional(
    v.pipe(
      wholeNumber(1, 64),
      v.description("How many clips are on their way at once; without it, 4."),
    ),
  ),
};

/** A sink entry with the units of its common keys in their names. A type may have keys like them. */
export function sinkConfig(entry: unknown): SinkConfig {
  const { limit, bandwidth, retain, concurrency, ...rest } = entry as Omit<SinkConfig, "retain"> & {
    readonly limit?: { readonly perDay?: number };
    readonly bandwidth?: number | readonly { from: number; to: number; rate: number }[];
    readonly retain?: { readonly age?: number; readonly size?: number };
  };
  return {
    ...rest,
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(limit?.perDay === undefined ? {} : { perDayBytes: limit.perDay }),
    ...(bandwidth === undefined ? {} : {
      bytesPerSecond: typeof bandwidth === "number" ? bandwidth : bandwidth.map((span) => ({
        fromMinute: span.from,
        toMinute: span.to,
        bytesPerSecond: span.rate,
      })),
    }),
    ...(retain === undefined ? {} : {
      retain: {
        ...(retain.age === undefined ? {} : { ageMs: retain.age }),
        ...(retain.size === undefined ? {} : { sizeBytes: retain.size }),
      },
    }),
  };
}
