/**
 * Finds, reads and validates the configuration file. Everything that is wrong comes out at once, as
 * one {@linkcode ConfigError}; what is only unwise comes out as warnings.
 *
 * Relative paths in the file (folders, `file:` secrets, CA files) stand relative to the folder that
 * the file is in, so that it means the same wherever Camsink is started; `~/` is the home folder.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import process from "node:process";
import { getNodeValue } from "jsonc-parser";
import * as v from "valibot";
import { type FindOptions, lookForConfig, processEnv, resolvePath } from "./find.ts";
import { located, parseText, repeatedKeys } from "./jsonc.ts";
import { ConfigError, type Problem, problemsOf } from "./problems.ts";
import { type Config, configSchema, configShape, type ConfigTables } from "./schema.ts";
import { checkSecrets, openness, type Surroundings } from "./secrets.ts";
import { type Place, placesOf, replaced } from "./shape.ts";

export { ConfigError, type Problem } from "./problems.ts";
export type { FindOptions } from "./find.ts";
export type {
  AccountConfig,
  CameraConfig,
  Config,
  ConfigTables,
  SinkConfig,
  TypeTable,
  TypeWithConfig,
  TypeWithOptions,
} from "./schema.ts";

/** A configuration that can be used. */
export interface LoadedConfig {
  /** Absolute path of the file. */
  readonly path: string;
  readonly config: Config;
  /** For the user; each is a sentence that begins with a path of the file. */
  readonly warnings: readonly string[];
}

/** How to read the file. */
export interface LoadOptions {
  readonly tables: ConfigTables;
  /**
   * Whether a secret that cannot be had (variable not set, file missing) is an error; otherwise it
   * is a warning. Default: true.
   */
  readonly requireSecrets?: boolean;
  /** Default: the environment of the process. */
  readonly env?: (name: string) => string | undefined;
  /** Default: what the process says. */
  readonly isWindows?: boolean;
}

/**
 * The configuration file, see {@linkcode lookForConfig}; `undefined` if there is none.
 *
 * @throws {ConfigError} if a file was named that is not there
 */
export async function findConfig(options: FindOptions = {}): Promise<string | undefined> {
  const { path, missingBy } = await lookForConfig(options);
  if (path !== undefined && missingBy !== undefined) {
    throw new ConfigError(path, [{
      path: [],
      text: `there is no such file, but ${missingBy} names it; make one with: camsink init`,
    }]);
  }
  return path;
}

/**
 * Reads and validates the file at `path`.
 *
 * @throws {ConfigError} with everything that is wrong
 */
export async function loadConfig(path: string, options: LoadOptions): Promise<LoadedConfig> {
  const absolute = resolve(path);
  let text: string;
  try {
    text = await readFile(absolute, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
    throw new ConfigError(absolute, [{
      path: [],
      text: code === "ENOENT"
        ? "there is no such file; make one with: camsink init"
        : code === "EACCES"
        ? "it cannot be read: permission denied; give this user the right to read it"
        : `it cannot be read: ${code}`,
    }]);
  }
  const { config, warnings, hasLiterals } = await parseConfig(text, { ...options, path: absolute });
  const open = hasLiterals ? await openness(absolute, surroundingsOf(options)) : undefined;
  if (open) {
    const text = `it holds secrets itself, and ${open.text}`;
    if (open.refused) throw new ConfigError(absolute, [{ path: [], text }]);
    warnings.push(text);
  }
  return { path: absolute, config, warnings };
}

function surroundingsOf(options: Pick<LoadOptions, "env" | "isWindows">): Surroundings {
  return {
    env: options.env ?? processEnv,
    isWindows: options.isWindows ?? process.platform === "win32",
  };
}

/**
 * Validates the text of a configuration file as if it stood at `path`.
 *
 * @throws {ConfigError} with everything that is wrong
 */
export async function parseConfig(
  text: string,
  options: LoadOptions & { readonly path: string },
): Promise<{ config: Config; warnings: string[]; hasLiterals: boolean }> {
  const { tables, path } = options;
  const surroundings = surroundingsOf(options);
  const tree = parseText(text, path);
  const shape = configShape(tables);
  const folder = dirname(path);
  let file: unknown = getNodeValue(tree);
  const problems: Problem[] = [...repeatedKeys(tree, text)];

  // Absolute before validation: a schema does not know where the file stands.
  for (const place of [...placesOf(shape, file)]) {
    if (typeof place.value !== "string" || place.value === "") continue;
    if (place.mark === "path") {
      file = replaced(file, place.path, resolvePath(place.value, folder, surroundings.env));
    } else if (place.mark === "secret" && /^file:./.test(place.value)) {
      const secretPath = resolvePath(place.value.slice("file:".length), folder, surroundings.env);
      file = replaced(file, place.path, `file:${secretPath}`);
    }
  }

  const result = v.safeParse(configSchema(tables), file);
  problems.push(...problemsOf(result.issues ?? [], shape, getNodeValue(tree)));
  const places = [...placesOf(shape, file)];
  const secrets = await checkSecrets(
    places.filter((place) => !isSwitchedOff(place, file)),
    surroundings,
    { requireSecrets: options.requireSecrets ?? true },
  );
  problems.push(...secrets.problems);
  if (!result.success || problems.length > 0) {
    const found = problems.map((problem) => located(problem, tree, text));
    throw new ConfigError(path, found.sort(byPlace));
  }
  const config: Config = {
    ...result.output,
    spool: {
      ...result.output.spool,
      // The default is relative too.
      path: resolvePath(result.output.spool.path, folder, surroundings.env),
    },
  };
  const warnings = secrets.warnings.map((warning) => warning.text);
  if (!Object.values(config.sinks).some((sink) => sink.enabled)) {
    warnings.push("sinks: none is switched on, so clips stay in the spool and go nowhere");
  }
  return { config, warnings, hasLiterals: secrets.hasLiterals };
}

function byPlace(a: Problem, b: Problem): number {
  return (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0);
}

/** Whether the place is inside an entry with `"enabled": false`. */
function isSwitchedOff(place: Place, file: unknown): boolean {
  const [section, name] = place.path;
  if (section === undefined || name === undefined || place.path.length < 3) return false;
  const entries: unknown = Object.getOwnPropertyDescriptor(file ?? {}, section)?.value;
  const entry: unknown = Object.getOwnPropertyDescriptor(entries ?? {}, name)?.value;
  return typeof entry === "object" && entry !== null && "enabled" in entry &&
    entry.enabled === false;
}
