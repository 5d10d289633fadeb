/**
 * Clips for the conformance kit: bytes that repeat nowhere, so that a block in the wrong place is
 * found, and that are made while they are read, so that 200 MiB cost no memory. A clip tells how far
 * it was read.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import type { Clip } from "../core/types.ts";

const BLOCK_BYTES = 2 ** 20;
const CHUNK_BYTES = 64 * 1024;

/** A clip that knows what was read of it. */
export interface TestClip extends Clip {
  /** Bytes that the newest stream has handed out, counted from the clip's beginning. */
  readonly pulledBytes: number;
  /** How often it was opened. */
  readonly opened: number;
}

/** What may be different from an ordinary clip. */
export interface ClipChange extends Partial<Omit<Clip, "open" | "bytes">> {
  /** Another number gives other bytes. */
  readonly seed?: number;
  /** Told before each read how many bytes have been handed out. */
  readonly onRead?: (bytes: number) => void;
  /** The stored copy is not what was recorded: one bit is wrong, or the end is missing. */
  readonly spoilt?: "bit" | "short";
}

/** Bytes that repeat nowhere (xorshift32). */
export function noise(bytes: number, seed = 1): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(bytes / 4));
  let state = seed >>> 0 || 1;
  for (let index = 0; index < words.length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[index] = state;
  }
  return new Uint8Array(words.buffer, 0, bytes);
}

const blocks = new Map<number, Uint8Array<ArrayBuffer>>();

function blockOf(seed: number): Uint8Array<ArrayBuffer> {
  let block = blocks.get(seed);
  if (block === undefined) {
    if (blocks.size > 16) blocks.clear();
    blocks.set(seed, block = noise(BLOCK_BYTES, seed));
  }
  return block;
}

/** The bytes from `at`, at most `size` and never over a block's end: noise, numbered by block. */
function bytesAt(at: number, size: number, seed: number): Uint8Array<ArrayBuffer> {
  const block = blockOf(seed);
  const offset = at % BLOCK_BYTES;
  const part = block.slice(offset, Math.min(offset + size, BLOCK_BYTES));
  const number = Math.floor(at / BLOCK_BYTES);
  for (let index = offset; index < 4 && index - offset < part.length; index++) {
    part[index - offset] = (part[index - offset] ?? 0) ^ (number >> (8 * index)) & 255;
  }
  return part;
}

interface Hashes {
  readonly sha256: string;
  /** Delivery's clips have it or not, by how they were written; here half of them have. */
  readonly md5?: string;
}

const hashes = new Map<string, Hashes>();

function hashesOf(bytes: number, seed: number): Hashes {
  const id = `${bytes} ${seed}`;
  const known = hashes.get(id);
  if (known !== undefined) return known;
  const sha256 = createHash("sha256");
  const md5 = seed % 2 === 0 ? createHash("md5") : undefined;
  for (let at = 0; at < bytes; at += BLOCK_BYTES) {
    const size = Math.min(BLOCK_BYTES, bytes - at);
    // Its number, and the rest as it is in every block: nothing is copied.
    for (const part of [bytesAt(at, Math.min(4, size), seed), blockOf(seed).subarray(4, size)]) {
      sha256.update(part);
      md5?.update(part);
    }
  }
  const made = { sha256: sha256.digest("hex"), ...(md5 ? { md5: md5.digest("hex") } : {}) };
  if (hashes.size > 200) hashes.clear();
  hashes.set(id, made);
  return made;
}

let minutes = 0;

/** A key that no clip of this process has had. */
export function freshKey(camera = "kit-yard"): string {
  const start = new Date(Date.UTC(2026, 7, 21) + 60_000 * minutes++).toISOString();
  const stamp = start.replace(/[-:]|\.000/g, "");
  return `${camera}/${start.slice(0, 10).replaceAll("-", "/")}/${stamp}.mp4`;
}

/** A clip of so many bytes. */
export function testClip(bytes: number, change: ClipChange = {}): TestClip {
  const { seed = 1, onRead, spoilt, ...rest } = change;
  const key = rest.key ?? freshKey();
  const endAt = spoilt === "short" ? Math.max(0, bytes - 1) : bytes;
  const clip = {
    key,
    camera: "Kit yard",
    start: new Date("2026-08-21T14:05:00.000Z"),
    end: new Date("2026-08-21T14:06:00.000Z"),
    bytes,
    ...hashesOf(bytes, seed),
    contentType: "video/mp4",
    ...rest,
    pulledBytes: 0,
    opened: 0,
    open(fromByte = 0): ReadableStream<Uint8Array<ArrayBuffer>> {
      let at = fromByte;
      const turn = ++clip.opened;
      clip.pulledBytes = at;
      return new ReadableStream({
        pull(controller) {
          onRead?.(at);
          if (at >= endAt) return controller.close();
          // Uneven, as files give them.
          const size = 1 + (at * 7 + CHUNK_BYTES - 6000) % CHUNK_BYTES;
          const part = bytesAt(at, Math.min(size, endAt - at), seed);
          if (spoilt === "bit" && at <= bytes >> 1 && at + part.length > bytes >> 1) {
            const index = (bytes >> 1) - at;
            part[index] = (part[index] ?? 0) ^ 1;
          }
          at += part.length;
          if (turn === clip.opened) clip.pulledBytes = at;
          controller.enqueue(part);
        },
      }, { highWaterMark: 0 });
    },
  };
  return clip;
}

/** The same in a file of the folder: a plugin's process reads it there, as it does for its users. */
export async function clipOnDisk(bytes: number, folder: string): Promise<TestClip> {
  const path = join(folder, `${crypto.randomUUID()}.mp4`);
  const clip = testClip(bytes);
  await writeFile(path, clip.open());
  return {
    ...clip,
    path,
    open: (fromByte = 0) =>
      Readable.toWeb(createReadStream(path, { start: fromByte })) as ReadableStream<
        Uint8Array<ArrayBuffer>
      >,
  };
}

/** Size and SHA-256 of what an object reads as. */
export async function measure(
  data: Uint8Array | ReadableStream<Uint8Array>,
): Promise<{ readonly bytes: number; readonly sha256: string }> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const part of data instanceof Uint8Array ? [data] : data) {
    hash.update(part);
    bytes += part.length;
  }
  return { bytes, sha256: hash.digest("hex") };
}
