/**
 * The azure-blob sink against the contract, with the real emulator behind it, and what only Azure can
 * do to a sink: faults through a proxy, every kind of credential, and a store that is stricter about
 * permissions than the emulator.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import {
  AccountSASPermissions,
  AccountSASResourceTypes,
  AccountSASServices,
  BlobServiceClient,
  ContainerSASPermissions,
  generateAccountSASQueryParameters,
  generateBlobSASQueryParameters,
  SASProtocol,
  StorageSharedKeyCredential,
} from "@azure/storage-blob";
import * as v from "valibot";
import { makeSecret } from "../../core/config/values.ts";
import { createDelivery } from "../../core/delivery/mod.ts";
import { type Secret, type Sink, sinkErrorKind } from "../../core/types.ts";
import { type Azurite, startAzurite } from "../../simulators/azurite.ts";
import { type FaultProxy, startFaultProxy } from "../../simulators/fault_proxy.ts";
import { azureBlob, type AzureBlobOptions, azureBlobWith } from "../../sinks/azure_blob.ts";
import { FakeSpool, freshStatus, keepLog } from "../delivery/fakes.ts";
import { runFaults } from "../faults/faults.ts";
import { retainTest } from "../delivery/retain.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { until as eventually } from "../support/until.ts";
import { startCreateOnlyServer } from "./create_only_server.ts";
import { inProcess, type SinkTest } from "../../kit/mod.ts";
import { testWithKit } from "../kit/support.ts";
import { clipOf, noise, putOptions, sameBytes } from "./clips.ts";

let azurite: Azurite | undefined;
let skip: string | undefined;
try {
  azurite = await startAzurite();
} catch (error) {
  skip = `no Azurite: ${error instanceof Error ? error.message.split("\n", 1)[0] : error}`;
}
Deno.test.afterAll(() => azurite?.stop());

const look = { signal: new AbortController().signal, camera: "yard" };
const KEY = "yard/2026/08/21/20260821T140500Z.mp4";
const MiB = 2 ** 20;

function emulator(): Azurite {
  assert.ok(azurite);
  return azurite;
}

/** The store, past the sink. */
function service(): BlobServiceClient {
  return BlobServiceClient.fromConnectionString(emulator().connectionString);
}

function sharedKey(): StorageSharedKeyCredential {
  return new StorageSharedKeyCredential(emulator().account, emulator().key);
}

let benches = 0;

interface AzureBench extends AsyncDisposable {
  readonly sink: Sink;
  /** Every blob by `container/name`. */
  objects(): Promise<Map<string, Uint8Array>>;
  readonly log: ReturnType<typeof keepLog>;
  readonly proxy: FaultProxy;
  /** In front of every container of this bench. */
  readonly prefix: string;
}

/** A sink behind a fault proxy, with containers of its own. */
async function openBench(
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

function fact(
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

async function kindOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "stored";
  } catch (error) {
    return sinkErrorKind(error);
  }
}

/** The emulator as the conformance kit wants it. */
const kitTest: SinkTest = {
  start: () =>
    Promise.resolve({
      url: emulator().blobUrl,
      config: (url) => ({ endpoint: url, container: "kit" }),
      secrets: { connectionString: emulator().connectionString },
      wrongSecrets: {
        connectionString: emulator().connectionString
          .replace(emulator().key, Buffer.from("another key".repeat(5)).toString("base64")),
      },
      objects: async () => {
        const container = service().getContainerClient("kit");
        if (!await container.exists()) return [];
        const names = [];
        for await (const { name } of container.listBlobsFlat()) names.push(name);
        return names.map((name) => ({
          name,
          read: async () => {
            const { readableStreamBody } = await container.getBlobClient(name).download();
            assert.ok(readableStreamBody instanceof Readable);
            return Readable.toWeb(readableStreamBody) as ReadableStream<Uint8Array>;
          },
        }));
      },
      [Symbol.asyncDispose]: async () => {
        await service().getContainerClient("kit").deleteIfExists();
      },
    }),
};

testWithKit("azure-blob", { host: inProcess(azureBlob), test: kitTest, skip });

// What lies in the store

fact("a blob has type, MD5, metadata and tags", async (bench) => {
  const data = noise(1000);
  const clip = clipOf(data, { camera: "Tür 100 %" });
  await bench.sink.put(clip, putOptions());
  const blob = service().getContainerClient(`${bench.prefix}-yard`)
    .getBlobClient("2026/08/21/20260821T140500Z.mp4");
  const properties = await blob.getProperties();
  assert.equal(properties.contentType, "video/mp4");
  assert.deepEqual(
    new Uint8Array(properties.contentMD5 ?? []),
    new Uint8Array(createHash("md5").update(data).digest()),
  );
  assert.deepEqual(properties.metadata, {
    camera: "T%C3%BCr 100 %25",
    start: "2026-08-21T14:05:00.000Z",
    end: "2026-08-21T14:06:00.000Z",
    sha256: clip.sha256,
  });
  assert.deepEqual((await blob.getTags()).tags, {
    camera: "yard",
    day: "2026-08-21",
    start: "2026-08-21T14:05:00.000Z",
    end: "2026-08-21T14:06:00.000Z",
    sha256: clip.sha256,
  });
});

