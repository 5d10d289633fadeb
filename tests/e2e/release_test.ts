/**
 * The file that people download, made as it is made for them and run as they run it: with an empty
 * environment, without Deno or Node, in cache folders that are read-only, full, damaged, half
 * unpacked or shared.
 *
 * @module
 */
import assert from "node:assert/strict";
import { isAzuriteCached, startNestSimulator } from "../../simulators/mod.ts";
import type { SceneEncoding } from "../../simulators/scene/scene_encoder.ts";
import { areRecording, captureUntil } from "../support/capture_until.ts";
import { readClip } from "../support/clip_frames.ts";
import { findProgram } from "../support/programs.ts";
import { bareCommand, compile, copyTree, ROOT, runBare, type Said } from "../support/release.ts";
import { inTempFolder } from "../support/run_cli.ts";
import { startToyRegistry, TOY_CONFIG, writeToyFolder } from "../support/toy_plugin.ts";
import { PATIENCE_MS } from "../support/until.ts";
import { walkFiles } from "../support/walk_files.ts";

/** The shell script and the cache are for systems that have a shell. */
const noShell = Deno.build.os === "windows" ? " (skipped: Windows has a ZIP file)" : "";
const isRoot = Deno.build.os !== "windows" && Deno.uid() === 0;
const needsRoot = !isRoot || Deno.build.os !== "linux" ? " (skipped: needs root on Linux)" : "";

const dist = await Deno.makeTempDir({ prefix: "camsink-dist-" });
globalThis.addEventListener("unload", () => Deno.removeSync(dist, { recursive: true }));

/** Made by the first test that wants it. */
let made: Promise<string> | undefined;

/** The path of the release file for this machine, and by the same run the checksums. */
function releaseFile(): Promise<string> {
  made ??= (async () => {
    await compile(["--kind", "auto", "--out", dist]);
    for await (const { name } of Deno.readDir(dist)) {
      if (/^camsink-[\d.]+-(linux|macos)-\w+$/.test(name)) return `${dist}/${name}`;
    }
    throw new Error("deno task compile made no file");
  })();
  return made;
}

function releaseTest(name: string, skipped: string, fn: (file: string, folder: string) => unknown) {
  const why = noShell || skipped;
  Deno.test({
    name: name + why,
    ignore: why !== "",
    fn: async () => {
      const file = await releaseFile();
      await inTempFolder(async (folder) => {
        await fn(file, folder);
      });
    },
  });
}

/** Unpacked once, for the tests that are not about unpacking. */
const WARM = { CAMSINK_CACHE: `${dist}/cache` };

const version = (file: string, folder: string, env: Record<string, string> = {}): Promise<Said> =>
  runBare([file, "--version"], { cwd: folder, env: { HOME: folder, ...env } });

function assertStarted({ code, stdout, stderr }: Said): void {
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^camsink \d/);
}

const cacheOf = (home: string) =>
  Deno.build.os === "darwin" ? `${home}/Library/Caches/camsink` : `${home}/.cache/camsink`;

/** The folder of the one version that a cache holds. */
async function unpackedIn(base: string): Promise<string> {
  const found = (await Array.fromAsync(Deno.readDir(base))).map(({ name }) => name)
    .filter((name) => /^\d/.test(name));
  assert.equal(found.length, 1, `${base} holds ${found.join(", ") || "nothing"}`);
  return `${base}/${found[0]}`;
}

