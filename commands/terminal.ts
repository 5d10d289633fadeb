/**
 * The two streams of the program and what stands at the other end of them: data goes to stdout,
 * messages to stderr. On a terminal a few *footer* lines can be kept below whatever is written:
 * the live view. Cursor moves only, no alternate screen, so that the scroll-back keeps every line.
 *
 * @module
 */
import process from "node:process";

const ESC = "\x1b[";
const HIDE_CURSOR = `${ESC}?25l`;
const SHOW_CURSOR = `${ESC}?25h`;
/** "Begin/end synchronized update": terminals that know it paint at once, others ignore it. */
const BEGIN_UPDATE = `${ESC}?2026h`;
const END_UPDATE = `${ESC}?2026l`;

/** Where a command writes. */
export interface Terminal {
  /** stderr ends at a terminal: live views and questions make sense. */
  readonly isTerminal: boolean;
  /** Messages may be coloured. */
  readonly color: boolean;
  /** Data on stdout may be coloured. */
  readonly dataColor: boolean;
  /** The size of the screen in characters, as it is now. */
  size(): { columns: number; rows: number };
  /** Writes a line of data to stdout. */
  out(line: string): void;
  /** Writes a line of messages to stderr. */
  err(line: string): void;
  /** Keeps these lines below everything written from now on; none: takes them away. */
  footer(lines: readonly string[]): void;
}

/** What the real terminal consists of; tests put their own in. */
export interface TerminalParts {
  readonly env: (name: string) => string | undefined;
  readonly stdoutIsTerminal: boolean;
  readonly stderrIsTerminal: boolean;
  /** Answers the size, or throws where there is none. */
  readonly size: () => { columns: number; rows: number };
  readonly writeOut: (text: string) => void;
  readonly writeErr: (text: string) => void;
  /** `--no-color` was given. */
  readonly noColor?: boolean;
}

/**
 * Colour as https://no-color.org asks: off when `NO_COLOR` is set to anything but an empty string
 * or the terminal is `dumb`, forced by `FORCE_COLOR` or `CLICOLOR_FORCE`, else on for terminals.
 */
function wantsColor(isTerminal: boolean, { env, noColor }: TerminalParts): boolean {
  if (noColor || env("NO_COLOR")) return false;
  const forced = env("FORCE_COLOR") ?? env("CLICOLOR_FORCE");
  if (forced !== undefined && forced !== "" && forced !== "0") return true;
  return isTerminal && env("TERM") !== "dumb";
}

/** Makes a {@linkcode Terminal} of its parts. */
export function createTerminal(parts: TerminalParts): Terminal {
  const isTerminal = parts.stderrIsTerminal && parts.env("TERM") !== "dumb";
  let shown: readonly string[] = [];

  /** Moves to the first footer line and clears from there to the end of the screen. */
  const eraseFooter = () => shown.length === 0 ? "" : `\r${ESC}${shown.length}A${ESC}0J`;
  const drawFooter = () => shown.map((line) => `${line}\n`).join("");

  const writeAbove = (line: string, write: (text: string) => void) => {
    if (shown.length === 0) return write(`${line}\n`);
    parts.writeErr(BEGIN_UPDATE + eraseFooter());
    write(`${line}\n`);
    parts.writeErr(drawFooter() + END_UPDATE);
  };

  return {
    isTerminal,
    color: wantsColor(parts.stderrIsTerminal, parts),
    dataColor: wantsColor(parts.stdoutIsTerminal, parts),
    size: () => {
      try {
        const { columns, rows } = parts.size();
        if (columns > 0 && rows > 0) return { columns, rows };
      } catch {
        // No terminal to ask: the classic size stands in.
      }
      return { columns: Number(parts.env("COLUMNS")) || 80, rows: 24 };
    },
    out: (line) => writeAbove(line, parts.writeOut),
    err: (line) => writeAbove(line, parts.writeErr),
    footer: (lines) => {
      if (!isTerminal) return;
      const erase = eraseFooter();
      const cursor = shown.length === 0 && lines.length > 0
        ? HIDE_CURSOR
        : shown.length > 0 && lines.length === 0
        ? SHOW_CURSOR
        : "";
      shown = lines;
      parts.writeErr(BEGIN_UPDATE + erase + cursor + drawFooter() + END_UPDATE);
    },
  };
}

/**
 * Writes all of a text before it returns, so that nothing is lost when the program exits. A reader
 * that has gone away (`camsink cameras | head -1`, a closed terminal window) is no error: there is
 * nobody left to tell.
 */
function writeAll(stream: { writeSync(bytes: Uint8Array): number }, text: string): void {
  let bytes = new TextEncoder().encode(text);
  try {
    while (bytes.length > 0) bytes = bytes.subarray(stream.writeSync(bytes));
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (!(error instanceof Deno.errors.BrokenPipe) && code !== "EIO") throw error;
  }
}

/** This process's own streams. */
export function systemTerminal(options: { readonly noColor?: boolean } = {}): Terminal {
  return createTerminal({
    env: (name) => process.env[name],
    stdoutIsTerminal: Deno.stdout.isTerminal(),
    stderrIsTerminal: Deno.stderr.isTerminal(),
    size: () => Deno.consoleSize(),
    writeOut: (text) => writeAll(Deno.stdout, text),
    writeErr: (text) => writeAll(Deno.stderr, text),
    noColor: options.noColor,
  });
}

/** Styles by name; with `color` off each gives its text back unchanged. */
export function styles(color: boolean): {
  readonly [name in "bold" | "dim" | "red" | "green" | "yellow" | "cyan"]: (text: string) => string;
} {
  const style = (open: number, close: number) => (text: string) =>
    color ? `${ESC}${open}m${text}${ESC}${close}m` : text;
  return {
    bold: style(1, 22),
    dim: style(2, 22),
    red: style(31, 39),
    green: style(32, 39),
    yellow: style(33, 39),
    cyan: style(36, 39),
  };
}
