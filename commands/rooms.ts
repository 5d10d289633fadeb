/**
 * From a validated configuration to live things: accounts, cameras and sinks are opened by looking
 * up their `type` in the tables of their rooms. The one place where the tables are put together.
 *
 * @module
 */
import type {
  AccountConfig,
  CameraConfig,
  ConfigTables,
  LoadedConfig,
  SinkConfig,
} from "../core/config/load.ts";
import { findConfig, loadConfig } from "../core/config/load.ts";
import { EXIT, withExitCode } from "../core/exit_codes.ts";
import { getLog } from "../core/log.ts";
import { accountTypes, cameraTypes, type SourceContext } from "../core/sources/mod.ts";
import type { Account, Sink, SinkContext, Source } from "../core/types.ts";
import { builtinSinks } from "../sinks/mod.ts";
import type { CommandContext } from "./context.ts";

/** Every kind of account, camera and sink that a configuration may name. */
export const configTables: ConfigTables = {
  accountTypes,
  cameraTypes,
  sinkTypes: builtinSinks,
};

/**
 * Finds and reads the user's configuration; its warnings go to the log.
 *
 * @throws an error with exit code 78 where there is none or it is wrong
 */
export async function loadUserConfig(explicit: string | undefined): Promise<LoadedConfig> {
  const path = await findConfig({ explicit });
  if (path === undefined) {
    throw withExitCode(
      new Error(
        "there is no camsink.jsonc here nor in the user's configuration folder; " +
          "make one with: camsink init",
      ),
      EXIT.config,
    );
  }
  const loaded = await loadConfig(path, { tables: configTables });
  for (const warning of loaded.warnings) getLog("config").warn(warning);
  return loaded;
}

/** How a kind of account or camera is opened; its options were validated with its own schema. */
interface Opens<Opened> {
  open(options: never, context: SourceContext): Opened;
}

/** How a kind of sink is opened. */
interface OpensSink {
  open(context: SinkContext<never>): Sink | Promise<Sink>;
}

/** A table's entry by its name. The configuration was validated: an unknown name is a mistake here. */
function lookUp<Entry>(table: Readonly<Record<string, Entry>>, type: string, what: string): Entry {
  const entry = Object.hasOwn(table, type) ? table[type] : undefined;
  if (entry === undefined) {
    throw new Error(`no ${what} of type "${type}"; known: ${Object.keys(table).join(", ")}`);
  }
  return entry;
}

type Surroundings = Pick<CommandContext, "clock" | "random">;

/** Opens an account; nothing is sent yet. */
export function openAccount(
  name: string,
  { config, context }: { readonly config: AccountConfig; readonly context: Surroundings },
): Account {
  const type = lookUp<Opens<Account>>(accountTypes, config.type, "account");
  return type.open(config.options as never, {
    clock: context.clock,
    random: context.random,
    log: getLog(name),
  });
}

/** A single camera as a source; nothing is sent yet. */
export function openCamera(
  { config, context }: { readonly config: CameraConfig; readonly context: Surroundings },
): Source {
  const type = lookUp<Opens<Source>>(cameraTypes, config.type, "camera");
  return type.open(config.options as never, {
    clock: context.clock,
    random: context.random,
    log: getLog(config.name),
  });
}

/** Opens a sink. */
export async function openSink(
  name: string,
  { config }: { readonly config: SinkConfig },
): Promise<Sink> {
  const plugin = lookUp<OpensSink>(builtinSinks, config.type, "sink");
  return await plugin.open({ name, config: config.options as never, log: getLog(name), fetch });
}