releaseTest(
  "the release file is at most 55 MB, tells version, commit, runtime and kind, and leaves one folder",
  "",
  async (file, folder) => {
    const { size } = await Deno.stat(file);
    assert.ok(size <= 55e6, `${size} bytes`);
    const said = await version(file, folder);
    assertStarted(said);
    const { version: expected } = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`));
    assert.match(
      said.stdout,
      new RegExp(
        `^camsink ${expected.replaceAll(".", "\\.")} \\([0-9a-f]{7}(-dirty)?\\), ` +
          `Deno ${Deno.version.deno}, ${Deno.build.target}, (portable|compiled) file\\n$`,
      ),
    );
    const home = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
    assert.ok(home.length <= 1, `left ${home.join(", ")}`);
  },
);

releaseTest(
  "two builds of one commit, in two folders, one of them without git, are the same byte for byte",
  "",
  async (file, folder) => {
    await copyTree(`${folder}/tree`);
    const git = async (...args: string[]) =>
      new TextDecoder().decode(
        (await new Deno.Command("git", { args, cwd: ROOT }).output()).stdout,
      ).trim();
    const isDirty = await git("status", "--porcelain") !== "";
    // The folder is not there yet, nor the one that it is to be in.
    const isPortable = (await Deno.readFile(file))[0] === "#".charCodeAt(0);
    const kind = isPortable ? "portable" : "compiled";
    await compile(["--kind", kind, "--out", `${folder}/new/dist`], {
      root: `${folder}/tree`,
      env: {
        CAMSINK_COMMIT: await git("rev-parse", "HEAD") + (isDirty ? "-dirty" : ""),
        SOURCE_DATE_EPOCH: await git("show", "-s", "--format=%ct", "HEAD"),
      },
    });
    const name = file.slice(file.lastIndexOf("/") + 1);
    const sums = await Deno.readTextFile(`${dist}/SHA256SUMS`);
    assert.equal(await Deno.readTextFile(`${folder}/new/dist/SHA256SUMS`), sums);
    assert.match(sums, new RegExp(`^[0-9a-f]{64}  ${name}$`, "m"));
    assert.match(sums, /\.cdx\.json$/m);
    const digest = await crypto.subtle.digest("SHA-256", await Deno.readFile(file));
    assert.ok(sums.includes(new Uint8Array(digest).toHex()));
  },
);

releaseTest(
  "--licenses prints every licence, the GPL of the ffmpeg core with its source",
  "",
  async (
    file,
    folder,
  ) => {
    const { code, stdout } = await runBare([file, "--licenses"], {
      cwd: folder,
      env: { HOME: folder, ...WARM },
    });
    assert.equal(code, 0);
    assert.match(stdout, /@ffmpeg\/core 0\.12\.10: GPL-2\.0-or-later/);
    assert.match(stdout, /https:\/\/github\.com\/ffmpegwasm\/ffmpeg\.wasm/);
    assert.match(stdout, /TERMS AND CONDITIONS FOR COPYING, DISTRIBUTION AND MODIFICATION/);
    assert.match(stdout, /@azure\/storage-blob 12/);
  },
);

releaseTest("two first starts at once both work and leave one copy", "", async (file, folder) => {
  const said = await Promise.all([version(file, folder), version(file, folder)]);
  said.forEach(assertStarted);
  const names = await Array.fromAsync(walkFiles(await unpackedIn(cacheOf(folder))));
  assert.deepEqual(names.filter((name) => name.includes(".unpack.")), []);
});

releaseTest(
  "a start that was killed while it unpacked costs nothing but the time; its rest is removed later",
  "",
  async (file, folder) => {
    const base = cacheOf(folder);
    // Holds the unpacking up where a kill would have ended it: half of the program is there.
    await Deno.mkdir(`${base}/.unpack.killed`, { recursive: true, mode: 0o700 });
    await Deno.chmod(base, 0o700);
    await Deno.writeFile(`${base}/.unpack.killed/deno`, new Uint8Array(1000));
    const child = new Deno.Command("setsid", {
      args: ["sh", file, "--version"],
      clearEnv: true,
      env: { HOME: folder, PATH: "/usr/bin:/bin" },
      stdout: "null",
      stderr: "null",
    }).spawn();
    await folderWith(base, (name) => name.startsWith(".unpack.") && !name.endsWith("killed"));
    await new Deno.Command("kill", { args: ["-9", "--", `-${child.pid}`] }).output();
    await child.status;
    assertStarted(await version(file, folder));
    await unpackedIn(base);
    // By now nobody can be unpacking there.
    const old = new Date(Date.now() - 3600e3);
    for await (const { name } of Deno.readDir(base)) {
      if (name.startsWith(".unpack.")) await Deno.utime(`${base}/${name}`, old, old);
    }
    await Deno.remove(await unpackedIn(base), { recursive: true });
    assertStarted(await version(file, folder));
    const left = (await Array.fromAsync(Deno.readDir(base))).map(({ name }) => name);
    assert.deepEqual(left.filter((name) => name.startsWith(".unpack.")), []);
  },
);

/** Waits until a folder has an entry such as this. */
async function folderWith(folder: string, wanted: (name: string) => boolean): Promise<void> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  while (!(await Array.fromAsync(Deno.readDir(folder))).some(({ name }) => wanted(name))) {
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

releaseTest(
  "a file cut short is unpacked anew; one changed in its middle is found after the machine's next start",
  "",
  async (file, folder) => {
    assertStarted(await version(file, folder));
    const home = await unpackedIn(cacheOf(folder));
    await Deno.truncate(`${home}/cli.js`, 1000);
    assertStarted(await version(file, folder));

    const wasm = `${home}/ffmpeg-core.wasm`;
    const sound = await Deno.readFile(wasm);
    const broken = sound.slice();
    broken[1_000_000] = (broken[1_000_000] ?? 0) ^ 1;
    await Deno.writeFile(wasm, broken);
    await Deno.writeTextFile(`${home}/.checked`, "another start of the machine\n");
    assertStarted(await version(file, folder));
    assert.deepEqual(await Deno.readFile(wasm), sound);
  },
);

releaseTest("a download that broke off says so and starts nothing", "", async (file, folder) => {
  const cut = `${folder}/cut`;
  await Deno.writeFile(cut, (await Deno.readFile(file)).subarray(0, 30e6), { mode: 0o755 });
  const { code, stderr } = await version(cut, folder, { CAMSINK_CACHE: `${folder}/cache` });
  assert.equal(code, 74);
  assert.match(stderr, /damaged/);
  assert.deepEqual(await Array.fromAsync(Deno.readDir(`${folder}/cache`)), []);
});

releaseTest(
  "a download with one wrong bit says so and starts nothing",
  "",
  async (file, folder) => {
    const bytes = await Deno.readFile(file);
    const text = new TextDecoder("latin1").decode(bytes.subarray(0, 20_000));
    if (!text.startsWith("#!")) return; // a compiled file is not unpacked
    for (const part of ["part1", "part2"] as const) {
      // The last eight bytes of an archive are its checksum and length: a wrong checksum stands for
      // wrong contents, and cannot be found in any other way.
      const [length1, length2, header] = ["part1", "part2", "header"]
        .map((name) => Number(new RegExp(`\\b${name}=(\\d+)`).exec(text)?.[1]));
      const at = (header ?? 0) + (length1 ?? 0) + (part === "part2" ? length2 ?? 0 : 0) - 8;
      const broken = bytes.slice();
      broken[at] = (broken[at] ?? 0) ^ 1;
      await Deno.writeFile(`${folder}/broken`, broken, { mode: 0o755 });
      const said = await version(`${folder}/broken`, folder, { CAMSINK_CACHE: `${folder}/cache` });
      assert.equal(said.code, 74, part);
      assert.match(said.stderr, /damaged/);
      assert.equal(said.stdout, "");
      assert.deepEqual(await Array.fromAsync(Deno.readDir(`${folder}/cache`)), []);
    }
  },
);

releaseTest(
  "an updated version is unpacked beside the old one, which goes when unused for a month, not while it runs",
  "",
  async (file, folder) => {
    const base = cacheOf(folder);
    for (const name of ["1.0.0-idle", "1.1.0-fresh", "1.2.0-running"]) {
      await Deno.mkdir(`${base}/${name}`, { recursive: true, mode: 0o700 });
      await Deno.writeTextFile(`${base}/${name}/.used`, "");
      const old = new Date(Date.now() - (name.endsWith("fresh") ? 1 : 40) * 86400e3);
      await Deno.utime(`${base}/${name}/.used`, old, old);
    }
    await Deno.chmod(base, 0o700);
    await Deno.writeTextFile(`${base}/1.2.0-running/deno`, "#!/bin/sh\nread _\n", { mode: 0o755 });
    await using _running = disposable(
      new Deno.Command(`${base}/1.2.0-running/deno`, { stdin: "piped" }).spawn(),
    );
    assertStarted(await version(file, folder));
    const names = (await Array.fromAsync(Deno.readDir(base))).map(({ name }) => name).sort();
    assert.deepEqual(names.slice(0, 2), ["1.1.0-fresh", "1.2.0-running"]);
  },
);

function disposable(child: Deno.ChildProcess): AsyncDisposable {
  return {
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.status;
      await child.stdin.close().catch(() => {});
    },
  };
}

releaseTest(
  "where the home is read-only and the usual place is taken by others, it unpacks elsewhere; a full or " +
    "forbidden place is told",
  needsRoot,
  async (file, folder) => {
    // As nobody, who may write nowhere but in the folders for everybody.
    await Deno.chmod(folder, 0o755);
    await Deno.copyFile(file, `${folder}/camsink`);
    await Deno.chmod(`${folder}/camsink`, 0o755);
    await Deno.mkdir(`${folder}/shared`);
    await Deno.chmod(`${folder}/shared`, 0o777);
    const uid = 65534;
    const taken = `/var/tmp/camsink-${uid}`;
    await Deno.remove(taken, { recursive: true }).catch(() => {});
    await Deno.mkdir(taken, { mode: 0o777 });
    await Deno.chmod(taken, 0o777);
    try {
      const asNobody = (env: Record<string, string>) =>
        runBare(
          [
            ...["/usr/bin/setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups"],
            ...[`${folder}/camsink`, "--version"],
          ],
          { cwd: folder, env },
        );
      assertStarted(await asNobody({ HOME: folder, TMPDIR: `${folder}/shared` }));
      await unpackedIn(`${folder}/shared/camsink-${uid}`);
      assert.deepEqual(await Array.fromAsync(Deno.readDir(taken)), [], "into a folder of others");

      const refused = await asNobody({ CAMSINK_CACHE: folder });
      assert.equal(refused.code, 74);
      assert.match(refused.stderr, /CAMSINK_CACHE=FOLDER/);

      // A cache that somebody else made and that cannot be written.
      assertStarted(await version(`${folder}/camsink`, folder, { CAMSINK_CACHE: `${folder}/ro` }));
      await new Deno.Command("chmod", { args: ["-R", "a+rX,a-w", `${folder}/ro`] }).output();
      assertStarted(await asNobody({ CAMSINK_CACHE: `${folder}/ro` }));
      await new Deno.Command("chmod", { args: ["-R", "u+w", `${folder}/ro`] }).output();
    } finally {
      await Deno.remove(taken, { recursive: true });
    }
    await onTmpfs(folder, "size=60m", async (full) => {
      const { code, stderr } = await version(file, folder, { CAMSINK_CACHE: full });
      assert.equal(code, 74);
      assert.match(stderr, /No space left on device|disk is full/);
      assert.deepEqual(await Array.fromAsync(Deno.readDir(full)), []);
      assertStarted(await version(file, folder, { XDG_CACHE_HOME: full }));
    });
    await onTmpfs(folder, "size=200m,noexec", async (noexec) => {
      const { code, stderr } = await version(file, folder, { CAMSINK_CACHE: noexec });
      assert.equal(code, 74);
      assert.match(stderr, /programs cannot be run there/);
    });
  },
);

/** Runs `body` with a small file system; where none may be mounted it is left out. */
async function onTmpfs(
  folder: string,
  options: string,
  body: (path: string) => Promise<void>,
): Promise<void> {
  const path = `${folder}/tmpfs`;
  await Deno.mkdir(path, { recursive: true });
  const { success } = await new Deno.Command("mount", {
    args: ["-t", "tmpfs", "-o", options, "none", path],
    stderr: "null",
  }).output();
  if (!success) return;
  try {
    await body(path);
  } finally {
    await new Deno.Command("umount", { args: [path] }).output();
  }
}

/** In a network namespace of its own, where nothing but this machine can be reached. */
const ip = findProgram("ip");
const OFFLINE = [
  ...["/usr/bin/unshare", "--net"],
  ...["/bin/sh", "-c", `${ip} link set lo up && exec "$@"`, "-"],
];

releaseTest(
  "without any network and with an empty environment the demo encodes in the process and delivers",
  needsRoot || (findProgram("unshare") && ip ? "" : " (skipped: no unshare or ip)"),
  async (file, folder) => {
    const { code, stdout, stderr, lines } = await captureUntil(
      bareCommand([...OFFLINE, file, "capture", "--no-azure", "--json"], {
        cwd: folder,
        env: { HOME: folder, ...WARM },
      }),
      areRecording(3),
    );
    assert.equal(code, 0, stdout + stderr);
    assert.equal((lines.at(-1)?.cameras as unknown[]).length, 3);
    assert.doesNotMatch(stdout, /ffmpeg .*system|"system/);
    const clips = (await Array.fromAsync(walkFiles(`${folder}/clips`)))
      .filter((path) => path.endsWith(".mp4"));
    assert.ok(clips.length >= 3, stdout);
    for (const clip of clips) {
      const bytes = await Deno.readFile(clip);
      const { frames } = await readClip(bytes).catch((cause) => {
        throw new Error(`${clip} has ${bytes.length} bytes: ${stdout}`, { cause });
      });
      assert.ok(frames.length > 0 && frames.every(({ strip }) => strip !== undefined), clip);
    }
  },
);

releaseTest("the simulators encode without a system ffmpeg from the release file", "", async (
  file,
  folder,
) => {
  assertStarted(await version(file, folder, WARM));
  const home = await unpackedIn(WARM.CAMSINK_CACHE);
  const worker = new Worker(`file://${home}/simulators/scene/scene_encoder_worker.js`, {
    type: "module",
  });
  try {
    const answer = await new Promise<{ bytes?: Uint8Array; said?: string }>((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(event.message));
      };
      const encoding: SceneEncoding = {
        inputArgs: ["-f", "rawvideo", "-s", "64x64", "-pix_fmt", "yuv420p"],
        input: new Uint8Array(64 * 64 * 3 / 2).fill(128),
        outputArgs: ["-c:v", "libx264", "-f", "h264"],
      };
      worker.postMessage(encoding);
    });
    assert.ok((answer.bytes?.length ?? 0) > 100, answer.said);
  } finally {
    worker.terminate();
  }
});

