/**
 * What a case of the conformance kit works with: the sink under test, the proxy before its server,
 * the store seen past the sink, and an ear that hears everything that the sink says.
 *
 * @module
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../core/clock.ts";
import {
  type Clip,
  type Log,
  type PutOptions,
  type PutResult,
  type Sink,
  type SinkErrorKind,
  sinkErrorKind,
  type StoredObject,
} from "../core/types.ts";
import { type FaultProxy, type ProxyFault, startFaultProxy } from "../simulators/fault_proxy.ts";
import { startTcpFaultProxy, type TcpFaultProxy } from "../simulators/tcp_fault_proxy.ts";
import { clipOnDisk, measure, type TestClip } from "./clips.ts";
import type { SinkTestObject, SinkTestServer } from "./contract.ts";
import type { OpenedSink, SinkHost } from "./open_sink.ts";

/** A case did not hold; its message says what was seen and what was expected. */
export class CaseFailed extends Error {}

/** A case has nothing to hold here; its message says why. */
export class NotApplicable extends Error {}

/** What is measured of an object. */
export interface Measured {
  readonly bytes: number;
  readonly sha256: string;
  /** The first 64 KiB as text, for stores that are told of events. */
  readonly text: string;
}

/** A put that was started. */
export interface Outcome {
  readonly result?: PutResult;
  readonly error?: unknown;
}

const look = () => ({ signal: new AbortController().signal, camera: "Kit yard" });

/** The world of one run. */
export class Bench implements AsyncDisposable {
  readonly server: SinkTestServer;
  readonly host: SinkHost;
  /** Before a server that speaks HTTP. */
  readonly http: FaultProxy | undefined;
  /** Before any other server. */
  readonly tcp: TcpFaultProxy | undefined;
  /** Everything that the sink said, in logs, errors and results. */
  readonly said: string[] = [];
  /** What a case wants told though it passed. */
  readonly notes: string[] = [];
  /** What has to end soon ends within this, ms: real time, so generous. */
  readonly soonMs: number;
  /** What has to end at all, ms. */
  readonly answerMs: number;
  readonly #folder: string;
  readonly #opened: OpenedSink[] = [];
  readonly #keys = new Set<string>();
  #shared: Promise<OpenedSink> | undefined;
  #wrong: Promise<OpenedSink> | undefined;
  #endings = 0;
  readonly #refused: string[] = [];

  private constructor(
    made: Pick<Bench, "server" | "host" | "http" | "tcp" | "soonMs"> & { readonly folder: string },
  ) {
    this.server = made.server;
    this.host = made.host;
    this.http = made.http;
    this.tcp = made.tcp;
    this.soonMs = made.soonMs;
    this.answerMs = Math.max(30_000, 4 * made.soonMs);
    this.#folder = made.folder;
  }

  /** Puts the proxy before the server. */
  static async start(
    host: SinkHost,
    server: SinkTestServer,
    { soonMs = 5000 }: { readonly soonMs?: number } = {},
  ): Promise<Bench> {
    const { url } = server;
    const isHttp = url !== undefined && /^https?:/.test(url);
    const bench = new Bench({
      host,
      server,
      soonMs,
      folder: await mkdtemp(join(tmpdir(), "camsink-kit-")),
      http: isHttp ? await startFaultProxy({ target: new URL(url).origin }) : undefined,
      tcp: url !== undefined && !isHttp ? await startTcpFaultProxy({ target: url }) : undefined,
    });
    await bench.setSecrets(server.secrets ?? {});
    return bench;
  }

  /** The server's address by way of the proxy; empty where there is no network. */
  get url(): string {
    const { url } = this.server;
    if (url === undefined) return "";
    const own = new URL(url);
    const proxied = new URL(this.http?.url ?? this.tcp?.url ?? url);
    own.host = proxied.host;
    return this.http ? own.href.replace(/^https:/, "http:") : own.href;
  }

  get #secretsFolder(): string {
    return join(this.#folder, "secrets");
  }

