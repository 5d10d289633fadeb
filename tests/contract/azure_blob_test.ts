/**
 * The azure-blob sink against the contract, what lies in the store, and its options.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import * as v from "valibot";
import { makeSecret } from "../../core/config/values.ts";
import { sinkErrorKind } from "../../core/types.ts";
import { azureBlob, type AzureBlobOptions } from "../../sinks/azure_blob.ts";
import { keepLog } from "../delivery/fakes.ts";
import { inProcess, type SinkTest } from "../../kit/mod.ts";
import { testWithKit } from "../kit/support.ts";
import { clipOf, noise, putOptions } from "./clips.ts";
import {
  emulator,
  fact,
  KEY,
  kindOf,
  look,
  MiB,
  openBench,
  service,
  skip,
} from "./azure_blob_bench.ts";

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
