/**
 * Requests to the Device Access API: the bearer token, renewed once where it is refused; every command
 * in its turn; and Google's refusals in plain words, each marked with what it was so that the streams
 * can tell "cannot be extended" from "not now".
 *
 * @module
 */
import { type Clock, type SourceError, sourceError, type SourceErrorKind } from "../../types.ts";
import { type Http, type HttpResponse, passingError, retryAfterMs } from "../http.ts";
import { below, field, jsonOf, textField } from "../nest/api.ts";
import type { TokenKeeper } from "../token_keeper.ts";
import type { SdmEndpoints } from "./options.ts";
import type { CommandPurpose, CommandQuota } from "./quota.ts";

/** A refusal, with Google's own name for it: `FAILED_PRECONDITION`, `ABORTED` … */
export interface GoogleError extends SourceError {
  readonly googleStatus: string;
}

/** Google's name for a refusal; empty for any other error. */
export function googleStatusOf(error: unknown): string {
  return error instanceof Error && "googleStatus" in error && typeof error.googleStatus === "string"
    ? error.googleStatus
    : "";
}

/** A command to a device. */
export interface SdmCommand {
  readonly signal: AbortSignal;
  readonly device: string;
  /** What its owner calls it, for messages. */
  readonly label: string;
  /** `CameraLiveStream.GenerateRtspStream` … */
  readonly command: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly purpose: CommandPurpose;
  /** Called once where it has to wait for its turn. */
  readonly onWait?: (ms: number) => void;
  /** Its turn was taken already. */
  readonly hasTurn?: boolean;
}

/** The API of one project. */
export interface SdmApi {
  readonly clock: Clock;
  readonly endpoints: SdmEndpoints;
  /** `GET` below `/v1/enterprises/<project>/`; the JSON of the answer. */
  get(path: string, signal: AbortSignal): Promise<unknown>;
  /** Sends a command in its turn; `results`, and the answer for its date. */
  execute(command: SdmCommand): Promise<{
    readonly results: unknown;
    readonly response: HttpResponse;
  }>;
  /** `GET` with a token that is not the account's. */
  download(
    url: URL,
    options: {
      readonly signal: AbortSignal;
      readonly authorization: string;
      readonly maxBytes: number;
      readonly timeoutMs: number;
    },
  ): Promise<HttpResponse>;
  /** Any other request with the account's token. */
  authorized(
    url: URL,
    options: {
      readonly signal: AbortSignal;
      readonly json?: unknown;
      readonly maxBytes?: number;
      readonly timeoutMs?: number;
    },
  ): Promise<HttpResponse>;
}

const TIMEOUT_MS = 15_000;
/** A camera on a battery has to be woken first. */
const COMMAND_TIMEOUT_MS = 40_000;
const MAX_JSON_BYTES = 8 * 2 ** 20;
/** Google asks to wait so long at least after a 429. */
const RATE_PAUSE_MS = 60_000;
/** So long a stream that was not stopped keeps the next one out. */
const CONFLICT_PAUSE_MS = 30_000;

