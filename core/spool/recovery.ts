/**
 * Puts a spool in order when it is opened: completes what a crash interrupted, and makes files and
 * catalogue agree. The files decide which clips there are (see `catalogue.ts`).
 *
 * Every step may itself be cut short by a crash and is simply done again at the next start.
 *
 * @module
 */
import type { Clock, Log } from "../types.ts";
import { Catalogue, isCatalogueDamaged } from "./catalogue.ts";
import { spoolError } from "./errors.ts";
import type { Folders } from "./folders.ts";
import {
  readFully,
  readText,
  type SpoolFile,
  type SpoolFs,
  writeGathered,
  writeText,
} from "./fs.ts";
import {
  clipKey,
  contentTypeOf,
  keyOfOpenClip,
  type Layout,
  parseKey,
  SPOOL_FORMAT,
} from "./layout.ts";
import { fingerprint, publish } from "./publish.ts";
import {
  type ClipSidecar,
  formatSidecar,
  type OpenSidecar,
  parseClipSidecar,
  parseOpenSidecar,
} from "./sidecar.ts";
import type { RecoverTornClip, Repair, TornFile } from "./types.ts";

/** A clip without a picture that is so long was damaged rather than just begun. */
const SUSPICIOUS_BYTES = 64 * 1024;

/** What recovery works with. */
export interface RecoveryContext {
  readonly fs: SpoolFs;
  readonly folders: Folders;
  readonly layout: Layout;
  readonly catalogue: Catalogue;
  readonly recover: RecoverTornClip;
  /** Whether clips get one; they do by default. */
  readonly md5?: boolean;
  readonly clock: Clock;
  readonly log: Log;
}

/** What recovery found. */
export interface RecoveryReport {
  /** Interrupted clips that were completed. */
  readonly recovered: number;
  /** Finished clips that the catalogue did not know. */
  readonly relisted: number;
  /** Clips in the catalogue whose file somebody took away. */
  readonly lost: number;
}

/**
 * Notes the version of the layout in a new spool, and reads it in an old one.
 *
 * @throws a spool error of kind `format` if a newer release made the spool
 */
export async function checkFormat(fs: SpoolFs, layout: Layout): Promise<void> {
  const text = await readText(fs, layout.format);
  let version: unknown;
  try {
    const value: unknown = JSON.parse(text ?? "");
    if (typeof value === "object" && value !== null && "spool" in value) version = value.spool;
  } catch {
    // not there, or torn while it was first written: a spool as new as this
  }
  if (typeof version === "number" && version > SPOOL_FORMAT) {
    throw spoolError(
      "format",
      `the spool ${layout.root} has format ${version}, but this release knows only up to ` +
        `${SPOOL_FORMAT}: use the release that made it, or another spool.path`,
    );
  }
  if (version === SPOOL_FORMAT) return;
  await writeText(fs, layout.format, { text: `{ "spool": ${SPOOL_FORMAT} }\n`, sync: true });
  await fs.syncFolder(layout.root);
}

/** Opens the catalogue; a damaged one is moved aside and an empty one made in its place. */
export async function openOrReplaceCatalogue(
  { fs, folders, layout, clock, log }: Omit<RecoveryContext, "catalogue" | "recover">,
): Promise<Catalogue> {
  try {
    return new Catalogue(layout.catalogue);
  } catch (error) {
    if (!isCatalogueDamaged(error)) throw error;
    await folders.make(layout.damaged);
    const aside = `${layout.damaged}/catalogue-${Math.round(clock.now())}.db`;
    for (const suffix of ["", "-wal", "-shm"]) {
      if (await fs.sizeOf(layout.catalogue + suffix) !== undefined) {
        await fs.rename(layout.catalogue + suffix, aside + suffix);
      }
    }
    log.error(
      `the spool's catalogue cannot be used and is made anew from the clips (${error}); ` +
        `the old one is kept as ${aside}. Every clip is offered to every sink once more.`,
    );
    return new Catalogue(layout.catalogue);
  }
}

/** An interrupted clip, as it was found. */
export interface TornClip {
  readonly key: string;
  readonly bytes: number;
}

/**
 * Puts the spool in order, but for the interrupted clips: they are named, for
 * {@linkcode recoverOpenClip}. The catalogue must know the sinks already.
 */
