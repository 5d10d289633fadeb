/**
 * Secrets that stay in Azure Key Vault: `keyvault:https://NAME.vault.azure.net/secrets/X` or with a
 * `/VERSION` behind it. The login is the one that the surroundings offer (`DefaultAzureCredential`:
 * AZURE_* variables, workload identity, managed identity, `az login`). The Azure packages are loaded
 * at the first such secret and never before.
 *
 * A value is asked for again when it is five minutes old, or at once by somebody who was refused with
 * it. While the vault cannot be had, the last value goes on being used: a credential that works does
 * not stop working because the vault is away.
 *
 * @module
 */
/** A parsed reference. */
export interface KeyVaultReference {
  /** `https://NAME.vault.azure.net` */
  readonly vaultUrl: string;
  readonly name: string;
  /** Without it, the newest. */
  readonly version?: string;
}

/** What is expected behind `keyvault:`. */
export const KEY_VAULT_FORM = "keyvault:https://NAME.vault.azure.net/secrets/SECRET";

/** Takes a reference (without `keyvault:`) apart; `undefined` if it is none. */
export function parseKeyVaultReference(text: string): KeyVaultReference | undefined {
  if (!URL.canParse(text)) return undefined;
  const { protocol, origin, pathname, search, hash, username } = new URL(text);
  const [, name, version] = /^\/secrets\/([0-9A-Za-z-]{1,127})(?:\/([0-9A-Za-z]{1,64}))?\/?$/
    .exec(pathname) ?? [];
  if (protocol !== "https:" || name === undefined || search + hash + username !== "") {
    return undefined;
  }
  return { vaultUrl: origin, name, ...(version === undefined ? {} : { version }) };
}

/** Reads one secret from its vault. @throws as the SDK does */
export type ReadVault = (reference: KeyVaultReference) => Promise<string>;

/** A failed read, for a person. `isTemporary`: it may heal by itself. */
export class KeyVaultError extends Error {
  override readonly name = "KeyVaultError";
  /** Whether waiting may be enough. */
  readonly isTemporary: boolean;

  /** Makes one; it never holds the secret. */
  constructor(message: string, isTemporary: boolean) {
    super(message);
    this.isTemporary = isTemporary;
  }
}

const MAX_AGE_MS = 300_000;

/** Makes the reader of vaults; `read` and `monotonic` are the SDK and the machine's clock. */
export function createKeyVaults(
  { read = readWithSdk(), monotonic = () => performance.now() }: {
    readonly read?: ReadVault;
    /** Ms. */
    readonly monotonic?: () => number;
  } = {},
): (text: string, options?: { readonly maxAgeMs?: number }) => Promise<string> {
  const known = new Map<string, { value: string; atMs: number }>();
  const underWay = new Map<string, Promise<string>>();

  const fetchAgain = async (text: string): Promise<string> => {
    const reference = parseKeyVaultReference(text);
    if (reference === undefined) {
      throw new KeyVaultError(`keyvault:${text} is no secret; expected ${KEY_VAULT_FORM}`, false);
    }
    try {
      const value = await read(reference);
      known.set(text, { value, atMs: monotonic() });
      return value;
    } catch (error) {
      throw vaultError(error, reference);
    }
  };
  return async (text, { maxAgeMs } = {}) => {
    const last = known.get(text);
    if (last && monotonic() - last.atMs < (maxAgeMs ?? MAX_AGE_MS)) return last.value;
    let fetching = underWay.get(text);
    if (fetching === undefined) {
      fetching = fetchAgain(text).finally(() => underWay.delete(text));
      underWay.set(text, fetching);
    }
    if (last === undefined || maxAgeMs !== undefined) return await fetching;
    // Nobody is refused yet: what was good is used on, and the vault asked again in a while.
    return await fetching.catch(() => {
      known.set(text, { value: last.value, atMs: monotonic() - MAX_AGE_MS + 30_000 });
      return last.value;
    });
  };
}

