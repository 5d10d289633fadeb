/**
 * The places where Azure hands out tokens, on loopback: the instance metadata service of a VM (IMDS),
 * the identity endpoint of App Service and Container Apps, and Entra ID's token endpoint for apps with
 * a secret or a federated token. Each is as strict as the real one about headers, API versions and
 * what it accepts; the tokens are of the right form, but signed by nobody.
 *
 * - IMDS: https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
 * - App Service: https://learn.microsoft.com/azure/app-service/overview-managed-identity (REST)
 * - Entra: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { randomUUID } from "node:crypto";
import {
  type Answer,
  type Asked,
  asRecord,
  json,
  listenOnLoopback,
  type ServerTls,
} from "./http_server.ts";

/** What the simulated directory knows. */
export interface AzureIdentityOptions {
  /** Entra ID is https; the two others are http, as in Azure. */
  readonly tls: ServerTls;
  /** The header that App Service demands; it stands in IDENTITY_HEADER. */
  readonly identityHeader?: string;
  /** Wall time, ms. */
  readonly now?: () => number;
}

/** The running places. Everything that may change is a plain field. */
export interface AzureIdentitySimulator extends AsyncDisposable {
  /** For `authority` or AZURE_AUTHORITY_HOST: Entra ID, https. */
  readonly authority: string;
  /** `http://127.0.0.1:PORT`: in place of 169.254.169.254 (AZURE_POD_IDENTITY_AUTHORITY_HOST). */
  readonly imdsUrl: string;
  /** For IDENTITY_ENDPOINT; IDENTITY_HEADER goes with it. */
  readonly identityEndpoint: string;
  readonly identityHeader: string;
  readonly tenantId: string;
  /** The app registration, and the user-assigned identity of the machine. */
  readonly clientId: string;
  /** What the app's secret is now. */
  clientSecret: string;
  /** The federated token that is taken. */
  federatedToken: string;
  /** Whether the machine has an identity. */
  hasManagedIdentity: boolean;
  /** How long tokens are good, seconds. */
  lifeSeconds: number;
  /** Answer everything with this status. */
  broken: number | undefined;
  /** `METHOD path` and what was asked for, in order. */
  readonly requests: { readonly where: "imds" | "app-service" | "entra"; readonly text: string }[];
  /** Every token handed out. */
  readonly tokens: string[];
  /** Whether a token was handed out here for this resource and holds now. */
  isGood(token: string, resource: string): boolean;
}

