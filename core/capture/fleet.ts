/**
 * All cameras at once: one recorder for each single camera and for each camera of each account.
 * Accounts are asked again and again, so that a camera that is added or removed there is recorded
 * or let go without a restart. No camera waits for another, and no account for another.
 *
 * @module
 */
import { backoffMs, orAborted } from "../clock.ts";
import type { Spool } from "../spool/mod.ts";
import { cameraSlug } from "../spool/slug.ts";
import type { Board, CameraStatus } from "../status/board.ts";
import type {
  Account,
  AnyCamera,
  Archive,
  CameraEvent,
  Clock,
  DiscoveredCamera,
  ListedCamera,
  Log,
  Source,
} from "../types.ts";
import { archiveCamera } from "./archiver.ts";
import type { EventPlan } from "./event_gate.ts";
import { retryAfterMs } from "./pauses.ts";
import { recordCamera, type RecorderOptions } from "./recorder.ts";
import type { TimelapsePlan } from "./timelapse.ts";

/** Which events a camera is recorded for. */
export interface FleetEvents extends EventPlan {
  /**
   * `event`: what the camera or its cloud tells; `motion`: what is seen in its pictures here;
   * `continuous`: it is recorded all the time.
   */
  readonly mode: "continuous" | "event" | "motion";
  /**
   * Clips are tagged with what the camera or its cloud tells. Where it is left out they are if that
   * costs next to nothing; in the mode `event` they always are.
   */
  readonly tags?: boolean;
}

/** An account and which of its cameras to record. */
export interface FleetAccount {
  readonly name: string;
  readonly account: Account<AnyCamera>;
  /** Names or ids; `all` for every camera. */
  readonly cameras: "all" | readonly string[];
  /** See {@linkcode RecorderOptions.stallMs}. */
  readonly stallMs: number;
  /** When its cameras are recorded; all the time where it is left out. */
  readonly events?: FleetEvents;
  /** Of each of its cameras, beside its recording or in its place. */
  readonly timelapse?: TimelapsePlan;
}

/** A camera of its own. */
export interface FleetCamera {
  readonly name: string;
  readonly source: Source;
  /** See {@linkcode RecorderOptions.stallMs}. */
  readonly stallMs: number;
  /** When it is recorded; all the time where it is left out. */
  readonly events?: FleetEvents;
  /** Beside its recording or in its place. */
  readonly timelapse?: TimelapsePlan;
}

/** What a fleet works with. */
export interface FleetOptions extends
  Pick<
    RecorderOptions,
    "encoder" | "soundEncoder" | "pictureDecoder" | "clipMs" | "product" | "clock" | "random"
  > {
  readonly spool: Pick<Spool, "begin" | "list" | "tag" | "journal">;
  readonly accounts: readonly FleetAccount[];
  readonly cameras: readonly FleetCamera[];
  readonly board: Board;
  /** How often accounts are asked for their cameras, ms. */
  readonly rediscoverMs: number;
  /** Who is told of events beside the recorder; absent where nobody wants to know. */
  readonly eventAlerts?: {
    /** Whether a camera's events are worth asking for although they cost requests. */
    wants(camera: string, slug: string): boolean;
    happened(camera: string, slug: string, event: CameraEvent): void;
  };
  readonly log: (camera?: string) => Log;
}

/** An account waits so long for those configured before it, ms. */
const TURN_MS = 2000;

/** Records until `signal` is aborted and every open clip is durable. */
export async function recordFleet(options: FleetOptions, signal: AbortSignal): Promise<void> {
  const recorders = createRecorders(options, signal);
  for (const camera of options.cameras) {
    const { tellsAlways } = camera.source;
    const listen = camera.source.events?.bind(camera.source);
    recorders.start({ name: camera.name, id: camera.name, isAmbiguous: false }, {
      ...camera,
      ...(listen === undefined ? {} : { listen, tellsAlways, mayTellNothing: true }),
    });
  }
  // Where accounts share a camera's name, the first one configured has it alone, on every start.
  let turn: Promise<unknown> = Promise.resolve();
  await Promise.all(options.accounts.map((account) => {
    const before = turn;
    const named = Promise.withResolvers<void>();
    turn = Promise.all([before, named.promise]);
    const waitForTurn = () => within(before, { ms: TURN_MS, clock: options.clock });
    const following = { ...account, waitForTurn, onNamed: named.resolve };
    return followAccount(following, options, recorders, signal);
  }));
  await untilAborted(signal);
  await recorders.finished();
}

