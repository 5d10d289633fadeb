/**
 * The sink that hands each clip to a program, on its standard input. The clip's metadata is in the
 * program's environment, its exit code is the remedy. `"rclone": "remote:folder"` stands for the
 * programs that store by rclone, and so in any of its back ends.
 *
 * A clip is put under a hidden name and given its own by `commit`, so that a program that is ended in
 * the middle leaves nothing under the key.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { env } from "node:process";
import * as v from "valibot";
import {
  type Clip,
  defineSink,
  keyParts,
  provenBytes,
  type PutOptions,
  type PutResult,
  type Secret,
  secret,
  type Sink,
  SinkError,
  type SinkErrorKind,
  sinkErrorKind,
  type SinkPlugin,
  type StoredObject,
} from "camsink";

/** Options of the `command` sink: `rclone`, or at least `put`. */
export interface CommandOptions {
  /** An rclone remote with a folder, in place of all programs. */
  readonly rclone?: string;
  /** Stores what is on its standard input under `{part}`, or under `{key}` where there is no `commit`. */
  readonly put?: readonly string[];
  /** Renames `{part}` to `{key}`. */
  readonly commit?: readonly string[];
  /** Prints the stored object's size in bytes, or JSON with `Size`; ends with 3 or 4 if there is none. */
  readonly stat?: readonly string[];
  /** Prints the stored object's SHA-256 first. */
  readonly hash?: readonly string[];
  /** Removes it. */
  readonly remove?: readonly string[];
  /** Proves that a clip could be stored. */
  readonly check?: readonly string[];
  /** Put into the programs' environment, by name. */
  readonly secrets: Readonly<Record<string, Secret>>;
}

const argv = (what: string) =>
  v.optional(v.pipe(
    v.array(v.string("expected a text"), 'expected a program and its arguments: ["program", "…"]'),
    v.minLength(1, "expected a program and its arguments"),
    v.description(what),
  ));

const schema = v.pipe(
  v.strictObject({
    rclone: v.optional(v.pipe(
      v.string('expected an rclone remote, such as "drive:cameras"'),
      v.regex(/^[^-].*:|^:/, 'expected an rclone remote, such as "drive:cameras"'),
      v.description("An rclone remote with a folder, in place of all programs."),
    )),
    put: argv("Stores its standard input under `{part}`, or `{key}` where there is no `commit`."),
    commit: argv("Renames `{part}` to `{key}`."),
    stat: argv("Prints the size in bytes; ends with 3 or 4 if nothing is there."),
    hash: argv("Prints the SHA-256 of `{key}`."),
    remove: argv("Removes `{key}`."),
    check: argv("Proves that a clip could be stored."),
    secrets: v.optional(
      v.pipe(
        v.record(
          v.pipe(v.string(), v.regex(/^[A-Z_][A-Z0-9_]*$/, "expected a variable's name")),
          secret(),
        ),
        v.description("Secrets for the programs' environment, by variable."),
      ),
      {},
    ),
  }),
  v.check(
    ({ rclone, put }) => (rclone === undefined) !== (put === undefined),
    'expected either "rclone": "remote:folder", or "put": ["program", "arguments"]',
  ),
  v.description("Any program; with `rclone` any of its back ends."),
);

/** The `command` sink. */
const command: SinkPlugin<CommandOptions> = defineSink<CommandOptions>({
  name: "command",
  config: schema,
  net: () => [], // what a program reaches is its own affair: `run` is granted for it
  needs: (config) => {
    const { put, commit, stat, hash, remove, check } = programsOf(config);
    const all = [put, commit, stat, hash, remove, check].flatMap((one) => one?.[0] ?? []);
    return { run: [...new Set(all)] };
  },
  open: ({ config }): Sink => openCommand(config),
});
export default command;

type Programs = Pick<CommandOptions, "put" | "commit" | "stat" | "hash" | "remove" | "check">;

