/**
 * What cameras behind an HTTP address have in common, whether they give one picture or a stream of
 * them: the options of a login, the login itself, redirects followed with care (`hosts.ts`), and what
 * a status means.
 *
 * @module
 */
import * as v from "valibot";
import { filePath, secret } from "../config/values.ts";
import { type Secret, type SourceError, sourceError } from "../types.ts";
import { mayHaveCredentials, redirectTarget } from "./hosts.ts";
import { type HttpResponse, passingError, retryAfterMs } from "./http.ts";
import { type Authenticator, createAuthenticator } from "./http_auth.ts";
import { loginKeys } from "./login_options.ts";

/** The options of a login, and what goes with every request. */
export const httpCameraKeys = {
  ...loginKeys,
  ca: v.optional(
    v.pipe(
      filePath(),
      v.description(
        "PEM file of the authority that signed the camera's certificate, for https with a " +
          "certificate of its own.",
      ),
    ),
  ),
  headers: v.optional(
    v.pipe(
      v.record(
        v.pipe(
          v.string(),
          v.regex(/^[!#$%&'*+\-.^_`|~\w]+$/, "expected the name of an HTTP header"),
          v.check(
            (name) => !/^(authorization|host|content-length|connection)$/i.test(name),
            'this header is not free to choose; a login goes into "username" and "password"',
          ),
        ),
        v.union(
          [
            v.pipe(secret(), v.check((value) => value.reference !== "literal")),
            v.pipe(v.string(), v.regex(/^[\t\x20-\x7e\x80-\xff]*$/)),
          ],
          "expected the text of an HTTP header, or a secret by reference",
        ),
      ),
      v.description(
        "Further HTTP headers, by name; a value may be a secret by reference. They go to the " +
          "camera's own host only.",
      ),
    ),
  ),
};

/** Refuses a user name without a password, and the other way round. */
export function bothOrNeither<
  Options extends { readonly username?: string | undefined; readonly password?: unknown },
>() {
  return v.check<Options, string>(
    ({ username, password }) => (username === undefined) === (password === undefined),
    'expected both "username" and "password", or neither',
  );
}

/** The values of {@linkcode httpCameraKeys}, as far as they are sent. */
export interface HttpCameraLogin {
  readonly username?: string | undefined;
  readonly password?: Secret | undefined;
  readonly headers?: Readonly<Record<string, string | Secret>> | undefined;
}

const MAX_REDIRECTS = 5;
/** The first answer of a camera may need a challenge, and then a fresh nonce. */
const MAX_LOGINS = 3;

/** The further headers with their secrets. @throws a source error `auth` */
export async function revealHeaders(
  { headers = {} }: HttpCameraLogin,
): Promise<Record<string, string>> {
  const revealed: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    revealed[name.toLowerCase()] = typeof value === "string" ? value : await reveal(value);
  }
  return revealed;
}

/** What answers challenges, if a login is given. @throws a source error `auth` */
export async function revealLogin(
  { username, password }: HttpCameraLogin,
): Promise<Authenticator | undefined> {
  if (username === undefined || password === undefined) return undefined;
  return createAuthenticator({ username, password: await reveal(password) });
}

/** A secret that cannot be read is a login that cannot be had. */
async function reveal(value: { reveal(): Promise<string> }): Promise<string> {
  try {
    return await value.reveal();
  } catch (cause) {
    throw sourceError("auth", cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** The head of an answer. */
export type HttpAnswer = Pick<HttpResponse, "url" | "status" | "headers">;

/**
 * Makes what asks a camera: answers its challenges and follows its redirects until there is an answer
 * of another kind. `send` makes one request with the headers that it is given.
 */
export function createHttpCamera<Answer extends HttpAnswer>(
  { home, what, fixedHeaders, authenticator, accept, send }: {
    readonly home: URL;
    /** The camera, for messages. */
    readonly what: string;
    readonly fixedHeaders: Readonly<Record<string, string>>;
    readonly authenticator: Authenticator | undefined;
    /** The value of `Accept`. */
    readonly accept: string;
    readonly send: (
      url: URL,
      headers: Readonly<Record<string, string>>,
      signal: AbortSignal,
    ) => Promise<Answer>;
  },
): (signal: AbortSignal) => Promise<Answer> {
  /** One request, with the login where the host may have it. */
  const get = async (url: URL, signal: AbortSignal): Promise<Answer> => {
    const trusted = mayHaveCredentials(url, home);
    for (let logins = 0;; logins++) {
      const uri = url.pathname + url.search;
      const authorization = trusted ? authenticator?.authorize("GET", uri) : undefined;
      const response = await send(url, {
        accept,
        "cache-control": "no-cache", // a proxy on the way must ask the camera
        "user-agent": "camsink", // some cameras refuse requests without one
        ...(trusted ? fixedHeaders : {}),
        ...(authorization === undefined ? {} : { authorization }),
      }, signal);
      if (response.status !== 401) {
        authenticator?.accepted();
        return response;
      }
      const verdict = trusted
        ? authenticator?.challenged(response.headers.get("www-authenticate"))
        : undefined;
      if (verdict === "answer" && logins < MAX_LOGINS) continue;
      throw loginError(verdict, trusted, response, what);
    }
  };

  return async (signal) => {
    let url = home;
    for (let hops = 0;; hops++) {
      const response = await get(url, signal);
      if (!isRedirect(response.status)) return response;
      if (hops === MAX_REDIRECTS) {
        throw sourceError("protocol", `${what}: more than ${MAX_REDIRECTS} redirects in a row`);
      }
      url = redirectTarget(response.headers.get("location"), url, home);
    }
  };
}

function isRedirect(status: number): boolean {
  return status === 301 || status === 302 || status === 303 || status === 307 || status === 308;
}

function loginError(
  verdict: "answer" | "refused" | "unknown" | undefined,
  trusted: boolean,
  response: HttpAnswer,
  what: string,
): SourceError {
  if (!trusted) {
    return sourceError(
      "auth",
      `${what}: it redirects to ${response.url.host}, which asks for a login (401); a login is ` +
        `never sent to another host: give the final address itself in "url"`,
    );
  }
  if (verdict === undefined) {
    return sourceError(
      "auth",
      `${what}: the camera asks for a login (401): give "username" and "password"`,
    );
  }
  if (verdict === "unknown") {
    const offered = (response.headers.get("www-authenticate") ?? "").split(/[\s,]/)[0];
    return sourceError(
      "auth",
      `${what}: the camera asks for a login of the kind "${offered}" (401): expected basic or ` +
        `digest with MD5, SHA-256 or SHA-512-256; choose one of these in the camera's settings`,
    );
  }
  return sourceError(
    "auth",
    `${what}: the camera refused the user name or the password (401): check both`,
  );
}

/** What a status other than success means. */
export function statusError(
  { status, headers }: Pick<HttpAnswer, "status" | "headers">,
  what: string,
  nowMs: number,
): SourceError {
  const waitMs = retryAfterMs(headers, nowMs);
  if (status === 429 || (status === 503 && waitMs !== undefined)) {
    return sourceError(
      "rate",
      `${what}: the camera says that it is asked too often (${status}): lower "fps"`,
      waitMs === undefined ? {} : { retryAfterMs: waitMs },
    );
  }
  if (status === 403) {
    return sourceError("auth", `${what}: the camera refuses access (403): check its user's rights`);
  }
  if (status === 404 || status === 410) {
    return sourceError(
      "protocol",
      `${what}: there is nothing under this address (${status}): check "url"`,
    );
  }
  return passingError("offline", `${what}: the camera answered with status ${status}`);
}