fact("a clip in blocks has the same properties", async (bench) => {
  const data = noise(9 * MiB);
  const clip = clipOf(data);
  await bench.sink.put(clip, putOptions());
  const found = await bench.sink.stat!(KEY, look);
  assert.equal(found?.md5, createHash("md5").update(data).digest("hex"));
  assert.equal(found?.sha256, clip.sha256);
  assert.equal(bench.proxy.requests.filter(({ query }) => query.get("comp") === "block").length, 3);
});

fact("a clip that knows its MD5 is proved by its SHA-256 all the same", async (bench) => {
  for (const bytes of [1000, 9 * MiB]) {
    const data = noise(bytes);
    const key = `yard/${bytes}.mp4`;
    const clip = clipOf(data, { key, md5: createHash("md5").update(data).digest("hex") });
    const damaged = { ...clip, open: () => clipOf(noise(bytes, 2)).open() };
    assert.equal(await kindOf(bench.sink.put(damaged, putOptions())), "permanent");
    assert.equal(await bench.sink.stat!(key, look), undefined);
    assert.equal((await bench.sink.put(clip, putOptions())).state, "stored");
    assert.equal((await bench.sink.stat!(key, look))?.md5, clip.md5);
  }
});

fact("a container without {camera} keeps the whole key, behind the prefix", async (bench) => {
  await bench.sink.put(clipOf(noise(10)), putOptions());
  assert.deepEqual([...(await bench.objects()).keys()], [`t-fixed/home/${KEY}`]);
  await service().deleteContainer("t-fixed");
}, async () => {
  const bench = await openBench({ container: "t-fixed", prefix: "home/" });
  return {
    ...bench,
    objects: async () => {
      const names = new Map<string, Uint8Array>();
      for await (const { name } of service().getContainerClient("t-fixed").listBlobsFlat()) {
        names.set(`t-fixed/${name}`, new Uint8Array());
      }
      return names;
    },
  };
});

fact("the access tier is set", async (bench) => {
  await bench.sink.put(clipOf(noise(10)), putOptions());
  const blob = service().getContainerClient(`${bench.prefix}-yard`)
    .getBlobClient("2026/08/21/20260821T140500Z.mp4");
  assert.equal((await blob.getProperties()).accessTier, "Cool");
}, () => openBench({ tier: "Cool" }));

fact("a container is made once and its requests cost nothing later", async (bench) => {
  for (let minute = 0; minute < 3; minute++) {
    await bench.sink.put(clipOf(noise(10), { key: `yard/2026/${minute}.mp4` }), putOptions());
  }
  const made = bench.proxy.requests.filter(({ query }) => query.get("restype") === "container");
  assert.equal(made.length, 1);
  assert.equal(bench.proxy.requests.length, 4);
});

fact("a container that was deleted meanwhile is made again at the next try", async (bench) => {
  await bench.sink.put(clipOf(noise(10)), putOptions());
  await service().deleteContainer(`${bench.prefix}-yard`);
  assert.equal(await kindOf(bench.sink.put(clipOf(noise(10)), putOptions())), "retry");
  assert.equal(
    (await bench.sink.put(clipOf(noise(10)), putOptions({ attempt: 2 }))).state,
    "stored",
  );
});

fact("the check leaves no container behind", async (bench) => {
  await bench.sink.check!(look);
  const containers: string[] = [];
  for await (const { name } of service().listContainers({ prefix: "camsink-check" })) {
    containers.push(name);
  }
  assert.deepEqual(containers, []);
});

// Faults

fact(
  "an answer lost after the commit is one object, already there at the next try",
  async (bench) => {
    for (const bytes of [1000, 9 * MiB]) {
      const key = `yard/2026/${bytes}.mp4`;
      const clip = clipOf(noise(bytes), { key });
      bench.proxy.next({ kind: "lose-answer" }, {
        when: ({ method, query }) =>
          method === "PUT" && !query.has("restype") &&
          (bytes === 1000 || query.get("comp") === "blocklist"),
      });
      assert.equal(await kindOf(bench.sink.put(clip, putOptions())), "retry");
      const { state, etag } = await bench.sink.put(clip, putOptions({ attempt: 2 }));
      assert.equal(state, "already-there");
      assert.ok(etag);
    }
    assert.equal((await bench.objects()).size, 2);
  },
);

const SMALL_BLOCK = 64 * 1024;