/** Starts and stops recorders as cameras come to and leave an account. */
async function followAccount(
  { name, account, cameras: wanted, stallMs, events, timelapse, waitForTurn, onNamed }:
    & FleetAccount
    & {
      /** Resolves when the accounts before this one have named their cameras, or take too long. */
      waitForTurn(): Promise<void>;
      /** This one has, or cannot now. */
      onNamed(): void;
    },
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
      const found = await orAborted(account.cameras({ signal }), signal);
      await waitForTurn();
      if (signal.aborted) return;
      if (attempt > 0) log.info("the account answers again");
      attempt = 0;
      missing = warnOfMissing(found, wanted, missing, log);
      const chosen = found.filter((camera) => isWanted(camera, wanted));
      for (const camera of chosen) {
        const key = recorded.get(camera.id);
        // A recorder ends by itself when its camera was gone for a while.
        if (key !== undefined && recorders.isRunning(key)) continue;
        const id = `${name}/${camera.id}`;
        const namesakes = chosen.filter(({ name }) => isSameName(name, camera.name)).length;
        recorded.set(
          camera.id,
          recorders.start({ name: camera.name, id, isAmbiguous: namesakes > 1 }, {
            ...("source" in camera
              ? {
                source: camera.source,
                listen: camera.events,
                tellsAlways: camera.tellsAlways,
              }
              : { archive: camera.archive }),
            stallMs,
            events,
            timelapse,
          }),
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
      pauseMs = Math.max(backoffMs(attempt, random), retryAfterMs(error));
    }
    onNamed();
    await clock.sleep(pauseMs, { signal }).catch(() => {});
  }
}