const noAzurite = await isAzuriteCached() ? "" : " (skipped: Azurite is not in Deno's cache)";

releaseTest("the whole demo with its blob emulator runs from the release file", noAzurite, async (
  file,
  folder,
) => {
  // Only where its packages lie is told, so that they need not be fetched again.
  const { denoDir } = JSON.parse(
    new TextDecoder().decode(
      (await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output()).stdout,
    ),
  );
  const { code, stdout, stderr, lines } = await captureUntil(
    bareCommand([file, "capture", "--json", "--log-level", "debug"], {
      cwd: folder,
      env: { HOME: folder, DENO_DIR: denoDir, ...WARM },
    }),
    // One of each camera, whichever comes first.
    (said) =>
      areRecording(3)(said) &&
      said.filter(({ event, category }) => event === "clip-delivered" && category === "azure")
          .length >= 3,
  );
  assert.equal(code, 0, stdout + stderr);
  const { sinks } = lines.at(-1) as unknown as {
    sinks: { name: string; clipsDelivered: number }[];
  };
  const azure = sinks.find(({ name }) => name === "azure");
  // How much a busy machine still delivers while it stops is not asked.
  assert.ok((azure?.clipsDelivered ?? 0) >= 3, JSON.stringify(sinks));
});

releaseTest("check tries a camera, the encoder and the sinks from the release file", "", async (
  file,
  folder,
) => {
  const child = new Deno.Command(file, {
    args: ["simulate", "camera"],
    clearEnv: true,
    env: { HOME: folder, ...WARM },
    stdout: "piped",
  }).spawn();
  try {
    let config = "";
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      config += text;
      if (/^\}/m.test(config)) break;
    }
    await Deno.writeTextFile(`${folder}/camsink.jsonc`, config);
    const said = await runBare([file, "check", "--json"], {
      cwd: folder,
      env: { HOME: folder, ...WARM },
    });
    assert.equal(said.code, 0, said.stdout + said.stderr);
    assert.match(said.stdout, /wasm \d/);
  } finally {
    child.kill("SIGKILL");
    await child.status;
  }
});

