/**
 * A journal of pictures that wait for their encoder: what is in it survives the end of the process
 * although no clip holds it yet. A recorder writes to it only while its encoder is behind; what is found
 * of it at the next start is made into a clip of its own.
 *
 * A journal is a row of files `open/<slug>~<wall ms>-<n>.pictures`. Each begins with a line of JSON
 * (`{"camera","slug"}`), then come the pictures:
 *
 * ```
 * uint32 length of the picture, float64 when it was taken (wall ms), float64 its media time (µs),
 * the picture
 * ```
 *
 * all little-endian. A file that has grown is followed by another, so that those whose pictures have all
 * reached a clip can go while the rest is still waiting. Nothing is synced: most pictures wait for a
 * moment only, and files that live so briefly never reach the disk. A power cut costs them.
 * `docs/decisions/waiting_pictures.md` says why it is there at all.
 *
 * @module
 */
import { asSpoolError } from "./errors.ts";
import { readFully, type SpoolFile, type SpoolFs, writeGathered } from "./fs.ts";
import type { Layout } from "./layout.ts";

/** A picture as its camera gave it. */
export interface JournalPicture {
  readonly data: Uint8Array;
  /** When it was taken, wall ms. */
  readonly capturedAtMs: number;
  /** Media time of its session, µs. */
  readonly ptsUs: number;
}

/** Whose pictures a journal holds. */
export interface JournalOwner {
  /** The camera's name as its owner wrote it. */
  readonly camera: string;
  /** Made by `cameraSlug`. */
  readonly slug: string;
}

/** The journal of one session of a camera. Calls are done in their order. */
export interface PictureJournal {
  /**
   * Adds pictures, in the order in which they were taken. When this resolves they survive the end of
   * the process.
   *
   * @throws a spool error of kind `full` or `io`; some of them may be in it then
   */
  append(pictures: readonly JournalPicture[]): Promise<void>;
  /** What was taken up to this media time is in a clip: files that hold nothing later go. */
  settle(untilUs: number): Promise<void>;
  /** Ends it; its files go, unless they are to be found at the next start. */
  end(options?: { readonly keep?: boolean }): Promise<void>;
}

/** A journal that an earlier process left behind. */
export interface LeftJournal extends JournalOwner {
  /** In the order in which they were taken; what is torn at the end is left out. */
  pictures(): AsyncIterable<JournalPicture>;
  /** Its files go. */
  remove(): Promise<void>;
}

const SUFFIX = ".pictures";
const RECORD_HEADER_BYTES = 4 + 8 + 8;

/** A file that has this much is followed by another, bytes. */
const FILE_BYTES = 4 << 20;

/** No picture is so large; a length that says so was never written, bytes. */
const MAX_PICTURE_BYTES = 64 << 20;

/** What a journal needs of its spool. */
export interface JournalHost {
  readonly fs: SpoolFs;
  readonly layout: Layout;
  readonly now: () => number;
  /** Makes room for so many bytes more, and counts them. @throws a spool error of kind `full` */
  admit(bytes: number): Promise<void>;
  /** So many bytes are gone. */
  freed(bytes: number): void;
}

/** Makes an empty journal; it is on the disk from its first picture. */
export function createJournal(host: JournalHost, owner: JournalOwner): PictureJournal {
  const { fs, layout } = host;
  const prefix = `${layout.open}/${owner.slug}~${Math.round(host.now())}`;
  /** Oldest first; the last one is being written. */
  let files: { readonly path: string; bytes: number; lastUs: number }[] = [];
  let open: SpoolFile | undefined;
  let made = 0;
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = last.then(work);
    last = result.catch(() => {});
    return result;
  };

  async function write(records: readonly Uint8Array[], lastUs: number): Promise<void> {
    let chunks = records;
    let current = files.at(-1);
    if (!open || !current || current.bytes >= FILE_BYTES) {
      open?.close();
      open = undefined;
      current = { path: `${prefix}-${++made}${SUFFIX}`, bytes: 0, lastUs };
      open = await fs.open(current.path, "new");
      files.push(current);
      const head = new TextEncoder().encode(
        `${JSON.stringify({ camera: owner.camera, slug: owner.slug })}\n`,
      );
      chunks = [head, ...records];
    }
    const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    await host.admit(bytes);
    const atByte = current.bytes;
    current.bytes += bytes;
    current.lastUs = lastUs;
    await writeGathered(open, chunks, { atByte, staging: new Uint8Array(bytes + 1) });
  }

  async function removeFirst(count: number): Promise<void> {
    const gone = files.slice(0, count);
    files = files.slice(count);
    if (files.length === 0) {
      open?.close();
      open = undefined;
    }
    for (const { path, bytes } of gone) {
      await fs.remove(path);
      host.freed(bytes);
    }
  }

  return {
    append: (pictures) =>
      inTurn(async () => {
        const newest = pictures.at(-1);
        if (!newest) return;
        try {
          await write(
            pictures.flatMap((picture) => [recordHeader(picture), picture.data]),
            newest.ptsUs,
          );
        } catch (error) {
          // What it left half-written must not have whole ones behind it.
          open?.close();
          open = undefined;
          throw asSpoolError(error, `keep the pictures of "${owner.camera}" that wait`);
        }
      }),
    settle: (untilUs) =>
      files.every(({ lastUs }) => lastUs > untilUs)
        ? Promise.resolve()
        : inTurn(() => removeFirst(countWhile(files, ({ lastUs }) => lastUs <= untilUs))),
    end: ({ keep = false } = {}) =>
      inTurn(async () => {
        if (!keep) return await removeFirst(files.length);
        open?.close();
        open = undefined;
      }),
  };
}

