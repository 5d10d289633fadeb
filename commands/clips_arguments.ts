/**
 * The grammar of `camsink clips` and `camsink verify`. See `arguments.ts`.
 *
 * @module
 */
import {
  argument,
  choice,
  command,
  constant,
  integer,
  merge,
  message,
  multiple,
  object,
  option,
  optional,
  or,
  string,
  withDefault,
} from "@optique/core";
import {
  common,
  type CommonArguments,
  configOption,
  examples,
  file,
  type Moment,
  moment,
} from "./grammar.ts";

/** How clips can stand: on the spool, or to a sink. */
export const CLIP_STATES = [
  "here",
  "gone",
  "lost",
  "waiting",
  "stored",
  "put-aside",
  "removed",
] as const;

interface SpoolArguments extends CommonArguments {
  readonly config?: string;
  /** Another spool folder than the configuration's. */
  readonly spool?: string;
}

/** `camsink clips …`. */
export type ClipsArguments =
  & SpoolArguments
  & (
    | {
      readonly command: "clips";
      readonly camera?: string;
      readonly since?: Moment;
      readonly until?: Moment;
      readonly state?: typeof CLIP_STATES[number];
      readonly sink?: string;
      readonly kept: boolean;
      readonly limit?: number;
      readonly json: boolean;
    }
    | {
      readonly command: "clips export";
      readonly keys: readonly string[];
      readonly out: string;
    }
    | {
      readonly command: "clips redeliver";
      readonly keys: readonly string[];
      /** Default: every sink that is switched on. */
      readonly sink?: string;
    }
    | { readonly command: "clips keep" | "clips unkeep"; readonly keys: readonly string[] }
  );

/** `camsink verify`. */
export interface VerifyArguments extends SpoolArguments {
  readonly command: "verify";
  readonly repair: boolean;
  readonly quick: boolean;
  readonly since?: Moment;
  readonly json: boolean;
}

const spoolOption = optional(
  option("--spool", file("FOLDER"), {
    description: message`This spool instead of the configuration's.`,
  }),
);
const since = optional(
  option("--since", moment(), {
    description: message`Only clips that end after this: 2h (ago), 2026-08-21, 2026-08-21T14:05.`,
  }),
);
const keys = multiple(
  argument(string({ metavar: "KEY" }), {
    description: message`A clip's key, as camsink clips lists it.`,
  }),
  { min: 1 },
);
const ofSpool = object({ config: configOption, spool: spoolOption });

const clipsExport = command(
  "export",
  merge(
    object({
      command: constant("clips export"),
      keys,
      out: option("-o", "--out", file("FOLDER"), {
        description: message`Where to; made if it is missing.`,
      }),
    }),
    ofSpool,
    common,
  ),
  { brief: message`Copy clips from the spool into a folder.` },
);
const clipsRedeliver = command(
  "redeliver",
  merge(
    object({
      command: constant("clips redeliver"),
      keys,
      sink: optional(
        option("--sink", string({ metavar: "NAME" }), {
          description: message`To this sink only; default: to every one.`,
        }),
      ),
    }),
    ofSpool,
    common,
  ),
  { brief: message`Have clips that are still on the spool delivered again.` },
);
const clipsKeep = command(
  "keep",
  merge(object({ command: constant("clips keep"), keys }), ofSpool, common),
  { brief: message`Keep clips from being removed, on the spool and in the sinks.` },
);
const clipsUnkeep = command(
  "unkeep",
  merge(object({ command: constant("clips unkeep"), keys }), ofSpool, common),
  { brief: message`Let kept clips be removed again when their time comes.` },
);
const clipsList = merge(
  object({ command: constant("clips") }),
  object("Which clips", {
    camera: optional(
      option("--camera", string({ metavar: "NAME" }), {
        description: message`Only this camera's, by its name.`,
      }),
    ),
    since,
    until: optional(
      option("--until", moment(), { description: message`Only clips that start before this.` }),
    ),
    state: optional(
      option("--state", choice(CLIP_STATES, { metavar: "STATE" }), {
        description:
          message`here: on the spool. gone: removed from it. lost: taken from it. waiting, stored, put-aside or removed: so it stands to a sink.`,
      }),
    ),
    sink: optional(
      option("--sink", string({ metavar: "NAME" }), {
        description: message`The sink that the state is about; alone: clips that it has stored.`,
      }),
    ),
    kept: option("--kept", { description: message`Only clips marked with clips keep.` }),
    limit: optional(
      option("--limit", integer({ min: 1, metavar: "NUMBER" }), {
        description: message`At most so many, the newest; default 100, with --json all.`,
      }),
    ),
    json: option("--json", { description: message`One JSON array on stdout.` }),
  }),
  ofSpool,
  common,
);

/** `camsink clips`. */
export const clips = command(
  "clips",
  withDefault(
    or(clipsExport, clipsRedeliver, clipsKeep, clipsUnkeep, clipsList),
    // `or` takes only what has a word of its own on the line.
    { command: "clips", kept: false, json: false, debug: false, noColor: false } as const,
  ),
  {
    brief: message`List clips and where they are; export, redeliver or keep some.`,
    description:
      message`Lists the clips that the spool knows, also those that it has handed on and removed. All of this works beside a running recording.`,
    footer: examples(
      ["camsink clips --camera Yard --since 2h", "what was recorded lately, and who has it"],
      ["camsink clips export KEY --out ~/evidence", "copy a clip out of the spool"],
      ["camsink clips --state put-aside --json", "what a sink refused, as data"],
    ),
  },
);

/** `camsink verify`. */
export const verify = command(
  "verify",
  merge(
    object({
      command: constant("verify"),
      repair: option("--repair", {
        description: message`Deliver again what is still here, and say what cannot be mended.`,
      }),
      quick: option("--quick", {
        description: message`Compare only the lengths of the spool's files; do not read them.`,
      }),
      since,
      json: option("--json", { description: message`One JSON object on stdout.` }),
    }),
    ofSpool,
    common,
  ),
  {
    brief: message`Compare spool, catalogue and sinks: is every clip where it should be?`,
    description:
      message`Reads every file on the spool again, and asks every sink for every clip that it has confirmed. Tells what is lost, damaged, orphaned or missing in a sink. Exit code 0 only if all is well, else 1. It may run beside a recording.`,
    footer: examples(
      ["camsink verify", "now and then, from a timer"],
      ["camsink verify --repair", "and mend what can be"],
    ),
  },
);