const TOY = `import * as v from "valibot";
import { defineSink, encodeKey, httpSinkError, httpUrl, sendClip } from "camsink";
export default defineSink({
  name: "toy",
  config: v.strictObject({ url: httpUrl() }),
  net: ({ url }) => [new URL(url).host],
  open: ({ config }) => ({
    put: async (clip, options) => {
      const answer: Response = await sendClip(config.url + "/" + encodeKey(clip.key), { clip, options });
      if (!answer.ok) throw httpSinkError(answer, "PUT");
      return { state: "stored" as const };
    },
  }),
});
`;

releaseTest("a plugin in TypeScript is added to the release file and gets the clips", "", async (
  file,
  folder,
) => {
  const stored: Uint8Array<ArrayBuffer>[] = [];
  await using store = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (put) => {
    stored.push(await put.bytes());
    return new Response(null, { status: 201 });
  });
  await using cloud = await startNestSimulator({ cameras: [{ name: "Front door" }] });
  await Deno.writeTextFile(`${folder}/toy.ts`, TOY);
  const config = {
    accounts: {
      home: {
        ...{ type: "nest", accessToken: "env:NEST_TOKEN", endpoints: cloud.endpoints },
        ...{ width: 320, fps: 2 },
      },
    },
    clip: { length: "2s" },
    sinks: { mine: { type: "toy", url: `http://127.0.0.1:${store.addr.port}` } },
  };
  await Deno.writeTextFile(`${folder}/camsink.json`, JSON.stringify(config));
  const env = { HOME: folder, ...WARM, NEST_TOKEN: cloud.credentials.accessToken };
  const added = await runBare([file, "plugin", "add", "./toy.ts", "--yes"], { cwd: folder, env });
  assert.equal(added.code, 0, added.stderr);
  const { code, stdout, stderr, lines } = await captureUntil(
    bareCommand([file, "capture", "--json", "--log-level", "debug"], { cwd: folder, env }),
    (said) => said.filter(({ event }) => event === "clip-delivered").length >= 2,
  );
  assert.equal(code, 0, stdout + stderr);
  const { sinks: [sink] } = lines.at(-1) as unknown as {
    sinks: [{ clipsDelivered: number }];
  };
  assert.ok(sink.clipsDelivered >= 2, stdout);
  // One that was on its way at the end is stored, and offered again at the next start.
  assert.ok(stored.length >= sink.clipsDelivered, stdout);
  for (const bytes of stored) {
    const { frames } = await readClip(bytes);
    assert.ok(frames.length > 0 && frames.every(({ strip }) => strip !== undefined));
  }
});

