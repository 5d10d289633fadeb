/**
 * The worker that a plugin runs in: gives it its context, calls it, and sends back what comes of it.
 * Its permissions are those that the user granted, and nothing here could widen them: what this file
 * takes away from the plugin (`console`, `postMessage`) keeps an honest plugin from confusing the
 * program, and a dishonest one is held by Deno and by the process around it. An entry of its own.
 *
 * @module
 */
import { readSecretsWith } from "../config/values.ts";
import { optionsJsonSchema } from "../config/json_schema.ts";
import {
  type Clip,
  type Log,
  type Sink,
  SinkError,
  sinkErrorKind,
  type SinkPlugin,
} from "../types.ts";
import type { ClipMessage, FromPlugin, PluginAbout, StartMessage, ToPlugin } from "./messages.ts";
import { WINDOW_BYTES } from "./messages.ts";

type Incoming = { readonly message: ToPlugin } | {
  readonly stream: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
} | StartMessage;

const scope = globalThis as unknown as {
  postMessage?: (message: unknown) => void;
  onmessage: unknown;
  addEventListener: typeof globalThis.addEventListener;
};
const post = scope.postMessage?.bind(globalThis) ?? (() => {});
const send = (message: FromPlugin): void => post(message);

/** Lines a second that get through; the rest is counted. */
const LINES_A_SECOND = 20;
const LINES_AT_ONCE = 100;
const MOST_LINE = 2000;
let lines = LINES_AT_ONCE;
let dropped = 0;

function say(level: keyof Log, message: unknown, properties?: Record<string, unknown>): void {
  if (lines <= 0) return void dropped++;
  lines--;
  let safe: Record<string, unknown> | undefined;
  try {
    const text = JSON.stringify(properties);
    if (text !== undefined && text.length <= 2 * MOST_LINE) safe = JSON.parse(text);
  } catch {
    // What cannot be written is left out.
  }
  send({
    t: "log",
    level,
    message: String(message).slice(0, MOST_LINE),
    ...(safe === undefined ? {} : { properties: safe }),
  });
}

const log: Log = {
  debug: (message, properties) => say("debug", message, properties),
  info: (message, properties) => say("info", message, properties),
  warn: (message, properties) => say("warn", message, properties),
  error: (message, properties) => say("error", message, properties),
};

const plainFetch = globalThis.fetch;

function tellRefused({ message }: Error): string | undefined {
  const host = /"([^"]+)"/.exec(message)?.[1];
  if (host !== undefined) send({ t: "refused", host });
  return host;
}

let asked = 0;
const secrets = new Map<number, PromiseWithResolvers<string>>();
let started: PromiseWithResolvers<StartMessage>;

/** Sets up what the plugin finds; called before anything of the plugin is run. */
export function start(): void {
  started = Promise.withResolvers<StartMessage>();
  readSecretsWith((text) => {
    const answer = Promise.withResolvers<string>();
    secrets.set(++asked, answer);
    send({ t: "secret", ask: asked, text });
    return answer.promise;
  });
  const joined = (level: keyof Log) => (...parts: unknown[]) =>
    lines > 0
      ? say(
        level,
        parts.map((part) => typeof part === "string" ? part : Deno.inspect(part)).join(" "),
      )
      : void dropped++;
  for (
    const [name, level] of [
      ["log", "info"],
      ["info", "info"],
      ["warn", "warn"],
      ["error", "warn"],
      ["debug", "debug"],
      ["trace", "debug"],
    ] as const
  ) console[name] = joined(level);
  setInterval(() => {
    lines = Math.min(LINES_AT_ONCE, lines + LINES_A_SECOND);
    if (dropped > 0 && lines > 0) {
      const count = dropped;
      dropped = 0;
      say("warn", `${count} more lines of the plugin are left out`);
    }
  }, 1000);
  scope.addEventListener("message", (event) => {
    event.stopImmediatePropagation();
    hear((event as MessageEvent<Incoming>).data);
  });
  delete scope.postMessage;
  // Deno refuses it whatever this says; the author of a plugin that swallows the error is told.
  globalThis.fetch = async (input, init) => {
    try {
      return await plainFetch(input, init);
    } catch (error) {
      if (error instanceof Error && error.name === "NotCapable") tellRefused(error);
      throw error;
    }
  };
  // In a worker it ends the worker alone, and nobody is told: each call would wait for its time limit.
  const exit = Deno.exit;
  Deno.exit = (code?: number): never => {
    send({ t: "dying", message: `it ended itself (exit code ${code ?? 0})` });
    return exit(code);
  };
  // An error in the background must not end what else is under way.
  scope.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    say(
      "warn",
      `an error that nobody waited for: ${textOf((event as PromiseRejectionEvent).reason)}`,
    );
  });
}

