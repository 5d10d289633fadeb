/**
 * Inputs for parsers as a faulty peer would send them: good ones with letters or bytes changed, left
 * out, doubled, or cut off.
 *
 * @module
 */

/** Inputs for each parser; nightly runs set FUZZ=1000000. */
export const FUZZ_INPUTS = Number(Deno.env.get("FUZZ") ?? 100_000);

/** Gives numbers in [0, 1). */
export type Random = () => number;

/** A whole number from 0 to below `limit`. */
export const below = (random: Random, limit: number): number => Math.floor(random() * limit);

/** A text with letters changed, left out, doubled, or cut off. */
export function spoiled(text: string, random: Random): string {
  let result = text;
  for (let changes = 1 + below(random, 4); changes > 0; changes--) {
    const at = below(random, result.length);
    const kind = below(random, 5);
    const letter = String.fromCharCode(below(random, kind === 0 ? 128 : 256));
    if (kind <= 1) result = result.slice(0, at) + letter + result.slice(at + 1);
    else if (kind === 2) result = result.slice(0, at) + result.slice(at + below(random, 20));
    else if (kind === 3) result = result.slice(0, at) + result.slice(Math.max(0, at - 30));
    else result = result.slice(0, at) + "9999999999" + result.slice(at);
  }
  return result.slice(0, 4000);
}

/** Bytes of which some are changed, most of them at the beginning, or which end too early. */
export function spoiledBytes(bytes: Uint8Array, random: Random): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(bytes).subarray(
    0,
    random() < 0.2 ? below(random, bytes.length + 1) : bytes.length,
  );
  for (let changes = below(random, 4); changes > 0 && result.length > 0; changes--) {
    result[below(random, Math.min(result.length, random() < 0.7 ? 24 : result.length))] = below(
      random,
      256,
    );
  }
  return result;
}