releaseTest("a plugin in a folder and one from npm work in the release file", "", async (
  file,
  folder,
) => {
  await using _registry = await startToyRegistry(folder);
  await writeToyFolder(`${folder}/toy`);
  await Deno.writeTextFile(`${folder}/camsink.jsonc`, TOY_CONFIG);
  const env = { HOME: folder, ...WARM };
  for (const from of ["./toy", "npm:@camsink-test/sink-toy"]) {
    const added = await runBare([file, "plugin", "add", from, "--yes"], { cwd: folder, env });
    assert.equal(added.code, 0, added.stderr);
    const checked = await runBare([file, "check", "--json"], { cwd: folder, env });
    assert.match(checked.stdout, /"what":"sink","name":"mine","ok":true/, checked.stderr);
    await Deno.remove(`${folder}/camsink.plugins.json`);
  }
});

releaseTest("an author's way works with the release file: new, test, add", "", async (
  file,
  folder,
) => {
  const run = (...args: string[]) =>
    runBare([file, "plugin", ...args], { cwd: folder, env: { HOME: folder, ...WARM } });
  const made = await run("new", "my-store");
  assert.equal(made.code, 0, made.stderr);
  const cases = ["config-errors", "medium-clip", "same-clip-twice", "conflict", "lost-answer"];
  const only = cases.flatMap((id) => ["--only", id]);
  const tested = await run("test", "my-store", "--patience", "2m", ...only);
  assert.match(tested.stdout, /my-store, isolated: 5 passed, 0 failed/, tested.stderr);
  const added = await run("add", "./my-store", "--yes");
  assert.match(added.stderr, /^my-store 0\.1\.0 .*\nhash [0-9a-f]{64} \(new\)/);
  assert.equal(added.code, 0, added.stderr);
});

