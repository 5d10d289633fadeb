/**
 * The single trials that `camsink check` and `camsink init` are made of: does the login work, does
 * a picture come, does the sink take a clip, is there room on the disk. Each gives a finding, with
 * the remedy where it failed, and never throws.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { mkdtemp, rmdir, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { formatBytes, formatDuration } from "../core/config/values.ts";
import { EXIT, type ExitCode, exitCodeOf } from "../core/exit_codes.ts";
import { redact } from "../core/redact.ts";
import {
  type Account,
  type AnyCamera,
  type Archive,
  type Clock,
  type Sink,
  sinkErrorKind,
  type Source,
  type SourceErrorKind,
  sourceErrorKind,
  type VideoCodec,
} from "../core/types.ts";

/** What one trial found. */
export interface Finding {
  readonly what: "config" | "account" | "camera" | "encoder" | "sink" | "disk";
  readonly name: string;
  readonly ok: boolean;
  /** What was seen, or what failed; one line. */
  readonly detail: string;
  /** How to mend it. */
  readonly fix?: string;
  /** A camera's picture, as it came. */
  readonly picture?: {
    readonly codec: VideoCodec;
    readonly widthPx: number;
    readonly heightPx: number;
    readonly bytes: number;
  };
  /** What the program exits with because of it. */
  readonly exitCode?: ExitCode;
}

/** What a trial needs. */
export interface ProbeOptions {
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** How long one trial may take, ms; 15 s where not said. */
  readonly timeoutMs?: number;
}

const SOURCE_FIXES: Readonly<Record<SourceErrorKind, string>> = {
  offline: "see that it is switched on and that this machine reaches it",
  auth: "get fresh credentials; docs/cameras.md tells where they are found",
  rate: "it was asked too often: wait some minutes, or lower fps",
  protocol: "what came is not what such a camera sends: look at the address and the type",
  gone: "the account no longer has it: take it out of the configuration",
};

/** Runs a trial under a time limit; the limit's error says how long was waited. */
async function within<T>(
  { signal, clock, timeoutMs = 15_000 }: ProbeOptions,
  trial: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const own = new AbortController();
  const combined = AbortSignal.any([signal, own.signal]);
  const tried = trial(combined);
  // A trial that does not heed its signal must not hold up the others.
  const limit = clock.sleep(timeoutMs, { signal: combined }).then(() => {
    throw new Error(`no answer within ${timeoutMs / 1000} s`);
  });
  try {
    return await Promise.race([tried, limit]);
  } finally {
    own.abort();
    await Promise.allSettled([limit]);
    tried.catch(() => {});
  }
}

/** One line of what failed, without secrets. */
export function failureText(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return redact(text.replaceAll(/\s*\n\s*/g, " "));
}

function sourceFailure(
  what: "account" | "camera",
  { name, error }: { readonly name: string; readonly error: unknown },
): Finding {
  const exitCode = exitCodeOf(error);
  return {
    what,
    name,
    ok: false,
    detail: failureText(error),
    fix: what === "account" && sourceErrorKind(error) === "offline"
      ? "see that this machine is online, and try again"
      : SOURCE_FIXES[sourceErrorKind(error)],
    exitCode: exitCode === EXIT.failure ? EXIT.unavailable : exitCode,
  };
}

/** Logs in and lists the cameras. */
export async function probeAccount(
  name: string,
  { account, ...options }: ProbeOptions & { readonly account: Account<AnyCamera> },
): Promise<{ readonly finding: Finding; readonly cameras: readonly AnyCamera[] }> {
  try {
    const cameras = await within(options, (signal) => account.cameras({ signal }));
    const names = cameras.map((camera) => camera.name).join(", ");
    const finding: Finding = cameras.length > 0
      ? {
        what: "account",
        name,
        ok: true,
        detail: `logged in; ${cameras.length} ${
          cameras.length === 1 ? "camera" : "cameras"
        }: ${names}`,
      }
      : {
        what: "account",
        name,
        ok: false,
        detail: "logged in, but the account has no cameras",
        fix: "log in with the account that the cameras belong to",
        exitCode: EXIT.unavailable,
      };
    return { finding, cameras };
  } catch (error) {
    return { finding: sourceFailure("account", { name, error }), cameras: [] };
  }
}

/** What can be tried of a camera. */
type Feed = { readonly source: Source } | { readonly archive: Archive };