export async function recoverSpool(
  context: RecoveryContext,
): Promise<Omit<RecoveryReport, "recovered"> & { readonly torn: readonly TornClip[] }> {
  const { fs, folders, layout, catalogue, clock, log } = context;
  // What a killed process threw away must not come back under a key that is used again.
  await fs.syncFolder(layout.open);
  const missing = catalogue.keysHere();
  const unlisted: ClipSidecar[] = [];
  for await (const key of finishedKeys(context)) {
    const row = catalogue.get(key);
    if (row?.state === "here") {
      missing.delete(key);
    } else if (row?.state === "gone") {
      await removeClipFiles(fs, layout, key); // its removal was cut short
    } else if (row?.state === "lost") {
      catalogue.setHere(key, clock.now());
    } else {
      unlisted.push(await describe(context, key));
    }
  }
  unlisted.sort((a, b) => a.startMs - b.startMs || (a.key < b.key ? -1 : 1));
  if (unlisted.length > 0) {
    // Whoever gave them their names may have been killed before he could make the names durable.
    for (const folder of new Set(unlisted.map(({ key }) => layout.folder(key)))) {
      await folders.make(folder);
      await fs.syncFolder(folder);
    }
    catalogue.transaction(() => unlisted.forEach((clip) => catalogue.add(clip)));
  }

  let lost = 0;
  for (const key of missing) {
    if (await fs.sizeOf(layout.clip(key)) !== undefined) continue; // behind a link, say
    catalogue.setAway([key], "lost", clock.now());
    log.error(`the clip ${key} was removed from the spool by somebody else`, { key });
    lost++;
  }

  const torn: TornClip[] = [];
  const open = new Set((await fs.list(layout.open) ?? []).map(({ name }) => name));
  for (const name of open) {
    const key = keyOfOpenClip(name);
    if (key !== undefined) {
      torn.push({ key, bytes: await fs.sizeOf(layout.openClip(key)) ?? 0 });
    } else if (
      name.endsWith(".json.tmp") ||
      name.endsWith(".json") && !open.has(name.replace(/json$/, "part"))
    ) {
      await fs.remove(`${layout.open}/${name}`); // of a clip that is none, or half of one
    }
  }
  return { relisted: unlisted.length, lost, torn };
}

/** The keys of all files in `clips/`. Tidies up what belongs to none on the way. */
async function* finishedKeys({ fs, layout }: RecoveryContext): AsyncGenerator<string> {
  async function* walk(folder: string, depth: number): AsyncGenerator<string> {
    const entries = await fs.list(folder) ?? [];
    const names = new Set(entries.map((entry) => entry.name));
    for (const { name, isFolder } of entries) {
      if (isFolder) {
        if (depth < 4) yield* walk(`${folder}/${name}`, depth + 1);
        continue;
      }
      const path = `${folder}/${name}`;
      const key = path.slice(layout.clips.length + 1);
      if (parseKey(key)) {
        yield key;
      } else if (
        name.endsWith(".tmp") || (name.endsWith(".json") && !names.has(name.slice(0, -5)))
      ) {
        await fs.remove(path);
      }
    }
    if (depth > 0 && entries.length === 0) await fs.removeFolder(folder);
  }
  yield* walk(layout.clips, 0);
}

/** What a finished file is: from its sidecar or, where that is damaged, from the file itself. */
async function describe(context: RecoveryContext, key: string): Promise<ClipSidecar> {
  const { fs, layout, recover, clock, log } = context;
  const sidecar = parseClipSidecar(await readText(fs, layout.sidecar(key)));
  const size = await fs.sizeOf(layout.clip(key)) ?? 0;
  if (sidecar?.key === key && sidecar.bytes === size) return sidecar;
  log.warn(`the clip ${key} has no sidecar that fits it; a new one is made from the clip`, { key });
  const file = await fs.open(layout.clip(key), "read");
  try {
    // A picture tells nothing of itself but that it is one.
    const repair: Repair = isImage(key)
      ? { state: "finished", durationMs: 0, frames: 1 }
      : await recover(tornFile(file, size));
    const known = sidecar?.key === key ? sidecar : guess(key, repair);
    const durationMs = repair.state === "empty" ? 0 : Math.max(0, repair.durationMs);
    const clip: ClipSidecar = {
      ...known,
      endMs: Math.round(known.startMs + durationMs),
      frames: repair.state === "empty" ? 0 : repair.frames,
      ...await fingerprint(file, { md5: context.md5 ?? true }),
      recovered: true,
      pinned: sidecar?.pinned ?? false,
      finishedMs: clock.now(),
      tags: sidecar?.tags ?? [],
    };
    await writeText(fs, layout.sidecar(key), { text: formatSidecar(clip), sync: true });
    await fs.syncFolder(layout.folder(key));
    return clip;
  } finally {
    file.close();
  }
}

