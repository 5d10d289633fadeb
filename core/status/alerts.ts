/**
 * Makes news of trouble: one message when it begins and one when it has ended. Trouble has ended
 * when it stayed away for a while, and longer each time that it comes back soon, so that what
 * flickers makes no storm.
 *
 * @module
 */
import { formatDuration } from "../config/values.ts";
import type { Clock, Log } from "../types.ts";
import type { Condition } from "./conditions.ts";

/** Trouble that people were told about. */
export interface Alert extends Condition {
  /** Wall time, ms. */
  readonly sinceMs: number;
}

/** Trouble that begins or has ended. */
export interface AlertNews extends Alert {
  readonly event: "begin" | "end";
  /** Wall time at which it was last seen, ms; at the end only. */
  readonly untilMs?: number;
}

/** Trouble has ended when it stayed away for so long, ms. */
const CALM_MS = 15_000;
const MAX_CALM_MS = 1_800_000;
/** What comes back within this time flickers, ms. */
const FLICKER_MS = 3_600_000;

interface Told {
  alert: Alert;
  readonly beganAtMs: number;
  seenAtMs: number;
  seenAtWallMs: number;
}

interface Past {
  calmMs: number;
  endedAtMs: number;
}

/** Parked or failing, silent or stopped: it is one trouble of one thing, and told once. */
function keyOf({ kind, subject }: Condition): string {
  const group = {
    "camera-silent": "camera",
    "recording-stopped": "camera",
    "events-unheard": "events",
    "cameras-unknown": "account",
    "sink-parked": "sink",
    "sink-failing": "sink",
    "backlog-growing": "backlog",
    "disk-low": "disk",
    "credential-expiring": "credential",
  }[kind];
  return `${group} ${subject}`;
}

/** Remembers what was told. */
export class Alerts {
  readonly #clock: Clock;
  readonly #told = new Map<string, Told>();
  readonly #past = new Map<string, Past>();
  #lookedAtMs = -Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Takes what is wrong now; gives what is to be told. */
  update(conditions: readonly Condition[]): AlertNews[] {
    const nowMs = this.#lookedAtMs = this.#clock.monotonic();
    const nowWallMs = this.#clock.now();
    const news: AlertNews[] = [];
    for (const condition of conditions) {
      const key = keyOf(condition);
      const told = this.#told.get(key);
      if (told) {
        const isWorse = condition.stage !== told.alert.stage;
        told.alert = { ...condition, kind: told.alert.kind, sinceMs: told.alert.sinceMs };
        if (isWorse) news.push({ ...told.alert, event: "begin" });
        told.seenAtMs = nowMs;
        told.seenAtWallMs = nowWallMs;
        continue;
      }
      const past = this.#past.get(key);
      const flickers = past !== undefined && nowMs - past.endedAtMs < FLICKER_MS;
      this.#past.set(key, {
        calmMs: flickers ? Math.min(past.calmMs * 4, MAX_CALM_MS) : CALM_MS,
        endedAtMs: nowMs,
      });
      const alert = { ...condition, sinceMs: nowWallMs };
      this.#told.set(key, {
        alert,
        beganAtMs: nowMs,
        seenAtMs: nowMs,
        seenAtWallMs: nowWallMs,
      });
      news.push({ ...alert, event: "begin" });
    }
    for (const [key, { alert, beganAtMs, seenAtMs, seenAtWallMs }] of this.#told) {
      const past = this.#past.get(key);
      if (nowMs - seenAtMs < (past?.calmMs ?? CALM_MS)) continue;
      this.#told.delete(key);
      if (past) past.endedAtMs = nowMs;
      news.push({
        ...alert,
        event: "end",
        message: `it is over after ${formatDuration(Math.max(seenAtMs - beganAtMs, 1000))}`,
        untilMs: seenAtWallMs,
      });
    }
    return news;
  }

  /** What was told and held when last looked at. */
  get active(): readonly Alert[] {
    return [...this.#told.values()]
      .filter(({ seenAtMs }) => seenAtMs === this.#lookedAtMs)
      .map(({ alert }) => alert);
  }
}

/** Writes news into the log. */
export function logAlert(log: Log, { event, kind, subject, message, sinceMs }: AlertNews): void {
  const properties = { event: `alert-${event}`, kind, subject, since: new Date(sinceMs) };
  if (event === "begin") log.error(`${kind} (${subject}): ${message}`, properties);
  else log.info(`${kind} (${subject}): ${message}`, properties);
}
