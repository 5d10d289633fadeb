/**
 * What delivery needs of the spool, and what it writes down about a delivered clip. The real spool
 * offers more; this narrow view keeps the two rooms apart and lets a test stand in for the spool.
 *
 * @module
 */
import type { Clip, PutResult } from "../types.ts";

/** The sink's proof that it holds a clip. */
export interface Receipt extends PutResult {
  readonly bytes: number;
  /** Lower-case hex. */
  readonly sha256: string;
  /** Lower-case hex, where known. */
  readonly md5?: string;
  /** The key in the sink, where it is not the clip's own: the sink held another object there. */
  readonly storedAs?: string;
}

/** The spool as one delivery sees it. */
export interface DeliverySpool {
  /** The oldest finished clip that this sink lacks, is not put aside for it, nor excluded. */
  next(sink: string, options: { readonly excluding: ReadonlySet<string> }): Clip | undefined;
  /** What this sink lacks; clips put aside do not count. */
  backlog(sink: string): { readonly clips: number; readonly bytes: number };
  /** Writes the proof down; when this resolves it survives a power cut. */
  receipt(sink: string, key: string, receipt: Receipt): Promise<void>;
  /** Puts a clip aside that this sink will never take. */
  quarantine(sink: string, key: string, reason: string): Promise<void>;
  /** Grows with everything that may concern a delivery. */
  readonly version: number;
  /** Resolves when {@linkcode version} is no longer `since`, or `signal` is aborted. */
  changed(options: { readonly signal: AbortSignal; readonly since: number }): Promise<void>;
}

/**
 * The key under which a clip is stored whose own key the sink holds another object under. It has the
 * content's hash in it, so a second try finds the first.
 */
export function conflictKey(clip: Pick<Clip, "key" | "sha256">): string {
  const dot = clip.key.lastIndexOf(".");
  const end = dot > clip.key.lastIndexOf("/") ? dot : clip.key.length;
  return `${clip.key.slice(0, end)}-${clip.sha256.slice(0, 12)}${clip.key.slice(end)}`;
}