const qemu = findProgram("qemu-aarch64");
const armLibraries = "/usr/aarch64-linux-gnu";
const noArm = qemu === undefined || !await Deno.stat(armLibraries).catch(() => undefined)
  ? " (skipped: qemu-aarch64 or libc6-arm64-cross not installed)"
  : "";

releaseTest("the release for 64-bit ARM starts in an emulator", noArm, async (_file, folder) => {
  await compile(["--kind", "folder", "--target", "linux-arm64", "--out", folder]);
  const [home = ""] = (await Array.fromAsync(Deno.readDir(folder)))
    .filter(({ isDirectory }) => isDirectory).map(({ name }) => `${folder}/${name}`);
  // The emulator stands in for the processor: everything else is as it is on a Raspberry Pi.
  await Deno.rename(`${home}/deno`, `${home}/deno.arm64`);
  await Deno.writeTextFile(
    `${home}/deno`,
    `#!/bin/sh\nexec ${qemu} -L ${armLibraries} "\${0%/*}/deno.arm64" "$@"\n`,
    { mode: 0o755 },
  );
  await Deno.symlink(`${home}/camsink`, `${folder}/camsink`);
  const said = await version(`${folder}/camsink`, folder, { PATH: "/usr/bin:/bin" });
  assertStarted(said);
  assert.match(said.stdout, /aarch64-unknown-linux-gnu, release folder/);
});
