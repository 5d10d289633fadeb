/**
 * Starts Azurite, Microsoft's emulator of Azure Blob Storage, from npm: what a demo or a test stores
 * its clips in when there is no cloud. The first start downloads about 270 MB into Deno's cache.
 *
 * It runs as a child process of its own. A child outlives a parent that is killed, so this one runs
 * a line of ours first, which ends it as soon as its standard input is closed: the system closes
 * that however the parent dies.
 *
 * @module
 */
import { homedir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../core/clock.ts";
import type { Clock } from "../core/types.ts";

const VERSION = "3.37.0";

/** The account and key that every emulator has, published by Microsoft; no secret. */
const ACCOUNT = "devstoreaccount1";
const KEY =
  "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/** How an emulator is started. */
export interface AzuriteOptions {
  /** 0, the default, takes any free port. */
  readonly port?: number;
  /**
   * Serves HTTPS with these PEM files. It then also takes bearer tokens, of which it checks issuer,
   * audience and times, but not the signature.
   */
  readonly tls?: { readonly certPath: string; readonly keyPath: string };
  /** A folder that keeps the blobs; without it they are kept in memory and gone in the end. */
  readonly dataPath?: string;
  /** Called while the emulator is downloaded, with the bytes that have come so far. */
  readonly onProgress?: (downloadedBytes: number) => void;
  /** Gives up the start, or ends the emulator. */
  readonly signal?: AbortSignal;
  /** Give up when nothing has happened for so long; 60 s by default. */
  readonly stallMs?: number;
  /** The machine's own clocks by default. */
  readonly clock?: Clock;
}

/** A running emulator. */
export interface Azurite extends AsyncDisposable {
  /** For the option `connectionString` of the azure-blob sink, or for any Azure SDK. */
  readonly connectionString: string;
  /** `http://127.0.0.1:PORT/devstoreaccount1`, or `https:` with TLS. */
  readonly blobUrl: string;
  /** The account's name, the same in every emulator. */
  readonly account: string;
  /** In base64. */
  readonly key: string;
  /** The port that it listens on. */
  readonly port: number;
  /** Ends the process and waits until it is gone. */
  stop(): Promise<void>;
}

/** The child's own program; see the top of the file. Its arguments stay for Azurite to read. */
const CHILD = `
(async () => {
  try { for await (const _ of Deno.stdin.readable); } finally { Deno.exit(0); }
})();
await import("npm:azurite@" + ${JSON.stringify(VERSION)} + "/dist/src/blob/main.js");
`;

/**
 * Starts an emulator and resolves when it answers.
 *
 * @throws if it cannot be downloaded or does not start, with what it said
 */
export async function startAzurite(options: AzuriteOptions = {}): Promise<Azurite> {
  const { port = 0, dataPath, tls, signal, stallMs = 60_000, clock = systemClock } = options;
  signal?.throwIfAborted();
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      // Without these two its 400 packages would land in the lock file of whoever starts it.
      ...["run", "--no-lock", "--no-config", "--node-modules-dir=none"],
      ...["--allow-all", "--no-prompt"],
      `data:application/javascript,${encodeURIComponent(CHILD)}`,
      ...["--blobHost", "127.0.0.1", "--blobPort", String(port), "--silent", "--disableTelemetry"],
      ...(dataPath === undefined ? ["--inMemoryPersistence"] : ["--location", dataPath]),
      ...(tls ? ["--cert", tls.certPath, "--key", tls.keyPath, "--oauth", "basic"] : []),
    ],
    env: { NO_COLOR: "1" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();

  let ended = false;
  const gone = child.status.then((status) => {
    ended = true;
    return status;
  });
  const kill = (how: Deno.Signal) => {
    try {
      if (!ended) child.kill(how);
    } catch {
      // It ended in this very moment.
    }
  };
  const stop = async () => {
    signal?.removeEventListener("abort", abort);
    if (dataPath !== undefined) {
      // It saves its index on this signal; what it does not do in time is not worth waiting for.
      kill("SIGINT");
      const done = new AbortController();
      await Promise.race([
        gone,
        clock.sleep(5000, { signal: done.signal }).catch(() => {}),
      ]);
      done.abort();
    }
    kill("SIGKILL");
    await gone;
    await reading;
    await child.stdin.close().catch(() => {});
  };
  const abort = () => kill("SIGKILL");
  signal?.addEventListener("abort", abort, { once: true });

  const said: string[] = [];
  let boundPort: number | undefined;
  const listen = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    let rest = "";
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        said.push(line);
        if (said.length > 40) said.shift();
        const found = /successfully listens on https?:\/\/[^:]+:(\d+)/.exec(line)?.[1];
        if (found !== undefined) boundPort = Number(found);
      }
    }
    if (rest !== "") said.push(rest);
  };
  const reading = Promise.all([listen(child.stdout), listen(child.stderr)]);

  try {
    const growth = options.onProgress ? await watchCache() : undefined;
    let downloadedBytes = 0;
    let quietSinceMs = clock.monotonic();
    let measuredAtMs = clock.monotonic();
    let lastSaid = "";
    while (boundPort === undefined) {
      if (ended) {
        await reading;
        throw new Error(
          `the Azurite emulator ended before it was ready: ${reasonIn(said)}; ` +
            `it needs npm:azurite@${VERSION} from the registry once, and a free port`,
        );
      }
      await clock.sleep(50, { signal });
      const nowMs = clock.monotonic();
      if (growth && nowMs - measuredAtMs > 1000) {
        const bytes = await growth();
        measuredAtMs = clock.monotonic();
        if (bytes > downloadedBytes) {
          downloadedBytes = bytes;
          quietSinceMs = nowMs;
          options.onProgress?.(bytes);
        }
      }
      const newest = `${said.length} ${said.at(-1)}`;
      if (newest !== lastSaid) {
        lastSaid = newest;
        quietSinceMs = nowMs;
      }
      if (nowMs - quietSinceMs > stallMs) {
        throw new Error(
          `the Azurite emulator has not moved for ${Math.round(stallMs / 1000)} s: ` +
            `${reasonIn(said)}; expected it to start or to be downloaded from the npm registry`,
        );
      }
    }
  } catch (error) {
    kill("SIGKILL");
    await stop();
    signal?.throwIfAborted();
    throw error;
  }

  const scheme = tls ? "https" : "http";
  const blobUrl = `${scheme}://127.0.0.1:${boundPort}/${ACCOUNT}`;
  return {
    connectionString:
      `DefaultEndpointsProtocol=${scheme};AccountName=${ACCOUNT};AccountKey=${KEY};` +
      `BlobEndpoint=${blobUrl};`,
    blobUrl,
    account: ACCOUNT,
    key: KEY,
    port: boundPort,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** What went wrong, out of what the child said; warnings about its packages are not it. */
function reasonIn(said: readonly string[]): string {
  const line = said.find((one) => /error|EADDRINUSE|failed/i.test(one)) ?? said.at(-1) ?? "";
  return line.trim() === "" ? "it said nothing" : `it said ${JSON.stringify(line.trim())}`;
}

/**
 * Is the emulator in Deno's cache, so that a start needs no download? A quick look: the package and
 * what it names as its dependencies, not theirs.
 */
export async function isAzuriteCached(): Promise<boolean> {
  for (const registry of await folders(npmCachePath())) {
    const root = join(npmCachePath(), registry);
    try {
      const text = await Deno.readTextFile(join(root, "azurite", VERSION, "package.json"));
      const { dependencies } = JSON.parse(text) as { dependencies?: Record<string, string> };
      const found = await Promise.all(
        Object.keys(dependencies ?? {}).map(async (name) =>
          (await folders(join(root, name))).length > 0
        ),
      );
      if (found.every(Boolean)) return true;
    } catch {
      // Not in this registry's part of the cache.
    }
  }
  return false;
}

/** Where Deno keeps npm packages, one folder per registry. */
function npmCachePath(): string {
  const set = Deno.env.get("DENO_DIR");
  if (set) return join(set, "npm");
  switch (Deno.build.os) {
    case "darwin":
      return join(homedir(), "Library", "Caches", "deno", "npm");
    case "windows":
      return join(Deno.env.get("LOCALAPPDATA") ?? homedir(), "deno", "npm");
    default:
      return join(Deno.env.get("XDG_CACHE_HOME") ?? join(homedir(), ".cache"), "deno", "npm");
  }
}

async function folders(path: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(path)) if (entry.isDirectory) names.push(entry.name);
  } catch {
    // Not there yet.
  }
  return names;
}

