/**
 * Writes a configuration file so that nobody else can read it and no other file is lost: it appears
 * whole or not at all, and an existing one stays unless it may be replaced.
 *
 * @module
 */
import { link, open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { EXIT, withExitCode } from "../core/exit_codes.ts";

/** Writes `text` to `path` with mode 0600. @throws if the file exists and `force` is not set */
export async function writeConfigFile(
  path: string,
  { text, force }: { readonly text: string; readonly force: boolean },
): Promise<void> {
  const hidden = join(dirname(path), `.camsink-${crypto.randomUUID()}.part`);
  try {
    const file = await open(hidden, "wx", 0o600);
    try {
      await file.writeFile(text.endsWith("\n") ? text : `${text}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    // `link` fails where the name is taken, `rename` replaces what has it.
    if (force) await rename(hidden, path);
    else await link(hidden, path);
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
    if (code === "EEXIST") {
      throw withExitCode(
        new Error(`${path} exists and was left as it is; --force replaces it`),
        EXIT.config,
      );
    }
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw withExitCode(
      new Error(`cannot write ${path}: ${reason}; choose another place with --out`, { cause }),
      EXIT.failure,
    );
  } finally {
    await rm(hidden, { force: true });
  }
}
