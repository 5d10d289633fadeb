/**
 * Notes for the catalogue, gathered: what is to be noted in one turn of the event loop goes in one
 * transaction. A commit is synced, which holds up everything while the disk settles it; all cameras end
 * their clips at the same moment, so without this as many commits would stand one behind the other as
 * there are cameras, and twice. While one is settled the next ones gather by themselves: a slow disk
 * makes the groups larger, and a quick one makes nobody wait.
 *
 * @module
 */

import { nextTurn } from "../clock.ts";

interface Waiting {
  readonly work: () => unknown;
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

/** See the module. */
export class GroupCommit {
  readonly #transaction: <T>(work: () => T) => T;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;

  /** @param transaction does all of a work or nothing, and has synced it when it returns */
  constructor(transaction: <T>(work: () => T) => T) {
    this.#transaction = transaction;
  }

  /** Does `work` in the next transaction. When this resolves it is durable. @throws what `work` threw */
  run<T>(work: () => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({ work, resolve: (result) => resolve(result as T), reject });
      this.#running ??= nextTurn().then(() => this.#commit());
    });
  }

  /** Resolves when nothing waits. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
  }

  #commit(): void {
    const group = this.#waiting;
    this.#waiting = [];
    this.#running = undefined;
    try {
      const results = this.#transaction(() => group.map(({ work }) => work()));
      for (const [index, { resolve }] of group.entries()) resolve(results[index]);
    } catch (error) {
      if (group.length === 1) return group[0]?.reject(error);
      // What one of them cannot have must not cost the others theirs.
      for (const { work, resolve, reject } of group) {
        try {
          resolve(this.#transaction(work));
        } catch (own) {
          reject(own);
        }
      }
    }
  }
}
