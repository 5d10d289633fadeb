/**
 * A spool seen from beside: lists its clips, pins them and has them delivered again while another
 * process records into it. It takes no lock and puts nothing in order.
 *
 * That is safe because SQLite lets only one write at a time, each of them here is one transaction
 * that looks at the clip's state first, and no file of a clip is touched but a sidecar, which is
 * replaced as a whole (one that comes too late, for a clip just removed, is tidied up at the next
 * start). The recording process notices what was changed at its next round.
 *
 * @module
 */
import { Catalogue, type ClipFilter, type Delivery, isCatalogueDamaged } from "./catalogue.ts";
import { checkClipFile, type ClipPlace, spooledClip, writeMarks } from "./clip_files.ts";
import { asSpoolError, spoolError } from "./errors.ts";
import { diskFs } from "./fs.ts";
import { layoutOf, parseKey } from "./layout.ts";
import type { SpooledClip } from "./types.ts";

/** A spool seen from beside. */
export interface SpoolView extends Disposable {
  /** The sinks that get every clip, by their names. */
  sinks(): readonly string[];
  /** Clips, oldest first unless told otherwise. */
  list(filter?: ClipFilter): readonly SpooledClip[];
  /** One clip, whatever its state. */
  get(key: string): SpooledClip | undefined;
  /** How every sink stands to a clip. */
  deliveries(key: string): readonly Delivery[];
  /** The keys of all finished clips that lie on the disk, known to the catalogue or not. */
  files(): AsyncIterable<string>;
  /** Whether a clip's file is what it was; with `quick` only its length is compared. */
  check(
    clip: SpooledClip,
    options?: { readonly quick?: boolean },
  ): Promise<"ok" | "missing" | "damaged">;
  /** Has a clip delivered again. @throws if it is not on the spool, or the sink is not known */
  redeliver(sink: string, key: string): void;
  /** Keeps a clip from retention, or no longer. @throws if the catalogue does not know it */
  setPinned(key: string, pinned: boolean): Promise<void>;
}

/**
 * Opens the view of the spool in a folder.
 *
 * @throws a spool error of kind `io` if there is no spool, or its catalogue cannot be used
 */
export async function openSpoolView(
  path: string,
  { now }: { readonly now: () => number },
): Promise<SpoolView> {
  const place: ClipPlace = { fs: diskFs, layout: layoutOf(path) };
  const { fs, layout } = place;
  if (await fs.sizeOf(layout.catalogue) === undefined) {
    throw spoolError(
      "io",
      `there is no spool in ${layout.root}: nothing was recorded there yet with camsink capture, ` +
        "or spool.path has another value",
    );
  }
  let catalogue: Catalogue;
  try {
    catalogue = new Catalogue(layout.catalogue);
  } catch (error) {
    throw isCatalogueDamaged(error)
      ? spoolError(
        "io",
        `the catalogue ${layout.catalogue} cannot be used: ${(error as Error).message}; camsink ` +
          "capture makes it anew from the clips when it starts",
        { cause: error },
      )
      : asSpoolError(error, `open the catalogue ${layout.catalogue}`);
  }
  const redeliver = (sink: string, key: string) =>
    catalogue.transaction(() => {
      const { state } = known(catalogue, key);
      if (state !== "here") {
        throw new Error(
          `the clip ${key} is not on the spool any more: it cannot be delivered again`,
        );
      }
      const sinks = catalogue.activeSinks();
      if (!sinks.includes(sink)) {
        throw new Error(
          `there is no sink "${sink}"; the spool's sinks: ${sinks.join(", ") || "none"}`,
        );
      }
      catalogue.setDelivery(sink, key, { state: "waiting", atMs: now() });
    });
  return {
    sinks: () => catalogue.activeSinks(),
    list: (filter = {}) => catalogue.list(filter).map((row) => spooledClip(place, row)),
    get: (key) => {
      const row = catalogue.get(key);
      return row && spooledClip(place, row);
    },
    deliveries: (key) => catalogue.deliveries(key),
    files: () => finishedFiles(place, layout.clips),
    check: (clip, { quick } = {}) => checkClipFile(place, { clip, quick }),
    redeliver,
    setPinned: async (key, pinned) => {
      if (known(catalogue, key).state === "here") await writeMarks(place, { key, pinned });
      catalogue.setPinned(key, pinned);
    },
    [Symbol.dispose]: () => catalogue[Symbol.dispose](),
  };
}

function known(catalogue: Catalogue, key: string) {
  const row = catalogue.get(key);
  if (row) return row;
  throw new Error(
    parseKey(key)
      ? `there is no clip ${key}; camsink clips lists those that there are`
      : `"${key}" is no clip's key; expected one such as yard/2026/08/21/20260821T140500Z.mp4, ` +
        "as camsink clips lists them",
  );
}

async function* finishedFiles(place: ClipPlace, folder: string): AsyncGenerator<string> {
  const { fs, layout } = place;
  for (const { name, isFolder } of await fs.list(folder) ?? []) {
    const path = `${folder}/${name}`;
    if (isFolder) yield* finishedFiles(place, path);
    else if (parseKey(path.slice(layout.clips.length + 1))) {
      yield path.slice(layout.clips.length + 1);
    }
  }
}
