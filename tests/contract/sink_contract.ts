/**
 * What every sink must do, whatever it stores to. A sink's test file calls {@linkcode testSink} with
 * the means to make a fresh, empty store; each case is a test of its own.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { type Clip, type PutOptions, type Sink, sinkErrorKind } from "../../core/types.ts";

/** A sink with an empty store, and a way to look into that store past the sink. */
export interface SinkBench extends AsyncDisposable {
  readonly sink: Sink;
  /** Every object in the store, visible or half-made, by a name of the bench's choosing. */
  objects(): Promise<Map<string, Uint8Array>>;
}

/** How a sink is put to the test. */
export interface SinkContractOptions {
  /** In front of each test's name. */
  readonly name: string;
  /** Why it cannot be tested here; the tests are skipped and say so. */
  readonly skip?: string;
  /** Makes a bench with an empty store. */
  open(): Promise<SinkBench>;
  /** Larger than what the sink sends in one go, bytes. */
  readonly largeBytes: number;
}

/** Bytes that repeat nowhere, so that a block in the wrong place is found. */
export function noise(bytes: number, seed = 1): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(bytes / 4));
  let state = seed >>> 0 || 1;
  for (let index = 0; index < words.length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[index] = state;
  }
  return new Uint8Array(words.buffer, 0, bytes);
}

/** A clip with these bytes. */
export function clipOf(data: Uint8Array<ArrayBuffer>, change: Partial<Clip> = {}): Clip {
  return {
    key: "yard/2026/08/21/20260821T140500Z.mp4",
    camera: "yard",
    start: new Date("2026-08-21T14:05:00.000Z"),
    end: new Date("2026-08-21T14:06:00.000Z"),
    bytes: data.length,
    sha256: createHash("sha256").update(data).digest("hex"),
    contentType: "video/mp4",
    open: (fromByte = 0) => chunked(data.subarray(fromByte)),
    ...change,
  };
}

/** What delivery hands to a put, with the progress kept. */
export function putOptions(
  change: Partial<PutOptions> = {},
): PutOptions & { readonly seen: number[] } {
  const seen: number[] = [];
  return {
    signal: new AbortController().signal,
    attempt: 1,
    progress: (bytes) => seen.push(bytes),
    ...change,
    seen,
  };
}

