/**
 * The sink that keeps clips in a folder of this machine: `{path}/{key}`.
 *
 * A clip appears under its name only when it is whole: it is written to a hidden name in the same
 * folder, hashed on the way, flushed, given its name and the folder flushed too. The name is given
 * with `link(2)`, which unlike `rename(2)` fails where something already has it, so nothing is ever
 * overwritten; file systems without hard links (FAT, some network shares) get a rename instead.
 *
 * A clip whose file nobody else needs is not copied where that can be spared: its file gets its name
 * here before it loses the one that it had.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { link, lstat, mkdir, open, rename, rmdir, unlink } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { platform } from "node:process";
import { pathToFileURL } from "node:url";
import * as v from "valibot";
import { filePath } from "../core/config/values.ts";
import { defineSink, SinkError } from "../mod.ts";
import type { Clip, PutOptions, PutResult, Sink, SinkPlugin, StoredObject } from "../mod.ts";

/** Options of the `local-folder` sink. */
export interface LocalFolderOptions {
  /** The folder; made if only its last part is missing. */
  readonly path: string;
}

const schema = v.pipe(
  v.strictObject({
    path: v.pipe(
      filePath(),
      v.description("The folder that receives the clips; made if only its last part is missing."),
    ),
  }),
  v.description("A folder of this machine, or one that is mounted."),
);

/** The `local-folder` sink. */
export const localFolder: SinkPlugin<LocalFolderOptions> = defineSink<LocalFolderOptions>({
  name: "local-folder",
  config: schema,
  net: () => [],
  open: ({ config }) => openLocalFolder(resolve(config.path)),
});

function openLocalFolder(root: string): Sink {
  /** Hidden files that a put of this process is writing now; any other one is a crash's leftover. */
  const writing = new Set<string>();

  return {
    put: (clip, options) => guarded(root, () => put(root, clip, options, writing)),
    stat: (key) => guarded(root, () => stat(join(root, ...segmentsOf(key)))),
    remove: (key) => guarded(root, () => remove(root, segmentsOf(key))),
    check: () => guarded(root, () => check(root)),
  };
}

async function put(
  root: string,
  clip: Clip,
  { signal, progress }: PutOptions,
  writing: Set<string>,
): Promise<PutResult> {
  signal.throwIfAborted();
  const segments = segmentsOf(clip.key);
  await makeFolders(root, segments.slice(0, -1));
  const target = join(root, ...segments);
  const folder = dirname(target);
  const url = pathToFileURL(target).href;
  const hidden = join(folder, `.${basename(target)}.part`);
  // A try that was killed before or just after it gave the file its name has left the hidden one.
  if (!writing.has(hidden)) await removeFile(hidden);
  const existing = await regularFile(target);
  if (existing !== undefined) return await settleExisting(clip, target, existing.size, signal);

  if (writing.has(hidden)) {
    throw new SinkError(
      "retry",
      `${hidden} is still being written by an earlier try; trying later`,
    );
  }
  writing.add(hidden);
  try {
    if (await take(clip, target)) {
      await syncFolder(folder);
      progress(clip.bytes);
      return { state: "stored", url };
    }
    await copy(clip, hidden, signal, progress);
    if (await takeName(hidden, target)) {
      await syncFolder(folder);
      return { state: "stored", url };
    }
  } finally {
    await removeFile(hidden).catch(() => {});
    writing.delete(hidden);
  }
  const winner = await regularFile(target);
  return await settleExisting(clip, target, winner?.size ?? 0, signal);
}

