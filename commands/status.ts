/**
 * `camsink status`: how the running recording is doing, as it says itself in its spool. The exit
 * code is for monitoring: 0 if every camera is being recorded and every sink takes clips, else 1.
 *
 * @module
 */
import { findConfig, loadConfig } from "../core/config/load.ts";
import { formatBytes, formatDuration } from "../core/config/values.ts";
import { EXIT, type ExitCode } from "../core/exit_codes.ts";
import {
  problemsIn,
  readStatus,
  statusPath,
  type StatusSnapshot,
} from "../core/status/snapshot.ts";
import type { StatusArguments } from "./arguments.ts";
import type { CommandContext } from "./context.ts";
import { configTables } from "./rooms.ts";
import { styles, type Terminal } from "./terminal.ts";
import { layOutTable, plainText } from "./text_layout.ts";

/** Runs `camsink status`. */
export async function status(
  args: StatusArguments,
  { terminal, clock }: CommandContext,
): Promise<ExitCode> {
  const spool = args.spool ?? await spoolOf(args.config);
  const snapshot = await readStatus(statusPath(spool));
  const nowMs = clock.now();
  const problems = problemsIn(snapshot, { nowMs });
  const ok = problems.length === 0;
  if (args.json) {
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
  const path = await findConfig({ explicit });
  if (path === undefined) return "./spool";
  // Whoever looks need not have the secrets.
  const { config } = await loadConfig(path, { tables: configTables, requireSecrets: false });
  return config.spool.path;
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
      cameras.map((camera) => [
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
      ]),
      table,
    ),
    "",
    ...layOutTable(
      [
        { title: "SINK" },
        { title: "STATE" },
        { title: "DELIVERED", align: "right", dropOrder: 3 },
        { title: "WAITING", align: "right" },
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
