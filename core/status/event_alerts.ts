/**
 * Tells a webhook what happens before the cameras: once when it is known (`happened`), and once more
 * when the clip with it is finished and, where that comes soon, delivered (`recorded`), with the keys
 * and addresses of the clip and of the event's picture.
 *
 * It never storms. A happening that lasts, or is told again, is one. After it, the same kind at the same
 * camera is left out for a while (`everyMs`), and all cameras together have a limit an hour. What was
 * left out is counted, and told with the next message of its kind.
 *
 * It only looks: whatever goes wrong in here never touches the recording.
 *
 * @module
 */
import { formatDuration } from "../config/values.ts";
import type { CameraEvent, Clock, Log } from "../types.ts";
import type { Webhook } from "./calls.ts";

/** Which events somebody is told of. */
export interface EventAlertPlan {
  /** Kinds of events, of cameras that are not named below. */
  readonly kinds: "all" | readonly string[];
  /** Every camera, those of these names (or ids as folders), or what each is told of. */
  readonly cameras:
    | "all"
    | readonly string[]
    | Readonly<Record<string, "all" | readonly string[]>>;
  /** One of a kind at a camera is told of at most so often, ms. */
  readonly everyMs: number;
  /** So many events are told of in an hour, of all cameras together. */
  readonly perHour: number;
}

/** A finished clip, or a picture of an event. */
export interface RecordedClip {
  readonly key: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly tags: readonly string[];
  /** Where sinks hold it, by their names, without credentials. */
  readonly urls: Readonly<Record<string, string>>;
}

/** Who knows the clips. */
export interface ClipBook {
  /** Those of a camera that have something of a stretch of wall time. */
  find(camera: string, fromMs: number, toMs: number): readonly RecordedClip[];
  /** Whether some sink is to bring a clip to an address. */
  readonly hasSinks: boolean;
}

