/**
 * Runs the real program as a child process, with exactly the permissions that the tasks of
 * `deno.json` give it: a test that passes also shows that they are enough.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import project from "../../deno.json" with { type: "json" };

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Arguments for `deno` that run the program with its task's permissions. */
export const CLI_COMMAND: readonly string[] = [
  "run",
  ...project.tasks.camsink.command.split(" ").filter((word) => word.startsWith("--")),
  "--config",
  `${ROOT}deno.json`,
  `${ROOT}cli.ts`,
];

/** What a run left behind. */
export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a run is started. */
export interface CliOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** The program as a command, with nothing of the user's own configuration or colours around it. */
export function cliCommand(args: readonly string[], options: CliOptions): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: [...CLI_COMMAND, ...args],
    cwd: options.cwd,
    env: {
      XDG_CONFIG_HOME: options.cwd,
      CAMSINK_CONFIG: "",
      NO_COLOR: "",
      FORCE_COLOR: "",
      CLICOLOR_FORCE: "",
      ...options.env,
    },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
}

/** Runs a command line to its end. */
export async function runCli(
  args: readonly string[],
  options: CliOptions,
): Promise<CliResult> {
  const { code, stdout, stderr } = await cliCommand(args, options).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Kills a program, which may have ended, and waits until it has. */
export async function killAndWait(
  child: Deno.ChildProcess,
  ended: Promise<unknown>,
): Promise<void> {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
  await ended;
}

/** Runs `body` in a new folder, which is gone afterwards. */
export async function inTempFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "camsink-test-" });
  try {
    await body(await Deno.realPath(folder));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
