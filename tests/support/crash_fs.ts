/**
 * A file system in memory that forgets what was not synced, as a disk does at a power cut.
 *
 * Its crashes are worse than most real ones. Of the writes to a file since its last sync each may be
 * kept, lost or kept in part, whatever happened to those before and after. Of the names made, changed
 * and removed since their folder's last sync each may be kept or lost; half of the disks do this in
 * order, as a journal does, the others in no order. A rename is one step. A name in a folder whose own
 * name is lost is lost.
 *
 * The process can be stopped at any operation: from then on every operation of it fails.
 *
 * @module
 */
import { BLOCK_BYTES } from "../../core/spool/direct.ts";
import type { FolderEntry, SpoolFile, SpoolFs } from "../../core/spool/fs.ts";

interface Inode {
  durable: Uint8Array<ArrayBuffer>;
  current: Uint8Array<ArrayBuffer>;
  /** What was done since the last sync. */
  pending: ({ at: number; bytes: Uint8Array<ArrayBuffer> } | { truncate: number })[];
}

type Entry = Inode | "folder";

/** Names that change together. */
interface NameChange {
  readonly folders: readonly string[];
  readonly names: readonly (readonly [path: string, entry: Entry | undefined])[];
}

/** What every operation of a stopped process gets. */
export class Stopped extends Error {
  override readonly name = "Stopped";
  /** It was this operation that the process was stopped in, rather than one after. */
  readonly isLast: boolean;

  constructor({ isLast }: { isLast: boolean }) {
    super("the process was stopped");
    this.isLast = isLast;
  }
}

const parentOf = (path: string) => path.slice(0, path.lastIndexOf("/")) || "/";

function changed(
  content: Uint8Array<ArrayBuffer>,
  change: Inode["pending"][number],
): Uint8Array<ArrayBuffer> {
  const size = "truncate" in change
    ? change.truncate
    : Math.max(content.length, change.at + change.bytes.length);
  const next = new Uint8Array(size);
  next.set(content.subarray(0, size));
  if (!("truncate" in change)) next.set(change.bytes, change.at);
  return next;
}

/** See the module. */
export class CrashFs {
  readonly #random: () => number;
  readonly #isOrdered: boolean;
  readonly #hasDirect: boolean;
  #names = new Map<string, Entry>();
  #durableNames = new Map<string, Entry>();
  #log: NameChange[] = [];
  #process = 0;
  #stopIn = Infinity;
  #isStopped = false;
  /** Called before a file is removed. */
  onRemove: (path: string) => void = () => {};

  /** @param random numbers in [0, 1), which decide what a crash leaves */
  constructor(random: () => number) {
    this.#random = random;
    this.#isOrdered = random() < 0.5;
    this.#hasDirect = random() < 0.5;
  }

  /** Stops the process at its n-th operation from now. */
  stopIn(operations: number): void {
    this.#stopIn = operations;
  }

