/**
 * Messages for people and for programs, on LogTape. Everything that is written goes through
 * {@linkcode redact}: message, properties and errors with their causes, so no caller has to think
 * of it. Text lines are for a terminal or a journal; JSON lines are for other programs, one object a
 * line: `{"time","level","category","event"?,"message",…properties}`.
 *
 * Before {@linkcode setUpLog} is called nothing is written: rooms used as a library stay silent.
 *
 * @module
 */
import {
  configureSync,
  getLogger,
  type LogLevel as TapeLevel,
  type LogRecord,
} from "@logtape/logtape";
import { MASK, namesSecret, redact } from "./redact.ts";
import type { Log } from "./types.ts";

export { redact } from "./redact.ts";

/** How much is told. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** Where and how the log is written. */
export interface LogOptions {
  readonly format: "text" | "json";
  /** The least level that is written. */
  readonly level: LogLevel;
  /** Colours in text lines. */
  readonly color: boolean;
  /** Gets each line, without its end. */
  readonly write: (line: string) => void;
  /** Wall time, ms. Default: the system's. */
  readonly now?: () => number;
  /** Text lines: where an error was thrown, too. */
  readonly stacks?: boolean;
}

const ROOT = "camsink";
const LEVELS: Readonly<Record<LogLevel, TapeLevel>> = {
  debug: "debug",
  info: "info",
  warn: "warning",
  error: "error",
};

// Set by setUpLog; records take their time from it.
let now: () => number = Date.now;

/** Configures the log of this process; calling it again replaces the former set-up. */
export function setUpLog(options: LogOptions): void {
  now = options.now ?? Date.now;
  const format = options.format === "json"
    ? jsonLine
    : (record: LogRecord) => textLine(record, options);
  configureSync({
    reset: true,
    sinks: { lines: (record) => options.write(format(record)) },
    loggers: [
      { category: ROOT, sinks: ["lines"], lowestLevel: LEVELS[options.level] },
      // LogTape's word about itself: only what goes wrong.
      { category: ["logtape", "meta"], sinks: ["lines"], lowestLevel: "warning" },
    ],
  });
}

/**
 * The log of one part of the program, such as `getLog("camera", "Front door")`: first the room, then
 * the name of the camera or sink. May be called before {@linkcode setUpLog}.
 */
export function getLog(...category: readonly string[]): Log {
  const logger = getLogger([ROOT, ...category]);
  const at = (level: LogLevel) => (message: string, properties: Record<string, unknown> = {}) =>
    // Not `logger.info(…)`: that would take braces in the message for placeholders.
    logger.emit({
      level: LEVELS[level],
      message: [message],
      rawMessage: message,
      properties,
      timestamp: now(),
    });
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

/** The chain of causes as one sentence: `no answer: ConnectionRefused: …`. Not redacted. */
function errorText(error: Error): string {
  const parts: string[] = [];
  let at: unknown = error;
  for (let depth = 0; at !== undefined && at !== null && depth < 8; depth++) {
    if (!(at instanceof Error)) {
      parts.push(String(at));
      break;
    }
    const isPlain = at.name === "Error" || at.name.endsWith("Error") && at.message !== "";
    const text = isPlain ? at.message : `${at.name}: ${at.message}`;
    // Many errors repeat what caused them.
    if (!parts.some((part) => part.includes(at instanceof Error ? at.message : ""))) {
      parts.push(text);
    }
    if (at instanceof AggregateError) {
      parts.push(
        at.errors.slice(0, 4).map((one) => one instanceof Error ? one.message : String(one))
          .join("; "),
      );
    }
    at = at.cause;
  }
  return parts.filter((part) => part !== "").join(": ") || error.name;
}

/** An error and what caused it, in one line that is safe to print. */
export function describeError(error: unknown): string {
  return redact(error instanceof Error ? errorText(error) : String(error));
}

const MAX_TEXT = 4000;
const MAX_ENTRIES = 50;

function clipped(text: string): string {
  // Redacted before it is cut: a half secret would not be recognised.
  const safe = redact(text);
  return safe.length > MAX_TEXT ? `${safe.slice(0, MAX_TEXT)}… (${safe.length} characters)` : safe;
}

/** A value as plain JSON without secrets. */
function plain(value: unknown, depth = 0, key = ""): unknown {
  if (namesSecret(key) && value !== undefined && value !== null && typeof value !== "boolean") {
    return MASK;
  }
  switch (typeof value) {
    case "string":
      return clipped(value);
    case "number": {
      if (!Number.isFinite(value)) return String(value);
      const text = String(value);
      const safe = redact(text);
      return safe === text ? value : safe;
    }
    case "boolean":
    case "undefined":
      return value;
    case "object":
      break;
    default:
      return clipped(String(value));
  }
  if (value === null) return null;
  if (value instanceof Error) return clipped(errorText(value));
  if (value instanceof Date) {
    return Number.isNaN(value.getTime()) ? "no date" : value.toISOString();
  }
  if (value instanceof URL) return clipped(value.href);
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) {
    return `${value.byteLength} bytes`;
  }
  if (depth > 4) return "…";
  const within = (item: unknown) => plain(item, depth + 1);
  if (Array.isArray(value) || value instanceof Set) {
    const items = [...value];
    const shown = items.slice(0, MAX_ENTRIES).map(within);
    return items.length > MAX_ENTRIES ? [...shown, `… ${items.length - MAX_ENTRIES} more`] : shown;
  }
  const entries: [unknown, unknown][] = value instanceof Map || value instanceof Headers
    ? [...value.entries()]
    : Object.entries(value);
  return Object.fromEntries(
    entries.slice(0, MAX_ENTRIES).map(([name, item]) => [
      clipped(String(name)),
      plain(item, depth + 1, String(name)),
    ]),
  );
}

