/**
 * The last steps of a clip on its way to `clips/`, the same for one that ended as it should and for
 * one that a crash cut short.
 *
 * Their order is what makes a finished clip safe. The bytes are synced before the name exists, so no
 * name ever shows half a clip; the sidecar is synced, with its name, before the clip has its own, so
 * no clip is without one; and the folder is synced before anybody is told.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { nextTurn } from "../clock.ts";
import type { Folders } from "./folders.ts";
import { type SpoolFile, type SpoolFs, writeText } from "./fs.ts";
import type { Layout } from "./layout.ts";
import { type ClipSidecar, formatSidecar, type OpenSidecar } from "./sidecar.ts";
import { Staging } from "./staging.ts";

/** For what is read and hashed at once: one is read while another is hashed. */
const staging = new Staging(2);
/** So much is hashed before others have a turn. */
const TURN_BYTES = 2 ** 20;
/** What takes longer comes from the disk. */
const IN_MEMORY_MS = 20;

/** Length and hashes of a file's content. */
export interface Fingerprint {
  readonly bytes: number;
  /** Lower-case hex. */
  readonly sha256: string;
  /** Lower-case hex; only where it was asked for. */
  readonly md5?: string;
}

/**
 * Reads a file from its beginning to its end and hashes it. (Hashing while recording would save the
 * reading, but the start of an MP4 is patched when it is finished.) MD5 costs more than all the rest of
 * it, so it is left out where no sink has a use for it. A file that was written just now is read on the
 * spot, a part at a time, for as long as that is quick.
 */
export function fingerprint(
  file: SpoolFile,
  options: { readonly md5: boolean; readonly isJustWritten?: boolean },
): Promise<Fingerprint> {
  return staging.lend(async (buffer) => {
    const sha256 = createHash("sha256");
    const md5 = options.md5 ? createHash("md5") : undefined;
    const isDirect = options.isJustWritten === true && file.setDirect?.(true) === true;
    let isInMemory = options.isJustWritten === true && !isDirect;
    let bytes = 0;
    let turnBytes = 0;
    /** `undefined` if it may not be there at once. */
    const readSync = (): number | undefined => {
      if (!isInMemory) return undefined;
      const beganMs = performance.now();
      const read = file.readSync?.(buffer, bytes);
      isInMemory = performance.now() - beganMs < IN_MEMORY_MS;
      return read;
    };
    for (;;) {
      const read = readSync() ?? await file.read(buffer, bytes);
      if (read === 0) break;
      const part = buffer.subarray(0, read);
      sha256.update(part);
      md5?.update(part);
      bytes += read;
      if (isDirect && read < buffer.length) file.setDirect?.(false); // the end is within a block
      if (bytes - turnBytes >= TURN_BYTES) {
        turnBytes = bytes;
        await nextTurn();
      }
    }
    return {
      bytes,
      sha256: sha256.digest("hex"),
      ...(md5 === undefined ? {} : { md5: md5.digest("hex") }),
    };
  });
}

/** What is known of a clip that is about to be published. */
export interface Draft extends OpenSidecar {
  readonly endMs: number;
  readonly frames: number;
  readonly recovered: boolean;
  readonly finishedMs: number;
  readonly tags: string[];
}

/**
 * Makes the complete content of an open clip durable and gives it its final name. Closes `file`,
 * also when it fails; then the clip is still in `open/` and can be recovered.
 */
export async function publish(
  { fs, folders, layout, draft, file, md5, openKey = draft.key }: {
    readonly fs: SpoolFs;
    readonly folders: Folders;
    readonly layout: Layout;
    readonly draft: Draft;
    readonly file: SpoolFile;
    /** Whether it is to be computed. */
    readonly md5: boolean;
    /** The key under which it was recorded, where that is not the one it gets. */
    readonly openKey?: string;
  },
): Promise<ClipSidecar> {
  const { key } = draft;
  let clip: ClipSidecar;
  try {
    await file.sync();
    clip = {
      ...draft,
      ...await fingerprint(file, { md5, isJustWritten: !draft.recovered }),
      pinned: false,
    };
  } finally {
    file.close();
  }
  const folder = layout.folder(key);
  await folders.make(folder);
  await writeText(fs, layout.sidecar(key), { text: formatSidecar(clip), sync: true });
  await fs.syncFolder(folder);
  await fs.rename(layout.openClip(openKey), layout.clip(key));
  await fs.syncFolder(folder);
  await fs.remove(layout.openSidecar(openKey));
  return clip;
}
