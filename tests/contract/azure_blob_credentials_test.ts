/**
 * Every kind of credential of the azure-blob sink, and a store that is stricter about permissions than
 * the emulator.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  ContainerSASPermissions,
  generateBlobSASQueryParameters,
  SASProtocol,
} from "@azure/storage-blob";
import { makeSecret } from "../../core/config/values.ts";
import { createDelivery } from "../../core/delivery/mod.ts";
import { type Secret, type Sink, sinkErrorKind } from "../../core/types.ts";
import { azureBlob, azureBlobWith } from "../../sinks/azure_blob.ts";
import { FakeSpool, freshStatus, keepLog } from "../delivery/fakes.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { until as eventually } from "../support/until.ts";
import { startCreateOnlyServer } from "./create_only_server.ts";
import { clipOf, noise, putOptions, sameBytes } from "./clips.ts";
import {
  accountSas,
  bySas,
  emulator,
  fact,
  inDays,
  KEY,
  kindOf,
  look,
  MiB,
  openBench,
  service,
  sharedKey,
} from "./azure_blob_bench.ts";

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
