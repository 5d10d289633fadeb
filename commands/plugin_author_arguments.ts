/**
 * The grammar of what authors of plugins use: `camsink plugin new` and `camsink plugin test`.
 *
 * @module
 */
import {
  argument,
  choice,
  command,
  constant,
  merge,
  message,
  multiple,
  object,
  option,
  optional,
  string,
  withDefault,
} from "@optique/core";
import { path } from "@optique/run";
import { common, type CommonArguments, durationMs, examples, file } from "./grammar.ts";

/** What a new plugin begins as. */
export const TEMPLATES = ["http", "s3", "command"] as const;

/** `camsink plugin new`. */
export interface PluginNewArguments extends CommonArguments {
  readonly command: "plugin new";
  readonly name: string;
  readonly template: typeof TEMPLATES[number];
}

/** `camsink plugin test`. */
export interface PluginTestArguments extends CommonArguments {
  readonly command: "plugin test";
  /** A file, a folder, or the type of a built-in sink. */
  readonly path: string;
  /** Options to try it with, in place of its own test. */
  readonly config?: string;
  readonly only: readonly string[];
  /** For what has to end soon, ms. */
  readonly patience?: number;
  readonly json: boolean;
  readonly inProcess: boolean;
}

/** The grammar of `camsink plugin new`. */
export const pluginNew = command(
  "new",
  merge(
    object({
      command: constant("plugin new"),
      name: argument(string({ metavar: "NAME" }), {
        description: message`Its type in a configuration; lower-case letters, digits and dashes.`,
      }),
      template: withDefault(
        option("--template", choice([...TEMPLATES], { metavar: "TEMPLATE" }), {
          description: message`http (default), s3, or command: what it begins as.`,
        }),
        "http",
      ),
    }),
    common,
  ),
  {
    brief: message`Write a new sink plugin, with a test that passes.`,
    footer: examples(["camsink plugin new my-store", "then: camsink plugin test my-store"]),
  },
);

/** The grammar of `camsink plugin test`. */
export const pluginTest = command(
  "test",
  merge(
    object({
      command: constant("plugin test"),
      path: argument(path({ metavar: "PATH" }), {
        description:
          message`The plugin's file or folder, npm:NAME, or the type of a built-in sink.`,
      }),
      config: optional(
        option("-c", "--config", file("FILE"), {
          description:
            message`Try it against your own server with these options (JSON), in place of its camsink.test.ts.`,
        }),
      ),
      only: multiple(
        option("--only", string({ metavar: "CASE" }), {
          description: message`Only this case; may be given again.`,
        }),
      ),
      patience: optional(
        option("--patience", durationMs(), {
          description:
            message`How long to wait for what has to end soon, such as an abort, on a busy machine; 5s otherwise.`,
        }),
      ),
      json: option("--json", { description: message`One JSON object on stdout.` }),
      inProcess: option("--in-process", {
        description:
          message`Run the sink in this process, with all of its rights: for a debugger. What isolation refuses is then not seen.`,
      }),
    }),
    common,
  ),
  {
    brief: message`Try a sink plugin against everything that every sink must do.`,
    description:
      message`Runs the conformance kit: some forty cases through a proxy that breaks connections, loses answers and goes silent. Says of each that fails what was seen, why it matters and how to mend it. Exit code 0 only if none fails.`,
    footer: examples(
      ["camsink plugin test .", "the plugin here, with its camsink.test.ts"],
      ["camsink plugin test . --only conflict", "one case"],
      ["camsink plugin test s3 --config mine.json", "a sink against your own server"],
    ),
  },
);
