/**
 * Makes open clips durable in rounds: as soon as something was appended, all clips that have grown
 * are synced together; what grows meanwhile is the next round's.
 *
 * So a power cut costs what was appended since the last round began, which on a disk that keeps up is
 * milliseconds, while a slow disk never has more than one sync per camera outstanding: the rounds get
 * longer and fewer by themselves. A timer would make every cut cost its period, and a sync per append
 * would make every camera wait for the disk. `docs/decisions/spool_sync.md` has the figures.
 *
 * @module
 */

/** What can be synced. */
export interface Syncable {
  /** Makes durable what was written until now. Never rejects. */
  sync(): Promise<void>;
}

/** See the module. */
export class SyncRounds {
  readonly #grown = new Set<Syncable>();
  #running: Promise<void> | undefined;

  /** Has this one synced in the next round. */
  add(one: Syncable): void {
    this.#grown.add(one);
    this.#running ??= this.#run();
  }

  /** Resolves when no round is running or due. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#grown.size > 0) {
      const round = [...this.#grown];
      this.#grown.clear();
      // Together, because the file system then commits its journal once for all of them.
      await Promise.all(round.map((one) => one.sync()));
    }
    this.#running = undefined;
  }
}
