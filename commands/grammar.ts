/**
 * What the grammars of several commands share: kinds of values, and the flags that all take.
 *
 * @module
 */
import {
  choice,
  group,
  lineBreak,
  type Message,
  message,
  object,
  option,
  optional,
  text,
  type ValueParser,
} from "@optique/core";
import { path } from "@optique/run";
import { parseDurationMs } from "../core/config/values.ts";

/** Flags that every command takes. */
export interface CommonArguments {
  readonly logLevel?: "debug" | "info" | "warn" | "error";
  readonly debug: boolean;
  readonly noColor: boolean;
}

/** A moment: so long ago, or by the calendar; ms. */
export type Moment = { readonly agoMs: number } | { readonly atMs: number };

/** A duration such as `20s` or `1h30m`; yields ms. */
export function durationMs(): ValueParser<"sync", number> {
  return {
    mode: "sync",
    metavar: "DURATION",
    parse: (input) => {
      const ms = parseDurationMs(input);
      return ms === undefined || ms <= 0
        ? {
          success: false,
          error: message`expected a duration such as 20s, 5m or 1h30m, got ${input}.`,
        }
        : { success: true, value: ms };
    },
    format: (ms) => `${ms}ms`,
    // The placeholder stands in while another part of the line is still unparsed.
    placeholder: 0,
  };
}

/** `2h` (ago), `2026-08-21` or `2026-08-21T14:05` (local time unless it says otherwise). */
export function moment(): ValueParser<"sync", Moment> {
  return {
    mode: "sync",
    metavar: "TIME",
    parse: (input) => {
      const agoMs = parseDurationMs(input);
      if (agoMs !== undefined) return { success: true, value: { agoMs } };
      const isDay = /^\d{4}-\d\d-\d\d$/.test(input);
      const atMs = /^\d{4}-\d\d-\d\d/.test(input)
        // A day alone would be taken as UTC's, but a time as the local one.
        ? Date.parse(isDay ? `${input}T00:00` : input.replace(" ", "T"))
        : NaN;
      return Number.isNaN(atMs)
        ? {
          success: false,
          error:
            message`expected a time such as 2h (ago), 2026-08-21 or 2026-08-21T14:05, got ${input}.`,
        }
        : { success: true, value: { atMs } };
    },
    format: (value) => "agoMs" in value ? `${value.agoMs}ms` : new Date(value.atMs).toISOString(),
    placeholder: { agoMs: 0 },
  };
}

/** Pictures a second: a number, also below one. */
export function fpsValue(): ValueParser<"sync", number> {
  return {
    mode: "sync",
    metavar: "FPS",
    parse: (input) => {
      const value = Number(input);
      return input.trim() !== "" && value >= 0.01 && value <= 30 ? { success: true, value } : {
        success: false,
        error: message`expected pictures a second between 0.01 and 30, got ${input}.`,
      };
    },
    format: String,
    placeholder: 1,
  };
}

/** A path. */
export const file = (metavar: "FILE" | "FOLDER") =>
  path({ metavar, type: metavar === "FILE" ? "file" : "directory" });

/** These would drown the usage lines: they are left to the list of flags. */
export const common = group(
  "Everywhere",
  object({
    logLevel: optional(
      option("--log-level", choice(["debug", "info", "warn", "error"], { metavar: "LEVEL" }), {
        hidden: "usage",
        description: message`How much is told: debug, info, warn or error.`,
      }),
    ),
    debug: option("--debug", {
      hidden: "usage",
      description: message`Tell everything, and where an error came from.`,
    }),
    noColor: option("--no-color", {
      hidden: "usage",
      description: message`No colours; the variable NO_COLOR does the same.`,
    }),
  }),
);

/** `--config`. */
export const configOption = optional(
  option("-c", "--config", file("FILE"), {
    description:
      message`The configuration. Without it: $CAMSINK_CONFIG, then camsink.jsonc here, then in the user's configuration folder.`,
  }),
);

/** "Examples:" with a line for each command and what it does. */
export function examples(...lines: readonly (readonly [line: string, what: string])[]): Message {
  return [
    text("Examples:"),
    ...lines.flatMap(([line, what]) => [
      lineBreak(),
      text("  "),
      text(line),
      lineBreak(),
      text(`      ${what}`),
    ]),
  ];
}