/** Declares the tests of one sink. */
export function testSink(options: SinkContractOptions): void {
  const { name, skip, largeBytes } = options;
  const fact = (text: string, run: (bench: SinkBench) => Promise<void>) =>
    Deno.test({
      name: `${name}: ${text}${skip ? ` (skipped: ${skip})` : ""}`,
      ignore: skip !== undefined,
      fn: async () => {
        await using bench = await options.open();
        await run(bench);
      },
    });
  const only = async (bench: SinkBench): Promise<Uint8Array> => {
    const objects = [...(await bench.objects()).values()];
    assert.equal(objects.length, 1, "exactly one object is in the store");
    return objects[0]!;
  };
  const look = { signal: new AbortController().signal, camera: "yard" };

  for (const bytes of [0, 1, 5 * 2 ** 20, largeBytes]) {
    fact(`a clip of ${bytes} bytes arrives byte for byte`, async (bench) => {
      const data = noise(bytes);
      const { state } = await bench.sink.put(clipOf(data), putOptions());
      assert.equal(state, "stored");
      assert.ok(sameBytes(await only(bench), data));
    });

    fact(`the same clip of ${bytes} bytes put twice is one object`, async (bench) => {
      const clip = clipOf(noise(bytes));
      await bench.sink.put(clip, putOptions());
      const again = await bench.sink.put(clip, putOptions({ attempt: 2 }));
      assert.equal(again.state, "already-there");
      assert.ok(sameBytes(await only(bench), noise(bytes)));
    });
  }

  fact("another clip under the same key is a conflict and changes nothing", async (bench) => {
    const data = noise(1000);
    await bench.sink.put(clipOf(data), putOptions());
    for (const other of [noise(1000, 2), noise(999), noise(0), noise(largeBytes, 3)]) {
      await assert.rejects(
        bench.sink.put(clipOf(other), putOptions()),
        (error) => sinkErrorKind(error) === "conflict",
      );
    }
    const objects = [...(await bench.objects()).values()];
    assert.ok(objects.some((object) => sameBytes(object, data)));
    assert.equal(objects.filter((object) => object.length > 0).length, 1);
  });

  fact("a clip whose bytes are not what was recorded is refused for good", async (bench) => {
    for (const bytes of [1000, largeBytes]) {
      const data = noise(bytes);
      const damaged = Uint8Array.from(data);
      damaged[bytes >> 1] = (damaged[bytes >> 1] ?? 0) ^ 1;
      const clip = clipOf(data, { open: () => chunked(damaged), key: `yard/${bytes}.mp4` });
      await assert.rejects(
        bench.sink.put(clip, putOptions()),
        (error) => sinkErrorKind(error) === "permanent" && /damaged/.test(String(error)),
      );
      assert.equal(await bench.sink.stat?.(clip.key, look), undefined);
    }
  });

  fact("a clip that is cut short is refused for good", async (bench) => {
    const clip = clipOf(noise(1000), { open: () => chunked(noise(999)) });
    await assert.rejects(
      bench.sink.put(clip, putOptions()),
      (error) => sinkErrorKind(error) === "permanent",
    );
    assert.equal(await bench.sink.stat?.(clip.key, look), undefined);
  });

  for (const percent of [0, 50, 99]) {
    for (const bytes of [2 ** 20, largeBytes]) {
      fact(
        `an abort at ${percent} % of ${bytes} bytes leaves nothing under the key, and the next try ` +
          "stores it",
        async (bench) => {
          const abort = new AbortController();
          const data = noise(bytes);
          const clip = clipOf(data, {
            open: (fromByte = 0) =>
              chunked(data.subarray(fromByte), (sent) => {
                if (sent + fromByte >= bytes * percent / 100) abort.abort(new Error("stop"));
              }),
          });
          await assert.rejects(
            bench.sink.put(clip, putOptions({ signal: abort.signal })),
            /stop/,
          );
          assert.equal(await bench.sink.stat?.(clip.key, look), undefined);
          const { state } = await bench.sink.put(clipOf(data), putOptions({ attempt: 2 }));
          assert.equal(state, "stored");
          assert.ok(sameBytes(await only(bench), data));
        },
      );
    }
  }

  fact("a put whose signal is aborted already does nothing", async (bench) => {
    const signal = AbortSignal.abort(new Error("stop"));
    await assert.rejects(bench.sink.put(clipOf(noise(10)), putOptions({ signal })), /stop/);
    assert.equal((await bench.objects()).size, 0);
  });

  fact("progress grows in many steps and ends at the whole", async (bench) => {
    const options = putOptions();
    await bench.sink.put(clipOf(noise(largeBytes)), options);
    assert.equal(options.seen.at(-1), largeBytes);
    assert.ok(options.seen.length > 10, `${options.seen.length} steps`);
    assert.ok(
      options.seen.every((bytes, index) => index === 0 || bytes >= options.seen[index - 1]!),
    );
  });

  fact("cameras may be called anything", async (bench) => {
    const names = ["Tür ☃ 100 %", "../../x", "CON", "a\nb", "👨‍👩‍👧", "x".repeat(300), "\ud800", ""];
    for (const [index, camera] of names.entries()) {
      const key = `camera-${index}/2026/08/21/20260821T140500Z.mp4`;
      const data = noise(100 + index);
      const { state } = await bench.sink.put(clipOf(data, { camera, key }), putOptions());
      assert.equal(state, "stored", camera);
      assert.equal((await bench.sink.stat?.(key, { ...look, camera }))?.bytes, data.length);
    }
    assert.equal((await bench.objects()).size, names.length);
  });

  fact("stat and remove agree", async (bench) => {
    const { sink } = bench;
    if (!sink.stat || !sink.remove) return;
    const data = noise(5000);
    const clip = clipOf(data);
    assert.equal(await sink.stat(clip.key, look), undefined);
    await sink.remove(clip.key, look); // nothing to remove is no error
    await sink.put(clip, putOptions());
    const found = await sink.stat(clip.key, look);
    assert.equal(found?.bytes, data.length);
    if (found?.sha256 !== undefined) assert.equal(found.sha256, clip.sha256);
    if (found?.md5 !== undefined) {
      assert.equal(found.md5, createHash("md5").update(data).digest("hex"));
    }
    await sink.remove(clip.key, look);
    assert.equal(await sink.stat(clip.key, look), undefined);
    assert.equal((await bench.objects()).size, 0);
    assert.equal((await sink.put(clip, putOptions())).state, "stored");
  });

  fact("check leaves no trace, before and after the first clip", async (bench) => {
    await bench.sink.check?.(look);
    assert.equal((await bench.objects()).size, 0);
    await bench.sink.put(clipOf(noise(10)), putOptions());
    await bench.sink.check?.(look);
    assert.equal((await bench.objects()).size, 1);
  });

  fact("clips may be put side by side", async (bench) => {
    const states = await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        bench.sink.put(
          clipOf(noise(200_000, index + 1), { key: `camera-${index % 3}/2026/${index}.mp4` }),
          putOptions(),
        )),
    );
    assert.deepEqual(new Set(states.map(({ state }) => state)), new Set(["stored"]));
    assert.equal((await bench.objects()).size, 8);
  });

  fact("the proof holds a URL without a query", async (bench) => {
    const { url } = await bench.sink.put(clipOf(noise(10)), putOptions());
    if (url !== undefined) assert.equal(new URL(url).search, "");
  });
}

/** A stream of uneven chunks, as files give them; `onRead` is told the bytes handed out. */
export function chunked(
  data: Uint8Array<ArrayBuffer>,
  onRead?: (bytes: number) => void,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      onRead?.(at);
      if (at >= data.length) return controller.close();
      const size = 1 + (at * 7 + 60_000) % 70_000;
      controller.enqueue(data.slice(at, at + size));
      at += size;
    },
  }, { highWaterMark: 0 });
}

/** Whether two byte arrays are equal, without the endless difference of an assertion. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && createHash("sha256").update(a).digest("hex") ===
      createHash("sha256").update(b).digest("hex");
}