  /** The process was stopped. */
  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** Counts as an operation. @throws {@linkcode Stopped} */
  tick(process: number): void {
    if (process !== this.#process || this.#isStopped) throw new Stopped({ isLast: false });
    if (--this.#stopIn <= 0) {
      this.#isStopped = true;
      throw new Stopped({ isLast: true });
    }
  }

  /** Stops the process if it still runs, and says what is left: after a power cut less than all. */
  crash(kind: "kill" | "power cut"): void {
    this.#process++;
    this.#isStopped = false;
    this.#stopIn = Infinity;
    if (kind === "kill") return; // the kernel has it all
    const random = this.#random;
    const cut = Math.floor(random() * (this.#log.length + 1));
    this.#keep((_, index) => this.#isOrdered ? index < cut : random() < 0.5);
    this.#log = [];
    const names = new Map<string, Entry>();
    const isThere = (path: string): boolean =>
      path === "/" || (this.#durableNames.get(path) === "folder" && isThere(parentOf(path)));
    for (const [path, entry] of this.#durableNames) {
      if (isThere(parentOf(path))) names.set(path, entry);
    }
    for (const entry of new Set(names.values())) {
      if (entry === "folder") continue;
      for (const change of entry.pending) {
        const luck = random();
        if (luck < 0.4) continue;
        const kept = luck < 0.6 && !("truncate" in change)
          ? { ...change, bytes: change.bytes.slice(0, Math.floor(random() * change.bytes.length)) }
          : change;
        entry.durable = changed(entry.durable, kept);
      }
      entry.pending = [];
      entry.current = entry.durable;
    }
    this.#names = names;
    this.#durableNames = new Map(names);
  }

  /** The files there are. */
  files(): string[] {
    return [...this.#names].filter(([, entry]) => entry !== "folder").map(([path]) => path);
  }

  /** The file system as the process that now starts sees it. */
  mount(): SpoolFs & { readonly process: number } {
    const process = this.#process;
    const step = async () => {
      await Promise.resolve(); // others get their turn between any two operations
      this.tick(process);
    };
    const inodeAt = (path: string): Inode => {
      const entry = this.#names.get(path);
      if (entry === undefined || entry === "folder") {
        throw Object.assign(new Error(`no file ${path}`), { code: "ENOENT" });
      }
      return entry;
    };
    return {
      process,
      open: async (path, mode) => {
        await step();
        if (mode === "new" && this.#names.has(path)) {
          throw Object.assign(new Error(`${path} is there`), { code: "EEXIST" });
        }
        if ((mode === "new" || mode === "replace") && !this.#names.has(path)) {
          this.#assertFolder(parentOf(path));
          const empty = new Uint8Array(0);
          this.#change([parentOf(path)], [
            [path, { durable: empty, current: empty, pending: [] }],
          ]);
        }
        const inode = inodeAt(path);
        if (mode === "replace") this.#write(inode, { truncate: 0 });
        return this.#file(inode, step);
      },
      makeFolder: async (path) => {
        await step();
        if (this.#names.has(path)) return false;
        this.#assertFolder(parentOf(path));
        this.#change([parentOf(path)], [[path, "folder"]]);
        return true;
      },
      list: async (path) => {
        await step();
        if (this.#names.get(path) !== "folder") return undefined;
        const entries: FolderEntry[] = [];
        for (const [name, entry] of this.#names) {
          if (parentOf(name) !== path) continue;
          entries.push({ name: name.slice(path.length + 1), isFolder: entry === "folder" });
        }
        return entries;
      },
      sizeOf: async (path) => {
        await step();
        const entry = this.#names.get(path);
        return entry === undefined || entry === "folder" ? undefined : entry.current.length;
      },
      rename: async (from, to) => {
        await step();
        const inode = inodeAt(from);
        this.#assertFolder(parentOf(to));
        this.#change([parentOf(from), parentOf(to)], [[from, undefined], [to, inode]]);
      },
      remove: async (path) => {
        await step();
        if (!this.#names.has(path)) return;
        this.onRemove(path);
        this.#change([parentOf(path)], [[path, undefined]]);
      },
      removeFolder: async (path) => {
        await step();
        const isUsed = [...this.#names.keys()].some((name) => parentOf(name) === path);
        if (isUsed || !this.#names.has(path)) return false;
        this.#change([parentOf(path)], [[path, undefined]]);
        return true;
      },
      syncFolder: async (path) => {
        await step();
        const last = this.#log.findLastIndex(({ folders }) => folders.includes(path));
        this.#keep(({ folders }, index) =>
          this.#isOrdered ? index <= last : folders.includes(path)
        );
      },
      space: () => Promise.resolve({ freeBytes: 1e12, totalBytes: 2e12 }),
      lock: () => Promise.resolve({ [Symbol.dispose]: () => {} }),
    };
  }

  #file(inode: Inode, step: () => Promise<void>): SpoolFile {
    let isDirect = false;
    /** What O_DIRECT demands of places and lengths. */
    const check = (at: number, length: number) => {
      if (isDirect && (at % BLOCK_BYTES !== 0 || length % BLOCK_BYTES !== 0)) {
        throw new Error(`not whole blocks: ${length} bytes at ${at}`);
      }
    };
    return {
      setDirect: (isOn) => {
        if (isOn && !this.#hasDirect) return false;
        isDirect = isOn;
        return true;
      },
      write: async (bytes, at) => {
        check(at, bytes.length);
        // A stopped write may have got anywhere; a short one is a right answer, too.
        const unit = isDirect ? BLOCK_BYTES : 1;
        const some = bytes.slice(0, unit + unit * Math.floor(this.#random() * bytes.length / unit));
        try {
          await step();
        } catch (error) {
          if (error instanceof Stopped && error.isLast && this.#random() < 0.5) {
            this.#write(inode, { at, bytes: some });
          }
          throw error;
        }
        const written = this.#random() < 0.1 ? some : bytes.slice();
        this.#write(inode, { at, bytes: written });
        return written.length;
      },
      read: async (into, at) => {
        check(at, into.length);
        await step();
        const part = inode.current.subarray(at, at + into.length);
        into.set(part);
        return part.length;
      },
      truncate: async (size) => {
        await step();
        this.#write(inode, { truncate: size });
      },
      sync: async () => {
        const due = new Set(inode.pending); // what is written meanwhile is not promised
        await step();
        for (const change of inode.pending) {
          if (due.has(change)) inode.durable = changed(inode.durable, change);
        }
        inode.pending = inode.pending.filter((change) => !due.has(change));
      },
      close: () => {},
    };
  }

  #write(inode: Inode, change: Inode["pending"][number]): void {
    inode.current = changed(inode.current, change);
    inode.pending.push(change);
  }

  #assertFolder(path: string): void {
    if (path !== "/" && this.#names.get(path) !== "folder") {
      throw Object.assign(new Error(`no folder ${path}`), { code: "ENOENT" });
    }
  }

  #change(folders: readonly string[], names: NameChange["names"]): void {
    const change = { folders, names };
    this.#log.push(change);
    apply(this.#names, change);
  }

  /** Makes changes durable, each with those before it of the same names. */
  #keep(isKept: (change: NameChange, index: number) => boolean): void {
    const kept = this.#log.map(isKept);
    const paths = new Set<string>();
    for (let index = this.#log.length - 1; index >= 0; index--) {
      const { names } = this.#log[index] ?? { names: [] };
      if (!kept[index] && !names.some(([path]) => paths.has(path))) continue;
      kept[index] = true;
      for (const [path] of names) paths.add(path);
    }
    this.#log.forEach((change, index) => kept[index] && apply(this.#durableNames, change));
    this.#log = this.#log.filter((_, index) => !kept[index]);
  }
}

function apply(names: Map<string, Entry>, change: NameChange): void {
  for (const [path, entry] of change.names) {
    if (entry === undefined) names.delete(path);
    else names.set(path, entry);
  }
}
