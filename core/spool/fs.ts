/**
 * The few operations on files that the spool needs, as an interface, so that a test can put a file
 * system under it that forgets what was not synced; and {@linkcode diskFs}, the real one.
 *
 * Writes go through `Deno.FsFile` and not through `node:fs`, whose promises do their writes on the
 * main thread: a disk that takes 200 ms for a write would stop every camera for 200 ms.
 *
 * @module
 */
import { statfs } from "node:fs/promises";
import { directSwitch } from "./direct.ts";

/** An open file. */
export interface SpoolFile {
  /** Writes at a place; may write less than all of it, and says how much. */
  write(bytes: Uint8Array, atByte: number): Promise<number>;
  /** Reads at a place; may read less than asked, and 0 at the end. */
  read(into: Uint8Array<ArrayBuffer>, atByte: number): Promise<number>;
  /**
   * As `read`, on the spot, for what was written just now: it is in memory, and another thread that
   * reads it brings it into the cache of another processor. Not every file system offers it.
   */
  readSync?(into: Uint8Array<ArrayBuffer>, atByte: number): number;
  /**
   * From now on what is written and read goes past the system's cache, or through it again; says
   * whether it does as asked. Past it places, lengths and memory are whole blocks (`direct.ts`). Not
   * every file system offers it.
   */
  setDirect?(isOn: boolean): boolean;
  /** Makes it exactly so long. */
  truncate(sizeBytes: number): Promise<void>;
  /** Resolves when what was written before the call survives a power cut. */
  sync(): Promise<void>;
  close(): void;
}

/** What stands in a folder. */
export interface FolderEntry {
  readonly name: string;
  readonly isFolder: boolean;
}

