/**
 * From argv to an invocation, or to the end: help, version and completions are printed here, and so
 * is what was wrong with the line.
 *
 * @module
 */
import { formatMessage, type Message, message, runParser, suggestSync } from "@optique/core";
import { EXIT, type ExitCode } from "../core/exit_codes.ts";
import { commandLineParser, type Invocation, topExamples } from "./arguments.ts";
import { styles, type Terminal } from "./terminal.ts";

/** The line is dealt with: nothing is left to run. */
class Finished {
  /** What was wrong with it. */
  readonly mistake?: Message;
  constructor(mistake?: Message) {
    this.mistake = mistake;
  }
}

/**
 * Parses a command line (without the program's own name).
 *
 * @returns what to run, or the exit code where help or an error was printed
 */
export async function parseArguments(
  argv: readonly string[],
  { terminal, version }: { readonly terminal: Terminal; readonly version: string },
): Promise<Invocation | ExitCode> {
  const { columns } = terminal.size();
  const finish = (): never => {
    throw new Finished();
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
        onShow: finish,
      },
      version: {
        value: version,
        option: { names: ["-V", "--version"], group: "Help" },
        onShow: finish,
      },
      completion: {
        command: { names: ["completions", "completion"], group: "Help" },
        onShow: finish,
      },
      stdout: (text) => terminal.out(text.replace(/\n+$/, "")),
      // Said below, in this program's own words.
      stderr: () => {},
      onError: (_code, mistake) => {
        throw new Finished(mistake);
      },
    });
  } catch (end) {
    if (!(end instanceof Finished)) throw end;
    if (end.mistake === undefined) return EXIT.ok;
    const style = styles(terminal.color);
    const said = await describeMistake(end.mistake, { args, color: terminal.color });
    terminal.err(`${style.red("camsink:")} ${said}`);
    terminal.err(style.dim("camsink --help lists the commands, camsink COMMAND --help its flags."));
    return EXIT.usage;
  }
}

/** What was wrong, on one line, with the word that was most likely meant. */
async function describeMistake(
  mistake: Message,
  { args, color }: { readonly args: readonly string[]; readonly color: boolean },
): Promise<string> {
  const plain = formatMessage(mistake, { colors: false, quotes: false });
  const [, unknown] =
    /^Unexpected option or (?:subcommand|argument): (\S+?)\.(?:\s|$)/.exec(plain) ?? [];
  const at = unknown === undefined ? -1 : args.indexOf(unknown);
  if (plain.startsWith("No matching command")) {
    const [first = "", ...rest] = [...args, ""];
    const next = suggestSync(commandLineParser, [first, ...rest])
      .flatMap((suggestion) =>
        suggestion.kind === "literal" && !suggestion.text.startsWith("-") ? [suggestion.text] : []
      );
    if (next.length > 0) return `after "${args.join(" ")}" comes one of ${next.join(", ")}`;
  }
  if (unknown === undefined || at < 0) {
    return formatMessage(mistake, { colors: color, quotes: !color }).replaceAll(/\s*\n\s*/g, " ");
  }
  // The parser itself compares with the first commands only; here, with what may stand in this place.
  const { nearest } = await import("../core/config/problems.ts");
  const prefix = unknown.startsWith("--") ? "--" : unknown.startsWith("-") ? "-" : "";
  const [first = "", ...rest] = [...args.slice(0, at), prefix];
  const possible = suggestSync(commandLineParser, [first, ...rest])
    .flatMap((suggestion) => suggestion.kind === "literal" ? [suggestion.text] : []);
  const meant = nearest(unknown, possible);
  return `unknown ${unknown.startsWith("-") ? "flag" : "command or argument"} "${unknown}"` +
    (meant === undefined ? "" : `; did you mean "${meant}"?`);
}
