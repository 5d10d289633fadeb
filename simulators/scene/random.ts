/**
 * Seeded random numbers for the simulators: the same seed gives the same picture on every machine.
 *
 * @module
 */

/** Numbers in [0, 1) from a 32-bit seed (the mulberry32 generator). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ state >>> 15, state | 1);
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61) ^ mixed;
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32;
  };
}

/** `count` normally distributed whole numbers, clamped to what an Int8Array holds. */
export function gaussianNoise(
  random: () => number,
  options: { readonly count: number; readonly sigma: number },
): Int8Array {
  const noise = new Int8Array(options.count);
  for (let index = 0; index < options.count; index += 2) {
    // Box-Muller gives two numbers at once.
    const radius = options.sigma * Math.sqrt(-2 * Math.log(1 - random()));
    const angle = 2 * Math.PI * random();
    noise[index] = Math.max(-127, Math.min(127, Math.round(radius * Math.cos(angle))));
    noise[index + 1] = Math.max(-127, Math.min(127, Math.round(radius * Math.sin(angle))));
  }
  return noise;
}
