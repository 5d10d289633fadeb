/**
 * A whole recording, joined from the rooms: spool, encoders, cameras and sinks under one signal.
 * `capture` runs it with the user's configuration, the demo with one of its own.
 *
 * @module
 */
import { recordLeftJournals } from "../core/capture/left_journals.ts";
import { type FleetAccount, type FleetCamera, recordFleet } from "../core/capture/fleet.ts";
import { rm } from "node:fs/promises";
import { orAborted } from "../core/clock.ts";
import type { Config, SinkConfig } from "../core/config/load.ts";
import {
  createDelivery,
  type Delivery,
  type DeliveryOptions,
  keepRetention,
  secretsIn,
} from "../core/delivery/mod.ts";
import { type EncodersOnDemand, encodersOnDemand } from "../core/encode/on_demand.ts";
import { getLog, redact } from "../core/log.ts";
import { recoverMp4 } from "../core/media/mp4_recovery.ts";
import { isPluginSink } from "../core/plugins/mod.ts";
import { openSpool, type RecoverTornClip, type Spool } from "../core/spool/mod.ts";
import type { Board, SinkStatus } from "../core/status/board.ts";
import { createWebhook } from "../core/status/calls.ts";
import { createEventAlerts, type EventAlerts } from "../core/status/event_alerts.ts";
import { monitor } from "../core/status/monitor.ts";
import type { Account, AnyCamera, Clock } from "../core/types.ts";
import {
  givesJpegs,
  handoverFolder,
  lighterOptions,
  openAccount,
  openCamera,
  openSink,
} from "./rooms.ts";
import { whereOf } from "./where.ts";

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

/** A clip that waits for a key picture is longer than it should be by less than this, ms. */
const CLIP_MARGIN_MS = 60_000;

/** In the end a webhook is given so long for the last events, ms. */
const LAST_ALERTS_MS = 1500;

/** In the end a sink that fails for so long is not waited for, ms. */
const TROUBLE_MS = 3000;

/** Records until `stop` is aborted, delivers what is left within `drainMs`, and closes everything. */
export async function record(options: RecordingOptions): Promise<void> {
  const { config, board, clock, random, stop } = options;
  const log = getLog("camsink");
  const enabled = Object.entries(config.sinks).filter(([, sink]) => sink.enabled);
  await using cleanup = new AsyncDisposableStack();

  const handover = handoverFolder(config.spool.path);
  // Sinks first: wrong credentials are to be told before anything is recorded.
  const sinks = await Promise.all(
    enabled.map(async ([name, sinkConfig]) => {
      const sink = await openSink(name, {
        config: sinkConfig,
        context: options,
        handover,
        wait: false,
      });
      cleanup.defer(() => sink.close?.());
      return { name, sink, sinkConfig, status: await newSinkStatus(name, sinkConfig) };
    }),
  );
  const spool: Spool = cleanup.use(
    await openSpool({
      ...config.spool,
      clock,
      log: getLog("spool"),
      sinks: enabled.map(([name]) => name),
      optionalSinks: enabled.filter(([, sink]) => !sink.required).map(([name]) => name),
      // A folder of this machine has no use for it, and a plugin may.
      md5: enabled.some(([, { type }]) => type !== "local-folder"),
      recover: recoverTornClip,
      // Cameras first: what a crash left behind has waited already.
      mendLater: true,
      historyMs: historyMs(enabled.map(([, sink]) => sink)),
    }),
  );
  // What a killed process left there keeps the room of clips that are gone.
  await rm(handover, { recursive: true, force: true });
  spool.mended.then(() => {
    const { recovered } = spool.recovery;
    if (recovered === 0) return;
    log.info(`mended ${recovered} interrupted ${recovered === 1 ? "clip" : "clips"}`, {
      event: "recovered",
      ...spool.recovery,
    });
  });
  const encoded = Object.values(config.cameras).filter(givesJpegs).length;
  const encoders = cleanup.use(
    encodersOnDemand({
      ...config.encoder,
      cameras: encoded,
      clock,
      log: getLog("encoder"),
      lighterOptions: (camera) => lighterOptions(config, camera),
    }),
  );
  // Where it is certain to be needed, that there is none is to be told now.
  if (encoded > 0) await encoders.open();

  const deliveries: Delivery[] = sinks.map(({ name, sink, sinkConfig, status }) => {
    board.sinks.set(name, status);
    return deliveryTo(name, { sink, sinkConfig, spool, status, clock, random });
  });
  const stopDelivery = new AbortController();
  const delivering = Promise.all(deliveries.map((delivery) => delivery.run(stopDelivery.signal)));
  const retaining = sinks.map(({ name, sink, sinkConfig: { retain = {} } }) =>
    keepRetention({ ...retain, name, sink, spool, clock, log: getLog(name) }, stopDelivery.signal)
  );
  const watching = watchEncoders(encoders, board, clock, stopDelivery.signal);
  const silentAccounts = new Map<string, string | undefined>();
  const monitoring = monitor({
    board,
    silentAccounts,
    spoolPath: config.spool.path,
    space: () => spool.space(),
    ...config.alerts,
    product: options.product,
    pid: Deno.pid,
    clock,
    random,
    fetch,
    log,
    redact,
  }, AbortSignal.any([stop, stopDelivery.signal]));
  const alerts = openEventAlerts(options, { spool, signal: stopDelivery.signal });
  const alerting = alerts?.run(stopDelivery.signal);
  const takingUp = recordLeftJournals({
    encoder: () => encoders.forCamera(),
    ...{ spool, clipMs: config.clip.lengthMs, product: options.product, log: getLog },
  }, stop);
  try {
    await recordFleet({
      accounts: openAccounts(options, { cleanup, silentAccounts }),
      cameras: openCameras(options),
      encoder: () => encoders.forCamera(),
      soundEncoder: (sound) => encoders.forSound(sound),
      pictureDecoder: (pictures) => encoders.forKeyPictures(pictures),
      spool,
      board,
      clipMs: config.clip.lengthMs,
      product: options.product,
      rediscoverMs: REDISCOVER_MS,
      eventAlerts: alerts,
      clock,
      random,
      log: (camera) => getLog(camera ?? "camsink"),
    }, stop);
    await takingUp;
    await Promise.all(
      deliveries.map((delivery, index) => drain(delivery, sinks[index]?.status, options)),
    );
    await alerts?.finish();
  } finally {
    stopDelivery.abort();
    await Promise.allSettled([takingUp, delivering, watching, monitoring, alerting, ...retaining]);
  }
}

