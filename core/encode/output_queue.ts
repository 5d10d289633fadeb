/**
 * Where coded units wait for whoever takes them. It ends or fails after what was put in has been
 * taken, and says when it has become so long that no more should be made.
 *
 * @module
 */

/** A queue between one that puts and one that takes. */
export class OutputQueue<T> {
  readonly #bound: number;
  readonly #items: T[] = [];
  #end: { readonly error?: unknown } | undefined;
  #wakeTaker: (() => void) | undefined;
  #wakePutter: (() => void) | undefined;

  /** `bound` is the length from which `room` waits. */
  constructor(bound: number) {
    this.#bound = bound;
  }

  put(item: T): void {
    this.#items.push(item);
    this.#wakeTaker?.();
  }

  /** Nothing more comes, because of `error` if there is one. */
  end(error?: unknown): void {
    this.#end ??= error === undefined ? {} : { error };
    this.#wakeTaker?.();
    this.#wakePutter?.();
  }

  /** Resolves when there is room again. */
  async room(): Promise<void> {
    while (this.#items.length >= this.#bound && !this.#end) {
      await new Promise<void>((resolve) => this.#wakePutter = resolve);
    }
  }

  /** Takes until the end. */
  async *taken(): AsyncGenerator<T> {
    while (true) {
      while (this.#items.length > 0) {
        const item = this.#items.shift() as T;
        if (this.#items.length < this.#bound) this.#wakePutter?.();
        yield item;
      }
      if (this.#end) {
        if ("error" in this.#end) throw this.#end.error;
        return;
      }
      await new Promise<void>((resolve) => this.#wakeTaker = resolve);
    }
  }
}
