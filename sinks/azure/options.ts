/**
 * The options of the `azure-blob` sink: one of the credentials, and where to put the clips.
 *
 * @module
 */
import * as v from "valibot";
import { filePath, httpUrl, secret, size } from "../../core/config/values.ts";
import type { Secret } from "../../mod.ts";
import type { Identity } from "./identity.ts";
import { CAMERA, containerName } from "./names.ts";

/** Options of the `azure-blob` sink: one of the credentials, and where to put the clips. */
export interface AzureBlobOptions {
  /** The storage account, used with `sasToken`, `accountKey` and `identity`. */
  readonly account?: string;
  /** One of the account's two keys. */
  readonly accountKey?: Secret;
  /** An identity of Azure in place of a key or SAS, and what belongs to it. */
  readonly identity?: Identity["kind"];
  readonly clientId?: string;
  readonly tenantId?: string;
  readonly clientSecret?: Secret;
  readonly tokenFile?: string;
  readonly authority?: string;
  /** A PEM file of a private authority that signs the hosts' certificates. */
  readonly caFile?: string;
  /** A shared access signature for the account or the container. */
  readonly sasToken?: Secret;
  /** A connection string; `UseDevelopmentStorage=true` means the local emulator. */
  readonly connectionString?: Secret;
  /** The URL of one container with its shared access signature. */
  readonly containerSasUrl?: Secret;
  /** Template of the container's name; `{camera}` is the camera's folder name. */
  readonly container: string;
  /** In front of every blob's name. */
  readonly prefix: string;
  /** The blob service's URL, for other clouds and emulators. */
  readonly endpoint?: string;
  /** The access tier; the account's default if left out. */
  readonly tier?: "Hot" | "Cool" | "Cold" | "Archive";
  /** Clips longer than two of these go in blocks of this size, bytes. */
  readonly blockSize: number;
}

const CREDENTIALS = 'expected "account" with one of "sasToken", "accountKey" and "identity", or ' +
  '"connectionString", or "containerSasUrl"; secrets are given by reference, such as ' +
  '"env:AZURE_SAS"';