/** Who tells the webhook of events, where that was asked for. */
function openEventAlerts(
  { config, clock, random, product }: RecordingOptions,
  { spool, signal }: { readonly spool: Spool; readonly signal: AbortSignal },
): (Omit<EventAlerts, "finish"> & { finish(): Promise<void> }) | undefined {
  const { webhook: address, events: plan } = config.alerts;
  if (address === undefined || plan === undefined) return undefined;
  const log = getLog("alerts");
  const what = "alerts.webhook (events)";
  const webhook = createWebhook(address, { clock, random, fetch, log, signal, what });
  const alerts = createEventAlerts({
    ...{ plan, webhook, product, clock, log },
    clipMs: config.clip.lengthMs,
    clips: {
      hasSinks: Object.values(config.sinks).some(({ enabled }) => enabled),
      find: (camera, fromMs, toMs) =>
        spool.list({
          ...{ camera, fromMs, toMs, state: "any", limit: 50 },
          startFromMs: fromMs - config.clip.lengthMs - CLIP_MARGIN_MS,
        }).map((clip) => ({
          key: clip.key,
          startMs: clip.start.getTime(),
          endMs: clip.end.getTime(),
          tags: clip.tags,
          urls: Object.fromEntries(
            spool.deliveries(clip.key).flatMap(({ sink, receipt }) => {
              const url = urlOf(receipt);
              return url === undefined ? [] : [[sink, url]];
            }),
          ),
        })),
    },
  });
  return {
    ...alerts,
    async finish() {
      alerts.finish();
      const done = new AbortController();
      await Promise.race([
        webhook.idle,
        clock.sleep(LAST_ALERTS_MS, { signal: done.signal }).catch(() => {}),
      ]);
      done.abort();
    },
  };
}

/** Where a sink says that it holds a clip. */
function urlOf(receipt: unknown): string | undefined {
  const url: unknown = Object.getOwnPropertyDescriptor(receipt ?? {}, "url")?.value;
  return typeof url === "string" ? url : undefined;
}

/** The delivery to a sink, with the limits that its user set. */
export function deliveryTo(
  name: string,
  { sinkConfig, ...parts }:
    & { readonly sinkConfig: SinkConfig; readonly spool: Spool }
    & Pick<DeliveryOptions, "sink" | "status" | "clock" | "random">,
): Delivery {
  const { spool, clock, sink } = parts;
  return createDelivery({
    ...parts,
    name,
    log: getLog(name),
    redact,
    secrets: secretsIn(sinkConfig.options),
    ...(isPluginSink(sink) ? { turn: (options) => sink.turn(options) } : {}),
    concurrency: sinkConfig.concurrency,
    bytesPerSecond: sinkConfig.bytesPerSecond,
    ...(sinkConfig.perDayBytes === undefined ? {} : { perDayBytes: sinkConfig.perDayBytes }),
    // A restart does not give the day anew.
    usedTodayBytes: spool.storedBytesSince(name, startOfDay(clock.now())),
  });
}

