/**
 * The grammar of what is about the program itself: is there a newer one, under which
 * licences is it, what can it do on this machine.
 *
 * @module
 */
import {
  command,
  constant,
  flag,
  merge,
  message,
  object,
  option,
  optional,
  string,
  withDefault,
} from "@optique/core";
import { common, type CommonArguments, durationMs, examples } from "./grammar.ts";

/** `camsink update`. */
export interface UpdateArguments extends CommonArguments {
  readonly command: "update";
  /** Another address to ask. */
  readonly from?: string;
  readonly json: boolean;
}

/** `camsink bench`. */
export interface BenchArguments extends CommonArguments {
  readonly command: "bench";
  /** Most time it may take, ms. */
  readonly forMs: number;
  readonly json: boolean;
}

/** `camsink --licenses`. */
export interface LicensesArguments extends CommonArguments {
  readonly command: "licenses";
}

/** The grammar of `camsink update`. */
export const update = command(
  "update",
  merge(
    object({
      command: constant("update"),
      check: flag("--check", { description: message`Needed: nothing else is done.` }),
      from: optional(
        option("--from", string({ metavar: "URL" }), {
          description:
            message`Ask this address instead of the one that was built in; also CAMSINK_UPDATE_URL.`,
        }),
      ),
      json: option("--json", { description: message`One JSON object on stdout.` }),
    }),
    common,
  ),
  {
    brief: message`Tell whether a newer release exists (--check); it never updates itself.`,
    description:
      message`Asks for the newest release, only when it is run. Exit code 0 if this is the newest, 1 if there is a newer one.`,
    footer: examples(["camsink update --check", "is there something newer?"]),
  },
);

/** The grammar of `camsink bench`. */
export const bench = command(
  "bench",
  merge(
    object({
      command: constant("bench"),
      forMs: withDefault(
        option("--for", durationMs(), {
          description: message`How long it may take; 20s if nothing is said.`,
        }),
        20_000,
      ),
      json: option("--json", { description: message`One JSON object on stdout.` }),
    }),
    common,
  ),
  {
    brief: message`Measure how many cameras, and of which kind, this machine can hold.`,
    description:
      message`Encodes a made-up scene with each encoder that is there, in two sizes, and writes a made-up live stream to a temporary folder. Needs no configuration and no camera. Exit code 69 if nothing could be measured.`,
    footer: examples(["camsink bench", "before you buy cameras, or a machine for them"]),
  },
);

/** The grammar of `camsink --licenses`. */
export const licenses = merge(
  object({
    command: constant("licenses"),
    licenses: flag("--licenses", {
      description: message`Print the licences of all that is in it.`,
    }),
  }),
  common,
);
