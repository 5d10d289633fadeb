/**
 * From argv to an invocation, or to the end: help, version and completions are printed here, and so
 * is what was wrong with the line.
 *
 * @module
 */
import { formatMessage, message, runParser } from "@optique/core";
import { EXIT, type ExitCode } from "../core/exit_codes.ts";
import { commandLineParser, type Invocation, topExamples } from "./arguments.ts";
import { styles, type Terminal } from "./terminal.ts";

/** The line is dealt with: nothing is left to run. */
class Finished {
  readonly exitCode: ExitCode;
  constructor(exitCode: ExitCode) {
    this.exitCode = exitCode;
  }
}

/**
 * Parses a command line (without the program's own name).
 *
 * @returns what to run, or the exit code where help or an error was printed
 */
export function parseArguments(
  argv: readonly string[],
  { terminal, version }: { readonly terminal: Terminal; readonly version: string },
): Invocation | ExitCode {
  const { columns } = terminal.size();
  const finish = (exitCode: ExitCode) => (): never => {
    throw new Finished(exitCode);
  };
  // A bare `camsink` is somebody's first look.
  const args = argv.length === 0 ? ["--help"] : argv;
  try {
    return runParser(commandLineParser, "camsink", args, {
      brief: message`Records every camera around the clock into storage that you own.`,
      footer: topExamples,
      commandList: "top-level",
      usageLine: [{ type: "command", name: "COMMAND" }, { type: "ellipsis" }],
      colors: terminal.dataColor,
      maxWidth: Math.max(60, Math.min(columns, 100)),
      aboveError: "none",
      help: {
        command: { group: "Help" },
        option: { names: ["-h", "--help"], group: "Help" },
        onShow: finish(EXIT.ok),
      },
      version: {
        value: version,
        option: { names: ["-V", "--version"], group: "Help" },
        onShow: finish(EXIT.ok),
      },
      completion: {
        command: { names: ["completions", "completion"], group: "Help" },
        onShow: finish(EXIT.ok),
      },
      stdout: (text) => terminal.out(text.replace(/\n+$/, "")),
      // Said below, in this program's own words.
      stderr: () => {},
      onError: (_code, error) => {
        const style = styles(terminal.color);
        const text = formatMessage(error, { colors: terminal.color, quotes: !terminal.color })
          .replaceAll(/\s*\n\s*/g, " ");
        terminal.err(`${style.red("camsink:")} ${text}`);
        terminal.err(`${style.dim("camsink --help lists the commands and flags.")}`);
        throw new Finished(EXIT.usage);
      },
    });
  } catch (end) {
    if (end instanceof Finished) return end.exitCode;
    throw end;
  }
}