/** Copies the clip into a new file, flushed, and proves that what was copied is the clip. */
async function copy(
  clip: Clip,
  path: string,
  signal: AbortSignal,
  progress: (sentBytes: number) => void,
): Promise<void> {
  const hash = createHash("sha256");
  const file = await open(path, "wx");
  try {
    let bytes = 0;
    progress(0);
    for await (const chunk of clip.open()) {
      signal.throwIfAborted();
      hash.update(chunk);
      for (let at = 0; at < chunk.length;) {
        at += (await file.write(chunk, at, chunk.length - at)).bytesWritten;
      }
      bytes += chunk.length;
      progress(bytes);
    }
    signal.throwIfAborted();
    const sha256 = hash.digest("hex");
    if (bytes !== clip.bytes || sha256 !== clip.sha256) {
      throw new SinkError(
        "permanent",
        `the local copy of ${clip.key} is damaged: read ${bytes} bytes with SHA-256 ${sha256}, ` +
          `expected ${clip.bytes} bytes with ${clip.sha256}`,
      );
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * Gives the clip's own file its name here, where nobody else needs it. False where it has to be copied:
 * on another file system, or on one without hard links.
 */
async function take({ path, mayBeTaken, bytes }: Clip, target: string): Promise<boolean> {
  if (path === undefined || !mayBeTaken) return false;
  try {
    const file = await lstat(path);
    if (!file.isFile() || file.size !== bytes) return false; // copying tells what is wrong
    await link(path, target);
    return true;
  } catch {
    return false; // also where the name was taken a moment ago, which copying finds out again
  }
}

/** Gives the finished file its name. False if the name is taken. */
async function takeName(hidden: string, target: string): Promise<boolean> {
  try {
    await link(hidden, target);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    if (!["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"].includes(codeOf(error))) {
      throw error;
    }
  }
  if (await regularFile(target) !== undefined) return false;
  await rename(hidden, target);
  return true;
}

/** The key is taken: by this very clip (fine), or by something else (a conflict). */
async function settleExisting(
  clip: Clip,
  target: string,
  bytes: number,
  signal: AbortSignal,
): Promise<PutResult> {
  const sha256 = bytes === clip.bytes ? await sha256Of(target, signal) : "";
  if (sha256 === clip.sha256) {
    // The try that wrote it may have died before the flush of the folder.
    await syncFolder(dirname(target));
    return { state: "already-there", url: pathToFileURL(target).href };
  }
  throw new SinkError(
    "conflict",
    `${target} already exists with other content (${bytes} bytes, expected ${clip.bytes} bytes ` +
      `with SHA-256 ${clip.sha256}); it is left as it is`,
  );
}

async function stat(path: string): Promise<StoredObject | undefined> {
  const file = await regularFile(path);
  return file && { bytes: file.size };
}

/** Removes the clip, and the folders above it that became empty. */
async function remove(root: string, segments: readonly string[]): Promise<void> {
  await refuseLinks(root, segments.slice(0, -1));
  await removeFile(join(root, ...segments));
  for (let depth = segments.length - 1; depth > 0; depth--) {
    try {
      await rmdir(join(root, ...segments.slice(0, depth)));
    } catch {
      return; // not empty, or gone already
    }
  }
}

/** Writes and removes a file; removes the folder too if it was not there before. */
async function check(root: string): Promise<void> {
  const made = await makeRoot(root);
  const path = join(root, `.camsink-check-${crypto.randomUUID()}`);
  try {
    const file = await open(path, "wx");
    try {
      await file.write(new TextEncoder().encode("camsink"));
      await file.sync();
    } finally {
      await file.close();
    }
  } finally {
    await removeFile(path);
    if (made) await rmdir(root).catch(() => {});
  }
}

/** The parts of a key; refuses whatever could lead out of the folder. */
function segmentsOf(key: string): string[] {
  const segments = key.split("/");
  const bad = segments.some((segment) =>
    segment === "" || segment === "." || segment === ".." ||
    // deno-lint-ignore no-control-regex -- control characters are what is looked for
    /[\\:\u0000-\u001f]/.test(segment)
  );
  if (!bad) return segments;
  throw new SinkError(
    "permanent",
    `the key ${JSON.stringify(key)} is not a relative path without "..", "\\\\", ":" or control ` +
      "characters, so it is not stored",
  );
}

/** Makes the sink's own folder. True if it was missing. */
async function makeRoot(root: string): Promise<boolean> {
  try {
    await mkdir(root);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    if (codeOf(error) !== "ENOENT") throw error;
  }
  // Only the last part is made: a missing parent is more often a disk that is not mounted than a
  // wish for new folders on the system disk.
  throw new SinkError(
    "retry",
    `the folder ${root} cannot be made because ${dirname(root)} does not exist: create it, or ` +
      "mount the disk that should be there",
  );
}

/** Makes the folders of a key and flushes each new name. */
async function makeFolders(root: string, segments: readonly string[]): Promise<void> {
  await refuseLinks(root, segments);
  // Mostly all are there, which the deepest one tells alone.
  const deepest = await lstat(join(root, ...segments)).catch(ignoreMissing);
  if (deepest?.isDirectory()) return;
  if (await makeRoot(root)) await syncFolder(dirname(root));
  for (let depth = 1; depth <= segments.length; depth++) {
    const path = join(root, ...segments.slice(0, depth));
    try {
      await mkdir(path);
      await syncFolder(dirname(path));
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
    }
  }
  await refuseLinks(root, segments);
}

/** Below the sink's folder everything must be real: a link could lead anywhere. */
async function refuseLinks(root: string, segments: readonly string[]): Promise<void> {
  for (let depth = 1; depth <= segments.length; depth++) {
    const path = join(root, ...segments.slice(0, depth));
    const info = await lstat(path).catch(ignoreMissing);
    if (info === undefined || info.isDirectory()) continue;
    throw new SinkError(
      "permanent",
      `${path} is ${info.isSymbolicLink() ? "a symbolic link" : "not a folder"}; expected a real ` +
        "folder: remove it, or choose another sink path",
    );
  }
}

/** What stands at the path if it is a plain file; refuses anything else. */
async function regularFile(path: string): Promise<{ size: number } | undefined> {
  const info = await lstat(path).catch(ignoreMissing);
  if (info === undefined || info.isFile()) return info;
  throw new SinkError(
    "permanent",
    `${path} is ${
      info.isSymbolicLink() ? "a symbolic link" : "not a file"
    }; expected a plain file ` +
      "or nothing: remove it",
  );
}

async function sha256Of(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  const file = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0));
  try {
    const buffer = new Uint8Array(256 * 1024);
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) return hash.digest("hex");
      hash.update(buffer.subarray(0, bytesRead));
    }
  } finally {
    await file.close();
  }
}

