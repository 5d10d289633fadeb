/**
 * All cameras at once: one recorder for each single camera and for each camera of each account.
 * Accounts are asked again and again, so that a camera that is added or removed there is recorded
 * or let go without a restart. No camera waits for another, and no account for another.
 *
 * @module
 */
import { backoffMs } from "../clock.ts";
import { cameraSlug } from "../spool/slug.ts";
import type { Board, CameraStatus } from "../status/board.ts";
import type { Account, DiscoveredCamera, Log, Source } from "../types.ts";
import { recordCamera, type RecorderOptions } from "./recorder.ts";

/** An account and which of its cameras to record. */
export interface FleetAccount {
  readonly name: string;
  readonly account: Account;
  /** Names or ids; `all` for every camera. */
  readonly cameras: "all" | readonly string[];
  /** See {@linkcode RecorderOptions.stallMs}. */
  readonly stallMs: number;
}

/** A camera of its own. */
export interface FleetCamera {
  readonly name: string;
  readonly source: Source;
  /** See {@linkcode RecorderOptions.stallMs}. */
  readonly stallMs: number;
}

/** What a fleet works with. */
export interface FleetOptions extends
  Pick<
    RecorderOptions,
    "encoder" | "spool" | "clipMs" | "product" | "clock" | "random"
  > {
  readonly accounts: readonly FleetAccount[];
  readonly cameras: readonly FleetCamera[];
  readonly board: Board;
  /** How often accounts are asked for their cameras, ms. */
  readonly rediscoverMs: number;
  readonly log: (camera?: string) => Log;
}

/** Records until `signal` is aborted and every open clip is durable. */
export async function recordFleet(options: FleetOptions, signal: AbortSignal): Promise<void> {
  const recorders = createRecorders(options, signal);
  for (const camera of options.cameras) recorders.start(camera.name, undefined, camera);
  await Promise.all(
    options.accounts.map((account) => followAccount(account, options, recorders, signal)),
  );
  await untilAborted(signal);
  await recorders.finished();
}

/** Starts and stops recorders as cameras come to and leave an account. */
async function followAccount(
  { name, account, cameras: wanted, stallMs }: FleetAccount,
  options: FleetOptions,
  recorders: Recorders,
  signal: AbortSignal,
): Promise<void> {
  const { clock, random, rediscoverMs } = options;
  const log = options.log(name);
  const recorded = new Map<string, string>();
  let attempt = 0;
  let missing = "";
  while (!signal.aborted) {
    let pauseMs = rediscoverMs;
    try {
      const found = await account.cameras({ signal });
      if (attempt > 0) log.info("the account answers again");
      attempt = 0;
      missing = warnOfMissing(found, wanted, missing, log);
      const chosen = found.filter((camera) => isWanted(camera, wanted));
      for (const camera of chosen) {
        if (recorded.has(camera.id)) continue;
        recorded.set(
          camera.id,
          recorders.start(camera.name, camera.id, { source: camera.source, stallMs }),
        );
      }
      for (const [id, key] of recorded) {
        if (chosen.some((camera) => camera.id === id)) continue;
        recorded.delete(id);
        recorders.stop(key);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (++attempt === 1) {
        log.error(`cannot list the cameras: ${error instanceof Error ? error.message : error}`);
      }
      pauseMs = backoffMs(attempt, random);
    }
    await clock.sleep(pauseMs, { signal }).catch(() => {});
  }
}

/** Says once which wanted cameras the account does not have; returns what is missing now. */
function warnOfMissing(
  found: readonly DiscoveredCamera[],
  wanted: "all" | readonly string[],
  before: string,
  log: Log,
): string {
  const missing = wanted === "all"
    ? (found.length === 0 ? "(it has none at all)" : "")
    : wanted.filter((text) => !found.some((camera) => isWanted(camera, [text]))).join(", ");
  if (missing !== before && missing !== "") log.warn(`the account lacks cameras: ${missing}`);
  return missing;
}

function isWanted(camera: DiscoveredCamera, wanted: "all" | readonly string[]): boolean {
  return wanted === "all" ||
    wanted.some((text) => text === camera.id || text.toLowerCase() === camera.name.toLowerCase());
}

function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true })
  );
}

interface Recorders {
  /** Returns the name under which it can be stopped. */
  start(
    name: string,
    id: string | undefined,
    camera: Pick<FleetCamera, "source" | "stallMs">,
  ): string;
  stop(name: string): void;
  finished(): Promise<void>;
}

/** Running recorders by the camera's name, which is made unique. */
function createRecorders(options: FleetOptions, signal: AbortSignal): Recorders {
  const { board, log: logOf } = options;
  const running = new Map<string, { stop: AbortController; done: Promise<void> }>();

  /** Two cameras with one name, or with names alike as folders, are told apart by their ids. */
  function identify(name: string, id: string | undefined): { key: string; slug: string } {
    const others = [...board.cameras.values()].filter((camera) => camera.state !== "stopped");
    const slug = cameraSlug(name);
    if (!others.some((other) => other.name === name || other.slug === slug)) {
      return { key: name, slug };
    }
    const key = `${name} (${(id ?? String(others.length)).slice(0, 8)})`;
    return { key, slug: cameraSlug(key, id) };
  }

  return {
    start(name, id, { source, stallMs }) {
      const { key, slug } = identify(name, id);
      const log = logOf(key);
      const status = board.cameras.get(key) ?? newCameraStatus(key, slug);
      board.cameras.set(key, status);
      const stop = new AbortController();
      const done = recordCamera(
        { ...options, camera: key, slug, source, stallMs, status, log },
        AbortSignal.any([signal, stop.signal]),
      ).catch((error) => {
        status.state = "stopped";
        status.reason = String(error);
        log.error(`recording stopped: ${error}`, { error });
      }).finally(() => running.delete(key));
      running.set(key, { stop, done });
      log.info("camera added");
      return key;
    },
    stop(key) {
      logOf(key).info("camera removed from its account");
      running.get(key)?.stop.abort();
    },
    async finished() {
      await Promise.all([...running.values()].map((recorder) => recorder.done));
    },
  };
}

function newCameraStatus(name: string, slug: string): CameraStatus {
  return {
    name,
    slug,
    state: "connecting",
    framesCaptured: 0,
    framesDropped: 0,
    framesRecorded: 0,
    fps: 0,
    openClipBytes: 0,
    clipsFinished: 0,
    bytesFinished: 0,
    gaps: { count: 0, totalMs: 0 },
  };
}
