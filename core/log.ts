/**
 * What the program says: text lines for people, JSON lines for programs, both with every secret
 * taken out on the way. Rooms ask for a log by name; `setUpLog` decides once where all of it goes.
 *
 * @module
 */
import { configure, getLogger, type LogRecord } from "@logtape/logtape";
import { redact } from "./redact.ts";
import type { Log } from "./types.ts";

/** How much is told. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** Where and how the log is written. */
export interface LogOptions {
  readonly format: "text" | "json";
  readonly level: LogLevel;
  readonly color: boolean;
  /** Takes one line without its end. */
  readonly write: (line: string) => void;
}

const ROOT = "camsink";
const LOGTAPE_LEVEL = { debug: "debug", info: "info", warn: "warning", error: "error" } as const;

/** Sends everything that is logged from now on to `write`. */
export async function setUpLog({ format, level, color, write }: LogOptions): Promise<void> {
  const line = format === "json" ? jsonLine : (record: LogRecord) => textLine(record, color);
  await configure({
    reset: true,
    sinks: { out: (record) => write(redact(line(record))) },
    loggers: [
      { category: [ROOT], lowestLevel: LOGTAPE_LEVEL[level], sinks: ["out"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["out"] },
    ],
  });
}

/** The log of a camera, a sink, or a part of the program. */
export function getLog(...category: readonly string[]): Log {
  const logger = getLogger([ROOT, ...category]);
  // logtape would read braces in a message as placeholders.
  const plain = (message: string) => message.replaceAll("{", "{{").replaceAll("}", "}}");
  return {
    debug: (message, properties = {}) => logger.debug(plain(message), properties),
    info: (message, properties = {}) => logger.info(plain(message), properties),
    warn: (message, properties = {}) => logger.warn(plain(message), properties),
    error: (message, properties = {}) => logger.error(plain(message), properties),
  };
}

const SIGNS: Readonly<Record<string, readonly [sign: string, color: string]>> = {
  trace: ["·", "2"],
  debug: ["·", "2"],
  info: [" ", "0"],
  warning: ["!", "33"],
  error: ["✗", "31"],
  fatal: ["✗", "31"],
};

const messageOf = (record: LogRecord) => record.message.map(String).join("");
const levelOf = (record: LogRecord) => record.level === "warning" ? "warn" : record.level;

function textLine(record: LogRecord, color: boolean): string {
  const time = new Date(record.timestamp).toTimeString().slice(0, 8);
  const name = record.category.slice(1).join("/");
  const [sign, code] = SIGNS[record.level] ?? [" ", "0"];
  const properties = Object.entries(record.properties)
    .filter(([key, value]) => key !== "event" && (typeof value !== "object" || value === null))
    .map(([key, value]) => `${key}=${value}`).join(" ");
  const text = `${sign} ${name === "" ? "" : `${name}: `}${messageOf(record)}`;
  return color
    ? `\x1b[2m${time}\x1b[0m \x1b[${code}m${text}\x1b[0m${
      properties ? ` \x1b[2m${properties}\x1b[0m` : ""
    }`
    : `${time} ${text}${properties ? ` (${properties})` : ""}`;
}

function jsonLine(record: LogRecord): string {
  return JSON.stringify({
    time: new Date(record.timestamp).toISOString(),
    level: levelOf(record),
    category: record.category.slice(1).join("/"),
    message: messageOf(record),
    ...record.properties,
  }, (_, value) => value instanceof Error ? describe(value) : value);
}

/** An error with what caused it, in one line. */
function describe(error: Error): string {
  const causes: string[] = [];
  for (let at: unknown = error; at instanceof Error && causes.length < 5; at = at.cause) {
    causes.push(at.message);
  }
  return causes.join(": ");
}
