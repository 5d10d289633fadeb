/**
 * The two ways into a Nest account that work today, each as one function from what the user gave
 * to what the cameras want to see.
 *
 * **Nest account** (kind B): the browser's `access_token` is shown to the camera API, which answers
 * with a session token that goes into a cookie; `GET /session` tells the user's id.
 *
 * **Google account** (kind C): the issue token's address with its cookie gives a Google token (an
 * hour), that gives a JWT, and that opens a Nest session, whose own access token goes with every
 * camera request. The token that `Authorization: Basic` carries is raw, not base64.
 *
 * Both end in {@linkcode NestLogin}; when to do it again is decided in `auth.ts`.
 *
 * @module
 */
import { type Secret, sourceError } from "../../types.ts";
import { describeUrl } from "../hosts.ts";
import { type HttpResponse, serverNowMs } from "../http.ts";
import { below, field, jsonOf, type NestApi, refusal, textField } from "./api.ts";
import type { StreamToken } from "./nexus_packets.ts";

/** What a successful login yields. */
export interface NestLogin {
  /** For `Authorization: Basic` at the home endpoint. */
  readonly accessToken: string;
  readonly userId: string;
  /** Proves the login to the cameras' hosts. */
  readonly cameraHeaders: Readonly<Record<string, string>>;
  /** Proves the login to the servers of live video; where there are two, one of them does. */
  readonly streamTokens: readonly StreamToken[];
  /** How long it is good for, ms from now. */
  readonly lifetimeMs: number;
  /** When to renew it at the latest although it would live longer, ms from now. */
  readonly renewWithinMs: number;
  /** Every secret in it, for the log to take out. */
  readonly secrets: readonly string[];
}

/** What the user gave. */
export type NestCredentials =
  | { readonly kind: "nest"; readonly accessToken: string }
  | { readonly kind: "google"; readonly issueToken: string; readonly cookie: string };

/** What a login works with. */
export interface LoginOptions {
  readonly api: NestApi;
  readonly signal: AbortSignal;
  readonly fieldTest: boolean;
}

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
/** A Nest account's token lives about 30 days where its session does not say. */
const NEST_TOKEN_MS = 30 * DAY_MS;

const RECAPTURE =
  'take "issueToken" and "cookie" anew: log in at https://home.nest.com in Firefox ' +
  "or in a private window of Safari (cookies from Chrome die within hours), copy both, and close " +
  "the window without logging out";
const NEW_TOKEN = "log in at https://home.nest.com, open https://home.nest.com/session and put " +
  'the first access_token there into "accessToken"';

