/**
 * The forms of a release: the portable file that unpacks itself, a folder (for the container image,
 * and wherever there is no shell), and what `deno compile` makes. All hold the same files and start
 * them with the same permissions.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type ArchiveFile, tarGz, zip } from "./archives.ts";
import { deno, fetchDeno, type Platform } from "./platforms.ts";
import { file, json, type Project, type Stage } from "./stage.ts";

/** What is packed, for which platform, where to. */
export interface PackOptions {
  readonly project: Project;
  readonly stage: Stage;
  readonly platform: Platform;
  /** The folder that the result goes into. */
  readonly out: string;
}

const encoder = new TextEncoder();
const isWindows = ({ name }: Platform) => name.startsWith("windows");

/** `camsink-2.0.0-linux-x64`. */
function baseName({ project, platform }: PackOptions): string {
  return `camsink-${project.version}-${platform.name}`;
}

/**
 * The flags of `deno`: the permissions of the task in `deno.json`, and settings that keep files of
 * the user's own from changing how the program runs.
 */
function runFlags({ permissions }: Project): string {
  return ["run", ...permissions].join(" ");
}

/** The last lines of the launchers; `$home` is where the files are. */
function launch(project: Project): string {
  return `export DENO_NO_UPDATE_CHECK=1 DENO_NO_PACKAGE_JSON=1
exec "$home/deno" ${runFlags(project)} --config "$home/deno.json" "$home/cli.js" "$@"`;
}

/** What stands in the release about itself. */
function mark(
  { project, platform }: PackOptions,
  kind: "portable" | "folder" | "image" | "compiled",
): ArchiveFile {
  const { commit, releases } = project;
  return file(
    "release.json",
    json({
      ...{ kind, platform: platform.name },
      ...(commit === undefined ? {} : { commit }),
      ...(releases === undefined ? {} : { releases }),
    }),
  );
}

async function runtime(platform: Platform): Promise<ArchiveFile> {
  const { path } = await fetchDeno(platform);
  return { path: platform.denoFile, bytes: await readFile(path), isProgram: true };
}

/**
 * One file that unpacks itself: a shell script with two archives behind it, which it unpacks side by
 * side. For Windows, which has no shell to rely on, a ZIP file.
 *
 * @returns its path
 */
export async function packPortable(options: PackOptions): Promise<string> {
  const { project, stage, platform, out } = options;
  if (isWindows(platform)) return await packZip(options);
  const program = await runtime(platform);
  const others = [...stage.files, mark(options, "portable")];
  // Both archives are unpacked at the same time, so they are made to take equally long.
  const cut = Math.floor(program.bytes.length * 0.68);
  const [part1, part2] = await Promise.all([
    tarGz([{ ...program, bytes: program.bytes.subarray(0, cut) }], project),
    tarGz([file("deno.2", program.bytes.subarray(cut)), ...others], project),
  ]);
  const all = [program, ...others];
  const sums = others.map(sumLine).sort().join("\n");
  const bytes = all.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const values: Record<string, string> = {
    VERSION: project.version,
    PLATFORM: platform.name,
    ID: `${project.version}-${sha256(encoder.encode(sumLine(program) + sums)).slice(0, 16)}`,
    FILES: String(all.length),
    BYTES: String(bytes),
    PART1: String(part1.length),
    PART2: String(part2.length),
    SUM: sumLine(program),
    SUMS: sums,
    NEEDS: platform.needs,
    CACHE: platform.cacheFolder,
    MEGABYTES: String(Math.ceil(bytes / 1e6)),
    LAUNCH: `export DENO_DIR="\${DENO_DIR:-\${home%/*}/deno}"\n${launch(project)}`,
  };
  const template = (await readFile(join(project.root, "release/header.sh"), "utf8"))
    .replaceAll(
      /@(\w+)@/g,
      (whole, name) => name === "HEADER" ? whole : values[name] ?? missing(name),
    );
  // Its own length stands in it, always in five digits.
  const length = encoder.encode(template).length - "@HEADER@".length + 5;
  const header = encoder.encode(template.replace("@HEADER@", String(length).padEnd(5)));
  const path = join(out, baseName(options));
  await save(path, [header, part1, part2]);
  await chmod(path, 0o755);
  return path;
}

