/**
 * The terminal view of a recording: what every camera and every sink is doing right now, a few
 * lines that repaint in place below the log. Rendering is a pure function of the board, so that a
 * test can look at every line of it.
 *
 * @module
 */
import { redact } from "../core/redact.ts";
import { formatBytes, formatDuration } from "../core/config/values.ts";
import {
  type Board,
  type CameraStatus,
  type SinkStatus,
  unheardText,
} from "../core/status/board.ts";
import type { Clock } from "../core/types.ts";
import { todayText, unheardRow } from "./status.ts";
import { styles, type Terminal } from "./terminal.ts";
import { fitText, layOutTable, plainText, type Row } from "./text_layout.ts";

/** How a view is rendered. */
export interface LiveViewOptions {
  readonly columns: number;
  readonly rows: number;
  /** Wall time, ms. */
  readonly nowMs: number;
  readonly color: boolean;
  /** When the recording will stop by itself, wall ms. */
  readonly untilMs?: number;
  /** Stands in front of the first line, such as `Demo`. */
  readonly title?: string;
  /** The user has asked to stop: clips are being finished and delivered. */
  readonly stopping?: boolean;
}

const CAMERA_COLUMNS = [
  { title: "CAMERA" },
  { title: "FPS", align: "right", dropOrder: 7 },
  { title: "FRAMES", align: "right" },
  { title: "DROPPED", align: "right", dropOrder: 6 },
  { title: "PICTURE", dropOrder: 2 },
  { title: "CLIP (UTC)", dropOrder: 5 },
  { title: "CLIPS", align: "right", dropOrder: 3 },
  { title: "ENCODER", dropOrder: 4 },
  { title: "GAPS", dropOrder: 1 },
] as const;

const SINK_COLUMNS = [
  { title: "SINK" },
  { title: "STATE" },
  { title: "WAITING", dropOrder: 3 },
  { title: "DELIVERED", dropOrder: 4 },
  { title: "LAST", dropOrder: 2 },
  { title: "WHERE", dropOrder: 1 },
] as const;

/** The view as lines: none is wider than `columns`, and there are fewer than `rows`. */
export function renderLiveView(board: Board, options: LiveViewOptions): string[] {
  const { columns, rows, color } = options;
  const style = styles(color);
  const sinks = [...board.sinks.values()];
  const cameras = [...board.cameras.values()];

  // Header, two table titles, a blank line between the tables; the cursor's line stays free.
  const room = Math.max(1, rows - 1 - 4 - sinks.length);
  const shown = cameras.length <= room ? cameras : pickCameras(cameras, room - 1);
  const hidden = cameras.length - shown.length;
  let spare = hidden > 0 ? 0 : room - shown.length;
  const cameraRows = shown.flatMap((camera) => {
    const unheard = unheardText(camera);
    return [
      cameraRow(camera, options),
      ...(unheard !== undefined && spare-- > 0 ? [unheardRow(redact(unheard), style)] : []),
    ];
  });

  const lines = [renderHeader(board, options)];
  if (cameras.length > 0) {
    lines.push(
      ...layOutTable(CAMERA_COLUMNS, cameraRows, { width: columns, titleStyle: style.dim }),
    );
  }
  if (hidden > 0) lines.push(style.dim(fitText(`… and ${hidden} more`, columns)));
  if (sinks.length > 0) {
    lines.push(
      "",
      ...layOutTable(SINK_COLUMNS, sinks.map((sink) => sinkRow(sink, options)), {
        width: columns,
        titleStyle: style.dim,
      }),
    );
  }
  return lines.slice(0, Math.max(1, rows - 1));
}

/** With too many cameras for the screen, those in trouble are shown first, in their old order. */
function pickCameras(cameras: readonly CameraStatus[], count: number): CameraStatus[] {
  const chosen = new Set(
    [...cameras]
      .sort((a, b) => Number(a.state === "recording") - Number(b.state === "recording"))
      .slice(0, Math.max(0, count)),
  );
  return cameras.filter((camera) => chosen.has(camera));
}

function renderHeader(board: Board, options: LiveViewOptions): string {
  const { columns, nowMs, color, untilMs, title, stopping } = options;
  const style = styles(color);
  const recording = [...board.cameras.values()].filter(({ state }) => state === "recording").length;
  const parts = [
    ...(title ? [title] : []),
    stopping
      ? "Stopping: finishing and delivering clips (Ctrl-C again stops at once)"
      : `Recording ${recording} of ${count(board.cameras.size, "camera")}`,
    roughly(nowMs - board.startedAtMs),
  ];
  if (!stopping) {
    parts.push(
      untilMs === undefined
        ? "Ctrl-C stops"
        : `${roughly(Math.ceil((untilMs - nowMs) / 1000) * 1000)} left`,
    );
  }
  return style.bold(fitText(parts.join(" · "), columns));
}

