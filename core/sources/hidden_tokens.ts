/**
 * Tokens that clouds give, for the log to take out of what it prints, as it does with the user's own
 * secrets. The oldest are forgotten: they have long expired, and a year has many logins.
 *
 * @module
 */
import { revealedSecrets } from "../config/values.ts";

const KEPT = 600;
const tokens: string[] = [];

/** Hides a token, or what else a login made, from the log. */
export function hideToken(text: string): void {
  if (text.length < 6 || revealedSecrets.has(text)) return;
  revealedSecrets.add(text);
  tokens.push(text);
  if (tokens.length > KEPT) revealedSecrets.delete(tokens.shift() ?? "");
}
