/**
 * What the network and a busy store do to the azure-blob sink: every answer that Azure gives, and a
 * cut at every byte that matters.
 *
 * @module
 */
import assert from "node:assert/strict";
import { makeSecret } from "../../core/config/values.ts";
import { sinkErrorKind } from "../../core/types.ts";
import { startFaultProxy } from "../../simulators/fault_proxy.ts";
import { azureBlob } from "../../sinks/azure_blob.ts";
import { keepLog } from "../delivery/fakes.ts";
import { runFaults } from "../faults/faults.ts";
import { retainTest } from "../delivery/retain.ts";
import { clipOf, noise, putOptions, sameBytes } from "./clips.ts";
import { emulator, fact, KEY, kindOf, look, MiB, openBench, service } from "./azure_blob_bench.ts";

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
