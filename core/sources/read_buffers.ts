/**
 * The memory that sockets are read into. All connections are read at the same moments
 * (`read_pace.ts`): one after the other, they share one buffer, which thereby stays in the processor's
 * cache and may be large, however many cameras there are. Who finds nothing on its socket and has to
 * wait keeps its buffer meanwhile, and the next ones get another.
 *
 * @module
 */

/** What is read at once at most. */
export const READ_BYTES = 524_288;
/** Kept for later use. */
const MAX_IDLE = 2;

const idle: Uint8Array<ArrayBuffer>[] = [];
const waiting: (() => void)[] = [];
let isBusy = false;

/** A buffer for one read. */
export interface ReadBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The read has to wait: the others go on. */
  pass(): void;
  /** Gives it back. */
  release(): void;
}

/** Resolves when it is one's turn to read. */
export async function lendReadBuffer(): Promise<ReadBuffer> {
  while (isBusy) await new Promise<void>((resolve) => waiting.push(resolve));
  isBusy = true;
  const bytes = idle.pop() ?? new Uint8Array(READ_BYTES);
  let hasTurn = true;
  const pass = () => {
    if (!hasTurn) return;
    hasTurn = isBusy = false;
    waiting.shift()?.();
  };
  return {
    bytes,
    pass,
    release() {
      if (idle.length < MAX_IDLE) idle.push(bytes);
      pass();
    },
  };
}
