/**
 * Which hosts an answer from outside may send us to. A camera or a cloud that was taken over must
 * not be able to turn the recorder into a way into the network around it (server-side request
 * forgery): to this machine, to the router, or to a cloud machine's metadata service. Addresses that
 * the user wrote into the configuration are never questioned here; addresses out of redirects and
 * discovery answers always are.
 *
 * @module
 */
import { BlockList, isIP } from "node:net";
import { sourceError } from "../types.ts";

/** The blocks of RFC 6890 and its successors that are not the public Internet. */
const notPublic4 = new BlockList();
const notPublic6 = new BlockList();
for (
  const [address, prefix] of [
    ["0.0.0.0", 8], // this network
    ["10.0.0.0", 8],
    ["100.64.0.0", 10], // carrier-grade NAT, also some clouds' metadata services
    ["127.0.0.0", 8],
    ["169.254.0.0", 16], // link-local: cloud metadata services
    ["172.16.0.0", 12],
    ["192.0.0.0", 24],
    ["192.168.0.0", 16],
    ["198.18.0.0", 15],
    ["224.0.0.0", 3], // multicast and reserved
  ] as const
) notPublic4.addSubnet(address, prefix, "ipv4");
for (
  const [address, prefix] of [
    ["::", 96], // unspecified, loopback, IPv4-compatible
    ["::ffff:0:0", 96], // IPv4-mapped: no public service is named that way
    ["64:ff9b::", 32], // NAT64, which leads back to IPv4
    ["2002::", 16], // 6to4, which leads back to IPv4
    ["fc00::", 7],
    ["fe80::", 10],
    ["fec0::", 10],
    ["ff00::", 8],
  ] as const
) notPublic6.addSubnet(address, prefix, "ipv6");

/** A URL's host without the brackets of IPv6 and the root dot of DNS. */
function bareHost(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "").toLowerCase();
}

/** Whether the URL names this machine. */
export function isLoopback(url: URL): boolean {
  const host = bareHost(url);
  return host === "localhost" || host.endsWith(".localhost") || host === "::1" ||
    (isIP(host) === 4 && host.startsWith("127."));
}

/**
 * Whether the URL names a host on the public Internet, judged by what is written: an address
 * outside all private blocks, or a name with a dot outside the zones used at home.
 */
export function isPublicHost(url: URL): boolean {
  const host = bareHost(url);
  const version = isIP(host);
  if (version === 4) return !notPublic4.check(host, "ipv4");
  if (version === 6) return !notPublic6.check(host, "ipv6");
  return host.includes(".") &&
    !/\.(localhost|local|lan|internal|intranet|home|corp|private|home\.arpa|invalid)$/.test(host);
}

/** Whether `url` is one of `zones` or a name below one (`a.nest.com` is in `nest.com`). */
export function isWithin(url: URL, zones: readonly string[]): boolean {
  const host = bareHost(url);
  return zones.some((zone) => host === zone || host.endsWith(`.${zone}`));
}

/**
 * Whether credentials meant for `home` may be sent to `url`: the same host and port, or the same
 * host after an upgrade from http to https. Never to another host and never from https to http.
 */
export function mayHaveCredentials(url: URL, home: URL): boolean {
  return url.origin === home.origin ||
    (home.protocol === "http:" && url.protocol === "https:" && bareHost(url) === bareHost(home));
}

/**
 * Where a redirect leads, if it may be followed: anywhere on the host that the user named (but not
 * from https back to http), or to a public host over https. There, the certificate proves the name,
 * so that a name whose DNS answer points into the local network (DNS rebinding) gets nowhere.
 *
 * @throws a source error of the kind `protocol` that says what to do
 */
export function redirectTarget(location: string | null, from: URL, home: URL): URL {
  const say = (problem: string) =>
    sourceError(
      "protocol",
      `${describeUrl(home)}: refused the redirect from ${from.host} ${problem}; ` +
        `if this is wanted, give the final address itself in "url"`,
    );
  if (location === null || !URL.canParse(location, from)) {
    throw say("because it names no valid address");
  }
  const to = new URL(location, from);
  if (to.protocol !== "http:" && to.protocol !== "https:") {
    throw say(`to a ${to.protocol} address: expected http or https`);
  }
  if (to.username !== "" || to.password !== "") throw say("because it holds credentials");
  if (from.protocol === "https:" && to.protocol === "http:") {
    throw say(`to ${to.host} because it leads from https to http`);
  }
  if (bareHost(to) === bareHost(home)) return to;
  if (to.protocol === "https:" && isPublicHost(to)) return to;
  throw say(`to ${to.host}: another host is followed only over https and on the public Internet`);
}

/** A URL for messages: without its query, where cameras and clouds carry passwords and tokens. */
export function describeUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}