function messageOf(record: LogRecord): string {
  return clipped(record.message.map(String).join(""));
}

/** The category without the program's own name. */
function categoryOf(record: LogRecord): readonly string[] {
  return record.category[0] === ROOT ? record.category.slice(1) : record.category;
}

function levelOf(record: LogRecord): LogLevel {
  switch (record.level) {
    case "trace":
    case "debug":
      return "debug";
    case "warning":
      return "warn";
    case "error":
    case "fatal":
      return "error";
    default:
      return "info";
  }
}

const RESERVED = new Set(["time", "level", "category", "message"]);

function jsonLine(record: LogRecord): string {
  const line: Record<string, unknown> = {
    time: new Date(record.timestamp).toISOString(),
    level: levelOf(record),
    category: categoryOf(record).map(clipped).join("/"),
  };
  const { event, ...properties } = record.properties;
  if (event !== undefined) line.event = plain(event);
  line.message = messageOf(record);
  for (const [key, value] of Object.entries(properties)) {
    const name = clipped(key);
    line[RESERVED.has(name) ? `${name}_` : name] = plain(value, 0, key);
  }
  return JSON.stringify(line);
}

const SIGNS: Readonly<Record<LogLevel, readonly [sign: string, ansi: string]>> = {
  debug: ["·", "2"],
  info: [" ", "0"],
  warn: ["!", "33"],
  error: ["✗", "31"],
};

/** A property as `key=value`, quoted where a reader could not tell where it ends. */
function pair(key: string, value: unknown): string {
  const text = typeof value === "string"
    ? /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)
    : JSON.stringify(value);
  return `${key}=${text}`;
}

function textLine(record: LogRecord, { color, stacks }: LogOptions): string {
  const paint = (text: string, ansi: string) => color ? `\x1b[${ansi}m${text}\x1b[0m` : text;
  const [sign, ansi] = SIGNS[levelOf(record)];
  // On a terminal the day is known; a journal or a file needs the whole time.
  const time = new Date(record.timestamp);
  const clock = color ? time.toTimeString().slice(0, 8) : time.toISOString();
  const [room = "", ...names] = categoryOf(record);
  const name = clipped(names.join(" ") || room);
  // What is an event says it all in its message; its properties are for programs.
  const isEvent = record.properties.event !== undefined;
  const shown = Object.entries(record.properties).filter(([, value]) =>
    !isEvent && value !== undefined && !(value instanceof Error) && !names.includes(
      String(value),
    )
  );
  const pairs = shown.map(([key, value]) => pair(clipped(key), plain(value, 0, key)));
  const errors = Object.values(record.properties).filter((value) => value instanceof Error);
  const causes = errors.map((error) => `: ${clipped(errorText(error))}`).join("");
  const parts = [
    paint(clock, "2"),
    paint(sign, ansi),
    ...(name === "" ? [] : [paint(oneLine(name), "1")]),
    paint(oneLine(messageOf(record) + causes), ansi),
    ...(pairs.length === 0 ? [] : [paint(`(${pairs.map(oneLine).join(", ")})`, "2")]),
  ];
  const trace = stacks === true
    ? errors.map((error) => `\n${clipped(error.stack ?? "")}`).join("")
    : "";
  return `${parts.join(" ")}${trace}`;
}

/** Camera names and answers of servers must not forge lines or move the cursor. */
function oneLine(text: string): string {
  // deno-lint-ignore no-control-regex -- control characters are what is looked for
  return text.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]/g, (c) => c === "\n" ? " ⏎ " : " ");
}
