/**
 * The spool's errors. What a recorder or the command line should do is marked on the error, so that
 * nobody has to read its text or know its class.
 *
 * @module
 */
import { EXIT, type ExitCode } from "../exit_codes.ts";

/**
 * The disk has no room, or none that may be used (`full`); the disk failed (`io`); another process
 * has the spool (`locked`); a newer release made the spool (`format`).
 */
export type SpoolErrorKind = "full" | "io" | "locked" | "format";

/** An error with a mark that tells what to do about it. */
export interface SpoolError extends Error {
  readonly spoolErrorKind: SpoolErrorKind;
  /** What the program should end with when nobody handles it. */
  readonly exitCode: ExitCode;
  /** Who has the spool, where that is known. */
  readonly pid?: number;
}

const EXIT_CODE: Readonly<Record<SpoolErrorKind, ExitCode>> = {
  full: EXIT.disk,
  io: EXIT.disk,
  locked: EXIT.temporary,
  format: EXIT.config,
};

/** Makes a {@linkcode SpoolError}. */
export function spoolError(
  kind: SpoolErrorKind,
  message: string,
  options: { cause?: unknown; pid?: number } = {},
): SpoolError {
  return Object.assign(new Error(message, { cause: options.cause }), {
    name: "SpoolError",
    spoolErrorKind: kind,
    exitCode: EXIT_CODE[kind],
    ...(options.pid === undefined ? {} : { pid: options.pid }),
  });
}

/** The kind marked on an error; `undefined` for an error that is not the spool's. */
export function spoolErrorKind(error: unknown): SpoolErrorKind | undefined {
  const kind = error instanceof Error && "spoolErrorKind" in error ? error.spoolErrorKind : "";
  return kind === "full" || kind === "io" || kind === "locked" || kind === "format"
    ? kind
    : undefined;
}

/**
 * SQLite's words for its results, https://sqlite.org/rescode.html; Deno's `exec` gives the words and
 * no code, its statements give both.
 */
const SQLITE_WORDS: Readonly<Record<"full" | "damaged", RegExp>> = {
  full: /database or disk is full/,
  damaged: /file is not a database|database disk image is malformed/,
};

/** Whether an error is SQLite's word for a full disk or a damaged file. */
export function isSqliteError(error: unknown, what: "full" | "damaged"): boolean {
  return error instanceof Error && SQLITE_WORDS[what].test(error.message);
}

/** No room left on the disk, or in the user's quota, or for the file. */
function isFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ("code" in error && ["ENOSPC", "EDQUOT", "EFBIG"].includes(String(error.code))) return true;
  return isSqliteError(error, "full");
}

/** Marks what went wrong while `doing` something; what is marked already passes as it is. */
export function asSpoolError(error: unknown, doing: string): Error {
  if (spoolErrorKind(error)) return error as SpoolError;
  const reason = error instanceof Error ? error.message : String(error);
  return isFull(error)
    ? spoolError("full", `cannot ${doing}: the disk is full; free some space (${reason})`, {
      cause: error,
    })
    : spoolError("io", `cannot ${doing}: ${reason}; look after the disk and its permissions`, {
      cause: error,
    });
}
