/**
 * `camsink status`: how the running recording is doing, as it says itself in its spool. The exit
 * code is for monitoring: 0 if every camera is being recorded and every sink takes clips, else 1.
 *
 * Monitoring asks every few seconds, on small machines too. So while something records, no more of
 * the configuration is read than where the spool is ({@linkcode quickStatus}).
 *
 * @module
 */
import { DEFAULT_SPOOL, lookForConfig, spoolPathIn } from "../core/config/find.ts";
import { formatBytes, formatDuration } from "../core/config/values.ts";
import { systemClock } from "../core/clock.ts";
import { EXIT, type ExitCode } from "../core/exit_codes.ts";
import { unheardText } from "../core/status/board.ts";
import {
  isStale,
  problemsIn,
  readStatus,
  statusPath,
  type StatusSnapshot,
} from "../core/status/snapshot.ts";
import type { StatusArguments } from "./arguments.ts";
import type { CommandContext } from "./context.ts";
import { styles, systemTerminal, type Terminal } from "./terminal.ts";
import { layOutTable, plainText, type Row } from "./text_layout.ts";

/** Runs `camsink status`. */
export async function status(
  args: StatusArguments,
  { terminal, clock }: Pick<CommandContext, "terminal" | "clock">,
): Promise<ExitCode> {
  const spool = args.spool ?? await spoolOf(args.config);
  const snapshot = await readStatus(statusPath(spool));
  return tell({ spool, snapshot, json: args.json }, { terminal, nowMs: clock.now() });
}

/** What {@linkcode quickStatus} understands of a command line; anything else takes the long way. */
const QUICK_FLAGS: Readonly<Record<string, "json" | "noColor" | "spool" | "config">> = {
  "--json": "json",
  "--no-color": "noColor",
  "--spool": "spool",
  "--config": "config",
  "-c": "config",
};

/**
 * Answers `camsink status` at a third of the cost where the line is plain and a recording runs.
 *
 * @returns the exit code; nothing, with nothing said, where only the long way can tell what is wrong
 */
export async function quickStatus(argv: readonly string[]): Promise<ExitCode | undefined> {
  const given: Partial<Record<"json" | "noColor" | "spool" | "config", string>> = {};
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? "";
    const flag = Object.hasOwn(QUICK_FLAGS, word) ? QUICK_FLAGS[word] : undefined;
    if (flag === undefined || given[flag] !== undefined) return undefined;
    const takesNone = flag === "json" || flag === "noColor";
    const value = takesNone ? "yes" : argv[++at];
    if (value === undefined || value === "" || (!takesNone && value.startsWith("-"))) {
      return undefined;
    }
    given[flag] = value;
  }
  let spool = given.spool;
  if (spool === undefined) {
    const { path, missingBy } = await lookForConfig({ explicit: given.config });
    if (missingBy !== undefined) return undefined;
    spool = path === undefined ? DEFAULT_SPOOL : await spoolPathIn(path);
  }
  if (spool === undefined) return undefined;
  const snapshot = await readStatus(statusPath(spool)).catch(() => undefined);
  const nowMs = systemClock.now();
  if (snapshot === undefined || isStale(snapshot, { nowMs })) return undefined;
  const terminal = systemTerminal({ noColor: given.noColor !== undefined });
  return tell({ spool, snapshot, json: given.json !== undefined }, { terminal, nowMs });
}

/** Says it, and gives back what the exit code says. */
function tell(
  { spool, snapshot, json }: {
    readonly spool: string;
    readonly snapshot: StatusSnapshot | undefined;
    readonly json: boolean;
  },
  { terminal, nowMs }: { readonly terminal: Terminal; readonly nowMs: number },
): ExitCode {
  const problems = problemsIn(snapshot, { nowMs });
  const ok = problems.length === 0;
  if (json) {
    terminal.out(JSON.stringify({ ok, problems, spoolPath: spool, ...snapshot }));
  } else {
    const style = styles(terminal.dataColor);
    if (snapshot !== undefined) showSnapshot(snapshot, { terminal, nowMs });
    for (const problem of problems) terminal.out(`${style.red("✗")} ${plainText(problem)}`);
    if (snapshot === undefined) terminal.out(`  (there is no ${statusPath(spool)})`);
    if (ok) terminal.out(`${style.green("✓")} every camera is being recorded`);
  }
  return ok ? EXIT.ok : EXIT.failure;
}

