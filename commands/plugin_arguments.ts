/**
 * The grammar of `camsink plugin`. See `arguments.ts`.
 *
 * @module
 */
import {
  argument,
  command,
  constant,
  group,
  merge,
  message,
  multiple,
  object,
  option,
  optional,
  or,
  string,
} from "@optique/core";
import { common, type CommonArguments, configOption, examples } from "./grammar.ts";

/** `camsink plugin …`. */
export type PluginArguments =
  & CommonArguments
  & { readonly config?: string }
  & (
    | {
      readonly command: "plugin add";
      readonly from: string;
      readonly as?: string;
      readonly yes: boolean;
      readonly hosts: readonly string[];
      readonly run: readonly string[];
      readonly read: readonly string[];
      readonly write: readonly string[];
      readonly scratch: boolean;
    }
    | { readonly command: "plugin list"; readonly json: boolean }
    | { readonly command: "plugin info"; readonly name: string; readonly json: boolean }
    | { readonly command: "plugin remove"; readonly name: string }
  );

const add = command(
  "add",
  merge(
    object({
      command: constant("plugin add"),
      from: argument(string({ metavar: "PATH|npm:NAME" }), {
        description:
          message`A .ts or .js file, a folder with a deno.json, or a package such as npm:camsink-sink-x.`,
      }),
      as: optional(
        option("--as", string({ metavar: "NAME" }), {
          description: message`The type that the configuration names, instead of the plugin's own.`,
        }),
      ),
      config: configOption,
      yes: option("-y", "--yes", {
        description: message`Ask nothing: approve what is shown.`,
      }),
    }),
    group(
      "Rights beyond what the configuration names",
      object({
        hosts: multiple(
          option("--allow-host", string({ metavar: "HOST" }), {
            description: message`A host that it may reach; *.example.com for all below it.`,
          }),
        ),
        run: multiple(
          option("--allow-run", string({ metavar: "PROGRAM" }), {
            description: message`A program that it may run; such a program is not isolated.`,
          }),
        ),
        read: multiple(
          option("--allow-read", string({ metavar: "PATH" }), {
            description: message`A file or folder that it may read.`,
          }),
        ),
        write: multiple(
          option("--allow-write", string({ metavar: "PATH" }), {
            description: message`A file or folder that it may write.`,
          }),
        ),
        scratch: option("--allow-scratch", {
          description: message`A folder of its own for temporary files.`,
        }),
      }),
    ),
    common,
  ),
  {
    brief: message`Look a plugin through, show what it wants, and approve it.`,
    description:
      message`Shows what the plugin is, its hash and what it wants to reach, and asks. A plugin that was changed since runs only when it was approved again. Sinks of the configuration may name it beforehand: then what they need is shown too.`,
    footer: examples(
      ["camsink plugin add ./my_sink.ts", "a file of your own"],
      ["camsink plugin add npm:camsink-sink-x --yes", "a package, without being asked"],
    ),
  },
);

const json = option("--json", { description: message`One JSON object on stdout.` });

const list = command(
  "list",
  merge(object({ command: constant("plugin list"), config: configOption, json }), common),
  { brief: message`List the plugins that were approved.` },
);

const name = argument(string({ metavar: "NAME" }), { description: message`As list shows it.` });

const info = command(
  "info",
  merge(object({ command: constant("plugin info"), name, config: configOption, json }), common),
  { brief: message`Show a plugin: its rights, its options, whether it was changed.` },
);

const remove = command(
  "remove",
  merge(object({ command: constant("plugin remove"), name, config: configOption }), common),
  { brief: message`Take an approval back.` },
);

/** The commands of those who use plugins. */
export const pluginUse = or(add, list, info, remove);
