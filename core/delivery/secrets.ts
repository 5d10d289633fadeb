/**
 * Notices that a credential was changed while a sink is parked for want of a good one, so that
 * nobody has to restart anything.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Secret } from "../types.ts";

/** Every secret in a sink's validated options, however deep. */
export function secretsIn(config: unknown): Secret[] {
  if (typeof config !== "object" || config === null) return [];
  if (isSecret(config)) return [config];
  return Object.values(config).flatMap(secretsIn);
}

/** A text that changes when a secret does, and says nothing about it. */
export async function secretsFingerprint(
  secrets: readonly Secret[],
  options: { readonly maxAgeMs?: number } = {},
): Promise<string> {
  const hash = createHash("sha256");
  for (const secret of secrets) {
    // One that cannot be read now is a state of its own: its coming back is a change.
    hash.update(await secret.reveal(options).catch(() => "\0missing")).update("\0");
  }
  return hash.digest("hex");
}

function isSecret(value: object): value is Secret {
  return "reveal" in value && typeof value.reveal === "function" &&
    "reference" in value && typeof value.reference === "string";
}
