/**
 * What Azure's refusals mean and what to do about them. The SDK's errors carry the whole request,
 * signature included, so they are never passed on as a cause: only status, code and the first line
 * of the answer are taken over.
 *
 * Codes: https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes.
 *
 * @module
 */
import { SinkError, type SinkErrorKind } from "../../mod.ts";

/** What is known of a failed request. */
export interface Failure {
  /** HTTP status; absent if no answer came. */
  readonly status?: number;
  /** Azure's code, or the operating system's. */
  readonly code: string;
  /** First line of the answer, without secrets. */
  readonly text: string;
  readonly retryAfterMs?: number;
  /** The server's clock minus ours, ms. */
  readonly skewMs?: number;
  /** Where the server said that the account lies: its host, no more. */
  readonly movedTo?: string;
  /** Whether the answer has one of the marks that all of Azure's have. */
  readonly isAzure?: boolean;
}

/** Takes apart whatever the SDK threw. */
export function failureOf(error: unknown, nowMs: number): Failure {
  const fields: Record<string, unknown> = error instanceof Error ? { ...error } : {};
  const message = error instanceof Error ? error.message : String(error);
  const status = typeof fields.statusCode === "number" ? fields.statusCode : undefined;
  const header = headersOf(error);
  const retryAfterMs = retryAfter(header, nowMs);
  const dateMs = Date.parse(header("date") ?? "");
  const location = header("location") ?? "";
  return {
    ...(status === undefined ? {} : { status }),
    code: header("x-ms-error-code") ?? (typeof fields.code === "string" ? fields.code : ""),
    text: withoutSecrets(message.split("\n", 1)[0] ?? ""),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(Number.isNaN(dateMs) ? {} : { skewMs: dateMs - nowMs }),
    ...(URL.canParse(location) ? { movedTo: new URL(location).host } : {}),
    isAzure: ["x-ms-error-code", "x-ms-request-id", "x-ms-version"]
      .some((name) => header(name) !== undefined),
  };
}