/** Waits for what is left, but not for a sink that is in trouble: its clips are safe on the spool. */
export async function drain(
  delivery: Delivery,
  status: SinkStatus | undefined,
  { clock, drainMs }: Pick<RecordingOptions, "clock" | "drainMs">,
): Promise<void> {
  const end = new AbortController();
  const giveUp = (async () => {
    let troubledMs = 0;
    while (troubledMs < TROUBLE_MS) {
      await clock.sleep(250, { signal: end.signal });
      troubledMs = status?.state === "retrying" ? troubledMs + 250 : 0;
    }
    end.abort();
  })().catch(() => {}); // drained
  await delivery.drain({ timeoutMs: drainMs, signal: end.signal });
  end.abort();
  await giveUp;
}

/** The spool knows the disk and the media room the format; here the one is told by the other. */
export const recoverTornClip: RecoverTornClip = async (file) => {
  const found = await recoverMp4({
    sizeBytes: file.size,
    read: (offset, length) => file.read(offset, length),
  });
  if (found.state === "empty") return { state: "empty" };
  const { frames, durationUs, camera, start } = found.clip;
  const contents = {
    frames,
    durationMs: Math.round(durationUs / 1000),
    camera,
    startMs: start.getTime(),
  };
  if (found.state === "finished") return { state: "finished", ...contents };
  const { keepBytes, tail, patch } = found;
  return { state: "torn", keepBytes, tail, patch, ...contents };
};

/** So long it must be known what a sink holds, for retention to find it, ms. */
function historyMs(sinks: readonly SinkConfig[]): number {
  const years = (count: number) => count * 366 * 86_400_000;
  return Math.max(
    years(1.1),
    ...sinks.map(({ retain }) => (retain?.ageMs ?? 0) + years(retain?.sizeBytes ? 20 : 1)),
  );
}

/** When the UTC day began. */
function startOfDay(nowMs: number): Date {
  return new Date(new Date(nowMs).setUTCHours(0, 0, 0, 0));
}

/** The state of a sink that nothing was delivered to yet. */
export async function newSinkStatus(name: string, config: SinkConfig): Promise<SinkStatus> {
  return {
    name,
    type: config.type,
    where: await whereOf(config),
    state: "idle",
    backlogClips: 0,
    backlogBytes: 0,
    clipsDelivered: 0,
    bytesDelivered: 0,
    clipsQuarantined: 0,
  };
}

/** Every account that is switched on; none is logged in to before its cameras are asked for. */
function openAccounts(
  context: RecordingOptions,
  { cleanup, silentAccounts }: {
    readonly cleanup: AsyncDisposableStack;
    readonly silentAccounts: Map<string, string | undefined>;
  },
): FleetAccount[] {
  return Object.entries(context.config.accounts).filter(([, { enabled }]) => enabled)
    .map(([name, config]) => ({
      name,
      account: listened(name, {
        account: cleanup.use(openAccount(name, { config, context })),
        silentAccounts,
      }),
      cameras: config.cameras,
      stallMs: stallMs(config.options),
      events: config.events,
      timelapse: config.timelapse,
    }));
}

/** The same account; `silentAccounts` has its name until it has told its cameras once. */
function listened(
  name: string,
  { account, silentAccounts }: {
    readonly account: Account<AnyCamera>;
    readonly silentAccounts: Map<string, string | undefined>;
  },
): Account<AnyCamera> {
  silentAccounts.set(name, undefined);
  return {
    cameras: async (options) => {
      try {
        const found = await account.cameras(options);
        silentAccounts.delete(name);
        return found;
      } catch (error) {
        if (silentAccounts.has(name)) {
          silentAccounts.set(name, error instanceof Error ? error.message : String(error));
        }
        throw error;
      }
    },
    [Symbol.asyncDispose]: () => account[Symbol.asyncDispose](),
  };
}

/** Every single camera that is switched on. */
function openCameras(context: RecordingOptions): FleetCamera[] {
  return Object.values(context.config.cameras).filter(({ enabled }) => enabled)
    .map((config) => ({
      name: config.name,
      source: openCamera({ config, context }),
      stallMs: stallMs(config.options),
      events: config.events,
      timelapse: config.timelapse,
    }));
}

function stallMs(options: unknown): number {
  const fps: unknown = Object.getOwnPropertyDescriptor(options ?? {}, "fps")?.value;
  return Math.max(STALL_MS, typeof fps === "number" && fps > 0 ? 3000 / fps : 0);
}

/** Keeps the board told which encoder each camera has, and how fast it is. */
async function watchEncoders(
  encoders: EncodersOnDemand,
  board: Board,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  await orAborted(encoders.opened, signal).catch(() => {});
  while (!signal.aborted) {
    for (const camera of board.cameras.values()) {
      camera.encoder = encoders.describe(camera.name) ?? camera.encoder;
    }
    await clock.sleep(500, { signal }).catch(() => {});
  }
}
