/**
 * Makes release files for tests, with the task that makes them for everybody.
 *
 * @module
 */
import { fileURLToPath } from "node:url";

/** The project's folder. */
export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/**
 * Runs `deno task compile`.
 *
 * @throws with what it said if it fails
 */
export async function compile(
  args: readonly string[],
  { root = ROOT, env = {} }: {
    readonly root?: string;
    readonly env?: Readonly<Record<string, string>>;
  } = {},
): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "compile", ...args],
    cwd: root,
    env: { NO_COLOR: "1", ...env },
  }).output();
  const decoder = new TextDecoder();
  if (code !== 0) throw new Error(`deno task compile: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

/** What a program said. */
export interface Said {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

interface BareOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd: string;
}

/** A program with exactly this environment. */
export function bareCommand(
  [program = "", ...args]: readonly string[],
  { env = {}, cwd }: BareOptions,
): Deno.Command {
  return new Deno.Command(program, {
    args,
    cwd,
    clearEnv: true,
    env: { ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

/** Runs a program with exactly this environment, and so without a Deno or Node to be found. */
export async function runBare(command: readonly string[], options: BareOptions): Promise<Said> {
  const { code, stdout, stderr } = await bareCommand(command, options).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Copies what git tracks (and what is new and not ignored) into another folder. */
export async function copyTree(to: string): Promise<void> {
  const { stdout } = await new Deno.Command("git", {
    args: ["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    cwd: ROOT,
  }).output();
  for (const path of new TextDecoder().decode(stdout).split("\0")) {
    if (path === "") continue;
    const target = `${to}/${path}`;
    await Deno.mkdir(target.slice(0, target.lastIndexOf("/")), { recursive: true });
    // A file that was removed and not committed yet is in git's list too.
    await Deno.copyFile(`${ROOT}${path}`, target).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }
}