/** The configuration's spool; without one, the demo's. */
async function spoolOf(explicit: string | undefined): Promise<string> {
  const { findConfig, loadConfig } = await import("../core/config/load.ts");
  const path = await findConfig({ explicit });
  if (path === undefined) return DEFAULT_SPOOL;
  const { tablesBeside } = await import("./rooms.ts");
  // Whoever looks need not have the secrets.
  const { config } = await loadConfig(path, {
    tables: await tablesBeside(path),
    requireSecrets: false,
  });
  return config.spool.path;
}

/** What was sent to a sink in this UTC day, and what may be: `1.2 GB of 20 GB`. */
export function todayText(
  { usedTodayBytes, perDayBytes }: {
    readonly usedTodayBytes?: number | undefined;
    readonly perDayBytes?: number | undefined;
  },
): string {
  if (usedTodayBytes === undefined) return "-";
  return formatBytes(usedTodayBytes) +
    (perDayBytes === undefined ? "" : ` of ${formatBytes(perDayBytes)}`);
}

/** Below a camera that is recorded otherwise than was asked for: why. */
export function unheardRow(text: string, { yellow }: ReturnType<typeof styles>): Row {
  return { first: { text: "" }, across: { text: plainText(text), style: yellow } };
}

function showSnapshot(
  { startedAt, cameras, sinks, spool }: StatusSnapshot,
  { terminal, nowMs }: { readonly terminal: Terminal; readonly nowMs: number },
): void {
  const style = styles(terminal.dataColor);
  const table = {
    // A pipe has no width: nothing is left out of data.
    width: terminal.isTerminal ? terminal.size().columns : 1000,
    titleStyle: style.dim,
  };
  const since = (iso: string) => formatDuration(Math.max(1000, nowMs - Date.parse(iso)));
  terminal.out(`recording since ${startedAt} (${since(startedAt)})`);
  terminal.out("");
  const lines = [
    ...layOutTable(
      [
        { title: "CAMERA" },
        { title: "STATE" },
        { title: "FPS", align: "right", dropOrder: 2 },
        { title: "CLIPS", align: "right", dropOrder: 3 },
        { title: "RECORDED", align: "right", dropOrder: 4 },
        { title: "NOW", dropOrder: 1 },
      ],
      cameras.flatMap((camera): Row[] => {
        const unheard = unheardText(camera);
        return [[
          { text: plainText(camera.name) },
          {
            text: camera.state,
            style: camera.state === "recording" ? style.green : style.red,
          },
          { text: camera.fps.toFixed(1) },
          { text: String(camera.clipsFinished) },
          { text: formatBytes(camera.bytesFinished) },
          {
            text: camera.gapSince !== undefined
              ? `nothing for ${since(camera.gapSince)}`
              : camera.openClip ?? "-",
          },
        ], ...(unheard === undefined ? [] : [unheardRow(unheard, style)])];
      }),
      table,
    ),
    "",
    ...layOutTable(
      [
        { title: "SINK" },
        { title: "STATE" },
        { title: "DELIVERED", align: "right", dropOrder: 3 },
        { title: "WAITING", align: "right" },
        { title: "TODAY", align: "right", dropOrder: 4 },
        { title: "PUT ASIDE", align: "right", dropOrder: 2 },
        { title: "WHERE", dropOrder: 1 },
      ],
      sinks.map((sink) => [
        { text: plainText(sink.name) },
        {
          text: sink.state,
          ...(sink.state === "parked"
            ? { style: style.red }
            : sink.state === "retrying"
            ? { style: style.yellow }
            : {}),
        },
        { text: String(sink.clipsDelivered) },
        { text: `${sink.backlogClips} (${formatBytes(sink.backlogBytes)})` },
        { text: todayText(sink) },
        { text: String(sink.clipsQuarantined) },
        { text: plainText(sink.where) },
      ]),
      table,
    ),
    "",
    ...(spool === undefined ? [] : [
      `spool: ${formatBytes(spool.usedBytes)} in clips, ${formatBytes(spool.freeBytes)} free`,
      "",
    ]),
  ];
  for (const line of lines) terminal.out(line);
}
