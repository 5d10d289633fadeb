/**
 * Finds the start codes (00 00 01) of a byte stream. Every byte of a stream passes here, which makes
 * this the dearest part of muxing one. The search is done 64 bytes at a time by forty instructions of
 * WebAssembly, several times as fast as the best loop in JavaScript although the bytes must first be
 * copied to where WebAssembly sees them; short inputs and processors without SIMD get the loop.
 *
 * The module, to be assembled with `wat2wasm` and written as base64:
 *
 *     (module
 *       (memory (export "memory") 1)
 *       (func (export "find") (param $at i32) (param $end i32) (result i32)
 *         (block $out
 *           (loop $next
 *             (br_if $out (i32.ge_u (local.get $at) (local.get $end)))
 *             (br_if $out (i32.eqz (i8x16.all_true (i8x16.min_u
 *               (i8x16.min_u
 *                 (v128.or (v128.load (local.get $at)) (v128.load offset=1 (local.get $at)))
 *                 (v128.or (v128.load offset=16 (local.get $at)) (v128.load offset=17 (local.get $at))))
 *               (i8x16.min_u
 *                 (v128.or (v128.load offset=32 (local.get $at)) (v128.load offset=33 (local.get $at)))
 *                 (v128.or (v128.load offset=48 (local.get $at)) (v128.load offset=49 (local.get $at))))))))
 *             (local.set $at (i32.add (local.get $at) (i32.const 64)))
 *             (br $next)))
 *         (local.get $at)))
 *
 * `find` tells the first block of 64 bytes in which two zeros lie next to each other.
 *
 * @module
 */

const MODULE =
  "AGFzbQEAAAABBwFgAn9/AX8DAgEABQMBAAEHEQIGbWVtb3J5AgAEZmluZAAACmABXgACQANAIAAgAU8NASAA/QAE" +
  "ACAA/QAEAf1QIAD9AAQQIAD9AAQR/VD9dyAA/QAEICAA/QAEIf1QIAD9AAQwIAD9AAQx/VD9d/13/WNFDQEgAEHAAGohAAwACwsgAAs=";
const BLOCK_BYTES = 64;
/** What is copied at once: it stays in the processor's innermost cache. */
const PART_BYTES = 32_768;
/** Below this the copy and the calls cost more than they save. */
const SHORT_BYTES = 512;

interface Finder {
  readonly memory: Uint8Array;
  readonly find: (at: number, end: number) => number;
}

let finder: Finder | undefined | "missing" = undefined;

/** Where each 00 00 01 begins. */
export function findStartCodes(data: Uint8Array): number[] {
  const found: number[] = [];
  finder ??= loadFinder() ?? "missing";
  if (data.length < SHORT_BYTES || finder === "missing") scan(data, found);
  else scanFast(data, found, finder);
  return found;
}

/** Looks at every third byte: one above 1 cannot be part of a start code. */
export function scan(data: Uint8Array, found: number[]): void {
  const end = data.length;
  let i = 2;
  while (i < end) {
    const byte = data[i] as number;
    if (byte > 1) {
      i += 3;
    } else if (byte === 1) {
      if (data[i - 1] === 0 && data[i - 2] === 0) found.push(i - 2);
      i += 3;
    } else {
      i++;
    }
  }
}

function scanFast(data: Uint8Array, found: number[], { memory, find }: Finder): void {
  // A start code may lie across the end of a part: the next begins two bytes before it.
  for (let from = 0; from + 2 < data.length; from += PART_BYTES - 2) {
    const length = Math.min(PART_BYTES, data.length - from);
    memory.set(data.subarray(from, from + length));
    // The last block reads beyond the end, where no zeros may stand from before.
    memory.fill(1, length, length + BLOCK_BYTES + 1);
    const stop = length - 2;
    for (let at = find(0, stop); at < stop; at = find(at + BLOCK_BYTES, stop)) {
      const end = Math.min(at + BLOCK_BYTES, stop);
      for (let i = at; i < end; i++) {
        if (memory[i] === 0 && memory[i + 1] === 0 && memory[i + 2] === 1) found.push(from + i);
      }
    }
  }
}

function loadFinder(): Finder | undefined {
  try {
    const module = new WebAssembly.Module(Uint8Array.fromBase64(MODULE));
    const { memory, find } = new WebAssembly.Instance(module).exports;
    if (!(memory instanceof WebAssembly.Memory) || typeof find !== "function") return undefined;
    return {
      memory: new Uint8Array(memory.buffer),
      find: (at, end) => Number(find(at, end)),
    };
  } catch {
    return undefined; // a processor without SIMD
  }
}
