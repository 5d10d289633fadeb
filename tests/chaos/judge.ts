/**
 * Says what a chaos run cost: holds what arrived in the sinks against what was promised. A clip that
 * is missed comes with its whole story, so that one look tells whose fault it was: the program's, the
 * sink's, or this harness's.
 *
 * @module
 */
import { openSpoolView } from "../../core/spool/mod.ts";
import { walkFiles } from "../support/walk_files.ts";
import { createPictureCount } from "./picture_count.ts";
import type { LogLine } from "../support/capture_until.ts";

/** One life of the program, wall ms. */
export interface Run {
  /** Which life it was, counted from 1. */
  readonly life: number;
  /** When the first and the last picture that it was given were taken, by camera. */
  readonly takenMs: ReadonlyMap<string, { readonly first: number; readonly last: number }>;
  readonly startedAtMs: number;
  readonly killedAtMs: number;
  /** The cameras that it had said to be recording: something of them was on the disk. */
  readonly recorded: ReadonlySet<string>;
}

/** What a kill cost a camera, at most one of each run. */
export interface LostVideo {
  readonly camera: string;
  readonly life: number;
  /** From the last picture on the disk, or the life's first one, to the kill. */
  readonly lostMs: number;
  /** Of it, the end in which the camera gave no picture: nobody asked it in time. */
  readonly unaskedMs: number;
  /** How long before the kill the life's first picture was taken. */
  readonly recordingMs: number;
  /** What the program said last about pictures of this camera that wait, and how long before. */
  readonly told?: LogLine;
  readonly toldBeforeMs?: number;
}

/** A clip that one sink does not have as it should, and all that is known of it. */
export interface MissedClip {
  readonly key: string;
  readonly sink: "local" | "store";
  readonly found: "nothing" | "other bytes";
  /** Of what was recorded, where the program said it. */
  readonly sha256?: string;
  readonly foundSha256?: string;
  /** Its row of the catalogue. */
  readonly catalogue: Readonly<Record<string, unknown>> | "no row";
  /** How each sink stands to it, with receipts, reasons and times. */
  readonly deliveries: readonly unknown[];
  readonly spoolFile: "ok" | "missing" | "damaged" | "not known";
  /** The requests for it that the store's proxy saw. */
  readonly requests: readonly unknown[];
  /** What the program logged about it, over all its lives. */
  readonly log: readonly LogLine[];
}

/** All that a run left behind. */
export interface Evidence {
  /** Where the local sink put its clips. */
  readonly folder: string;
  readonly spool: string;
  /** What the object store holds, where there is one: SHA-256 in hex by key. */
  readonly stored?: ReadonlyMap<string, string>;
  /** What the store's proxy saw of a clip. */
  readonly requestsFor?: (key: string) => readonly unknown[];
  /** What the program called finished: SHA-256 by key. */
  readonly finished: ReadonlyMap<string, string>;
  readonly runs: readonly Run[];
  readonly cameras: readonly { readonly name: string }[];
  readonly log: readonly LogLine[];
}

/** What a run came to; see `ChaosTotals`. */
export async function judge(evidence: Evidence) {
  const { folder, stored, finished, runs, cameras, log } = evidence;
  const delivered = new Map<string, string>();
  const pictures = createPictureCount();
  let leftovers = 0;
  for await (const path of walkFiles(folder)) {
    // A hidden file is a try that was cut short: nobody takes it for a clip, but nobody may forget it.
    if (path.slice(path.lastIndexOf("/") + 1).startsWith(".")) leftovers++;
    else delivered.set(path.slice(folder.length + 1), await pictures.add(path));
  }
  // What was mended after a kill is in no log line, but in a sink: the other must have it too.
  const owed = new Map([...stored ?? [], ...delivered, ...finished]);
  const missed: MissedClip[] = [];
  const beside = await tellerOf(evidence);
  for (const [key, sha256] of owed) {
    const sinks = [["local", delivered], ...(stored ? [["store", stored] as const] : [])] as const;
    for (const [sink, has] of sinks) {
      const foundSha256 = has.get(key);
      if (foundSha256 === sha256) continue;
      const found = foundSha256 === undefined ? "nothing" : "other bytes";
      missed.push({ key, sink, found, sha256, foundSha256, ...await beside(key) });
    }
  }
  const lost: LostVideo[] = [];
  let recordingsLost = 0;
  for (const { name } of cameras) {
    const times = pictures.timesMs(name);
    for (const { life, takenMs, startedAtMs, killedAtMs, recorded } of runs) {
      // Before its first picture the program had nothing to lose.
      const { first, last } = takenMs.get(name) ?? { first: killedAtMs, last: killedAtMs };
      const before = times.findLast((time) => time <= killedAtMs) ?? 0;
      if (recorded.has(name) && before < startedAtMs) recordingsLost++;
      const told = log.findLast((line) =>
        line.life === life && line.event === "behind" && line.category === name
      );
      lost.push({
        camera: name,
        life,
        lostMs: Math.round(killedAtMs - Math.max(before, first)),
        unaskedMs: Math.round(killedAtMs - Math.max(last, before)),
        recordingMs: Math.round(killedAtMs - first),
        ...(told ? { told, toldBeforeMs: Math.round(killedAtMs - Number(told.readAtMs)) } : {}),
      });
    }
  }
  const lostMs = lost.map(({ lostMs }) => lostMs);
  return {
    clipsFinished: owed.size,
    clipsLost: new Set(missed.map(({ key }) => key)).size,
    clipsCorrupt: pictures.clipsCorrupt,
    duplicates: pictures.duplicates,
    leftovers,
    framesDelivered: pictures.frames,
    framesLost: pictures.missing,
    maxLostMs: Math.round(Math.max(0, ...lostMs)),
    meanLostMs: Math.round(lostMs.reduce((sum, ms) => sum + ms, 0) / (lostMs.length || 1)),
    maxGivenLostMs: Math.max(0, ...lost.map(({ lostMs, unaskedMs }) => lostMs - unaskedMs)),
    worst: lost.sort((a, b) => b.lostMs - a.lostMs).slice(0, 3),
    recordingsLost,
    missed,
  };
}

/** Gathers what is known of a clip beside the sinks' content. */
async function tellerOf({ spool, log, requestsFor = () => [] }: Evidence) {
  const view = await openSpoolView(spool, { now: () => Date.now() });
  return async (
    key: string,
  ): Promise<Pick<MissedClip, "catalogue" | "deliveries" | "spoolFile" | "requests" | "log">> => {
    const row = view.get(key);
    return {
      catalogue: row === undefined ? "no row" : {
        state: row.state,
        bytes: row.bytes,
        sha256: row.sha256,
        md5: row.md5,
        frames: row.frames,
        recovered: row.recovered,
      },
      deliveries: view.deliveries(key),
      spoolFile: row === undefined ? "not known" : await view.check(row),
      requests: requestsFor(key),
      log: log.filter((line) => JSON.stringify(line).includes(key)),
    };
  };
}