/** What event alerts work with. */
export interface EventAlertOptions {
  readonly plan: EventAlertPlan;
  readonly webhook: Webhook;
  readonly clips: ClipBook;
  /** How long a clip is at most, ms. */
  readonly clipMs: number;
  readonly product: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** See the module. */
export interface EventAlerts {
  /** Whether somebody is to be told of a camera's events. */
  wants(camera: string, slug: string): boolean;
  /** Something happens before a camera. */
  happened(camera: string, slug: string, event: CameraEvent): void;
  /** Looks for finished clips now and then, until `signal` is aborted. */
  run(signal: AbortSignal): Promise<void>;
  /** The last look, when the recording has ended and nothing more comes. */
  finish(): void;
}

const LOOK_MS = 2000;
/** What is told later than this is history, and no alert, ms. */
const LATE_MS = 600_000;
/** A finished clip is given so long to arrive in a sink before it is told without an address, ms. */
const DELIVERY_MS = 30_000;
/** A clip is finished so long after its end at the latest, ms. */
const FINISH_MS = 300_000;
/** A picture belongs to events so near to it: one of a happening has it, ms. */
const PICTURE_MS = 10_000;
const MAX_PENDING = 200;
const HOUR_MS = 3_600_000;

interface Told {
  readonly startMs: number;
  endMs: number;
  readonly atMs: number;
  leftOut: number;
}

interface Pending {
  readonly camera: string;
  readonly kind: string;
  readonly startMs: number;
  readonly untilMs: number;
  /** When its clip was seen first. */
  foundMs?: number;
}

/** Makes them. */
export function createEventAlerts(
  { plan, webhook, clips, clipMs, product, clock, log }: EventAlertOptions,
): EventAlerts {
  /** By camera and kind. */
  const told = new Map<string, Told>();
  /** When the newest were told, monotonic ms. */
  let recently: number[] = [];
  let isOverLimit = false;
  let pending: Pending[] = [];

  const kindsOf = (camera: string, slug: string): "all" | readonly string[] => {
    const isIt = (text: string) => text.toLowerCase() === camera.toLowerCase() || text === slug;
    const { cameras, kinds } = plan;
    if (cameras === "all") return kinds;
    if (Array.isArray(cameras)) return cameras.some(isIt) ? kinds : [];
    return Object.entries(cameras).find(([name]) => isIt(name))?.[1] ?? [];
  };
  const isWithinLimit = (nowMs: number): boolean => {
    recently = recently.filter((atMs) => atMs > nowMs - HOUR_MS);
    const isWithin = recently.length < plan.perHour;
    if (!isWithin && !isOverLimit) {
      log.warn(
        `more than ${plan.perHour} events in an hour: no more of them are sent to the webhook for ` +
          "a while (alerts.events.perHour)",
        { event: "event-alerts-limited" },
      );
    }
    isOverLimit = !isWithin;
    return isWithin;
  };
  const body = (
    event: "happened" | "recorded",
    { kind, camera, startMs }: Pick<Pending, "kind" | "camera" | "startMs">,
    rest: Readonly<Record<string, unknown>>,
  ) => ({ event, kind, subject: camera, since: new Date(startMs), ...rest, product });

  const place = ({ key, startMs, endMs, urls }: RecordedClip) => ({
    key,
    start: new Date(startMs),
    end: new Date(endMs),
    urls,
  });
  const isPicture = ({ tags }: RecordedClip) =>
    tags.includes("event-image") || tags.includes("clip-preview");

  /** Tells of one whose clip is there; gives whether it still waits. */
  const look = (one: Pending, isLast: boolean): boolean => {
    const { camera, startMs } = one;
    const nowMs = clock.monotonic();
    const near = clips.find(camera, startMs - PICTURE_MS, startMs + PICTURE_MS);
    const clip = near.find((clip) =>
      !isPicture(clip) && clip.startMs <= startMs && clip.endMs > startMs
    );
    if (clip === undefined) return !isLast && nowMs < one.untilMs;
    one.foundMs ??= nowMs;
    const isDelivered = !clips.hasSinks || Object.keys(clip.urls).length > 0;
    if (!isDelivered && !isLast && nowMs - one.foundMs < DELIVERY_MS) return true;
    const picture =
      near.filter(isPicture).sort((a, b) =>
        Math.abs(a.startMs - startMs) - Math.abs(b.startMs - startMs)
      )[0];
    webhook.post(body("recorded", one, {
      message: `${one.kind}: recorded as ${clip.key}`,
      clip: place(clip),
      ...(picture === undefined ? {} : { image: place(picture) }),
    }));
    return false;
  };
  const lookAtAll = (isLast: boolean) => {
    try {
      pending = pending.filter((one) => look(one, isLast));
    } catch (error) {
      log.debug(`the clips of events could not be looked up: ${error}`); // the next look may
    }
  };

  return {
    wants(camera, slug) {
      const kinds = kindsOf(camera, slug);
      return kinds === "all" || kinds.length > 0;
    },
    happened(camera, slug, { kind, startMs, endMs = startMs }) {
      const kinds = kindsOf(camera, slug);
      if (kinds !== "all" && !kinds.includes(kind)) return;
      if (startMs < clock.now() - LATE_MS) return;
      const nowMs = clock.monotonic();
      const key = `${kind} ${camera}`;
      const before = told.get(key);
      if (before && startMs <= before.endMs && endMs >= before.startMs) {
        before.endMs = Math.max(before.endMs, endMs); // the same one, which lasts
        return;
      }
      if ((before && nowMs - before.atMs < plan.everyMs) || !isWithinLimit(nowMs)) {
        if (before) before.leftOut++;
        return;
      }
      recently.push(nowMs);
      told.set(key, { startMs, endMs, atMs: nowMs, leftOut: 0 });
      const leftOut = before?.leftOut ?? 0;
      webhook.post(body("happened", { camera, kind, startMs }, {
        message: leftOut === 0 || before === undefined
          ? kind
          : `${kind}, and ${leftOut} more in the ${formatDuration(nowMs - before.atMs)} before`,
        ...(leftOut === 0 ? {} : { leftOut }),
      }));
      pending.push({ camera, kind, startMs, untilMs: nowMs + clipMs + FINISH_MS });
      if (pending.length > MAX_PENDING) pending.shift();
    },
    async run(signal) {
      while (!signal.aborted) {
        await clock.sleep(LOOK_MS, { signal }).catch(() => {});
        if (!signal.aborted) lookAtAll(false);
      }
    },
    finish: () => lookAtAll(true),
  };
}
