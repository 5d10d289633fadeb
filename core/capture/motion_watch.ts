/**
 * Makes events of the motion that is seen in a camera's pictures. While nothing can be seen, everything
 * is recorded; that is said once, and shown for as long as it is so.
 *
 * Coded video, and a JPEG that is not looked into otherwise, is looked at from key picture to key
 * picture: what has changed between two of them has happened at some time between them, and that is the
 * event.
 *
 * @module
 */
import type { PictureDecoder, PictureDecoderOptions } from "../encode/mod.ts";
import type { CameraStatus } from "../status/board.ts";
import type { AccessUnit, Clock, Log, VideoTrack } from "../types.ts";
import type { EventHearer } from "./event_listener.ts";
import {
  createKeyPictureMotionFinder,
  createMotionFinder,
  createPace,
  type Sight,
} from "./motion.ts";

/** Looks for motion in a camera's pictures. */
export interface MotionWatch extends AsyncDisposable {
  /** Takes a picture of the camera's only video track. Never waits; the unit is not kept. */
  look(unit: AccessUnit, track: VideoTrack): void;
}

/** What one is made with. */
export interface MotionWatchOptions {
  /** Where to get a decoder for a camera that gives coded video. */
  readonly pictureDecoder?: (options: PictureDecoderOptions) => Promise<PictureDecoder>;
  /** So much after each event is recorded, ms. */
  readonly afterMs: number;
  /** Where it is shown that nothing can be seen. */
  readonly status: Pick<CameraStatus, "eventsUnheard">;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Of coded video at most one key picture in so long is decoded, ms: some cameras give no others. Those
 * that come every second do not do so to the millisecond.
 */
const KEY_EVERY_MS = 900;
/** Key pictures that are being decoded, or were passed over, before nothing is taken for peace. */
const MOST_UNSEEN = 3;
/** A key picture has been seen so soon after it was taken, ms. */
const SEEN_MS = 1000;
/** A change over a longer time, such as while the camera was away, happened at its end, ms. */
const LONGEST_MS = 30_000;
/** A decoder that could not be had is asked for again after so long, ms. */
const RETRY_MS = 60_000;

/** Makes one that tells the gate what it sees, and that it sees nothing where it cannot. */
export function watchMotion(gate: EventHearer, options: MotionWatchOptions): MotionWatch {
  gate.isHeard = false; // until something can be seen
  const tell = (sight: Sight, startMs: number, endMs: number) => {
    gate.isHeard = sight !== "unknown";
    if (sight === "motion") gate.note({ kind: "motion", startMs, endMs });
  };
  const jpegs = createMotionFinder();
  const keys = watchKeyPictures(gate, { ...options, tell });
  return {
    look(unit, track) {
      if (track.codec !== "jpeg") return keys.look(unit, track);
      const { capturedAtMs } = unit;
      const sight = jpegs.look(unit.data, capturedAtMs);
      if (sight === "foreign") keys.look(unit, track);
      else if (sight !== "resting") tell(sight, capturedAtMs, capturedAtMs);
    },
    [Symbol.asyncDispose]: () => keys[Symbol.asyncDispose](),
  };
}

function watchKeyPictures(
  gate: EventHearer,
  { pictureDecoder, tell, afterMs, status, clock, log }: MotionWatchOptions & {
    tell(sight: Sight, startMs: number, endMs: number): void;
  },
): MotionWatch {
  const pace = createPace(KEY_EVERY_MS);
  const finder = createKeyPictureMotionFinder();
  let decoder: PictureDecoder | undefined;
  let opening: Promise<void> | undefined;
  let openAgainMs = -Infinity;
  let lastAtMs = NaN;
  let unseen = 0;
  let hasWarned = false;
  let isClosed = false;

  const blind = (reason: string) => {
    gate.isHeard = false;
    status.eventsUnheard = `motion cannot be seen (${reason}): everything is recorded`;
    const message = `motion cannot be seen: ${reason}; everything is recorded until it works`;
    if (hasWarned) log.debug(message);
    else log.warn(message, { event: "events-unheard" });
    hasWarned = true;
  };
  const open = async () => {
    try {
      if (pictureDecoder === undefined) throw new Error("nothing here decodes coded video");
      const opened = await pictureDecoder({
        onBlind: blind,
        onPicture(picture) {
          if (isClosed) return;
          unseen = 0;
          if (status.eventsUnheard !== undefined) {
            log.info("motion can be seen again", { event: "events-heard" });
          }
          status.eventsUnheard = undefined;
          const { capturedAtMs } = picture;
          const sinceMs = capturedAtMs - lastAtMs;
          const spanMs = sinceMs >= 0 && sinceMs <= LONGEST_MS ? sinceMs : 0;
          lastAtMs = capturedAtMs;
          // What goes on is one recording: it must not end before the next look says so.
          const restMs = spanMs > 0 ? Math.max(0, spanMs + SEEN_MS - afterMs) : 0;
          tell(finder.look(picture), capturedAtMs - spanMs, capturedAtMs + restMs);
        },
      });
      if (isClosed) await opened[Symbol.asyncDispose]();
      else decoder = opened;
    } catch (error) {
      openAgainMs = clock.monotonic() + RETRY_MS;
      blind(error instanceof Error ? error.message : String(error));
    } finally {
      opening = undefined;
    }
  };

  return {
    look(unit, track) {
      if (!unit.isKey || !pace.isDue(unit.capturedAtMs)) return;
      if (decoder) {
        decoder.push(unit, track);
        if (++unseen > MOST_UNSEEN) gate.isHeard = false;
      } else if (!opening && !isClosed && clock.monotonic() >= openAgainMs) opening = open();
    },
    async [Symbol.asyncDispose]() {
      isClosed = true;
      await opening;
      await decoder?.[Symbol.asyncDispose]();
    },
  };
}
