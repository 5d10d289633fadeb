/**
 * The end of a recording in figures: what was captured, what was dropped, what was delivered and
 * where it lies; as text for a person and as one JSON line for a program.
 *
 * @module
 */
import { formatBytes, formatDuration } from "../core/config/values.ts";
import { redact } from "../core/redact.ts";
import type { Board } from "../core/status/board.ts";
import { count, encoderText, grouped } from "./live_view.ts";
import { styles } from "./terminal.ts";
import { layOutTable, plainText } from "./text_layout.ts";

/** The figures of one recording. */
export interface Summary {
  readonly event: "summary";
  /** RFC 3339, UTC. */
  readonly startedAt: string;
  readonly endedAt: string;
  readonly durationMs: number;
  readonly cameras: readonly {
    readonly name: string;
    readonly clips: number;
    readonly bytes: number;
    readonly framesCaptured: number;
    readonly framesDropped: number;
    readonly framesRecorded: number;
    readonly gaps: { readonly count: number; readonly totalMs: number };
    readonly encoder?: { readonly name: string; readonly speed: number };
  }[];
  readonly sinks: readonly {
    readonly name: string;
    readonly type: string;
    readonly where: string;
    readonly clipsDelivered: number;
    readonly bytesDelivered: number;
    /** Still on the spool; the next start delivers them. */
    readonly clipsWaiting: number;
    readonly bytesWaiting: number;
    readonly clipsQuarantined: number;
    readonly reason?: string;
  }[];
  readonly total: {
    readonly cameras: number;
    readonly clips: number;
    readonly bytes: number;
    readonly framesCaptured: number;
    readonly framesDropped: number;
    readonly framesRecorded: number;
    readonly deliveries: number;
    readonly gaps: number;
  };
}

/** Sums a board up. A gap that is still open counts up to `endedAtMs`. */
export function summarize(board: Board, { endedAtMs }: { readonly endedAtMs: number }): Summary {
  const cameras = [...board.cameras.values()].map((camera) => {
    const openGapMs = camera.gapSinceMs === undefined
      ? 0
      : Math.max(0, endedAtMs - camera.gapSinceMs);
    return {
      name: camera.name,
      clips: camera.clipsFinished,
      bytes: camera.bytesFinished,
      framesCaptured: camera.framesCaptured,
      framesDropped: camera.framesDropped,
      framesRecorded: camera.framesRecorded,
      gaps: { count: camera.gaps.count, totalMs: Math.round(camera.gaps.totalMs + openGapMs) },
      ...(camera.encoder
        ? { encoder: { name: camera.encoder.name, speed: camera.encoder.speed } }
        : {}),
    };
  });
  const sinks = [...board.sinks.values()].map((sink) => ({
    name: sink.name,
    type: sink.type,
    where: sink.where,
    clipsDelivered: sink.clipsDelivered,
    bytesDelivered: sink.bytesDelivered,
    clipsWaiting: sink.backlogClips,
    bytesWaiting: sink.backlogBytes,
    clipsQuarantined: sink.clipsQuarantined,
    // A server may throw what it was sent back in its answer.
    ...(sink.backlogClips > 0 && sink.reason ? { reason: redact(sink.reason) } : {}),
  }));
  const sum = (key: "clips" | "bytes" | "framesCaptured" | "framesDropped" | "framesRecorded") =>
    cameras.reduce((total, camera) => total + camera[key], 0);
  return {
    event: "summary",
    startedAt: new Date(board.startedAtMs).toISOString(),
    endedAt: new Date(endedAtMs).toISOString(),
    durationMs: Math.max(0, Math.round(endedAtMs - board.startedAtMs)),
    cameras,
    sinks,
    total: {
      cameras: cameras.length,
      clips: sum("clips"),
      bytes: sum("bytes"),
      framesCaptured: sum("framesCaptured"),
      framesDropped: sum("framesDropped"),
      framesRecorded: sum("framesRecorded"),
      deliveries: sinks.reduce((total, sink) => total + sink.clipsDelivered, 0),
      gaps: cameras.reduce((total, camera) => total + camera.gaps.count, 0),
    },
  };
}

/** The summary for a person; the table of cameras fits into `columns` where that is said. */
export function renderSummary(
  summary: Summary,
  { columns = Infinity, color }: { readonly columns?: number; readonly color: boolean },
): string[] {
  const style = styles(color);
  const { total } = summary;
  const lines = [
    style.bold(
      `Recorded ${count(total.cameras, "camera")} for ${
        formatDuration(summary.durationMs) || "0s"
      }: ${count(total.clips, "clip")}, ${formatBytes(total.bytes)}, ` +
        `${count(total.framesCaptured, "frame")} captured, ${grouped(total.framesDropped)} dropped`,
    ),
  ];
  if (summary.cameras.length > 0) {
    lines.push(...layOutTable(
      [
        { title: "CAMERA" },
        { title: "CLIPS", align: "right" },
        { title: "SIZE", align: "right", dropOrder: 3 },
        { title: "CAPTURED", align: "right" },
        { title: "DROPPED", align: "right" },
        { title: "GAPS", dropOrder: 2 },
        { title: "ENCODER", dropOrder: 1 },
      ],
      summary.cameras.map((camera) => [
        { text: plainText(camera.name) },
        { text: grouped(camera.clips) },
        { text: formatBytes(camera.bytes) },
        { text: grouped(camera.framesCaptured) },
        {
          text: grouped(camera.framesDropped),
          ...(camera.framesDropped > 0 ? { style: style.yellow } : {}),
        },
        {
          text: camera.gaps.count === 0
            ? "none"
            : `${camera.gaps.count}, ${formatDuration(camera.gaps.totalMs) || "0s"}`,
        },
        { text: camera.encoder ? encoderText(camera.encoder) : "" },
      ]),
      { width: columns, titleStyle: style.dim },
    ));
  }
  for (const sink of summary.sinks) {
    const problems = [
      ...(sink.clipsWaiting > 0
        ? [
          `${count(sink.clipsWaiting, "clip")} (${
            formatBytes(sink.bytesWaiting)
          }) wait on the spool for the next start` +
          (sink.reason ? `: ${plainText(sink.reason)}` : ""),
        ]
        : []),
      ...(sink.clipsQuarantined > 0
        ? [`${count(sink.clipsQuarantined, "clip")} put aside: the sink will never take them`]
        : []),
    ];
    lines.push(
      `${problems.length === 0 ? style.green("✓") : style.yellow("!")} ${plainText(sink.name)}: ${
        count(sink.clipsDelivered, "clip")
      } delivered, ${formatBytes(sink.bytesDelivered)}, in ${plainText(sink.where)}`,
      ...problems.map((problem) => style.yellow(`  ${problem}`)),
    );
  }
  return lines;
}
