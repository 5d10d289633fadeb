/**
 * `camsink --licenses`: under which licences comes what is in this release.
 *
 * @module
 */
import { programFile, release } from "../core/program.ts";
import { EXIT, type ExitCode } from "../core/exit_codes.ts";
import type { CommandContext } from "./context.ts";

/** Prints the licences; in a clone, where to find them. */
export async function licenses({ terminal }: CommandContext): Promise<ExitCode> {
  const file = programFile(release ? "THIRD_PARTY_LICENSES" : "LICENSE");
  terminal.out((await Deno.readTextFile(file)).trimEnd());
  if (!release) {
    terminal.err(
      "This is Camsink's own licence. Those of the packages it uses are in the release files: " +
        "deno task compile makes them. The ffmpeg core among them is GPL-2.0-or-later; its source: " +
        "https://github.com/ffmpegwasm/ffmpeg.wasm",
    );
  }
  return EXIT.ok;
}