/** Reads the secrets as they are now, without what people copy along with them. */
export async function revealCredentials(
  given: {
    readonly accessToken?: Secret | undefined;
    readonly issueToken?: Secret | undefined;
    readonly cookie?: Secret | undefined;
  },
): Promise<NestCredentials> {
  try {
    if (given.accessToken) {
      const text = await given.accessToken.reveal();
      return { kind: "nest", accessToken: withoutPrefix(text, /^access_token\s*[:=]\s*/i) };
    }
    if (!given.issueToken || !given.cookie) throw new Error("no credentials are given");
    return {
      kind: "google",
      issueToken: withoutPrefix(
        await given.issueToken.reveal(),
        /^(request\s+url|issue_?token)\s*:\s*/i,
      ),
      cookie: withoutPrefix(await given.cookie.reveal(), /^(set-)?cookie\s*:\s*/i),
    };
  } catch (cause) {
    throw sourceError("auth", cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** People copy `Request URL: https://…`, quotes and line breaks along. */
function withoutPrefix(text: string, prefix: RegExp): string {
  const unquoted = (part: string) => part.trim().replace(/^(["'])(.*)\1,?$/s, "$2").trim();
  return unquoted(unquoted(text).replace(prefix, "")).replaceAll(/[\r\n]+\s*/g, " ");
}

/** Logs in. @throws a source error; `auth` means that the user has to do something */
export function logIn(credentials: NestCredentials, options: LoginOptions): Promise<NestLogin> {
  return credentials.kind === "nest"
    ? logInWithNest(credentials.accessToken, options)
    : logInWithGoogle(credentials, options);
}

async function logInWithNest(
  accessToken: string,
  { api, signal, fieldTest }: LoginOptions,
): Promise<NestLogin> {
  requireHeaderText(accessToken, "accessToken", NEW_TOKEN);
  const response = await api.request(below(api.endpoints.camera, "/api/v1/login.login_nest"), {
    signal,
    form: { access_token: accessToken },
  });
  const refused = `the cloud refuses "accessToken": it is wrong or too old (they last about 30 ` +
    `days): ${NEW_TOKEN}`;
  if (response.status !== 200) throw refusal(response, { clock: api.clock, refused });
  const answer = jsonOf(response);
  const status = field(answer, "status");
  // Refusals come as HTTP 200 with a status of their own inside.
  if (status === 400 || status === 401 || status === 403) {
    const detail = textField(answer, "status_detail") ?? textField(answer, "status_description");
    throw sourceError("auth", `${refused} (status ${status}${detail ? `, ${detail}` : ""})`);
  }
  const items = field(answer, "items");
  const sessionToken = textField(Array.isArray(items) ? items[0] : undefined, "session_token") ??
    cookieNamed(response, fieldTest ? "website_ft" : "website_2");
  if ((status !== 0 && status !== undefined) || sessionToken === undefined) {
    throw sourceError(
      "protocol",
      `${describeUrl(response.url)}: expected status 0 and a session_token, got ${
        status === undefined ? "an answer without either" : `status ${String(status)}`
      }`,
    );
  }
  requireHeaderText(sessionToken, "the session token in the cloud's answer", "try again later");
  const session = await openSession(accessToken, { api, signal, refused });
  return {
    accessToken,
    userId: session.userId,
    cameraHeaders: { cookie: `${fieldTest ? "website_ft" : "website_2"}=${sessionToken}` },
    streamTokens: [{ kind: "session", token: sessionToken }],
    lifetimeMs: session.lifetimeMs ?? NEST_TOKEN_MS,
    renewWithinMs: DAY_MS,
    secrets: [accessToken, sessionToken],
  };
}

function cookieNamed({ headers }: HttpResponse, name: string): string | undefined {
  for (const cookie of headers.getSetCookie()) {
    const [, found, value] = /^\s*([^=;\s]+)=([^;]*)/.exec(cookie) ?? [];
    if (found === name && value) return value;
  }
  return undefined;
}

/**
 * The first step of a Google login: the issue token's address, asked with its cookie, gives an OAuth
 * token.
 *
 * @throws a source error; `auth` means that the user has to do something
 */
export async function requestGoogleToken(
  { issueToken, cookie }: Extract<NestCredentials, { kind: "google" }>,
  { api, accounts, signal }: {
    readonly api: Pick<NestApi, "clock" | "request">;
    readonly accounts: URL;
    readonly signal: AbortSignal;
  },
): Promise<{ readonly token: string; readonly lifetimeMs: number }> {
  const { clock } = api;
  requireHeaderText(cookie, "cookie", RECAPTURE);
  const google = await api.request(issueTokenUrl(issueToken, accounts), {
    signal,
    headers: {
      "cookie": cookie,
      "origin": "https://accounts.google.com",
      "referer": "https://accounts.google.com/o/oauth2/iframe",
      "x-requested-with": "XmlHttpRequest",
    },
  });
  const { status } = google;
  const loggedOut = `Google does not know the login any more: ${RECAPTURE}`;
  const answer = jsonOf(google);
  const error = textField(answer, "error");
  if (error !== undefined && status < 500 && status !== 429) {
    const detail = textField(answer, "detail") ?? textField(answer, "error_description");
    throw sourceError("auth", `${loggedOut} (it says ${error}${detail ? `: ${detail}` : ""})`);
  }
  // A dead cookie may also be answered with the login page, or a redirect to it.
  if ((status >= 300 && status < 400) || (status === 200 && answer === undefined)) {
    throw sourceError("auth", `${loggedOut} (it showed its login page)`);
  }
  if (status !== 200) throw refusal(google, { clock, refused: loggedOut });
  const token = textField(answer, "access_token");
  if (token === undefined) throw missing(google, "access_token");
  requireHeaderText(token, "the token in Google's answer", "try again later");
  return {
    token,
    lifetimeMs: lifetimeMs(field(answer, "expires_in"), google, clock.now()) ?? HOUR_MS,
  };
}

async function logInWithGoogle(
  credentials: Extract<NestCredentials, { kind: "google" }>,
  { api, signal }: LoginOptions,
): Promise<NestLogin> {
  const { clock, endpoints } = api;
  const { token: googleToken, lifetimeMs: googleLifetimeMs } = await requestGoogleToken(
    credentials,
    { api, accounts: endpoints.accounts, signal },
  );

  const proxy = await api.request(below(endpoints.jwt, "/v1/issue_jwt"), {
    signal,
    headers: { authorization: `Bearer ${googleToken}` },
    json: {
      embed_google_oauth_access_token: true,
      expire_after: "3600s",
      google_oauth_access_token: googleToken,
      policy_id: "authproxy-oauth-policy",
    },
  });
  if (proxy.status !== 200) {
    throw refusal(proxy, {
      clock,
      refused:
        `Google's token was refused: is this the account that the cameras belong to? If so, ` +
        RECAPTURE,
    });
  }
  const jwt = textField(jsonOf(proxy), "jwt");
  if (jwt === undefined) throw missing(proxy, "jwt");
  requireHeaderText(jwt, "the jwt in the cloud's answer", "try again later");

  const session = await openSession(jwt, {
    api,
    signal,
    refused: "Nest refuses this Google account: was a Nest home ever set up with it?",
  });
  const accessToken = session.accessToken ?? jwt;
  return {
    accessToken,
    userId: session.userId,
    cameraHeaders: { authorization: `Basic ${accessToken}` },
    // Clients disagree on which of the two a server of live video wants.
    streamTokens: [...new Set([accessToken, jwt])].map((token) => ({ kind: "olive", token })),
    lifetimeMs: Math.min(googleLifetimeMs, session.lifetimeMs ?? Infinity),
    renewWithinMs: Infinity,
    secrets: [googleToken, jwt, accessToken],
  };
}

/** The issue token's address at the accounts endpoint: its cookie must not go anywhere else. */
function issueTokenUrl(text: string, accounts: URL): URL {
  const fail = (problem: string) => sourceError("auth", `issueToken: ${problem}; ${RECAPTURE}`);
  if (!URL.canParse(text)) {
    throw fail(
      "it is no address: expected https://accounts.google.com/o/oauth2/iframerpc?action=issueToken&…",
    );
  }
  const url = new URL(text);
  if (url.hostname !== "accounts.google.com" && url.host !== accounts.host) {
    throw fail(`its host is ${url.host}: expected accounts.google.com`);
  }
  if (!url.pathname.endsWith("/iframerpc")) {
    throw fail(`its path is ${url.pathname}: expected /o/oauth2/iframerpc`);
  }
  if (!url.searchParams.get("ss_domain")) {
    throw fail('it has no "ss_domain": it was not copied to its end, or is another request');
  }
  const path = url.host === accounts.host ? url.pathname : below(accounts, url.pathname).pathname;
  return new URL(path + url.search, accounts);
}

/** `GET /session`: who the token belongs to, and until when. */
async function openSession(
  token: string,
  { api, signal, refused }: Pick<LoginOptions, "api" | "signal"> & { readonly refused: string },
): Promise<{ userId: string; accessToken?: string | undefined; lifetimeMs?: number | undefined }> {
  const response = await api.request(below(api.endpoints.home, "/session"), {
    signal,
    headers: { authorization: `Basic ${token}` },
  });
  if (response.status !== 200) throw refusal(response, { clock: api.clock, refused });
  const answer = jsonOf(response);
  const userId = textField(answer, "userid");
  if (userId === undefined || !/^[\w.-]+$/.test(userId)) throw missing(response, "userid");
  const accessToken = textField(answer, "access_token");
  if (accessToken !== undefined) {
    requireHeaderText(accessToken, "the access token of the Nest session", "try again later");
  }
  return {
    userId,
    accessToken,
    lifetimeMs: lifetimeMs(field(answer, "expires_in"), response, api.clock.now()),
  };
}

/**
 * How long a token lives: `expires_in` is a number of seconds at Google and a date at Nest
 * (`Tue, 01-Mar-2022 23:15:55 GMT`), which is read by the server's clock. `undefined` if it makes
 * no sense; then the usual lifetime is taken.
 */
export function lifetimeMs(
  value: unknown,
  { headers }: Pick<HttpResponse, "headers">,
  nowMs: number,
): number | undefined {
  if (typeof value !== "number" && typeof value !== "string") return undefined;
  const seconds = Number(value);
  const ms = Number.isNaN(seconds)
    ? Date.parse(String(value).replaceAll(/(\d)-(\w{3})-(\d)/g, "$1 $2 $3")) -
      serverNowMs(headers, nowMs)
    : seconds * 1000;
  return ms > 0 ? ms : undefined;
}

function missing(response: HttpResponse, name: string) {
  return sourceError(
    "protocol",
    `${describeUrl(response.url)}: expected JSON with "${name}", got ${
      jsonOf(response) === undefined ? "something else than JSON" : "JSON without it"
    }`,
  );
}

/** Text with line breaks or foreign letters cannot stand in an HTTP header. */
function requireHeaderText(text: string, name: string, remedy: string): void {
  if (/^[\t\x20-\x7e]+$/.test(text)) return;
  throw sourceError(
    "auth",
    `${name}: it holds characters that no token has (was it shortened with "…"?): ${remedy}`,
  );
}
