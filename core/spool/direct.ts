/**
 * Writing and reading past the system's cache (`O_DIRECT`, open(2)).
 *
 * A clip is written once and read once or never again. Through the cache every page of it is found,
 * cleared, copied to, listed and thrown away, which is most of what writing costs; and on a small
 * machine it drives out what is needed. `docs/decisions/direct_writes.md` has the figures.
 *
 * @module
 */
import { MAX_FILES, useLibc } from "../libc.ts";

/** Places, lengths and addresses in memory must be multiples of it: no disk in use asks for more. */
export const BLOCK_BYTES = 4096;

// asm-generic/fcntl.h, linux/stat.h; arm64 has an O_DIRECT of its own.
const F_SETFL = 4;
const O_DIRECT = Deno.build.arch === "aarch64" ? 0o200000 : 0o40000;
const AT_EMPTY_PATH = 0x1000;
const STATX_INO = 0x100;
const STATX_BYTES = 256;

/**
 * Switches an open file between the system's cache and the disk itself; says whether it could.
 * `undefined` where that cannot be asked for.
 */
export function directSwitch(file: Deno.FsFile): ((isOn: boolean) => boolean) | undefined {
  const libc = useLibc();
  if (libc === undefined) return undefined;
  const { ino, dev } = file.statSync();
  const status = new DataView(new ArrayBuffer(STATX_BYTES));
  const empty = new Uint8Array(1); // a path of no characters: the file itself
  const isIt = (descriptor: number) =>
    libc.statx(descriptor, empty, AT_EMPTY_PATH, STATX_INO, status) === 0 &&
    Number(status.getBigUint64(32, true)) === ino && deviceOf(status) === dev;
  for (let descriptor = 0; descriptor < MAX_FILES; descriptor++) {
    if (!isIt(descriptor)) continue;
    return (isOn) => libc.fcntl(descriptor, F_SETFL, isOn ? O_DIRECT : 0) === 0;
  }
  return undefined;
}

/** The device as stat(2) has it: makedev(3). */
function deviceOf(status: DataView): number {
  const major = status.getUint32(136, true);
  const minor = status.getUint32(140, true);
  return (major % 2 ** 12) * 2 ** 8 + minor % 2 ** 8 + (minor >>> 8) * 2 ** 20 +
    (major >>> 12) * 2 ** 44;
}

/** Memory that begins at a whole block's address, where that can be found out. */
export function alignedBytes(bytes: number): Uint8Array<ArrayBuffer> {
  const memory = new Uint8Array(bytes + BLOCK_BYTES);
  if (useLibc() === undefined) return memory.subarray(0, bytes);
  const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(memory));
  const skip = Number(-address & BigInt(BLOCK_BYTES - 1));
  return memory.subarray(skip, skip + bytes);
}
