/**
 * From a validated configuration to live things: accounts, cameras and sinks are opened by looking
 * up their `type` in the tables of their rooms. The one place where the tables are put together.
 *
 * @module
 */
import { join } from "node:path";
import type {
  AccountConfig,
  CameraConfig,
  Config,
  ConfigTables,
  LoadedConfig,
  SinkConfig,
} from "../core/config/load.ts";
import { findConfig, loadConfig } from "../core/config/load.ts";
import { systemClock } from "../core/clock.ts";
import { EXIT, withExitCode } from "../core/exit_codes.ts";
import { getLog } from "../core/log.ts";
import { accountTypes, cameraTypes, type SourceContext } from "../core/sources/mod.ts";
import type { Account, AnyCamera, Sink, SinkContext, Source } from "../core/types.ts";
import { builtinSinks } from "../sinks/mod.ts";
import type { CommandContext } from "./context.ts";
import { openPlugin, pluginOptions, pluginTypes } from "./plugin_sinks.ts";

/** Every kind of account, camera and sink that a configuration may name. */
export const configTables: ConfigTables = {
  accountTypes,
  cameraTypes,
  sinkTypes: builtinSinks,
};

/** The same with the plugins that were approved for the configuration at `path`. */
export async function tablesBeside(path: string): Promise<ConfigTables> {
  return { ...configTables, sinkTypes: { ...await pluginTypes(path), ...builtinSinks } };
}

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
  const loaded = await loadConfig(path, { tables: await tablesBeside(path) });
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
): Account<AnyCamera> {
  const type = lookUp<Opens<Account<AnyCamera>>>(accountTypes, config.type, "account");
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

/** Whether the pictures of a camera that is switched on are encoded for certain. */
export function givesJpegs({ enabled, type }: CameraConfig): boolean {
  const known: Readonly<Record<string, { readonly givesJpegs?: boolean }>> = cameraTypes;
  return enabled && (lookUp(known, type, "camera").givesJpegs ?? false);
}

/** The options by which a camera's user can have fewer or smaller pictures encoded. */
const LIGHTER = ["fps", "width"] as const;

/**
 * Which of them a camera has: those of its kind, or, where an account has found it, those of the accounts:
 * of all kinds of them only one gives pictures to be encoded.
 */
export function lighterOptions(
  { cameras, accounts }: Pick<Config, "cameras" | "accounts">,
  name: string,
): readonly (typeof LIGHTER[number])[] {
  const camera = Object.values(cameras).find((camera) => camera.name === name);
  const types: readonly { readonly options: object }[] = camera
    ? [lookUp<{ readonly options: object }>(cameraTypes, camera.type, "camera")]
    : Object.values(accounts).filter(({ enabled }) => enabled)
      .map(({ type }) => lookUp<{ readonly options: object }>(accountTypes, type, "account"));
  return LIGHTER.filter((option) =>
    types.some(({ options }) => "entries" in options && option in Object(options.entries))
  );
}

/** Where a spool's clips have names for the plugins that they are handed to. */
export function handoverFolder(spoolPath: string): string {
  return join(spoolPath, "handover");
}

/**
 * Opens a sink. That of a plugin is started in the background where `wait` is false: a recording does
 * not wait for somebody else's program, and one that does not start is told in the log.
 */
export async function openSink(
  name: string,
  { config, context = { clock: systemClock, random: Math.random }, handover, wait = true }: {
    readonly config: SinkConfig;
    readonly context?: Surroundings;
    /** See {@linkcode handoverFolder}. */
    readonly handover?: string;
    readonly wait?: boolean;
  },
): Promise<Sink> {
  const log = getLog(name);
  const plugin = pluginOptions(config.options);
  if (plugin !== undefined) {
    const sink = openPlugin(name, {
      plugin,
      log,
      ...context,
      ...(handover === undefined ? {} : { handover }),
    });
    const ready = sink.ready();
    if (wait) await ready;
    else {
      ready.catch((error: unknown) =>
        log.error(
          `cannot be used, its clips wait on the spool: ${
            error instanceof Error ? error.message : String(error)
          }`,
          { event: "plugin-failed", sink: name },
        )
      );
    }
    return sink;
  }
  const builtin = lookUp<OpensSink>(builtinSinks, config.type, "sink");
  return await builtin.open({ name, config: config.options as never, log, fetch });
}
