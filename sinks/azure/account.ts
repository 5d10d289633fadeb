/**
 * What an Azure credential says about itself: which account it reaches, until when, and what it may
 * do. Everything that can be known without asking Azure is checked here, so that a wrong credential
 * is refused when Camsink starts and not when the first clip is ready.
 *
 * A shared access signature (SAS) is a query string: `sv` version, `ss`+`srt` services and resource
 * types (an account SAS) or `sr` resource (a service SAS), `sp` permissions, `se` expiry, `si` a
 * policy stored on the server that may hold the last two, `sig` the signature
 * (https://learn.microsoft.com/rest/api/storageservices/delegate-access-with-shared-access-signature).
 *
 * @module
 */
import { SinkError } from "../../mod.ts";

/** A parsed SAS. */
export interface Sas {
  /** Without `?`; secret. */
  readonly token: string;
  /** Expiry, wall ms; absent where a stored policy holds it. */
  readonly expiresAtMs?: number;
  /** Start of validity, wall ms. */
  readonly startsAtMs?: number;
  /** The letters of `sp`; absent where a stored policy holds them. */
  readonly permissions?: string;
  /** Signed for one container only. */
  readonly oneContainer: boolean;
  /** May make and delete containers, as far as `sp` allows. */
  readonly containers: boolean;
}

/** Where clips go and by what right. */
export interface Account {
  /** `https://NAME.blob.core.windows.net`, without query and without a slash at the end. */
  readonly serviceUrl: string;
  readonly sas?: Sas;
  readonly sharedKey?: { readonly name: string; readonly key: string };
  /** Tokens of Entra ID: what they allow is for the roles to say. */
  readonly identity?: true;
  /** The container that a container SAS URL names. */
  readonly container?: string;
}

/** The credential texts, revealed. */
export interface CredentialTexts {
  readonly account?: string;
  readonly accountKey?: string;
  /** Whether an identity is used in place of a secret. */
  readonly identity?: boolean;
  readonly sasToken?: string;
  readonly connectionString?: string;
  readonly containerSasUrl?: string;
  readonly endpoint?: string;
}

/** The emulator's well-known account; public by design. */
const EMULATOR = {
  name: "devstoreaccount1",
  key: "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
  url: "http://127.0.0.1:10000/devstoreaccount1",
} as const;

/**
 * Understands a credential.
 *
 * @throws {@linkcode SinkError} of kind `auth` that never contains the credential
 */
export function readAccount(texts: CredentialTexts): Account {
  const account = readTexts(texts);
  checkHost(account, texts.account);
  return account;
}

/**
 * Refuses a host that cannot take clips: the account's other services and the read-only copy in its
 * second region have names so alike that they are easily pasted in place of the right one.
 */
function checkHost({ serviceUrl, sharedKey }: Account, named: string | undefined): void {
  const host = URL.canParse(serviceUrl) ? new URL(serviceUrl).hostname : "";
  // With a DNS zone: ACCOUNT.z01.blob.storage.azure.net.
  const [, account = "", service = ""] =
    /^([a-z0-9-]+)\.(?:z\d+\.)?(blob|file|queue|table|dfs|web)\.(?:core\.|storage\.azure\.)/
      .exec(host) ?? [];
  if (service !== "" && service !== "blob") {
    throw refused(
      `the host ${host} is not for blobs but another service of the account; expected ` +
        `${host.replace(`.${service}.`, ".blob.")}`,
    );
  }
  if (account.endsWith("-secondary")) {
    throw refused(
      `the host ${host} is the account's read-only copy in another region; expected ` +
        host.replace("-secondary.", "."),
    );
  }
  const name = sharedKey?.name ?? named;
  if (account !== "" && name !== undefined && name !== account) {
    throw refused(
      `the host ${host} is the account ${account}'s, but the credential is for the account ${name}; ` +
        "expected one account for both",
    );
  }
}

function readTexts(texts: CredentialTexts): Account {
  if (texts.containerSasUrl !== undefined) return readContainerUrl(texts.containerSasUrl);
  if (texts.connectionString !== undefined) {
    return readConnectionString(texts.connectionString, texts.endpoint);
  }
  const serviceUrl = texts.endpoint ?? `https://${texts.account}.blob.core.windows.net`;
  if (texts.identity) {
    if (!serviceUrl.startsWith("https:")) {
      throw refused(
        `the endpoint ${serviceUrl} is not https, and a token is never sent without TLS`,
      );
    }
    return { serviceUrl: trimUrl(serviceUrl), identity: true };
  }
  if (texts.accountKey !== undefined) {
    const key = texts.accountKey.trim();
    checkKey(key, "accountKey");
    return { serviceUrl: trimUrl(serviceUrl), sharedKey: { name: texts.account ?? "", key } };
  }
  return { serviceUrl: trimUrl(serviceUrl), sas: readSas(texts.sasToken ?? "", "sasToken") };
}

