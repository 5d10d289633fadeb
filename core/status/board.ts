/**
 * What is going on right now, as plain data: the recorder and the deliveries write it, the terminal
 * view, the summary and the log read it. No events and no history; readers look as often as they
 * like.
 *
 * @module
 */

/** How one camera is doing. */
export interface CameraStatus {
  readonly name: string;
  /** The camera's folder and container name. */
  readonly slug: string;
  state: "connecting" | "recording" | "waiting" | "stopped";
  /** Why it waits. */
  reason?: string;
  /** Why its events cannot be heard of or its motion seen, and what that means; absent while they are. */
  eventsUnheard?: string;
  framesCaptured: number;
  /** Captured, but neither encoded nor recorded. */
  framesDropped: number;
  /** In finished or open clips. */
  framesRecorded: number;
  /** Of the last ten seconds. */
  fps: number;
  widthPx?: number;
  heightPx?: number;
  /** Key of the clip being recorded. */
  openClip?: string;
  openClipBytes: number;
  clipsFinished: number;
  bytesFinished: number;
  /** Which encoder, and its speed as a multiple of real time; `copy` for coded video. */
  encoder?: { name: string; speed: number };
  gaps: { count: number; totalMs: number };
  /** Since when nothing was recorded, wall ms; absent while recording. */
  gapSinceMs?: number;
}

/** How one sink is doing. */
export interface SinkStatus {
  readonly name: string;
  readonly type: string;
  /** For a person: where the clips lie. */
  readonly where: string;
  state: "idle" | "delivering" | "retrying" | "parked";
  /** Why it retries or is parked. */
  reason?: string;
  backlogClips: number;
  backlogBytes: number;
  clipsDelivered: number;
  bytesDelivered: number;
  lastDeliveryAtMs?: number;
  /** Clips put aside because the sink will never take them. */
  clipsQuarantined: number;
  /** Sent in this UTC day, also before a restart. */
  usedTodayBytes?: number;
  /** What may be sent in a UTC day, where there is a limit. */
  perDayBytes?: number;
  /** When the sink's credential runs out, wall ms, where that is known. */
  credentialExpiresAtMs?: number;
}

/** All of it. */
export interface Board {
  readonly startedAtMs: number;
  readonly cameras: Map<string, CameraStatus>;
  readonly sinks: Map<string, SinkStatus>;
}

/** Why a camera that is recorded has no events, and what that means; `undefined` while it has. */
export function unheardText(
  { state, eventsUnheard }: { readonly state: string; readonly eventsUnheard?: string },
): string | undefined {
  return state === "recording" ? eventsUnheard : undefined;
}

/** An empty board. */
export function createBoard(startedAtMs: number): Board {
  return { startedAtMs, cameras: new Map(), sinks: new Map() };
}
