/**
 * Key pictures by the installed ffmpeg for as long as it can: some builds have no decoder of H.264 or
 * H.265, for patents' sake, and others list one that works with certain hardware only. So what an
 * ffmpeg lists is not asked. The first picture that it fails at is tried with ffmpeg.wasm: where that
 * gives it back, the installed one cannot; where both fail, the picture is to blame. One that has given
 * back a picture of a coding is never doubted again.
 *
 * @module
 */
import type { Log, VideoTrack } from "../types.ts";
import type { Engine, PictureLane, PictureLaneOptions } from "./engine.ts";

type Codec = VideoTrack["codec"];

/** What it is made with. */
export interface AblePicturesOptions {
  readonly installed: Pick<Engine, "openPictures" | "description">;
  /** Opens ffmpeg.wasm, at the first need. */
  readonly inProcess: () => Promise<Pick<Engine, "openPictures">>;
  readonly log: Log;
}

/** Gives a process what opens a camera's run; what was learned of one camera holds for all. */
export function createAblePictures(
  { installed, inProcess, log }: AblePicturesOptions,
): (options: PictureLaneOptions) => PictureLane {
  const able = new Set<Codec>();
  const unable = new Map<Codec, Pick<Engine, "openPictures">>();

  return ({ track, onPicture, onEnd }) => {
    const { codec } = track;
    const known = unable.get(codec);
    if (known) return known.openPictures({ track, onPicture, onEnd });
    let inside: Uint8Array<ArrayBuffer> | undefined;
    let isOver = false;
    const end = (error?: Error) => {
      if (isOver) return;
      isOver = true;
      onEnd(error);
    };
    /** Tries the picture that the installed one failed at. */
    const tryInProcess = async (data: Uint8Array<ArrayBuffer>, error: Error | undefined) => {
      try {
        const other = await inProcess();
        if (isOver) return;
        lane = other.openPictures({
          track,
          onPicture(pixels) {
            if (isOver) return;
            if (!able.has(codec) && !unable.has(codec)) {
              unable.set(codec, other);
              log.warn(
                `${installed.description} does not decode ${codec} ` +
                  `(${error?.message ?? "it gave nothing"}): motion is looked for with ffmpeg.wasm`,
                { event: "decoder-missing" },
              );
            }
            onPicture(pixels);
          },
          onEnd: () => end(error),
        });
        lane.decode(data);
      } catch {
        end(error);
      }
    };
    let lane = installed.openPictures({
      track,
      onPicture(pixels) {
        inside = undefined;
        able.add(codec);
        if (!isOver) onPicture(pixels);
      },
      onEnd(error) {
        if (isOver) return;
        if (inside === undefined || able.has(codec)) return end(error);
        void tryInProcess(inside, error);
      },
    });
    return {
      decode(data) {
        // A run takes the memory for itself.
        inside = able.has(codec) || unable.has(codec) ? undefined : data.slice();
        lane.decode(data);
      },
      kill() {
        isOver = true;
        return lane.kill();
      },
    };
  };
}