/** The folders of all packages in the cache, each version by itself. */
async function packageFolders(): Promise<string[]> {
  const found: string[] = [];
  const root = npmCachePath();
  for (const registry of await folders(root)) {
    for (const name of await folders(join(root, registry))) {
      const names = name.startsWith("@")
        ? (await folders(join(root, registry, name))).map((inner) => join(name, inner))
        : [name];
      for (const one of names) {
        const versions = await folders(join(root, registry, one));
        found.push(...versions.map((version) => join(root, registry, one, version)));
      }
    }
  }
  return found;
}

/** Gives a function that tells how many bytes of packages have come into the cache since now. */
async function watchCache(): Promise<() => Promise<number>> {
  const before = new Set(await packageFolders());
  /** A package's folder appears when it is whole, so each is measured once. */
  const sizes = new Map<string, number>();
  return async () => {
    for (const path of await packageFolders()) {
      if (!before.has(path) && !sizes.has(path)) sizes.set(path, await folderBytes(path));
    }
    return [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
  };
}

async function folderBytes(path: string): Promise<number> {
  let bytes = 0;
  try {
    for await (const entry of Deno.readDir(path)) {
      const inner = join(path, entry.name);
      bytes += entry.isDirectory ? await folderBytes(inner) : (await Deno.lstat(inner)).size;
    }
  } catch {
    // Moved while it was looked at.
  }
  return bytes;
}
