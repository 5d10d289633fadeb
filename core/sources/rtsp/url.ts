/**
 * RTSP addresses as people and cameras write them. The path is kept letter by letter, because a
 * camera compares it so (`//Streaming/Channels/101?a=b`), and because a digest login signs it. User
 * name and password are taken out, with `@`, `:`, `/` and `%` in them whether encoded or not.
 *
 * @module
 */
import { sourceError } from "../../types.ts";
import { isLoopback, isPublicHost } from "../hosts.ts";

/** An address, taken apart. */
export interface RtspUrl {
  readonly secure: boolean;
  /** Lower case; IPv6 without brackets. */
  readonly hostname: string;
  readonly port: number;
  /** Host and port as written. */
  readonly authority: string;
  /** From the first slash on, as written. */
  readonly path: string;
  readonly credentials?: { readonly username: string; readonly password: string };
}

const DEFAULT_PORT = { rtsp: 554, rtsps: 322 } as const;

/** Takes an address apart; `undefined` if it is none. */
export function parseRtspUrl(text: string): RtspUrl | undefined {
  const [, scheme, rest = ""] = /^(rtsps?):\/\/([^\s#]+)/i.exec(text.trim()) ?? [];
  if (scheme === undefined) return undefined;
  const secure = scheme.toLowerCase() === "rtsps";
  const { login, authority, path } = splitAuthority(rest);
  const host = parseAuthority(authority);
  if (host === undefined) return undefined;
  const colon = login?.indexOf(":") ?? -1;
  return {
    secure,
    hostname: host.hostname,
    port: host.port ?? DEFAULT_PORT[secure ? "rtsps" : "rtsp"],
    authority,
    path: path === "" ? "/" : path,
    ...(login === undefined ? {} : {
      credentials: {
        username: decode(colon < 0 ? login : login.slice(0, colon)),
        password: decode(colon < 0 ? "" : login.slice(colon + 1)),
      },
    }),
  };
}

/**
 * `login@host:port/path`. A login that was not encoded may hold `@` and `/`; what stands before the
 * first slash is the host only if it can be one.
 */
function splitAuthority(
  rest: string,
): { readonly login: string | undefined; readonly authority: string; readonly path: string } {
  const slash = rest.search(/[/?]/);
  const firstPart = slash < 0 ? rest : rest.slice(0, slash);
  // The last @ before the first slash, then those behind it.
  for (let at = firstPart.lastIndexOf("@");; at = rest.indexOf("@", at + 1)) {
    const behind = rest.slice(at + 1);
    const end = behind.search(/[/?]/);
    const authority = end < 0 ? behind : behind.slice(0, end);
    if (parseAuthority(authority) !== undefined) {
      return {
        login: at < 0 ? undefined : rest.slice(0, at),
        authority,
        path: end < 0 ? "" : behind.slice(end),
      };
    }
    if (rest.indexOf("@", at + 1) < 0) return { login: undefined, authority: "", path: "" };
  }
}

function parseAuthority(
  authority: string,
): { readonly hostname: string; readonly port: number | undefined } | undefined {
  // The rules for hosts of http are the ones that matter: numbers in odd forms become plain here.
  if (!/^(\[[0-9a-f:.]+\]|[^\s:/?#@\\[\]]+)(:\d{1,5})?$/i.test(authority)) return undefined;
  if (!URL.canParse(`http://${authority}`)) return undefined;
  const { hostname } = new URL(`http://${authority}`);
  const port = /:(\d+)$/.exec(authority.replace(/^\[.*\]/, ""))?.[1];
  if (port !== undefined && (Number(port) < 1 || Number(port) > 65_535)) return undefined;
  return {
    hostname: hostname.replace(/^\[(.*)\]$/, "$1").toLowerCase(),
    port: port === undefined ? undefined : Number(port),
  };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a % that is no escape is a letter of the password
  }
}

/** The address for a request line: without login. */
export function requestUri({ secure, authority, path }: RtspUrl): string {
  return `${secure ? "rtsps" : "rtsp"}://${authority}${path}`;
}

/** The address for messages: without login and without the query, where tokens stand. */
export function describeRtspUrl(url: RtspUrl): string {
  return requestUri({ ...url, path: url.path.replace(/\?.*$/s, "") });
}

/**
 * The address of a stream, from the `Content-Base` of the description and the `a=control` of the
 * stream (RFC 2326 §C.1.1, and as cameras do it: what is relative goes to the end, behind a query too).
 */
export function joinControl(base: string, control: string | undefined): string {
  if (control === undefined || control === "" || control === "*") return base;
  if (/^rtsps?:\/\//i.test(control)) return withoutLogin(control);
  if (base.endsWith("/") || control.startsWith("/") || control.startsWith("?")) {
    return base.endsWith("/") && control.startsWith("/") ? base + control.slice(1) : base + control;
  }
  return `${base}/${control}`;
}

/** An address that a camera gave, without the login that some write into it. */
export function withoutLogin(address: string): string {
  const parsed = parseRtspUrl(address);
  return parsed?.credentials === undefined ? address.trim() : requestUri(parsed);
}

/** Whether a login meant for `home` may be sent to `url`: the same host and port, TLS kept or added. */
export function mayHaveLogin(url: RtspUrl, home: RtspUrl): boolean {
  return url.hostname === home.hostname &&
    (url.secure === home.secure ? url.port === home.port : url.secure);
}

/**
 * Where a redirect leads, if it may be followed: anywhere on the host that the user named (but not
 * from rtsps back to rtsp), or to a public host over rtsps, whose certificate proves its name.
 *
 * @throws a source error of the kind `protocol` that says what to do
 */
export function rtspRedirectTarget(
  location: string | undefined,
  { from, home }: { readonly from: RtspUrl; readonly home: RtspUrl },
): RtspUrl {
  const say = (problem: string) =>
    sourceError(
      "protocol",
      `${describeRtspUrl(home)}: refused the redirect from ${from.authority} ${problem}; ` +
        `if this is wanted, give the final address itself in "url"`,
    );
  const to = location === undefined ? undefined : parseRtspUrl(location);
  if (to === undefined) throw say("because it names no valid rtsp address");
  if (to.credentials !== undefined) throw say("because it holds credentials");
  if (from.secure && !to.secure) {
    throw say(`to ${to.authority} because it leads from rtsps to rtsp`);
  }
  if (to.hostname === home.hostname) return to;
  const asHttp = new URL(`http://${to.authority}`);
  if (to.secure && isPublicHost(asHttp) && !isLoopback(asHttp)) return to;
  throw say(
    `to ${to.authority}: another host is followed only over rtsps and on the public Internet`,
  );
}
