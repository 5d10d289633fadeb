/**
 * What the runtime has no way to ask for, and the C library of Linux does. Where calling it is not
 * allowed (`--allow-ffi`), or it is another library than glibc, everything works without and costs more.
 *
 * @module
 */

const SYMBOLS = {
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  getpeername: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  mallopt: { parameters: ["i32", "i32"], result: "i32" },
  malloc_trim: { parameters: ["usize"], result: "i32" },
  madvise: { parameters: ["usize", "usize", "i32"], result: "i32" },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  getauxval: { parameters: ["usize"], result: "usize" },
} as const;

/** The functions, as their manual pages have them. */
export type Libc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** As many files as a process may have open that asks for no more, so where to look for one of ours. */
export const MAX_FILES = 1024;

/** `null`: there is none. */
let library: Libc | null | undefined;

/** The library, where it can and may be called. */
export function useLibc(): Libc | undefined {
  if (Deno.build.os !== "linux") return undefined;
  if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") return undefined;
  if (library === undefined) {
    try {
      library = Deno.dlopen("libc.so.6", SYMBOLS).symbols;
    } catch {
      library = null; // another C library
    }
  }
  return library ?? undefined;
}

/** From glibc's malloc.h. */
const M_MMAP_THRESHOLD = -3;
/** What glibc begins with. */
const THRESHOLD_BYTES = 131_072;

/**
 * Lets large blocks go back to the system when they are freed. Without this glibc keeps ever larger
 * ones (up to 32 MiB) once it has seen some freed, mallopt(3): what a start needs stays as holes then.
 */
export function giveBackFreedMemory(): void {
  useLibc()?.mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES);
}

/**
 * Gives back what the start has left behind: free memory between what is in use, malloc_trim(3), of
 * which there are 20 MB when the program's modules were read for the first time; and the pages of the
 * runtime's own code, madvise(2), of which a recording uses half; those come back from the system's
 * cache by themselves.
 */
export function giveBackStart(): void {
  const libc = useLibc();
  if (libc === undefined) return;
  libc.malloc_trim(0n);
  for (const { from, to } of constantSegments(libc)) {
    libc.madvise(from, to - from, MADV_DONTNEED);
  }
}

// elf.h, getauxval(3), asm-generic/mman-common.h.
const AT_PHDR = 3n;
const AT_PHENT = 4n;
const AT_PHNUM = 5n;
const PT_LOAD = 1;
const PT_PHDR = 6;
const PF_W = 2;
const MADV_DONTNEED = 4;
/** Pages are of this size or a part of it on everything that Linux runs on. */
const LARGEST_PAGE_BYTES = 65_536n;

/** Where the program's code and constants are, which nobody has ever written to: ELF-64, part 5. */
function constantSegments(libc: Libc): { readonly from: bigint; readonly to: bigint }[] {
  const at = libc.getauxval(AT_PHDR);
  const bytes = Number(libc.getauxval(AT_PHENT));
  const count = Number(libc.getauxval(AT_PHNUM));
  const table = Deno.UnsafePointer.create(at);
  if (table === null) return [];
  const view = new DataView(Deno.UnsafePointerView.getArrayBuffer(table, count * bytes));
  const headers = Array.from({ length: count }, (_, i) => ({
    type: view.getUint32(i * bytes, true),
    flags: view.getUint32(i * bytes + 4, true),
    address: view.getBigUint64(i * bytes + 16, true),
    length: view.getBigUint64(i * bytes + 40, true),
  }));
  const self = headers.find(({ type }) => type === PT_PHDR);
  if (self === undefined) return [];
  const base = at - self.address; // it was loaded anywhere
  const wholePages = (address: bigint) => address - address % LARGEST_PAGE_BYTES;
  return headers
    .filter(({ type, flags }) => type === PT_LOAD && (flags & PF_W) === 0)
    .map(({ address, length }) => ({
      from: wholePages(base + address + LARGEST_PAGE_BYTES - 1n),
      to: wholePages(base + address + length),
    }))
    .filter(({ from, to }) => from < to);
}
