/**
 * Many small clips on their way into the real blob emulator through a network of which one request in
 * five goes wrong: cut, answered late or not at all, refused as busy, damaged. Afterwards every clip
 * must be there, once, byte for byte.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { Buffer } from "node:buffer";
import { BlobServiceClient } from "@azure/storage-blob";
import { systemClock } from "../../core/clock.ts";
import { makeSecret } from "../../core/config/values.ts";
import { createDelivery } from "../../core/delivery/mod.ts";
import type { Clip } from "../../core/types.ts";
import { type Azurite, startAzurite } from "../../simulators/azurite.ts";
import { type ProxyFault, startFaultProxy } from "../../simulators/fault_proxy.ts";
import { azureBlob } from "../../sinks/azure_blob.ts";
import { createLeakSearch } from "../canary/leak_search.ts";
import { FakeSpool, freshStatus, keepLog } from "../delivery/fakes.ts";
import { seededRandom } from "../support/seeded_random.ts";

/** How much goes wrong. */
export interface FaultOptions {
  readonly clips: number;
  readonly seed: number;
  /** Of the requests, in [0, 1]. Default 0.2. */
  readonly share?: number;
  /** Called now and then with how many have arrived. */
  readonly onProgress?: (arrived: number) => void;
}

/** What came of it. */
export interface FaultReport {
  readonly clips: number;
  readonly requests: number;
  readonly faults: number;
  /** Delivered, as their receipts say. */
  readonly delivered: number;
  readonly alreadyThere: number;
  readonly putAside: number;
  /** In the store. */
  readonly objects: number;
  /** Objects whose MD5 or size is not that of their clip, or that belong to no clip. */
  readonly wrong: number;
  /** The account's key, found in a log line, a receipt or a state, in any of 40 encodings. */
  readonly leaks: readonly string[];
  readonly seconds: number;
}

/** A queue of thousands of clips: the first that waits is found without looking at all of them. */
export class LongSpool extends FakeSpool {
  #first = 0;

  override next(sink: string, { excluding }: { readonly excluding: ReadonlySet<string> }) {
    const isDone = (clip: Clip | undefined) =>
      clip !== undefined && this.receipts.has(`${sink} ${clip.key}`);
    while (isDone(this.clips[this.#first])) this.#first++;
    for (let at = this.#first; at < this.clips.length; at++) {
      const clip = this.clips[at];
      if (clip && !isDone(clip) && !excluding.has(clip.key)) return clip;
    }
    return undefined;
  }

  override backlog(): { clips: number; bytes: number } {
    return { clips: this.clips.length - this.receipts.size - this.quarantined.size, bytes: 0 };
  }
}

function smallClip(index: number, random: () => number): Clip {
  const data = new Uint8Array(500 + Math.floor(random() * 4000));
  for (let at = 0; at < data.length; at++) data[at] = Math.floor(random() * 256);
  const start = new Date(Date.UTC(2026, 7, 21) + index * 10_000);
  const stamp = start.toISOString().replace(/[-:]|\.000/g, "");
  return {
    key: `yard/${stamp.slice(0, 4)}/${stamp.slice(4, 6)}/${stamp.slice(6, 8)}/${stamp}.mp4`,
    camera: "yard",
    start,
    end: new Date(start.getTime() + 10_000),
    bytes: data.length,
    sha256: createHash("sha256").update(data).digest("hex"),
    md5: createHash("md5").update(data).digest("hex"),
    contentType: "video/mp4",
    open: (fromByte = 0) => new Blob([data.subarray(fromByte)]).stream(),
  };
}

/** Runs it to the end. `azurite` is started where none is given. */
export async function runFaults(options: FaultOptions, given?: Azurite): Promise<FaultReport> {
  const startMs = performance.now();
  const random = seededRandom(options.seed);
  await using cleanup = new AsyncDisposableStack();
  const azurite = given ?? cleanup.use(await startAzurite());
  const blobUrl = new URL(azurite.blobUrl);
  const proxy = cleanup.use(await startFaultProxy({ target: blobUrl.origin }));
  const container = `faults-${crypto.randomUUID().slice(0, 8)}`;
  const log = keepLog();
  const sink = await azureBlob.open({
    name: "azure",
    config: {
      connectionString: makeSecret(azurite.connectionString),
      endpoint: proxy.url + blobUrl.pathname,
      container,
      prefix: "",
      blockSize: 2 ** 22,
    },
    log,
    fetch,
  });
  const spool = new LongSpool();
  spool.add(...Array.from({ length: options.clips }, (_, index) => smallClip(index, random)));
  let faults = 0;
  proxy.decide = () => {
    if (random() >= (options.share ?? 0.2)) return undefined;
    faults++;
    const choices: ProxyFault[] = [
      { kind: "reset", afterBytes: Math.floor(random() * 4000) },
      { kind: "lose-answer" },
      {
        kind: "answer",
        status: 503,
        headers: { "retry-after": "1", "x-ms-error-code": "ServerBusy" },
      },
      { kind: "answer", status: 429, headers: { "retry-after": "2" } },
      { kind: "answer", status: 408 },
      { kind: "answer", status: 500, headers: { "x-ms-error-code": "OperationTimedOut" } },
      { kind: "damage", at: Math.floor(random() * 500) },
    ];
    return choices[Math.floor(random() * choices.length)];
  };
  const status = freshStatus("azure");
  const stop = new AbortController();
  const delivery = createDelivery({
    name: "azure",
    sink,
    spool,
    status,
    // Pauses pass a thousand times faster; the network keeps its own time.
    clock: {
      ...systemClock,
      sleep: (ms, how) => systemClock.sleep(ms / 1000, how),
      monotonic: () => systemClock.monotonic() * 1000,
    },
    random,
    log,
    stallMs: 60_000_000,
    concurrency: 8,
  });
  const running = delivery.run(stop.signal);
  const report = setInterval(() => options.onProgress?.(spool.receipts.size), 10_000);
  await delivery.drain({ timeoutMs: 1e12, signal: stop.signal });
  clearInterval(report);
  stop.abort();
  await running;
  proxy.decide = undefined;

  const wanted = new Map(spool.clips.map((clip) => [clip.key, clip]));
  let objects = 0;
  let wrong = 0;
  const store = BlobServiceClient.fromConnectionString(azurite.connectionString)
    .getContainerClient(container);
  for await (const { name, properties } of store.listBlobsFlat()) {
    objects++;
    const clip = wanted.get(name);
    const md5 = Buffer.from(properties.contentMD5 ?? []).toString("hex");
    if (properties.contentLength !== clip?.bytes || md5 !== clip?.md5) wrong++;
  }
  await store.delete();
  const receipts = [...spool.receipts.values()];
  const leakSearch = createLeakSearch({ accountKey: azurite.key });
  for (const line of log.lines) leakSearch.printed(`${JSON.stringify(line)}\n`);
  leakSearch.printed(JSON.stringify({ receipts, status, aside: [...spool.quarantined] }));
  return {
    clips: options.clips,
    requests: proxy.requests.length,
    faults,
    delivered: receipts.length,
    alreadyThere: receipts.filter(({ state }) => state === "already-there").length,
    putAside: spool.quarantined.size,
    objects,
    wrong,
    leaks: leakSearch.leaks(),
    seconds: Math.round((performance.now() - startMs) / 100) / 10,
  };
}
