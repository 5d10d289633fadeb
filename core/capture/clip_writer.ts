/**
 * Cuts a camera's units into clips and writes them to the spool.
 *
 * A clip begins with a key unit and ends at the key unit nearest to the next wall-clock multiple of
 * the clip length. What has come in is appended to the clip's file as a fragment at every key unit
 * and, between them, every `fragmentUs`, so that a crash costs no more than that. A clip is finished (indexed,
 * hashed, made durable) while the next one is already being written: recording never waits.
 *
 * @module
 */
import { formatBytes } from "../config/values.ts";
import { createMp4Writer, type Mp4Writer } from "../media/mp4_writer.ts";
import type { OpenClip, Spool } from "../spool/mod.ts";
import type { CameraStatus } from "../status/board.ts";
import type { AccessUnit, Log, Track } from "../types.ts";

/** See {@linkcode createClipWriter}. */
export interface ClipWriter {
  /** Takes the next unit in decode order. @throws if the spool cannot take it */
  write(unit: AccessUnit): Promise<void>;
  /** Ends the open clip, if there is one, and waits until every clip is durable; the last call. */
  finish(): Promise<void>;
}

/** What a clip writer needs to know. */
export interface ClipWriterOptions {
  readonly camera: string;
  readonly slug: string;
  readonly tracks: readonly Track[];
  readonly clipMs: number;
  /** What has come in is written at least so often, in media time, µs. */
  readonly fragmentUs: number;
  /** Name and version of the program, for the clip's metadata. */
  readonly product: string;
  readonly spool: Pick<Spool, "begin">;
  readonly status: CameraStatus;
  readonly log: Log;
}

interface Recording {
  readonly file: OpenClip;
  readonly mp4: Mp4Writer;
  readonly startMs: number;
  readonly startUs: number;
  readonly slot: number;
  frames: number;
  /** In the MP4's index, but refused by the disk: the next write, or the last one, takes it along. */
  unwritten: { readonly chunks: readonly Uint8Array[]; readonly frames: number };
}

const NOTHING: Recording["unwritten"] = { chunks: [], frames: 0 };