fact(
  "cut before, at and after every boundary of a block, at most one is sent twice",
  async (bench) => {
    const data = noise(4.5 * SMALL_BLOCK);
    const ends = [1, 2, 3, 4, 4.5].map((blocks) => blocks * SMALL_BLOCK);
    // Where a block begins and ends: nothing of it has gone, a byte, all but one, and all of it without
    // its answer. A byte after one boundary and a byte before the next one are in the same request.
    const cuts = ends.flatMap((end, index) => {
      const bytes = end - index * SMALL_BLOCK;
      return [0, 1, bytes - 1, bytes].map((afterBytes) => ({ index, afterBytes }));
    });
    assert.equal(cuts.length, 20);
    for (const { index, afterBytes } of cuts) {
      const name = `${index}-${afterBytes}.mp4`;
      const clip = clipOf(data, { key: `yard/2026/${name}` });
      const isBlock = ({ path, query }: { path: string; query: URLSearchParams }) =>
        path.endsWith(`/${name}`) && query.get("comp") === "block";
      const blocks = () => bench.proxy.requests.filter(isBlock);
      bench.proxy.decide = (request) =>
        isBlock(request) && blocks().length === index + 1
          ? { kind: "reset", afterBytes }
          : undefined;
      assert.equal(await kindOf(bench.sink.put(clip, putOptions())), "retry", name);
      assert.equal((await bench.sink.put(clip, putOptions({ attempt: 2 }))).state, "stored", name);
      const sentBytes = blocks().reduce((sum, { bodyBytes }) => sum + bodyBytes, 0);
      assert.ok(
        sentBytes >= data.length && sentBytes <= data.length + SMALL_BLOCK,
        `cut in block ${index} after ${afterBytes} bytes: ${sentBytes} bytes sent for ${data.length}`,
      );
    }
    const objects = [...(await bench.objects()).values()];
    assert.equal(objects.length, cuts.length);
    for (const object of objects) assert.ok(sameBytes(object, data));
  },
  () => openBench({ blockSize: SMALL_BLOCK }),
);

fact("cut around the commit, no block is sent twice", async (bench) => {
  const data = noise(4.5 * SMALL_BLOCK);
  const cuts = {
    "at the first byte": { kind: "reset", afterBytes: 0 },
    "in the middle": { kind: "reset", afterBytes: 100 },
    "after the commit": { kind: "lose-answer" },
  } as const;
  for (const [name, fault] of Object.entries(cuts)) {
    const clip = clipOf(data, { key: `yard/2026/${name}.mp4` });
    const ofClip = (comp: string) =>
      bench.proxy.requests.filter(({ method, path, query }) =>
        method === "PUT" && query.get("comp") === comp &&
        decodeURIComponent(path).endsWith(`/${name}.mp4`)
      );
    bench.proxy.next(fault, {
      when: ({ query }) =>
        query.get("comp") === "blocklist" &&
        ofClip("blocklist").length === 1,
    });
    assert.equal(await kindOf(bench.sink.put(clip, putOptions())), "retry", name);
    const { state, etag } = await bench.sink.put(clip, putOptions({ attempt: 2 }));
    assert.ok(etag, name);
    assert.equal(state, fault.kind === "lose-answer" ? "already-there" : "stored", name);
    const sentBytes = ofClip("block").reduce((sum, { bodyBytes }) => sum + bodyBytes, 0);
    assert.equal(sentBytes, data.length, name);
  }
  for (const object of (await bench.objects()).values()) assert.ok(sameBytes(object, data));
}, () => openBench({ blockSize: SMALL_BLOCK }));

fact("a half-sent clip is resumed by a new process too", async (bench) => {
  const clip = clipOf(noise(12 * MiB));
  const blocks = () => bench.proxy.requests.filter(({ query }) => query.get("comp") === "block");
  bench.proxy.decide = () =>
    blocks().length === 3 ? { kind: "reset", afterBytes: 1000 } : undefined;
  assert.equal(await kindOf(bench.sink.put(clip, putOptions())), "retry");
  bench.proxy.decide = undefined;
  await using other = await openBench({
    container: `${bench.prefix}-{camera}`,
  });
  await other.sink.put(clip, putOptions());
  const sent = other.proxy.requests.filter(({ query }) => query.get("comp") === "block");
  assert.equal(sent.length, 1);
});

fact("a byte damaged on the way is refused by Azure and sent again", async (bench) => {
  for (const bytes of [1000, 9 * MiB]) {
    const key = `yard/2026/${bytes}.mp4`;
    bench.proxy.next({ kind: "damage", at: 500 }, {
      when: ({ path }) => path.endsWith(`${bytes}.mp4`),
    });
    const clip = clipOf(noise(bytes), { key });
    // The list of blocks comes first for a large clip; it has no body to damage.
    let kind = await kindOf(bench.sink.put(clip, putOptions()));
    if (kind === "stored") continue;
    assert.equal(kind, "retry");
    kind = await kindOf(bench.sink.put(clip, putOptions({ attempt: 2 })));
    assert.equal(kind, "stored");
  }
  const sizes = [...(await bench.objects()).values()].map(({ length }) => length);
  assert.deepEqual(sizes.sort((a, b) => a - b), [1000, 9 * MiB]);
});

