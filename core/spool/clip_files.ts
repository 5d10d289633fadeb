/**
 * What is done with the files of one finished clip, by the process that records as well as by one
 * that only looks at its spool.
 *
 * @module
 */
import type { ClipState } from "./catalogue.ts";
import { readText, replaceText, type SpoolFs } from "./fs.ts";
import type { Layout } from "./layout.ts";
import { fingerprint } from "./publish.ts";
import { readStream } from "./read_stream.ts";
import { type ClipSidecar, formatSidecar, parseClipSidecar } from "./sidecar.ts";
import type { SpooledClip } from "./types.ts";

/** Where the files are. */
export interface ClipPlace {
  readonly fs: SpoolFs;
  readonly layout: Layout;
}

/** A clip as the other rooms see it. */
export function spooledClip(
  { fs, layout }: ClipPlace,
  clip: ClipSidecar & { readonly state: ClipState },
): SpooledClip {
  const path = layout.clip(clip.key);
  return {
    key: clip.key,
    camera: clip.camera,
    start: new Date(clip.startMs),
    end: new Date(clip.endMs),
    bytes: clip.bytes,
    sha256: clip.sha256,
    ...(clip.md5 === undefined ? {} : { md5: clip.md5 }),
    contentType: clip.contentType,
    tags: clip.tags,
    frames: clip.frames,
    recovered: clip.recovered,
    pinned: clip.pinned,
    state: clip.state,
    path,
    open: (fromByte = 0) => readStream(fs, path, fromByte),
  };
}

/**
 * Compares a clip's file with what it was when it was finished.
 *
 * @param quick compares only the length, and reads nothing
 */
export async function checkClipFile(
  { fs, layout }: ClipPlace,
  { clip, quick = false }: {
    readonly clip: Pick<ClipSidecar, "key" | "bytes" | "sha256">;
    readonly quick?: boolean;
  },
): Promise<"ok" | "missing" | "damaged"> {
  const size = await fs.sizeOf(layout.clip(clip.key));
  if (size === undefined) return "missing";
  if (size !== clip.bytes) return "damaged";
  if (quick) return "ok";
  const file = await fs.open(layout.clip(clip.key), "read");
  try {
    const { bytes, sha256 } = await fingerprint(file, { md5: false });
    return bytes === clip.bytes && sha256 === clip.sha256 ? "ok" : "damaged";
  } finally {
    file.close();
  }
}

/** Notes in a clip's sidecar what may change of it, so that a catalogue made anew knows it too. */
export async function writeMarks(
  { fs, layout }: ClipPlace,
  { key, pinned, tags }: {
    readonly key: string;
    readonly pinned?: boolean;
    readonly tags?: readonly string[];
  },
): Promise<void> {
  const path = layout.sidecar(key);
  const sidecar = parseClipSidecar(await readText(fs, path));
  if (!sidecar) return;
  const text = formatSidecar({
    ...sidecar,
    ...(pinned === undefined ? {} : { pinned }),
    ...(tags === undefined ? {} : { tags: [...tags] }),
  });
  await replaceText(fs, path, text);
  await fs.syncFolder(layout.folder(key));
}
