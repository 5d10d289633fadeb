/**
 * Where the program's own files lie. In a clone they lie in the tree; in a release everything was
 * bundled, and the files that are loaded by path (workers, child processes, the wasm) lie beside the
 * bundle under the same relative names. A release is known by its `release.json`, which the bundler
 * never sees: in a clone there is none beside this file.
 *
 * @module
 */

/** How this program was packed. */
export type ReleaseKind = "portable" | "folder" | "image" | "compiled";

/** What a release says of itself. */
export interface Release {
  readonly kind: ReleaseKind;
  /** For which platform it was made, such as `linux-x64`. */
  readonly platform: string;
  /** The full commit, with `-dirty` where the tree had changes; absent where it was not known. */
  readonly commit?: string;
  /** Where whoever made it announces newer ones; absent where they did not say. */
  readonly releases?: string;
}

/** What this release is; nothing in a clone. */
export const release: Release | undefined = readRelease();

/** The folder that relative names start from. */
const ROOT = new URL(release ? "./" : "../", import.meta.url);

/**
 * A file of the program's own that is loaded by path.
 *
 * @param path from the root of the tree, such as `core/encode/ffmpeg_wasm_worker.ts`. A module must
 *   be one of the entries in `release/entries.ts`, or a release will not have it
 */
export function programFile(path: string): URL {
  return new URL(release ? path.replace(/\.ts$/, ".js") : path, ROOT);
}

/**
 * The Deno that this program runs on, for a child process of its own; nothing in a compiled program,
 * which can run nothing but itself.
 */
export function denoPath(): string | undefined {
  return release?.kind === "compiled" ? undefined : Deno.execPath();
}

function readRelease(): Release | undefined {
  try {
    // Not by Node's module: loading that takes half as long as all of Deno.
    const text = Deno.readTextFileSync(new URL("./release.json", import.meta.url));
    const { kind, platform, commit, releases } = JSON.parse(text) as Record<string, unknown>;
    if (kind !== "portable" && kind !== "folder" && kind !== "image" && kind !== "compiled") {
      return undefined;
    }
    return {
      kind,
      platform: String(platform),
      ...(typeof commit === "string" ? { commit } : {}),
      ...(typeof releases === "string" ? { releases } : {}),
    };
  } catch {
    return undefined;
  }
}
