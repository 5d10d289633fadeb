/**
 * Requests to the Nest cloud: the headers that it wants to see, its answers as JSON, and its
 * refusals in plain words. Which request is made when is in `login.ts`, `discovery.ts` and
 * `camera.ts`.
 *
 * @module
 */
import { type Clock, type SourceError, sourceError, type SourceErrorKind } from "../../types.ts";
import { describeUrl } from "../hosts.ts";
import { type Http, type HttpResponse, passingError, retryAfterMs } from "../http.ts";
import type { NestEndpoints } from "./options.ts";

/** One request to the cloud. */
export interface NestRequest {
  readonly signal: AbortSignal;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON by POST. */
  readonly json?: unknown;
  /** Sent as a form by POST. */
  readonly form?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
  readonly maxBytes?: number;
}

/** The cloud, as its endpoints are set. */
export interface NestApi {
  readonly clock: Clock;
  readonly endpoints: NestEndpoints;
  /** One exchange; redirects are never followed, so that no login ever reaches another host. */
  request(url: URL, request: NestRequest): Promise<HttpResponse>;
}

const LOGIN_TIMEOUT_MS = 15_000;
/** A house full of devices gives some hundred kilobytes. */
const MAX_JSON_BYTES = 8 * 2 ** 20;

/** Makes the requests of one account over `http`. */
export function createNestApi(
  { http, clock, endpoints, userAgent }: {
    readonly http: Http;
    readonly clock: Clock;
    readonly endpoints: NestEndpoints;
    readonly userAgent: string;
  },
): NestApi {
  return { clock, endpoints, request: requestAsSite({ http, userAgent }) };
}

/** Makes requests as the page https://home.nest.com does. */
export function requestAsSite(
  { http, userAgent }: { readonly http: Http; readonly userAgent: string },
): NestApi["request"] {
  const site = "https://home.nest.com";
  return (url, { signal, headers, json, form, timeoutMs, maxBytes }) => {
    const body = json !== undefined
      ? { type: "application/json", text: JSON.stringify(json) }
      : form !== undefined
      ? { type: "application/x-www-form-urlencoded", text: new URLSearchParams(form).toString() }
      : undefined;
    return http.request(url, {
      signal,
      timeoutMs: timeoutMs ?? LOGIN_TIMEOUT_MS,
      maxBytes: maxBytes ?? MAX_JSON_BYTES,
      method: body ? "POST" : "GET",
      ...(body ? { body: body.text } : {}),
      headers: {
        "accept": "*/*",
        "origin": site,
        "referer": `${site}/`,
        "sec-fetch-mode": "cors",
        "sec-fetch-site": "same-origin",
        "user-agent": userAgent,
        ...(body ? { "content-type": body.type } : {}),
        ...headers,
      },
    });
  };
}

/** A path below an endpoint, which may itself have a path: a server may stand in for several. */
export function below(endpoint: URL, path: string): URL {
  return new URL(endpoint.pathname.replace(/\/$/, "") + path, endpoint);
}

/** The answer as JSON, where it is some. */
export function jsonOf(response: HttpResponse): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(response.bytes));
  } catch {
    return undefined;
  }
}

/** A JSON object's field, or `undefined` for anything that is no object. */
export function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;
}

/** A field that is text and not empty. */
export function textField(value: unknown, name: string): string | undefined {
  const found = field(value, name);
  return typeof found === "string" && found !== "" ? found : undefined;
}

/**
 * Why an answer is of no use, as an error. `refused` says what a refusal (401, 403) means at this
 * step, and what to do about it.
 */
export function refusal(
  response: HttpResponse,
  { clock, refused }: { readonly clock: Clock; readonly refused: string },
): SourceError {
  const { status, headers, url } = response;
  const what = describeUrl(url);
  const waitMs = retryAfterMs(headers, clock.now());
  const fail = (kind: SourceErrorKind, problem: string) =>
    sourceError(
      kind,
      `${what}: ${problem}`,
      waitMs === undefined ? {} : { retryAfterMs: waitMs },
    );
  if (status === 401 || status === 403) return fail("auth", `${refused} (status ${status})`);
  if (status === 406) {
    return fail("auth", 'the cloud does not accept the user agent (406): leave out "userAgent"');
  }
  if (status === 429) return fail("rate", "asked too often (429)");
  if (status >= 500) {
    return waitMs === undefined
      ? passingError("offline", `${what}: the cloud has a problem of its own (status ${status})`)
      : fail("offline", `the cloud has a problem of its own (status ${status})`);
  }
  if (status >= 300 && status < 400) {
    return fail(
      "protocol",
      `the cloud sends us elsewhere (status ${status}), which is not followed`,
    );
  }
  return fail("protocol", `expected an answer with status 200, got ${status}`);
}
