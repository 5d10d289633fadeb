/**
 * HTTP authentication as cameras speak it: Basic (RFC 7617) and Digest in its three ages, RFC 2069
 * (no `qop`), RFC 2617 (MD5, `qop=auth`) and RFC 7616 (SHA-256, SHA-512-256, `userhash`). Pure: it
 * reads `WWW-Authenticate` and writes `Authorization`, and knows nothing of requests. RTSP uses the
 * same scheme with the same words.
 *
 * Digest, RFC 7616 §3.4.1: `response = H(H(A1) : nonce : nc : cnonce : qop : H(A2))`, where
 * `A1 = user:realm:password` (for `-sess`: `H(that):nonce:cnonce`) and `A2 = method:uri`; without
 * `qop`, `response = H(H(A1) : nonce : H(A2))`.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, randomBytes } from "node:crypto";

/** One way to log in that a server offers. */
export interface AuthChallenge {
  /** Lower case. */
  readonly scheme: string;
  /** Parameters by lower-case name. */
  readonly params: Readonly<Record<string, string>>;
}

/** Answers challenges for one user. */
export interface Authenticator {
  /**
   * Takes the `WWW-Authenticate` of an answer with status 401.
   *
   * `"answer"`: send the request again with {@linkcode authorize}. `"refused"`: the user name or the
   * password is wrong. `"unknown"`: no scheme is offered that is known here.
   */
  challenged(wwwAuthenticate: string | null): "answer" | "refused" | "unknown";
  /**
   * The value of `Authorization` for the next request, or `undefined` before the first challenge.
   * `uri` is exactly what stands in the request line.
   */
  authorize(method: string, uri: string): string | undefined;
  /** Tells that the last request was let in: a later 401 means that its nonce has grown old. */
  accepted(): void;
}