function cameraRow(camera: CameraStatus, { nowMs, color }: LiveViewOptions): Row {
  const style = styles(color);
  const name = plainText(camera.name);
  if (camera.state !== "recording") {
    const sign = camera.state === "connecting" ? "◌" : camera.state === "waiting" ? "✗" : "○";
    const since = camera.gapSinceMs === undefined
      ? ""
      : ` for ${roughly(nowMs - camera.gapSinceMs)}`;
    const text = [
      `${camera.state}${since}`,
      ...(camera.reason ? [plainText(redact(camera.reason))] : []),
      ...(camera.framesCaptured > 0 ? [count(camera.framesCaptured, "frame")] : []),
    ].join(" · ");
    const paint = camera.state === "waiting" ? style.red : style.dim;
    return { first: { text: `${sign} ${name}`, style: paint }, across: { text, style: paint } };
  }
  return [
    { text: `● ${name}`, style: unheardText(camera) === undefined ? style.green : style.yellow },
    { text: camera.fps.toFixed(1) },
    { text: grouped(camera.framesCaptured) },
    {
      text: grouped(camera.framesDropped),
      style: camera.framesDropped > 0 ? style.yellow : style.dim,
    },
    {
      text: camera.widthPx === undefined || camera.heightPx === undefined
        ? ""
        : `${camera.widthPx}x${camera.heightPx}`,
    },
    {
      text: camera.openClip === undefined
        ? ""
        : `${clipTime(camera.openClip)} ${formatBytes(camera.openClipBytes)}`,
    },
    { text: grouped(camera.clipsFinished) },
    { text: camera.encoder === undefined ? "" : encoderText(camera.encoder) },
    {
      text: camera.gaps.count === 0
        ? "none"
        : `${camera.gaps.count}, ${formatDuration(camera.gaps.totalMs) || "0s"}`,
      style: camera.gaps.count === 0 ? style.dim : style.yellow,
    },
  ];
}

function sinkRow(sink: SinkStatus, { nowMs, color }: LiveViewOptions): Row {
  const style = styles(color);
  const paint = {
    idle: style.green,
    delivering: style.cyan,
    retrying: style.yellow,
    parked: style.red,
  }[sink.state];
  const name = plainText(sink.name);
  const waiting = sink.backlogClips === 0
    ? "none"
    : `${grouped(sink.backlogClips)}, ${formatBytes(sink.backlogBytes)}`;
  if ((sink.state === "retrying" || sink.state === "parked") && sink.reason) {
    const text = `${sink.state} · ${waiting} waiting · ${plainText(redact(sink.reason))}`;
    return { first: { text: name, style: paint }, across: { text, style: paint } };
  }
  const today = sink.perDayBytes === undefined ? "" : `, today ${todayText(sink)}`;
  const aside = sink.clipsQuarantined > 0 ? `, ${sink.clipsQuarantined} put aside` : "";
  return [
    { text: name, style: paint },
    { text: sink.state, style: paint },
    { text: waiting },
    {
      text: `${grouped(sink.clipsDelivered)}, ${formatBytes(sink.bytesDelivered)}${today}${aside}`,
    },
    {
      text: sink.lastDeliveryAtMs === undefined
        ? "never"
        : `${roughly(nowMs - sink.lastDeliveryAtMs)} ago`,
    },
    { text: plainText(sink.where), style: style.dim },
  ];
}

/** `front/2026/08/21/20260821T140500Z.mp4` → `14:05:00`. */
function clipTime(key: string): string {
  const [, hour, minute, second] = /\d{8}T(\d\d)(\d\d)(\d\d)/.exec(key) ?? [];
  return second === undefined ? key : `${hour}:${minute}:${second}`;
}

/** `wasm 3.2×`: how many times faster than the camera it encodes. */
export function encoderText({ name, speed }: { name: string; speed: number }): string {
  if (name === "copy") return "copy";
  return speed > 0 && Number.isFinite(speed)
    ? `${name} ${speed < 10 ? speed.toFixed(1) : Math.round(speed)}×`
    : name;
}

/** A duration that somebody glances at: its two largest units, such as `2d3h`. */
function roughly(ms: number): string {
  const text = formatDuration(Math.max(0, ms - ms % 1000)) || "0s";
  return /^(?:\d+[a-z]+){1,2}/.exec(text)?.[0] ?? text;
}

/** `1234567` → `1,234,567`. */
export function grouped(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** `1 clip`, `2 clips`, `1,234 clips`. */
export function count(value: number, noun: string): string {
  return `${grouped(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** What a running view needs. */
export interface RunningViewOptions extends Pick<LiveViewOptions, "untilMs" | "title"> {
  readonly terminal: Terminal;
  readonly clock: Clock;
  /** Aborted when the user asks to stop: the header says so. */
  readonly stop?: AbortSignal;
  /** Time between two paintings, ms; 250 where not said. */
  readonly intervalMs?: number;
}

/**
 * Paints the board below everything that is written to the terminal until it is disposed; then the
 * view is gone and the cursor is back. Without a terminal it paints nothing.
 */
export function startLiveView(board: Board, options: RunningViewOptions): AsyncDisposable {
  const { terminal, clock, stop, intervalMs = 250 } = options;
  const end = new AbortController();
  const paint = () =>
    terminal.footer(
      renderLiveView(board, {
        ...terminal.size(),
        nowMs: clock.now(),
        color: terminal.color,
        untilMs: options.untilMs,
        title: options.title,
        stopping: stop?.aborted ?? false,
      }),
    );
  const painting = (async () => {
    while (terminal.isTerminal && !end.signal.aborted) {
      paint();
      await clock.sleep(intervalMs, { signal: end.signal }).catch(() => {});
    }
  })();
  return {
    [Symbol.asyncDispose]: async () => {
      end.abort();
      await painting;
      terminal.footer([]);
    },
  };
}
