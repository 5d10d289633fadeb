/**
 * What a plugin may do: the hosts and needs that it states for a sink's options, held against what
 * its user wrote into the configuration and granted with `camsink plugin add`. Nothing is inferred
 * from what a plugin says of itself.
 *
 * @module
 */
import type { Approval } from "./approvals.ts";
import type { PluginAbout } from "./messages.ts";

/** The rights of one sink's process. */
export interface Rights {
  readonly hosts: readonly string[];
  readonly run: readonly string[];
  readonly read: readonly string[];
  readonly write: readonly string[];
  readonly scratch: boolean;
}

/** Variables of the environment in which programs look for their settings: for a plugin that may run some. */
export const PROGRAM_VARIABLES =
  /^(PATH|PATHEXT|HOME|USER|USERPROFILE|XDG_CONFIG_HOME|APPDATA|RCLONE_CONFIG|LANG)$/i;

/** What was granted. */
export type Granted = Pick<Approval, "hosts" | "run" | "read" | "write" | "scratch">;

const HOST = /^(?:[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::\d{1,5})?$/i;

/**
 * The rights that a sink gets, and those that its user has not granted (`missing`: flags of
 * `camsink plugin add` that would).
 */
export function rightsOf(
  about: Pick<PluginAbout, "hosts" | "needs">,
  { granted, options }: { readonly granted: Granted; readonly options: unknown },
): { readonly rights: Rights; readonly missing: readonly string[] } {
  const missing: string[] = [];
  const named = hostsIn(options);
  const hosts = list(about.hosts).filter((host) => {
    if (!HOST.test(host)) {
      missing.push(`--allow-host ${JSON.stringify(host)} (which is no host)`);
      return false;
    }
    if (isNamed(host, named) || granted.hosts.some((pattern) => fits(host, pattern))) return true;
    missing.push(`--allow-host ${host}`);
    return false;
  });
  const among = (kind: "run" | "read" | "write") =>
    list(about.needs?.[kind]).filter((name) => {
      if (granted[kind].includes(name)) return true;
      missing.push(`--allow-${kind} ${name}`);
      return false;
    });
  const files = { run: among("run"), read: among("read"), write: among("write") };
  const scratch = about.needs?.scratch === true;
  if (scratch && !granted.scratch) missing.push("--allow-scratch");
  return { rights: { hosts, ...files, scratch }, missing };
}

function list(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
}

/** Whoever writes a host into a sink's options has granted it: that is what the options are for. */
function hostsIn(options: unknown): Set<string> {
  const found = new Set<string>();
  const look = (value: unknown): void => {
    if (typeof value === "string") {
      const text = value.trim().toLowerCase();
      if (HOST.test(text)) found.add(text);
      if (/^[a-z][a-z0-9+.-]*:\/\//.test(text) && URL.canParse(text)) {
        found.add(new URL(text).host).add(new URL(text.replace(/^[^:]+/, "http")).host);
      }
    } else if (typeof value === "object" && value !== null) Object.values(value).forEach(look);
  };
  look(options);
  return found;
}

const withoutPort = (host: string) => host.replace(/:\d+$/, "");

function isNamed(host: string, named: ReadonlySet<string>): boolean {
  const asked = host.toLowerCase();
  // `nas` names every port of it, `nas:8080` that one only.
  return named.has(asked) || named.has(withoutPort(asked)) ||
    asked === withoutPort(asked) && [...named].some((one) => withoutPort(one) === asked);
}

/** `*.example.com` grants every host below it. */
function fits(host: string, pattern: string): boolean {
  const [asked, granted] = [host.toLowerCase(), pattern.toLowerCase()];
  if (granted.startsWith("*.")) return withoutPort(asked).endsWith(granted.slice(1));
  return asked === granted || withoutPort(asked) === granted;
}

/** Addresses that only the machine itself and its cloud answer at: whoever is there trusts anybody. */
const LINK_LOCAL = ["169.254.0.0/16", "[fd00:ec2::254]", "100.100.100.200"];
const LOOPBACK = ["127.0.0.0/8", "[::1]", "0.0.0.0", "[::]"];

/**
 * Addresses that are refused whatever name leads to them, so that a name server cannot send a plugin
 * to them; but not where the user granted such an address, or `localhost`, by name.
 */
export function deniedAddresses(hosts: readonly string[]): string[] {
  const names = hosts.map((host) => withoutPort(host).toLowerCase());
  const isLoopback = (name: string) => /^(localhost|.*\.localhost|127\..*|\[::1\])$/.test(name);
  const isLinkLocal = (name: string) => /^(169\.254\..*|\[fe80:.*|\[fd00:ec2::254\])$/.test(name);
  return [
    ...names.some(isLinkLocal) ? [] : LINK_LOCAL,
    ...names.some(isLoopback) ? [] : LOOPBACK,
  ];
}