/** Says once which wanted cameras the account does not have; returns what is missing now. */
function warnOfMissing(
  found: readonly ListedCamera[],
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

function isWanted(camera: ListedCamera, wanted: "all" | readonly string[]): boolean {
  return wanted === "all" ||
    wanted.some((text) => text === camera.id || text.toLowerCase() === camera.name.toLowerCase());
}

function isSameName(a: string, b: string): boolean {
  return a === b || cameraSlug(a) === cameraSlug(b);
}

/** Waits for `work`, but no longer than `ms`. */
async function within(
  work: Promise<unknown>,
  { ms, clock }: { readonly ms: number; readonly clock: Clock },
): Promise<void> {
  const done = new AbortController();
  const tooLong = clock.sleep(ms, { signal: done.signal }).catch(() => {});
  await Promise.race([work, tooLong]);
  done.abort();
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return orAborted(new Promise<never>(() => {}), signal).catch(() => {});
}

/** Who a camera is. */
interface Identity {
  readonly name: string;
  /** Unique among all cameras, and the same when it comes back. */
  readonly id: string;
  /** Another camera has this name, so it alone would not say which one is meant. */
  readonly isAmbiguous: boolean;
}

/** Where a camera's video comes from: from itself, or out of its maker's archive. */
type Feed =
  & Pick<FleetCamera, "stallMs" | "events" | "timelapse">
  & (
    | {
      readonly source: Source;
      readonly listen?: DiscoveredCamera["events"];
      readonly tellsAlways?: boolean;
      /** Nobody has set it up to tell. */
      readonly mayTellNothing?: boolean;
    }
    | { readonly archive: Archive }
  );

interface Recorders {
  /** Returns the name under which it runs, which is unique. */
  start(identity: Identity, camera: Feed): string;
  isRunning(key: string): boolean;
  stop(key: string): void;
  finished(): Promise<void>;
}

/** Running recorders by the camera's name, which is made unique. */
function createRecorders(options: FleetOptions, signal: AbortSignal): Recorders {
  const { board, log: logOf } = options;
  const running = new Map<
    string,
    { readonly id: string; readonly stop: AbortController; readonly done: Promise<void> }
  >();

  /** Two cameras with one name, or with names alike as folders, are told apart by their ids. */
  function identify({ name, id, isAmbiguous }: Identity): { key: string; slug: string } {
    const slug = cameraSlug(name);
    const isTaken = [...running].some(([key, other]) =>
      other.id !== id && (key === name || board.cameras.get(key)?.slug === slug)
    );
    if (!isAmbiguous && !isTaken) return { key: name, slug };
    const own = cameraSlug(name, id);
    return { key: `${name} (${own.slice(own.lastIndexOf("-") + 1)})`, slug: own };
  }

  /** The timelapse of a camera is a line of its own on the board, and a folder of its own. */
  function timelapseOf(
    { camera, slug, status }: Pick<RecorderOptions, "camera" | "slug" | "status">,
    { timelapse: plan }: Feed,
  ): RecorderOptions["timelapse"] {
    if (plan === undefined) return undefined;
    if (plan.only) return { plan, camera, slug, status };
    const name = `${camera} (timelapse)`;
    const own = board.cameras.get(name) ?? followingStatus(name, status);
    board.cameras.set(name, own);
    return { plan, camera: name, slug: own.slug, status: own };
  }

  return {
    start(identity, feed) {
      const { id } = identity;
      const before = [...running].find(([, other]) => other.id === id);
      const { key, slug } = before
        ? { key: before[0], slug: board.cameras.get(before[0])?.slug ?? cameraSlug(before[0]) }
        : identify(identity);
      const log = logOf(key);
      const status = board.cameras.get(key) ?? newCameraStatus(key, slug);
      board.cameras.set(key, status);
      const stop = new AbortController();
      const record = async () => {
        await before?.[1].done; // it was removed a moment ago, and is finishing its clip
        try {
          const ended = AbortSignal.any([signal, stop.signal]);
          const own = { ...options, camera: key, slug, status, log };
          if ("archive" in feed) await archiveCamera({ ...own, archive: feed.archive }, ended);
          else {
            const { events, listen, tellsAlways, mayTellNothing, ...rest } = feed;
            const alerts = options.eventAlerts;
            const isWanted = alerts?.wants(key, slug) ?? false;
            await recordCamera({
              ...own,
              ...rest,
              ...(alerts && isWanted
                ? { onEvent: (event) => alerts.happened(key, slug, event) }
                : {}),
              ...(events && events.mode !== "continuous"
                ? { events: { plan: events, listen, motion: events.mode === "motion" } }
                : {}),
              ...(listen && (isWanted || (events?.tags ?? tellsAlways))
                ? { tags: { listen, isAsked: isWanted || (events?.tags ?? !mayTellNothing) } }
                : {}),
              timelapse: timelapseOf(own, feed),
            }, ended);
          }
        } catch (error) {
          status.state = "stopped";
          status.reason = String(error);
          log.error(`recording stopped: ${error}`, { error });
        } finally {
          if (running.get(key)?.stop === stop) running.delete(key);
        }
      };
      running.set(key, { id, stop, done: record() });
      log.info("camera added");
      return key;
    },
    isRunning: (key) => running.has(key),
    stop(key) {
      logOf(key).info("camera removed from its account");
      running.get(key)?.stop.abort(new DOMException("the camera was removed", "AbortError"));
    },
    async finished() {
      await Promise.all([...running.values()].map((recorder) => recorder.done));
    },
  };
}

/** A status with figures of its own that is as well as `leader` is. */
function followingStatus(name: string, leader: CameraStatus): CameraStatus {
  const status = newCameraStatus(name, cameraSlug(name));
  for (const key of ["state", "reason", "widthPx", "heightPx"] as const) {
    Object.defineProperty(status, key, { enumerable: true, get: () => leader[key] });
  }
  return status;
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
