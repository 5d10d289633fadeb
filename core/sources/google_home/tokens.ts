/**
 * The access tokens of a Google Home account: how each is asked for. With a master token each scope has
 * one of its own, with a browser's login there is one for both. `../token_keeper.ts` keeps them.
 *
 * @module
 */
import { type Log, type Secret, sourceError } from "../../types.ts";
import { requestAsSite } from "../nest/api.ts";
import { requestGoogleToken, revealCredentials } from "../nest/login.ts";
import type { Http } from "../http.ts";
import { accessToken, type AndroidAuth } from "./android_auth.ts";
import { USER_AGENT } from "../nest/options.ts";
import { createTokenKeeper, type GrantRequest, type TokenKeeper } from "../token_keeper.ts";
import type { GoogleHomeEndpoints, GoogleHomeOptions } from "./options.ts";

/** What a token is for. */
export type Scope = "recordings" | "devices";

/** With a master token each scope has a token of its own; a browser's login has one for both. */
const SCOPES: Readonly<Record<Scope, string>> = {
  recordings: "oauth2:https://www.googleapis.com/auth/nest-account",
  devices: "oauth2:https://www.google.com/accounts/OAuthLogin",
};

/** The service does not say how long a token lives; an hour, as all of Google's. */
const LIFETIME_MS = 3_600_000;

/** The tokens of one account, by what they are for. */
export type GoogleTokens = Readonly<Record<Scope, TokenKeeper<string>>> & AsyncDisposable;

/** Makes them. Nothing is sent before one is asked for. */
export function createGoogleTokens(
  { options, endpoints, http, auth, log }: {
    readonly options: GoogleHomeOptions;
    readonly endpoints: GoogleHomeEndpoints;
    readonly http: Http;
    readonly auth: Omit<AndroidAuth, "signal">;
    readonly log: Log;
  },
): GoogleTokens {
  const { clock } = auth;
  const { masterToken, email = "", androidId = "" } = options;

  const fromBrowser = async (): Promise<GrantRequest<string>> => {
    const api = { clock, request: requestAsSite({ http, userAgent: USER_AGENT }) };
    const credentials = await revealCredentials(options);
    if (credentials.kind !== "google") throw new Error("no credentials are given");
    return {
      secrets: [credentials.issueToken, credentials.cookie],
      async send(signal) {
        const { accounts } = endpoints;
        const { token, lifetimeMs } = await requestGoogleToken(credentials, {
          ...{ api, accounts, signal },
        });
        return { value: token, lifetimeMs, secrets: [token] };
      },
    };
  };
  const fromMaster = async (scope: Scope, master: Secret): Promise<GrantRequest<string>> => {
    let secret: string;
    try {
      secret = (await master.reveal()).trim();
    } catch (cause) {
      throw sourceError("auth", cause instanceof Error ? cause.message : String(cause), { cause });
    }
    if (!secret.startsWith("aas_et/")) {
      throw sourceError("auth", 'masterToken: expected a token that begins with "aas_et/"');
    }
    const request = { email, androidId, masterToken: secret, scope: SCOPES[scope] };
    return {
      secrets: [secret],
      async send(signal) {
        const token = await accessToken({ ...auth, signal }, request);
        return { value: token, lifetimeMs: LIFETIME_MS, secrets: [token] };
      },
    };
  };

  const keep = (prepare: () => Promise<GrantRequest<string>>) =>
    createTokenKeeper({ what: "Google's access token", prepare, clock, log });
  const recordings = keep(() =>
    masterToken === undefined ? fromBrowser() : fromMaster("recordings", masterToken)
  );
  const devices = masterToken === undefined
    ? recordings
    : keep(() => fromMaster("devices", masterToken));
  return {
    recordings,
    devices,
    async [Symbol.asyncDispose]() {
      await Promise.all([recordings, devices].map((keeper) => keeper[Symbol.asyncDispose]()));
    },
  };
}
