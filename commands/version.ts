/**
 * Which Camsink this is: the version of `deno.json` and, in a clone, the commit.
 *
 * @module
 */
import project from "../deno.json" with { type: "json" };

/** The version alone, for `User-Agent` headers and file marks. */
export const VERSION: string = project.version;

/** `camsink 2.0.0 (0123abc), Deno 2.9.6, x86_64-unknown-linux-gnu`; the commit where it is known. */
export async function describeVersion(): Promise<string> {
  const commit = await readCommit(new URL("../.git/", import.meta.url));
  return `camsink ${VERSION}${
    commit ? ` (${commit.slice(0, 7)})` : ""
  }, Deno ${Deno.version.deno}, ${Deno.build.target}`;
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
