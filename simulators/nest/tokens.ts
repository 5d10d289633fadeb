/**
 * The tokens that the simulated cloud hands out. Each is of a kind and runs out; what is asked with
 * one that is unknown, of the wrong kind or too old is refused, as the real servers do.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Clock } from "../../core/types.ts";

/**
 * `nest` is the access token of a Nest account, `google` the OAuth token of a Google account (scope
 * `nest-account`), `oauth-login` one of the scope `OAuthLogin`, `jwt` what `google` is exchanged for, `session` the access token of a session, `cookie` the camera API's
 * session token, `pending` a login that waits for its PIN.
 */
export type TokenKind =
  | "nest"
  | "google"
  | "oauth-login"
  | "jwt"
  | "session"
  | "cookie"
  | "pending";

/** The tokens that are alive. */
export interface Tokens {
  issue(kind: TokenKind, lifeMs: number): string;
  /** When the token runs out, wall ms; `undefined` if it is not alive or of none of the kinds. */
  expiresAtMs(token: string, ...kinds: readonly TokenKind[]): number | undefined;
  /** Ends every token of these kinds. */
  expire(...kinds: readonly TokenKind[]): void;
}

/** Makes an empty store. */
export function createTokens(
  { clock, random }: { readonly clock: Clock; readonly random: () => number },
): Tokens {
  const alive = new Map<string, { readonly kind: TokenKind; readonly expiresAtMs: number }>();
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
  const randomText = (length: number) =>
    Array.from({ length }, () => letters[Math.floor(random() * letters.length)]).join("");
  const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

  const make = (kind: TokenKind, expiresAtMs: number): string => {
    switch (kind) {
      case "nest":
        return `b.${Math.floor(1e6 + random() * 9e6)}.${randomText(80)}`;
      case "google":
      case "oauth-login":
        return `ya29.a0${randomText(160)}`;
      case "jwt":
        return [
          base64url({ alg: "RS256", typ: "JWT" }),
          base64url({ iss: "nest-security-authproxy", exp: Math.floor(expiresAtMs / 1000) }),
          randomText(86),
        ].join(".");
      case "session":
        return `g.0.${randomText(200)}`;
      default:
        return randomText(64);
    }
  };

  return {
    issue(kind, lifeMs) {
      const now = clock.now();
      for (const [token, { expiresAtMs }] of alive) if (expiresAtMs <= now) alive.delete(token);
      const token = make(kind, now + lifeMs);
      alive.set(token, { kind, expiresAtMs: now + lifeMs });
      return token;
    },
    expiresAtMs(token, ...kinds) {
      const known = alive.get(token);
      if (!known || !kinds.includes(known.kind) || known.expiresAtMs <= clock.now()) {
        return undefined;
      }
      return known.expiresAtMs;
    },
    expire(...kinds) {
      for (const [token, { kind }] of alive) if (kinds.includes(kind)) alive.delete(token);
    },
  };
}
