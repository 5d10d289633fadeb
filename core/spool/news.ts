/**
 * Tells whoever waits that something has changed, also those who look a moment too late: they say which
 * version they have seen.
 *
 * @module
 */

/** See the module. */
export class News {
  #version = 0;
  #next = Promise.withResolvers<void>();

  /** Grows with every change. */
  get version(): number {
    return this.#version;
  }

  /** Something has changed. */
  announce(): void {
    this.#version++;
    this.#next.resolve();
    this.#next = Promise.withResolvers();
  }

  /** Resolves when the version is no longer `since`, or `signal` is aborted. */
  changed(
    { signal, since = this.#version }: { signal: AbortSignal; since?: number },
  ): Promise<void> {
    if (signal.aborted || since !== this.#version) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const done = () => {
      signal.removeEventListener("abort", done);
      resolve();
    };
    signal.addEventListener("abort", done);
    this.#next.promise.then(done);
    return promise;
  }
}