/** The signature of a SAS must never be seen, wherever it turns up. */
export function withoutSecrets(text: string): string {
  return text.replace(/(sig=|AccountKey=)[^&\s"';]+/gi, "$1***").replace(/\?sv=\S*/g, "?***");
}

/** The remedy for a failed request. `doing` names it: `cannot store yard/….mp4`. */
export function sinkErrorOf(failure: Failure, doing: string): SinkError {
  const { status, code, text, retryAfterMs } = failure;
  const [kind, advice] = remedy(failure);
  const answer = status === undefined
    ? `no answer from Azure (${code || text})`
    : `Azure answered ${status}${code ? ` ${code}` : ""}`; // or whoever is there in its place
  const cause = new Error(text);
  cause.name = "AzureError";
  return new SinkError(kind, `${doing}: ${answer}${advice ? `: ${advice}` : ""}`, {
    cause,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    // Azure needs at least 30 s to delete a container, and no name can be used again before.
    ...(code === "ContainerBeingDeleted" ? { retryAfterMs: retryAfterMs ?? 30_000 } : {}),
  });
}

function remedy(failure: Failure): [SinkErrorKind, string] {
  const { status, code } = failure;
  const byCode = BY_CODE[code];
  if (byCode !== undefined && code !== "AuthenticationFailed") return byCode;
  if (status === undefined) return ["retry", NO_ANSWER[code] ?? ""];
  if (status >= 300 && status < 400 || status === 421) return ["retry", movedAdvice(failure)];
  if (status === 401 || status === 403) return ["auth", authAdvice(failure)];
  if ((status === 404 || status === 405) && !failure.isAzure) return ["retry", NOT_AZURE];
  if (status === 507) return ["full", "the account has no room: free some, or raise its limit"];
  if (status === 400 || status === 411 || status === 413 || status === 416) {
    return ["permanent", `Azure will not take this clip as it is (${failure.text})`];
  }
  return ["retry", ""];
}

/** Azure moves nobody on: an account has one host. A proxy, a login page or a mistake does. */
function movedAdvice({ movedTo }: Failure): string {
  const where = movedTo === undefined ? "elsewhere" : `to ${movedTo}`;
  return `this host sends the request on ${where}, which is not followed, for the credential must ` +
    'not go to another host: set "account", "endpoint" or the connection string to the account\'s own ' +
    'host ("Endpoints" in the Azure portal); or a network\'s login page is in between';
}

const NOT_AZURE = "what answers there is not the blob service of an account: check the host in " +
  '"endpoint" or the connection string (expected https://ACCOUNT.blob.core.windows.net, or what ' +
  '"Endpoints" in the Azure portal says)';

function authAdvice(failure: Failure): string {
  const skewMs = failure.skewMs ?? 0;
  if (Math.abs(skewMs) > 5 * 60_000) {
    return `this machine's clock is ${Math.round(Math.abs(skewMs) / 60_000)} minutes ${
      skewMs > 0 ? "behind" : "ahead of"
    } Azure's: set it right (NTP)`;
  }
  if (failure.code === "AuthenticationFailed") {
    return "the credential is wrong or has expired, or is another account's: put a new one where the " +
      "configuration points";
  }
  return "the credential does not allow this";
}

const NEEDS_PERMISSION =
  "the credential lacks a permission: a SAS needs c (create), or w (write) for clips in blocks; for " +
  "`verify` and comparing r (read), to remove d (delete); an identity needs the role Storage Blob " +
  "Data Contributor on the account (a new role takes some minutes)";

const BY_CODE: Readonly<Record<string, [SinkErrorKind, string]>> = {
  AuthorizationPermissionMismatch: ["auth", NEEDS_PERMISSION],
  InsufficientAccountPermissions: ["auth", NEEDS_PERMISSION],
  UnauthorizedBlobOverwrite: ["auth", NEEDS_PERMISSION],
  AuthorizationResourceTypeMismatch: [
    "auth",
    "the account SAS lacks a resource type: expected srt=co (containers and objects)",
  ],
  AuthorizationServiceMismatch: ["auth", "the account SAS is not for blobs: expected b in ss="],
  AuthorizationProtocolMismatch: ["auth", "the SAS is for https only: use an https endpoint"],
  AuthorizationSourceIPMismatch: ["auth", "the SAS is not for this machine's address (sip=)"],
  AuthorizationFailure: [
    "auth",
    "the storage account's firewall or its rules refuse this machine: allow it under Networking",
  ],
  KeyBasedAuthenticationNotPermitted: [
    "auth",
    "the account does not allow keys: use an identity (see the option identity) or a user delegation " +
    "SAS, or allow shared key access",
  ],
  AccountIsDisabled: ["auth", "the storage account is disabled"],
  ContainerNotFound: [
    "auth",
    "the container does not exist and the credential cannot make it: create it, or use an account " +
    "SAS with srt=co and sp=c",
  ],
  ContainerDisabled: ["auth", "the container is disabled"],
  InvalidAuthenticationInfo: [
    "auth",
    "the credential is not for this account: a key belongs to one account, and an identity's token to " +
    'one tenant and cloud (see "tenantId" and "authority")',
  ],
  // Known by these alone: a host of the right cloud, but not of this account's blobs.
  InvalidUri: ["retry", NOT_AZURE],
  ResourceNotFound: ["retry", NOT_AZURE],
  UnsupportedHttpVerb: ["retry", NOT_AZURE],
  ContainerBeingDeleted: ["retry", "the container is being deleted; it is made again afterwards"],
  AccountBeingCreated: ["retry", ""],
  Md5Mismatch: ["retry", "the bytes were damaged on the way"],
  InvalidBlobType: ["conflict", "a blob of another type has this name"],
  BlobAlreadyExists: ["conflict", "another blob has this name"],
  BlobImmutableDueToPolicy: ["conflict", "an immutable blob has this name"],
  ConditionNotMet: ["conflict", "another blob has this name"],
};

const NO_ANSWER: Readonly<Record<string, string>> = {
  ENOTFOUND:
    "the host is unknown: check the account's name and the network; an account in another " +
    'cloud (China, US Government) or with a DNS zone of its own needs "endpoint" as the Azure portal ' +
    "says it",
  EAI_AGAIN: "the name server does not answer: check the network",
  ECONNREFUSED: "nothing listens there: check the endpoint, or start the emulator",
};

function headersOf(error: unknown): (name: string) => string | undefined {
  if (!(error instanceof Error) || !("response" in error)) return () => undefined;
  const { response } = error;
  if (typeof response !== "object" || response === null || !("headers" in response)) {
    return () => undefined;
  }
  const { headers } = response;
  if (typeof headers !== "object" || headers === null || !("get" in headers)) {
    return () => undefined;
  }
  const { get } = headers;
  if (typeof get !== "function") return () => undefined;
  return (name) => {
    const value: unknown = get.call(headers, name);
    return typeof value === "string" && value !== "" ? value : undefined;
  };
}

/** `Retry-After` in seconds or as a date, or Azure's form in ms. */
function retryAfter(
  header: (name: string) => string | undefined,
  nowMs: number,
): number | undefined {
  const exact = header("x-ms-retry-after-ms") ?? header("retry-after-ms");
  if (exact !== undefined && /^\d+$/.test(exact)) return Number(exact);
  const text = header("retry-after");
  if (text === undefined) return undefined;
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const dateMs = Date.parse(text);
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - nowMs);
}
