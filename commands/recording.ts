/**
 * A whole recording, joined from the rooms: spool, encoders, cameras and sinks under one signal.
 * `capture` runs it with the user's configuration, the demo with one of its own.
 *
 * @module
 */
import { type FleetAccount, type FleetCamera, recordFleet } from "../core/capture/fleet.ts";
import type { Config, ConfigTables, SinkConfig } from "../core/config/load.ts";
import { createDelivery, type Delivery } from "../core/delivery/mod.ts";
import { createEncoders, type Encoders } from "../core/encode/mod.ts";
import { getLog } from "../core/log.ts";
import { recoverMp4 } from "../core/media/mp4_recovery.ts";
import { accountTypes, cameraTypes } from "../core/sources/mod.ts";
import { openSpool, type Spool } from "../core/spool/mod.ts";
import type { Board, SinkStatus } from "../core/status/board.ts";
import type { Account, Clock, Sink, SinkPlugin, Source } from "../core/types.ts";
import { builtinSinks } from "../sinks/mod.ts";

/** Every kind of account, camera and sink there is, for validation and for opening. */
export const configTables: ConfigTables = { accountTypes, cameraTypes, sinkTypes: builtinSinks };

/** What a recording needs beside its configuration. */
export interface RecordingOptions {
  readonly config: Config;
  readonly board: Board;
  readonly product: string;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  /** Stop recording: what is open is finished. */
  readonly stop: AbortSignal;
  /** How long the sinks may take for what is left when recording has stopped, ms. */
  readonly drainMs: number;
}

/** How often accounts are asked which cameras they have, ms. */
const REDISCOVER_MS = 60_000;
/** A camera that is silent for so long is lost, ms; a slow one gets three pictures' time. */
const STALL_MS = 10_000;

/** Records until `stop` is aborted, delivers what is left within `drainMs`, and closes everything. */
export async function record(options: RecordingOptions): Promise<void> {
  const { config, board, clock, random, stop, drainMs } = options;
  const log = getLog("camsink");
  const enabled = Object.entries(config.sinks).filter(([, sink]) => sink.enabled);
  await using cleanup = new AsyncDisposableStack();

  // Sinks first: wrong credentials are to be told before anything is recorded.
  const sinks = await Promise.all(
    enabled.map(async ([name, sinkConfig]) => {
      const sink = await openSink(name, sinkConfig);
      cleanup.defer(() => sink.close?.());
      return { name, sink, status: newSinkStatus(name, sinkConfig) };
    }),
  );
  const spool: Spool = cleanup.use(
    await openSpool({
      ...config.spool,
      clock,
      log: getLog("spool"),
      sinks: enabled.map(([name]) => name),
      recover: recoverMp4,
    }),
  );
  const { clips: recovered } = spool.recovery;
  if (recovered > 0) {
    log.info(`${recovered} interrupted clips were mended`, {
      event: "recovered",
      ...spool.recovery,
    });
  }
  const encoders: Encoders = cleanup.use(
    await createEncoders({ ...config.encoder, clock, log: getLog("encoder") }),
  );

  const deliveries: Delivery[] = sinks.map(({ name, sink, status }) => {
    board.sinks.set(name, status);
    return createDelivery({ name, sink, spool, status, clock, random, log: getLog(name) });
  });
  const stopDelivery = new AbortController();
  const delivering = Promise.all(deliveries.map((delivery) => delivery.run(stopDelivery.signal)));
  const watching = watchEncoders(encoders, board, clock, stopDelivery.signal);
  try {
    await recordFleet({
      accounts: await openAccounts(config, { clock, random }, cleanup),
      cameras: openCameras(config, { clock, random }),
      encoder: () => encoders.forCamera(),
      spool,
      board,
      clipMs: config.clip.lengthMs,
      product: options.product,
      rediscoverMs: REDISCOVER_MS,
      clock,
      random,
      log: (camera) => getLog(camera ?? "camsink"),
    }, stop);
    await Promise.all(
      deliveries.map((delivery) =>
        delivery.drain({ timeoutMs: drainMs, signal: stopDelivery.signal })
      ),
    );
  } finally {
    stopDelivery.abort();
    await Promise.allSettled([delivering, watching]);
  }
}