/** Loads the plugin and does what is asked of it. */
export async function serve(loading: Promise<unknown>): Promise<void> {
  loading.catch(() => {});
  const message = await started.promise;
  const { from } = message;
  const fail = (why: "load" | "no-sink" | "api" | "config" | "open", text: string) =>
    send({ t: "failed", why, message: text });
  let module: unknown;
  try {
    module = await loading;
  } catch (error) {
    return fail("load", `cannot load the plugin ${from}: ${textOf(error)}`);
  }
  const plugin = (module as { default?: unknown }).default as SinkPlugin | undefined;
  if (typeof plugin !== "object" || plugin === null || !("api" in plugin)) {
    return fail(
      "no-sink",
      `the plugin ${from} exports no sink: expected "export default defineSink({ … })"`,
    );
  }
  if (plugin.api !== 1) {
    return fail(
      "api",
      `the plugin ${from} is written for version ${String(plugin.api)} of the sink api, and this ` +
        `Camsink speaks version 1: ${
          Number(plugin.api) > 1 ? "update Camsink" : "update the plugin"
        }`,
    );
  }
  if (
    typeof plugin.name !== "string" || typeof plugin.net !== "function" ||
    typeof plugin.open !== "function" || typeof plugin.config !== "object"
  ) {
    return fail(
      "no-sink",
      `the plugin ${from} exports no whole sink: expected name, config, net and open; make it with ` +
        "defineSink",
    );
  }
  try {
    if (message.mode === "describe") {
      described.resolve(plugin);
      return send({ t: "described", about: await describe(plugin, message.options) });
    }
    const { config, issues } = await validated(plugin, message.options);
    const [issue] = issues;
    if (issue !== undefined) return fail("config", `${issue.path.join(".")}: ${issue.message}`);
    const sink = await plugin.open({
      name: message.name,
      config,
      log,
      fetch: guardedFetch(plugin.net(config)),
      ...(message.scratch === undefined ? {} : { scratch: message.scratch }),
    });
    if (typeof sink?.put !== "function") return fail("open", "its open() gave no sink with put()");
    opened = sink;
    tellExpiry();
    const can = (["stat", "remove", "check"] as const)
      .filter((name) => typeof sink[name] === "function");
    send({ t: "opened", can });
  } catch (error) {
    send({ t: "failed", why: "open", ...told(error) });
  }
}

/** An error, as far as it crosses to the program. */
function told(
  error: unknown,
): { message: string; kind: ReturnType<typeof sinkErrorKind>; retryAfterMs?: number } {
  // The field is there in every SinkError, also where it says nothing.
  const { retryAfterMs } = (error ?? {}) as { retryAfterMs?: unknown };
  return {
    message: textOf(error),
    kind: sinkErrorKind(error),
    ...(typeof retryAfterMs === "number" ? { retryAfterMs } : {}),
  };
}

async function validated(
  plugin: SinkPlugin,
  options: unknown,
): Promise<{ config: unknown; issues: PluginAbout["issues"] }> {
  const result = await plugin.config["~standard"].validate(options) as {
    value?: unknown;
    issues?: readonly { message?: unknown; path?: readonly unknown[] }[];
  };
  const issues = (result.issues ?? []).map(({ message, path = [] }) => ({
    message: String(message),
    path: path.map((part) => {
      const key = typeof part === "object" && part !== null && "key" in part ? part.key : part;
      return typeof key === "number" ? key : String(key);
    }),
  }));
  return { config: result.value, issues };
}

