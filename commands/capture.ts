/**
 * `camsink capture`: records with the user's configuration, or shows the demo where there is none.
 * On a terminal a live view stands below the log; elsewhere every line is a JSON object, with the
 * state of things every ten seconds, and the last line is the summary.
 *
 * @module
 */
import { type Config, findConfig, loadConfig } from "../core/config/load.ts";
import { EXIT, type ExitCode } from "../core/exit_codes.ts";
import { giveBackFreedMemory, giveBackStart } from "../core/libc.ts";
import { getLog } from "../core/log.ts";
import { type Board, createBoard } from "../core/status/board.ts";
import type { CaptureArguments } from "./arguments.ts";
import type { CommandContext } from "./context.ts";
import { prepareDemo } from "./demo.ts";
import { startLiveView } from "./live_view.ts";
import { record } from "./recording.ts";
import { tablesBeside } from "./rooms.ts";
import { renderSummary, summarize } from "./summary.ts";
import { VERSION } from "./version.ts";

/** How long the sinks get for what is left: after `--for` its end was foreseen. */
const DRAIN_MS = { afterTime: 60_000, afterSignal: 3000 };
/** By then all cameras that can be reached are recorded, ms. */
const STARTED_MS = 30_000;
/** How often the state is told where there is no live view, ms. */
const PROGRESS_MS = 10_000;

/** Records until it is stopped. */
export async function capture(
  invocation: CaptureArguments,
  context: CommandContext,
): Promise<ExitCode> {
  const { terminal, clock, random } = context;
  const log = getLog("camsink");
  giveBackFreedMemory();
  await using cleanup = new AsyncDisposableStack();
  const path = invocation.demo ? undefined : await findConfig({ explicit: invocation.config });
  let config: Config;
  if (path === undefined) {
    try {
      config = (cleanup.use(await prepareDemo(invocation, context))).config;
    } catch (error) {
      if (context.stop.aborted) return EXIT.ok; // while the emulator was being fetched
      throw error;
    }
  } else {
    const loaded = await loadConfig(path, { tables: await tablesBeside(path) });
    for (const warning of loaded.warnings) log.warn(warning);
    config = loaded.config;
    const all = [...Object.values(config.accounts), ...Object.values(config.cameras)];
    if (!all.some(({ enabled }) => enabled)) {
      log.warn(`nothing is recorded: every account and camera in ${path} is switched off`);
    }
  }
  if (invocation.spool !== undefined) {
    config = { ...config, spool: { ...config.spool, path: invocation.spool } };
  }

  const time = new AbortController();
  const stop = AbortSignal.any([context.stop, time.signal]);
  if (context.stop.aborted) return EXIT.ok;
  const board = createBoard(clock.now());
  const untilMs = invocation.forMs === undefined ? undefined : clock.now() + invocation.forMs;
  if (invocation.forMs !== undefined) {
    clock.sleep(invocation.forMs, { signal: context.stop }).then(() => time.abort(), () => {});
  }
  const asJson = invocation.json || !terminal.isTerminal;
  const ended = new AbortController();
  clock.sleep(STARTED_MS, { signal: ended.signal }).then(giveBackStart, () => {}); // too short for that
  const telling = asJson ? tellProgress(board, context, ended.signal) : Promise.resolve();
  {
    await using _view = asJson ? undefined : startLiveView(board, {
      terminal,
      clock,
      stop: context.stop,
      ...(untilMs === undefined ? {} : { untilMs }),
      title: path === undefined ? "demo" : path,
    });
    try {
      await record({
        config,
        board,
        clock,
        random,
        product: `Camsink ${VERSION}`,
        stop,
        // A second Ctrl-C ends the process whatever is being waited for here.
        drainMs: invocation.forMs === undefined ? DRAIN_MS.afterSignal : DRAIN_MS.afterTime,
      });
    } finally {
      ended.abort();
      await telling;
    }
  }
  const summary = summarize(board, { endedAtMs: clock.now() });
  if (asJson) terminal.out(JSON.stringify(summary));
  else {for (
      const line of renderSummary(summary, {
        columns: terminal.size().columns,
        color: terminal.color,
      })
    ) terminal.err(line);}
  // Asked to record for a while and nothing recorded: a script must not take that for success.
  const nothing = invocation.forMs !== undefined && !context.stop.aborted &&
    summary.total.framesRecorded === 0;
  return nothing ? EXIT.unavailable : EXIT.ok;
}

/** Logs the state of every camera and sink now and then. */
async function tellProgress(
  board: Board,
  { clock }: CommandContext,
  signal: AbortSignal,
): Promise<void> {
  const log = getLog("camsink");
  while (!signal.aborted) {
    await clock.sleep(PROGRESS_MS, { signal }).catch(() => {});
    if (signal.aborted) return;
    log.info("progress", {
      event: "progress",
      cameras: [...board.cameras.values()],
      sinks: [...board.sinks.values()],
    });
  }
}
