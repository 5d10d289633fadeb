/**
 * Access tokens of a Google account by its refresh token: the request to Google's token endpoint, and
 * what its refusals mean. When it is made is decided in `../token_keeper.ts`.
 *
 * @module
 */
import { type Clock, type Log, type Secret, sourceError } from "../../types.ts";
import { describeUrl } from "../hosts.ts";
import { type Http, type HttpResponse, passingError, retryAfterMs } from "../http.ts";
import { below, field, jsonOf, textField } from "../nest/api.ts";
import { createTokenKeeper, type TokenKeeper } from "../token_keeper.ts";

/** What tokens are asked with. */
export interface TokenOptions {
  readonly http: Http;
  readonly clock: Clock;
  readonly log: Log;
  /** Where `/token` is. */
  readonly oauth: URL;
  readonly clientId: string;
  readonly clientSecret: Secret;
  readonly refreshToken: Secret;
}

/** What the token endpoint gave. */
export interface Grant {
  readonly accessToken: string;
  readonly lifetimeMs: number;
  /** Only for a code. */
  readonly refreshToken?: string;
}

const TIMEOUT_MS = 15_000;
const MAX_BYTES = 65_536;

/** What to do when Google does not know the refresh token any more. */
export const CONSENT_AGAIN =
  "run camsink init again to consent anew; if it lasted only seven days, the OAuth consent screen is " +
  'still in the state "Testing": set it to "In production" in the Google Cloud console';

/**
 * Asks the token endpoint.
 *
 * @throws a source error; `auth` means that the user has to do something
 */
export async function requestToken(
  { http, clock, oauth, form, signal }: Pick<TokenOptions, "http" | "clock" | "oauth"> & {
    readonly form: Readonly<Record<string, string>>;
    readonly signal: AbortSignal;
  },
): Promise<Grant> {
  const url = below(oauth, "/token");
  const response = await http.request(url, {
    signal,
    timeoutMs: TIMEOUT_MS,
    maxBytes: MAX_BYTES,
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams(form).toString(),
  });
  const answer = jsonOf(response);
  const accessToken = textField(answer, "access_token");
  const expires = field(answer, "expires_in");
  if (response.status !== 200) throw tokenRefusal(response, clock);
  if (accessToken === undefined || !/^[\x21-\x7e]+$/.test(accessToken)) {
    throw sourceError("protocol", `${describeUrl(url)}: expected an access_token, got none`);
  }
  const refreshToken = textField(answer, "refresh_token");
  return {
    accessToken,
    lifetimeMs: typeof expires === "number" && expires > 0
      ? Math.min(expires, 86_400) * 1000
      : 3_600_000,
    ...(refreshToken === undefined ? {} : { refreshToken }),
  };
}

function tokenRefusal(response: HttpResponse, clock: Clock): Error {
  const { status, headers, url } = response;
  const error = textField(jsonOf(response), "error");
  const detail = textField(jsonOf(response), "error_description");
  const says = `${describeUrl(url)}: Google says ${error ?? `status ${status}`}${
    detail === undefined ? "" : ` (${detail})`
  }`;
  if (error === "invalid_grant") {
    return sourceError("auth", `${says}: the refresh token is wrong or revoked: ${CONSENT_AGAIN}`);
  }
  if (error === "invalid_client" || error === "unauthorized_client") {
    return sourceError(
      "auth",
      `${says}: "clientId" and "clientSecret" are not those of the OAuth client; copy both anew ` +
        "from the Google Cloud console",
    );
  }
  const waitMs = retryAfterMs(headers, clock.now());
  const wait = waitMs === undefined ? {} : { retryAfterMs: waitMs };
  if (status === 429) return sourceError("rate", says, { retryAfterMs: waitMs ?? 60_000 });
  if (status >= 500) {
    return waitMs === undefined
      ? passingError("offline", says)
      : sourceError("offline", says, wait);
  }
  if (status === 401 || status === 403) return sourceError("auth", says);
  return sourceError("protocol", says, wait);
}

/** Makes the keeper of one account's token. Nothing is sent before it is asked for. */
export function keepGoogleToken(options: TokenOptions): TokenKeeper<string> {
  const { http, clock, log, oauth, clientId } = options;
  return createTokenKeeper({
    what: "the access token",
    clock,
    log,
    async prepare() {
      let secrets: readonly [string, string];
      try {
        secrets = [await options.clientSecret.reveal(), await options.refreshToken.reveal()];
      } catch (cause) {
        throw sourceError("auth", cause instanceof Error ? cause.message : String(cause), {
          cause,
        });
      }
      const form = {
        grant_type: "refresh_token",
        client_id: clientId,
        client_secret: secrets[0],
        refresh_token: secrets[1],
      };
      return {
        secrets,
        async send(signal) {
          const granted = await requestToken({ http, clock, oauth, form, signal });
          const { accessToken: value, lifetimeMs } = granted;
          return { value, lifetimeMs, secrets: [value] };
        },
      };
    },
  });
}
