/**
 * Where a sink's clips lie, in words that a person can act on and without a secret.
 *
 * @module
 */
import type { SinkConfig } from "../core/config/load.ts";
import { pluginOptions } from "./plugin_sinks.ts";

/** The text option of a sink's validated options, where it has it. */
function textOption(options: unknown, key: string): string | undefined {
  const value: unknown = Object.getOwnPropertyDescriptor(options ?? {}, key)?.value;
  return typeof value === "string" ? value : undefined;
}

/** The text of a secret option; nothing where it is not there or cannot be read now. */
async function secretOption(options: unknown, key: string): Promise<string | undefined> {
  const value: unknown = Object.getOwnPropertyDescriptor(options ?? {}, key)?.value;
  if (typeof value !== "object" || value === null || !("reveal" in value)) return undefined;
  if (typeof value.reveal !== "function") return undefined;
  try {
    const text: unknown = await value.reveal();
    return typeof text === "string" ? text : undefined;
  } catch {
    // Whoever needs the secret will say so.
    return undefined;
  }
}

/** The blob service that a connection string names: its host is public, unlike its key. */
function serviceOf(connectionString: string): string | undefined {
  if (/UseDevelopmentStorage=true/i.test(connectionString)) {
    return "http://127.0.0.1:10000/devstoreaccount1";
  }
  const field = (name: string) =>
    new RegExp(`(?:^|;)\\s*${name}=([^;?]+)`, "i").exec(connectionString)?.[1];
  const account = field("AccountName");
  return field("BlobEndpoint") ??
    (account === undefined
      ? undefined
      : `https://${account}.blob.${field("EndpointSuffix") ?? "core.windows.net"}`);
}

/** `/home/me/clips`, `https://mystorage.blob.core.windows.net/{camera}`; else the sink's type. */
export async function whereOf({ type, options }: SinkConfig): Promise<string> {
  const plugin = pluginOptions(options);
  if (plugin !== undefined) {
    const url = textOption(plugin.values, "url") ?? textOption(plugin.values, "endpoint");
    if (url === undefined || !URL.canParse(url)) return textOption(plugin.values, "path") ?? type;
    // Not `origin`, which is "null" for what is not the web, such as mqtt:.
    const { protocol, host, pathname } = new URL(url);
    return `${protocol}//${host}${pathname.replace(/\/$/, "")}`;
  }
  const path = textOption(options, "path");
  if (path !== undefined) return path;
  const container = await secretOption(options, "containerSasUrl");
  if (container !== undefined && URL.canParse(container)) {
    const { origin, pathname } = new URL(container);
    return `${origin}${pathname}`;
  }
  const account = textOption(options, "account");
  const host = textOption(options, "endpoint") ??
    (account === undefined
      ? serviceOf(await secretOption(options, "connectionString") ?? "")
      : `https://${account}.blob.core.windows.net`);
  if (host === undefined) return type;
  const name = textOption(options, "container");
  return name === undefined ? host : `${host.replace(/\/$/, "")}/${name}`;
}