/** Fetches one picture (of coded video: its first access unit), or looks into the archive. */
export function probeCamera(
  name: string,
  { camera, ...options }: ProbeOptions & { readonly camera: Feed },
): Promise<Finding> {
  return "archive" in camera
    ? probeArchive(name, { archive: camera.archive, ...options })
    : probeSource(name, { source: camera.source, ...options });
}

async function probeArchive(
  name: string,
  { archive, ...options }: ProbeOptions & { readonly archive: Archive },
): Promise<Finding> {
  const { clock } = options;
  const from = new Date(clock.now() - archive.historyMs);
  try {
    const found = await within(options, (signal) => archive.list({ from, signal }));
    const last = found.at(-1);
    return {
      what: "camera",
      name,
      ok: true,
      detail: last === undefined
        ? `no recordings in the last ${formatDuration(archive.historyMs)}`
        : `${found.length} ${found.length === 1 ? "recording" : "recordings"} in the last ${
          formatDuration(archive.historyMs)
        }, the newest from ${last.start.toISOString()}`,
    };
  } catch (error) {
    return sourceFailure("camera", { name, error });
  }
}

async function probeSource(
  name: string,
  { source, ...options }: ProbeOptions & { readonly source: Source },
): Promise<Finding> {
  const { clock } = options;
  const startMs = clock.monotonic();
  try {
    const seen = await within(options, async (signal) => {
      await using session = await source.open({ signal });
      for await (const unit of session) {
        const track = unit.track ?? session.tracks.find(({ id }) => id === unit.trackId);
        if (track?.kind !== "video") continue;
        return { track, bytes: unit.data.length };
      }
      throw new Error("the session ended before a picture came");
    });
    const { widthPx, heightPx, codec } = seen.track;
    return {
      what: "camera",
      name,
      ok: true,
      detail: `${widthPx}x${heightPx} ${codec}, ${formatBytes(seen.bytes)} in ${
        Math.round(clock.monotonic() - startMs)
      } ms`,
      picture: { codec, widthPx, heightPx, bytes: seen.bytes },
    };
  } catch (error) {
    return sourceFailure("camera", { name, error });
  }
}

/** Asks a sink to prove that it could take a clip now. */
export async function probeSink(
  name: string,
  { open, where, ...options }: ProbeOptions & {
    readonly open: () => Promise<Sink>;
    readonly where: string;
  },
): Promise<Finding> {
  try {
    const sink = await within(options, open);
    try {
      if (sink.check === undefined) {
        return { what: "sink", name, ok: true, detail: `${where} (it has no test of its own)` };
      }
      await within(options, (signal) => sink.check?.({ signal }) ?? Promise.resolve());
      return { what: "sink", name, ok: true, detail: `${where}: it would take a clip now` };
    } finally {
      await sink.close?.();
    }
  } catch (error) {
    const kind = sinkErrorKind(error);
    return {
      what: "sink",
      name,
      ok: false,
      detail: failureText(error),
      fix: kind === "auth"
        ? "see that the login is still good and has the rights that are needed, or choose another place"
        : kind === "full"
        ? "make room there"
        : kind === "permanent"
        ? "correct the sink's options"
        : "see that it is there and that this machine reaches it",
      exitCode: kind === "auth" ? EXIT.denied : EXIT.unavailable,
    };
  }
}

/** Looks whether a folder can be written or made, and at the free space of the disk it is on. */
export async function probeDisk(
  path: string,
  { neededBytes }: { readonly neededBytes: number },
): Promise<Finding> {
  try {
    let existing = path;
    while (!existsSync(existing) && dirname(existing) !== existing) existing = dirname(existing);
    const { bavail, bsize } = await statfs(existing);
    // Only a trial tells: neither mode bits nor the free space show a read-only disk.
    await rmdir(await mkdtemp(join(existing, ".camsink-check-")));
    const freeBytes = bavail * bsize;
    const ok = freeBytes >= neededBytes;
    return {
      what: "disk",
      name: path,
      ok,
      detail: `${formatBytes(freeBytes)} free`,
      ...(ok ? {} : {
        fix: `free at least ${formatBytes(neededBytes)}, or set spool.path to another disk`,
        exitCode: EXIT.disk,
      }),
    };
  } catch (error) {
    return {
      what: "disk",
      name: path,
      ok: false,
      detail: `it cannot be written: ${failureText(error)}`,
      fix: "set spool.path to a folder that this user may use",
      exitCode: EXIT.disk,
    };
  }
}