/** The same files in a ZIP archive, with `camsink.cmd` to start them. */
async function packZip(options: PackOptions): Promise<string> {
  const { project, stage, platform, out } = options;
  const folder = baseName(options);
  const start = `@echo off\r\nset DENO_NO_UPDATE_CHECK=1\r\nset DENO_NO_PACKAGE_JSON=1\r\n` +
    `"%~dp0${platform.denoFile}" ${runFlags(project)} --config "%~dp0deno.json" ` +
    `"%~dp0cli.js" %*\r\n`;
  const files = [
    ...stage.files,
    mark(options, "folder"),
    await runtime(platform),
    file("camsink.cmd", encoder.encode(start)),
  ];
  const path = join(out, `${folder}.zip`);
  const inFolder = files.map((one) => ({ ...one, path: `${folder}/${one.path}` }));
  await save(path, [await zip(inFolder, project)]);
  return path;
}

/**
 * A folder with all files and a script `camsink` that starts them, from wherever it is.
 *
 * @returns its path
 */
export async function packFolder(
  options: PackOptions & { readonly kind: "folder" | "image"; readonly name?: string },
): Promise<string> {
  const { project, stage, platform, out, kind, name = baseName(options) } = options;
  const script = `#!/bin/sh
# Starts the Camsink whose files are beside this script.
self=$0
while [ -L "$self" ]; do
  link=$(readlink "$self")
  case $link in
  /*) self=$link ;;
  *) self=\${self%/*}/$link ;;
  esac
done
home=$(cd "\${self%/*}" && pwd)
${launch(project)}
`;
  const path = join(out, name);
  const files = [
    ...stage.files,
    mark(options, kind),
    await runtime(platform),
    { path: "camsink", bytes: encoder.encode(script), isProgram: true },
  ];
  await rm(path, { recursive: true, force: true });
  for (const { path: inner, bytes, isProgram } of files) {
    const whole = join(path, inner);
    await mkdir(dirname(whole), { recursive: true });
    await writeFile(whole, bytes);
    await chmod(whole, isProgram ? 0o755 : 0o644);
  }
  return path;
}

/**
 * What `deno compile` makes: a real executable. Its runtime (`denort`) comes from Deno's own host,
 * or from the path in `DENORT_BIN`.
 *
 * @throws if the runtime cannot be had
 */
export async function packCompiled(options: PackOptions): Promise<string> {
  const { project, stage, platform, out } = options;
  const folder = await mkdtemp(join(tmpdir(), "camsink-compile-"));
  try {
    const files = [...stage.files, mark(options, "compiled")];
    for (const { path, bytes } of files) {
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await writeFile(join(folder, path), bytes);
    }
    const path = join(out, baseName(options) + (isWindows(platform) ? ".exe" : ""));
    await deno([
      ...["compile", "--quiet", "--no-check", "--target", platform.triple],
      ...project.permissions,
      ...["--config", join(folder, "deno.json")],
      ...files.flatMap(({ path }) => path === "cli.js" ? [] : ["--include", join(folder, path)]),
      ...["--output", path, join(folder, "cli.js")],
    ]);
    return path;
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Written under another name first: a file that is there is whole. */
async function save(path: string, parts: readonly Uint8Array[]): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(`${path}.part`, parts);
  await rename(`${path}.part`, path);
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** As `sha256sum -c` reads it. */
function sumLine({ path, bytes }: ArchiveFile): string {
  return `${sha256(bytes)}  ${path}`;
}

function missing(name: string): never {
  throw new Error(`release/header.sh names @${name}@, which is not known`);
}
