/**
 * An error as the user reads it: one line `camsink: what failed`, the causes that add something,
 * and the stack only where it was asked for. Secrets are taken out of all of it.
 *
 * @module
 */
import { redact } from "../core/redact.ts";
import { styles } from "./terminal.ts";

/** Renders an error that ends the program, for stderr. */
export function describeError(
  error: unknown,
  { debug, color }: { readonly debug: boolean; readonly color: boolean },
): string {
  const style = styles(color);
  const lines = [`${style.red("camsink:")} ${messageOf(error)}`];
  let told = lines[0] ?? "";
  for (
    let cause = causeOf(error), depth = 0;
    cause !== undefined && depth < 5;
    cause = causeOf(cause), depth++
  ) {
    // Most messages quote their cause already.
    const text = messageOf(cause);
    if (told.includes(text) || text.includes(messageOf(error))) continue;
    lines.push(style.dim(`  because: ${text}`));
    told += text;
  }
  if (debug && error instanceof Error && error.stack) lines.push(style.dim(error.stack));
  return redact(lines.join("\n"));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error);
}

function causeOf(error: unknown): unknown {
  return error instanceof Error ? error.cause : undefined;
}
