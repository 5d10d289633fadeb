/**
 * The grammar of the command line: which commands and flags there are, and the typed value that a
 * line becomes. It only parses: the commands themselves are loaded by `cli.ts` when they are
 * needed, so that `camsink --help` stays quick.
 *
 * @module
 */
import {
  argument,
  choice,
  command,
  constant,
  group,
  integer,
  merge,
  type Message,
  message,
  multiple,
  object,
  option,
  optional,
  optionName,
  or,
  string,
  withDefault,
} from "@optique/core";
import { clips, type ClipsArguments, verify, type VerifyArguments } from "./clips_arguments.ts";
import {
  common,
  type CommonArguments,
  configOption,
  durationMs,
  examples,
  file,
  fpsValue,
} from "./grammar.ts";

export type { ClipsArguments, CommonArguments, VerifyArguments };

/** `camsink capture`. */
export interface CaptureArguments extends CommonArguments {
  readonly command: "capture";
  readonly config?: string;
  /** Stop by itself after this time, ms. */
  readonly forMs?: number;
  readonly json: boolean;
  /** The demo even though there is a configuration. */
  readonly demo: boolean;
  /** Demo: leave out the blob emulator. */
  readonly noAzure: boolean;
  /** Another spool folder than the configuration's. */
  readonly spool?: string;
}

/** `camsink check`. */
export interface CheckArguments extends CommonArguments {
  readonly command: "check";
  readonly config?: string;
  readonly json: boolean;
}

/** `camsink cameras`. */
export interface CamerasArguments extends CommonArguments {
  readonly command: "cameras";
  readonly config?: string;
  readonly json: boolean;
}

/** `camsink status`. */
export interface StatusArguments extends CommonArguments {
  readonly command: "status";
  readonly config?: string;
  readonly json: boolean;
  /** Another spool folder than the configuration's. */
  readonly spool?: string;
}

/** `camsink init`. */
export interface InitArguments extends CommonArguments {
  readonly command: "init";
  readonly out?: string;
  readonly source?: "nest" | "snapshot";
  readonly name?: string;
  readonly accessToken?: string;
  readonly issueToken?: string;
  readonly cookie?: string;
  /** `name=url` of the account's hosts: for a server that stands in for Nest's. */
  readonly endpoints: readonly string[];
  readonly url?: string;
  readonly username?: string;
  readonly password?: string;
  readonly fps?: number;
  readonly width?: number;
  readonly sinks: readonly ("local" | "azure")[];
  readonly localPath?: string;
  readonly azureAccount?: string;
  readonly azureSas?: string;
  readonly azureConnectionString?: string;
  readonly azureContainer?: string;
  readonly yes: boolean;
  readonly force: boolean;
  readonly skipTests: boolean;
}

/** `camsink config …`. */
export type ConfigArguments =
  & CommonArguments
  & (
    | { readonly command: "config schema" }
    | { readonly command: "config validate"; readonly config?: string; readonly json: boolean }
    | {
      readonly command: "config import";
      readonly from: "foggycam";
      readonly file: string;
      readonly out?: string;
      readonly force: boolean;
    }
  );

/** `camsink simulate …`. */
export type SimulateArguments =
  & CommonArguments
  & (
    | {
      readonly command: "simulate nest";
      readonly cameras: number;
      readonly port: number;
      readonly width?: number;
      readonly fps?: number;
    }
    | {
      readonly command: "simulate camera";
      readonly name: string;
      readonly port: number;
      readonly width?: number;
      readonly fps?: number;
      readonly auth: "none" | "basic" | "digest";
    }
  );

/** What a command line asks for. */
export type Invocation =
  | CaptureArguments
  | StatusArguments
  | CheckArguments
  | CamerasArguments
  | ClipsArguments
  | VerifyArguments
  | InitArguments
  | ConfigArguments
  | SimulateArguments;

const capture = command(
  "capture",
  merge(
    object({ command: constant("capture") }),
    object("Recording", {
      config: configOption,
      forMs: optional(
        option("--for", durationMs(), {
          description: message`Stop after this time, finish and deliver the clips, sum up.`,
        }),
      ),
      spool: optional(
        option("--spool", file("FOLDER"), {
          description:
            message`Keep clips here until they are delivered, instead of the configuration's spool.`,
        }),
      ),
      json: option("--json", {
        description: message`One JSON object a line on stdout, and no live view.`,
      }),
    }),
    object("Demo", {
      demo: option("--demo", {
        description: message`Run the demo even where there is a configuration.`,
      }),
      noAzure: option("--no-azure", {
        description:
          message`The demo without its blob storage, which is a download of about 270 MB the first time.`,
      }),
    }),
    common,
  ),
  {
    brief: message`Record all cameras until Ctrl-C; with no configuration, a demo.`,
    description:
      message`Records every camera of the configuration and delivers each clip to every sink, until Ctrl-C. Without a configuration it runs the demo: simulated Nest cameras, real recording, real delivery.`,
    footer: examples(
      ["camsink capture", "record with camsink.jsonc from here, or show the demo"],
      ["camsink capture --config home.jsonc --for 10m", "ten minutes, then a summary"],
      ["camsink capture --json", "for a service manager or another program"],
    ),
  },
);

