/**
 * What is known of a camera's events beside its clips: each finished clip is tagged with what happened
 * during it, also where that is told after the clip was finished; and the pictures and previews that
 * the camera's cloud gives to events are put into the spool as small clips of their own, which go to
 * every sink like any other.
 *
 * @module
 */
import { inspectMp4 } from "../media/mp4_inspect.ts";
import type { OpenClip, Spool, SpooledClip } from "../spool/mod.ts";
import type { CameraEvent, EventAttachment, Log } from "../types.ts";

/** Marks of one camera. */
export interface EventMarks {
  /** Something happens, or has happened. */
  note(event: CameraEvent): void;
  /** What is known to have happened in a stretch of wall time. */
  tagsOf(startMs: number, endMs: number): readonly string[];
  /** A clip is being recorded: what is told of it is noted with it at once, in case of a crash. */
  opened(clip: Pick<OpenClip, "key" | "tag">, startMs: number): void;
  /** Its last picture has come. */
  ended(key: string): void;
  /** A clip was finished. What was told of it meanwhile is added. */
  finished(clip: SpooledClip): void;
  /** Resolves when nothing is under way. */
  idle(): Promise<void>;
}

/** What marks are made with. */
export interface EventMarksOptions {
  readonly camera: string;
  readonly slug: string;
  readonly spool: Pick<Spool, "begin" | "list" | "tag">;
  readonly log: Log;
  /** Ends what is under way. */
  readonly signal: AbortSignal;
}

/** Events of a kind that are no further apart are one, ms. */
const TOGETHER_MS = 10_000;
/** Events are remembered for so long, ms: longer than any clip. */
const REMEMBER_MS = 2 * 3_600_000;
const MAX_EVENTS = 1000;
/** More pictures than this do not wait. */
const MAX_WAITING = 8;

interface Stretch {
  readonly kind: string;
  startMs: number;
  endMs: number;
}

/** Makes the marks of one camera. */
export function createEventMarks(
  { camera, slug, spool, log, signal }: EventMarksOptions,
): EventMarks {
  let stretches: Stretch[] = [];
  /** When the newest finished clip ended; before a restart there may have been some. */
  let finishedToMs = spool.list({ camera, newestFirst: true, limit: 20 })
    .reduce((newestMs, { end }) => Math.max(newestMs, end.getTime()), -Infinity);
  const open = new Map<
    string,
    { readonly clip: Pick<OpenClip, "tag">; readonly startMs: number }
  >();
  const waiting: { readonly event: CameraEvent; readonly attachment: EventAttachment }[] = [];
  let fetching: Promise<void> | undefined;
  let tagging: Promise<void> = Promise.resolve();
  let cannotTag = false;

  const doTag = (work: () => Promise<void>) => {
    tagging = tagging.then(work).catch((error) => {
      if (!cannotTag) log.warn(`a clip could not be tagged: ${messageOf(error)}`);
      cannotTag = true;
    });
  };
  const tag = (key: string, tags: readonly string[]) => doTag(() => spool.tag(key, tags));
  const tagsOf = (startMs: number, endMs: number): string[] =>
    [
      ...new Set(
        stretches.filter((one) => one.startMs < endMs && one.endMs >= startMs)
          .map(({ kind }) => kind),
      ),
    ].sort();

  const remember = ({ kind, startMs, endMs = startMs }: CameraEvent) => {
    const near = stretches.find((one) =>
      one.kind === kind && startMs <= one.endMs + TOGETHER_MS && endMs >= one.startMs - TOGETHER_MS
    );
    if (near) {
      near.startMs = Math.min(near.startMs, startMs);
      near.endMs = Math.max(near.endMs, endMs);
      return;
    }
    stretches.push({ kind, startMs, endMs });
    if (stretches.length <= MAX_EVENTS && startMs - (stretches[0]?.endMs ?? 0) < REMEMBER_MS) {
      return;
    }
    const newestMs = Math.max(...stretches.map((one) => one.endMs));
    stretches = stretches.filter((one) => one.endMs > newestMs - REMEMBER_MS).slice(-MAX_EVENTS);
  };
  /** Tags what is finished already. */
  const tagFinished = ({ kind, startMs, endMs = startMs }: CameraEvent) => {
    if (startMs >= finishedToMs) return;
    for (const clip of spool.list({ camera, fromMs: startMs - 1, toMs: endMs + 1, limit: 50 })) {
      if (!isAttachment(clip.tags) && !clip.tags.includes(kind)) tag(clip.key, [kind]);
    }
  };

  /** Tags what is being recorded. */
  const tagOpen = ({ kind, startMs, endMs = startMs }: CameraEvent) => {
    for (const [key, { clip, startMs: clipMs }] of open) {
      if (endMs < clipMs) continue;
      // It may have been finished meanwhile, and then has all that is known.
      doTag(async () => open.has(key) ? await clip.tag([kind]) : undefined);
    }
  };

  const fetchAll = async (): Promise<void> => {
    for (let next = waiting.shift(); next && !signal.aborted; next = waiting.shift()) {
      const { event, attachment } = next;
      try {
        const bytes = await attachment.fetch({ signal });
        if (bytes === undefined) {
          log.info(`the ${attachment.kind} of an event (${event.kind}) was gone already`, {
            event: "attachment-gone",
          });
        } else await save(bytes, event, attachment);
      } catch (error) {
        if (signal.aborted) return;
        log.warn(`the ${attachment.kind} of an event (${event.kind}): ${messageOf(error)}`, {
          event: "attachment-failed",
        });
      }
    }
  };
  const save = async (
    bytes: Uint8Array,
    { kind, startMs }: CameraEvent,
    attachment: EventAttachment,
  ): Promise<void> => {
    const { contentType } = attachment;
    const { frames, durationMs } = contentType === "video/mp4"
      ? inspectMp4(bytes)
      : { frames: 1, durationMs: 0 };
    const file = await spool.begin({ camera, slug, start: new Date(startMs), contentType });
    try {
      await file.append([bytes]);
    } catch (error) {
      await file.discard().catch(() => {}); // the reason is told by the first error
      throw error;
    }
    const end = new Date(startMs + Math.round(durationMs));
    const tags = [kind, attachment.kind];
    const clip = await file.finish({ end, tail: [], frames, tags });
    log.info(`${attachment.kind} saved: ${kind}`, {
      event: "attachment-saved",
      key: clip.key,
      bytes: clip.bytes,
    });
  };

  return {
    tagsOf,
    note(event) {
      remember(event);
      tagFinished(event);
      tagOpen(event);
      const { attachment } = event;
      if (attachment === undefined) return;
      if (waiting.length >= MAX_WAITING) {
        log.info(`the ${attachment.kind} of an event was left out: ${MAX_WAITING} wait already`);
        return;
      }
      waiting.push({ event, attachment });
      fetching ??= fetchAll().finally(() => fetching = undefined);
    },
    opened(clip, startMs) {
      open.set(clip.key, { clip, startMs });
    },
    ended(key) {
      open.delete(key);
    },
    finished(clip) {
      finishedToMs = Math.max(finishedToMs, clip.end.getTime());
      const missing = tagsOf(clip.start.getTime(), clip.end.getTime())
        .filter((one) => !clip.tags.includes(one));
      if (missing.length > 0) tag(clip.key, missing);
    },
    async idle() {
      await fetching;
      await tagging;
    },
  };
}

const isAttachment = (tags: readonly string[]) =>
  tags.includes("event-image") || tags.includes("clip-preview");

const messageOf = (error: unknown) => error instanceof Error ? error.message : String(error);
