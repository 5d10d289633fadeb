/**
 * Looks after the secrets of a configuration before anything is started: literals are accepted with
 * a warning that says how to move them, references are tried, and a secret that other users of the
 * machine can read is refused.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import { formatPath, type Path, type Place } from "./shape.ts";
import type { Problem } from "./problems.ts";
import { revealedSecrets } from "./values.ts";

/** What the surroundings look like; injected so that tests have their own. */
export interface Surroundings {
  /** An environment variable. */
  readonly env: (name: string) => string | undefined;
  /** Windows has no mode bits to look at. */
  readonly isWindows: boolean;
}

/** What was found about the secrets. */
export interface SecretFindings {
  readonly problems: readonly Problem[];
  readonly warnings: readonly Problem[];
  /** Whether a secret stands in the file itself. */
  readonly hasLiterals: boolean;
}

/** The variable that switches the check of open secret files off. */
export const ALLOW_OPEN_SECRETS = "CAMSINK_ALLOW_OPEN_SECRETS";

/** Stands where a secret may stand, and is known to everybody: Azure's local emulator. */
const PUBLIC = new Set(["UseDevelopmentStorage=true"]);

/** A path of the configuration made absolute: relative ones stand beside the file. */
export function resolvePath(
  path: string,
  folder: string,
  env: Surroundings["env"],
): string {
  const home = env("HOME") ?? env("USERPROFILE");
  if (/^~[\\/]/.test(path) && home !== undefined) return join(home, path.slice(2));
  return isAbsolute(path) ? path : resolve(folder, path);
}

/**
 * Whether others than the owner can read the file, as its mode says; on Windows never.
 *
 * @throws if there is no such file
 */
export async function isOpenToOthers(path: string, { isWindows }: Surroundings): Promise<boolean> {
  const { mode } = await stat(path);
  return !isWindows && (mode & 0o077) !== 0;
}

/** `accounts.home.accessToken` → `CAMSINK_HOME_ACCESS_TOKEN`. */
function suggestedVariable(path: Path): string {
  const words = path.slice(1).map((key) =>
    String(key).replace(/([a-z0-9])([A-Z])/g, "$1_$2").replace(/[^A-Za-z0-9]+/g, "_")
  );
  return `CAMSINK_${words.join("_").toUpperCase()}`.replaceAll(/_{2,}/g, "_");
}

/**
 * Folders that a service manager or container runtime fills with secrets for one service alone;
 * their modes say nothing (Docker's are 0444).
 */
function isManaged(path: string, env: Surroundings["env"]): boolean {
  const folders = ["/run/secrets", env("CREDENTIALS_DIRECTORY")];
  return folders.some((folder) => folder !== undefined && path.startsWith(`${folder}/`));
}

/**
 * Checks every secret among `places`, whose references are already absolute. `requireSecrets: false`
 * turns a secret that is not there into a warning.
 */
export async function checkSecrets(
  places: Iterable<Place>,
  surroundings: Surroundings,
  options: { readonly requireSecrets: boolean },
): Promise<SecretFindings> {
  const problems: Problem[] = [];
  const warnings: Problem[] = [];
  let hasLiterals = false;
  for (const { path, value, mark } of places) {
    if (mark !== "secret" || typeof value !== "string" || value === "") continue;
    if (PUBLIC.has(value)) continue;
    const at = formatPath(path);
    const problem = (text: string): Problem => ({ path, text: `${at}: ${text}` });
    const missing = options.requireSecrets ? problems : warnings;
    const [, scheme, name = ""] = /^(env|file):(.*)$/s.exec(value) ?? [];
    if (scheme === "env") {
      if ((surroundings.env(name) ?? "").trim() === "") {
        missing.push(problem(
          `the environment variable ${name} is not set; expected it to hold the secret`,
        ));
      }
    } else if (scheme === "file") {
      let isOpen: boolean;
      try {
        isOpen = await isOpenToOthers(name, surroundings);
      } catch (error) {
        const code = error instanceof Error && "code" in error ? error.code : undefined;
        const why = code === "ENOENT" ? "there is no such file" : String(code ?? error);
        missing.push(problem(`cannot read ${name}: ${why}; expected a file that holds the secret`));
        continue;
      }
      if (!isOpen || isManaged(name, surroundings.env)) continue;
      const open = `${name} can be read by other users of this machine`;
      if (surroundings.env(ALLOW_OPEN_SECRETS) === "1") warnings.push(problem(open));
      else {
        problems.push(problem(
          `${open}; run: chmod 600 ${name} (or set ${ALLOW_OPEN_SECRETS}=1 to allow it)`,
        ));
      }
    } else {
      hasLiterals = true;
      // From here on it may turn up in a message.
      if (value.trim().length >= 6) revealedSecrets.add(value.trim());
      const variable = suggestedVariable(path);
      warnings.push(problem(
        `the secret stands in the file itself; put it into the environment variable ${variable} ` +
          `and write "env:${variable}", or into a file of its own (chmod 600) and write ` +
          `"file:PATH"`,
      ));
    }
  }
  return { problems, warnings, hasLiterals };
}