/** Makes an authenticator. `cnonce` gives fresh random text. */
export function createAuthenticator(
  { username, password, cnonce = () => randomBytes(16).toString("hex") }: {
    readonly username: string;
    readonly password: string;
    readonly cnonce?: () => string;
  },
): Authenticator {
  let current: AuthChallenge | undefined;
  let nonceCount = 0;
  /** An answer to `current` is out, and nothing says yet that it was right. */
  let unproven = false;
  return {
    challenged(wwwAuthenticate) {
      const best = strongest(parseChallenges(wwwAuthenticate ?? ""));
      if (best === undefined) return "unknown";
      // A stale nonce says that the password was right.
      if (unproven && best.params.stale?.toLowerCase() !== "true") return "refused";
      current = best;
      nonceCount = 0;
      unproven = false;
      return "answer";
    },
    authorize(method, uri) {
      if (current === undefined) return undefined;
      unproven = unproven || nonceCount === 0;
      nonceCount++;
      if (current.scheme === "basic") {
        return `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;
      }
      return digestAuthorization(current, {
        username,
        password,
        method,
        uri,
        cnonce: cnonce(),
        nonceCount,
      });
    },
    accepted() {
      unproven = false;
    },
  };
}

/** Digest algorithms, the better first; the value is the name of the hash. */
const ALGORITHMS: readonly (readonly [string, string])[] = [
  ["sha-512-256", "sha512-256"],
  ["sha-256", "sha256"],
  ["md5", "md5"],
];

function algorithmOf(challenge: AuthChallenge): { rank: number; hash: string; session: boolean } {
  const name = (challenge.params.algorithm ?? "MD5").toLowerCase();
  const rank = ALGORITHMS.findIndex(([known]) => name === known || name === `${known}-sess`);
  return { rank, hash: ALGORITHMS[rank]?.[1] ?? "", session: name.endsWith("-sess") };
}

/** The challenge to answer: Digest before Basic, and among Digests the better hash. */
function strongest(challenges: readonly AuthChallenge[]): AuthChallenge | undefined {
  const digests = challenges.filter((challenge) =>
    challenge.scheme === "digest" && challenge.params.nonce !== undefined &&
    algorithmOf(challenge).rank >= 0 &&
    (challenge.params.qop === undefined || qopTokens(challenge).includes("auth"))
  ).sort((a, b) => algorithmOf(a).rank - algorithmOf(b).rank);
  return digests[0] ?? challenges.find((challenge) => challenge.scheme === "basic");
}

function qopTokens(challenge: AuthChallenge): string[] {
  return (challenge.params.qop ?? "").toLowerCase().split(/[\s,]+/);
}

/** What a Digest answer is made of. */
export interface DigestInput {
  readonly username: string;
  readonly password: string;
  readonly method: string;
  readonly uri: string;
  readonly cnonce: string;
  /** How many requests were made with this nonce, with this one. */
  readonly nonceCount: number;
}

/** The value of `Authorization` that answers a Digest challenge. */
export function digestAuthorization(challenge: AuthChallenge, input: DigestInput): string {
  const { username, password, method, uri, cnonce } = input;
  const { realm = "", nonce = "", opaque, algorithm, userhash, qop } = challenge.params;
  const { hash, session } = algorithmOf(challenge);
  const h = (text: string) => createHash(hash).update(text, "utf8").digest("hex");
  const nc = input.nonceCount.toString(16).padStart(8, "0");
  const secret = h(`${username}:${realm}:${password}`);
  const a1 = session ? h(`${secret}:${nonce}:${cnonce}`) : secret;
  const a2 = h(`${method}:${uri}`);
  const response = qop === undefined
    ? h(`${a1}:${nonce}:${a2}`)
    : h(`${a1}:${nonce}:${nc}:${cnonce}:auth:${a2}`);
  const hashed = userhash?.toLowerCase() === "true";
  const parts = [
    hashed
      ? `username=${quote(h(`${username}:${realm}`))}`
      : /^[\x20-\x7e]*$/.test(username)
      ? `username=${quote(username)}`
      : `username*=UTF-8''${encodeURIComponent(username).replaceAll("'", "%27")}`,
    `realm=${quote(realm)}`,
    `nonce=${quote(nonce)}`,
    `uri=${quote(uri)}`,
    `response="${response}"`,
    // The algorithm is given back as it came, and only if it came: old cameras compare letters.
    ...(algorithm === undefined ? [] : [`algorithm=${algorithm}`]),
    ...(opaque === undefined ? [] : [`opaque=${quote(opaque)}`]),
    ...(qop === undefined ? [] : [`qop=auth`, `nc=${nc}`]),
    ...(qop === undefined && !session ? [] : [`cnonce=${quote(cnonce)}`]),
    ...(hashed ? ["userhash=true"] : []),
  ];
  return `Digest ${parts.join(", ")}`;
}

function quote(text: string): string {
  return `"${text.replaceAll(/(["\\])/g, "\\$1")}"`;
}

/**
 * Parses one or more `WWW-Authenticate` values joined by commas (RFC 9110 §11.6.1). What cannot be
 * understood is skipped.
 */
export function parseChallenges(header: string): AuthChallenge[] {
  const challenges: { scheme: string; params: Record<string, string> }[] = [];
  const token = /[\s,]*([!#$%&'*+\-.^_`|~\w]+)/y;
  const value = /\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))/y;
  const token68 = / +[\w\-.~+/]+=*(?=\s*(?:,|$))/y;
  let at = 0;
  while (at < header.length) {
    token.lastIndex = at;
    const name = token.exec(header)?.[1];
    if (name === undefined) {
      at++; // not a token: go on behind it
      continue;
    }
    at = token.lastIndex;
    value.lastIndex = at;
    const found = value.exec(header);
    if (found) {
      at = value.lastIndex;
      const params = challenges.at(-1)?.params;
      if (params) {
        params[name.toLowerCase()] = found[1]?.replaceAll(/\\(.)/g, "$1") ?? found[2] ?? "";
      }
      continue;
    }
    challenges.push({ scheme: name.toLowerCase(), params: {} });
    token68.lastIndex = at;
    if (token68.test(header)) at = token68.lastIndex;
  }
  return challenges;
}
