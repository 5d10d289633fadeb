/**
 * The azure-blob sink with the real emulator behind a fault proxy: what the tests of this sink share.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  AccountSASPermissions,
  AccountSASResourceTypes,
  AccountSASServices,
  BlobServiceClient,
  generateAccountSASQueryParameters,
  SASProtocol,
  StorageSharedKeyCredential,
} from "@azure/storage-blob";
import { makeSecret } from "../../core/config/values.ts";
import { type Sink, sinkErrorKind } from "../../core/types.ts";
import { type Azurite, startAzurite } from "../../simulators/azurite.ts";
import { type FaultProxy, startFaultProxy } from "../../simulators/fault_proxy.ts";
import { type AzureBlobOptions, azureBlobWith } from "../../sinks/azure_blob.ts";
import { keepLog } from "../delivery/fakes.ts";

let azurite: Azurite | undefined;
export let skip: string | undefined;
try {
  azurite = await startAzurite();
} catch (error) {
  skip = `no Azurite: ${error instanceof Error ? error.message.split("\n", 1)[0] : error}`;
}
Deno.test.afterAll(() => azurite?.stop());

export const look = { signal: new AbortController().signal, camera: "yard" };
export const KEY = "yard/2026/08/21/20260821T140500Z.mp4";
export const MiB = 2 ** 20;

export function emulator(): Azurite {
  assert.ok(azurite);
  return azurite;
}

/** The store, past the sink. */
export function service(): BlobServiceClient {
  return BlobServiceClient.fromConnectionString(emulator().connectionString);
}

export function sharedKey(): StorageSharedKeyCredential {
  return new StorageSharedKeyCredential(emulator().account, emulator().key);
}

let benches = 0;

export interface AzureBench extends AsyncDisposable {
  readonly sink: Sink;
  /** Every blob by `container/name`. */
  objects(): Promise<Map<string, Uint8Array>>;
  readonly log: ReturnType<typeof keepLog>;
  readonly proxy: FaultProxy;
  /** In front of every container of this bench. */
  readonly prefix: string;
}

/** A sink behind a fault proxy, with containers of its own. */
export async function openBench(
  change: Partial<AzureBlobOptions> = {},
  world = { now: () => Date.now() },
): Promise<AzureBench> {
  const prefix = `t${Deno.pid}-${++benches}`;
  const blobUrl = new URL(emulator().blobUrl);
  const proxy = await startFaultProxy({ target: blobUrl.origin });
  const log = keepLog();
  const sink = await azureBlobWith(world).open({
    name: "azure",
    config: {
      connectionString: makeSecret(emulator().connectionString),
      endpoint: proxy.url + blobUrl.pathname,
      container: `${prefix}-{camera}`,
      prefix: "",
      blockSize: 4 * MiB,
      ...change,
    },
    log,
    fetch,
  });
  return {
    sink,
    log,
    proxy,
    prefix,
    objects: async () => {
      const objects = new Map<string, Uint8Array>();
      for await (const { name } of service().listContainers({ prefix })) {
        const container = service().getContainerClient(name);
        for await (const blob of container.listBlobsFlat()) {
          objects.set(
            `${name}/${blob.name}`,
            await container.getBlobClient(blob.name).downloadToBuffer(),
          );
        }
      }
      return objects;
    },
    [Symbol.asyncDispose]: async () => {
      await proxy.close();
      for await (const { name } of service().listContainers({ prefix })) {
        await service().deleteContainer(name);
      }
    },
  };
}

export function fact(
  text: string,
  run: (bench: AzureBench) => Promise<void>,
  open: () => Promise<AzureBench> = openBench,
): void {
  Deno.test({
    name: `azure-blob: ${text}${skip ? ` (skipped: ${skip})` : ""}`,
    ignore: skip !== undefined,
    fn: async () => {
      await using bench = await open();
      await run(bench);
    },
  });
}

export async function kindOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "stored";
  } catch (error) {
    return sinkErrorKind(error);
  }
}

export function accountSas(permissions: string, types = "co", expiresOn = inDays(30)): string {
  return generateAccountSASQueryParameters({
    permissions: AccountSASPermissions.parse(permissions),
    services: AccountSASServices.parse("b").toString(),
    resourceTypes: AccountSASResourceTypes.parse(types).toString(),
    protocol: SASProtocol.HttpsAndHttp,
    expiresOn,
  }, sharedKey()).toString();
}

export function inDays(days: number): Date {
  return new Date(Date.now() + days * 86_400_000);
}

export const bySas = (token: string, change: Partial<AzureBlobOptions> = {}) =>
  openBench({
    connectionString: undefined,
    account: "devstoreaccount1",
    sasToken: makeSecret(token),
    ...change,
  });
