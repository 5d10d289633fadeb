/**
 * The state of a recording as one JSON file in the spool, `status.json`: the running capture writes
 * it every few seconds, another process reads it. A capture that stops takes it away; one that was
 * killed leaves it, and its age tells.
 *
 * @module
 */
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import * as v from "valibot";
import type { Alert } from "./alerts.ts";
import { isWanted, type Observed } from "./conditions.ts";

const count = v.number();
const optionalText = v.optional(v.string());

const snapshotSchema = v.object({
  version: v.literal(1),
  product: v.string(),
  pid: v.number(),
  /** RFC 3339, UTC, as are all times here. */
  startedAt: v.string(),
  writtenAt: v.pipe(v.string(), v.isoTimestamp()),
  cameras: v.array(v.object({
    name: v.string(),
    state: v.string(),
    reason: optionalText,
    /** Why its events cannot be heard of or its motion seen, and what that means. */
    eventsUnheard: optionalText,
    /** Since when nothing was recorded; absent while recording. */
    gapSince: optionalText,
    fps: count,
    openClip: optionalText,
    clipsFinished: count,
    bytesFinished: count,
    framesDropped: count,
  })),
  /** Accounts that never yet told their cameras. */
  silentAccounts: v.array(v.object({ name: v.string(), reason: optionalText })),
  sinks: v.array(v.object({
    name: v.string(),
    type: v.string(),
    where: v.string(),
    state: v.string(),
    reason: optionalText,
    backlogClips: count,
    backlogBytes: count,
    clipsDelivered: count,
    bytesDelivered: count,
    clipsQuarantined: count,
    /** Sent in this UTC day, and what may be. */
    usedTodayBytes: v.optional(count),
    perDayBytes: v.optional(count),
    credentialExpiresAt: optionalText,
    lastDeliveryAt: optionalText,
  })),
  spool: v.optional(v.object({
    usedBytes: count,
    freeBytes: count,
    reserveBytes: count,
    limitBytes: v.optional(count),
    isFull: v.boolean(),
  })),
  alerts: v.array(v.object({
    kind: v.string(),
    subject: v.string(),
    message: v.string(),
    since: v.string(),
  })),
});

/** What `status.json` holds. */
export type StatusSnapshot = v.InferOutput<typeof snapshotSchema>;

/** The file is too old to be believed, ms. */
const STALE_MS = 30_000;

/** The state as it is now. `redact` takes secrets out of what errors said. */
export function takeSnapshot(
  { board, silentAccounts, disk }: Observed,
  { alerts, product, pid, nowMs, redact }: {
    readonly alerts: readonly Alert[];
    readonly product: string;
    readonly pid: number;
    readonly nowMs: number;
    readonly redact: (text: string) => string;
  },
): StatusSnapshot {
  const iso = (ms: number) => new Date(ms).toISOString();
  const because = (reason: string | undefined) =>
    reason === undefined ? {} : { reason: redact(reason) };
  return {
    version: 1,
    product,
    pid,
    startedAt: iso(board.startedAtMs),
    writtenAt: iso(nowMs),
    cameras: [...board.cameras.values()].filter(isWanted).map((camera) => ({
      name: camera.name,
      state: camera.state,
      ...because(camera.reason),
      ...(camera.eventsUnheard === undefined
        ? {}
        : { eventsUnheard: redact(camera.eventsUnheard) }),
      ...(camera.gapSinceMs === undefined ? {} : { gapSince: iso(camera.gapSinceMs) }),
      fps: camera.fps,
      ...(camera.openClip === undefined ? {} : { openClip: camera.openClip }),
      clipsFinished: camera.clipsFinished,
      bytesFinished: camera.bytesFinished,
      framesDropped: camera.framesDropped,
    })),
    silentAccounts: [...silentAccounts].map(([name, reason]) => ({ name, ...because(reason) })),
    sinks: [...board.sinks.values()].map((sink) => ({
      name: sink.name,
      type: sink.type,
      where: redact(sink.where),
      state: sink.state,
      ...because(sink.reason),
      backlogClips: sink.backlogClips,
      backlogBytes: sink.backlogBytes,
      clipsDelivered: sink.clipsDelivered,
      bytesDelivered: sink.bytesDelivered,
      clipsQuarantined: sink.clipsQuarantined,
      ...(sink.usedTodayBytes === undefined ? {} : { usedTodayBytes: sink.usedTodayBytes }),
      ...(sink.perDayBytes === undefined ? {} : { perDayBytes: sink.perDayBytes }),
      ...(sink.credentialExpiresAtMs === undefined
        ? {}
        : { credentialExpiresAt: iso(sink.credentialExpiresAtMs) }),
      ...(sink.lastDeliveryAtMs === undefined
        ? {}
        : { lastDeliveryAt: iso(sink.lastDeliveryAtMs) }),
    })),
    ...(disk === undefined ? {} : {
      spool: {
        usedBytes: disk.usedBytes,
        freeBytes: disk.freeBytes,
        reserveBytes: disk.reserveBytes,
        ...(disk.limitBytes === undefined ? {} : { limitBytes: disk.limitBytes }),
        isFull: disk.isFull,
      },
    }),
    alerts: alerts.map(({ kind, subject, message, sinceMs }) => ({
      kind,
      subject,
      message: redact(message),
      since: iso(sinceMs),
    })),
  };
}

