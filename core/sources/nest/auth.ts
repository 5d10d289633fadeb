/**
 * The login that all cameras of a Nest account share, kept by `../token_keeper.ts`. What is Nest's own:
 * a camera for which no login ever worked may belong to somebody else, and gets a new one at most once
 * a minute.
 *
 * @module
 */
import { type Log, sourceError } from "../../types.ts";
import type { HttpResponse } from "../http.ts";
import { createTokenKeeper, type Generation, type Held } from "../token_keeper.ts";
import type { NestApi } from "./api.ts";
import { logIn, type NestLogin, revealCredentials } from "./login.ts";
import type { NestOptions } from "./options.ts";

/** A login and which one it is. */
export type NestTicket = NestLogin & Generation;

/** How a new login is asked for. */
export interface RenewOptions {
  readonly signal: AbortSignal;
  /** The refused one has worked before for the one who asks. */
  readonly proven: boolean;
}

/** Gives every camera the same, valid login. */
export interface NestAuth extends AsyncDisposable {
  /** The login as it is now; waits only where there is none that is good. */
  current(signal: AbortSignal): Promise<NestTicket>;
  /** Another login than `stale`, which was refused. */
  renewed(stale: NestTicket, options: RenewOptions): Promise<NestTicket>;
  /** Asks with the login and, where that is refused (401, 403), once more with a new one. */
  use(
    ask: (login: NestLogin) => Promise<HttpResponse>,
    options: RenewOptions,
  ): Promise<HttpResponse>;
}

const UNPROVEN_PAUSE_MS = 60_000;

/** Makes the shared login of one account. Nothing is sent before it is asked for. */
export function createNestAuth(
  { api, options, log }: {
    readonly api: NestApi;
    readonly options: Pick<NestOptions, "accessToken" | "issueToken" | "cookie" | "fieldTest">;
    readonly log: Log;
  },
): NestAuth {
  const { clock } = api;
  let lastUnprovenMs = -Infinity;
  const keeper = createTokenKeeper<NestLogin>({
    what: "the login",
    clock,
    log,
    async prepare() {
      const credentials = await revealCredentials(options);
      const { fieldTest } = options;
      return {
        secrets: credentials.kind === "nest"
          ? [credentials.accessToken]
          : [credentials.issueToken, credentials.cookie],
        async send(signal) {
          const login = await logIn(credentials, { api, signal, fieldTest });
          return { ...login, value: login };
        },
      };
    },
  });
  const mayAsk = () => {
    const sinceMs = clock.monotonic() - lastUnprovenMs;
    if (sinceMs < UNPROVEN_PAUSE_MS) {
      throw sourceError(
        "auth",
        "the cloud refuses the login for this camera, and a new login did not help: " +
          "does the camera belong to this account?",
        { retryAfterMs: UNPROVEN_PAUSE_MS - sinceMs },
      );
    }
    lastUnprovenMs = clock.monotonic();
  };
  const renewing = ({ signal, proven }: RenewOptions) => proven ? { signal } : { signal, mayAsk };
  const ticket = ({ value, generation }: Held<NestLogin>): NestTicket => ({ ...value, generation });
  return {
    current: async (signal) => ticket(await keeper.current(signal)),
    renewed: async (stale, options) => ticket(await keeper.renewed(stale, renewing(options))),
    use: (ask, options) =>
      keeper.use(ask, {
        ...renewing(options),
        isRefused: ({ status }) => status === 401 || status === 403,
      }),
    [Symbol.asyncDispose]: () => keeper[Symbol.asyncDispose](),
  };
}
