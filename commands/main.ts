/**
 * The command line: argv becomes a command, Ctrl-C becomes an abort signal, an error becomes a
 * message and an exit code. Each command is imported when it is asked for, so that the small ones
 * start quickly.
 *
 * @module
 */
import process from "node:process";
import type { Invocation, SimulateArguments } from "./arguments.ts";
import type { CommandContext } from "./context.ts";
import { parseArguments } from "./parse.ts";
import { systemTerminal, type Terminal } from "./terminal.ts";
import { describeVersion } from "./version.ts";
import { systemClock } from "../core/clock.ts";
import { EXIT, type ExitCode, exitCodeOf } from "../core/exit_codes.ts";

/** How long commands get after the second Ctrl-C to put the terminal in order, ms. */
const HARD_STOP_MS = 300;

/**
 * Signals so close together are one press of Ctrl-C: the terminal sends it to every process in the
 * foreground, and `deno task` and `npx` pass on what they got.
 */
const SAME_KEY_MS = 400;

/** Runs one command line and gives back the exit code; nothing is thrown. */
export async function main(argv: readonly string[]): Promise<ExitCode> {
  // Needed before the line is parsed, for the parser's own messages.
  const terminal = systemTerminal({ noColor: argv.includes("--no-color") });
  let debug = argv.includes("--debug");
  try {
    const invocation = await parseArguments(argv, { terminal, version: await describeVersion() });
    if (typeof invocation === "number") return invocation;
    debug ||= invocation.logLevel === "debug";
    const { stop, hardStop } = listenForSignals(terminal);
    const context: CommandContext = {
      terminal,
      clock: systemClock,
      random: Math.random,
      stop,
      hardStop,
      debug,
    };
    await prepareLog(invocation, context);
    const exitCode = await run(invocation, context);
    return hardStop.aborted ? EXIT.interrupted : exitCode;
  } catch (error) {
    const { describeError } = await import("./describe_error.ts");
    terminal.footer([]);
    terminal.err(describeError(error, { debug, color: terminal.color }));
    return exitCodeOf(error);
  }
}

/** Loads the command and runs it. */
async function run(invocation: Invocation, context: CommandContext): Promise<ExitCode> {
  switch (invocation.command) {
    case "capture":
      return (await import("./capture.ts")).capture(invocation, context);
    case "status":
      return (await import("./status.ts")).status(invocation, context);
    case "init":
      return (await import("./init.ts")).init(invocation, context);
    case "check":
      return (await import("./check.ts")).check(invocation, context);
    case "cameras":
      return (await import("./cameras.ts")).cameras(invocation, context);
    case "google-token":
      return (await import("./google_token.ts")).googleToken(invocation, context);
    case "clips":
    case "clips export":
    case "clips redeliver":
    case "clips keep":
    case "clips unkeep":
      return (await import("./clips.ts")).clips(invocation, context);
    case "plugin add":
    case "plugin list":
    case "plugin info":
    case "plugin remove":
      return (await import("./plugin.ts")).plugin(invocation, context);
    case "verify":
      return (await import("./verify.ts")).verify(invocation, context);
    case "plugin test":
      return (await import("./plugin_test.ts")).pluginTest(invocation, context);
    case "plugin new":
      return (await import("./plugin_new.ts")).pluginNew(invocation, context);
    case "config schema":
    case "config validate":
    case "config import":
      return (await import("./config.ts")).config(invocation, context);
    case "bench":
      return (await import("./bench.ts")).bench(invocation, context);
    case "update":
      return (await import("./update.ts")).update(invocation, context);
    case "licenses":
      return (await import("./licenses.ts")).licenses(context);
    case "simulate nest":
    case "simulate sdm":
    case "simulate camera":
      return await simulate(invocation, context);
  }
}

/** Serves made-up cameras until the first signal. */
async function simulate(
  invocation: SimulateArguments,
  { stop, clock, terminal }: CommandContext,
): Promise<ExitCode> {
  const { simulateCamera, simulateNest, simulateSdm } = await import("./simulate.ts");
  const { getLog } = await import("../core/log.ts");
  const { width: widthPx, ...rest } = invocation;
  const options = { widthPx, signal: stop, clock, log: getLog("simulate"), print: terminal.out };
  if (rest.command === "simulate nest") await simulateNest({ ...rest, ...options });
  else if (rest.command === "simulate sdm") await simulateSdm({ ...rest, ...options });
  else await simulateCamera({ ...rest, ...options });
  return EXIT.ok;
}

/**
 * Sets up the log. A recording that nobody watches, or that another program reads, is told as JSON
 * lines on stdout, where data goes; everything else is text on stderr.
 */
async function prepareLog(invocation: Invocation, context: CommandContext): Promise<void> {
  const { terminal, debug } = context;
  const { setUpLog } = await import("../core/log.ts");
  const recording = invocation.command === "capture";
  const isLong = recording || invocation.command.startsWith("simulate");
  const asJson = recording && (invocation.json || !terminal.isTerminal);
  await setUpLog({
    format: asJson ? "json" : "text",
    level: debug ? "debug" : invocation.logLevel ?? (isLong ? "info" : "warn"),
    color: !asJson && terminal.color,
    write: asJson ? terminal.out : terminal.err,
  });
}

/** The first signal asks to stop; the second one ends the process whatever happens. */
function listenForSignals(terminal: Terminal): { stop: AbortSignal; hardStop: AbortSignal } {
  const stop = new AbortController();
  const hardStop = new AbortController();
  let firstAtMs = 0;
  const onSignal = () => {
    if (!stop.signal.aborted) {
      firstAtMs = systemClock.monotonic();
      return stop.abort(new DOMException("stopped", "AbortError"));
    }
    if (hardStop.signal.aborted || systemClock.monotonic() - firstAtMs < SAME_KEY_MS) return;
    hardStop.abort(new DOMException("stopped at once", "AbortError"));
    terminal.footer([]);
    terminal.err("camsink: stopped at once; open clips are mended at the next start");
    setTimeout(() => Deno.exit(EXIT.interrupted), HARD_STOP_MS);
  };
  // Windows has no SIGTERM to listen to, and its SIGBREAK is Ctrl-Break.
  const signals = Deno.build.os === "windows"
    ? ["SIGINT", "SIGBREAK"] as const
    : ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, onSignal);
  return { stop: stop.signal, hardStop: hardStop.signal };
}

/**
 * An error that nobody waited for, such as one in a library's own background work, is told and goes
 * no further: one camera's or one sink's mishap must not end the recording of all others.
 */
export function surviveStrayErrors(): void {
  const tell = async (error: unknown) => {
    const { getLog } = await import("../core/log.ts");
    getLog("camsink").error("an unexpected error in the background", { event: "stray", error });
  };
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    void tell(event.reason);
  });
  globalThis.addEventListener("error", (event) => {
    event.preventDefault();
    void tell(event.error);
  });
}
