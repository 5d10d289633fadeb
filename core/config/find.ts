/**
 * Where the configuration lies, and where in turn its spool does: all that a look at a running
 * recording needs. Apart from the rest of this room, for that look is taken every 30 seconds for as
 * long as a container lives, and the schemas of every camera and sink are most of a program's start.
 *
 * @module
 */
import { readFile, stat } from "node:fs/promises";
import { dirname, isAbsolute, join, resolve } from "node:path";
import process from "node:process";

/** Where to look for the file. */
export interface FindOptions {
  /** `--config`. */
  readonly explicit?: string | undefined;
  /** Default: the working directory. */
  readonly cwd?: string;
  /** Default: the environment of the process. */
  readonly env?: (name: string) => string | undefined;
}

/** What was found: nothing, a file, or that a file was named which is not there. */
export interface FoundConfig {
  /** Absolute. */
  readonly path?: string;
  /** Who named the file that is not there: `--config` or `$CAMSINK_CONFIG`. */
  readonly missingBy?: string;
}

const NAMES = ["camsink.jsonc", "camsink.json"];

/** The environment; a variable that may not be read counts as not set. */
export const processEnv = (name: string): string | undefined => process.env[name];

/**
 * Whether there is a file. One that may not be read counts as there, so that it is told and not
 * passed over; but a folder that this process was not given (Deno's permissions) has none.
 */
async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EACCES";
  }
}

/**
 * The configuration file: `--config`, then `$CAMSINK_CONFIG`, then `camsink.jsonc` or `camsink.json`
 * in the working directory, then in `$XDG_CONFIG_HOME/camsink` (`~/.config/camsink`; on Windows
 * `%APPDATA%\camsink`).
 */
export async function lookForConfig(options: FindOptions = {}): Promise<FoundConfig> {
  const env = options.env ?? processEnv;
  const cwd = options.cwd ?? process.cwd();
  const fromEnv = env("CAMSINK_CONFIG");
  const named: readonly (readonly [string | undefined, string])[] = [
    [options.explicit, "--config"],
    [fromEnv === "" ? undefined : fromEnv, "$CAMSINK_CONFIG"],
  ];
  for (const [name, by] of named) {
    if (name === undefined) continue;
    const path = resolve(cwd, name);
    return await exists(path) ? { path } : { path, missingBy: by };
  }
  const home = env("HOME") ?? env("USERPROFILE");
  const user = env("XDG_CONFIG_HOME") || env("APPDATA") || (home && join(home, ".config"));
  for (const folder of [cwd, ...(user ? [join(user, "camsink")] : [])]) {
    for (const name of NAMES) {
      const path = join(folder, name);
      if (await exists(path)) return { path };
    }
  }
  return {};
}

/** A path of the configuration made absolute: relative ones stand beside the file. */
export function resolvePath(
  path: string,
  folder: string,
  env: (name: string) => string | undefined,
): string {
  const home = env("HOME") ?? env("USERPROFILE");
  if (/^~[\\/]/.test(path) && home !== undefined) return join(home, path.slice(2));
  return isAbsolute(path) ? path : resolve(folder, path);
}

/**
 * The spool of the configuration at `path`, whatever else stands there; nothing where that cannot be
 * told, which only reading all of it explains.
 */
export async function spoolPathIn(
  path: string,
  env: (name: string) => string | undefined = processEnv,
): Promise<string | undefined> {
  let value: unknown;
  try {
    const text = (await readFile(path, "utf8")).replace(/^\uFEFF/, "");
    try {
      value = JSON.parse(text);
    } catch {
      // With comments, then.
      const { parse } = await import("jsonc-parser");
      value = parse(text, [], { allowTrailingComma: true });
    }
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const spool = "spool" in value ? value.spool : {};
  if (typeof spool !== "object" || spool === null) return undefined;
  const named = "path" in spool ? spool.path : DEFAULT_SPOOL;
  if (typeof named !== "string" || named === "") return undefined;
  return resolvePath(named, dirname(path), env);
}

/** `spool.path` where none is given. */
export const DEFAULT_SPOOL = "./spool";