function programsOf(config: CommandOptions): Programs {
  if (config.rclone === undefined) return config;
  const remote = config.rclone.replace(/\/+$/, "");
  const place = `${remote}${remote.endsWith(":") ? "" : "/"}`;
  const rclone = (
    ...args: string[]
  ) => ["rclone", ...args, "--retries", "1", "--low-level-retries", "1"];
  return {
    put: rclone("rcat", `${place}{part}`),
    commit: rclone("moveto", `${place}{part}`, `${place}{key}`),
    stat: rclone("lsjson", "--stat", `${place}{key}`),
    hash: rclone("hashsum", "SHA256", "--download", `${place}{key}`),
    remove: rclone("deletefile", `${place}{key}`),
    check: rclone("lsjson", "--max-depth", "1", remote),
  };
}

function openCommand(config: CommandOptions): Sink {
  const programs = programsOf(config);
  const stat = async (key: string, signal: AbortSignal): Promise<StoredObject | undefined> => {
    if (programs.stat === undefined) return undefined;
    const { code, out } = await run(programs.stat, { config, key, signal });
    if (code === 3 || code === 4) return undefined;
    if (code !== 0) throw failure(code, programs.stat, `cannot look up ${key}`);
    const bytes = /^\s*(\d+)\s*$/.exec(out)?.[1] ?? /"Size":\s*(\d+)/.exec(out)?.[1];
    return bytes === undefined ? undefined : { bytes: Number(bytes) };
  };

  const removePart = async (key: string, signal: AbortSignal): Promise<void> => {
    const { commit, remove } = programs;
    if (commit !== undefined && remove !== undefined) {
      await run(remove, { config, key: partOf(key), signal });
    }
  };

  const put = async (clip: Clip, options: PutOptions): Promise<PutResult> => {
    const { signal } = options;
    signal.throwIfAborted();
    const { put, commit, hash } = programs;
    if (put === undefined) throw new SinkError("permanent", 'there is no "put"');
    const what = `cannot store ${clip.key}`;
    const known = await stat(clip.key, signal);
    if (known !== undefined) {
      const { out } = known.bytes === clip.bytes && hash !== undefined
        ? await run(hash, { config, key: clip.key, signal })
        : { out: known.bytes === clip.bytes ? clip.sha256 : "" };
      if (out.trim().toLowerCase().startsWith(clip.sha256)) return { state: "already-there" };
      throw new SinkError(
        "conflict",
        `${clip.key} is taken by something else; it is left as it is`,
      );
    }
    try {
      const sent = await run(put, { config, key: clip.key, signal, clip, options });
      if (sent.code !== 0) throw failure(sent.code, put, what);
    } catch (error) {
      const kind = sinkErrorKind(error);
      if (!signal.aborted && (kind === "permanent" || kind === "full")) {
        // No later try will replace what was sent so far; what is in the way here is told already.
        await removePart(clip.key, signal).catch(() => {});
      }
      throw error;
    }
    if (commit !== undefined) {
      const { code } = await run(commit, { config, key: clip.key, signal, clip });
      if (code !== 0) throw failure(code, commit, what);
    }
    options.progress(clip.bytes);
    return { state: "stored" };
  };

  return {
    put,
    ...(programs.stat ? { stat: (key, { signal }) => stat(key, signal) } : {}),
    ...(programs.remove
      ? {
        remove: async (key, { signal }) => {
          // rclone has no code of its own for removing what is not there.
          if (programs.stat && await stat(key, signal) === undefined) return;
          const { code } = await run(programs.remove ?? [], { config, key, signal });
          if (code !== 0 && code !== 3 && code !== 4) {
            throw failure(code, programs.remove ?? [], `cannot remove ${key}`);
          }
        },
      }
      : {}),
    ...(programs.check
      ? {
        check: async ({ signal }) => {
          const { code } = await run(programs.check ?? [], { config, key: "check", signal });
          if (code !== 0) throw failure(code, programs.check ?? [], "the check failed");
        },
      }
      : {}),
  };
}

const OUTPUT_CHARACTERS = 64 * 1024;
const KILL_MS = 2000;