const status = command(
  "status",
  merge(
    object({
      command: constant("status"),
      config: configOption,
      spool: optional(
        option("--spool", file("FOLDER"), {
          description: message`The spool that the recording was given by --spool.`,
        }),
      ),
      json: option("--json", { description: message`One JSON object on stdout.` }),
    }),
    common,
  ),
  {
    brief: message`Tell how the running recording is doing.`,
    description:
      message`Shows every camera and sink of the recording that runs with this configuration. Exit code 0 if every camera is being recorded and every sink takes clips; 1 if not, or if nothing runs.`,
    footer: examples(
      ["camsink status", "how is it going?"],
      ["camsink status --json", "for monitoring: the exit code says whether all is well"],
    ),
  },
);

const init = command(
  "init",
  merge(
    object({ command: constant("init") }),
    object("The file", {
      out: optional(
        option("-o", "--out", file("FILE"), { description: message`Default: camsink.jsonc.` }),
      ),
      force: option("--force", { description: message`Replace the file if there is one.` }),
      yes: option("-y", "--yes", {
        description: message`Ask nothing: take the flags, and the usual answer for the rest.`,
      }),
      skipTests: option("--skip-tests", {
        description: message`Write the file without trying the login, the pictures and the sinks.`,
      }),
    }),
    object("Cameras", {
      source: optional(
        option("--source", choice(["nest", "snapshot"], { metavar: "TYPE" }), {
          description: message`nest: a Nest account. snapshot: a camera with a picture URL.`,
        }),
      ),
      name: optional(
        option("--name", string({ metavar: "NAME" }), {
          description: message`What to call the account or the camera.`,
        }),
      ),
      fps: optional(
        option("--fps", fpsValue(), { description: message`Pictures a second.` }),
      ),
      width: optional(
        option("--width", integer({ min: 64, max: 4096, metavar: "PIXELS" }), {
          description: message`nest: how wide a picture to ask for.`,
        }),
      ),
      accessToken: optional(
        option("--access-token", string({ metavar: "SECRET" }), {
          description: message`nest: env:NAME or file:PATH.`,
        }),
      ),
      issueToken: optional(
        option("--issue-token", string({ metavar: "SECRET" }), {
          description: message`nest by Google: env:NAME or file:PATH; with ${
            optionName("--cookie")
          }.`,
        }),
      ),
      cookie: optional(
        option("--cookie", string({ metavar: "SECRET" }), {
          description: message`nest by Google: env:NAME or file:PATH.`,
        }),
      ),
      endpoints: multiple(
        option("--endpoint", string({ metavar: "NAME=URL" }), {
          description: message`nest: another host for accounts, jwt, home or camera.`,
        }),
      ),
      url: optional(
        option("--url", string({ metavar: "URL" }), {
          description: message`snapshot: where the picture is.`,
        }),
      ),
      username: optional(
        option("--username", string({ metavar: "NAME" }), { description: message`snapshot.` }),
      ),
      password: optional(
        option("--password", string({ metavar: "SECRET" }), {
          description: message`snapshot: env:NAME or file:PATH.`,
        }),
      ),
    }),
    object("Sinks", {
      sinks: multiple(
        option("--sink", choice(["local", "azure"], { metavar: "SINK" }), {
          description: message`Where clips go; may be given twice. Default: local.`,
        }),
      ),
      localPath: optional(
        option("--local-path", file("FOLDER"), { description: message`Default: ./clips.` }),
      ),
      azureAccount: optional(
        option("--azure-account", string({ metavar: "NAME" }), {
          description: message`The storage account's name.`,
        }),
      ),
      azureSas: optional(
        option("--azure-sas", string({ metavar: "SECRET" }), {
          description: message`Its SAS token: env:NAME or file:PATH.`,
        }),
      ),
      azureConnectionString: optional(
        option("--azure-connection-string", string({ metavar: "SECRET" }), {
          description: message`Instead of account and SAS: env:NAME or file:PATH.`,
        }),
      ),
      azureContainer: optional(
        option("--azure-container", string({ metavar: "NAME" }), {
          description: message`Default: one for each camera.`,
        }),
      ),
    }),
    common,
  ),
  {
    usageLine: [{ type: "ellipsis" }],
    brief: message`Ask a few questions, try the answers, write camsink.jsonc.`,
    description:
      message`Asks which cameras and which sinks, tries every answer against the real thing, and writes the configuration. Every answer has a flag, so that it also runs without a terminal.`,
    footer: examples(
      ["camsink init", "ask for everything"],
      [
        "camsink init --yes --source nest --access-token env:NEST_TOKEN --sink local",
        "ask nothing",
      ],
      [
        "camsink init --yes --source snapshot --url http://cam.local/snap.jpg --sink local",
        "a camera that gives pictures by URL",
      ],
    ),
  },
);

