/**
 * What is wrong right now, told from the board alone. Nothing is told at the first glance: a camera
 * that is silent for a moment, or a sink that a single try failed at, is no trouble yet, so how long
 * things have been so is remembered here, in monotonic time.
 *
 * @module
 */
import { formatBytes, formatDuration } from "../config/values.ts";
import type { Clock } from "../types.ts";
import { type Board, type CameraStatus, type SinkStatus, unheardText } from "./board.ts";

/** The kinds of trouble that people are told about. */
export type TroubleKind =
  | "camera-silent"
  | "recording-stopped"
  | "events-unheard"
  | "cameras-unknown"
  | "sink-parked"
  | "sink-failing"
  | "backlog-growing"
  | "disk-low"
  | "credential-expiring";

/** Something that is wrong. */
export interface Condition {
  readonly kind: TroubleKind;
  /** The camera, account or sink; `spool` for the disk. */
  readonly subject: string;
  /** A sentence for a person. */
  readonly message: string;
  /** Trouble that gets worse by stages is told again at each. */
  readonly stage?: number;
}

/** How full the disk is, as the spool tells it. */
export interface DiskState {
  readonly freeBytes: number;
  readonly reserveBytes: number;
  readonly usedBytes: number;
  readonly limitBytes?: number;
  /** Recording cannot go on for want of room. */
  readonly isFull: boolean;
}

/** What is looked at. */
export interface Observed {
  readonly board: Board;
  /** Accounts that never yet told their cameras, with the reason where there is one. */
  readonly silentAccounts: ReadonlyMap<string, string | undefined>;
  /** Absent while it cannot be had. */
  readonly disk?: DiskState;
}

/** So long may a camera, its events or an account be silent, and a sink fail, ms. */
const PATIENCE_MS = 60_000;
/** A backlog that did not shrink for so long, and grew by so many clips, is growing. */
const BACKLOG = { overMs: 600_000, clips: 10 } as const;
const DAY_MS = 86_400_000;
const EXPIRY_DAYS = [14, 3, 1, 0] as const;
/** So many pictures may be on their way from the camera to the disk. */
const PICTURES_UNDER_WAY = 5;

/**
 * Whether a camera needs to be recorded. One that was let go because its account no longer lists it
 * stops without a reason.
 */
export function isWanted({ state, reason }: CameraStatus): boolean {
  return state !== "stopped" || reason !== undefined;
}

interface CameraMemory {
  recordedAtMs: number;
  framesRecorded: number;
  framesCapturedThen: number;
}

interface SinkMemory {
  wellAtMs: number;
  low: number;
  lowAtMs: number;
  peak: number;
  isGrowing: boolean;
}

/** Looks at the board again and again, and says what is wrong. */
export class Watch {
  readonly #clock: Clock;
  readonly #cameras = new Map<string, CameraMemory>();
  /** Since when each camera's events are not heard of. */
  readonly #unheardSinceMs = new Map<string, number>();
  readonly #sinks = new Map<string, SinkMemory>();
  readonly #accounts = new Map<string, number>();
  #diskIsLow = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Everything that is wrong now. */
  look({ board, silentAccounts, disk }: Observed): Condition[] {
    for (const name of this.#accounts.keys()) {
      if (!silentAccounts.has(name)) this.#accounts.delete(name);
    }
    return [
      ...[...board.cameras.values()].flatMap((camera) => [
        this.#camera(camera),
        this.#events(camera),
      ]),
      ...[...silentAccounts].map(([name, reason]) => this.#account(name, reason)),
      ...[...board.sinks.values()].flatMap((sink) => [
        this.#sink(sink),
        this.#backlog(sink),
        this.#expiry(sink),
      ]),
      this.#disk(disk),
    ].filter((condition) => condition !== undefined);
  }

  #camera(camera: CameraStatus): Condition | undefined {
    const { name: subject, state, reason, framesRecorded, framesCaptured } = camera;
    const nowMs = this.#clock.monotonic();
    const memory = this.#cameras.get(subject) ??
      { recordedAtMs: nowMs, framesRecorded: 0, framesCapturedThen: 0 };
    this.#cameras.set(subject, memory);
    if (!isWanted(camera)) return undefined;
    const because = reason === undefined ? "" : `: ${reason}`;
    if (state === "stopped") {
      return { kind: "recording-stopped", subject, message: `recording stopped${because}` };
    }
    // A slow camera may give no picture for minutes: it is recorded as long as its session holds
    // and what it gives comes onto the disk.
    const isStuck = framesRecorded === memory.framesRecorded &&
      framesCaptured - memory.framesCapturedThen > PICTURES_UNDER_WAY;
    if (state === "recording" && !isStuck) {
      memory.recordedAtMs = nowMs;
      if (framesRecorded !== memory.framesRecorded) {
        memory.framesRecorded = framesRecorded;
        memory.framesCapturedThen = framesCaptured;
      }
      return undefined;
    }
    const forMs = nowMs - memory.recordedAtMs;
    if (forMs <= PATIENCE_MS) return undefined;
    return state === "recording"
      ? {
        kind: "recording-stopped",
        subject,
        message: `pictures come, but none was recorded for ${formatDuration(forMs)}`,
      }
      : {
        kind: "camera-silent",
        subject,
        message: `not recorded for ${formatDuration(forMs)}${because}`,
      };
  }

