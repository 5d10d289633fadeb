/**
 * One life of a plugin's child process: started with the rights that were granted, spoken to in
 * frames, and killed when it does not keep to them. Everything that comes from it is parsed here.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { denoPath, programFile, release } from "../program.ts";
import { type Clip, type Clock, type Log, SinkError, type SinkErrorKind } from "../types.ts";
import { PluginError, type PluginGraph } from "./graph.ts";
import {
  BytesFrame,
  type FromPlugin,
  messageFrame,
  MOST_MESSAGE_BYTES,
  type PluginAbout,
  readFrames,
  type StartMessage,
  type ToPlugin,
} from "./messages.ts";
import { deniedAddresses, PROGRAM_VARIABLES, type Rights } from "./rights.ts";

/** How a plugin's process is started. */
export interface ProcessOptions {
  readonly graph: PluginGraph;
  readonly rights: Rights;
  readonly start: Omit<StartMessage, "t" | "plugin" | "permissions">;
  readonly log: Log;
  readonly clock: Clock;
  /** Reads a secret of this sink; throws for any other. */
  readonly reveal: (text: string) => Promise<string>;
  /** Told of hosts that the plugin was refused. */
  readonly onRefused?: (host: string) => void;
  /** Told at once, and once, when it has ended or is ended. */
  readonly onOver?: (why: string) => void;
  /** A folder that it may read besides: in it are the clips that it is handed, and no others. */
  readonly handover?: string;
  /** Most memory of the process, bytes. */
  readonly memoryBytes?: number;
  readonly limits?: PluginLimits;
}

/** How long a plugin is waited for. Tests on a busy machine wait longer than its users do. */
export interface PluginLimits {
  /** To load and open, ms; 60 s by default. */
  readonly startMs?: number;
  /** For one that was told to stop, ms; 1.5 s by default. */
  readonly stopMs?: number;
}

/** A call of the sink's. */
type Call = Extract<ToPlugin, { id: number }> extends infer One
  ? One extends { id: number } ? Omit<One, "id"> : never
  : never;

const MEMORY_BYTES = 512 * 1024 * 1024;
const START_MS = 60_000;
/** One that was told to stop has so long, ms; delivery gives 2 s. */
const STOP_MS = 1500;
/** What a plugin may write past the log, bytes in ten seconds. */
const MOST_STDERR_BYTES = 4 * 1024 * 1024;
const MOST_FRAMES_A_SECOND = 5000;

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly clip?: Clip;
  readonly progress?: (bytes: number) => void;
}

interface Reading {
  readonly iterator: AsyncIterator<Uint8Array>;
  credit: number;
  wake: () => void;
  ended: boolean;
}

/** Variables that a child of ours needs, and no secret of the user's. */
const PASSED =
  /^(DENO_DIR|NPM_CONFIG_REGISTRY|DENO_CERT|NODE_EXTRA_CA_CERTS|DENO_TLS_CA_STORE|SSL_CERT_FILE|SSL_CERT_DIR|TZ|LANG|TMPDIR|TEMP|SystemRoot|XDG_CACHE_HOME|LOCALAPPDATA|(https?|no|all)_proxy)$/i;

/** A plugin's process. */
export class PluginProcess {
  /** Resolves when it has ended, with why. */
  readonly ended: Promise<string>;
  /** What the sink can do beside `put`; known when it is open. */
  can: readonly string[] = [];
  /** When the sink's credential runs out, wall ms, where it has told so. */
  credentialExpiresAtMs: number | undefined;
  readonly #options: ProcessOptions;
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #pending = new Map<number, Pending>();
  readonly #readings = new Map<number, Reading>();
  readonly #started = Promise.withResolvers<PluginAbout | undefined>();
  #lastId = 0;
  #why: string | undefined;
  #isOver = false;

