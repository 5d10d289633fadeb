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
} as const;

/** The functions, as their manual pages have them. */
export type Libc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

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
