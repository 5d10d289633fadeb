/**
 * What every source is given to work with: time, randomness, the network and the log come from
 * outside, so that a test can hold them still.
 *
 * @module
 */
import type { Clock, Log } from "../types.ts";

/** The surroundings of a source or an account. */
export interface SourceContext {
  readonly clock: Clock;
  readonly log: Log;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  /** The network; the real one where it is left out. */
  readonly fetch?: typeof fetch;
}

/**
 * See `Source.retryMs`: a camera in its owner's network is to be recorded again three seconds after it
 * can be reached at the latest. A connection that nobody answers is given up only after five seconds, but
 * the system sends its first packet again meanwhile.
 */
export const OWN_CAMERA_RETRY_MS = 1500;
