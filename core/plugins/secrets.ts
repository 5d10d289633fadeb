/**
 * Which secrets a plugin's options name: those, and no others, are revealed to it.
 *
 * @module
 */
import type { Secret } from "../types.ts";

/**
 * Each secret with the text by which the plugin will ask for it.
 *
 * @param input the options as the configuration has them
 * @param value the same as their schema yields them
 */
export function* secretTexts(
  input: unknown,
  value: unknown,
): Generator<{ readonly text: string; readonly secret: Secret }> {
  if (typeof value !== "object" || value === null) return;
  if (typeof input === "string" && "reveal" in value && "reference" in value) {
    yield { text: input, secret: value as Secret };
    return;
  }
  if (typeof input !== "object" || input === null) return;
  for (const [key, inner] of Object.entries(value)) {
    yield* secretTexts((input as Record<string, unknown>)[key], inner);
  }
}