  private constructor(options: ProcessOptions) {
    this.#options = options;
    const deno = denoPath();
    if (deno === undefined) throw new PluginError("this build of Camsink cannot run plugins");
    this.#child = new Deno.Command(deno, {
      args: argumentsOf(options),
      env: environmentOf(options.rights),
      clearEnv: true,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#input.closed.catch(() => {});
    this.#started.promise.catch(() => {});
    void this.#listen();
    void this.#watchErrors();
    this.ended = this.#child.status.then(({ code, signal }) => {
      const why = this.#why ??
        (signal === null
          ? `the plugin ended its process (exit code ${code})`
          : `the plugin's process was ended by ${signal}`);
      this.#finish(why);
      return why;
    });
  }

  /** Starts it and asks what it is, or opens its sink. @throws what the plugin said, or why not */
  static async start(
    options: ProcessOptions,
  ): Promise<{ readonly process: PluginProcess; readonly about?: PluginAbout }> {
    const process = new PluginProcess(options);
    const { graph, start, clock } = options;
    process.#send({
      t: "start",
      ...start,
      plugin: graph.entry,
      permissions: workerPermissions(options),
    });
    const settled = new AbortController();
    const limitMs = options.limits?.startMs ?? START_MS;
    clock.sleep(limitMs, { signal: settled.signal }).then(() => {
      process.kill(`it was not open after ${limitMs / 1000} s`);
    }, () => {});
    try {
      const about = await process.#started.promise;
      return { process, ...(about === undefined ? {} : { about }) };
    } catch (error) {
      process.kill(error instanceof Error ? error.message : String(error));
      throw error;
    } finally {
      settled.abort();
    }
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** The process, as the system knows it. */
  get pid(): number {
    return this.#child.pid;
  }

  /** Calls the sink. One that does not stop when told to is killed. */
  async call(
    message: Call,
    options: {
      readonly signal?: AbortSignal;
      readonly clip?: Clip;
      readonly progress?: (bytes: number) => void;
      /** Most time, ms; a put has none, since delivery watches its progress. */
      readonly limitMs?: number;
    } = {},
  ): Promise<unknown> {
    const { signal, clip, progress, limitMs } = options;
    const { clock, limits } = this.#options;
    const stopMs = limits?.stopMs ?? STOP_MS;
    signal?.throwIfAborted();
    if (this.#isOver) throw new SinkError("retry", this.#why ?? "the plugin has ended");
    const id = ++this.#lastId;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, {
      resolve,
      reject,
      ...(clip ? { clip } : {}),
      ...(progress ? { progress } : {}),
    });
    const settled = new AbortController();
    const stop = () => {
      this.#send({ t: "abort", id, reason: "stopped" });
      clock.sleep(stopMs, { signal: settled.signal }).then(
        () => this.kill(`it did not stop when told to, within ${stopMs / 1000} s`),
        () => {},
      );
    };
    signal?.addEventListener("abort", stop, { once: true });
    if (limitMs !== undefined) {
      clock.sleep(limitMs, { signal: settled.signal }).then(
        () => this.kill(`it gave no answer to ${message.t} within ${limitMs / 1000} s`),
        () => {},
      );
    }
    this.#send({ ...message, id } as ToPlugin);
    try {
      return await promise;
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      settled.abort();
      signal?.removeEventListener("abort", stop);
      this.#pending.delete(id);
    }
  }

  /** Ends it at once. */
  kill(why: string): void {
    this.#why ??= why;
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // gone already
    }
    this.#finish(this.#why);
  }

  #finish(why: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#why ??= why;
    this.#options.onOver?.(why);
    const error = new SinkError("retry", `the plugin was ended: ${why}`);
    this.#started.reject(error);
    for (const { reject } of this.#pending.values()) reject(error);
    for (const reading of this.#readings.values()) {
      reading.ended = true;
      reading.wake();
    }
    this.#input.abort().catch(() => {});
  }

  #send(message: ToPlugin): void {
    if (this.#isOver) return;
    this.#input.write(messageFrame(message)).catch(() => {}); // its end is noticed elsewhere
  }

  async #listen(): Promise<void> {
    let frames = 0;
    let sinceMs = this.#options.clock.monotonic();
    try {
      for await (const frame of readFrames(this.#child.stdout, MOST_MESSAGE_BYTES)) {
        const nowMs = this.#options.clock.monotonic();
        if (nowMs - sinceMs > 1000) {
          sinceMs = nowMs;
          frames = 0;
        }
        if (++frames > MOST_FRAMES_A_SECOND) return this.kill("it floods Camsink with messages");
        if (!("message" in frame)) return this.kill("it sent bytes, which no plugin does");
        this.#hear(frame.message);
      }
    } catch (error) {
      if (!this.#isOver) {
        this.kill(`it wrote to its standard output, which is not its own: ${String(error)}`);
      }
    }
  }

  #hear(value: unknown): void {
    const message = value as FromPlugin & Record<string, unknown>;
    if (typeof message !== "object" || message === null) return this.kill("it sent no message");
    const id = Number(message.id);
    switch (message.t) {
      case "described":
        return this.#started.resolve(message.about);
      case "opened":
        this.can = Array.isArray(message.can) ? message.can.map(String) : [];
        return this.#started.resolve(undefined);
      case "failed":
        // What its open() threw has a kind, as what its put() throws has.
        return this.#started.reject(
          message.why === "open" ? errorOf(message) : new PluginError(String(message.message)),
        );
      case "result":
        return this.#pending.get(id)?.resolve(message.value);
      case "error":
        return this.#pending.get(id)?.reject(errorOf(message));
      case "progress":
        return this.#pending.get(id)?.progress?.(Number(message.bytes));
      case "expiry": {
        const { atMs } = message;
        this.credentialExpiresAtMs = Number.isFinite(atMs) ? Number(atMs) : undefined;
        return;
      }
      case "read": {
        const clip = this.#pending.get(id)?.clip;
        if (clip !== undefined) {
          void this.#feed(clip, Number(message.stream), Number(message.fromByte));
        }
        return;
      }
      case "pull": {
        const reading = this.#readings.get(Number(message.stream));
        if (reading !== undefined && Number(message.bytes) > 0) {
          reading.credit += Number(message.bytes);
          reading.wake();
        }
        return;
      }
      case "drop": {
        const reading = this.#readings.get(Number(message.stream));
        if (reading === undefined) return;
        reading.ended = true;
        reading.wake();
        return;
      }
      case "secret":
        return void this.#tellSecret(Number(message.ask), String(message.text));
      case "log": {
        const { level } = message;
        if (level !== "debug" && level !== "info" && level !== "warn" && level !== "error") return;
        const properties = typeof message.properties === "object" ? message.properties : undefined;
        return this.#options.log[level](String(message.message).slice(0, 2000), {
          ...properties,
          from: "plugin",
        });
      }
      case "refused":
        return this.#options.onRefused?.(String(message.host).slice(0, 300));
      case "dying":
        return this.kill(String(message.message).slice(0, 1000));
      default:
        return this.kill(`it sent a message of the unknown kind ${String(message["t"])}`);
    }
  }

  /**
   * Sends a clip's bytes as they are asked for. What comes while a frame is on its way is gathered in
   * the next one: many small writes cost more than the bytes. What comes slowly is sent as it comes.
   */
  async #feed(clip: Clip, stream: number, fromByte: number): Promise<void> {
    let wake = Promise.withResolvers<void>();
    const reading: Reading = {
      iterator: clip.open(Math.max(0, Math.floor(fromByte) || 0))[Symbol.asyncIterator](),
      credit: 0,
      ended: false,
      wake: () => wake.resolve(),
    };
    this.#readings.set(stream, reading);
    let frame = new BytesFrame(stream);
    let writing: Promise<void> | undefined;
    let error: unknown;
    const flush = (): void => {
      const bytes = frame.whole();
      frame = new BytesFrame(stream);
      writing = this.#input.write(bytes).then(() => {
        writing = undefined;
        if (frame.length > 0) flush();
      }, () => {
        writing = undefined;
        reading.ended = true; // its end is told elsewhere
      });
    };
    try {
      for (;;) {
        while (reading.credit <= 0 && !reading.ended) {
          await wake.promise;
          wake = Promise.withResolvers<void>();
        }
        if (reading.ended) break;
        const next = await reading.iterator.next();
        if (next.done === true) break;
        reading.credit -= next.value.length;
        for (let from = 0; from < next.value.length;) {
          from += frame.add(next.value.subarray(from));
          if (writing === undefined) flush();
          else if (frame.isFull) await writing;
        }
      }
    } catch (cause) {
      error = cause;
    } finally {
      await reading.iterator.return?.().catch(() => {});
      while (writing !== undefined && !this.#isOver) await writing;
      this.#readings.delete(stream);
      const said = error instanceof Error ? error.message : error && String(error);
      this.#send({ t: "end", stream, ...(said === undefined ? {} : { error: String(said) }) });
    }
  }

  async #tellSecret(ask: number, text: string): Promise<void> {
    try {
      this.#send({ t: "secret", ask, value: await this.#options.reveal(text) });
    } catch (error) {
      this.#send({
        t: "secret",
        ask,
        error: error instanceof Error ? error.message : String(error),
      });
    }
  }

  /** Deno's own words, such as those of a crash; the last of them tell why it ended. */
  async #watchErrors(): Promise<void> {
    const decoder = new TextDecoder();
    const { clock, log } = this.#options;
    let bytes = 0;
    let lines = 0;
    let sinceMs = clock.monotonic();
    try {
      for await (const part of this.#child.stderr) {
        if (clock.monotonic() - sinceMs > 10_000) {
          sinceMs = clock.monotonic();
          bytes = lines = 0;
        }
        bytes += part.length;
        if (bytes > MOST_STDERR_BYTES) return this.kill("it floods the log");
        for (const line of decoder.decode(part.subarray(0, 4000)).split("\n")) {
          // deno-lint-ignore no-control-regex -- colours
          const text = line.replaceAll(/\x1b\[[0-9;]*m/g, "").trim();
          if (text !== "" && lines++ < 20) log.debug(text, { from: "plugin" });
          if (/Fatal JavaScript .*out of memory|heap limit/i.test(text)) {
            this.#why ??= "it uses more memory than is allowed";
          }
        }
      }
    } catch {
      // ended
    }
  }
}

