/** Clips that are written and read past the system's cache. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { alignedBytes, BLOCK_BYTES } from "../../core/spool/direct.ts";
import { DirectWrites } from "../../core/spool/direct_writes.ts";
import { diskFs, type SpoolFile, type SpoolFs } from "../../core/spool/fs.ts";
import { fingerprint } from "../../core/spool/publish.ts";
import { testBothWays } from "../support/both_ways.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { TOY_HEADER, toyClip, toyFragment } from "../support/toy_clip.ts";
import { begin, bench, bytesOf, payload, record, START_MS } from "./spool_bench.ts";

/** A file in memory that takes whole blocks only, and now and then fails or takes less. */
function blockFile(random: () => number) {
  let content = new Uint8Array(0);
  const file: Pick<SpoolFile, "write"> = {
    write(bytes, atByte) {
      assert.equal(atByte % BLOCK_BYTES, 0);
      assert.equal(bytes.length % BLOCK_BYTES, 0);
      const blocks = bytes.length / BLOCK_BYTES;
      const taken = BLOCK_BYTES * (random() < 0.2 ? Math.ceil(random() * blocks) : blocks);
      const next = new Uint8Array(Math.max(content.length, atByte + taken));
      next.set(content);
      next.set(bytes.subarray(0, taken), atByte);
      content = next;
      return random() < 0.1 ? Promise.reject(new Error("made up")) : Promise.resolve(taken);
    },
  };
  return { file: file as SpoolFile, content: () => content };
}

Deno.test("any lengths end up one behind the other, whatever failed between", async () => {
  const random = seededRandom(7);
  const { file, content } = blockFile(random);
  const direct = new DirectWrites(file);
  const staging = new Uint8Array(4 * BLOCK_BYTES);
  const whole: number[] = [];
  let failures = 0;
  for (let round = 0; round < 300; round++) {
    const longest = [10, 3000, BLOCK_BYTES, 10 * BLOCK_BYTES][round % 4] ?? 0;
    const chunks = Array.from(
      { length: Math.floor(random() * 6) },
      () => Uint8Array.from({ length: Math.floor(random() * longest) }, () => 1 + random() * 255),
    );
    if (round % 10 === 0) chunks.push(new Uint8Array(BLOCK_BYTES - whole.length % BLOCK_BYTES)); // full
    try {
      await direct.append(chunks, { atByte: whole.length, staging });
    } catch {
      failures++;
      continue;
    }
    for (const chunk of chunks) for (const byte of chunk) whole.push(byte);
    const found = content();
    assert.deepEqual(found.subarray(0, whole.length), Uint8Array.from(whole));
  }
  assert.ok(failures > 10 && failures < 290, `${failures}`);
  assert.ok(whole.length > 100_000);
});

/** Whether the file system there lets its cache be left out, as another program finds it. */
async function takesDirect(folder: string): Promise<boolean> {
  const args = ["if=/dev/zero", `of=${folder}/probe`, "bs=4096", "count=1", "oflag=direct"];
  const { success } = await new Deno.Command("dd", { args, stderr: "null" }).output();
  return success;
}

/** The flags of this process's open file, open(2). */
function flagsOf(path: string): number {
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      if (Deno.readLinkSync(`/proc/self/fd/${name}`) !== path) continue;
    } catch {
      continue; // closed meanwhile
    }
    const [, flags = ""] = /^flags:\s+(\d+)$/m.exec(
      Deno.readTextFileSync(`/proc/self/fdinfo/${name}`),
    ) ?? [];
    if (parseInt(flags, 8) % 4 === 2) return parseInt(flags, 8); // to read and to write
  }
  throw new Error(`${path} is not open`);
}

const O_DIRECT = Deno.build.arch === "aarch64" ? 0o200000 : 0o40000;
const isDirect = (path: string) => (flagsOf(path) & O_DIRECT) !== 0;

