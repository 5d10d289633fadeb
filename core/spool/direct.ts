/**
 * Writing and reading past the system's cache (`O_DIRECT`, open(2)).
 *
 * A clip is written once and read once or never again. Through the cache every page of it is found,
 * cleared, copied to, listed and thrown away, which is most of what writing costs; and on a small
 * machine it drives out what is needed. `docs/decisions/direct_writes.md` has the figures.
 *
 * @module
 */
import { useLibc } from "../libc.ts";
import type { SpoolFile } from "./fs.ts";

/** Places, lengths and addresses in memory must be multiples of it: no disk in use asks for more. */
export const BLOCK_BYTES = 4096;

// asm-generic/fcntl.h, linux/stat.h; arm64 has an O_DIRECT of its own.
const F_SETFL = 4;
const O_DIRECT = Deno.build.arch === "aarch64" ? 0o200000 : 0o40000;
const AT_EMPTY_PATH = 0x1000;
const STATX_INO = 0x100;
const STATX_BYTES = 256;
/** As many files as a process may have open that asks for no more. */
const MAX_FILES = 1024;

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

/** Writes at the end of a file, whole blocks at a time, past the system's cache. */
export class DirectWrites {
  readonly #file: SpoolFile;
  /** The last block, as far as it is full. */
  readonly #lastBlock = new Uint8Array(BLOCK_BYTES);

  constructor(file: SpoolFile) {
    this.#file = file;
  }

  /**
   * Writes chunks where the last call ended. Zeros follow them to the end of their block, which the
   * next call writes over, as it does what a call has left that failed.
   *
   * @param atByte the sum of what all calls before have written
   * @param staging from {@linkcode alignedBytes}, a multiple of {@linkcode BLOCK_BYTES}
   */
  async append(
    chunks: readonly Uint8Array[],
    { atByte, staging }: { atByte: number; staging: Uint8Array },
  ): Promise<void> {
    let staged = atByte % BLOCK_BYTES;
    let at = atByte - staged;
    staging.set(this.#lastBlock.subarray(0, staged));
    const write = async (length: number) => {
      for (let done = 0; done < length;) {
        const written = await this.#file.write(staging.subarray(done, length), at);
        if (written <= 0) throw new Error(`the disk took 0 of ${length - done} bytes`);
        done += written;
        at += written;
      }
    };
    for (const chunk of chunks) {
      let rest = chunk;
      while (staged + rest.length >= staging.length) {
        staging.set(rest.subarray(0, staging.length - staged), staged);
        rest = rest.subarray(staging.length - staged);
        await write(staging.length);
        staged = 0;
      }
      staging.set(rest, staged);
      staged += rest.length;
    }
    const tail = staged % BLOCK_BYTES;
    const whole = staged - tail;
    if (tail > 0) staging.fill(0, staged, whole + BLOCK_BYTES);
    if (staged > 0) await write(tail > 0 ? whole + BLOCK_BYTES : whole);
    this.#lastBlock.set(staging.subarray(whole, staged));
  }
}
