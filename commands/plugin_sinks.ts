/**
 * Plugins as kinds of sinks of a configuration: their options are checked with the schema that was
 * kept when they were approved, without running any of their code.
 *
 * @module
 */
import { dirname } from "node:path";
import { plainSchema, understoodSchema } from "../core/config/plain_schema.ts";
import type { TypeTable } from "../core/config/load.ts";
import { EXIT, withExitCode } from "../core/exit_codes.ts";
import {
  type Approval,
  openPluginSink,
  PluginError,
  type PluginSink,
  readApprovals,
  secretTexts,
} from "../core/plugins/mod.ts";
import type { Clock, Log } from "../core/types.ts";

const PLUGIN = Symbol("plugin");

/** The validated options of a sink whose kind is a plugin. */
export interface PluginOptions {
  readonly [PLUGIN]: true;
  readonly type: string;
  readonly approval: Approval;
  /** Of the configuration. */
  readonly folder: string;
  /** As the file has them, with paths made absolute. */
  readonly input: unknown;
  /** As the schema yields them, with secrets to be revealed. */
  readonly values: unknown;
}

/** These options, if they are a plugin's. */
export function pluginOptions(options: unknown): PluginOptions | undefined {
  return typeof options === "object" && options !== null && PLUGIN in options
    ? options as PluginOptions
    : undefined;
}

/** The kinds that were approved for the configuration at `path`. @throws with exit code 78 */
export async function pluginTypes(path: string): Promise<TypeTable> {
  try {
    const folder = dirname(path);
    return Object.fromEntries(
      Object.entries(await readApprovals(path)).map(([type, approval]) => [type, {
        options: plainSchema(understoodSchema(approval.schema)),
        yields: ({ input, output }: { input: unknown; output: unknown }): PluginOptions => ({
          [PLUGIN]: true,
          type,
          approval,
          folder,
          input,
          values: output,
        }),
      }]),
    );
  } catch (error) {
    throw error instanceof PluginError ? withExitCode(error, EXIT.config) : error;
  }
}

/** The sink of a plugin; nothing is started yet. */
export function openPlugin(
  name: string,
  { plugin, ...rest }: {
    readonly plugin: PluginOptions;
    readonly log: Log;
    readonly clock: Clock;
    readonly random: () => number;
    readonly handover?: string;
  },
): PluginSink {
  const { type, approval, folder, input, values } = plugin;
  return openPluginSink({
    ...rest,
    name,
    type,
    approval,
    folder,
    options: input,
    secrets: [...secretTexts(input, values)],
  });
}
