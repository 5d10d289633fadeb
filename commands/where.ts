/**
 * Where a sink's clips lie, in words that a person can act on and without a secret.
 *
 * @module
 */
import type { SinkConfig } from "../core/config/load.ts";

/** The text option of a sink's validated options, where it has it. */
function textOption(options: unknown, key: string): string | undefined {
  const value: unknown = Object.getOwnPropertyDescriptor(options ?? {}, key)?.value;
  return typeof value === "string" ? value : undefined;
}

/** `/home/me/clips`, `https://mystorage.blob.core.windows.net/{camera}`; else the sink's type. */
export function whereOf({ type, options }: SinkConfig): string {
  const path = textOption(options, "path");
  if (path !== undefined) return path;
  const account = textOption(options, "account");
  const host = textOption(options, "endpoint") ??
    (account === undefined ? undefined : `https://${account}.blob.core.windows.net`);
  const container = textOption(options, "container");
  if (host === undefined) return container === undefined ? type : `${type}, container ${container}`;
  return container === undefined ? host : `${host.replace(/\/$/, "")}/${container}`;
}