/** What a clip whose sidecar is lost tells by its content and, where that is silent, by its key. */
function guess(key: string, repair: Repair): OpenSidecar {
  const { slug, startMs } = parseKey(key) ?? { slug: "unknown", startMs: 0 };
  const contents = repair.state === "empty" ? undefined : repair;
  return {
    key,
    camera: contents?.camera || slug,
    contentType: contentTypeOf(key),
    startMs: contents?.startMs ?? startMs,
    tags: [],
  };
}

const isImage = (key: string) => contentTypeOf(key).startsWith("image/");

function isRepair(value: unknown): value is Repair {
  return typeof value === "object" && value !== null && "state" in value;
}

function tornFile(file: SpoolFile, size: number): TornFile {
  return { size, read: (offset, length) => readFully(file, { atByte: offset, length }) };
}

/**
 * Cuts an interrupted clip at its last whole fragment, completes and publishes it.
 *
 * @returns what is to be entered in the catalogue; `undefined` if there was no picture in it, or
 * nothing could be made of it (then its file is moved to `damaged/`)
 */
export async function recoverOpenClip(
  context: RecoveryContext,
  openKey: string,
): Promise<ClipSidecar | undefined> {
  const { fs, folders, layout, recover, clock, log } = context;
  const found = parseOpenSidecar(await readText(fs, layout.openSidecar(openKey)));
  const path = layout.openClip(openKey);
  const size = await fs.sizeOf(path);
  if (size === undefined) return undefined;
  if (isImage(openKey)) {
    // Written in one piece and finished at once: it was cut short, and there is nothing to repair.
    await fs.remove(path);
    await fs.remove(layout.openSidecar(openKey));
    log.info(`an interrupted picture was removed: ${openKey}`, { key: openKey });
    return undefined;
  }
  const file = await fs.open(path, "update");
  let isOurs = true; // publish closes it
  try {
    const repair = await recover(tornFile(file, size)).catch((error: unknown) => error);
    const isHopeless = !isRepair(repair);
    if (isHopeless || (repair.state === "empty" && size >= SUSPICIOUS_BYTES)) {
      await folders.make(layout.damaged);
      const aside = `${layout.damaged}/${path.slice(layout.open.length + 1)}`;
      await fs.rename(path, aside);
      await fs.remove(layout.openSidecar(openKey));
      const why = isHopeless ? `: ${repair}` : "";
      log.error(`nothing could be made of an interrupted clip; it is kept as ${aside}${why}`, {
        key: openKey,
      });
      return undefined;
    }
    if (repair.state === "empty") {
      await fs.remove(path);
      await fs.remove(layout.openSidecar(openKey));
      return undefined;
    }
    if (repair.state === "torn") {
      const staging = new Uint8Array(0);
      await file.truncate(repair.keepBytes);
      await writeGathered(file, repair.tail, { atByte: repair.keepBytes, staging });
      if (repair.patch) {
        await file.sync(); // the patch points at the tail: it must never be there alone
        await writeGathered(file, [repair.patch.bytes], { atByte: repair.patch.offset, staging });
      }
    }
    const sidecar = found?.key === openKey ? found : guess(openKey, repair);
    const key = await freeKey(context, sidecar);
    isOurs = false;
    const clip = await publish({
      md5: context.md5 ?? true,
      fs,
      folders,
      layout,
      openKey,
      file,
      draft: {
        ...sidecar,
        key,
        endMs: Math.round(sidecar.startMs + Math.max(0, repair.durationMs)),
        frames: repair.frames,
        recovered: true,
        finishedMs: clock.now(),
      },
    });
    log.info(`recovered the interrupted clip ${key}`, { key, bytes: clip.bytes });
    return clip;
  } finally {
    if (isOurs) file.close();
  }
}

/** The clip's own key, unless another clip got it meanwhile. */
async function freeKey(
  { fs, layout, catalogue }: RecoveryContext,
  sidecar: OpenSidecar,
): Promise<string> {
  let key = sidecar.key;
  const slug = parseKey(key)?.slug ?? "unknown";
  const start = new Date(sidecar.startMs);
  for (let nth = 2; catalogue.get(key) || await fs.sizeOf(layout.clip(key)) !== undefined; nth++) {
    key = clipKey({ slug, start, contentType: sidecar.contentType, nth });
  }
  return key;
}

/** Removes a clip from the disk: the clip first, so that what a crash leaves is never a clip. */
export async function removeClipFiles(fs: SpoolFs, layout: Layout, key: string): Promise<void> {
  await fs.remove(layout.clip(key));
  await fs.remove(layout.sidecar(key));
}