async function describe(plugin: SinkPlugin, options: unknown): Promise<PluginAbout> {
  const about = {
    name: plugin.name,
    ...(typeof plugin.version === "string" ? { version: plugin.version } : {}),
    schema: optionsJsonSchema(plugin.config),
  };
  if (options === undefined) {
    try {
      return { ...about, issues: [], hosts: [...plugin.net({})], needs: plugin.needs?.({}) };
    } catch {
      return { ...about, issues: [] }; // it depends on its options
    }
  }
  const { config, issues } = await validated(plugin, options);
  if (issues.length > 0) return { ...about, issues };
  return { ...about, issues, hosts: [...plugin.net(config)], needs: plugin.needs?.(config) };
}

/** The plugin, where it is only asked what it is and what it wants. */
const described = Promise.withResolvers<SinkPlugin>();
let opened: Sink | undefined;
const calls = new Map<number, AbortController>();
type Controller = ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>;
/** Clips that are being read, with the bytes that were asked for and have not come. */
const streams = new Map<number, { readonly controller: Controller; coming: number }>();
let lastStream = 0;

function hear(data: Incoming): void {
  if ("bytes" in data) {
    const stream = streams.get(data.stream);
    try {
      if (stream) stream.coming -= data.bytes.length;
      stream?.controller.enqueue(data.bytes);
    } catch {
      // cancelled meanwhile
    }
    return;
  }
  const message = "message" in data ? data.message : data;
  switch (message.t) {
    case "start":
      return started.resolve(message);
    case "secret": {
      const answer = secrets.get(message.ask);
      secrets.delete(message.ask);
      if (message.value === undefined) answer?.reject(new Error(message.error));
      else answer?.resolve(message.value);
      return;
    }
    case "end": {
      const stream = streams.get(message.stream);
      streams.delete(message.stream);
      try {
        if (message.error === undefined) stream?.controller.close();
        else stream?.controller.error(new SinkError("retry", message.error));
      } catch {
        // cancelled meanwhile
      }
      return;
    }
    case "abort":
      return calls.get(message.id)?.abort(new DOMException(message.reason, "AbortError"));
    default:
      void answer(message);
  }
}

async function answer(message: Exclude<ToPlugin, { t: "start" | "secret" | "end" | "abort" }>) {
  const { id } = message;
  const control = new AbortController();
  calls.set(id, control);
  const { signal } = control;
  const progress = progressOf(id);
  try {
    let value: unknown;
    switch (message.t) {
      case "put":
        value = await opened?.put(clipOf(id, message.clip), {
          signal,
          attempt: message.attempt,
          progress: progress.tell,
        });
        break;
      case "stat":
        value = await opened?.stat?.(message.key, { signal, camera: message.camera });
        break;
      case "remove":
        await opened?.remove?.(message.key, { signal, camera: message.camera });
        break;
      case "check":
        await opened?.check?.({ signal });
        break;
      case "describe":
        value = await describe(await described.promise, message.options);
        break;
      case "close":
        await opened?.close?.();
    }
    progress.flush();
    tellExpiry();
    send({ t: "result", id, value });
  } catch (error) {
    progress.flush();
    tellExpiry();
    send({ t: "error", id, ...told(error) });
  } finally {
    calls.delete(id);
  }
}

let toldExpiryMs: number | undefined;

/** A credential is known when it is used, and may be another one each time. */
function tellExpiry(): void {
  const atMs = opened?.credentialExpiresAtMs;
  if (atMs === toldExpiryMs) return;
  toldExpiryMs = atMs;
  send({ t: "expiry", ...(atMs === undefined ? {} : { atMs }) });
}

/** A put tells its progress so often at least: bytes, and ms. */
const PROGRESS_BYTES = 512 * 1024;
const PROGRESS_MS = 200;

