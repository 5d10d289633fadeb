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
import { type PluginArguments, pluginUse } from "./plugin_arguments.ts";
import {
  common,
  type CommonArguments,
  configOption,
  durationMs,
  examples,
  file,
  fpsValue,
} from "./grammar.ts";
import {
  pluginNew,
  type PluginNewArguments,
  pluginTest,
  type PluginTestArguments,
} from "./plugin_author_arguments.ts";

import {
  bench,
  type BenchArguments,
  licenses,
  type LicensesArguments,
  update,
  type UpdateArguments,
} from "./program_arguments.ts";

import { simulate, type SimulateArguments } from "./simulate_arguments.ts";

export type { LicensesArguments, SimulateArguments, UpdateArguments };
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
  readonly discover: boolean;
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
  readonly source?: "nest" | "google-sdm" | "onvif" | "rtsp" | "mjpeg" | "snapshot";
  readonly name?: string;
  readonly accessToken?: string;
  readonly issueToken?: string;
  readonly cookie?: string;
  readonly projectId?: string;
  readonly clientId?: string;
  readonly clientSecret?: string;
  readonly refreshToken?: string;
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

/** `camsink google-token`. */
export interface GoogleTokenArguments extends CommonArguments {
  readonly command: "google-token";
  readonly email: string;
  readonly androidId?: string;
  readonly out: string;
  readonly endpoint?: string;
  readonly force: boolean;
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

/** What a command line asks for. */
export type Invocation =
  | BenchArguments
  | UpdateArguments
  | LicensesArguments
  | CaptureArguments
  | StatusArguments
  | CheckArguments
  | CamerasArguments
  | ClipsArguments
  | VerifyArguments
  | InitArguments
  | PluginArguments
  | ConfigArguments
  | GoogleTokenArguments
  | PluginNewArguments
  | PluginTestArguments
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
        option(
          "--source",
          choice(["nest", "google-sdm", "onvif", "rtsp", "mjpeg", "snapshot"], { metavar: "TYPE" }),
          {
            description:
              message`nest: a Nest account. google-sdm: Nest cameras in Google Home, by Device Access. onvif, rtsp, mjpeg, snapshot: a camera of any make, by ONVIF, by its stream's address, or by a picture's.`,
          },
        ),
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
      projectId: optional(
        option("--project-id", string({ metavar: "ID" }), {
          description: message`google-sdm: of the Device Access console.`,
        }),
      ),
      clientId: optional(
        option("--client-id", string({ metavar: "ID" }), {
          description: message`google-sdm: of the OAuth client.`,
        }),
      ),
      clientSecret: optional(
        option("--client-secret", string({ metavar: "SECRET" }), {
          description: message`google-sdm: env:NAME or file:PATH.`,
        }),
      ),
      refreshToken: optional(
        option("--refresh-token", string({ metavar: "SECRET" }), {
          description: message`google-sdm: env:NAME or file:PATH; asked of Google without it.`,
        }),
      ),
      endpoints: multiple(
        option("--endpoint", string({ metavar: "NAME=URL" }), {
          description:
            message`Another host: nest: accounts, jwt, home, camera; google-sdm: consent, oauth, sdm, pubsub.`,
        }),
      ),
      url: optional(
        option("--url", string({ metavar: "URL" }), {
          description: message`Of the stream or the picture; onvif: of the camera.`,
        }),
      ),
      username: optional(
        option("--username", string({ metavar: "NAME" }), {
          description: message`At the camera itself.`,
        }),
      ),
      password: optional(
        option("--password", string({ metavar: "SECRET" }), {
          description: message`At the camera itself: env:NAME or file:PATH.`,
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
      [
        "camsink init --yes --source rtsp --url rtsp://192.168.1.30/stream1 --sink local",
        "a camera's live stream",
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
      discover: option("--discover", {
        description: message`Look for ONVIF cameras on the local network instead.`,
      }),
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

const googleToken = command(
  "google-token",
  merge(
    object({
      command: constant("google-token"),
      email: option("--email", string({ metavar: "ADDRESS", pattern: /^\S+@\S+$/ }), {
        description: message`The Google account's address.`,
      }),
      androidId: optional(
        option("--android-id", string({ metavar: "HEX", pattern: /^[0-9a-f]{16}$/ }), {
          description: message`A device id of an earlier token; without it, a new one.`,
        }),
      ),
      out: withDefault(
        option("--out", file("FILE"), {
          description: message`Where the token is kept; default ./camsink.secrets/google-home.`,
        }),
        "./camsink.secrets/google-home",
      ),
      endpoint: optional(
        option("--endpoint", string({ metavar: "URL" }), {
          description: message`A server that stands in for Google's.`,
        }),
      ),
      force: option("--force", { description: message`Replace the file if it exists.` }),
    }),
    common,
  ),
  {
    brief: message`Make the token for a Google Home account, out of a cookie of its set-up page.`,
    footer: examples(
      [
        "camsink google-token --email me@example.org",
        "asks for the cookie, and tells how to get it",
      ],
    ),
  },
);

const plugin = command("plugin", or(pluginUse, pluginNew, pluginTest), {
  brief: message`Add sinks that others wrote, or write your own.`,
});

/** The whole grammar. */
export const commandLineParser = or(
  group("Record", or(capture, status)),
  group("Clips", or(clips, verify)),
  group("Set up", or(init, check, cameras, plugin, config, googleToken)),
  group("Try out", or(bench, simulate)),
  group("This program", or(update, licenses)),
);

/** The first screen's examples. */
export const topExamples: Message = examples(
  ["camsink capture", "record; with no configuration, a demo with simulated cameras"],
  ["camsink init", "set up your own cameras"],
  ["camsink check", "is everything right?"],
);
