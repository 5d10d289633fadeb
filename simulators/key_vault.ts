/**
 * Azure Key Vault's secrets on loopback, over HTTPS as the real one: it answers the first request
 * with a challenge that names the tenant and the resource, takes only tokens that the simulated Entra
 * ID handed out, and refuses as the real one does.
 *
 * https://learn.microsoft.com/rest/api/keyvault/secrets/get-secret/get-secret, and for errors
 * https://learn.microsoft.com/azure/key-vault/general/rest-error-codes.
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import type { AzureIdentitySimulator } from "./azure_identity.ts";
import { json, listenOnLoopback, type ServerTls } from "./http_server.ts";

/** A running vault. Everything that may change is a plain field. */
export interface KeyVaultSimulator extends AsyncDisposable {
  /** `https://127.0.0.1:PORT` */
  readonly url: string;
  /** Sets a secret: a new version. Gives the version's name. */
  set(name: string, value: string): string;
  /** Whether the login may read. */
  isAllowed: boolean;
  /** Answer everything with this status. */
  broken: number | undefined;
  /** Names of secrets that are switched off. */
  readonly disabled: Set<string>;
  /** `METHOD path` with the status that was answered. */
  readonly requests: string[];
}

const RESOURCE = "https://vault.azure.net";

/** Starts a vault that takes the tokens of a simulated Entra ID. */
export async function startKeyVault(
  options: { readonly tls: ServerTls; readonly identity: AzureIdentitySimulator },
): Promise<KeyVaultSimulator> {
  const { identity } = options;
  const secrets = new Map<string, { version: string; value: string; atSeconds: number }[]>();
  const requests: string[] = [];
  const server = await listenOnLoopback({
    tls: options.tls,
    handle: (asked) => {
      const answer = (status: number, value: unknown, headers: Record<string, string> = {}) => {
        requests.push(`${asked.method} ${asked.path} ${status}`);
        return json(value, {
          status,
          headers: { "x-ms-keyvault-region": "westeurope", ...headers },
        });
      };
      const refuse = (status: number, code: string, message: string, inner?: string) =>
        answer(status, {
          error: { code, message, ...(inner === undefined ? {} : { innererror: { code: inner } }) },
        });
      if (sim.broken !== undefined) {
        return refuse(sim.broken, "ServiceUnavailable", "The service is unavailable.");
      }
      const [, scheme, token = ""] = /^(Bearer) (.+)$/.exec(asked.header("authorization")) ?? [];
      if (scheme === undefined || !identity.isGood(token, RESOURCE)) {
        const text = scheme === undefined
          ? "AKV10000: Request is missing a Bearer or PoP token."
          : "AKV10022: Invalid audience, or the token has expired.";
        return answer(401, { error: { code: "Unauthorized", message: text } }, {
          "www-authenticate":
            `Bearer authorization="${identity.authority}/${identity.tenantId}", resource="${RESOURCE}"`,
        });
      }
      if (!asked.query.has("api-version")) {
        return refuse(400, "BadParameter", "api-version must be specified");
      }
      const [, name = "", version = ""] =
        /^\/secrets\/([0-9A-Za-z-]{1,127})(?:\/([^/]*))?\/?$/.exec(asked.path) ?? [];
      if (name === "" || asked.method !== "GET") {
        return refuse(405, "MethodNotAllowed", "Method not allowed.");
      }
      if (!sim.isAllowed) {
        return refuse(
          403,
          "Forbidden",
          "Caller is not authorized to perform action on resource.\r\nIf role assignments were " +
            "changed recently, please observe propagation time.\r\nAction: " +
            "'Microsoft.KeyVault/vaults/secrets/getSecret/action'",
          "ForbiddenByRbac",
        );
      }
      const versions = secrets.get(name) ?? [];
      const found = version === ""
        ? versions.at(-1)
        : versions.find((candidate) => candidate.version === version);
      if (found === undefined) {
        return refuse(
          404,
          "SecretNotFound",
          `A secret with (name/id) ${name}${version && `/${version}`} was not found in this key ` +
            "vault. If you recently deleted this secret you may be able to recover it.",
        );
      }
      if (sim.disabled.has(name)) {
        return refuse(
          403,
          "Forbidden",
          "Operation get is not allowed on a disabled secret.",
          "SecretDisabled",
        );
      }
      return answer(200, {
        value: found.value,
        id: `${server.url}/secrets/${name}/${found.version}`,
        attributes: {
          enabled: true,
          created: found.atSeconds,
          updated: found.atSeconds,
          recoveryLevel: "Recoverable+Purgeable",
          recoverableDays: 90,
        },
        tags: {},
      });
    },
  });
  const sim: KeyVaultSimulator = {
    url: server.url,
    set: (name, value) => {
      const version = randomUUID().replaceAll("-", "");
      const versions = secrets.get(name) ?? [];
      versions.push({ version, value, atSeconds: Math.floor(Date.now() / 1000) });
      secrets.set(name, versions);
      return version;
    },
    isAllowed: true,
    broken: undefined,
    disabled: new Set(),
    requests,
    [Symbol.asyncDispose]: () => server.close(),
  };
  return sim;
}