const ANSWERS: readonly [number, string, string, RegExp][] = [
  [500, "InternalError", "retry", /500 InternalError/],
  [503, "ServerBusy", "retry", /503 ServerBusy/],
  [429, "TooManyRequests", "retry", /429/],
  [408, "", "retry", /408/],
  [409, "ContainerBeingDeleted", "retry", /being deleted/],
  [507, "InsufficientStorage", "full", /no room/],
  [401, "NoAuthenticationInformation", "auth", /401/],
  [403, "AuthenticationFailed", "auth", /wrong or has expired, or is another account's/],
  [401, "InvalidAuthenticationInfo", "auth", /not for this account.*tenant and cloud/],
  [404, "ResourceNotFound", "retry", /not the blob service of an account: check the host/],
  [400, "InvalidUri", "retry", /not the blob service of an account: check the host/],
  [404, "", "retry", /not the blob service of an account: check the host/],
  [405, "", "retry", /not the blob service of an account: check the host/],
  [421, "", "retry", /sends the request on elsewhere.*the account's own host/],
  [403, "AuthorizationPermissionMismatch", "auth", /lacks a permission.*c \(create\)/],
  [403, "AuthorizationFailure", "auth", /firewall/],
  [403, "AuthorizationResourceTypeMismatch", "auth", /srt=co/],
  [403, "AuthorizationServiceMismatch", "auth", /not for blobs/],
  [403, "AccountIsDisabled", "auth", /disabled/],
  [403, "KeyBasedAuthenticationNotPermitted", "auth", /does not allow keys/],
  [400, "InvalidMetadata", "permanent", /will not take this clip/],
  [413, "RequestBodyTooLarge", "permanent", /413/],
  [400, "Md5Mismatch", "retry", /damaged on the way/],
];

fact("each of Azure's answers becomes its kind, and says what to do", async (bench) => {
  await bench.sink.put(clipOf(noise(1), { key: "yard/first.mp4" }), putOptions());
  for (const [status, code, kind, words] of ANSWERS) {
    bench.proxy.next({
      kind: "answer",
      status,
      headers: code === "" ? {} : { "x-ms-error-code": code },
    });
    await assert.rejects(bench.sink.put(clipOf(noise(10)), putOptions()), (error) => {
      assert.equal(sinkErrorKind(error), kind, code);
      assert.match(String(error), words);
      return true;
    });
  }
  assert.equal((await bench.sink.put(clipOf(noise(10)), putOptions())).state, "stored");
});

fact("a redirect to another host is told with its fix, and nothing goes there", async (bench) => {
  await bench.sink.put(clipOf(noise(1), { key: "yard/first.mp4" }), putOptions());
  await using elsewhere = await startFaultProxy({ target: new URL(emulator().blobUrl).origin });
  const asks: (() => Promise<unknown>)[] = [
    () => bench.sink.put(clipOf(noise(10)), putOptions()),
    () => bench.sink.put(clipOf(noise(9 * MiB)), putOptions()),
    () => bench.sink.stat!(KEY, look),
    () => bench.sink.remove!(KEY, look),
    () => bench.sink.check!(look),
  ];
  for (const status of [301, 302, 303, 307, 308]) {
    for (const ask of asks) {
      bench.proxy.decide = () => ({
        kind: "answer",
        status,
        headers: { location: `${elsewhere.url}/other/x?sig=abc` },
      });
      await assert.rejects(ask(), (error) => {
        assert.equal(sinkErrorKind(error), "retry", String(error));
        const { host } = new URL(elsewhere.url);
        assert.match(String(error), new RegExp(`sends the request on to ${host}, which is not`));
        assert.match(String(error), /the account's own host \("Endpoints" in the Azure portal\)/);
        assert.doesNotMatch(String(error), /sig=abc/);
        return true;
      });
    }
  }
  assert.equal(elsewhere.requests.length, 0, "no credential goes to another host");
});

fact("Retry-After comes along in ms, as seconds or as a date", async (bench) => {
  await bench.sink.put(clipOf(noise(1), { key: "yard/first.mp4" }), putOptions());
  const date = new Date(Date.now() + 60_000).toUTCString();
  for (const [value, fromMs, toMs] of [["7", 7000, 7000], [date, 57_000, 60_000]] as const) {
    bench.proxy.next({ kind: "answer", status: 503, headers: { "retry-after": value } });
    await assert.rejects(bench.sink.put(clipOf(noise(10)), putOptions()), (error) => {
      assert.ok(error instanceof Error && "retryAfterMs" in error);
      const ms = Number(error.retryAfterMs);
      assert.ok(ms >= fromMs && ms <= toMs, `${ms}`);
      return true;
    });
  }
});

fact("a container that is being deleted is waited for at least half a minute", async (bench) => {
  await bench.sink.put(clipOf(noise(1), { key: "yard/first.mp4" }), putOptions());
  const headers = { "x-ms-error-code": "ContainerBeingDeleted" };
  bench.proxy.next({ kind: "answer", status: 409, headers });
  await assert.rejects(bench.sink.put(clipOf(noise(10)), putOptions()), (error) => {
    assert.ok(error instanceof Error && "retryAfterMs" in error);
    assert.equal(error.retryAfterMs, 30_000);
    return true;
  });
});

fact("the sink itself never tries twice", async (bench) => {
  await bench.sink.put(clipOf(noise(1), { key: "yard/first.mp4" }), putOptions());
  const before = bench.proxy.requests.length;
  bench.proxy.next({ kind: "answer", status: 503 }, { times: 10 });
  await kindOf(bench.sink.put(clipOf(noise(10)), putOptions()));
  assert.equal(bench.proxy.requests.length, before + 1);
});

fact("a clock that is wrong by more than five minutes is named as the cause", async (bench) => {
  await assert.rejects(bench.sink.put(clipOf(noise(10)), putOptions()), (error) => {
    assert.equal(sinkErrorKind(error), "auth");
    assert.match(String(error), /clock is (59|60|61) minutes ahead of Azure/);
    return true;
  });
}, async () => {
  const bench = await openBench({}, { now: () => Date.now() + 3_600_000 });
  bench.proxy.next({
    kind: "answer",
    status: 403,
    headers: { "x-ms-error-code": "AuthenticationFailed", date: new Date().toUTCString() },
  }, { when: ({ query }) => !query.has("restype") });
  return bench;
});

fact("an abort while Azure is silent ends the put at once", async (bench) => {
  await bench.sink.put(clipOf(noise(1), { key: "yard/first.mp4" }), putOptions());
  bench.proxy.next({ kind: "silence" });
  const abort = new AbortController();
  const put = bench.sink.put(clipOf(noise(10)), putOptions({ signal: abort.signal }));
  while (bench.proxy.requests.length < 3) await new Promise((done) => setImmediate(done));
  abort.abort(new Error("stop"));
  await assert.rejects(put, /stop/);
});

Deno.test("azure-blob: an account that does not exist is a retry that says what to look at", async () => {
  const sink = await azureBlob.open({
    name: "azure",
    config: {
      connectionString: makeSecret("UseDevelopmentStorage=true"),
      endpoint: "http://127.0.0.1:9/devstoreaccount1",
      container: "{camera}",
      prefix: "",
      blockSize: 4 * MiB,
    },
    log: keepLog(),
    fetch,
  });
  await assert.rejects(sink.put(clipOf(noise(10)), putOptions()), (error) => {
    assert.equal(sinkErrorKind(error), "retry");
    assert.match(String(error), /no answer from Azure \(ECONNREFUSED\): nothing listens there/);
    return true;
  });
});

fact("behind one fault in five, delivery brings every clip, as one object each", async () => {
  const { faults, delivered, objects, wrong, putAside, leaks } = await runFaults(
    { clips: 100, seed: 4711 },
    emulator(),
  );
  assert.deepEqual(leaks, []);
  assert.ok(faults > 10, `${faults} faults`);
  assert.deepEqual({ delivered, objects, wrong, putAside }, {
    delivered: 100,
    objects: 100,
    wrong: 0,
    putAside: 0,
  });
});

fact(
  "a SAS that expires mid-upload parks the sink; a new one goes on within 10 s",
  async (bench) => {
    const spool = new FakeSpool();
    const data = noise(12 * 64 * 1024);
    spool.add({ ...clipOf(data), camera: "yard" });
    const clock = createFakeClock();
    const isBlock = ({ query }: { query: URLSearchParams }) => query.get("comp") === "block";
    let blocks = 0;
    let expired = false;
    bench.proxy.decide = (request) => {
      if (isBlock(request) && ++blocks === 3) expired = true;
      return expired
        ? { kind: "answer", status: 403, headers: { "x-ms-error-code": "AuthenticationFailed" } }
        : undefined;
    };
    let text = accountSas("rwdlact");
    rotatingMidway = () => text;
    const stop = new AbortController();
    const status = freshStatus("azure");
    const delivery = createDelivery({
      name: "azure",
      sink: bench.sink,
      spool,
      status,
      clock,
      random: () => 0.5,
      log: keepLog(),
      secrets: [{ reference: "file:x", reveal: () => Promise.resolve(text) }],
    });
    const running = delivery.run(stop.signal);
    const until = (isSo: () => boolean) =>
      eventually(
        async () => {
          await clock.advance(0);
          return isSo();
        },
        undefined,
        2,
      );
    await until(() => status.state === "parked");
    assert.equal(status.backlogClips, 1, "nothing is lost or put aside");
    // The new SAS is another text; Azure takes it.
    text = accountSas("rwdlact", "co", inDays(60));
    expired = false;
    bench.proxy.decide = undefined;
    await clock.advance(10_000);
    await until(() => spool.receipts.size === 1);
    stop.abort();
    await running;
    const sent = bench.proxy.requests.filter(isBlock).reduce((sum, one) => sum + one.bodyBytes, 0);
    assert.ok(sent <= data.length + 64 * 1024, `${sent} bytes of ${data.length}`);
  },
  () =>
    openBench({
      connectionString: undefined,
      account: "devstoreaccount1",
      blockSize: 64 * 1024,
      sasToken: { reference: "file:x", reveal: () => Promise.resolve(rotatingMidway()) },
    }),
);
let rotatingMidway = (): string => accountSas("rwdlact");

fact("retain removes what is too old or too much, from the real store", async (bench) => {
  const folder = await Deno.makeTempDir({ prefix: "camsink-retain-" });
  try {
    // By name alone: what is being removed cannot be fetched.
    await retainTest(bench.sink, folder, async () =>
      (await Array.fromAsync(
        service().getContainerClient(`${bench.prefix}-yard`).listBlobsFlat(),
      )).length);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

// Credentials

function accountSas(permissions: string, types = "co", expiresOn = inDays(30)): string {
  return generateAccountSASQueryParameters({
    permissions: AccountSASPermissions.parse(permissions),
    services: AccountSASServices.parse("b").toString(),
    resourceTypes: AccountSASResourceTypes.parse(types).toString(),
    protocol: SASProtocol.HttpsAndHttp,
    expiresOn,
  }, sharedKey()).toString();
}

function inDays(days: number): Date {
  return new Date(Date.now() + days * 86_400_000);
}

const bySas = (token: string, change: Partial<AzureBlobOptions> = {}) =>
  openBench({
    connectionString: undefined,
    account: "devstoreaccount1",
    sasToken: makeSecret(token),
    ...change,
  });

fact("an account SAS makes the container, stores, finds and removes", async (bench) => {
  const clip = clipOf(noise(9 * MiB));
  assert.equal((await bench.sink.put(clip, putOptions())).state, "stored");
  assert.equal((await bench.sink.put(clip, putOptions())).state, "already-there");
  assert.equal((await bench.sink.stat!(KEY, look))?.bytes, 9 * MiB);
  await bench.sink.check!(look);
  await bench.sink.remove!(KEY, look);
  assert.equal((await bench.objects()).size, 0);
}, () => bySas(accountSas("rwdlact")));

fact("the real emulator takes a create-only account SAS", async (bench) => {
  const clip = clipOf(noise(9 * MiB));
  assert.equal((await bench.sink.put(clip, putOptions())).state, "stored");
  assert.equal(bench.proxy.requests.filter(({ query }) => query.get("comp") === "block").length, 0);
  await bench.sink.check!(look);
  assert.equal((await bench.objects()).size, 1);
}, () => bySas(accountSas("c")));

fact("a container SAS URL stores into that container", async (bench) => {
  const name = `${bench.prefix}-own`;
  await service().createContainer(name);
  const token = generateBlobSASQueryParameters({
    containerName: name,
    permissions: ContainerSASPermissions.parse("racwd"),
    protocol: SASProtocol.HttpsAndHttp,
    expiresOn: inDays(30),
  }, sharedKey()).toString();
  const sink = await azureBlob.open({
    name: "azure",
    config: {
      containerSasUrl: makeSecret(`${emulator().blobUrl}/${name}?${token}`),
      container: "{camera}",
      prefix: "",
      blockSize: 4 * MiB,
    },
    log: keepLog(),
    fetch,
  });
  const { url } = await sink.put(clipOf(noise(9 * MiB)), putOptions());
  assert.equal(url, `${emulator().blobUrl}/${name}/${KEY}`);
  await sink.check!(look);
  assert.equal((await bench.objects()).size, 1);
});

fact("a rotated credential is taken up at the next put, without a restart", async (bench) => {
  assert.equal(await kindOf(bench.sink.put(clipOf(noise(10)), putOptions())), "auth");
  rotating = accountSas("rwdlac");
  assert.equal((await bench.sink.put(clipOf(noise(10)), putOptions())).state, "stored");
}, () => {
  rotating = accountSas("rwdlac").replace(
    /sig=[^&]+/,
    "sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D",
  );
  const sasToken: Secret = { reference: "env:X", reveal: () => Promise.resolve(rotating) };
  return openBench({ connectionString: undefined, account: "devstoreaccount1", sasToken });
});
let rotating = "";

fact("no error shows the signature, however it fails", async (bench) => {
  const token = accountSas("rwdlac");
  const signature = new URLSearchParams(token).get("sig") ?? "";
  const fails: (() => void)[] = [
    () => bench.proxy.next({ kind: "reset", afterBytes: 0 }),
    () => bench.proxy.next({ kind: "answer", status: 500, body: token }),
    () => bench.proxy.next({ kind: "answer", status: 403, body: `https://x/?${token}` }),
    () => bench.proxy.next({ kind: "lose-answer" }),
  ];
  for (const fail of fails) {
    fail();
    const error = await bench.sink.put(clipOf(noise(10)), putOptions()).then(
      () => assert.fail("it must fail"),
      (error) => error,
    );
    const shown = Deno.inspect(error, { depth: 20, showHidden: true });
    assert.ok(!shown.includes(signature) && !shown.includes(encodeURIComponent(signature)), shown);
  }
}, () => bySas(accountSas("rwdlac")));

// A store that is strict about permissions

const strict = (
  name: string,
  run: (
    store: ReturnType<typeof startCreateOnlyServer>,
    open: (
      sp: string,
      world?: { now(): number },
    ) => Promise<{ sink: Sink; log: ReturnType<typeof keepLog> }>,
  ) => Promise<void>,
) =>
  Deno.test(`azure-blob: ${name}`, async () => {
    await using store = startCreateOnlyServer(["yard"]);
    await run(store, async (sp, world = { now: () => Date.now() }) => {
      const log = keepLog();
      const sink = await azureBlobWith(world).open({
        name: "azure",
        config: {
          sasToken: makeSecret(`sv=2024-11-04&sr=c&sp=${sp}&se=2099-01-01T00:00:00Z&sig=abc`),
          endpoint: store.url,
          container: "yard",
          prefix: "",
          blockSize: 4 * MiB,
        },
        log,
        fetch,
      });
      return { sink, log };
    });
  });

strict("a SAS with nothing but c stores clips of any length", async (store, open) => {
  const { sink } = await open("c");
  for (const bytes of [0, 1000, 9 * MiB]) {
    const data = noise(bytes);
    await sink.put(clipOf(data, { key: `yard/${bytes}.mp4` }), putOptions());
    assert.ok(sameBytes(store.blobs.get(`/account/yard/yard/${bytes}.mp4`)!, data));
  }
  assert.deepEqual(store.requests, ["PUT", "PUT", "PUT"]);
});

for (const code of ["BlobAlreadyExists", "AuthorizationPermissionMismatch"] as const) {
  strict(
    `with c alone a lost answer is recognised, though Azure says ${code}`,
    async (store, open) => {
      const { sink } = await open("c");
      store.overwriteCode = code;
      store.loseNextAnswer = true;
      assert.equal(await kindOf(sink.put(clipOf(noise(1000)), putOptions())), "retry");
      const { state } = await sink.put(clipOf(noise(1000)), putOptions({ attempt: 2 }));
      assert.equal(state, "already-there");
      assert.equal(store.blobs.size, 1);
    },
  );
}

strict(
  "with c alone a name that somebody else took is a conflict, not a success",
  async (store, open) => {
    const { sink } = await open("c");
    store.blobs.set(`/account/yard/${KEY}`, noise(10));
    assert.equal(await kindOf(sink.put(clipOf(noise(1000)), putOptions())), "conflict");
  },
);

strict("without c and w the sink is refused when it is opened", async (_store, open) => {
  await assert.rejects(open("rl"), /sp=rl; c \(create\) or w \(write\) is missing/);
});

strict(
  "with c alone the check stores nothing and says what it could not prove",
  async (store, open) => {
    const { sink, log } = await open("c");
    await sink.check!(look);
    assert.equal(store.blobs.size, 0);
    assert.ok(log.lines.some(({ message }) => /cannot delete/.test(message)));
  },
);

strict("a missing container that cannot be made is said to need making", async (_store, open) => {
  const { sink } = await open("c");
  const elsewhere = clipOf(noise(10));
  assert.equal(await kindOf(sink.put(elsewhere, putOptions())), "stored");
  await using empty = startCreateOnlyServer([]);
  const other = await azureBlob.open({
    name: "azure",
    config: {
      sasToken: makeSecret("sv=2024-11-04&sr=c&sp=c&sig=abc"),
      endpoint: empty.url,
      container: "yard",
      prefix: "",
      blockSize: 4 * MiB,
    },
    log: keepLog(),
    fetch,
  });
  for (const ask of [() => other.put(elsewhere, putOptions()), () => other.check!(look)]) {
    await assert.rejects(
      ask,
      (error) =>
        sinkErrorKind(error) === "auth" &&
        /does not exist and the credential cannot make it: create it/
          .test(String(error)),
    );
  }
});

strict("a SAS tells when it runs out, and is refused when it has", async (_store, open) => {
  const expiryMs = Date.parse("2099-01-01T00:00:00Z");
  let now = expiryMs - 20 * 86_400_000;
  const { sink } = await open("c", { now: () => now });
  assert.equal(sink.credentialExpiresAtMs, expiryMs);
  assert.equal(await kindOf(sink.put(clipOf(noise(1)), putOptions())), "stored");
  now = expiryMs;
  await assert.rejects(
    sink.put(clipOf(noise(1)), putOptions()),
    (error) => sinkErrorKind(error) === "auth" && /expired on 2099-01-01/.test(String(error)),
  );
});

// Options

Deno.test("azure-blob: options need exactly one credential, and names that Azure takes", async () => {
  const issues = async (config: Record<string, unknown>) => {
    const result = await azureBlob.config["~standard"].validate(config);
    const parsed = v.parse(
      v.object({ issues: v.optional(v.array(v.object({ message: v.string() })), []) }),
      result,
    );
    return parsed.issues.map(({ message }) => message).join("; ");
  };
  assert.equal(await issues({ account: "abc", sasToken: "env:X" }), "");
  assert.equal(await issues({ connectionString: "env:X", container: "cams-{camera}" }), "");
  assert.match(await issues({}), /expected "account" with one of "sasToken"/);
  assert.match(
    await issues({ connectionString: "env:X", sasToken: "env:Y" }),
    /expected "account"/,
  );
  assert.match(await issues({ sasToken: "env:X" }), /need "account"/);
  assert.equal(await issues({ account: "abc", identity: "managed" }), "");
  assert.match(await issues({ account: "abc", identity: "app" }), /needs "tenantId"/);
  assert.match(await issues({ accountKey: "env:X" }), /needs "account"/);
  assert.match(await issues({ account: "My_Account", sasToken: "env:X" }), /3 to 24 lower-case/);
  assert.match(await issues({ connectionString: "env:X", container: "A_B" }), /lower-case letters/);
  assert.match(await issues({ connectionString: "env:X", container: "a--b" }), /single dashes/);
  assert.match(await issues({ connectionString: "env:X", blockSize: "1B" }), /64KiB/);
  assert.match(
    await issues({ containerSasUrl: "env:X", container: "yard" }),
    /names the container/,
  );
});

Deno.test("azure-blob: a credential that cannot work is refused at the start, without showing it", async () => {
  const open = (change: Partial<AzureBlobOptions>) =>
    azureBlob.open({
      name: "azure",
      config: { container: "{camera}", prefix: "", blockSize: 4 * MiB, ...change },
      log: keepLog(),
      fetch,
    });
  const sas = (text: string) => ({ account: "abc", sasToken: makeSecret(text) });
  const SIGNATURE = "sig=TOPSECRETSIGNATURE";
  const cases: [Partial<AzureBlobOptions>, RegExp][] = [
    [sas("env:CAMSINK_TEST_UNSET"), /CAMSINK_TEST_UNSET is not set/],
    [sas("TOPSECRETSIGNATURE"), /no shared access signature: expected a text like sv=/],
    [sas(`sv=1&ss=q&srt=o&sp=c&${SIGNATURE}`), /ss=q; expected b/],
    [sas(`sv=1&ss=b&srt=s&sp=c&${SIGNATURE}`), /srt=s; expected o/],
    [sas(`sv=1&sr=b&sp=c&${SIGNATURE}`), /single blob/],
    [sas(`sv=1&sr=c&sp=c&${SIGNATURE}`), /one container only.*each camera/],
    [sas(`sv=1&ss=b&srt=co&sp=rl&${SIGNATURE}`), /sp=rl/],
    [sas(`sv=1&ss=b&srt=co&sp=c&se=tomorrow&${SIGNATURE}`), /ISO 8601/],
    [
      {
        ...sas(`sv=1&ss=b&srt=co&sp=c&${SIGNATURE}`),
        endpoint: "https://abc.dfs.core.windows.net",
      },
      /abc\.dfs\.core\.windows\.net is not for blobs.*expected abc\.blob\.core/,
    ],
    [
      {
        ...sas(`sv=1&ss=b&srt=co&sp=c&${SIGNATURE}`),
        endpoint: "https://abc-secondary.blob.core.windows.net",
      },
      /read-only copy in another region; expected abc\.blob\.core/,
    ],
    [
      {
        ...sas(`sv=1&ss=b&srt=co&sp=c&${SIGNATURE}`),
        endpoint: "https://xyz.z01.blob.storage.azure.net",
      },
      /is the account xyz's, but the credential is for the account abc/,
    ],
    [
      {
        connectionString: makeSecret(
          "AccountName=abc;AccountKey=TOPSECRET123;BlobEndpoint=https://xyz.blob.core.windows.net",
        ),
      },
      /is the account xyz's, but the credential is for the account abc/,
    ],
    [{ connectionString: makeSecret("TOPSECRETSIGNATURE") }, /names no account/],
    [{ connectionString: makeSecret("AccountName=a;Key=TOPSECRETSIGNATURE") }, /no credential/],
    [{ connectionString: makeSecret("AccountName=a;AccountKey=TOP_SECRET") }, /not base64/],
    [{ containerSasUrl: makeSecret("TOPSECRETSIGNATURE") }, /not a URL/],
    [{ containerSasUrl: makeSecret(`https://a/?sv=1&sp=c&${SIGNATURE}`) }, /names no container/],
  ];
  for (const [change, words] of cases) {
    await assert.rejects(async () => await open(change), (error) => {
      assert.equal(sinkErrorKind(error), "auth");
      assert.match(String(error), words);
      assert.ok(!Deno.inspect(error).includes("TOPSECRET"), String(error));
      return true;
    });
  }
});