  /** Changes what the sink's secrets are from now on. */
  async setSecrets(secrets: Readonly<Record<string, string>>): Promise<void> {
    await mkdir(this.#secretsFolder, { recursive: true });
    for (const [name, value] of Object.entries(secrets)) {
      await writeFile(join(this.#secretsFolder, name), value, { mode: 0o600 });
    }
  }

  /** A clip of so many bytes whose file lies on this machine, as those of Camsink do. */
  async clipOnDisk(bytes: number): Promise<TestClip> {
    return await clipOnDisk(bytes, this.#folder);
  }

  /** Values that look like the right ones and are not. */
  wrongSecrets(): Record<string, string> {
    return Object.fromEntries(
      Object.entries(this.server.secrets ?? {}).map(([name, value]) => [
        name,
        this.server.wrongSecrets?.[name] ?? spoiled(value),
      ]),
    );
  }

  /** The sink's options, as they stand in a configuration. */
  config(url: string = this.url): Record<string, unknown> {
    const secrets = Object.keys(this.server.secrets ?? {})
      .map((name) => [name, `file:${join(this.#secretsFolder, name)}`] as const);
    return { ...this.server.config(url), ...Object.fromEntries(secrets) };
  }

  /** Opens one more sink; it is ended when the run is. */
  async open(url: string = this.url): Promise<OpenedSink> {
    const opened = await this.host.open({ config: this.config(url), log: this.#log() });
    this.#opened.push(opened);
    return opened;
  }

  /** The sink that most cases share: to start one for each would take longer than all cases. */
  async opened(): Promise<OpenedSink> {
    this.#shared ??= this.open();
    return await this.#shared;
  }

  /** The same, without what is known of it. */
  async sink(): Promise<Sink> {
    return (await this.opened()).sink;
  }

  /** Ends the shared sink as a crash would, without `close`, and gives the one that takes its place. */
  async restarted(): Promise<Sink> {
    await (await this.opened()).dispose();
    this.#shared = this.open();
    return await this.sink();
  }

  /** Another sink, opened with credentials that are refused; a case may find the one of another. */
  async wronglyOpened(): Promise<OpenedSink> {
    this.#wrong ??= this.open();
    return await this.#wrong;
  }

  /** The next case gets a new one. */
  async renew(): Promise<void> {
    this.#shared = this.#wrong = undefined;
    for (const { sink, dispose } of this.#opened.splice(0)) {
      await within(this.soonMs, "close", sink.close?.() ?? Promise.resolve()).catch(() => {});
      await dispose();
    }
    this.#endings = 0;
  }

  /** Every host that was reached for without being declared. */
  get undeclared(): readonly string[] {
    return [...this.#refused, ...this.#opened.flatMap(({ undeclared }) => undeclared)];
  }

  /** Puts a clip and waits for what comes of it; hears what is said. */
  async put(
    clip: Clip,
    options: Partial<PutOptions> & { readonly on?: Sink; readonly limitMs?: number } = {},
  ): Promise<Outcome> {
    // A busy machine or a distant store may be as slow as 4 MB/s and yet do all right.
    const { on, limitMs = this.answerMs + clip.bytes / 4000, ...rest } = options;
    const sink = on ?? await this.sink();
    this.#keys.add(clip.key);
    try {
      const result = await within(
        limitMs,
        "put",
        Promise.resolve().then(() =>
          sink.put(clip, {
            signal: new AbortController().signal,
            attempt: 1,
            progress: () => {},
            ...rest,
          })
        ),
      );
      this.#hear(result);
      return { result };
    } catch (error) {
      if (error instanceof CaseFailed) throw error;
      this.#hear(error);
      const host = refusedHost(error);
      if (host !== undefined) this.#refused.push(host);
      this.#expectAlive();
      return { error };
    }
  }

  /** What Camsink had to end, or what ended itself, has not done what the case asks for. */
  #expectAlive(): void {
    const endings = this.#opened.flatMap((one) => one.endings);
    const why = endings[this.#endings];
    this.#endings = endings.length;
    if (why !== undefined) {
      throw new CaseFailed(`the sink's process was ended: ${why}; expected it to live on`);
    }
  }

  /**
   * Waits until a put meets the fault that was set: a request, or bytes of a connection, have come to
   * the proxy since `seen`. One that has settled will not.
   */
  async reached(put: Promise<Outcome>, seen: number): Promise<void> {
    let isOver = false;
    const over = () => void (isOver = true);
    put.then(over, over);
    while (!isOver && this.seen === seen) await systemClock.sleep(10);
  }

  /** How much has come to the proxy so far: for {@linkcode Bench.reached}. */
  get seen(): number {
    return this.http?.requests.length ?? this.tcp?.takenBytes ?? 0;
  }

  /** A put that is awaited later, when something else was done: what fails meanwhile is told then. */
  begin(...put: Parameters<Bench["put"]>): Promise<Outcome> {
    const outcome = this.put(...put);
    outcome.catch(() => {});
    return outcome;
  }

  /** Puts a clip that must be taken. */
  async mustPut(
    clip: Clip,
    options: Parameters<Bench["put"]>[1] = {},
  ): Promise<PutResult> {
    const { result, error } = await this.put(clip, options);
    if (result === undefined) {
      throw new CaseFailed(`put was refused: ${brief(error)}; expected it to store the clip`);
    }
    if (result.state !== "stored" && result.state !== "already-there") {
      throw new CaseFailed(
        `put gave the state ${JSON.stringify(result.state)}; expected "stored" or "already-there"`,
      );
    }
    return result;
  }

  /**
   * Puts a clip after a try that was cut off. A server may need a moment to notice that, and say
   * "locked" until then: `retry` is an answer, as it is for delivery.
   */
  async mustPutAgain(
    clip: Clip,
    options: Parameters<Bench["put"]>[1] = {},
  ): Promise<PutResult> {
    const untilMs = systemClock.monotonic() + this.answerMs;
    let attempt = 2;
    for (; systemClock.monotonic() < untilMs; attempt++) {
      const { result, error } = await this.put(clip, { ...options, attempt });
      if (result !== undefined) return result;
      if (sinkErrorKind(error) !== "retry") break;
      await systemClock.sleep(200);
    }
    return await this.mustPut(clip, { ...options, attempt });
  }

  /** Puts a clip that must fail, and with this kind. */
  async mustFail(
    clip: Clip,
    kind: SinkErrorKind,
    options: Parameters<Bench["put"]>[1] = {},
  ): Promise<unknown> {
    const { result, error } = await this.put(clip, options);
    if (result !== undefined) {
      throw new CaseFailed(
        `put said ${JSON.stringify(result.state)}; expected it to fail with the kind "${kind}"`,
      );
    }
    const got = sinkErrorKind(error);
    if (got !== kind) {
      throw new CaseFailed(
        `put failed with the kind "${got}" (${brief(error)}); expected the kind "${kind}"`,
      );
    }
    return error;
  }

  /** Calls `stat`. */
  async stat(key: string, sink?: Sink): Promise<StoredObject | undefined> {
    const on = sink ?? await this.sink();
    return await within(
      this.answerMs,
      "stat",
      on.stat?.(key, look()) ?? Promise.resolve(undefined),
    );
  }

  /** Calls `remove`. */
  async remove(key: string): Promise<void> {
    const sink = await this.sink();
    await within(this.answerMs, "remove", sink.remove?.(key, look()) ?? Promise.resolve());
  }

  /** Calls `check`; gives what it threw. */
  async check(sink?: Sink): Promise<{ readonly error?: unknown }> {
    const on = sink ?? await this.sink();
    try {
      await within(this.answerMs, "check", on.check?.(look()) ?? Promise.resolve());
      return {};
    } catch (error) {
      if (error instanceof CaseFailed) throw error;
      this.#hear(error);
      return { error };
    }
  }

  /** What is in the store now; what was there is told apart later. `undefined` if nobody can look. */
  async names(): Promise<ReadonlyMap<string, SinkTestObject> | undefined> {
    const objects = await this.server.objects?.();
    return objects && new Map(objects.map((object) => [object.name, object]));
  }

  /** What was added to the store since then. */
  async added(
    before: ReadonlyMap<string, SinkTestObject> | undefined,
  ): Promise<readonly Measured[] | undefined> {
    const now = await this.names();
    if (before === undefined || now === undefined) return undefined;
    const added: Measured[] = [];
    for (const [name, object] of now) {
      if (!before.has(name)) added.push(await measured(object));
    }
    return added;
  }

  /** Proves that since then exactly this clip has come into the store. */
  async expectOnly(before: ReadonlyMap<string, SinkTestObject> | undefined, clip: TestClip) {
    await this.expectAll(before, [clip]);
  }

  /** Proves that since then exactly these clips have come into the store. */
  async expectAll(
    before: ReadonlyMap<string, SinkTestObject> | undefined,
    clips: readonly TestClip[],
  ): Promise<void> {
    const added = await this.added(before);
    if (added === undefined) {
      for (const clip of clips) await this.#believe(clip);
      return;
    }
    const [first] = clips;
    if (added.length === 0 && first !== undefined) {
      throw new CaseFailed(
        `put said that it holds ${first.bytes} bytes, but nothing is in the store`,
      );
    }
    if (added.length !== clips.length) {
      throw new CaseFailed(
        `${added.length} objects are in the store (${
          added.map(({ bytes }) => `${bytes} bytes`).join(", ")
        }); expected exactly ${clips.length === 1 ? "one" : clips.length}`,
      );
    }
    const left = [...added];
    for (const clip of clips) {
      const at = left.findIndex((object) => this.isOf(object, clip));
      if (at < 0) throw new CaseFailed(this.#difference(left, clip));
      left.splice(at, 1);
    }
  }

  /** Whether an object is this clip, or the event that tells of it. */
  isOf({ bytes, sha256, text }: Measured, clip: TestClip): boolean {
    return this.server.carries === "events"
      ? text.includes(clip.key) && text.includes(clip.sha256)
      : bytes === clip.bytes && sha256 === clip.sha256;
  }

  #difference([object, ...more]: readonly Measured[], clip: TestClip): string {
    if (object === undefined || more.length > 0) {
      return `${clip.key} (${clip.bytes} bytes) is not in the store byte for byte`;
    }
    if (this.server.carries === "events") {
      return `the event ${brief(object.text)} lacks the clip's key (${clip.key}) or SHA-256`;
    }
    if (object.bytes !== clip.bytes) {
      return `the store holds ${object.bytes} bytes of a clip of ${clip.bytes}, though put said stored`;
    }
    return `the store holds ${object.bytes} bytes that are not the clip's: SHA-256 ` +
      `${object.sha256.slice(0, 12)}…, expected ${clip.sha256.slice(0, 12)}…`;
  }

  async #believe(clip: TestClip): Promise<void> {
    const sink = await this.sink();
    if (sink.stat === undefined) {
      this.note("nobody can look into the store: no objects() in the test, no stat in the sink");
      return;
    }
    const found = await this.stat(clip.key);
    if (found?.bytes !== clip.bytes) {
      throw new CaseFailed(
        `stat finds ${found === undefined ? "nothing" : `${found.bytes} bytes`}; expected ` +
          `${clip.bytes} bytes`,
      );
    }
    if (found.sha256 !== undefined && found.sha256 !== clip.sha256) {
      throw new CaseFailed(`stat finds other bytes than the clip's (SHA-256 ${found.sha256})`);
    }
    this.note("seen by the sink's own stat only: the test has no objects()");
  }

  /** Something to tell though the case passed. */
  note(text: string): void {
    if (!this.notes.includes(text)) this.notes.push(text);
  }

  /** Every request or connection from now on meets this. */
  fail(fault: ProxyFault | undefined): void {
    if (this.http) this.http.decide = fault && (() => fault);
  }

  /** No fault any more. */
  heal(): void {
    this.fail(undefined);
    this.tcp?.fail(undefined);
  }

  #hear(value: unknown): void {
    this.said.push(Deno.inspect(value, { depth: 12, strAbbreviateSize: 20_000, showHidden: true }));
    if (value instanceof Error && value.stack !== undefined) this.said.push(value.stack);
  }

  #log(): Log {
    const at = (message: string, properties?: Record<string, unknown>) => {
      this.said.push(message);
      if (properties !== undefined) this.#hear(properties);
    };
    return { debug: at, info: at, warn: at, error: at };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.heal();
    await this.setSecrets(this.server.secrets ?? {});
    // A store that the kit cannot look into is the user's own: leave it as it was.
    if (this.server.objects === undefined) {
      for (const key of this.#keys) await this.remove(key).catch(() => {});
    }
    await this.renew();
    await this.http?.close();
    await this.tcp?.close();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** The other letters: `s3cret` → `r3bqds`, of the same length and kind. */
function spoiled(value: string): string {
  const shifted = value.replace(/[a-zA-Z]/g, (letter) => {
    const code = letter.charCodeAt(0);
    return String.fromCharCode(/[aA]/.test(letter) ? code + 25 : code - 1);
  });
  return shifted === value ? `${value}0` : shifted;
}

async function measured(object: SinkTestObject): Promise<Measured> {
  const data = await object.read();
  if (data instanceof Uint8Array) {
    return { ...await measure(data), text: new TextDecoder().decode(data.subarray(0, 65_536)) };
  }
  return { ...await measure(data), text: "" };
}

/** An error or text as one short line. */
export function brief(value: unknown): string {
  const text = value instanceof Error ? value.message || value.name : String(value);
  const line = text.replaceAll(/\s+/g, " ");
  return line.length > 240 ? `${line.slice(0, 237)}…` : line;
}

/** What a promise gives, unless it takes longer. */
export async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  promise.catch(() => {}); // it may fail long after it was left behind
  const done = new AbortController();
  const late = systemClock.sleep(ms, { signal: done.signal }).then(() => {
    throw new CaseFailed(`${what} had not settled after ${ms / 1000} s`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    done.abort();
  }
}

/** The host that the sink was refused, where an error tells of it. */
export function refusedHost(error: unknown): string | undefined {
  return /Requires net access to "([^"]+)"/.exec(String(error))?.[1];
}
