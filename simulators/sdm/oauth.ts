/**
 * Google's OAuth for Device Access: the consent page, which here consents at once and sends the
 * browser back with a code, and the token endpoint, which takes a code once and a refresh token again
 * and again, as a form. What it refuses, it refuses as Google does: 400 `invalid_grant`, 401
 * `invalid_client`.
 *
 * @module
 */
import type { Clock } from "../../core/types.ts";
import { type Answer, type Asked, json, readFields, type Reply } from "../http_server.ts";

/** What a client has to know. */
export interface SdmCredentials {
  readonly projectId: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** Good until it is revoked. */
  readonly refreshToken: string;
}

/** The token endpoint of one account. */
export interface OAuth {
  answerConsent(asked: Asked): Answer;
  answerToken(asked: Asked): Promise<Answer>;
  /** Whether the bearer token is alive. */
  isAlive(token: string): boolean;
  /** Ends every access token; refresh tokens live on. */
  expireTokens(): void;
  /** Ends every refresh token that was given out until now. */
  revoke(): void;
}

const SCOPES = [
  "https://www.googleapis.com/auth/sdm.service",
  "https://www.googleapis.com/auth/pubsub",
];

/** Makes the OAuth of an account whose first refresh token is in `credentials`. */
export function createOAuth(
  { clock, random, credentials, lifeMs }: {
    readonly clock: Clock;
    readonly random: () => number;
    readonly credentials: SdmCredentials;
    /** Life of an access token. */
    readonly lifeMs: number;
  },
): OAuth {
  const tokens = new Map<string, number>();
  const refreshTokens = new Set([credentials.refreshToken]);
  const codes = new Map<string, string>();
  const text = (length: number) =>
    Array.from({ length }, () => Math.floor(random() * 36).toString(36)).join("");
  const refuse = (status: number, error: string, description: string): Reply =>
    json({ error, error_description: description }, {
      status,
      headers: { "x-simulator-reason": description },
    });

  const grant = (refreshToken?: string): Reply => {
    const now = clock.monotonic();
    for (const [token, endsMs] of tokens) if (endsMs <= now) tokens.delete(token);
    const token = `ya29.a0${text(120)}`;
    tokens.set(token, now + lifeMs);
    return json({
      access_token: token,
      // As Google: a second less than the hour.
      expires_in: Math.floor(lifeMs / 1000) - 1,
      scope: SCOPES.join(" "),
      token_type: "Bearer",
      ...(refreshToken === undefined ? {} : { refresh_token: refreshToken }),
    });
  };

  return {
    answerConsent(asked) {
      const { query } = asked;
      const redirect = query.get("redirect_uri") ?? "";
      if (query.get("client_id") !== credentials.clientId) {
        return refuse(400, "invalid_client", "the client_id is not that of the project");
      }
      if (query.get("response_type") !== "code" || query.get("access_type") !== "offline") {
        return refuse(400, "invalid_request", "expected response_type=code, access_type=offline");
      }
      const asks = (query.get("scope") ?? "").split(" ");
      if (!asks.includes(SCOPES[0] ?? "")) {
        return refuse(400, "invalid_scope", "the scope does not name sdm.service");
      }
      if (!URL.canParse(redirect)) return refuse(400, "invalid_request", "no redirect_uri");
      const code = `4/0A${text(60)}`;
      codes.set(code, redirect);
      const back = new URL(redirect);
      back.searchParams.set("code", code);
      back.searchParams.set("scope", asks.join(" "));
      const state = query.get("state");
      if (state !== null) back.searchParams.set("state", state);
      return { status: 302, headers: { location: back.href } };
    },
    async answerToken(asked) {
      const fields = await readFields(asked) ?? {};
      if (
        fields["client_id"] !== credentials.clientId ||
        fields["client_secret"] !== credentials.clientSecret
      ) return refuse(401, "invalid_client", "The OAuth client was not found.");
      if (fields["grant_type"] === "refresh_token") {
        return refreshTokens.has(String(fields["refresh_token"]))
          ? grant()
          : refuse(400, "invalid_grant", "Token has been expired or revoked.");
      }
      if (fields["grant_type"] !== "authorization_code") {
        return refuse(400, "unsupported_grant_type", "Invalid grant_type.");
      }
      const code = String(fields["code"]);
      const redirect = codes.get(code);
      codes.delete(code);
      if (redirect === undefined) return refuse(400, "invalid_grant", "Malformed auth code.");
      if (redirect !== fields["redirect_uri"]) {
        return refuse(400, "redirect_uri_mismatch", "redirect_uri is not that of the consent.");
      }
      const refreshToken = `1//0${text(90)}`;
      refreshTokens.add(refreshToken);
      return grant(refreshToken);
    },
    isAlive: (token) => (tokens.get(token) ?? -Infinity) > clock.monotonic(),
    expireTokens: () => tokens.clear(),
    revoke: () => {
      refreshTokens.clear();
      tokens.clear();
    },
  };
}