Deno.test({
  name: "what is recorded does not pass through the system's cache, where that can be",
  ignore: Deno.build.os !== "linux",
  async fn() {
    await using test = await bench();
    await using spool = await test.open();
    const open = await begin(spool, { seconds: 0 });
    const part = `${await Deno.realPath(test.path)}/spool/open/yard~20260821T140500Z.mp4.part`;
    assert.equal(isDirect(part), await takesDirect(test.path));
    await open.append(toyFragment(payload(0)));
    assert.equal((await Deno.stat(part)).size % BLOCK_BYTES, 0);
    await open.discard();
  },
});

testBothWays("a clip of many blocks is what was recorded, and its hash is right", async () => {
  await using test = await bench();
  await using spool = await test.open();
  const random = seededRandom(3);
  const open = await begin(spool, { seconds: 0 });
  const parts = [TOY_HEADER];
  for (let i = 0; i < 40; i++) {
    const bytes = Uint8Array.from({ length: random() * 70_000 }, () => random() * 256);
    parts.push(bytes);
    await open.append([bytes.subarray(0, 100), bytes.subarray(100)]);
  }
  const end = new Date(START_MS + 1000);
  const clip = await open.finish({ end, tail: [Uint8Array.of(1, 2, 3)], frames: 1 });
  parts.push(Uint8Array.of(1, 2, 3));
  const whole = new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
  assert.deepEqual(await bytesOf(clip), whole);
  assert.equal(clip.sha256, createHash("sha256").update(whole).digest("hex"));
});

testBothWays("a disk's file that does not bear it is gone on with through the cache", async () => {
  await using test = await bench();
  const file = await diskFs.open(`${test.path}/x`, "new");
  file.setDirect?.(true);
  // Neither the memory nor the length is a whole block: most file systems refuse it.
  assert.equal(await file.write(alignedBytes(8192).fill(5).subarray(1, 101), 0), 100);
  assert.equal(await file.read(new Uint8Array(200), 0), 100);
  file.close();
});

/** A disk whose files tell how they are to be written, and take their time for it. */
function switchedFs(delay: () => Promise<void>) {
  const switches: boolean[] = [];
  const wrap = (file: SpoolFile): SpoolFile => ({
    ...file,
    write: async (bytes, atByte) => {
      await delay();
      return await file.write(bytes, atByte);
    },
    setDirect: (isOn) => {
      switches.push(isOn);
      file.setDirect?.(isOn);
      return true;
    },
  });
  const fs: SpoolFs = {
    ...diskFs,
    open: async (path, mode) => {
      const file = await diskFs.open(path, mode);
      return path.endsWith(".part") ? wrap(file) : file;
    },
  };
  return { fs, switches };
}

testBothWays("a slow disk is not waited for twice: the cache takes the clip's rest", async () => {
  await using test = await bench();
  let delayMs = 0;
  const { fs, switches } = switchedFs(() => test.clock.advance(delayMs));
  await using spool = await test.open({ fs });
  const open = await begin(spool, { seconds: 2 });
  assert.deepEqual(switches, [true]);
  delayMs = 300;
  await open.append(toyFragment(payload(2)));
  assert.deepEqual(switches, [true, false]);
  await open.append(toyFragment(payload(3)));
  await open.discard();
  assert.deepEqual(await bytesOf(await record(spool)), toyClip([payload(0), payload(1)]));
});

Deno.test("a part that ends within a block is the last one", async () => {
  const bytes = Uint8Array.from({ length: 1_000_001 }, (_, i) => i % 251);
  let isDirect = false;
  const file: SpoolFile = {
    write: () => Promise.reject(new Error("not to be written")),
    truncate: () => Promise.reject(new Error("not to be cut")),
    sync: () => Promise.resolve(),
    close() {},
    setDirect: (isOn) => (isDirect = isOn, true),
    read(into, at) {
      if (isDirect) assert.equal(at % BLOCK_BYTES + into.length % BLOCK_BYTES, 0);
      const part = bytes.subarray(at, at + into.length);
      into.set(part);
      return Promise.resolve(part.length);
    },
  };
  const { sha256 } = await fingerprint(file, { md5: false, isJustWritten: true });
  assert.equal(sha256, createHash("sha256").update(bytes).digest("hex"));
});