function readContainerUrl(text: string): Account {
  if (!URL.canParse(text)) {
    throw refused(
      "containerSasUrl is not a URL; expected https://ACCOUNT.../CONTAINER?sv=...&sig=...",
    );
  }
  const url = new URL(text);
  const path = url.pathname.split("/").filter((part) => part !== "");
  const container = path.pop();
  if (container === undefined) {
    throw refused(
      "containerSasUrl names no container; expected https://ACCOUNT.../CONTAINER?sv=...",
    );
  }
  return {
    serviceUrl: trimUrl([url.origin, ...path].join("/")),
    container,
    sas: { ...readSas(url.search, "containerSasUrl"), oneContainer: true, containers: false },
  };
}

function readConnectionString(text: string, endpoint: string | undefined): Account {
  const parts = new Map<string, string>();
  for (const part of text.split(";")) {
    const equals = part.indexOf("=");
    if (equals > 0) {
      parts.set(part.slice(0, equals).trim().toLowerCase(), part.slice(equals + 1).trim());
    }
  }
  if (parts.get("usedevelopmentstorage")?.toLowerCase() === "true") {
    return {
      serviceUrl: trimUrl(endpoint ?? EMULATOR.url),
      sharedKey: { name: EMULATOR.name, key: EMULATOR.key },
    };
  }
  const name = parts.get("accountname");
  const key = parts.get("accountkey");
  const signature = parts.get("sharedaccesssignature");
  const url = endpoint ?? parts.get("blobendpoint") ?? (name &&
    `${parts.get("defaultendpointsprotocol") ?? "https"}://${name}.blob.${
      parts.get("endpointsuffix") ?? "core.windows.net"
    }`);
  if (url === undefined || !URL.canParse(url)) {
    throw refused(
      "connectionString names no account: expected AccountName=... or BlobEndpoint=... in it " +
        '(copy it whole from "Access keys" in the Azure portal)',
    );
  }
  const serviceUrl = trimUrl(url);
  if (signature !== undefined) return { serviceUrl, sas: readSas(signature, "connectionString") };
  if (name === undefined || key === undefined) {
    throw refused(
      "connectionString holds no credential: expected AccountName=... with AccountKey=..., or " +
        "SharedAccessSignature=... in it",
    );
  }
  checkKey(key, "the AccountKey in connectionString");
  return { serviceUrl, sharedKey: { name, key } };
}

function checkKey(key: string, what: string): void {
  if (!/^[A-Za-z0-9+/]+=*$/.test(key) || key.length % 4 !== 0) {
    throw refused(`${what} is not base64; copy it whole from the portal`);
  }
}

/** Understands a SAS token and refuses one that could not store a clip. */
function readSas(text: string, option: string): Sas {
  const token = text.trim().replace(/^[^?]*\?/, "");
  const fields = new URLSearchParams(token);
  const get = (name: string) => fields.get(name) ?? undefined;
  if (get("sig") === undefined || get("sv") === undefined) {
    throw refused(
      `${option} is no shared access signature: expected a text like sv=...&sp=c...&sig=... ` +
        '("Shared access tokens" in the Azure portal)',
    );
  }
  const permissions = get("sp");
  const [services, types, resource] = [get("ss"), get("srt"), get("sr")];
  if (services !== undefined && !services.includes("b")) {
    throw refused(`${option} is for the services ss=${services}; expected b (blob) among them`);
  }
  if (types !== undefined && !types.includes("o")) {
    throw refused(
      `${option} is for the resource types srt=${types}; expected o (object) among them`,
    );
  }
  if (resource !== undefined && resource !== "c" && resource !== "d") {
    throw refused(`${option} is for a single blob (sr=${resource}); expected a container (sr=c)`);
  }
  if (permissions !== undefined && !/[cw]/.test(permissions)) {
    throw refused(
      `${option} has the permissions sp=${permissions}; c (create) or w (write) is missing: make a ` +
        "new one with it",
    );
  }
  return {
    token,
    ...timeField(get("se"), "expiresAtMs", option),
    ...timeField(get("st"), "startsAtMs", option),
    ...(permissions === undefined ? {} : { permissions }),
    oneContainer: resource !== undefined,
    containers: types?.includes("c") ?? false,
  };
}

function timeField<Name extends string>(
  text: string | undefined,
  name: Name,
  option: string,
): { [key in Name]?: number } {
  if (text === undefined) return {};
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) {
    throw refused(
      `${option} holds the time ${JSON.stringify(text)}; expected ISO 8601 in se= and st=`,
    );
  }
  return { [name]: ms } as { [key in Name]?: number };
}

/** Whether the credential grants what one letter of `sp` stands for; `undefined` = not known. */
export function may(account: Account, letter: "r" | "c" | "w" | "d" | "t"): boolean | undefined {
  if (account.sharedKey !== undefined) return true;
  return account.sas?.permissions?.includes(letter);
}

/** Whether the credential can make (`c`) or delete (`d`) containers. */
export function mayContainers(account: Account, letter: "c" | "d"): boolean {
  if (account.sharedKey !== undefined || account.identity) return true;
  const { sas } = account;
  if (sas === undefined || !sas.containers || sas.permissions === undefined) return false;
  return letter === "c" ? /[cw]/.test(sas.permissions) : sas.permissions.includes("d");
}

function refused(message: string): SinkError {
  return new SinkError("auth", message);
}

function trimUrl(url: string): string {
  return url.replace(/\/+$/, "");
}