/** The journals in a spool that nobody writes to: to be called before the first one is made. */
export async function leftJournals(
  { fs, layout }: Pick<JournalHost, "fs" | "layout">,
): Promise<readonly LeftJournal[]> {
  const found: LeftJournal[] = [];
  const names = (await fs.list(layout.open) ?? []).map(({ name }) => name)
    .filter((name) => name.endsWith(SUFFIX));
  for (const name of names.sort(byAge)) {
    const path = `${layout.open}/${name}`;
    const owner = await readOwner(fs, path);
    if (!owner) {
      await fs.remove(path); // it was never begun
      continue;
    }
    found.push({
      ...owner,
      pictures: () => readPictures(fs, path, owner.startByte),
      remove: () => fs.remove(path),
    });
  }
  return found;
}

/** Oldest first: the numbers in the names have no leading zeros. */
function byAge(a: string, b: string): number {
  const numbers = (name: string) => (/~(\d+)-(\d+)\./.exec(name) ?? []).slice(1).map(Number);
  const [[aMs = 0, aNth = 0], [bMs = 0, bNth = 0]] = [numbers(a), numbers(b)];
  return aMs - bMs || aNth - bNth;
}

const MAX_HEAD_BYTES = 4096;

async function readOwner(
  fs: SpoolFs,
  path: string,
): Promise<(JournalOwner & { readonly startByte: number }) | undefined> {
  const file = await fs.open(path, "read");
  try {
    const head = await readFully(file, { atByte: 0, length: MAX_HEAD_BYTES });
    const endByte = head.indexOf(10);
    const value: unknown = JSON.parse(
      new TextDecoder().decode(head.subarray(0, Math.max(0, endByte))),
    );
    if (typeof value !== "object" || value === null) return undefined;
    if (!("camera" in value) || !("slug" in value)) return undefined;
    return { camera: String(value.camera), slug: String(value.slug), startByte: endByte + 1 };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  } finally {
    file.close();
  }
}

async function* readPictures(
  fs: SpoolFs,
  path: string,
  startByte: number,
): AsyncGenerator<JournalPicture> {
  const file = await fs.open(path, "read");
  try {
    for (let atByte = startByte;;) {
      const head = await readFully(file, { atByte, length: RECORD_HEADER_BYTES });
      if (head.length < RECORD_HEADER_BYTES) return;
      const view = new DataView(head.buffer, head.byteOffset);
      const length = view.getUint32(0, true);
      // Zeros are what a power cut leaves of what was not written.
      if (length === 0 || length > MAX_PICTURE_BYTES) return;
      atByte += RECORD_HEADER_BYTES;
      const data = await readFully(file, { atByte, length });
      if (data.length < length) return;
      atByte += length;
      yield { data, capturedAtMs: view.getFloat64(4, true), ptsUs: view.getFloat64(12, true) };
    }
  } finally {
    file.close();
  }
}

function recordHeader({ data, capturedAtMs, ptsUs }: JournalPicture): Uint8Array {
  const bytes = new Uint8Array(RECORD_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length, true);
  view.setFloat64(4, capturedAtMs, true);
  view.setFloat64(12, ptsUs, true);
  return bytes;
}

function countWhile<T>(items: readonly T[], is: (item: T) => boolean): number {
  const first = items.findIndex((item) => !is(item));
  return first < 0 ? items.length : first;
}
