/**
 * Which Camsink this is: the version of `deno.json`, the commit where it is known, and how it was
 * packed.
 *
 * @module
 */
import project from "../deno.json" with { type: "json" };
import { programFile, release } from "../core/program.ts";

/** The version alone, for `User-Agent` headers and file marks. */
export const VERSION: string = project.version;

/** How each kind of build is called. */
const KINDS = {
  portable: "portable file",
  folder: "release folder",
  image: "container image",
  compiled: "compiled file",
} as const;

/** `camsink 2.0.0 (0123abc), Deno 2.9.6, x86_64-unknown-linux-gnu, portable file`. */
export async function describeVersion(): Promise<string> {
  const commit = release ? release.commit : await readCommit(programFile(".git/"));
  const [, hash, dirty] = /^([0-9a-f]{7})[0-9a-f]*(-dirty)?$/.exec(commit ?? "") ?? [];
  return `camsink ${VERSION}${
    hash ? ` (${hash}${dirty ?? ""})` : ""
  }, Deno ${Deno.version.deno}, ` +
    `${Deno.build.target}, ${release ? KINDS[release.kind] : "source tree"}`;
}

/** The commit that a clone stands at; nothing where this is not one, or may not be read. */
async function readCommit(gitFolder: URL): Promise<string | undefined> {
  try {
    const head = (await Deno.readTextFile(new URL("HEAD", gitFolder))).trim();
    const [, ref] = /^ref: (.+)$/.exec(head) ?? [];
    if (ref === undefined) return head;
    return (await Deno.readTextFile(new URL(ref, gitFolder))).trim();
  } catch {
    return undefined;
  }
}
