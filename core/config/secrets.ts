/**
 * Looks after the secrets of a configuration before anything is started: literals are accepted with
 * a warning that says how to move them, references are tried, and a secret that other users of the
 * machine can read is refused.
 *
 * @module
 */
import { lstat, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
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

/**
 * Whether others than the owner can read the file, as its mode says; on Windows never.
 *
 * @throws if there is no such file
 */
async function isOpenToOthers(path: string, { isWindows }: Surroundings): Promise<boolean> {
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
 * Folders that a service manager or container runtime fills for one service alone; their modes say
 * nothing (Docker's are 0444). Kubernetes' volumes may be anywhere, and are known by the link
 * `..data`, by which their files are exchanged all at once.
 */
async function isManaged(path: string, env: Surroundings["env"]): Promise<boolean> {
  const folders = ["/run/secrets", env("CREDENTIALS_DIRECTORY")];
  if (folders.some((folder) => folder !== undefined && path.startsWith(`${folder}/`))) return true;
  return await lstat(join(dirname(path), "..data"))
    .then((found) => found.isSymbolicLink(), () => false);
}

/**
 * What is to be said of a file of secrets that others than its owner can read: that it is refused,
 * with the fix; only that it is so, where the user allows it; nothing of one that is well.
 *
 * @throws if there is no such file
 */
export async function openness(
  path: string,
  surroundings: Surroundings,
): Promise<{ readonly text: string; readonly refused: boolean } | undefined> {
  if (!await isOpenToOthers(path, surroundings)) return undefined;
  if (await isManaged(path, surroundings.env)) return undefined;
  const open = `${path} can be read by other users of this machine`;
  if (surroundings.env(ALLOW_OPEN_SECRETS) === "1") return { text: open, refused: false };
  return {
    text: `${open}; run: chmod 600 ${path} (or set ${ALLOW_OPEN_SECRETS}=1 to allow it)`,
    refused: true,
  };
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
    const [, scheme, name = ""] = /^(env|file|keyvault):(.*)$/s.exec(value) ?? [];
    if (scheme === "env") {
      if ((surroundings.env(name) ?? "").trim() === "") {
        missing.push(problem(
          `the environment variable ${name} is not set; expected it to hold the secret`,
        ));
      }
    } else if (scheme === "file") {
      let found: Awaited<ReturnType<typeof openness>>;
      try {
        found = await openness(name, surroundings);
      } catch (error) {
        const code = error instanceof Error && "code" in error ? error.code : undefined;
        const why = code === "ENOENT" ? "there is no such file" : String(code ?? error);
        missing.push(problem(`cannot read ${name}: ${why}; expected a file that holds the secret`));
        continue;
      }
      if (found) (found.refused ? problems : warnings).push(problem(found.text));
    } else if (scheme !== "keyvault") { // a vault is asked when its secret is used
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
