/**
 * An object store that breaks, loses and refuses every fourth request: Azurite behind a proxy.
 *
 * @module
 */
import { BlobServiceClient } from "@azure/storage-blob";
import {
  type FaultProxy,
  type ProxyFault,
  startAzurite,
  startFaultProxy,
} from "../../simulators/mod.ts";
import { sha256Hex } from "./picture_count.ts";

/** An object store that fails, and what it holds. */
export interface FaultyStore extends AsyncDisposable {
  readonly connectionString: string;
  /** The account's, which is a part of that. */
  readonly key: string;
  /** Fails no more. */
  heal(): void;
  /** Requests that were broken, lost or refused. */
  faults(): number;
  /** The requests that name this clip, in order, with what was done to them. */
  requestsFor(key: string): readonly unknown[];
  /** SHA-256 in hex by the clip's key. */
  objects(): Promise<ReadonlyMap<string, string>>;
}

/** Starts one that keeps its objects below `root`. */
export async function startFaultyStore(
  root: string,
  random: () => number,
): Promise<FaultyStore> {
  await using started = new AsyncDisposableStack();
  const azurite = started.use(await startAzurite({ dataPath: `${root}/azurite` }));
  const proxy: FaultProxy = started.use(
    await startFaultProxy({ target: `http://127.0.0.1:${azurite.port}` }),
  );
  proxy.decide = (): ProxyFault | undefined => {
    const luck = random();
    if (luck < 0.1) return { kind: "reset", afterBytes: Math.floor(random() * 100_000) };
    if (luck < 0.17) return { kind: "lose-answer" };
    if (luck < 0.25) return { kind: "answer", status: 503, headers: { "retry-after": "1" } };
  };
  const all = started.move();
  return {
    key: azurite.key,
    connectionString: azurite.connectionString.replace(
      `http://127.0.0.1:${azurite.port}`,
      proxy.url,
    ),
    heal: () => proxy.decide = undefined,
    faults: () => proxy.requests.filter(({ fault }) => fault !== undefined).length,
    requestsFor: (key) =>
      proxy.requests.filter(({ path }) => decodeURIComponent(path).includes(key))
        .map(({ method, path, announcedBytes, bodyBytes, fault, status }) => ({
          method,
          path,
          announcedBytes,
          bodyBytes,
          fault,
          status,
        })),
    async objects() {
      const service = BlobServiceClient.fromConnectionString(azurite.connectionString);
      const found = new Map<string, string>();
      for await (const { name: container } of service.listContainers()) {
        const client = service.getContainerClient(container);
        for await (const { name } of client.listBlobsFlat()) {
          const bytes = await client.getBlobClient(name).downloadToBuffer();
          found.set(`${container}/${name}`, await sha256Hex(new Uint8Array(bytes)));
        }
      }
      return found;
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}
