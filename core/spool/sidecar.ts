/**
 * The small JSON file beside every clip that says what the clip itself does not: whose it is and
 * when it was taken. With it the catalogue can be rebuilt exactly from the files alone.
 *
 * @module
 */
import * as v from "valibot";

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const ms = v.pipe(v.number(), v.safeInteger());

/** What happened during it; absent in sidecars of releases that did not know it. */
const tags = v.optional(v.array(v.pipe(v.string(), v.maxLength(60))), []);

const openSchema = v.object({
  /** See {@linkcode Clip.key}. */
  key: v.string(),
  camera: v.string(),
  contentType: v.string(),
  startMs: ms,
  tags,
});

const clipSchema = v.object({
  ...openSchema.entries,
  endMs: ms,
  bytes: count,
  sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  /** Only where a sink may want it. */
  md5: v.optional(v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/))),
  frames: count,
  recovered: v.boolean(),
  pinned: v.boolean(),
  finishedMs: ms,
});

/** What is known of a clip while it is recorded. */
export type OpenSidecar = v.InferOutput<typeof openSchema>;
/** What is known of a finished clip. */
export type ClipSidecar = v.InferOutput<typeof clipSchema>;

function parse<T>(
  schema: v.GenericSchema<unknown, T>,
  text: string | undefined,
): T | undefined {
  if (text === undefined) return undefined;
  try {
    const result = v.safeParse(schema, JSON.parse(text));
    return result.success ? result.output : undefined;
  } catch {
    return undefined; // not JSON: torn or damaged, which the caller repairs
  }
}

/** Reads the sidecar of a clip being recorded; `undefined` if it is missing or damaged. */
export function parseOpenSidecar(text: string | undefined): OpenSidecar | undefined {
  return parse(openSchema, text);
}

/** Reads the sidecar of a finished clip; `undefined` if it is missing or damaged. */
export function parseClipSidecar(text: string | undefined): ClipSidecar | undefined {
  return parse(clipSchema, text);
}

/** The text of a sidecar. */
export function formatSidecar(sidecar: OpenSidecar | ClipSidecar): string {
  return `${JSON.stringify(sidecar, null, 2)}\n`;
}