/** What a put says of its progress, in steps: each step is a message that wakes three threads. */
function progressOf(id: number): { tell(bytes: number): void; flush(): void } {
  let told = 0;
  let toldAtMs = -Infinity;
  let untold: number | undefined;
  const flush = () => {
    if (untold === undefined) return;
    send({ t: "progress", id, bytes: untold });
    told = untold;
    toldAtMs = performance.now();
    untold = undefined;
  };
  const tell = (bytes: number) => {
    untold = Number(bytes);
    const isStep = untold < told || untold >= told + PROGRESS_BYTES;
    if (isStep || performance.now() - toldAtMs >= PROGRESS_MS) flush();
  };
  return { tell, flush };
}

/** The clip as the plugin sees it: its bytes come when they are asked for. */
function clipOf(id: number, { startMs, endMs, file, ...clip }: ClipMessage): Clip {
  return {
    ...clip,
    start: new Date(startMs),
    end: new Date(endMs),
    open: (fromByte = 0) => {
      if (file !== undefined) return readFile(file, fromByte);
      const number = ++lastStream;
      let asked = false;
      const pull = (controller: Controller) => {
        if (!asked) send({ t: "read", id, stream: number, fromByte });
        asked = true;
        const stream = streams.get(number);
        const wanted = (controller.desiredSize ?? 0) - (stream?.coming ?? 0);
        // In large steps: asking costs more than the bytes.
        if (stream === undefined || wanted < WINDOW_BYTES / 2) return;
        stream.coming += wanted;
        send({ t: "pull", stream: number, bytes: wanted });
      };
      return new ReadableStream<Uint8Array<ArrayBuffer>>({
        start: (controller) => void streams.set(number, { controller, coming: 0 }),
        pull,
        cancel: () => {
          streams.delete(number);
          send({ t: "drop", stream: number });
        },
      }, new ByteLengthQueuingStrategy({ highWaterMark: WINDOW_BYTES }));
    },
  };
}

/** Read at once, since each read costs a turn of another thread, … */
const READ_BYTES = 1024 * 1024;
/** … and handed out in such pieces: what sends them over a slow line tells of each. */
const PIECE_BYTES = 64 * 1024;

/** A clip's bytes from its file, as they are asked for. */
function readFile(path: string, fromByte: number): ReadableStream<Uint8Array<ArrayBuffer>> {
  let file: Deno.FsFile | undefined;
  let held = new Uint8Array(0);
  let from = 0;
  let to = 0;
  return new ReadableStream({
    pull: async (controller) => {
      try {
        if (file === undefined) {
          file = await Deno.open(path);
          await file.seek(Math.max(0, Math.floor(fromByte) || 0), Deno.SeekMode.Start);
          held = new Uint8Array(READ_BYTES);
        }
        if (from === to) {
          from = 0;
          to = await file.read(held) ?? 0;
        }
        if (to === 0) {
          file.close();
          controller.close();
          return;
        }
        // Its own each time: the reader keeps it.
        controller.enqueue(held.slice(from, from = Math.min(to, from + PIECE_BYTES)));
      } catch (cause) {
        file?.close();
        throw new SinkError("retry", `cannot read the clip: ${textOf(cause)}`, { cause });
      }
    },
    cancel: () => file?.close(),
  }, { highWaterMark: 0 });
}

/** `fetch` that says in plain words which host was refused, and to whom; Deno is what refuses. */
function guardedFetch(hosts: readonly string[]): typeof fetch {
  return async (input, init) => {
    try {
      return await plainFetch(input, init);
    } catch (error) {
      if (!(error instanceof Error) || error.name !== "NotCapable") throw error;
      const host = tellRefused(error) ?? new URL(new Request(input).url).host;
      throw new TypeError(
        `the sink may not reach ${host}: its net() names ${hosts.join(", ") || "no host"}`,
      );
    }
  };
}

function textOf(error: unknown): string {
  if (error instanceof Error) return error.message || error.name;
  return String(error);
}
