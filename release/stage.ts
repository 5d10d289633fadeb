/**
 * What every release holds beside its runtime, whatever it is packed as: the bundle with its worker,
 * the wasm, the import map for plugins and the licences.
 *
 * @module
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ArchiveFile } from "./archives.ts";
import { renameChunks } from "./chunk_names.ts";
import { ENTRIES } from "./entries.ts";
import { licenseText, type UsedPackage, usedPackages } from "./licenses.ts";
import { deno } from "./platforms.ts";

/** What the project is, as far as a release needs to know. */
export interface Project {
  /** Its folder. */
  readonly root: string;
  readonly version: string;
  /** The full commit, with `-dirty` where the tree has changes; absent outside a clone. */
  readonly commit?: string;
  /** Where newer releases are announced, for `camsink update --check`: `CAMSINK_RELEASES_URL`. */
  readonly releases?: string;
  /** When that was made, seconds since 1970; `SOURCE_DATE_EPOCH` where it is set. */
  readonly timeS: number;
  /** What the program may do: the flags of the task `camsink`. */
  readonly permissions: readonly string[];
  /** Names of Deno's features that are switched on. */
  readonly unstable: readonly string[];
}

/** The files of a release. */
export interface Stage {
  readonly files: readonly ArchiveFile[];
  readonly packages: readonly UsedPackage[];
}

const encoder = new TextEncoder();

/** Reads `deno.json` and asks git. */
export async function readProject(root: string): Promise<Project> {
  const { version, unstable, tasks } = JSON.parse(
    await readFile(join(root, "deno.json"), "utf8"),
  ) as { version: string; unstable: string[]; tasks: { camsink: { command: string } } };
  const commit = await git(root, "rev-parse", "HEAD");
  const isDirty = commit !== undefined && await git(root, "status", "--porcelain") !== "";
  const given = Deno.env.get("SOURCE_DATE_EPOCH") ??
    (commit === undefined ? undefined : await git(root, "show", "-s", "--format=%ct", "HEAD"));
  const named = Deno.env.get("CAMSINK_COMMIT") || undefined;
  const releases = Deno.env.get("CAMSINK_RELEASES_URL") || undefined;
  const full = commit === undefined ? named : isDirty ? `${commit}-dirty` : commit;
  return {
    root,
    version,
    ...(full === undefined ? {} : { commit: full }),
    ...(releases === undefined ? {} : { releases }),
    // Without git, the first day that a ZIP file can tell.
    timeS: given ? Number(given) : Date.UTC(1980, 0, 1) / 1000,
    permissions: tasks.camsink.command.split(" ").filter((word) => word.startsWith("--")),
    unstable,
  };
}

/** Bundles the program and gathers what belongs to it. */
export async function makeStage({ root, unstable }: Project): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), "camsink-bundle-"));
  try {
    // Split, so that `camsink status` does not read what only `camsink capture` needs.
    await deno(
      ["bundle", "--quiet", "--platform=deno", "--minify", "--keep-names", "--code-splitting"]
        .concat("--outdir", folder, ENTRIES),
      { cwd: root },
    );
    const parts: ArchiveFile[] = [];
    for await (const path of filesBelow(folder)) {
      const text = new TextDecoder().decode(await readFile(join(folder, path)));
      parts.push(file(path, encoder.encode(lazily(withRequire(text)))));
    }
    const files = renameChunks(parts);
    const packages = await usedPackages({ root, entries: ENTRIES });
    files.push(
      file("ffmpeg-core.wasm", await readWasm(root)),
      // `npm:` and `camsink` in a plugin; no lock file, for whoever wrote the plugin has pinned it.
      file(
        "deno.json",
        json({ imports: { camsink: "./mod.js" }, unstable, nodeModulesDir: "none", lock: false }),
      ),
      file("THIRD_PARTY_LICENSES", encoder.encode(await licenseText({ root, packages }))),
    );
    return { files, packages };
  } finally {
    await rm(folder, { recursive: true });
  }
}

/**
 * A chunk with CommonJS packages in it calls `require` for Node's own modules, which the bundler
 * leaves to be there; in a module it is not. So the chunk gets one. It is made when it is first
 * called: every start loads the chunk, and Node's `module` alone takes as long as all of Deno.
 */
function withRequire(text: string): string {
  if (!text.includes("Dynamic require of ")) return text;
  return `let __require;const require=(...a)=>(__require??=process.getBuiltinModule("node:module")` +
    `.createRequire(import.meta.url))(...a);${text}`;
}

/**
 * Deno reads the modules of `import("./literal.js")` already when it starts, which would be the whole
 * program each time, Azure's SDK included. One that it cannot foretell is read when it is asked for.
 */
function lazily(text: string): string {
  return text.replaceAll(/\bimport\(("\.{1,2}\/[\w./-]+\.js")\)/g, "import(String($1))");
}

/** A file that is no program. */
export function file(path: string, bytes: Uint8Array): ArchiveFile {
  return { path, bytes, isProgram: false };
}

/** A value as the bytes of a JSON file. */
export function json(value: unknown): Uint8Array {
  return encoder.encode(`${JSON.stringify(value, null, 2)}\n`);
}

async function readWasm(root: string): Promise<Uint8Array> {
  const { npmPackages } = JSON.parse(
    await deno(["info", "--json", "core/encode/ffmpeg_wasm_worker.ts"], { cwd: root }),
  ) as { npmPackages: Record<string, { name: string; localPath?: string }> };
  const core = Object.values(npmPackages).find(({ name }) => name === "@ffmpeg/core");
  if (core?.localPath === undefined) throw new Error("@ffmpeg/core is not in Deno's cache");
  return await readFile(join(core.localPath, "dist/esm/ffmpeg-core.wasm"));
}

async function* filesBelow(folder: string, inner = ""): AsyncGenerator<string> {
  for await (const entry of Deno.readDir(join(folder, inner))) {
    const path = inner === "" ? entry.name : `${inner}/${entry.name}`;
    if (entry.isDirectory) yield* filesBelow(folder, path);
    else yield path;
  }
}

/** What git says; nothing where there is no git or no clone. */
async function git(root: string, ...args: string[]): Promise<string | undefined> {
  try {
    const { success, stdout } = await new Deno.Command("git", { args, cwd: root, stderr: "null" })
      .output();
    return success ? new TextDecoder().decode(stdout).trim() : undefined;
  } catch {
    return undefined;
  }
}