/** Starts all three. */
export async function startAzureIdentity(
  options: AzureIdentityOptions,
): Promise<AzureIdentitySimulator> {
  const now = options.now ?? Date.now;
  const requests: AzureIdentitySimulator["requests"] = [];

  const token = (resource: string): { text: string; expiresOn: number } => {
    const seconds = Math.floor(now() / 1000);
    const expiresOn = seconds + sim.lifeSeconds;
    const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const text = [
      part({ typ: "JWT", alg: "RS256", kid: "camsink" }),
      part({
        aud: resource,
        iss: `https://sts.windows.net/${sim.tenantId}/`,
        iat: seconds,
        nbf: seconds - 300,
        exp: expiresOn,
        appid: sim.clientId,
        tid: sim.tenantId,
        uti: randomUUID(),
        ver: "1.0",
      }),
      Buffer.from(randomUUID()).toString("base64url"),
    ].join(".");
    sim.tokens.push(text);
    return { text, expiresOn };
  };
  const refuse = (status: number, error: string, description: string): Answer =>
    json({ error, error_description: description }, { status });
  const note = (where: "imds" | "app-service" | "entra", asked: Asked, more = "") => {
    requests.push({ where, text: `${asked.method} ${asked.path} ${more}`.trim() });
  };
  /** The answer that IMDS and App Service have in common. */
  const managed = (asked: Asked, extra: Record<string, unknown>): Answer => {
    const resource = asked.query.get("resource") ?? "";
    if (resource === "") return refuse(400, "invalid_resource", "resource is missing");
    const wanted = asked.query.get("client_id");
    if (!sim.hasManagedIdentity || wanted !== null && wanted !== sim.clientId) {
      return refuse(400, "invalid_request", "Identity not found");
    }
    const { text, expiresOn } = token(resource.replace(/\/$/, ""));
    return json({
      access_token: text,
      client_id: sim.clientId,
      expires_on: String(expiresOn),
      resource,
      token_type: "Bearer",
      ...extra,
    });
  };

  const imds = await listenOnLoopback({
    handle: (asked) => {
      note("imds", asked, asked.query.get("resource") ?? "");
      if (sim.broken !== undefined) return { status: sim.broken };
      if (asked.path.replace(/\/$/, "") !== "/metadata/identity/oauth2/token") {
        return { status: 404 };
      }
      if (asked.header("metadata") !== "true" || asked.header("x-forwarded-for") !== "") {
        return refuse(400, "invalid_request", "Required metadata header not specified");
      }
      if (!asked.query.has("api-version")) {
        return refuse(400, "bad_request", "Required audience parameter not specified");
      }
      return managed(asked, {
        expires_in: String(sim.lifeSeconds),
        ext_expires_in: String(sim.lifeSeconds),
        not_before: String(Math.floor(now() / 1000) - 300),
      });
    },
  });
  const appService = await listenOnLoopback({
    handle: (asked) => {
      note("app-service", asked, asked.query.get("resource") ?? "");
      if (sim.broken !== undefined) return { status: sim.broken };
      if (asked.header("x-identity-header") !== sim.identityHeader) {
        return json({ statusCode: 401, message: "Unauthorized" }, { status: 401 });
      }
      if (!["2019-08-01", "2025-03-30"].includes(asked.query.get("api-version") ?? "")) {
        return json({ statusCode: 400, message: "UnsupportedApiVersion" }, { status: 400 });
      }
      return managed(asked, {});
    },
  });
  const entra = await listenOnLoopback({
    tls: options.tls,
    handle: async (asked) => {
      if (sim.broken !== undefined) {
        note("entra", asked);
        return { status: sim.broken };
      }
      const [, tenant = "", ...rest] = asked.path.split("/");
      const action = rest.join("/");
      if (action === "v2.0/.well-known/openid-configuration") {
        note("entra", asked);
        const base = `${entra.url}/${tenant}`;
        return json({
          token_endpoint: `${base}/oauth2/v2.0/token`,
          authorization_endpoint: `${base}/oauth2/v2.0/authorize`,
          issuer: `${base}/v2.0`,
          jwks_uri: `${base}/discovery/v2.0/keys`,
          end_session_endpoint: `${base}/oauth2/v2.0/logout`,
        });
      }
      const form = asRecord(Object.fromEntries(new URLSearchParams(await asked.text())));
      note("entra", asked, String(form.scope ?? ""));
      if (asked.method !== "POST" || action !== "oauth2/v2.0/token") return { status: 404 };
      const fail = (status: number, error: string, code: number, words: string): Answer =>
        json({
          error,
          error_description: `AADSTS${code}: ${words} Trace ID: ${randomUUID()}`,
          error_codes: [code],
          correlation_id: randomUUID(),
        }, { status });
      if (tenant !== sim.tenantId) {
        return fail(400, "invalid_request", 90002, `Tenant '${tenant}' not found.`);
      }
      if (form.client_id !== sim.clientId) {
        return fail(
          400,
          "unauthorized_client",
          700016,
          `Application with identifier '${form.client_id}' was not found in the directory.`,
        );
      }
      const scope = String(form.scope ?? "").split(" ").find((one) => one.endsWith("/.default"));
      if (form.grant_type !== "client_credentials" || scope === undefined) {
        return fail(400, "invalid_request", 900144, "The request body must contain 'scope'.");
      }
      if (form.client_assertion !== undefined) {
        const type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        if (
          form.client_assertion_type !== type || form.client_assertion !== sim.federatedToken
        ) {
          return fail(
            401,
            "invalid_client",
            70021,
            "No matching federated identity record found for presented assertion.",
          );
        }
      } else if (form.client_secret !== sim.clientSecret) {
        return fail(401, "invalid_client", 7000215, "Invalid client secret provided.");
      }
      const { text } = token(scope.slice(0, -"/.default".length).replace(/\/$/, ""));
      return json({
        token_type: "Bearer",
        expires_in: sim.lifeSeconds,
        ext_expires_in: sim.lifeSeconds,
        access_token: text,
      });
    },
  });

  const sim: AzureIdentitySimulator = {
    authority: entra.url,
    imdsUrl: imds.url,
    identityEndpoint: `${appService.url}/msi/token`,
    identityHeader: options.identityHeader ?? randomUUID(),
    tenantId: randomUUID(),
    clientId: randomUUID(),
    clientSecret: `Q~${randomUUID()}`,
    federatedToken: `eyJ.${randomUUID()}.sig`,
    hasManagedIdentity: true,
    lifeSeconds: 86_399,
    broken: undefined,
    requests,
    tokens: [],
    isGood: (text, resource) => {
      if (!sim.tokens.includes(text)) return false;
      const claims = asRecord(
        JSON.parse(Buffer.from(text.split(".")[1] ?? "", "base64url").toString()),
      );
      return claims.aud === resource && Number(claims.exp) * 1000 > now();
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([imds.close(), appService.close(), entra.close()]);
    },
  };
  return sim;
}
