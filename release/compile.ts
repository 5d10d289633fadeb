/**
 * `deno task compile`: makes what people download, under `dist/`: a file for each platform, their
 * checksums and the bill of materials.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { packCompiled, packFolder, type PackOptions, packPortable } from "./packages.ts";
import { fetchDeno, findPlatform, hostPlatform, type Platform, PLATFORMS } from "./platforms.ts";
import { sbom } from "./sbom.ts";
import { makeStage, readProject } from "./stage.ts";

const HELP = `Makes the release files of Camsink.

  deno task compile [--target PLATFORM]... [--all] [--kind KIND] [--out FOLDER]

  --target PLATFORM  ${PLATFORMS.map(({ name }) => name).join(", ")};
                     may be given more than once. Default: this machine's
  --all              all of them
  --kind KIND        portable: one file that unpacks itself (Windows: a ZIP file)
                     compiled: by deno compile, whose runtime comes from Deno's own host or is
                               named by DENORT_BIN
                     auto:     compiled where that runtime can be had, else portable (default)
                     folder:   a folder with a script that starts it
                     image:    the same for the Dockerfile: named "camsink", no checksums
  --out FOLDER       Default: dist
  --hashes           only fetch every platform's Deno and print its SHA-256
`;

const KINDS = ["auto", "portable", "compiled", "folder", "image"] as const;
type Kind = (typeof KINDS)[number];

/** Runs one command line; what went wrong is thrown. */
async function main(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      target: { type: "string", multiple: true, default: [] },
      all: { type: "boolean", default: false },
      kind: { type: "string", default: "auto" },
      out: { type: "string", default: "dist" },
      hashes: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return console.log(HELP);
  if (values.hashes) {
    for (const platform of PLATFORMS) {
      console.log(`${platform.name} ${(await fetchDeno(platform, { anyHash: true })).sha256}`);
    }
    return;
  }
  const kind = KINDS.find((one) => one === values.kind);
  if (kind === undefined) {
    throw new Error(`--kind: "${values.kind}" is none of ${KINDS.join(", ")}`);
  }
  const platforms: readonly Platform[] = values.all
    ? PLATFORMS
    : values.target.length > 0
    ? values.target.map(findPlatform)
    : [hostPlatform()];
  await makeRelease({ kind, platforms, out: values.out });
}

async function makeRelease(
  { kind, platforms, out }: {
    readonly kind: Kind;
    readonly platforms: readonly Platform[];
    readonly out: string;
  },
): Promise<void> {
  const project = await readProject(fileURLToPath(new URL("../", import.meta.url)));
  const stage = await makeStage(project);
  await mkdir(out, { recursive: true });
  let effective = kind;
  for (const platform of platforms) {
    const options: PackOptions = { project, stage, platform, out };
    if (effective === "auto") effective = await chooseKind(options);
    const path = await pack(effective, options);
    const { size } = await stat(path);
    console.log(`${path}${effective === "folder" ? "" : ` ${(size / 1e6).toFixed(1)} MB`}`);
  }
  if (effective === "image") return;
  await writeFile(
    join(out, `camsink-${project.version}.cdx.json`),
    sbom({ ...project, packages: stage.packages, platforms }),
  );
  await writeChecksums(out);
}

/** Makes one file or folder. */
function pack(kind: Kind, options: PackOptions): Promise<string> {
  switch (kind) {
    case "compiled":
      return packCompiled(options);
    case "folder":
      return packFolder({ ...options, kind });
    case "image":
      return packFolder({ ...options, kind, name: "camsink" });
    default:
      return packPortable(options);
  }
}

/** Can `deno compile` have its runtime? */
async function chooseKind(options: PackOptions): Promise<"compiled" | "portable"> {
  try {
    await packCompiled(options);
    return "compiled";
  } catch (error) {
    const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
    console.error(`Making portable files: ${reason}`);
    return "portable";
  }
}

/** `SHA256SUMS` of every release file in the folder, as `sha256sum -c` reads it. */
async function writeChecksums(out: string): Promise<void> {
  const lines: string[] = [];
  for (const name of (await readdir(out)).sort()) {
    const path = join(out, name);
    if (!name.startsWith("camsink-") || !(await stat(path)).isFile()) continue;
    const hash = createHash("sha256").update(await readFile(path)).digest("hex");
    lines.push(`${hash}  ${basename(path)}\n`);
  }
  await writeFile(join(out, "SHA256SUMS"), lines.join(""));
}

if (import.meta.main) {
  try {
    await main(Deno.args);
  } catch (error) {
    console.error(`compile: ${error instanceof Error ? error.message : error}`);
    Deno.exit(1);
  }
}
