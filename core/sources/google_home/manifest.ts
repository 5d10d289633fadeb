/**
 * What Google has recorded of a camera, as its DASH manifest (ISO/IEC 23009-1 §5.3.2) lists it: each
 * `Period` with a `programDateTime` and a `duration` is an event. Nothing else of the manifest is
 * read, so no XML parser is needed: tags are found by their form.
 *
 * @module
 */

/** One recorded stretch, wall ms. */
export interface RecordedPeriod {
  readonly startMs: number;
  readonly endMs: number;
}

/** A day-long event, or a date in another century, is not believed. */
const LONGEST_MS = 86_400_000;

/** The periods that name their time, in the order of their beginning; others are left out. */
export function parseManifest(xml: string): RecordedPeriod[] {
  const periods: RecordedPeriod[] = [];
  for (const [, attributes = ""] of xml.matchAll(/<(?:\w+:)?Period((?:\s[^<>]*)?)\/?>/g)) {
    const startMs = Date.parse(attribute(attributes, "programDateTime"));
    const durationMs = parseIsoDuration(attribute(attributes, "duration"));
    if (Number.isNaN(startMs) || startMs < 0 || !(durationMs > 0) || durationMs > LONGEST_MS) {
      continue;
    }
    periods.push({ startMs, endMs: startMs + Math.round(durationMs) });
  }
  return periods.sort((a, b) => a.startMs - b.startMs);
}

function attribute(attributes: string, name: string): string {
  const found = new RegExp(`\\s${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)')`).exec(attributes);
  return found?.[1] ?? found?.[2] ?? "";
}

/** `PT1H2M12.345S` in ms; `NaN` if it is no such duration. */
export function parseIsoDuration(text: string): number {
  const [, days, hours, minutes, seconds] =
    /^P(?:(\d{1,4})D)?(?:T(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,8}(?:\.\d{1,9})?)S)?)?$/.exec(
      text,
    ) ??
      [];
  if ((days ?? hours ?? minutes ?? seconds) === undefined) return NaN;
  return ((Number(days ?? 0) * 24 + Number(hours ?? 0)) * 60 + Number(minutes ?? 0)) * 60_000 +
    Number(seconds ?? 0) * 1000;
}
