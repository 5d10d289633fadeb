/**
 * A whole recording, joined from the rooms: spool, encoders, cameras and sinks under one signal.
 * `capture` runs it with the user's configuration, the demo with one of its own.
 *
 * @module
 */
import { type FleetAccount, type FleetCamera, recordFleet } from "../core/capture/fleet.ts";
import type { Config } from "../core/config/load.ts";
import { createDelivery, type Delivery } from "../core/delivery/mod.ts";
import { createEncoders } from "../core/encode/mod.ts";
import { getLog } from "../core/log.ts";
import { recoverTornClip } from "../core/media/mp4_recovery.ts";
import { accountTypes, cameraTypes } from "../core/sources/mod.ts";
import { openSpool } from "../core/spool/mod.ts";
import type { Board } from "../core/status/board.ts";
import type { Clock } from "../core/types.ts";
import { builtinSinks } from "../sinks/mod.ts";

/** What a recording needs beside its configuration. */
export interface RecordingOptions {
  readonly config: Config;
  readonly board: Board;
  readonly product: string;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  /** How long the sinks may take for what is left when recording has stopped, ms. */
  readonly drainMs: number;
}