/** Runs a program to its end; an abort ends it, first kindly. */
async function run(
  [program = "", ...args]: readonly string[],
  { config, key, signal, clip, options }: {
    readonly config: CommandOptions;
    readonly key: string;
    readonly signal: AbortSignal;
    readonly clip?: Clip;
    readonly options?: PutOptions;
  },
): Promise<{ readonly code: number; readonly out: string }> {
  signal.throwIfAborted();
  const part = partOf(key);
  const fill = (text: string) =>
    text.replaceAll(/\{(key|part)\}/g, (_, name) => name === "key" ? key : part);
  const child = spawn(program, args.map(fill), {
    stdio: ["pipe", "pipe", "ignore"],
    env: { ...inherited(), ...await secretsOf(config), ...metadataOf(key, clip, options) },
  });
  let out = "";
  child.stdout.on("data", (data) => out = (out + data).slice(0, OUTPUT_CHARACTERS));
  child.stdin.on("error", () => {}); // its exit code says more
  let over = false;
  const ended = new Promise<number>((resolve) => {
    child.on("error", () => resolve(127));
    child.on("close", (code) => resolve(code ?? 75));
  }).finally(() => over = true);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const abort = () => {
    child.kill("SIGTERM");
    timer = setTimeout(() => child.kill("SIGKILL"), KILL_MS);
  };
  signal.addEventListener("abort", abort, { once: true });
  try {
    if (clip !== undefined && options !== undefined) {
      for await (const chunk of provenBytes(clip, options)) {
        if (over) break;
        await Promise.race([
          ended,
          new Promise<void>((done) => child.stdin.write(chunk, () => done())),
        ]);
      }
    }
    child.stdin.end();
    const code = await ended;
    signal.throwIfAborted();
    return { code, out };
  } catch (error) {
    child.kill("SIGKILL"); // a damaged clip must not come to its end
    await ended;
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
    clearTimeout(timer);
  }
}

/** `a/b.mp4` → `a/.b.mp4.part`. */
function partOf(key: string): string {
  const parts = keyParts(key);
  return [...parts.slice(0, -1), `.${parts.at(-1)}.part`].join("/");
}

/** What programs need to be found and to find their settings. */
function inherited(): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const name of ["PATH", "HOME", "USER", "LANG", "XDG_CONFIG_HOME", "RCLONE_CONFIG"]) {
    try {
      const value = env[name];
      if (value !== undefined) kept[name] = value;
    } catch {
      // A plugin that runs isolated sees no environment.
    }
  }
  return kept;
}

async function secretsOf({ secrets }: CommandOptions): Promise<Record<string, string>> {
  const values: Record<string, string> = {};
  for (const [name, secret] of Object.entries(secrets)) {
    try {
      values[name] = await secret.reveal();
    } catch (error) {
      throw new SinkError("auth", error instanceof Error ? error.message : String(error));
    }
  }
  return values;
}

function metadataOf(key: string, clip?: Clip, options?: PutOptions): Record<string, string> {
  if (clip === undefined) return { CAMSINK_KEY: key };
  return {
    CAMSINK_KEY: key,
    CAMSINK_CAMERA: clip.camera.replaceAll("\0", "").toWellFormed(),
    CAMSINK_START: clip.start.toISOString(),
    CAMSINK_END: clip.end.toISOString(),
    CAMSINK_BYTES: String(clip.bytes),
    CAMSINK_SHA256: clip.sha256,
    CAMSINK_CONTENT_TYPE: clip.contentType,
    CAMSINK_ATTEMPT: String(options?.attempt ?? 1),
  };
}

/** By sysexits(3); rclone's 5 to 8 are its own. */
const CODES: Readonly<Record<number, SinkErrorKind>> = {
  64: "permanent",
  65: "permanent",
  73: "full",
  77: "auth",
  78: "auth",
};
const RCLONE_CODES: Readonly<Record<number, SinkErrorKind>> = { 7: "auth", 8: "full" };

function failure(code: number, [program = ""]: readonly string[], what: string): SinkError {
  if (code === 127) return new SinkError("auth", `${what}: the program ${program} is not there`);
  const kind = (program === "rclone" ? RCLONE_CODES[code] : CODES[code]) ?? "retry";
  return new SinkError(kind, `${what}: ${program} ended with code ${code}`);
}
