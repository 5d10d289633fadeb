/**
 * One try to store one clip, watched: a sink that takes no byte for the stall timeout is cut off,
 * however long the whole may take, and one that does not even listen to that is left behind.
 *
 * @module
 */
import { formatBytes, formatDuration } from "../config/values.ts";
import { type Clip, type Clock, type PutResult, type Sink, SinkError } from "../types.ts";

/** How one try is watched. */
export interface WatchOptions {
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** 1 for the first try of this clip. */
  readonly attempt: number;
  /** Cut off after so long without progress, ms. */
  readonly stallMs: number;
  /** A sink that was cut off has so long to obey before it is left behind, ms. */
  readonly graceMs: number;
  /** Slows the clip down; calls `onRead` whenever it has handed out bytes. */
  readonly pace?: (clip: Clip, options: { signal: AbortSignal; onRead(): void }) => Clip;
  /** Called with the bytes accepted so far. */
  readonly onProgress: (sentBytes: number) => void;
  /** Called when the sink did not obey. */
  readonly onLeftBehind: () => void;
}

/**
 * Stores the clip.
 *
 * @throws what the sink threw; a {@linkcode SinkError} of kind `retry` after a stall
 */
export async function watchedPut(
  sink: Sink,
  clip: Clip,
  options: WatchOptions,
): Promise<PutResult> {
  const { signal, clock, stallMs } = options;
  const settled = new AbortController();
  const stalled = new AbortController();
  const cut = AbortSignal.any([signal, stalled.signal]);
  let progressAtMs = clock.monotonic();
  let sentBytes = 0;

  const watch = async () => {
    for (;;) {
      const leftMs = progressAtMs + stallMs - clock.monotonic();
      if (leftMs <= 0) break;
      await clock.sleep(leftMs, { signal: settled.signal });
    }
    stalled.abort(
      new SinkError(
        "retry",
        `no progress for ${formatDuration(stallMs)} after ${formatBytes(sentBytes)} of ` +
          `${formatBytes(clip.bytes)} of ${clip.key}`,
      ),
    );
  };
  const leave = async (): Promise<never> => {
    await aborted(cut, settled.signal);
    await clock.sleep(options.graceMs, { signal: settled.signal });
    options.onLeftBehind();
    throw cut.reason;
  };
  watch().catch(() => {}); // ends with the try
  const left = leave();
  left.catch(() => {});
  try {
    const onRead = () => {
      progressAtMs = clock.monotonic();
    };
    const over = AbortSignal.any([cut, settled.signal]);
    const paced = options.pace?.(clip, { signal: over, onRead }) ?? clip;
    const put = Promise.resolve().then(() =>
      sink.put(paced, {
        signal: cut,
        attempt: options.attempt,
        progress: (bytes) => {
          // The same figure again is no progress: a sink must not keep itself alive by talking.
          if (bytes !== sentBytes) progressAtMs = clock.monotonic();
          sentBytes = bytes;
          options.onProgress(bytes);
        },
      })
    );
    put.catch(() => {}); // it may fail long after it was left behind
    return await Promise.race([put, left]);
  } catch (error) {
    throw stalled.signal.aborted && !signal.aborted ? stalled.signal.reason : error;
  } finally {
    settled.abort(new Error("the try is over"));
  }
}

/** Resolves when `signal` is aborted; rejects when `end` is, first. */
function aborted(signal: AbortSignal, end: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return resolve();
    const stop = new AbortController();
    signal.addEventListener("abort", () => {
      stop.abort();
      resolve();
    }, { signal: stop.signal });
    end.addEventListener("abort", () => {
      stop.abort();
      reject(end.reason);
    }, { signal: stop.signal });
  });
}