async function openSink(name: string, { type, options }: SinkConfig): Promise<Sink> {
  const plugin = sinkPlugin(type);
  return await plugin.open({ name, config: options, log: getLog(name), fetch });
}

/** The plugin of a configured type; the schema has made sure that there is one. */
export function sinkPlugin(type: string): SinkPlugin {
  const plugins: Readonly<Record<string, SinkPlugin<never>>> = builtinSinks;
  const plugin = plugins[type];
  if (!plugin) throw new Error(`there is no sink type "${type}"`);
  // Its own schema has made the options that it is opened with.
  return plugin as SinkPlugin;
}

function newSinkStatus(name: string, { type, options }: SinkConfig): SinkStatus {
  return {
    name,
    type,
    where: whereClipsLie(options),
    state: "idle",
    backlogClips: 0,
    backlogBytes: 0,
    clipsDelivered: 0,
    bytesDelivered: 0,
    clipsQuarantined: 0,
  };
}

/** The one option of a sink that tells a person where to look. */
function whereClipsLie(options: unknown): string {
  if (typeof options !== "object" || options === null) return "";
  for (const key of ["path", "endpoint", "account", "url"]) {
    const value: unknown = Reflect.get(options, key);
    if (typeof value === "string") return value;
  }
  return "";
}

interface SourceSurroundings {
  readonly clock: Clock;
  readonly random: () => number;
}

/** Opens every account that is switched on; none is logged in to before its recorder does so. */
export async function openAccounts(
  config: Config,
  surroundings: SourceSurroundings,
  cleanup: AsyncDisposableStack,
): Promise<FleetAccount[]> {
  const accounts: FleetAccount[] = [];
  for (const [name, { type, enabled, cameras, options }] of Object.entries(config.accounts)) {
    if (!enabled) continue;
    const types: Readonly<Record<string, { open: OpenAccount }>> = accountTypes;
    const account = await types[type]?.open(options as never, {
      ...surroundings,
      log: getLog(name),
    });
    if (!account) throw new Error(`there is no account type "${type}"`);
    accounts.push({ name, account: cleanup.use(account), cameras, stallMs: stallMs(options) });
  }
  return accounts;
}

/** Opens every single camera that is switched on. */
export function openCameras(config: Config, surroundings: SourceSurroundings): FleetCamera[] {
  return Object.values(config.cameras).filter(({ enabled }) => enabled)
    .map(({ name, type, options }) => {
      const types: Readonly<Record<string, { open: OpenSource }>> = cameraTypes;
      const source = types[type]?.open(options as never, { ...surroundings, log: getLog(name) });
      if (!source) throw new Error(`there is no camera type "${type}"`);
      return { name, source, stallMs: stallMs(options) };
    });
}

type Opening = SourceSurroundings & { readonly log: ReturnType<typeof getLog> };
type OpenAccount = (options: never, context: Opening) => Account | Promise<Account>;
type OpenSource = (options: never, context: Opening) => Source;

function stallMs(options: unknown): number {
  const fps: unknown = typeof options === "object" && options !== null
    ? Reflect.get(options, "fps")
    : undefined;
  return Math.max(STALL_MS, typeof fps === "number" && fps > 0 ? 3000 / fps : 0);
}

/** Keeps the board told which encoder each camera has, and how fast it is. */
async function watchEncoders(
  encoders: Encoders,
  board: Board,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    for (const camera of board.cameras.values()) {
      camera.encoder = encoders.describe(camera.name) ?? camera.encoder;
    }
    await clock.sleep(500, { signal }).catch(() => {});
  }
}
