/**
 * Where packets' payloads are put together into access units: each is copied once, from the socket's
 * buffer to where the unit will stand in the clip's fragment. Units lie next to each other in a chunk,
 * so that a whole GOP is written to the disk as one piece.
 *
 * A chunk is used again, by whichever camera needs one next, when all of its units were given back
 * ({@linkcode AccessUnit.release}); those who keep theirs simply keep them, and the chunk goes with the
 * last of them. Between two bursts nobody holds one to fill it further, so that the next camera gets what
 * is still in the processor's cache.
 *
 * @module
 */

/** A stretch of memory with the units in it. */
interface Chunk {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Units handed out and not given back, and one for as long as it is being filled. */
  users: number;
  /** How often it was taken: tells whether it is still the same one's. */
  turn: number;
  readonly release: () => void;
}

/** A finished unit. */
export interface CommittedUnit {
  readonly data: Uint8Array<ArrayBuffer>;
  /** Gives the bytes back. */
  readonly release: () => void;
}

/** Chunks of one length, of all cameras, that are kept for later use. */
interface Pool {
  readonly idle: Chunk[];
  /** So many lay idle all the time since they were last counted. */
  unused: number;
  loans: number;
}

const pools = new Map<number, Pool>();
const MAX_IDLE_BYTES = 32 * 2 ** 20;
/** After so many loans the chunks that lay idle all the time go: at a start far more are needed. */
const COUNTED_LOANS = 1024;

function poolOf(length: number): Pool {
  let pool = pools.get(length);
  if (pool === undefined) {
    pool = { idle: [], unused: 0, loans: 0 };
    pools.set(length, pool);
  }
  return pool;
}

function takeChunk(length: number): Chunk {
  const pool = poolOf(length);
  const { idle } = pool;
  const chunk = idle.pop() ?? newChunk(length, pool);
  chunk.users = 1;
  chunk.turn++;
  pool.unused = Math.min(pool.unused, idle.length);
  if (++pool.loans === COUNTED_LOANS) {
    idle.splice(0, pool.unused);
    pool.unused = idle.length;
    pool.loans = 0;
  }
  return chunk;
}

function newChunk(length: number, { idle }: Pool): Chunk {
  const chunk: Chunk = {
    bytes: new Uint8Array(length),
    users: 1,
    turn: 0,
    release: () => {
      if (--chunk.users > 0) return;
      if ((idle.length + 1) * length <= MAX_IDLE_BYTES) idle.push(chunk);
    },
  };
  return chunk;
}

/** Collects units one after the other. */
export class UnitBuffer {
  readonly #maxUnitBytes: number;
  #chunkBytes: number;
  #chunk: Chunk;
  /** Of the chunk, when it was taken. */
  #turn: number;
  /** Whether the chunk is left to whoever needs one. */
  #isResting = false;
  /** Where the open unit begins. */
  #start = 0;
  #end = 0;

  /** `chunkBytes` grows by itself where units turn out to be large. */
  constructor(options: { readonly chunkBytes: number; readonly maxUnitBytes: number }) {
    this.#chunkBytes = options.chunkBytes;
    this.#maxUnitBytes = options.maxUnitBytes;
    this.#chunk = takeChunk(this.#chunkBytes);
    this.#turn = this.#chunk.turn;
  }

  /** Nothing comes for a while: others may have the chunk as soon as its units are given back. */
  rest(): void {
    if (this.length > 0 || this.#isResting) return;
    this.#isResting = true;
    this.#chunk.release();
  }

  /** Bytes of the open unit. */
  get length(): number {
    return this.#end - this.#start;
  }

  /** Whether so many bytes more would make the unit larger than is believed. */
  wouldOverflow(count: number): boolean {
    return this.length + count > this.#maxUnitBytes;
  }

  /** Appends a range of `data` to the open unit. */
  append(data: Uint8Array, from: number, to: number): void {
    this.#reserve(to - from);
    const { bytes } = this.#chunk;
    const count = to - from;
    // For some bytes a loop is cheaper than the two objects that a block copy needs.
    if (count < 24) { for (let i = 0; i < count; i++) bytes[this.#end + i] = data[from + i] ?? 0; }
    else bytes.set(data.subarray(from, to), this.#end);
    this.#end += count;
  }

  /** Appends one byte. */
  push(byte: number): void {
    this.#reserve(1);
    this.#chunk.bytes[this.#end++] = byte;
  }

  /** Leaves room for a length that {@linkcode setLength} writes; returns where, within the unit. */
  beginLength(): number {
    this.#reserve(4);
    this.#end += 4;
    return this.length - 4;
  }

  /** Writes the length of what follows the place that {@linkcode beginLength} gave. */
  setLength(at: number): void {
    const { bytes } = this.#chunk;
    const length = this.length - at - 4;
    const position = this.#start + at;
    bytes[position] = length >>> 24;
    bytes[position + 1] = length >>> 16;
    bytes[position + 2] = length >>> 8;
    bytes[position + 3] = length;
  }

  /** A byte of the open unit. */
  at(index: number): number {
    return this.#chunk.bytes[this.#start + index] ?? 0;
  }

  /** The open unit from `from` on; a view that lasts only until the next call. */
  view(from: number): Uint8Array<ArrayBuffer> {
    return this.#chunk.bytes.subarray(this.#start + from, this.#end);
  }

  /** Cuts the open unit to so many bytes. */
  truncate(length: number): void {
    this.#end = this.#start + length;
  }

  /** Ends the open unit and hands it out. To spread what it gives costs an object for each unit. */
  commit(): CommittedUnit {
    this.#reserve(0);
    const chunk = this.#chunk;
    const data = chunk.bytes.subarray(this.#start, this.#end);
    chunk.users++;
    this.#start = this.#end;
    return { data, release: chunk.release };
  }

  /** Goes on in the chunk if somebody still has units in it, else in the next best. */
  #resume(): void {
    this.#isResting = false;
    if (this.#chunk.turn === this.#turn && this.#chunk.users > 0) this.#chunk.users++;
    else this.#take();
  }

  #take(): void {
    this.#chunk = takeChunk(this.#chunkBytes);
    this.#turn = this.#chunk.turn;
    this.#start = this.#end = 0;
  }

  #reserve(count: number): void {
    if (this.#isResting) this.#resume();
    if (this.#end + count <= this.#chunk.bytes.length) return;
    const old = this.#chunk;
    const length = this.length;
    while (this.#chunkBytes < 2 * (length + count) && this.#chunkBytes < 2 * this.#maxUnitBytes) {
      this.#chunkBytes *= 2;
    }
    const open = old.bytes.subarray(this.#start, this.#end);
    this.#take();
    this.#chunk.bytes.set(open);
    old.release(); // what it was being filled for
    this.#end = length;
  }
}
