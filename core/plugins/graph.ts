/**
 * Looks through everything that a plugin imports before any of it is loaded: static and literal
 * dynamic imports, transitively, as Deno itself resolves them. What is loaded by name is loaded with
 * the rights of the process around the plugin, so a plugin may name only its own files, `npm:`
 * packages and `node:` modules. The hash over all of it is what a user approves.
 *
 * @module
 */
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { homedir } from "node:os";
import { dirname, isAbsolute, join, relative, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { denoPath, programFile, release } from "../program.ts";

/** A plugin that was looked through. */
export interface PluginGraph {
  /** The module to load, a `file:` URL. */
  readonly entry: string;
  /** As the user names it, with the version of an `npm:` package. */
  readonly from: string;
  /** Over all modules and the versions of all packages; lower-case hex. */
  readonly sha256: string;
  /** Of its `deno.json` or package. */
  readonly version?: string;
  /** Its own files, absolute: what it loads, and nothing else, may be read. */
  readonly files: readonly string[];
  /** Packages with their versions. */
  readonly packages: readonly string[];
  /** Folders of those packages. */
  readonly packageFolders: readonly string[];
  /** How its imports are resolved, a `data:` URL. */
  readonly importMap: string;
}

/** A plugin that cannot be used; the message is for the user. */
export class PluginError extends Error {
  override readonly name = "PluginError";
}

/** What `deno info --json` tells, as far as it is used. */
interface DenoInfo {
  readonly roots?: readonly string[];
  readonly modules?: readonly {
    readonly specifier: string;
    readonly local?: string;
    readonly kind?: string;
    readonly error?: string;
    readonly dependencies?: readonly { readonly specifier: string; readonly npmPackage?: string }[];
  }[];
  readonly npmPackages?: Readonly<
    Record<string, { readonly name: string; readonly version: string; readonly localPath?: string }>
  >;
}

interface Place {
  readonly entry: string;
  /** Where its files may lie. */
  readonly folder: string;
  /** A package with its version, where it is one. */
  readonly from?: string;
  /** A file alone: it may import code beside it, but no data. */
  readonly isAlone: boolean;
  readonly imports: Readonly<Record<string, string>>;
  readonly version?: string;
}

const CODE = /\.(ts|mts|js|mjs)$/;

/**
 * Looks a plugin through.
 *
 * @param from a file, a folder with `deno.json`, or `npm:NAME[@VERSION]`; relative to `folder`
 * @throws {PluginError} that names what is missing or refused
 */
export async function readPluginGraph(
  from: string,
  { folder, signal }: { readonly folder: string; readonly signal?: AbortSignal },
): Promise<PluginGraph> {
  const deno = denoPath();
  if (deno === undefined) {
    throw new PluginError(
      "this build of Camsink cannot run plugins in a process of their own, so it runs none; use the " +
        "portable release file or a clone",
    );
  }
  const place = from.startsWith("npm:")
    ? await placeOfPackage(from, { deno, signal })
    : placeOf(from, folder);
  const importMap = importMapOf(place);
  const info = await denoInfo(deno, { entry: place.entry, importMap, signal });
  const own = fileURLToPath(programFile("./"));
  const files: string[] = [];
  const problems: string[] = [];
  for (const { specifier, local, error } of info.modules ?? []) {
    // Code from the web is told of below, whatever became of fetching it.
    if (error !== undefined && !/^https?:/.test(specifier)) {
      const [line = ""] = error.split("\n");
      throw new PluginError(`cannot load the plugin ${from}: ${line}`);
    }
    if (/^(node|npm):/.test(specifier)) continue;
    if (!specifier.startsWith("file:")) {
      const [scheme = ""] = specifier.split(":");
      problems.push(
        scheme === "http" || scheme === "https"
          ? `${specifier}: code from the web is not loaded; use an npm: package or copy the file`
          : `${specifier.slice(0, 60)}: ${scheme}: modules are not loaded`,
      );
      continue;
    }
    const path = local ?? fileURLToPath(specifier);
    if (isSdk(path, own)) continue;
    const problem = refusal(path, place);
    if (problem !== undefined) problems.push(`${path}: ${problem}`);
    else files.push(path);
  }
  if (problems.length > 0) {
    throw new PluginError(
      `the plugin ${from} imports what it may not:\n  ${problems.join("\n  ")}`,
    );
  }
  const packages = Object.values(info.npmPackages ?? {});
  const names = [...new Set(packages.map(({ name, version }) => `${name}@${version}`))].sort();
  const hash = createHash("sha256");
  for (const path of files.sort()) {
    hash.update(relative(place.folder, path)).update("\0");
    hash.update(createHash("sha256").update(readFileSync(path)).digest("hex")).update("\n");
  }
  for (const name of names) hash.update(`npm:${name}\n`);
  hash.update(JSON.stringify(place.imports));
  const { version } = place;
  return {
    entry: place.entry,
    from: place.from ?? from,
    sha256: hash.digest("hex"),
    ...(version === undefined ? {} : { version }),
    files,
    packages: names,
    packageFolders: packages.flatMap(({ localPath }) => localPath ?? []),
    importMap,
  };
}

/** Camsink's own modules, which stand behind `camsink` and `valibot`. */
function isSdk(path: string, own: string): boolean {
  const inner = relative(own, path);
  return !inner.startsWith("..") && !isAbsolute(inner) &&
    (release
      ? path.endsWith(".js") && !inner.startsWith("plugins")
      : /^(mod\.ts|core[\\/]|kit[\\/]contract\.ts)/.test(inner));
}

function refusal(path: string, { folder, isAlone }: Place): string | undefined {
  let real: string;
  try {
    real = realpathSync(path);
  } catch {
    return "there is no such file";
  }
  const inner = relative(folder, real);
  if (inner.startsWith("..") || isAbsolute(inner)) return `it lies outside of ${folder}`;
  if (inner.split(sep).some((part) => part.startsWith("."))) return "it is a hidden file";
  if (/^camsink(\..*)?\.jsonc?$/.test(inner.split(sep).at(-1) ?? "")) {
    return "it is a configuration";
  }
  if (isAlone && !CODE.test(inner)) {
    return "a plugin of a single file may import code only; put it into a folder with a deno.json";
  }
  return undefined;
}

function placeOf(from: string, folder: string): Place {
  const path = isAbsolute(from) ? from : join(folder, from);
  let real: string;
  try {
    real = realpathSync(path);
  } catch {
    throw new PluginError(`cannot load the plugin ${from}: there is no file or folder ${path}`);
  }
  if (!statSync(real).isDirectory()) {
    if (!CODE.test(real)) {
      throw new PluginError(
        `cannot load the plugin ${from}: expected a .ts or .js file, a folder with a deno.json, or ` +
          "npm:NAME",
      );
    }
    return { entry: pathToFileURL(real).href, folder: dirname(real), isAlone: true, imports: {} };
  }
  const file = ["deno.json", "deno.jsonc"].map((name) => join(real, name)).find(existsSync);
  if (file === undefined) {
    const alone = ["mod.ts", "mod.js"].map((name) => join(real, name)).find(existsSync);
    if (alone !== undefined) {
      return { entry: pathToFileURL(alone).href, folder: real, isAlone: true, imports: {} };
    }
    throw new PluginError(
      `cannot load the plugin ${from}: the folder ${real} has no deno.json and no mod.ts`,
    );
  }
  let settings: { exports?: unknown; imports?: unknown; version?: unknown };
  try {
    settings = JSON.parse(readFileSync(file, "utf8"));
  } catch {
    throw new PluginError(`cannot load the plugin ${from}: ${file} is not valid JSON`);
  }
  const { exports } = settings;
  const main = typeof exports === "string"
    ? exports
    : typeof exports === "object" && exports !== null && "." in exports
    ? String(exports["."])
    : "./mod.ts";
  const entry = join(real, main);
  if (!existsSync(entry)) {
    throw new PluginError(
      `cannot load the plugin ${from}: its deno.json names ${main}, which is not there`,
    );
  }
  const imports = Object.entries(typeof settings.imports === "object" ? settings.imports ?? {} : {})
    .filter(([name, target]) => name !== "camsink" && typeof target === "string")
    .map(([name, target]: [string, string]) => [
      name,
      /^\.{0,2}\//.test(target) ? new URL(target, pathToFileURL(file)).href : target,
    ]);
  return {
    entry: pathToFileURL(entry).href,
    folder: real,
    isAlone: false,
    imports: Object.fromEntries(imports),
    ...(typeof settings.version === "string" ? { version: settings.version } : {}),
  };
}

/**
 * A package, copied out of Deno's store: there no import map holds, and `camsink` would have to be a
 * package too. The copy is hashed like any folder, so one that was changed is refused.
 */
async function placeOfPackage(
  from: string,
  { deno, signal }: { readonly deno: string; readonly signal?: AbortSignal | undefined },
): Promise<Place> {
  const [, name = "", asked] = /^npm:\/?((?:@[^/@]+\/)?[^/@]+)(?:@([^/]+))?$/.exec(from) ?? [];
  if (!/^(@[\w.~-]+\/)?[\w~-][\w.~-]*$/.test(name)) {
    throw new PluginError(`cannot load the plugin ${from}: expected npm:NAME or npm:NAME@VERSION`);
  }
  const folderOf = (version: string) => join(cacheFolder(), `${name.replace("/", "+")}@${version}`);
  const isKnown = asked !== undefined && /^\d+\.\d+\.\d+[\w.+-]*$/.test(asked) &&
    existsSync(folderOf(asked));
  let version = asked ?? "";
  if (!isKnown) {
    const info = await denoInfo(deno, {
      entry: from,
      importMap: "data:application/json,{}",
      signal,
    });
    const found = Object.values(info.npmPackages ?? {}).find((one) => one.name === name);
    if (found?.localPath === undefined) {
      throw new PluginError(`cannot load the plugin ${from}: npm has no such package or version`);
    }
    version = found.version;
    const to = folderOf(version);
    if (!existsSync(to)) {
      const part = `${to}.${crypto.randomUUID()}.part`;
      mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
      cpSync(found.localPath, part, { recursive: true });
      try {
        renameSync(part, to);
      } catch {
        rmSync(part, { recursive: true, force: true }); // somebody else was faster
      }
    }
  }
  const folder = realpathSync(folderOf(version));
  let about: Record<string, unknown>;
  try {
    about = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  } catch {
    throw new PluginError(`cannot load the plugin ${from}: its package.json is not valid JSON`);
  }
  const main = mainOfPackage(about.exports) ?? mainOfPackage(about.module) ??
    mainOfPackage(about.main) ?? "./index.js";
  const needs = { ...Object(about.peerDependencies), ...Object(about.dependencies) };
  return {
    entry: pathToFileURL(join(folder, main)).href,
    from: `npm:${name}@${version}`,
    folder,
    isAlone: false,
    version,
    imports: Object.fromEntries(
      Object.entries(needs)
        .filter(([one, range]) => one !== "camsink" && typeof range === "string")
        .flatMap(([one, range]) => [[one, `npm:${one}@${range}`], [
          `${one}/`,
          `npm:/${one}@${range}/`,
        ]]),
    ),
  };
}

/** `exports` in all of its forms, for `import`. */
function mainOfPackage(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null) return undefined;
  for (const key of [".", "deno", "import", "default"]) {
    if (Object.hasOwn(value, key)) return mainOfPackage(Reflect.get(value, key));
  }
  return undefined;
}