/** Whether the capture that wrote it has ended or hangs; also one that a clock going back made new. */
export function isStale(
  { writtenAt }: StatusSnapshot,
  { nowMs }: { readonly nowMs: number },
): boolean {
  return !(Math.abs(nowMs - Date.parse(writtenAt)) <= STALE_MS);
}

/** Everything that is not as it should be, as sentences; none if all is well. */
export function problemsIn(
  snapshot: StatusSnapshot | undefined,
  { nowMs }: { readonly nowMs: number },
): string[] {
  if (snapshot === undefined) return ["no capture runs"];
  if (isStale(snapshot, { nowMs })) {
    return [
      `no capture runs, or it hangs: its last word is of ${snapshot.writtenAt} ` +
      `(process ${snapshot.pid})`,
    ];
  }
  const { cameras, silentAccounts, sinks, alerts } = snapshot;
  const because = (reason: string | undefined) => reason === undefined ? "" : `: ${reason}`;
  const named = new Set(alerts.map(({ subject }) => subject));
  return [
    ...alerts.map(({ kind, subject, message }) => `${kind} (${subject}): ${message}`),
    ...cameras.filter(({ name, state }) => state !== "recording" && !named.has(name))
      .map(({ name, state, reason }) =>
        `${name} is not being recorded (${state})${because(reason)}`
      ),
    ...silentAccounts.filter(({ name }) => !named.has(name))
      .map(({ name, reason }) => `${name} has not told its cameras yet${because(reason)}`),
    ...sinks.filter(({ name, state }) => state === "parked" && !named.has(name))
      .map(({ name, reason }) => `${name} takes no clips${because(reason)}`),
    ...(cameras.length + silentAccounts.length === 0 ? ["no camera is being recorded"] : []),
  ];
}

/** Where the file lies in a spool's folder. */
export function statusPath(spool: string): string {
  return `${spool}/status.json`;
}

/** Writes the file whole: a reader sees the old one or the new one. */
export async function writeStatus(path: string, snapshot: StatusSnapshot): Promise<void> {
  await writeFile(`${path}.tmp`, `${JSON.stringify(snapshot)}\n`);
  await rename(`${path}.tmp`, path);
}

/** Takes the file away; one that is not there is no error. */
export async function removeStatus(path: string): Promise<void> {
  await Promise.all([rm(path, { force: true }), rm(`${path}.tmp`, { force: true })]);
}

/**
 * Reads the file; `undefined` if there is none.
 *
 * @throws if it cannot be read or is not what this release writes
 */
export async function readStatus(path: string): Promise<StatusSnapshot | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw new Error(`cannot read ${path}; run this as a user who may: ${String(error)}`, {
      cause: error,
    });
  }
  try {
    return v.parse(snapshotSchema, JSON.parse(text));
  } catch (cause) {
    throw new Error(
      `${path} is not what this release of Camsink writes; the capture must be of the same one`,
      { cause },
    );
  }
}