function errorOf(message: Readonly<Record<string, unknown>>): SinkError {
  const { retryAfterMs } = message;
  return new SinkError(kindOf(message.kind), String(message.message).slice(0, 4000), {
    ...(typeof retryAfterMs === "number" && retryAfterMs >= 0 ? { retryAfterMs } : {}),
  });
}

function kindOf(kind: unknown): SinkErrorKind {
  return kind === "auth" || kind === "full" || kind === "permanent" || kind === "conflict"
    ? kind
    : "retry";
}

function argumentsOf(
  { graph, rights, start, handover, memoryBytes = MEMORY_BYTES }: ProcessOptions,
): string[] {
  const scratch = some(start.scratch);
  const read = [
    ...graph.files,
    ...graph.packageFolders,
    // A release is Camsink and nothing else; a clone may have the user's files beside it.
    ...(release ? ["./"] : ["core/", "mod.ts"]).map((path) => fileURLToPath(programFile(path))),
    ...rights.read,
    ...scratch,
    ...some(handover),
  ];
  const write = [...rights.write, ...scratch];
  const flag = (name: string, values: readonly string[]) =>
    values.length === 0 ? [] : [`--${name}=${values.map(escapeComma).join(",")}`];
  return [
    ...["run", "--quiet", "--no-prompt", "--no-config", "--no-lock", "--no-check", "--no-remote"],
    ...["--cached-only", "--node-modules-dir=none", "--unstable-worker-options", "--allow-env"],
    ...["--allow-sys=osRelease,hostname,homedir,uid,gid,cpus"],
    ...["--import-map", graph.importMap],
    `--v8-flags=--max-old-space-size=${Math.round(memoryBytes / 2 / 2 ** 20)}`,
    ...flag("allow-read", read),
    ...flag("allow-write", write),
    ...flag("allow-run", rights.run),
    ...flag("allow-net", rights.hosts),
    ...flag("deny-net", deniedAddresses(rights.hosts)),
    fileURLToPath(programFile("core/plugins/child.ts")),
    String(memoryBytes),
  ];
}

