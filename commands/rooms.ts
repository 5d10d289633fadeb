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
import { ConfigError, findConfig, loadConfig } from "../core/config/load.ts";
import { getLog } from "../core/log.ts";
import { accountTypes, cameraTypes } from "../core/sources/mod.ts";
import type { Account, Sink, SinkPlugin, Source } from "../core/types.ts";
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
 * @throws {ConfigError} also where there is none
 */
export async function loadUserConfig(explicit: string | undefined): Promise<LoadedConfig> {
  const path = await findConfig({ explicit });
  if (path === undefined) {
    throw new ConfigError("camsink.jsonc", [{
      path: [],
      text: "there is no such file here nor in the user's configuration folder; " +
        "make one with: camsink init",
    }]);
  }
  const loaded = await loadConfig(path, { tables: configTables });
  for (const warning of loaded.warnings) getLog("config").warn(warning);
  return loaded;
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
  return lookUp(accountTypes, config.type, "account").open(config.options, {
    clock: context.clock,
    random: context.random,
    log: getLog("account", name),
  });
}

/** A single camera as a source; nothing is sent yet. */
export function openCamera(
  { config, context }: { readonly config: CameraConfig; readonly context: Surroundings },
): Source {
  return lookUp(cameraTypes, config.type, "camera").open(config.options, {
    clock: context.clock,
    random: context.random,
    log: getLog("camera", config.name),
  });
}

/** Opens a sink. */
export async function openSink(
  name: string,
  { config }: { readonly config: SinkConfig },
): Promise<Sink> {
  const plugin: SinkPlugin<never> = lookUp<SinkPlugin<never>>(builtinSinks, config.type, "sink");
  // The configuration was validated with this very plugin's schema.
  const options = config.options as never;
  return await plugin.open({ name, config: options, log: getLog("sink", name), fetch });
}