/** Makes new names in a folder survive a power cut. Windows flushes them with the file. */
async function syncFolder(path: string): Promise<void> {
  if (platform === "win32") return;
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } catch (error) {
    // Some network file systems cannot flush a folder.
    if (!["EINVAL", "ENOTSUP", "EBADF", "EISDIR"].includes(codeOf(error))) throw error;
  } finally {
    await folder.close();
  }
}

async function removeFile(path: string): Promise<void> {
  await unlink(path).catch(ignoreMissing);
}

/** For `catch`: nothing there is an answer, not a failure. */
function ignoreMissing(error: unknown): undefined {
  if (codeOf(error) === "ENOENT") return undefined;
  throw error;
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string"
    ? error.code
    : "";
}

/** Runs one operation and turns the operating system's errors into remedies. */
async function guarded<T>(root: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (error) {
    throw toSinkError(root, error);
  }
}

function toSinkError(root: string, cause: unknown): unknown {
  if (cause instanceof Error && cause.name === "NotCapable") {
    return new SinkError(
      "auth",
      `this process may not use the folder ${root}: start it with --allow-read=${root} ` +
        `--allow-write=${root}`,
      { cause },
    );
  }
  switch (codeOf(cause)) {
    case "ENOSPC":
      return new SinkError("full", `no space is left for the folder ${root}: free some`, { cause });
    case "EDQUOT":
      return new SinkError(
        "full",
        `the disk quota for the folder ${root} is used up: free some space, or raise the quota`,
        { cause },
      );
    case "EACCES":
    case "EPERM":
      return new SinkError(
        "auth",
        `the folder ${root} may not be written: give the user that runs Camsink the right to ` +
          "read and write it",
        { cause },
      );
    case "EROFS":
      return new SinkError(
        "auth",
        `the folder ${root} is on a read-only file system: mount it writable, or choose another path`,
        { cause },
      );
    case "ENOTDIR":
      return new SinkError(
        "auth",
        `a part of the path ${root} is a file; expected folders: choose another path`,
        { cause },
      );
    case "ENAMETOOLONG":
    case "EFBIG":
      return new SinkError(
        "permanent",
        `the file system of ${root} does not take this clip (${codeOf(cause)})`,
        { cause },
      );
    default:
      return cause; // EIO, EMFILE and the rest may pass: delivery tries again
  }
}
