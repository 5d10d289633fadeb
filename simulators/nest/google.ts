/**
 * The two Google hosts of the login chain: `accounts.google.com`, which turns the cookie of a
 * signed-in browser into an OAuth token, and the proxy that turns that into Nest's JWT.
 *
 * @module
 */
import { type Answer, type Asked, json, readFields } from "../http_server.ts";
import { bearerToken, type Cloud, comesFromHome, refuse } from "./cloud.ts";

/** Answers for `accounts.google.com`. */
export function answerAccounts(
  asked: Asked,
  cloud: Pick<Cloud, "googleCookie" | "googleLifeMs" | "tokens"> & {
    readonly urls: Pick<Cloud["urls"], "accounts">;
  },
): Answer {
  if (asked.path !== "/o/oauth2/iframerpc") return refuse(404, "accounts has no such path");
  if (asked.method !== "GET") return refuse(405, "iframerpc takes GET");
  const { query } = asked;
  if (query.get("action") !== "issueToken" || !query.get("client_id")) {
    return refuse(400, "the query needs action=issueToken and client_id", {
      body: '{"error":"invalid_request"}',
    });
  }
  if (query.get("ss_domain") !== "https://home.nest.com") {
    return refuse(400, "the query needs ss_domain=https://home.nest.com", {
      body: '{"error":"invalid_request","detail":"ss_domain"}',
    });
  }
  if (asked.header("x-requested-with").toLowerCase() !== "xmlhttprequest") {
    return refuse(403, "the header X-Requested-With: XmlHttpRequest is missing");
  }
  if (asked.header("sec-fetch-mode") !== "cors") {
    return refuse(403, "the header Sec-Fetch-Mode: cors is missing");
  }
  const referer = asked.header("referer");
  if (
    !referer.startsWith("https://accounts.google.com/") && !referer.startsWith(cloud.urls.accounts)
  ) {
    return refuse(403, "the Referer is not of https://accounts.google.com/");
  }
  if (!sameCookies(asked.header("cookie"), cloud.googleCookie)) {
    // Google says this with status 200.
    return refuse(200, "the cookie is not the one of a signed-in account", {
      headers: { "content-type": "application/json; charset=utf-8" },
      body: '{"error":"USER_LOGGED_OUT","detail":"No active session found."}',
    });
  }
  return json({
    token_type: "Bearer",
    access_token: cloud.tokens.issue("google", cloud.googleLifeMs),
    scope: "openid profile email https://www.googleapis.com/auth/nest-account",
    login_hint: "simulated",
    expires_in: Math.floor(cloud.googleLifeMs / 1000),
    id_token: "simulated.id.token",
    session_state: { extraQueryParams: { authuser: "0" } },
  });
}

/** The same cookies in any order, with any spacing. */
function sameCookies(left: string, right: string): boolean {
  const sorted = (text: string) =>
    text.split(";").map((part) => part.trim()).filter((part) => part !== "").sort().join(";");
  return sorted(left) === sorted(right);
}

/** Answers for `nestauthproxyservice-pa.googleapis.com`. */
export async function answerJwt(asked: Asked, cloud: Cloud): Promise<Answer> {
  if (asked.path !== "/v1/issue_jwt") return refuse(404, "the JWT host has no such path");
  if (asked.method !== "POST") return refuse(405, "issue_jwt takes POST");
  const token = bearerToken(asked);
  if (cloud.tokens.expiresAtMs(token, "google") === undefined) {
    return googleError(401, "UNAUTHENTICATED", "the bearer token is unknown or has expired");
  }
  if (!comesFromHome(asked, cloud)) {
    return googleError(403, "PERMISSION_DENIED", "the Referer is not https://home.nest.com");
  }
  const fields = await readFields(asked);
  if (fields?.["google_oauth_access_token"] !== token) {
    return googleError(
      400,
      "INVALID_ARGUMENT",
      "google_oauth_access_token is not the bearer token",
    );
  }
  if (fields["policy_id"] !== "authproxy-oauth-policy") {
    return googleError(400, "INVALID_ARGUMENT", "policy_id is not authproxy-oauth-policy");
  }
  if (String(fields["embed_google_oauth_access_token"]) !== "true") {
    return googleError(400, "INVALID_ARGUMENT", "embed_google_oauth_access_token is not true");
  }
  const seconds = /^(\d+)s$/.exec(String(fields["expire_after"]))?.[1];
  if (seconds === undefined) {
    return googleError(400, "INVALID_ARGUMENT", 'expire_after is not a duration such as "3600s"');
  }
  const lifeMs = Math.min(Number(seconds) * 1000, cloud.googleLifeMs);
  return json({
    jwt: cloud.tokens.issue("jwt", lifeMs),
    claims: {
      subject: { nestId: { namespaceId: { id: "nest-phoenix-prod" }, id: cloud.userId } },
      expirationTime: new Date(cloud.clock.now() + lifeMs).toISOString(),
      policyId: "authproxy-oauth-policy",
      structureConstraint: "",
    },
  });
}

function googleError(code: number, status: string, message: string): Answer {
  return json({ error: { code, message, status } }, {
    status: code,
    headers: { "x-simulator-reason": message },
  });
}
