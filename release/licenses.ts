/**
 * What a release owes to others: the packages that are in it, with their licences. The text goes
 * into every release as `THIRD_PARTY_LICENSES`, the list into its bill of materials.
 *
 * @module
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { deno, DENO_VERSION } from "./platforms.ts";

/** A package whose code is in a release. */
export interface UsedPackage {
  readonly name: string;
  readonly version: string;
  /** An SPDX expression, from the package's own description. */
  readonly license: string;
  /** Its licence texts and notices. */
  readonly texts: readonly string[];
  /** SHA-512 of what the registry gave, in base64, from the project's lock file. */
  readonly sha512?: string;
}

const FFMPEG_CORE = "@ffmpeg/core";

const FFMPEG_NOTE = `
The in-process encoder is the package @ffmpeg/core: ffmpeg 5.1.4 with x264 and other libraries,
compiled to WebAssembly by the ffmpeg.wasm project. It comes under the GNU General Public License,
version 2 or, as you like, any later one; the text of version 2 is below. Camsink runs it unchanged,
as a program of its own in a worker, and hands it pictures: the two are an aggregate in the sense of
section 2 of that licence, and Camsink's own code stays under the MIT licence.

Its source, complete and with the recipe that compiles it:
  https://github.com/ffmpegwasm/ffmpeg.wasm (Dockerfile, packages/core, build/)
  which names the source and version of each library, among them
  https://github.com/FFmpeg/FFmpeg, tag n5.1.4, and https://github.com/ffmpegwasm/x264
With "encoder": { "engine": "system" } another ffmpeg, of your choice, takes its place.
`;

const DENO_NOTE = `
The runtime is Deno ${DENO_VERSION}, unchanged. Its source, and the list of the libraries in it (V8 under
a BSD licence among them): https://github.com/denoland/deno, tag v${DENO_VERSION}

MIT License

Copyright 2018-2026 the Deno authors

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`;

interface Graph {
  readonly modules: readonly { readonly kind?: string; readonly npmPackage?: string }[];
  readonly npmPackages: Readonly<
    Record<string, {
      readonly name: string;
      readonly version: string;
      readonly dependencies: readonly string[];
      readonly localPath?: string;
    }>
  >;
}

/** Every package that the entries reach, sorted by name. Types alone are left out. */
export async function usedPackages(
  { root, entries }: { readonly root: string; readonly entries: readonly string[] },
): Promise<UsedPackage[]> {
  const { npm } = JSON.parse(await readFile(join(root, "deno.lock"), "utf8")) as {
    npm: Record<string, { integrity?: string }>;
  };
  const reached = new Map<string, Graph["npmPackages"][string]>();
  for (const entry of entries) {
    const graph = JSON.parse(await deno(["info", "--json", entry], { cwd: root })) as Graph;
    const visit = (id: string) => {
      const found = graph.npmPackages[id];
      if (found === undefined || reached.has(id)) return;
      reached.set(id, found);
      found.dependencies.forEach(visit);
    };
    for (const { npmPackage } of graph.modules) if (npmPackage !== undefined) visit(npmPackage);
  }
  const used: UsedPackage[] = [];
  for (const [id, { name, version, localPath }] of [...reached].sort()) {
    if (name.startsWith("@types/")) continue;
    if (localPath === undefined) throw new Error(`${id} is not in Deno's cache`);
    const about = JSON.parse(await readFile(join(localPath, "package.json"), "utf8"));
    const names = (await readdir(localPath)).sort()
      .filter((file) => /^(licen[cs]e|copying|notice|copyright)/i.test(file));
    const texts = await Promise.all(names.map((file) => readFile(join(localPath, file), "utf8")));
    const integrity = npm[`${name}@${version}`]?.integrity;
    used.push({
      name,
      version,
      license: String(about.license ?? "NOASSERTION"),
      texts,
      ...(integrity?.startsWith("sha512-") ? { sha512: integrity.slice("sha512-".length) } : {}),
    });
  }
  return used;
}

/** The text of `THIRD_PARTY_LICENSES`. */
export async function licenseText(
  { root, packages }: { readonly root: string; readonly packages: readonly UsedPackage[] },
): Promise<string> {
  const own = await readFile(join(root, "LICENSE"), "utf8");
  const gpl = await readFile(join(root, "release/licenses/GPL-2.0.txt"), "utf8");
  const core = packages.find(({ name }) => name === FFMPEG_CORE);
  const chapter = (title: string) => `${"=".repeat(80)}\n${title}\n${"=".repeat(80)}\n`;
  return [
    "Camsink, what is in it, and under which licences.\n\n",
    ...packages.map(({ name, version, license }) => `  ${name} ${version}: ${license}\n`),
    `  Deno ${DENO_VERSION}: MIT\n\n`,
    "The container image holds parts of Debian besides, and an ffmpeg made from Debian's source\n",
    "(GPL-2.0-or-later): their licences, and where their source is, are in its /usr/share/doc.\n\n",
    chapter("Camsink: MIT"),
    `${own}\n`,
    chapter(`${FFMPEG_CORE} ${core?.version ?? ""}: GPL-2.0-or-later`),
    `${FFMPEG_NOTE}\n`,
    chapter(`Deno ${DENO_VERSION}: MIT`),
    `${DENO_NOTE}\n`,
    ...packages.filter(({ name }) => name !== FFMPEG_CORE).flatMap((one) => [
      chapter(`${one.name} ${one.version}: ${one.license}`),
      one.texts.length > 0
        ? `${one.texts.map((text) => text.trim()).join("\n\n")}\n\n`
        : `The package has no text of its own; it names the licence ${one.license}.\n\n`,
    ]),
    chapter("GNU General Public License, version 2"),
    gpl,
  ].join("").replaceAll("\r\n", "\n");
}
