/**
 * Azure's own identities in place of a key or a SAS: the machine's managed identity, a Kubernetes
 * workload identity, an app with a secret, or whatever the surroundings offer. `@azure/identity` gets
 * and renews the tokens; it is loaded only when one of these is configured.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import process from "node:process";
import type { TokenCredential } from "@azure/identity";
import { SinkError, type SinkErrorKind } from "../../mod.ts";

/** Which identity, as the configuration says. */
export interface Identity {
  /**
   * `managed`: of the VM, App Service or Container App. `workload`: a token file of Kubernetes.
   * `app`: an app registration with a secret. `default`: the first that the surroundings have, in
   * the order of Azure's `DefaultAzureCredential`.
   */
  readonly kind: "default" | "managed" | "workload" | "app";
  /** Of the app, or of the user-assigned managed identity. */
  readonly clientId?: string;
  /** The Entra tenant. */
  readonly tenantId?: string;
  /** Of the app; revealed. */
  readonly clientSecret?: string;
  /** Where Kubernetes puts the federated token. */
  readonly tokenFile?: string;
  /** Where tokens are asked for; without it, that of Azure's public cloud. */
  readonly authority?: string;
  /** The PEM file of a private authority that signs the hosts' certificates. */
  readonly caFile?: string;
}

/** Makes a credential. Nothing is asked for before it is used. */
export async function identityCredential(identity: Identity): Promise<TokenCredential> {
  const sdk = await import("@azure/identity");
  const { clientId, tenantId, clientSecret, tokenFile } = identity;
  const authority = identity.authority ?? (process.env.AZURE_AUTHORITY_HOST || undefined);
  const options = {
    ...(identity.caFile ? { tlsOptions: { ca: await readFile(identity.caFile, "utf8") } } : {}),
    ...(authority === undefined ? {} : {
      authorityHost: authority,
      // Azure's directory of authorities does not know private ones.
      disableInstanceDiscovery: !/(^|\.)microsoftonline\.(com|us)$|\.chinacloudapi\.cn$/.test(
        URL.canParse(authority) ? new URL(authority).hostname : "",
      ),
    }),
  };
  try {
    switch (identity.kind) {
      case "managed":
        return new sdk.ManagedIdentityCredential({ ...options, clientId });
      case "workload":
        return new sdk.WorkloadIdentityCredential({
          ...options,
          clientId,
          tenantId,
          tokenFilePath: tokenFile,
        });
      case "app":
        return new sdk.ClientSecretCredential(
          tenantId ?? "",
          clientId ?? "",
          clientSecret ?? "",
          options,
        );
      default:
        return new sdk.DefaultAzureCredential({
          ...options,
          tenantId,
          managedIdentityClientId: clientId,
          workloadIdentityClientId: clientId,
        });
    }
  } catch (error) {
    throw identityError(error) ?? error;
  }
}

/** What to do about a token that could not be had; `undefined` if the error is about another thing. */
export function identityError(error: unknown): SinkError | undefined {
  if (!(error instanceof Error) || !NAMES.has(error.name)) return undefined;
  const reasons = "errors" in error && Array.isArray(error.errors) && error.errors.length > 0
    ? error.errors
    : [error];
  const text = [...new Set(reasons.map(shortReason))].join("; ");
  const kind = reasons.map(kindOf).includes("retry") ? "retry" : "auth";
  const advice = kind === "retry" ? "" : `: ${adviceFor(text)}`;
  const cause = new Error(text);
  cause.name = "AzureIdentityError";
  return new SinkError(kind, `no token for Azure (${text})${advice}`, { cause });
}

const NAMES = new Set([
  "CredentialUnavailableError",
  "AuthenticationError",
  "AggregateAuthenticationError",
  "AuthenticationRequiredError",
]);

function kindOf(error: unknown): SinkErrorKind {
  if (!(error instanceof Error)) return "auth";
  if ("statusCode" in error && typeof error.statusCode === "number") {
    const { statusCode } = error;
    return statusCode >= 500 || statusCode === 429 || statusCode === 408 ? "retry" : "auth";
  }
  // An identity service that cannot be reached just now, not one that is not there.
  return /network unreachable|network_error|endpoints_resolution_error|ECONNRESET|EAI_AGAIN|ETIMEDOUT|\b50[0-9]\b/i
      .test(error.message)
    ? "retry"
    : "auth";
}

/** The line of an SDK's error that says most, short. */
function shortReason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const code = /AADSTS\d+:[^\r\n.]*/.exec(message)?.[0];
  const described = /Description: (.+?) - Correlation ID/.exec(message)?.[1];
  if (code === undefined && described !== undefined) return described;
  const lines = message.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const text = code ?? lines[0] ?? "no reason given";
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

function adviceFor(text: string): string {
  if (/AADSTS7000215|AADSTS7000222/.test(text)) {
    return "put the app's present secret where clientSecret points";
  }
  if (/AADSTS90002|AADSTS700016|AADSTS900023/.test(text)) return "check tenantId and clientId";
  if (/AADSTS7002\d|AADSTS70021/.test(text)) {
    return "check the federated credential of the app: issuer, subject and audience must be those " +
      "of the token file";
  }
  if (/identity not found/i.test(text)) {
    return "switch the managed identity on for this machine, or check clientId";
  }
  return "give this machine an identity that Azure knows, or use another credential";
}
