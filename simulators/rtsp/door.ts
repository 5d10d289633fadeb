/**
 * How the simulated RTSP camera asks who is there: Basic, or Digest in its old form (RFC 2069, no
 * `qop`) and its newer ones (RFC 7616), with nonces that grow old.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";

/** The login of a simulated RTSP camera. */
export type RtspAuth =
  | { readonly type: "none" }
  | { readonly type: "basic"; readonly username: string; readonly password: string }
  | {
    readonly type: "digest";
    readonly username: string;
    readonly password: string;
    /** The challenges offered, a header each; the old `MD5` without `qop` by default. */
    readonly algorithms?: readonly ("MD5" | "SHA-256")[];
    /** With `qop=auth`. */
    readonly qop?: boolean;
    /** How often a nonce may be used before it is called stale; without limit by default. */
    readonly nonceUses?: number;
  };

/** The challenges for a request that is not let in; `undefined` lets it in. */
export type RtspDoor = (
  method: string,
  uri: string,
  authorization: string,
) => readonly string[] | undefined;

const REALM = "simulated camera";

/** Makes a door. */
export function createRtspDoor(auth: RtspAuth, random: () => number): RtspDoor {
  if (auth.type === "none") return () => undefined;
  if (auth.type === "basic") {
    const right = Buffer.from(`${auth.username}:${auth.password}`).toString("base64");
    return (_method, _uri, given) =>
      given === `Basic ${right}` ? undefined : [`Basic realm="${REALM}"`];
  }
  const algorithms = auth.algorithms ?? ["MD5"];
  const uses = new Map<string, number>();
  const challenges = (stale: boolean) => {
    const nonce = Math.floor(random() * 2 ** 48).toString(16) + uses.size;
    uses.set(nonce, 0);
    return [
      ...algorithms.map((algorithm) =>
        `Digest realm="${REALM}", nonce="${nonce}"${
          algorithm === "MD5" ? "" : `, algorithm=${algorithm}`
        }` +
        `${auth.qop ? ', qop="auth"' : ""}${stale ? ", stale=TRUE" : ""}`
      ),
      `Basic realm="${REALM}"`, // many offer both; Basic is not taken here
    ];
  };
  return (method, uri, given) => {
    const field = (name: string) =>
      new RegExp(`\\b${name}=(?:"([^"]*)"|([^\\s,]+))`).exec(given)?.slice(1).find(Boolean) ?? "";
    if (!/^Digest /.test(given)) return challenges(false);
    const algorithm = field("algorithm") || "MD5";
    const hash = (text: string) =>
      createHash(algorithm === "MD5" ? "md5" : "sha256").update(text).digest("hex");
    const nonce = field("nonce");
    const secret = hash(`${auth.username}:${REALM}:${auth.password}`);
    const asked = hash(`${method}:${uri}`);
    const expected = auth.qop
      ? hash(`${secret}:${nonce}:${field("nc")}:${field("cnonce")}:auth:${asked}`)
      : hash(`${secret}:${nonce}:${asked}`);
    const isRight = algorithms.some((one) => one === algorithm) && field("uri") === uri &&
      field("username") === auth.username && field("response") === expected;
    if (!isRight) return challenges(false);
    const used = uses.get(nonce);
    if (used === undefined || used >= (auth.nonceUses ?? Infinity)) return challenges(true);
    uses.set(nonce, used + 1);
    return undefined;
  };
}
