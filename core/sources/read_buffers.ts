/**
 * The memory that sockets are read into. All connections are read at the same moments
 * (`read_pace.ts`): one after the other, they share one buffer, which thereby stays in the processor's
 * cache and may be large, however many cameras there are. Who has to wait for a camera keeps its buffer
 * meanwhile, and the next ones get another.
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
  /** The read has to wait: if it still does when the runtime has heard what is there, others go on. */
  pass(read: Promise<unknown>): Promise<void>;
  /** Gives it back. */
  release(): void;
}

/** Resolves when it is one's turn to read. */
export async function lendReadBuffer(): Promise<ReadBuffer> {
  while (isBusy) await new Promise<void>((resolve) => waiting.push(resolve));
  isBusy = true;
  const bytes = idle.pop() ?? new Uint8Array(READ_BYTES);
  let hasTurn = true;
  const end = () => {
    if (!hasTurn) return;
    hasTurn = isBusy = false;
    waiting.shift()?.();
  };
  return {
    bytes,
    async pass(read) {
      if (waiting.length === 0 || !await comesNow(read)) end();
    },
    release() {
      if (idle.length < MAX_IDLE) idle.push(bytes);
      end();
    },
  };
}

/** Whether a read ends as soon as the runtime has heard of all sockets: when nothing else is to do. */
async function comesNow(read: Promise<unknown>): Promise<boolean> {
  const turn = Promise.withResolvers<false>();
  const timer = setTimeout(turn.resolve, 0, false);
  try {
    return await Promise.race([read.then(() => true), turn.promise]);
  } finally {
    clearTimeout(timer);
  }
}
