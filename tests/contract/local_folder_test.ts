/**
 * The local-folder sink against the contract, and what only a folder can get wrong.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
  chmod,
  link,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { localFolder } from "../../sinks/local_folder.ts";
import { type Clip, type Sink, sinkErrorKind } from "../../core/types.ts";
import { keepLog } from "../delivery/fakes.ts";
import { inProcess, objectsInFolder } from "../../kit/mod.ts";
import { testWithKit } from "../kit/support.ts";
import { clipOf, noise, putOptions } from "./clips.ts";

const look = { signal: new AbortController().signal, camera: "yard" };

interface FolderBench extends AsyncDisposable {
  readonly sink: Sink;
  /** Every file, visible or not, by its path. */
  objects(): Promise<Map<string, Uint8Array>>;
  readonly path: string;
  readonly parent: string;
}

async function openFolder(name = "clips"): Promise<FolderBench> {
  const parent = await mkdtemp(join(tmpdir(), "camsink-sink-"));
  const path = join(parent, name);
  const sink = await openSink(path);
  return {
    sink,
    path,
    parent,
    objects: async () => {
      const objects = new Map<string, Uint8Array>();
      const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch(() => []);
      for (const entry of entries) {
        const file = join(entry.parentPath, entry.name);
        if (entry.isFile()) objects.set(relative(path, file), await readFile(file));
      }
      return objects;
    },
    [Symbol.asyncDispose]: () => rm(parent, { recursive: true, force: true }),
  };
}

async function openSink(path: string): Promise<Sink> {
  return await localFolder.open({ name: "local", config: { path }, log: keepLog(), fetch });
}

testWithKit("local-folder", {
  host: inProcess(localFolder),
  test: {
    start: ({ folder }) =>
      Promise.resolve({
        config: () => ({ path: join(folder, "clips") }),
        objects: () => objectsInFolder(folder),
        [Symbol.asyncDispose]: () => Promise.resolve(),
      }),
  },
});

Deno.test("local-folder: a clip lies under its key", async () => {
  await using bench = await openFolder();
  await bench.sink.put(clipOf(noise(10)), putOptions());
  assert.deepEqual([...(await bench.objects()).keys()], ["yard/2026/08/21/20260821T140500Z.mp4"]);
});

Deno.test("local-folder: a file that nobody else needs is taken, and any other one is copied", async () => {
  await using bench = await openFolder();
  const own = join(bench.parent, "own.mp4");
  const data = noise(1000);
  await writeFile(own, data);
  const { ino } = await lstat(own);
  const put = async (name: string, change: Partial<Clip>) => {
    const key = `yard/${name}.mp4`;
    const sent: number[] = [];
    const progress = (bytes: number) => void sent.push(bytes);
    const clip = clipOf(data, { key, path: own, ...change });
    const { state } = await bench.sink.put(clip, putOptions({ progress }));
    assert.equal(state, "stored");
    assert.equal(sent.at(-1), data.length);
    assert.deepEqual(await readFile(join(bench.path, key)), Buffer.from(data));
    return (await lstat(join(bench.path, key))).ino === ino;
  };
  assert.equal(await put("needed", {}), false);
  assert.equal(await put("slowed", { mayBeTaken: true, path: undefined }), false);
  assert.equal(await put("gone", { mayBeTaken: true, path: `${own}.gone` }), false);
  assert.equal(await put("taken", { mayBeTaken: true }), true);
});

Deno.test("local-folder: a file that is not what the clip says is not taken", async () => {
  await using bench = await openFolder();
  const own = join(bench.parent, "own.mp4");
  await writeFile(own, noise(999));
  const clip = clipOf(noise(1000), { path: own, mayBeTaken: true });
  await bench.sink.put(clip, putOptions());
  assert.deepEqual(await readFile(join(bench.path, clip.key)), Buffer.from(noise(1000)));
});

Deno.test("local-folder: a clip that was taken before its receipt was written is there already", async () => {
  await using bench = await openFolder();
  const own = join(bench.parent, "own.mp4");
  await writeFile(own, noise(1000));
  const clip = clipOf(noise(1000), { path: own, mayBeTaken: true });
  assert.equal((await bench.sink.put(clip, putOptions())).state, "stored");
  assert.equal((await bench.sink.put(clip, putOptions())).state, "already-there");
  await writeFile(join(bench.path, "other.mp4"), noise(500));
  await assert.rejects(
    bench.sink.put({ ...clip, key: "other.mp4" }, putOptions()),
    (error) => sinkErrorKind(error) === "conflict",
  );
  assert.equal((await lstat(join(bench.path, "other.mp4"))).size, 500);
});

Deno.test("local-folder: what a crash left half-written is replaced", async () => {
  await using bench = await openFolder();
  const folder = join(bench.path, "yard/2026/08/21");
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, ".20260821T140500Z.mp4.part"), "half");
  await bench.sink.put(clipOf(noise(10)), putOptions());
  assert.deepEqual(await readdir(folder), ["20260821T140500Z.mp4"]);
});

Deno.test("local-folder: what a crash left right after a clip got its name is taken away", async () => {
  await using bench = await openFolder();
  const clip = clipOf(noise(10));
  await bench.sink.put(clip, putOptions());
  const folder = join(bench.path, "yard/2026/08/21");
  // The name is a link to the half-written file's content; the kill came before its own name went.
  await link(join(folder, "20260821T140500Z.mp4"), join(folder, ".20260821T140500Z.mp4.part"));
  assert.equal((await bench.sink.put(clip, putOptions())).state, "already-there");
  assert.deepEqual(await readdir(folder), ["20260821T140500Z.mp4"]);
});