  /** The camera is recorded, but not as it was asked for: that may fill a disk. */
  #events(camera: CameraStatus): Condition | undefined {
    const { name: subject } = camera;
    const message = unheardText(camera);
    if (message === undefined) {
      this.#unheardSinceMs.delete(subject);
      return undefined;
    }
    if (!this.#isOverPatience(this.#unheardSinceMs, subject)) return undefined;
    return { kind: "events-unheard", subject, message };
  }

  /** Whether it has lasted for too long; it begins when this is asked for the first time. */
  #isOverPatience(sinceMs: Map<string, number>, subject: string): boolean {
    const nowMs = this.#clock.monotonic();
    const beganMs = sinceMs.get(subject) ?? nowMs;
    sinceMs.set(subject, beganMs);
    return nowMs - beganMs > PATIENCE_MS;
  }

  #account(subject: string, reason: string | undefined): Condition | undefined {
    if (!this.#isOverPatience(this.#accounts, subject)) return undefined;
    return {
      kind: "cameras-unknown",
      subject,
      message: "the account does not tell its cameras, so none of them is recorded" +
        (reason === undefined ? "" : `: ${reason}`),
    };
  }

  #memoryOf(sink: SinkStatus): SinkMemory {
    const nowMs = this.#clock.monotonic();
    const memory = this.#sinks.get(sink.name) ?? {
      wellAtMs: nowMs,
      low: sink.backlogClips,
      lowAtMs: nowMs,
      peak: 0,
      isGrowing: false,
    };
    this.#sinks.set(sink.name, memory);
    return memory;
  }

  #sink(sink: SinkStatus): Condition | undefined {
    const { name: subject, state, reason } = sink;
    const memory = this.#memoryOf(sink);
    const nowMs = this.#clock.monotonic();
    const because = reason === undefined ? "" : `: ${reason}`;
    if (state === "parked") {
      return { kind: "sink-parked", subject, message: `takes no clips${because}` };
    }
    if (state !== "retrying") memory.wellAtMs = nowMs;
    const forMs = nowMs - memory.wellAtMs;
    if (forMs <= PATIENCE_MS) return undefined;
    return {
      kind: "sink-failing",
      subject,
      message: `no clip was delivered for ${formatDuration(forMs)}${because}`,
    };
  }

  #backlog(sink: SinkStatus): Condition | undefined {
    const { name: subject, backlogClips: clips, backlogBytes: bytes } = sink;
    const memory = this.#memoryOf(sink);
    const nowMs = this.#clock.monotonic();
    if (clips <= memory.low) {
      memory.low = clips;
      memory.lowAtMs = nowMs;
    }
    memory.peak = Math.max(memory.peak, clips);
    if (memory.isGrowing && clips <= Math.max(BACKLOG.clips, memory.peak / 2)) {
      Object.assign(memory, { isGrowing: false, low: clips, lowAtMs: nowMs, peak: clips });
    } else if (
      nowMs - memory.lowAtMs > BACKLOG.overMs && clips - memory.low >= BACKLOG.clips
    ) {
      memory.isGrowing = true;
    }
    if (!memory.isGrowing) return undefined;
    return {
      kind: "backlog-growing",
      subject,
      message: `clips come faster than they are delivered: ${clips} (${formatBytes(bytes)}) wait`,
    };
  }

  /** A credential that runs out is told 14, 3 and 1 days ahead, and when it has. */
  #expiry({ name: subject, credentialExpiresAtMs: endMs }: SinkStatus): Condition | undefined {
    if (endMs === undefined) return undefined;
    const leftMs = endMs - this.#clock.now();
    const stage = EXPIRY_DAYS.findLast((days) => leftMs <= days * DAY_MS);
    if (stage === undefined) return undefined;
    const when = new Date(endMs).toISOString();
    const advice = "put a new one where the configuration points; no restart is needed";
    return {
      kind: "credential-expiring",
      subject,
      stage,
      message: leftMs > 0
        ? `the credential expires in ${formatDuration(leftMs)} (${when}): ${advice}`
        : `the credential has expired (${when}): ${advice}`,
    };
  }

  /**
   * Room that runs out is no trouble as long as delivered clips can go for it. It is when recording
   * cannot go on, or when others use what the spool is to leave free.
   */
  #disk(disk: DiskState | undefined): Condition | undefined {
    if (disk === undefined) return undefined;
    const { isFull, freeBytes, reserveBytes } = disk;
    const threshold = this.#diskIsLow ? reserveBytes : reserveBytes * 0.9;
    this.#diskIsLow = isFull || freeBytes < threshold;
    if (!this.#diskIsLow) return undefined;
    return {
      kind: "disk-low",
      subject: "spool",
      message: `${isFull ? "no room left to record" : "the disk runs low"}: ` +
        `${formatBytes(freeBytes)} free, ${formatBytes(reserveBytes)} are to stay free`,
    };
  }
}
