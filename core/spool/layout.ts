/**
 * What lies where in a spool's folder.
 *
 * ```
 * format.json                                 version of this layout
 * lock, owner.json                            who has the spool
 * status.json                                 how the recording is doing, see core/status/snapshot.ts
 * catalogue.db (-wal, -shm)                   see catalogue.ts
 * open/<slug>~20260821T140500Z.mp4.part       a clip being recorded
 * open/<slug>~20260821T140500Z.mp4.json       its sidecar
 * open/<slug>~1787320000000-1.pictures        pictures that wait for their encoder, see journal.ts
 * clips/<slug>/2026/08/21/20260821T140500Z.mp4        a finished clip; the path under clips/ is its key
 * clips/<slug>/2026/08/21/20260821T140500Z.mp4.json   its sidecar
 * damaged/                                    what was moved aside
 * handover/                                   second names of clips, for plugins that are sending them
 * ```
 *
 * @module
 */

/** Version of this layout. A spool of a higher one is refused. */
export const SPOOL_FORMAT = 1;

const EXTENSION: Readonly<Record<string, string>> = {
  "video/mp4": "mp4",
  "video/mp2t": "ts",
  "video/x-matroska": "mkv",
  "image/jpeg": "jpg",
};

const KEY =
  /^([a-z0-9-]+)\/(\d{4})\/(\d\d)\/(\d\d)\/(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z(?:-\d+)?\.[a-z0-9]+$/;

/**
 * The key of a clip: UTC, so that no daylight saving time repeats it, and so that keys sort by time.
 *
 * @param nth from 2 on it becomes a suffix, for when the clock went back over a key that is taken
 */
export function clipKey(
  { slug, start, contentType, nth = 1 }: {
    readonly slug: string;
    readonly start: Date;
    readonly contentType: string;
    readonly nth?: number;
  },
): string {
  // Years that do not have four digits come only from a broken clock; they must not break the path.
  const ms = Math.min(Math.max(start.getTime(), 0), Date.UTC(9999, 11, 31, 23, 59, 59));
  const iso = new Date(ms).toISOString();
  const stamp = iso.slice(0, 19).replace(/[-:]/g, "") + "Z";
  const suffix = nth > 1 ? `-${nth}` : "";
  const extension = EXTENSION[contentType] ?? "bin";
  return `${slug}/${iso.slice(0, 10).replaceAll("-", "/")}/${stamp}${suffix}.${extension}`;
}

/** What a key tells; `undefined` if it is no key. */
export function parseKey(key: string): { slug: string; startMs: number } | undefined {
  const [, slug, , , , year, month, day, hour, minute, second] = KEY.exec(key) ?? [];
  if (slug === undefined) return undefined;
  const startMs = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  return Number.isNaN(startMs) ? undefined : { slug, startMs };
}

/** The content type that belongs to a key's extension. */
export function contentTypeOf(key: string): string {
  const extension = key.slice(key.lastIndexOf(".") + 1);
  const found = Object.entries(EXTENSION).find(([, value]) => value === extension);
  return found?.[0] ?? "application/octet-stream";
}

/** The paths of one spool. */
export interface Layout {
  readonly root: string;
  readonly format: string;
  readonly lock: string;
  readonly owner: string;
  readonly catalogue: string;
  readonly open: string;
  readonly clips: string;
  readonly damaged: string;
  clip(key: string): string;
  sidecar(key: string): string;
  /** The folder of a finished clip. */
  folder(key: string): string;
  openClip(key: string): string;
  openSidecar(key: string): string;
}

/** The paths of the spool in a folder. */
export function layoutOf(path: string): Layout {
  const root = path.replaceAll("\\", "/").replace(/(.)\/+$/, "$1");
  const clips = `${root}/clips`;
  const open = `${root}/open`;
  const flat = (key: string) =>
    `${open}/${key.slice(0, key.indexOf("/"))}~${key.slice(key.lastIndexOf("/") + 1)}`;
  return {
    root,
    format: `${root}/format.json`,
    lock: `${root}/lock`,
    owner: `${root}/owner.json`,
    catalogue: `${root}/catalogue.db`,
    open,
    clips,
    damaged: `${root}/damaged`,
    clip: (key) => `${clips}/${key}`,
    sidecar: (key) => `${clips}/${key}.json`,
    folder: (key) => `${clips}/${key.slice(0, key.lastIndexOf("/"))}`,
    openClip: (key) => `${flat(key)}.part`,
    openSidecar: (key) => `${flat(key)}.json`,
  };
}

/** The key of an interrupted clip by the name of its file in `open/`; `undefined` if it is none. */
export function keyOfOpenClip(name: string): string | undefined {
  const [, slug, file] = /^([a-z0-9-]+)~(.+)\.part$/.exec(name) ?? [];
  if (slug === undefined || file === undefined) return undefined;
  const key = `${slug}/${file.slice(0, 4)}/${file.slice(4, 6)}/${file.slice(6, 8)}/${file}`;
  return parseKey(key) ? key : undefined;
}