/** Validates them. */
export const azureBlobSchema = v.pipe(
  v.strictObject({
    account: v.optional(v.pipe(
      v.string("expected the name of a storage account"),
      v.regex(
        /^[a-z0-9]{3,24}$/,
        "expected the name of a storage account: 3 to 24 lower-case letters and digits",
      ),
      v.description("The storage account's name, for `sasToken`, `accountKey` and `identity`."),
    )),
    accountKey: v.optional(v.pipe(
      secret(),
      v.description(
        "One of the account's two keys. It may do everything: a SAS or identity may less.",
      ),
    )),
    identity: v.optional(v.pipe(
      v.picklist(
        ["default", "managed", "workload", "app"],
        'expected "default", "managed", "workload" or "app"',
      ),
      v.description(
        "An identity of Azure in place of a secret; it needs the role Storage Blob Data " +
          'Contributor. "managed": of the VM, App Service or Container App. "workload": of the ' +
          'Kubernetes pod. "app": an app registration with `clientSecret`. "default": the first ' +
          "that there is: AZURE_* variables, workload, managed, then the login of `az`.",
      ),
    )),
    clientId: v.optional(v.pipe(
      v.string("expected the id of an app or identity"),
      v.regex(/^[0-9A-Za-z-]+$/, "expected the id of an app or identity, such as a UUID"),
      v.description(
        "The app's id, or that of a user-assigned managed identity; for `workload` without it, " +
          "AZURE_CLIENT_ID.",
      ),
    )),
    tenantId: v.optional(v.pipe(
      v.string("expected the id of a tenant"),
      v.regex(/^[0-9A-Za-z.-]+$/, "expected the id or domain of a tenant"),
      v.description("The Entra tenant; for `workload` without it, AZURE_TENANT_ID."),
    )),
    clientSecret: v.optional(v.pipe(secret(), v.description("The secret of the `app`."))),
    tokenFile: v.optional(v.pipe(
      filePath(),
      v.description("The token file of `workload`; without it, AZURE_FEDERATED_TOKEN_FILE."),
    )),
    authority: v.optional(v.pipe(
      httpUrl(),
      v.startsWith("https://", "expected a URL that starts with https://"),
      v.description(
        "Where tokens are asked for, for other clouds; without it, AZURE_AUTHORITY_HOST or " +
          "`https://login.microsoftonline.com`.",
      ),
    )),
    caFile: v.optional(v.pipe(
      filePath(),
      v.description(
        "A PEM file of the authority behind the hosts' certificates, if a private one.",
      ),
    )),
    sasToken: v.optional(v.pipe(
      secret(),
      v.description("A shared access signature for the account or the container."),
    )),
    connectionString: v.optional(v.pipe(
      secret(),
      v.description("A connection string; `UseDevelopmentStorage=true` means the local emulator."),
    )),
    containerSasUrl: v.optional(v.pipe(
      secret(),
      v.description("The URL of one container with its shared access signature."),
    )),
    container: v.optional(v.pipe(
      v.string("expected the name of a container"),
      v.regex(
        /^(?=.)[a-z0-9-]*(\{camera\}[a-z0-9-]*)*$/,
        "expected lower-case letters, digits and dashes, and {camera} for the camera's name",
      ),
      v.check(
        (text) => text.includes(CAMERA) || containerName(text, "") === text,
        "expected 3 to 63 letters, digits and single dashes, with a letter or digit at both ends",
      ),
      v.description("The container; `{camera}` gives each camera its own. Made if missing."),
    )),
    prefix: v.optional(
      v.pipe(
        v.string("expected a text"),
        v.description("In front of every blob's name, such as `home/`."),
      ),
      "",
    ),
    endpoint: v.optional(v.pipe(
      httpUrl(),
      v.description("The blob service's URL, for other clouds and emulators."),
    )),
    tier: v.optional(v.pipe(
      v.picklist(
        ["Hot", "Cool", "Cold", "Archive"],
        'expected "Hot", "Cool", "Cold" or "Archive"',
      ),
      v.description("The access tier of the blobs; the account's default if left out."),
    )),
    blockSize: v.optional(
      v.pipe(
        size(),
        v.check(
          (bytes) => bytes >= 64 * 1024 && bytes <= 100 * 2 ** 20,
          'expected a size between "64KiB" and "100MiB"',
        ),
        v.description("Clips longer than two blocks are sent in blocks of this size."),
      ),
      "4MiB",
    ),
  }),
  v.check(
    (options) =>
      [
        options.sasToken,
        options.accountKey,
        options.identity,
        options.connectionString,
        options.containerSasUrl,
      ].filter((credential) => credential !== undefined).length === 1,
    CREDENTIALS,
  ),
  v.check(
    ({ account, endpoint, sasToken, identity }) =>
      sasToken === undefined && identity === undefined || account !== undefined ||
      endpoint !== undefined,
    '"sasToken" and "identity" need "account" beside them',
  ),
  v.check(
    ({ account, accountKey }) => accountKey === undefined || account !== undefined,
    '"accountKey" needs "account" beside it',
  ),
  v.check(
    ({ identity, tenantId, clientId, clientSecret }) =>
      identity === "app"
        ? tenantId !== undefined && clientId !== undefined && clientSecret !== undefined
        : clientSecret === undefined,
    '"identity": "app" needs "tenantId", "clientId" and "clientSecret", and no other kind takes a ' +
      "secret",
  ),
  v.check(
    ({ container, containerSasUrl }) => container === undefined || containerSasUrl === undefined,
    '"container" cannot be set beside "containerSasUrl", which names the container itself',
  ),
  v.transform((options): AzureBlobOptions => ({
    ...options,
    container: options.container ?? CAMERA,
  })),
  v.description("Azure Blob Storage, or anything that speaks its protocol."),
);