/** Makes the requests of one project. */
export function createSdmApi(
  { http, clock, endpoints, token, quota, projectId }: {
    readonly http: Http;
    readonly clock: Clock;
    readonly endpoints: SdmEndpoints;
    readonly token: TokenKeeper<string>;
    readonly quota: CommandQuota;
    readonly projectId: string;
  },
): SdmApi {
  const authorized: SdmApi["authorized"] = async (url, { signal, json, maxBytes, timeoutMs }) => {
    const send = (bearer: string) =>
      http.request(url, {
        signal,
        timeoutMs: timeoutMs ?? TIMEOUT_MS,
        maxBytes: maxBytes ?? MAX_JSON_BYTES,
        method: json === undefined ? "GET" : "POST",
        headers: {
          "authorization": `Bearer ${bearer}`,
          ...(json === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(json === undefined ? {} : { body: JSON.stringify(json) }),
      });
    return await token.use(send, { signal, isRefused: ({ status }) => status === 401 });
  };

  return {
    clock,
    endpoints,
    authorized,
    download: (url, { authorization, ...rest }) =>
      http.request(url, { ...rest, headers: { authorization } }),
    async get(path, signal) {
      const url = below(endpoints.sdm, `/v1/enterprises/${projectId}/${path}`);
      const response = await authorized(url, { signal });
      if (response.status !== 200) {
        throw googleRefusal(response, { clock, what: `Google's ${path.split("/")[0]}` });
      }
      const value = jsonOf(response);
      if (typeof value === "object" && value !== null) return value;
      throw sourceError("protocol", `Google's ${path}: expected a JSON object, got something else`);
    },
    async execute({ device, label, command, params, purpose, signal, onWait, hasTurn }) {
      const [, name = command] = command.split(".");
      if (!hasTurn) await quota.take({ purpose, device, command: name, signal, onWait });
      const url = below(
        endpoints.sdm,
        `/v1/enterprises/${projectId}/devices/${device}:executeCommand`,
      );
      const response = await authorized(url, {
        signal,
        json: { command: `sdm.devices.commands.${command}`, params },
        timeoutMs: COMMAND_TIMEOUT_MS,
      });
      if (response.status === 429) {
        const waitMs = Math.max(quota.refused(), RATE_PAUSE_MS);
        throw googleRefusal(response, { clock, what: `${label}: ${name}`, waitMs });
      }
      if (response.status !== 200) {
        throw googleRefusal(response, { clock, what: `${label}: ${name}` });
      }
      quota.accepted();
      return { results: field(jsonOf(response), "results"), response };
    },
  };
}

/** Why a request was refused, as an error for the recorder. `what` is its subject. */
export function googleRefusal(
  response: HttpResponse,
  { clock, what, waitMs }: {
    readonly clock: Clock;
    readonly what: string;
    readonly waitMs?: number;
  },
): GoogleError {
  const { status } = response;
  const error = field(jsonOf(response), "error");
  const googleStatus = textField(error, "status") ?? `HTTP_${status}`;
  const message = textField(error, "message")?.slice(0, 300).replaceAll(/\s+/g, " ");
  const says = `${what}: Google says ${status} ${googleStatus}${
    message === undefined ? "" : `, "${message}"`
  }`;
  const asked = retryAfterMs(response.headers, clock.now());
  const fail = (
    kind: SourceErrorKind,
    { hint, pauseMs }: { readonly hint?: string; readonly pauseMs?: number } = {},
  ): GoogleError => {
    const pause = Math.max(pauseMs ?? 0, asked ?? 0, waitMs ?? 0);
    return Object.assign(
      sourceError(
        kind,
        hint === undefined ? says : `${says}: ${hint}`,
        pause > 0 ? { retryAfterMs: pause } : {},
      ),
      { googleStatus },
    );
  };
  if (status === 401) {
    return fail("auth", { hint: "the token is refused although it was just renewed" });
  }
  if (status === 403) {
    return fail("auth", {
      hint: "does the project id belong to this OAuth client, and was this home shared with it? " +
        "Run camsink init to consent again",
      pauseMs: RATE_PAUSE_MS,
    });
  }
  if (status === 404) {
    return fail("offline", {
      hint: "the device or the project is not known, or is no longer shared",
      pauseMs: CONFLICT_PAUSE_MS,
    });
  }
  if (status === 409) {
    return fail("rate", {
      hint: "a stream of this camera is still open",
      pauseMs: CONFLICT_PAUSE_MS,
    });
  }
  if (status === 429) {
    return fail("rate", { hint: "asked too often", pauseMs: RATE_PAUSE_MS });
  }
  if (status === 400 && googleStatus === "FAILED_PRECONDITION") return fail("offline");
  if (status >= 500) {
    return asked === undefined
      ? Object.assign(passingError("offline", says), { googleStatus })
      : fail("offline");
  }
  return fail("protocol");
}