/** A comma in a path would be two paths. */
function escapeComma(value: string): string {
  return value.replaceAll(",", ",,");
}

function some(value: string | undefined): readonly string[] {
  return value === undefined ? [] : [value];
}

function workerPermissions(
  { rights, start, handover }: ProcessOptions,
): Readonly<Record<string, unknown>> {
  const orNone = (values: readonly string[]) => values.length === 0 ? false : [...values];
  return {
    // The process has next to none left by then; see child.ts.
    env: true,
    ffi: false,
    import: false,
    net: orNone(rights.hosts),
    read: orNone([...rights.read, ...some(start.scratch), ...some(handover)]),
    run: orNone(rights.run),
    sys: ["osRelease", "hostname", "homedir", "uid", "gid", "cpus"],
    write: orNone([...rights.write, ...some(start.scratch)]),
  };
}

function environmentOf(rights: Rights): Record<string, string> {
  const needed = rights.run.length > 0;
  return {
    ...Object.fromEntries(
      Object.entries(Deno.env.toObject()).filter(([name]) =>
        PASSED.test(name) || name === "HOME" || needed && PROGRAM_VARIABLES.test(name)
      ),
    ),
    DENO_NO_UPDATE_CHECK: "1",
    DENO_NO_PACKAGE_JSON: "1",
    NO_COLOR: "1",
  };
}
