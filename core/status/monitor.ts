/**
 * Watches a recording while it runs: every few seconds it looks for trouble, tells what began and
 * what ended, and writes the state down for `camsink status`. It only looks: whatever goes wrong in
 * here never touches the recording.
 *
 * @module
 */
import type { Clock, Log, Secret } from "../types.ts";
import { Alerts, logAlert } from "./alerts.ts";
import type { Board } from "./board.ts";
import { type CallOptions, createHeartbeat, createWebhook, newsBody } from "./calls.ts";
import { type Condition, type DiskState, isWanted, type Observed, Watch } from "./conditions.ts";
import { removeStatus, statusPath, takeSnapshot, writeStatus } from "./snapshot.ts";

/** What a monitor works with. */
export interface MonitorOptions {
  readonly board: Board;
  /** See {@linkcode Observed}; it may change while the monitor runs. */
  readonly silentAccounts: ReadonlyMap<string, string | undefined>;
  /** The spool's folder, where the state is written. */
  readonly spoolPath: string;
  readonly space: () => Promise<DiskState>;
  readonly webhook?: Secret;
  readonly heartbeat?: Secret;
  readonly product: string;
  readonly pid: number;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly fetch: typeof fetch;
  readonly log: Log;
  /** Takes secrets out of a text. */
  readonly redact: (text: string) => string;
}

const LOOK_MS = 5000;
const HEARTBEAT_MS = 60_000;

/** Watches until `signal` is aborted, and takes the state's file away. */
export async function monitor(options: MonitorOptions, signal: AbortSignal): Promise<void> {
  const { clock, log, redact, product } = options;
  const watch = new Watch(clock);
  const alerts = new Alerts(clock);
  const calls: CallOptions = { ...options, signal };
  const webhook = options.webhook && createWebhook(options.webhook, calls);
  const heartbeat = options.heartbeat && createHeartbeat(options.heartbeat, calls);
  const writeDown = createWriter(options);
  let beatAtMs = -Infinity;
  while (!signal.aborted) {
    const observed: Observed = { ...options, disk: await spaceOf(options) };
    // Stopping takes every camera from the board: that is no trouble.
    if (signal.aborted) break;
    const conditions = watch.look(observed);
    for (const news of alerts.update(conditions)) {
      logAlert(log, news);
      webhook?.post(newsBody({ ...news, message: redact(news.message) }, product));
    }
    const isDue = clock.monotonic() - beatAtMs >= HEARTBEAT_MS;
    if (heartbeat && isDue && isAllRecorded(observed, conditions)) {
      beatAtMs = clock.monotonic();
      heartbeat.beat();
    }
    await writeDown(observed, alerts);
    await clock.sleep(LOOK_MS, { signal }).catch(() => {});
  }
  await Promise.all([webhook?.idle, heartbeat?.idle]);
  await removeStatus(statusPath(options.spoolPath)).catch(() => {}); // it grows old by itself
}

/** Whether every camera that is to be recorded is. */
function isAllRecorded(
  { board, silentAccounts }: Observed,
  conditions: readonly Condition[],
): boolean {
  // Of a camera that is not heard more is recorded than was asked for.
  const troubled = conditions.filter(({ kind }) => kind !== "events-unheard")
    .map(({ subject }) => subject);
  const cameras = [...board.cameras.values()].filter(isWanted);
  return cameras.length > 0 && silentAccounts.size === 0 &&
    cameras.every(({ name, state }) => state === "recording" && !troubled.includes(name));
}

async function spaceOf({ space }: MonitorOptions): Promise<DiskState | undefined> {
  try {
    return await space();
  } catch {
    return undefined; // the spool tells of a disk that fails
  }
}

/** Writes the state down, and says once when that fails and once when it works again. */
function createWriter(options: MonitorOptions) {
  const { clock, log } = options;
  const path = statusPath(options.spoolPath);
  let isFailing = false;
  return async (observed: Observed, alerts: Alerts): Promise<void> => {
    try {
      const nowMs = clock.now();
      await writeStatus(path, takeSnapshot(observed, { ...options, alerts: alerts.active, nowMs }));
      if (isFailing) log.info(`${path} can be written again`, { event: "status-written" });
      isFailing = false;
    } catch (error) {
      if (!isFailing) {
        log.warn(`cannot write ${path}, so "camsink status" is blind: ${String(error)}`, {
          event: "status-unwritten",
        });
      }
      isFailing = true;
    }
  };
}
