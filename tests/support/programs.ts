/**
 * Programs that a test may want and a machine may lack. A test that needs one skips without it, and
 * says why in its name.
 *
 * @module
 */
import { delimiter, join } from "node:path";

const found = new Map<string, string | undefined>();

/** The path of a program on PATH, or `undefined`. */
export function findProgram(name: string): string | undefined {
  if (found.has(name)) return found.get(name);
  const endings = Deno.build.os === "windows" ? [".exe", ".cmd", ""] : [""];
  const path = (Deno.env.get("PATH") ?? "").split(delimiter).filter((folder) => folder !== "")
    .flatMap((folder) => endings.map((ending) => join(folder, name + ending)))
    .find((candidate) => {
      try {
        return Deno.statSync(candidate).isFile;
      } catch {
        return false;
      }
    });
  found.set(name, path);
  return path;
}

/**
 * What a test that cannot do without these programs says of itself:
 * ``Deno.test({ name: `a fact${ffmpeg.reason}`, ignore: ffmpeg.ignore, fn })``.
 */
export function needs(
  ...programs: readonly string[]
): { readonly ignore: boolean; readonly reason: string } {
  const missing = programs.filter((program) => findProgram(program) === undefined);
  return missing.length === 0
    ? { ignore: false, reason: "" }
    : { ignore: true, reason: ` (skipped: ${missing.join(" and ")} not installed)` };
}