function cacheFolder(): string {
  const cache = Deno.env.get("XDG_CACHE_HOME") || Deno.env.get("LOCALAPPDATA") ||
    join(homedir(), ".cache");
  return join(cache, "camsink", "plugins");
}

/** `camsink` and `valibot` for the plugin; in a clone also what Camsink's own files import. */
function importMapOf({ imports }: Place): string {
  const map: { imports: Record<string, string>; scopes?: Record<string, Record<string, string>> } =
    {
      imports: {
        valibot: programFile("core/plugins/valibot.ts").href,
        ...imports,
        camsink: programFile("mod.ts").href,
      },
    };
  if (!release) {
    const { imports: ours } = JSON.parse(readFileSync(programFile("deno.json"), "utf8")) as {
      imports: Record<string, string>;
    };
    map.imports.valibot = imports.valibot ?? ours.valibot ?? "";
    for (const room of ["core/", "mod.ts"]) {
      map.scopes = {
        ...map.scopes,
        [programFile(room).href]: Object.fromEntries(
          ["valibot", "@valibot/to-json-schema"].map((name) => [name, ours[name] ?? ""]),
        ),
      };
    }
  }
  return `data:application/json,${encodeURIComponent(JSON.stringify(map))}`;
}

async function denoInfo(
  deno: string,
  { entry, importMap, signal }: {
    readonly entry: string;
    readonly importMap: string;
    readonly signal?: AbortSignal;
  },
): Promise<DenoInfo> {
  const { stdout, stderr, success } = await new Deno.Command(deno, {
    args: ["info", "--json", "--no-config", "--no-lock", "--no-remote", "--node-modules-dir=none"]
      .concat("--import-map", importMap, entry),
    env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", DENO_NO_PACKAGE_JSON: "1" },
    stdin: "null",
    ...(signal ? { signal } : {}),
  }).output();
  try {
    return JSON.parse(new TextDecoder().decode(stdout)) as DenoInfo;
  } catch {
    const said = new TextDecoder().decode(stderr).trim().split("\n").slice(0, 3).join(" ");
    throw new PluginError(
      `cannot load the plugin ${entry}: ${
        said || (success ? "deno info said nothing" : "deno info failed")
      }`,
    );
  }
}