const check = command(
  "check",
  merge(
    object({
      command: constant("check"),
      config: configOption,
      json: option("--json", { description: message`One JSON object on stdout.` }),
    }),
    common,
  ),
  {
    brief: message`Try everything that a recording needs, and say how to mend what fails.`,
    description:
      message`Reads the configuration, logs in, fetches a picture from every camera, measures the encoder, writes and removes a test object in every sink, and looks at the free disk space. Exit code 0 only if all of it holds.`,
    footer: examples(["camsink check", "before the first recording, and when something is odd"]),
  },
);

const cameras = command(
  "cameras",
  merge(
    object({
      command: constant("cameras"),
      config: configOption,
      json: option("--json", { description: message`One JSON array on stdout.` }),
    }),
    common,
  ),
  {
    brief: message`List the cameras of every account.`,
    description: message`Lists every camera with its id, name, picture size and state.`,
  },
);

const configSchema = command(
  "schema",
  merge(object({ command: constant("config schema") }), common),
  {
    brief: message`Print the JSON Schema of the configuration.`,
    footer: examples(
      ["camsink config schema > camsink.schema.json", 'then "$schema" completes in editors'],
    ),
  },
);

const configValidate = command(
  "validate",
  merge(
    object({
      command: constant("config validate"),
      config: configOption,
      json: option("--json", { description: message`One JSON object on stdout.` }),
    }),
    common,
  ),
  { brief: message`Read the configuration and list everything that is wrong with it.` },
);

const configImport = command(
  "import",
  merge(
    object({
      command: constant("config import"),
      from: argument(choice(["foggycam"], { metavar: "KIND" }), {
        description: message`foggycam: the config.json of foggycam 1.x.`,
      }),
      file: argument(file("FILE"), { description: message`The file to read.` }),
      out: optional(
        option("-o", "--out", file("FILE"), {
          description: message`Write the new configuration here instead of to stdout.`,
        }),
      ),
      force: option("--force", { description: message`Replace the file if there is one.` }),
    }),
    common,
  ),
  {
    brief: message`Turn another program's configuration into Camsink's.`,
    footer: examples(
      ["camsink config import foggycam config.json --out camsink.jsonc", "for foggycam users"],
    ),
  },
);

const config = command("config", or(configSchema, configValidate, configImport), {
  brief: message`Work with the configuration file.`,
});

const port = withDefault(
  option("--port", integer({ min: 0, max: 65535, metavar: "PORT" }), {
    description: message`Where to listen on this machine; 0: any free one.`,
  }),
  0,
);
const width = optional(
  option("--width", integer({ min: 320, max: 3840, metavar: "PIXELS" }), {
    description: message`The widest picture.`,
  }),
);

const fps = optional(
  option("--fps", fpsValue(), { description: message`How often the picture changes, a second.` }),
);

const simulateNest = command(
  "nest",
  merge(
    object({
      command: constant("simulate nest"),
      cameras: withDefault(
        option("--cameras", integer({ min: 1, max: 64, metavar: "NUMBER" }), {
          description: message`How many; default 3.`,
        }),
        3,
      ),
      port,
      width,
      fps,
    }),
    common,
  ),
  {
    brief: message`Serve a Nest cloud with made-up cameras, and print a configuration for it.`,
    footer: examples(
      ["camsink simulate nest > camsink.jsonc", "and in another window: camsink capture"],
    ),
  },
);

const simulateCamera = command(
  "camera",
  merge(
    object({
      command: constant("simulate camera"),
      name: withDefault(
        option("--name", string({ metavar: "NAME" }), {
          description: message`Shown in the picture.`,
        }),
        "Yard",
      ),
      auth: withDefault(
        option("--auth", choice(["none", "basic", "digest"], { metavar: "KIND" }), {
          description: message`none, basic or digest.`,
        }),
        "none" as const,
      ),
      port,
      width,
      fps,
    }),
    common,
  ),
  { brief: message`Serve one camera with a picture URL, and print a configuration for it.` },
);

const simulate = command("simulate", or(simulateNest, simulateCamera), {
  brief: message`Serve made-up cameras on this machine, to try things out.`,
});

/** The whole grammar. */
export const commandLineParser = or(
  group("Record", or(capture, status)),
  group("Clips", or(clips, verify)),
  group("Set up", or(init, check, cameras, config)),
  group("Try out", simulate),
);

/** The first screen's examples. */
export const topExamples: Message = examples(
  ["camsink capture", "record; with no configuration, a demo with simulated cameras"],
  ["camsink init", "set up your own cameras"],
  ["camsink check", "is everything right?"],
);
