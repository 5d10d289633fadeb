/**
 * A second recording of a camera, or its only one, that keeps a picture now and then and plays them
 * fast: a day in a few minutes.
 *
 * It takes what the camera's sessions give anyway, so it costs the camera nothing. Of JPEGs it keeps
 * one at each wall-clock multiple of `everyMs`; of coded video the first key picture after it, which
 * is copied, not encoded again. Pictures wait in memory for a few seconds of playing, or a minute, so
 * that an encoder sees them as a group: that is what a crash costs. It goes on in the same clip when
 * a session is lost and the next one begins.
 *
 * @module
 */
import type { Spool } from "../spool/mod.ts";
import type { CameraStatus } from "../status/board.ts";
import type { AccessUnit, Clock, Encoder, Log, VideoTrack } from "../types.ts";
import { createClipWriter } from "./clip_writer.ts";

/** What a timelapse is like. */
export interface TimelapsePlan {
  /** A picture is kept so often, ms. */
  readonly everyMs: number;
  /** Pictures shown a second. */
  readonly fps: number;
  /** Length of a clip on the wall clock: an hour or a day, ms. */
  readonly clipMs: number;
  /** The camera is recorded in no other way. */
  readonly only: boolean;
}

/** See {@linkcode createTimelapse}. */
export interface Timelapse {
  /** Takes a picture, or leaves it. Never waits. */
  offer(unit: AccessUnit, track: VideoTrack): void;
  /** Ends it with everything that was kept durable; the last call. */
  finish(): Promise<void>;
}

/** What a timelapse works with. */
export interface TimelapseOptions {
  readonly plan: TimelapsePlan;
  /** As it shall be called. */
  readonly camera: string;
  readonly slug: string;
  readonly encoder: () => Promise<Encoder>;
  readonly spool: Pick<Spool, "begin">;
  readonly status: CameraStatus;
  readonly product: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** A group is at most so much of the wall clock, and so much of playing, ms. */
const GROUP = { wallMs: 60_000, playedMs: 2000 } as const;
/** Groups that may wait for the encoder or the disk; more are dropped and counted. */
const MAX_WAITING_GROUPS = 4;
/** How long the encoder may take for the last group, ms. */
const FINISH_MS = 3500;
const TRACK_ID = 1;

/** Pictures that are coded together. */
interface Group {
  readonly track: VideoTrack;
  readonly units: AccessUnit[];
}

/** Makes one. Nothing is written before the first group is whole. */
export function createTimelapse(options: TimelapseOptions): Timelapse {
  const { plan, status, clock, log } = options;
  const { everyMs, fps } = plan;
  const groupMs = Math.max(everyMs, Math.min(GROUP.wallMs, everyMs * fps * GROUP.playedMs / 1000));
  let lastCell = NaN;
  let given: VideoTrack | undefined;
  let shown = 0;
  let group: Group | undefined;
  let groupCell = NaN;
  const waiting: Group[] = [];
  let wake = () => {};
  let ended = false;
  let isFailing = false;
  const tooLate = new AbortController();

  function closeGroup(): void {
    if (group === undefined) return;
    status.framesCaptured += group.units.length;
    if (waiting.length >= MAX_WAITING_GROUPS) status.framesDropped += group.units.length;
    else waiting.push(group);
    group = undefined;
    wake();
  }

  /** The pictures of groups of one codec: a camera that changes it begins anew. */
  async function* unitsOf(first: Group): AsyncGenerator<AccessUnit> {
    const { codec } = first.track;
    let described = first.track;
    yield* first.units;
    while (true) {
      const next = waiting[0];
      if (next === undefined) {
        if (ended) return;
        await new Promise<void>((resolve) => wake = resolve);
      } else if (next.track.codec !== codec) {
        return;
      } else {
        waiting.shift();
        const [key, ...rest] = next.units;
        // An encoder describes what it makes; copied pictures bring their description along.
        const isNew = codec !== "jpeg" && !isSame(described, next.track);
        if (key) yield isNew ? { ...key, track: next.track } : key;
        described = next.track;
        yield* rest;
      }
    }
  }

  async function record(first: Group): Promise<void> {
    const { track } = first;
    const encoding = track.codec === "jpeg";
    const writer = createClipWriter({
      ...options,
      tracks: [encoding ? { ...track, codec: "h264" } : track],
      clipMs: plan.clipMs,
      fragmentUs: 0,
      frameMs: everyMs,
    });
    const units = unitsOf(first);
    const before = status.framesRecorded;
    try {
      const coded = encoding
        ? (await options.encoder()).encode(units, {
          camera: options.camera,
          gopMs: groupMs,
          signal: tooLate.signal,
          onLost: (frames) => status.framesDropped += frames,
          onRepeated: (frames) => status.framesRecorded += frames,
        })
        : units;
      for await (const unit of coded) {
        await writer.write(unit);
        if (status.framesRecorded > before) isFailing = false;
      }
    } finally {
      await writer.finish();
    }
  }

  const running = (async () => {
    while (true) {
      const first = waiting.shift();
      if (first) {
        try {
          await record(first);
        } catch (error) {
          if (!isFailing) log.warn(`the timelapse lost pictures and goes on trying: ${error}`);
          isFailing = true;
        }
      } else if (ended) return;
      else await new Promise<void>((resolve) => wake = resolve);
    }
  })();

  return {
    offer(unit, track) {
      if (ended || !unit.isKey) return;
      const cell = Math.floor(unit.capturedAtMs / everyMs);
      if (cell === lastCell) return;
      lastCell = cell;
      const cellOfGroup = Math.floor(unit.capturedAtMs / groupMs);
      if (cellOfGroup !== groupCell || track !== given) closeGroup();
      groupCell = cellOfGroup;
      given = track;
      group ??= { track: { ...track, id: TRACK_ID }, units: [] };
      const timeUs = Math.round(shown++ * 1_000_000 / fps);
      const { track: _, release, ...rest } = unit;
      // Its owner may want the buffer back long before this is written.
      const data = release ? unit.data.slice() : unit.data;
      group.units.push({ ...rest, data, trackId: TRACK_ID, ptsUs: timeUs, dtsUs: timeUs });
    },
    async finish() {
      closeGroup();
      ended = true;
      wake();
      const done = new AbortController();
      clock.sleep(FINISH_MS, { signal: done.signal }).then(
        () => tooLate.abort(new Error(`the encoder did not finish within ${FINISH_MS / 1000} s`)),
        () => {}, // it did
      );
      await running;
      done.abort();
    },
  };
}

/** The same description, though another session may have told it. */
function isSame(a: VideoTrack, b: VideoTrack): boolean {
  return a.widthPx === b.widthPx && a.heightPx === b.heightPx &&
    a.config.length === b.config.length &&
    a.config.every((byte, index) => byte === b.config[index]);
}
