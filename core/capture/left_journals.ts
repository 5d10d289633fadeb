/**
 * Makes clips of the pictures that waited for their encoder when the process before this one ended.
 * Those that a clip holds already are left out, so that nothing is there twice; a journal goes when its
 * clips are durable, so that one that is interrupted is simply taken up again.
 *
 * @module
 */
import { orAborted } from "../clock.ts";
import type { JournalPicture, LeftJournal, Spool } from "../spool/mod.ts";
import type { CameraStatus } from "../status/board.ts";
import type { AccessUnit, Encoder, Log, VideoTrack } from "../types.ts";
import { createClipWriter } from "./clip_writer.ts";
import { FRAGMENT_US, gopLengthMs } from "./recorder.ts";

/** What it works with. */
export interface LeftJournalsOptions {
  readonly spool: Pick<Spool, "begin" | "list" | "leftJournals" | "mended">;
  readonly encoder: () => Promise<Encoder>;
  readonly clipMs: number;
  readonly product: string;
  readonly log: (camera: string) => Log;
}

/** The times of a clip are rounded, and its last picture's length is the next one's distance, ms. */
const ROUNDING_MS = 5;

/** Whatever `clip.length` was, with a margin, ms: a long history need not be searched. */
const LONGEST_CLIP_MS = 2 * 86_400_000;

/** Takes up all of them, oldest first, until `signal` is aborted. Never rejects. */
export async function recordLeftJournals(
  options: LeftJournalsOptions,
  signal: AbortSignal,
): Promise<void> {
  // Until then it is not known what the clips hold.
  if (!await orAborted(options.spool.mended, signal).catch(() => false)) return;
  for (const journal of options.spool.leftJournals) {
    if (signal.aborted) return;
    const log = options.log(journal.camera);
    try {
      await recordJournal(journal, { ...options, log }, signal);
    } catch (error) {
      if (signal.aborted) return;
      log.error(
        `the pictures that waited for their encoder at the end could not be recorded; they are tried ` +
          `again at the next start: ${error instanceof Error ? error.message : error}`,
        { event: "journal-left" },
      );
    }
  }
}

async function recordJournal(
  journal: LeftJournal,
  options: Omit<LeftJournalsOptions, "log"> & { readonly log: Log },
  signal: AbortSignal,
): Promise<void> {
  const { spool, encoder, clipMs, product, log } = options;
  const { camera, slug } = journal;
  const track: VideoTrack = {
    ...{ id: 1, kind: "video", codec: "h264", widthPx: 0, heightPx: 0 },
    config: new Uint8Array(),
  };
  const writer = createClipWriter({
    ...{ camera, slug, clipMs, product, spool, log },
    tracks: [track],
    fragmentUs: FRAGMENT_US.encoded,
    status: unseen(camera, slug),
  });
  let pictures = 0;
  const missing = async function* (): AsyncGenerator<AccessUnit> {
    for await (const picture of journal.pictures()) {
      if (isRecorded(picture, options.spool, journal)) continue;
      pictures++;
      const { data, ptsUs, capturedAtMs } = picture;
      yield { trackId: track.id, data, ptsUs, dtsUs: ptsUs, isKey: true, capturedAtMs };
    }
  };
  try {
    const coded = (await encoder()).encode(missing(), {
      camera,
      gopMs: gopLengthMs(clipMs),
      signal,
    });
    for await (const unit of coded) await writer.write(unit);
  } finally {
    await writer.finish();
  }
  signal.throwIfAborted();
  await journal.remove();
  if (pictures === 0) return;
  log.info(`recorded ${pictures} pictures that had waited for their encoder at a crash`, {
    event: "journal-recorded",
    pictures,
  });
}

/** Whether a clip covers the moment of a picture. */
function isRecorded(
  { capturedAtMs }: JournalPicture,
  spool: Pick<Spool, "list">,
  { slug }: Pick<LeftJournal, "slug">,
): boolean {
  return spool.list({
    fromMs: capturedAtMs + ROUNDING_MS,
    toMs: capturedAtMs + ROUNDING_MS,
    startFromMs: capturedAtMs - LONGEST_CLIP_MS,
    state: "any",
  }).some(({ key }) => key.startsWith(`${slug}/`));
}

/** What these clips would add to the camera's figures belongs to the process before. */
function unseen(name: string, slug: string): CameraStatus {
  return {
    ...{ name, slug, state: "recording", framesCaptured: 0, framesDropped: 0 },
    ...{ framesRecorded: 0, fps: 0, openClipBytes: 0, clipsFinished: 0, bytesFinished: 0 },
    gaps: { count: 0, totalMs: 0 },
  };
}
