/**
 * Waits for what must happen, however slow the machine is.
 *
 * @module
 */

/** Longer than anything takes on a machine that works at all, ms. */
export const PATIENCE_MS = 120_000;

/** Resolves when it is so; looks every `everyMs`. @throws with the explanation when it never is */
export async function until(
  isSo: () => boolean | Promise<boolean>,
  explain: () => string = () => "nothing came of it",
  everyMs = 50,
): Promise<void> {
  const startMs = performance.now();
  while (!await isSo()) {
    if (performance.now() - startMs > PATIENCE_MS) throw new Error(explain());
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}
