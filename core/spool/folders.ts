/**
 * Makes the spool's folders so that they survive a power cut, and takes empty ones away.
 *
 * That a folder is there does not mean that it will be there after a power cut: another clip may have
 * made it a moment ago, or a process that was killed before it could sync it. So each folder's name is
 * synced once by each process, whoever made it.
 *
 * @module
 */
import type { SpoolFs } from "./fs.ts";

const parentOf = (path: string) => {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "." : path.slice(0, slash) || "/";
};

/** See the module. */
export class Folders {
  readonly #fs: SpoolFs;
  readonly #root: string;
  /** Known to survive a power cut. */
  readonly #durable = new Set<string>();

  /** @param root the spool's folder */
  constructor(fs: SpoolFs, root: string) {
    this.#fs = fs;
    this.#root = root;
  }

  /** Makes the spool's own folder, and those above it that are missing. */
  async makeRoot(): Promise<void> {
    await this.#makeAbove(this.#root);
    try {
      await this.#fs.syncFolder(parentOf(this.#root));
    } catch {
      // We may not be allowed to open the folder above ours; then its owner made ours long ago.
    }
    this.#durable.add(this.#root);
  }

  /** Makes a folder in the spool, and those between; durable when it resolves. */
  async make(path: string): Promise<void> {
    if (this.#durable.has(path)) return;
    const parent = parentOf(path);
    await this.make(parent);
    await this.#fs.makeFolder(path);
    await this.#fs.syncFolder(parent);
    this.#durable.add(path);
  }

  /** Removes a folder, and those above it below `top`, as far as they are empty. */
  async removeEmpty(path: string, top: string): Promise<void> {
    for (let folder = path; folder !== top; folder = parentOf(folder)) {
      this.#durable.delete(folder);
      if (!await this.#fs.removeFolder(folder)) return;
    }
  }

  async #makeAbove(path: string): Promise<void> {
    try {
      await this.#fs.makeFolder(path);
    } catch (error) {
      const isParentMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
      if (!isParentMissing || parentOf(path) === path) throw error;
      await this.#makeAbove(parentOf(path));
      await this.#fs.makeFolder(path);
      await this.#fs.syncFolder(parentOf(path));
    }
  }
}
