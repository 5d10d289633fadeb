/**
 * The platforms that a release is made for, and the Deno that goes into each: the packages that Deno
 * publishes on npm, held to the hash of the program in them. All have the version that the project
 * is developed with; to change it, change {@linkcode DENO_VERSION}, run `deno task compile --hashes`
 * and put its answer here.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** The Deno that is packed, and that the project is tested with. */
export const DENO_VERSION = "2.9.6";

/** One platform. */
export interface Platform {
  readonly name: PlatformName;
  /** Its package on npm. */
  readonly denoPackage: string;
  /** The program's name in that package. */
  readonly denoFile: "deno" | "deno.exe";
  /** SHA-256 of the program, in hexadecimal. */
  readonly denoSha256: string;
  /** What `deno compile --target` calls it. */
  readonly triple: string;
  /** Where people of this platform keep caches, below their home folder. */
  readonly cacheFolder: string;
  /** What the program needs of the system. */
  readonly needs: string;
}

const MACOS_CACHE = "Library/Caches";
const GLIBC = "glibc 2.27 or newer, so not Alpine";

/** Every platform, in the order in which they are made. */
export const PLATFORMS = [
  {
    name: "linux-x64",
    denoPackage: "@deno/linux-x64-glibc",
    denoFile: "deno",
    denoSha256: "bceb5b6a6239b0b010418406d8c77a508f67cf4337d94288f1c19fe71304aab0",
    triple: "x86_64-unknown-linux-gnu",
    cacheFolder: ".cache",
    needs: `a 64-bit x86 processor and ${GLIBC}`,
  },
  {
    name: "linux-arm64",
    denoPackage: "@deno/linux-arm64-glibc",
    denoFile: "deno",
    denoSha256: "d08d392418df53f4e6e88a08909c0e1bccbf9adcead7232df72b6ad6075ec416",
    triple: "aarch64-unknown-linux-gnu",
    cacheFolder: ".cache",
    needs: `a 64-bit ARM processor and system, and ${GLIBC}`,
  },
  {
    name: "macos-x64",
    denoPackage: "@deno/darwin-x64",
    denoFile: "deno",
    denoSha256: "ec9fbd8e8f5f6ca5ceb0ebe4a564636f2c698bf60e3187460ded400cc0147fd5",
    triple: "x86_64-apple-darwin",
    cacheFolder: MACOS_CACHE,
    needs: "macOS on Intel",
  },
  {
    name: "macos-arm64",
    denoPackage: "@deno/darwin-arm64",
    denoFile: "deno",
    denoSha256: "b3ac3bd206e48c26026cadd80c1367e96c149f9c66130952382a642b09fa8a71",
    triple: "aarch64-apple-darwin",
    cacheFolder: MACOS_CACHE,
    needs: "macOS on Apple silicon",
  },
  {
    name: "windows-x64",
    denoPackage: "@deno/win32-x64",
    denoFile: "deno.exe",
    denoSha256: "2ff9493dfa356be2975f477025ea770088e9e9cb2c83d983236d13561b96b7a6",
    triple: "x86_64-pc-windows-msvc",
    cacheFolder: "",
    needs: "64-bit Windows",
  },
  {
    name: "windows-arm64",
    denoPackage: "@deno/win32-arm64",
    denoFile: "deno.exe",
    denoSha256: "7259fbfaf9fb0d83551b7f85b38b3dc4d7c2c63cf05427b042fbf63bdcb6f778",
    triple: "aarch64-pc-windows-msvc",
    cacheFolder: "",
    needs: "64-bit Windows on ARM",
  },
] as const satisfies readonly (Omit<Platform, "name"> & { readonly name: string })[];

/** The name of a platform, as it stands in a file's name. */
export type PlatformName = (typeof PLATFORMS)[number]["name"];

/** A platform by its name; Docker's `linux/amd64` and `linux/arm64` are understood too. */
export function findPlatform(name: string): Platform {
  const plain = name.replace("/amd64", "-x64").replace(/\/arm64(\/v8)?$/, "-arm64");
  const found = PLATFORMS.find((platform) => platform.name === plain);
  if (found === undefined) {
    const known = PLATFORMS.map((platform) => platform.name).join(", ");
    throw new Error(`there is no release for platform "${name}"; known: ${known}`);
  }
  return found;
}

/** The platform that this runs on. */
export function hostPlatform(): Platform {
  const os = { darwin: "macos", windows: "windows" }[Deno.build.os as string] ?? "linux";
  return findPlatform(`${os}-${Deno.build.arch === "aarch64" ? "arm64" : "x64"}`);
}

/**
 * Fetches a platform's Deno from the registry of packages.
 *
 * @throws if it cannot be had, or is not the one whose hash stands here
 */
export async function fetchDeno(
  platform: Platform,
  { anyHash = false }: { readonly anyHash?: boolean } = {},
): Promise<{ readonly path: string; readonly sha256: string }> {
  const specifier = `npm:${platform.denoPackage}@${DENO_VERSION}/package.json`;
  await deno(["cache", "--quiet", "--no-lock", "--no-config", specifier]);
  const { npmPackages } = JSON.parse(
    await deno(["info", "--json", "--no-lock", "--no-config", specifier]),
  ) as { npmPackages: Record<string, { name: string; localPath?: string }> };
  const folder = Object.values(npmPackages).find(({ name }) => name === platform.denoPackage)
    ?.localPath;
  if (folder === undefined) throw new Error(`${specifier} did not come into Deno's cache`);
  const path = join(folder, platform.denoFile);
  const sha256 = createHash("sha256").update(await readFile(path)).digest("hex");
  if (!anyHash && sha256 !== platform.denoSha256) {
    throw new Error(
      `${path} has the SHA-256 ${sha256}, expected ${platform.denoSha256}; nothing is made of it. ` +
        "Remove it from Deno's cache and try again, or, after a change of version, put the new " +
        "hash into release/platforms.ts",
    );
  }
  return { path, sha256 };
}

/** Runs the Deno that runs this, in the project's folder; gives back its output. */
export async function deno(
  args: readonly string[],
  options: { readonly cwd?: string } = {},
): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" },
    ...options,
  }).output();
  const decoder = new TextDecoder();
  if (code !== 0) {
    throw new Error(`deno ${args[0]} ended with code ${code}: ${decoder.decode(stderr).trim()}`);
  }
  return decoder.decode(stdout);
}