Deno.test("local-folder: a key that leads out of the folder is refused", async () => {
  await using bench = await openFolder();
  const keys = [
    "../x.mp4",
    "a/../../x",
    "/etc/x",
    "a//b",
    "a/./b",
    "a\\..\\b",
    "C:x",
    "a\0b",
    "",
    "a/",
  ];
  for (const key of keys) {
    await assert.rejects(
      bench.sink.put(clipOf(noise(10), { key }), putOptions()),
      (error) => sinkErrorKind(error) === "permanent",
      key,
    );
    await assert.rejects(bench.sink.remove!(key, look));
    await assert.rejects(bench.sink.stat!(key, look));
  }
  assert.deepEqual(await readdir(bench.parent), []);
});

Deno.test("local-folder: a symbolic link inside the folder is not followed", async () => {
  await using bench = await openFolder();
  const outside = join(bench.parent, "outside");
  await mkdir(outside);
  await mkdir(bench.path);
  await symlink(outside, join(bench.path, "yard"));
  await assert.rejects(
    bench.sink.put(clipOf(noise(10)), putOptions()),
    /symbolic link/,
  );
  const key = "front/a.mp4";
  await mkdir(join(bench.path, "front"));
  await writeFile(join(outside, "a.mp4"), "precious");
  await symlink(join(outside, "a.mp4"), join(bench.path, key));
  await assert.rejects(
    bench.sink.put(clipOf(noise(10), { key }), putOptions()),
    /symbolic link/,
  );
  await assert.rejects(bench.sink.remove!("yard/a.mp4", look), /symbolic link/);
  assert.equal(await readFile(join(outside, "a.mp4"), "utf8"), "precious");
});

Deno.test("local-folder: the folder itself may be a symbolic link", async () => {
  await using bench = await openFolder();
  const real = join(bench.parent, "real");
  await mkdir(real);
  await symlink(real, bench.path);
  assert.equal((await bench.sink.put(clipOf(noise(10)), putOptions())).state, "stored");
});

Deno.test("local-folder: a missing parent is an error that says so, and heals", async () => {
  await using bench = await openFolder("disk/clips");
  for (
    const ask of [
      () => bench.sink.put(clipOf(noise(10)), putOptions()),
      () => bench.sink.check!(look),
    ]
  ) {
    await assert.rejects(
      ask,
      (error) =>
        sinkErrorKind(error) === "retry" && /disk does not exist.*mount/.test(String(error)),
    );
  }
  await mkdir(join(bench.parent, "disk"));
  assert.equal((await bench.sink.put(clipOf(noise(10)), putOptions())).state, "stored");
});

Deno.test("local-folder: a path that is a file is an error that says so", async () => {
  await using bench = await openFolder();
  await writeFile(bench.path, "a file");
  await assert.rejects(
    bench.sink.put(clipOf(noise(10)), putOptions()),
    (error) => sinkErrorKind(error) === "auth" && /is a file/.test(String(error)),
  );
});

Deno.test({
  name: "local-folder: a folder without write permission parks the sink",
  ignore: Deno.build.os === "windows" || Deno.uid() === 0,
  fn: async () => {
    await using bench = await openFolder();
    await mkdir(bench.path);
    await chmod(bench.path, 0o500);
    await assert.rejects(
      bench.sink.put(clipOf(noise(10)), putOptions()),
      (error) => sinkErrorKind(error) === "auth",
    );
    await chmod(bench.path, 0o700);
  },
});

Deno.test("local-folder: removing the last clip of a day removes the empty folders, not the root", async () => {
  await using bench = await openFolder();
  const other = "yard/2026/09/01/20260901T000000Z.mp4";
  await bench.sink.put(clipOf(noise(10)), putOptions());
  await bench.sink.put(clipOf(noise(10), { key: other }), putOptions());
  await bench.sink.remove!(clipOf(noise(10)).key, look);
  assert.deepEqual(await readdir(join(bench.path, "yard/2026")), ["09"]);
  await bench.sink.remove!(other, look);
  assert.deepEqual(await readdir(bench.path), []);
});

/** A real file system of 1 MB, where the tests may mount one. */
async function mountSmall(path: string): Promise<boolean> {
  await mkdir(path);
  const { success } = await new Deno.Command("mount", {
    args: ["-t", "tmpfs", "-o", "size=1m", "tmpfs", path],
    stdout: "null",
    stderr: "null",
  }).output().catch(() => ({ success: false }));
  return success;
}

Deno.test({
  name:
    "local-folder: a full disk is `full`, keeps what is there, and heals; a read-only one says so",
  ignore: Deno.build.os !== "linux" || Deno.uid() !== 0,
  fn: async (test) => {
    await using bench = await openFolder();
    if (!await mountSmall(bench.path)) {
      await test.step({ name: "skipped: mount is not allowed here", ignore: true, fn: () => {} });
      return;
    }
    try {
      const small = clipOf(noise(400_000));
      await bench.sink.put(small, putOptions());
      const big = clipOf(noise(900_000, 2), { key: "yard/2026/08/21/20260821T140600Z.mp4" });
      await assert.rejects(
        bench.sink.put(big, putOptions()),
        (error) => sinkErrorKind(error) === "full",
      );
      assert.deepEqual([...(await bench.objects()).keys()], [small.key]);
      await bench.sink.remove!(small.key, look);
      assert.equal((await bench.sink.put(big, putOptions())).state, "stored");
      assert.equal((await lstat(join(bench.path, big.key))).size, 900_000);
      await new Deno.Command("mount", { args: ["-o", "remount,ro", bench.path] }).output();
      await assert.rejects(
        bench.sink.put(small, putOptions()),
        (error) => sinkErrorKind(error) === "auth" && /read-only/.test(String(error)),
      );
    } finally {
      await new Deno.Command("umount", { args: [bench.path] }).output();
    }
  },
});