/** Space on the file system that holds a path, bytes. */
export interface DiskSpace {
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** A file system. Paths are made by the spool, with `/`. */
export interface SpoolFs {
  /**
   * `new` fails if the file is there, `replace` empties it, `update` and `read` fail if it is not.
   */
  open(path: string, mode: "new" | "replace" | "update" | "read"): Promise<SpoolFile>;
  /** Makes one folder; `false` if it was there. @throws with code `ENOENT` if the one above is not */
  makeFolder(path: string): Promise<boolean>;
  /** `undefined` if there is no such folder. */
  list(path: string): Promise<readonly FolderEntry[] | undefined>;
  /** `undefined` if there is no such file. */
  sizeOf(path: string): Promise<number | undefined>;
  rename(from: string, to: string): Promise<void>;
  /** Removes a file; one that is not there is no error. */
  remove(path: string): Promise<void>;
  /** Removes a folder if nothing is in it; `false` if it was left. */
  removeFolder(path: string): Promise<boolean>;
  /** Resolves when the folder's names survive a power cut. */
  syncFolder(path: string): Promise<void>;
  space(path: string): Promise<DiskSpace>;
  /**
   * Takes a lock that ends with the process, however that ends; `undefined` if another process, or
   * another spool of this one, has it.
   */
  lock(path: string): Promise<Disposable | undefined>;
}

/** EINVAL of write(2): places, lengths or memory are not as the file system wants them. */
const isInvalid = (error: unknown) =>
  error instanceof Error && "code" in error && error.code === "EINVAL";

const isNotFound = (error: unknown) => error instanceof Deno.errors.NotFound;

function openFile(file: Deno.FsFile, path: string): SpoolFile {
  let cursor = 0;
  let syncing: Promise<Deno.FsFile> | undefined;
  /** `null`: it cannot be, or the file system did not bear it. */
  let switchDirect: ReturnType<typeof directSwitch> | null;
  let isDirect = false;
  const seek = (at: number) => {
    if (at !== cursor) cursor = file.seekSync(at, Deno.SeekMode.Start); // costs one system call
  };
  const moved = (bytes: number | null): number => {
    cursor += bytes ?? 0;
    return bytes ?? 0;
  };
  const setDirect = (isOn: boolean): boolean => {
    if (switchDirect === undefined) switchDirect = directSwitch(file) ?? null;
    if (isOn !== isDirect && switchDirect?.(isOn)) isDirect = isOn;
    return isDirect === isOn;
  };
  /** Again through the cache where it is not to be switched off after all. */
  const tolerantly = async (move: () => Promise<number | null>): Promise<number> => {
    try {
      return moved(await move());
    } catch (error) {
      if (!isDirect || !isInvalid(error) || !setDirect(false)) throw error;
      switchDirect = null;
      return moved(await move());
    }
  };
  return {
    write: async (bytes, atByte) => {
      seek(atByte);
      return await tolerantly(() => file.write(bytes));
    },
    read: async (into, atByte) => {
      seek(atByte);
      return await tolerantly(() => file.read(into));
    },
    readSync: (into, atByte) => {
      seek(atByte);
      return moved(file.readSync(into));
    },
    setDirect,
    truncate: (sizeBytes) => file.truncate(sizeBytes),
    sync: async () => {
      // Through a handle of its own: Deno lets only one operation at a time run on a handle, and
      // the next fragment must not wait for the disk to have settled the last one.
      syncing ??= Deno.open(path, { read: true, write: true });
      await (await syncing).syncData();
    },
    close: () => {
      file.close();
      syncing?.then((handle) => handle.close(), () => {});
    },
  };
}

/** The machine's own file system. */
export const diskFs: SpoolFs = {
  open: async (path, mode) =>
    openFile(
      await Deno.open(path, {
        read: true,
        write: mode !== "read",
        createNew: mode === "new",
        create: mode === "replace",
        truncate: mode === "replace",
      }),
      path,
    ),
  makeFolder: async (path) => {
    try {
      await Deno.mkdir(path);
      return true;
    } catch (error) {
      if (error instanceof Deno.errors.AlreadyExists) return false;
      throw error;
    }
  },
  list: async (path) => {
    try {
      const entries: FolderEntry[] = [];
      for await (const entry of Deno.readDir(path)) {
        entries.push({ name: entry.name, isFolder: entry.isDirectory });
      }
      return entries;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  },
  sizeOf: async (path) => {
    try {
      return (await Deno.stat(path)).size;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  },
  rename: (from, to) => Deno.rename(from, to),
  remove: async (path) => {
    try {
      await Deno.remove(path);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  },
  removeFolder: async (path) => {
    try {
      await Deno.remove(path);
      return true;
    } catch {
      return false; // not empty, or gone already: it is only tidiness
    }
  },
  syncFolder: async (path) => {
    if (Deno.build.os === "windows") return; // NTFS logs names itself and cannot sync a folder
    using folder = await Deno.open(path);
    await folder.sync();
  },
  space: async (path) => {
    const { bsize, bavail, blocks } = await statfs(path);
    return { freeBytes: bsize * bavail, totalBytes: bsize * blocks };
  },
  lock: async (path) => {
    const file = await Deno.open(path, { read: true, write: true, create: true });
    if (await file.tryLock(true)) return { [Symbol.dispose]: () => file.close() };
    file.close();
    return undefined;
  },
};

/** Writes all of it; short writes go on where they stopped. @throws if the disk takes nothing more */
export async function writeFully(
  file: SpoolFile,
  bytes: Uint8Array,
  atByte: number,
): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const written = await file.write(bytes.subarray(done), atByte + done);
    if (written <= 0) throw new Error(`the disk took 0 of ${bytes.length - done} bytes`);
    done += written;
  }
}

/**
 * Writes chunks one after the other at a place, as few large writes: they are gathered in `staging`
 * first. A fragment has some 80 chunks, and one call per chunk costs 3 ms of CPU; copying 250 kB
 * costs 0.02 ms and the one write 0.2 ms (`bench/spool.ts`). A chunk that fills `staging` alone is
 * written from where it is.
 *
 * @returns how many bytes were written
 */
export async function writeGathered(
  file: SpoolFile,
  chunks: readonly Uint8Array[],
  { atByte, staging }: { atByte: number; staging: Uint8Array },
): Promise<number> {
  let at = atByte;
  let staged = 0;
  const writeAll = async (bytes: Uint8Array) => {
    await writeFully(file, bytes, at);
    at += bytes.length;
  };
  const flush = async () => {
    if (staged > 0) await writeAll(staging.subarray(0, staged));
    staged = 0;
  };
  for (const chunk of chunks) {
    if (staged + chunk.length > staging.length) await flush();
    if (chunk.length >= staging.length) {
      await writeAll(chunk);
    } else {
      staging.set(chunk, staged);
      staged += chunk.length;
    }
  }
  await flush();
  return at - atByte;
}

/** Reads exactly `length` bytes, or as many as there are. */
export async function readFully(
  file: SpoolFile,
  { atByte, length }: { atByte: number; length: number },
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(Math.max(0, length));
  let done = 0;
  while (done < bytes.length) {
    const read = await file.read(bytes.subarray(done), atByte + done);
    if (read === 0) break;
    done += read;
  }
  return bytes.subarray(0, done);
}

/** The whole of a small file as text; `undefined` if it is not there. */
export async function readText(fs: SpoolFs, path: string): Promise<string | undefined> {
  const size = await fs.sizeOf(path);
  if (size === undefined) return undefined;
  const file = await fs.open(path, "read");
  try {
    return new TextDecoder().decode(await readFully(file, { atByte: 0, length: size }));
  } finally {
    file.close();
  }
}

/** Writes a small file whole; unsynced, or its name before the folder's sync, it may be lost. */
export async function writeText(
  fs: SpoolFs,
  path: string,
  { text, sync }: { text: string; sync: boolean },
): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  const file = await fs.open(path, "replace");
  try {
    await writeGathered(file, [bytes], { atByte: 0, staging: new Uint8Array(0) });
    if (sync) await file.sync();
  } finally {
    file.close();
  }
}

/**
 * Writes a small text in the place of another one. Whoever is killed meanwhile leaves the one or the
 * other; the new one survives a power cut once its folder is synced.
 */
export async function replaceText(fs: SpoolFs, path: string, text: string): Promise<void> {
  await writeText(fs, `${path}.tmp`, { text, sync: true });
  await fs.rename(`${path}.tmp`, path);
}

/** Syncs a file that was written and closed before; one that is not there is no error. */
export async function syncFile(fs: SpoolFs, path: string): Promise<void> {
  if (await fs.sizeOf(path) === undefined) return;
  const file = await fs.open(path, "update");
  try {
    await file.sync();
  } finally {
    file.close();
  }
}