/** Makes a writer for one session of one camera. */
export function createClipWriter(options: ClipWriterOptions): ClipWriter {
  const { camera, slug, clipMs, fragmentUs, product, spool, status, log } = options;
  const tracks = new Map(options.tracks.map((track) => [track.id, track]));
  const videoId = options.tracks.find((track) => track.kind === "video")?.id;
  let recording: Recording | undefined;
  let pending: AccessUnit[] = [];
  let lastKeyUs: number | undefined;
  let gopUs = 0;
  let lastVideoUs = 0;
  let frameUs = 100_000;
  let finished = false;
  const finishing = new Set<Promise<void>>();

  const slotOf = (unit: AccessUnit) =>
    // A key unit up to half a GOP before the boundary is nearer to it than the next one will be.
    Math.floor((unit.capturedAtMs + (gopUs < 4_000_000 ? 0 : gopUs / 2000)) / clipMs);

  function belongsToNextClip(unit: AccessUnit): boolean {
    if (!recording || !unit.isKey || unit.trackId !== videoId) return false;
    return (unit.track !== undefined && !recording.mp4.fits(unit.track)) ||
      slotOf(unit) > recording.slot ||
      unit.capturedAtMs < recording.startMs || // the clock went back
      unit.dtsUs - recording.startUs >= 2000 * clipMs;
  }

  async function begin(unit: AccessUnit): Promise<void> {
    const start = new Date(unit.capturedAtMs);
    const mp4 = createMp4Writer({
      tracks: [...tracks.values()],
      startedAt: start,
      camera,
      product,
    });
    const file = await spool.begin({ camera, slug, start, contentType: "video/mp4" });
    try {
      await file.append([mp4.header()]);
    } catch (error) {
      await file.discard().catch(() => {}); // the reason is told by the first error
      throw error;
    }
    recording = {
      file,
      mp4,
      startMs: unit.capturedAtMs,
      startUs: unit.dtsUs,
      slot: slotOf(unit),
      frames: 0,
      unwritten: NOTHING,
    };
    status.openClip = file.key;
    status.openClipBytes = file.bytes;
  }

  /** Writes what has come in up to `untilUs`: sound may be ahead, and belong to the next clip. */
  async function flush(nextVideoUs: number, untilUs = nextVideoUs): Promise<void> {
    if (!recording || videoId === undefined) return;
    const isDue = (unit: AccessUnit) => unit.trackId === videoId || unit.dtsUs < untilUs;
    const units = pending.filter(isDue);
    if (units.length === 0) return;
    const frames = units.filter((unit) => unit.trackId === videoId).length;
    pending = pending.filter((unit) => !isDue(unit));
    const { file, mp4, unwritten } = recording;
    let chunks: readonly Uint8Array[];
    try {
      chunks = mp4.fragment(units, { nextDtsUs: new Map([[videoId, nextVideoUs]]) });
    } catch (error) {
      status.framesDropped += frames;
      throw error;
    }
    recording.frames += frames;
    recording.unwritten = {
      chunks: [...unwritten.chunks, ...chunks],
      frames: unwritten.frames + frames,
    };
    await file.append(recording.unwritten.chunks);
    status.framesRecorded += recording.unwritten.frames;
    status.openClipBytes = file.bytes;
    recording.unwritten = NOTHING;
  }

  function close(endUs: number): void {
    if (!recording) return;
    const { file, mp4, startMs, startUs, frames, unwritten } = recording;
    recording = undefined;
    status.openClip = undefined;
    status.openClipBytes = 0;
    const end = new Date(startMs + Math.max(0, Math.round((endUs - startUs) / 1000)));
    const done = (async () => {
      if (frames === 0) return await file.discard();
      const { tail, patch } = mp4.finish();
      const clip = await file.finish({ end, tail: [...unwritten.chunks, ...tail], patch, frames });
      status.framesRecorded += unwritten.frames;
      status.clipsFinished++;
      status.bytesFinished += clip.bytes;
      log.info(
        `clip finished: ${frames} ${frames === 1 ? "picture" : "pictures"}, ${
          formatBytes(clip.bytes)
        }`,
        {
          event: "clip-finished",
          key: clip.key,
          bytes: clip.bytes,
          sha256: clip.sha256,
          frames,
        },
      );
    })().catch((error) => {
      status.framesDropped += unwritten.frames;
      log.error(
        `the clip ${file.key} could not be finished; the spool goes on trying: ${error}`,
        { event: "clip-unfinished", key: file.key },
      );
    }).finally(() => finishing.delete(done));
    finishing.add(done);
  }

  return {
    async write(unit) {
      if (finished) return;
      const isVideo = unit.trackId === videoId;
      if (belongsToNextClip(unit)) {
        await flush(unit.dtsUs);
        close(unit.dtsUs);
      }
      if (unit.track) tracks.set(unit.track.id, unit.track);
      if (isVideo) {
        if (unit.isKey) {
          if (lastKeyUs !== undefined) gopUs = unit.dtsUs - lastKeyUs;
          lastKeyUs = unit.dtsUs;
        }
        if (unit.dtsUs > lastVideoUs && lastVideoUs > 0) frameUs = unit.dtsUs - lastVideoUs;
        lastVideoUs = unit.dtsUs;
      }
      if (!recording) {
        if (!isVideo || !unit.isKey) return; // nothing can be decoded before a key unit
        await begin(unit);
      }
      const first = pending[0];
      if (
        first && isVideo && (unit.isKey || unit.dtsUs - first.dtsUs >= fragmentUs)
      ) {
        await flush(unit.dtsUs);
      }
      pending.push(unit);
    },
    async finish() {
      finished = true;
      try {
        await flush(lastVideoUs + frameUs, Infinity);
      } finally {
        close(lastVideoUs + frameUs);
        await Promise.all(finishing);
      }
    },
  };
}
