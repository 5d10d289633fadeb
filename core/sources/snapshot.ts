/**
 * A camera that gives a JPEG under a URL, asked at a steady rate. Basic and digest logins, an
 * `ETag` used to ask for a picture only if it is new, redirects followed with care (`hosts.ts`).
 *
 * `If-Modified-Since` is not used: its dates count whole seconds, so a camera asked twice a second
 * would seem to stand still.
 *
 * @module
 */
import * as v from "valibot";
import { duration, filePath, httpUrl, secret } from "../config/values.ts";
import { type SourceError, sourceError } from "../types.ts";
import type { SourceContext } from "./context.ts";
import { describeUrl, mayHaveCredentials, redirectTarget } from "./hosts.ts";
import { type Http, type HttpResponse, openHttp, passingError, retryAfterMs } from "./http.ts";
import { type Authenticator, createAuthenticator } from "./http_auth.ts";
import { openPollingSession, type PollingSource, type Shot } from "./polling.ts";

/** How many pictures per second a camera may be asked for. */
export function framesPerSecond() {
  const message = "expected a number of pictures per second from 0.01 to 30";
  return v.pipe(v.number(message), v.minValue(0.01, message), v.maxValue(30, message));
}

/** The largest picture that is accepted: an 8K JPEG at the best quality stays below it. */
export const MAX_PICTURE_BYTES = 32 * 2 ** 20;

/** Options of a camera of type `snapshot`. */
export const snapshotOptions = v.pipe(
  v.strictObject({
    url: v.pipe(
      httpUrl(),
      v.description(
        "The address that gives a JPEG picture. User name and password go into their own keys.",
      ),
    ),
    fps: v.optional(
      v.pipe(
        framesPerSecond(),
        v.description("Pictures per second, 0.01 to 30. 0.1 is one picture in ten seconds."),
      ),
      2,
    ),
    username: v.optional(
      v.pipe(
        v.string("expected a user name"),
        v.nonEmpty("expected a user name"),
        v.description("User name for basic or digest login; the camera says which."),
      ),
    ),
    password: v.optional(
      v.pipe(
        secret(),
        v.description("Password for the login, by reference: env:NAME or file:PATH."),
      ),
    ),
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
    timeout: v.optional(
      v.pipe(
        duration({ minMs: 100, maxMs: 300_000 }),
        v.description("How long one picture may take to come."),
      ),
      "5s",
    ),
  }),
  v.check(
    ({ username, password }) => (username === undefined) === (password === undefined),
    'expected both "username" and "password", or neither',
  ),
  v.description("Any address that gives a JPEG picture over HTTP."),
);

/** Validated options of a camera of type `snapshot`. */
export type SnapshotOptions = v.InferOutput<typeof snapshotOptions>;

const MAX_REDIRECTS = 5;
/** The first answer of a camera may need a challenge, and then a fresh nonce. */
const MAX_LOGINS = 3;

/** A camera of type `snapshot` as a source of JPEGs. */
export function snapshotSource(
  options: SnapshotOptions,
  context: SourceContext,
): PollingSource {
  const home = new URL(options.url);
  const what = describeUrl(home);
  return {
    async open({ signal }) {
      signal.throwIfAborted();
      const fixedHeaders = await revealHeaders(options);
      const authenticator = await revealLogin(options);
      const http = await openHttp({ clock: context.clock, ca: options.ca, fetch: context.fetch });
      const camera = createCamera({
        options,
        home,
        what,
        http,
        fixedHeaders,
        authenticator,
        context,
      });
      return await openPollingSession({
        clock: context.clock,
        fps: options.fps,
        what,
        signal,
        silenceMs: Math.max(10_000, options.timeout),
        shoot: camera.shoot,
        close: () => http[Symbol.dispose](),
      });
    },
  };
}

async function revealHeaders(
  { headers = {} }: SnapshotOptions,
): Promise<Record<string, string>> {
  const revealed: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    revealed[name.toLowerCase()] = typeof value === "string" ? value : await reveal(value);
  }
  return revealed;
}

async function revealLogin(
  { username, password }: SnapshotOptions,
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

function createCamera(
  { options, home, what, http, fixedHeaders, authenticator, context: { clock } }: {
    readonly options: SnapshotOptions;
    readonly home: URL;
    readonly what: string;
    readonly http: Http;
    readonly fixedHeaders: Readonly<Record<string, string>>;
    readonly authenticator: Authenticator | undefined;
    readonly context: SourceContext;
  },
): { shoot(signal: AbortSignal): Promise<Shot> } {
  /** The `ETag` of the last picture, and where it came from. */
  let known: { readonly etag: string; readonly url: string } | undefined;

  /** One request, with the login where the host may have it. */
  const get = async (url: URL, signal: AbortSignal): Promise<HttpResponse> => {
    const trusted = mayHaveCredentials(url, home);
    for (let logins = 0;; logins++) {
      const uri = url.pathname + url.search;
      const authorization = trusted ? authenticator?.authorize("GET", uri) : undefined;
      const response = await http.request(url, {
        signal,
        timeoutMs: options.timeout,
        maxBytes: MAX_PICTURE_BYTES,
        headers: {
          "accept": "image/jpeg, image/*;q=0.5",
          "cache-control": "no-cache", // a proxy on the way must ask the camera
          "user-agent": "camsink", // some cameras refuse requests without one
          ...(trusted ? fixedHeaders : {}),
          ...(authorization === undefined ? {} : { authorization }),
          ...(known?.url === url.href ? { "if-none-match": known.etag } : {}),
        },
      });
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

  return {
    async shoot(signal) {
      let url = home;
      for (let hops = 0;; hops++) {
        const response = await get(url, signal);
        const { status, headers, bytes, sentMs, respondedMs, respondedAtMs } = response;
        const times = { sentMs, respondedMs, respondedAtMs };
        if (status === 304 && known !== undefined) return { ...times, picture: "same" };
        if (status === 200) {
          const etag = headers.get("etag");
          known = etag === null ? undefined : { etag, url: url.href };
          return { ...times, picture: bytes };
        }
        if (isRedirect(status)) {
          if (hops === MAX_REDIRECTS) {
            throw sourceError("protocol", `${what}: more than ${MAX_REDIRECTS} redirects in a row`);
          }
          url = redirectTarget(headers.get("location"), url, home);
          continue;
        }
        throw statusError(response, what, clock.now());
      }
    },
  };
}

function isRedirect(status: number): boolean {
  return status === 301 || status === 302 || status === 303 || status === 307 || status === 308;
}

function loginError(
  verdict: "answer" | "refused" | "unknown" | undefined,
  trusted: boolean,
  response: HttpResponse,
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

function statusError(
  { status, headers }: HttpResponse,
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