/** What a failure means, without the SDK's request in it. */
function vaultError(error: unknown, { vaultUrl, name }: KeyVaultReference): KeyVaultError {
  const fields: Record<string, unknown> = error instanceof Error ? { ...error } : {};
  const status = typeof fields.statusCode === "number" ? fields.statusCode : undefined;
  const message = error instanceof Error ? error.message : String(error);
  const line = message.split("\n", 1)[0]?.slice(0, 200) ?? "";
  const errorName = error instanceof Error ? error.name : "";
  const where = `the secret "${name}" of the vault ${vaultUrl}`;
  const say = (text: string, isTemporary = false) =>
    new KeyVaultError(`cannot read ${where}: ${text}`, isTemporary);
  if (/Authentication|CredentialUnavailable/.test(errorName)) {
    const down = status !== undefined && (status >= 500 || status === 429) ||
      /network_error|network unreachable|endpoints_resolution_error/i.test(message);
    const reason = /AADSTS\d+:[^\r\n.]*/.exec(message)?.[0] ?? line;
    return down ? say(`the login service does not answer (${reason})`, true) : say(
      `this machine has no login for Azure (${reason}); give it a managed identity, or set ` +
        "AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET",
    );
  }
  if (status === 404) return say("the vault has none of this name: check the name and version");
  if (status === 403) {
    return /disabled|expired|not.?before/i.test(message)
      ? say(`the secret is disabled or not valid now (${line})`)
      : say(
        "the login may not read secrets: give it the role Key Vault Secrets User (or the access " +
          "policy Get), and allow this machine in the vault's firewall",
      );
  }
  if (status === 401) return say("the vault does not accept the login: check its tenant");
  if (status !== undefined && status !== 429 && status < 500) return say(`Azure answered ${line}`);
  if (status !== undefined) return say(`Azure answered ${status}; it is tried again`, true);
  const code = typeof fields.code === "string" ? fields.code : "";
  return say(
    code === "ENOTFOUND"
      ? "there is no such host: check the vault's name and the network"
      : `no answer (${code || line}): check the network`,
    true,
  );
}

/** The real thing. `tls` and `credential` are for tests against a vault on loopback. */
export function readWithSdk(
  options: { readonly caPem?: string; readonly authority?: string } = {},
): ReadVault {
  const clients = new Map<string, Promise<import("@azure/keyvault-secrets").SecretClient>>();
  const makeClient = async (vaultUrl: string) => {
    const [{ DefaultAzureCredential }, { SecretClient }] = await Promise.all([
      import("@azure/identity"),
      import("@azure/keyvault-secrets"),
    ]);
    const authority = options.authority ?? (Deno.env.get("AZURE_AUTHORITY_HOST") || undefined);
    const isPublic = authority === undefined ||
      /(^|[./])microsoftonline\.(com|us)\/?$|\.chinacloudapi\.cn\/?$/.test(authority);
    const tls = options.caPem === undefined ? {} : { tlsOptions: { ca: options.caPem } };
    const credential = new DefaultAzureCredential({
      ...tls,
      ...(authority === undefined ? {} : { authorityHost: authority }),
      disableInstanceDiscovery: !isPublic,
    });
    return new SecretClient(vaultUrl, credential, {
      ...tls,
      retryOptions: { maxRetries: 1, retryDelayInMs: 200 },
      // A vault's challenge names the domain of vaults. One on this machine has none, and a token
      // that goes to this machine goes nowhere.
      disableChallengeResourceVerification: isLoopback(vaultUrl),
    });
  };
  return async ({ vaultUrl, name, version }) => {
    let client = clients.get(vaultUrl);
    if (client === undefined) clients.set(vaultUrl, client = makeClient(vaultUrl));
    const { value } = await (await client).getSecret(name, version ? { version } : {});
    return value ?? "";
  };
}

function isLoopback(url: string): boolean {
  return /^(127\.\d+\.\d+\.\d+|localhost|\[::1\])$/.test(new URL(url).hostname);
}
