/**
 * The container image, really built from the Dockerfile with `buildah` on a Debian made by
 * `mmdebstrap`, pushed to and pulled from a real registry, and run: as no root, on a read-only root,
 * recording the simulated Nest cloud into Azurite.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { BlobServiceClient } from "@azure/storage-blob";
import { isAzuriteCached, startAzurite, startNestSimulator } from "../../simulators/mod.ts";
import { readClip } from "../support/clip_frames.ts";
import { needs } from "../support/programs.ts";
import { copyTree } from "../support/release.ts";
import { inTempFolder } from "../support/run_cli.ts";
import { PATIENCE_MS } from "../support/until.ts";
import { walkFiles } from "../support/walk_files.ts";

const tools = needs(
  ...["buildah", "mmdebstrap", "docker-registry", "unshare", "nsenter", "mount", "umount"],
);
const isRoot = Deno.build.os === "linux" && Deno.uid() === 0;
const skipped = !isRoot
  ? " (skipped: needs root on Linux)"
  : tools.ignore
  ? tools.reason
  : !await mayMount()
  ? " (skipped: this machine lets nobody mount)"
  : await isAzuriteCached()
  ? ""
  : " (skipped: Azurite is not in Deno's cache)";

/** Secrets that lie about where the image is built. */
const CANARY = "canary-3f81c7-must-not-be-in-a-layer";

/**
 * Which image: `full` compiles an ffmpeg, which takes minutes more, so that CI takes the other one.
 * `CAMSINK_TEST_IMAGE=full deno test -A tests/e2e/container_test.ts` tries it.
 */
const target = Deno.env.get("CAMSINK_TEST_IMAGE") === "full" ? "full" : "slim";
const MOST_BYTES = { slim: 180e6, full: 250e6 };

/** Containers within containers may not have file systems of their own. */
async function mayMount(): Promise<boolean> {
  const { success } = await new Deno.Command("unshare", {
    args: ["--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"],
    stderr: "null",
  }).output();
  return success;
}

/** Layers are laid over each other where the kernel can; else (`vfs`) each is a copy, at twice the time. */
async function mayOverlay(folder: string): Promise<boolean> {
  const [lower, upper, work, merged] = ["lower", "upper", "work", "merged"]
    .map((name) => `${folder}/probe/${name}`) as [string, string, string, string];
  for (const path of [lower, upper, work, merged]) await Deno.mkdir(path, { recursive: true });
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
  const { success } = await new Deno.Command("unshare", {
    args: ["--mount", "mount", "-t", "overlay", "overlay", "-o", options, merged],
    stderr: "null",
  }).output();
  await Deno.remove(`${folder}/probe`, { recursive: true });
  return success;
}

async function run(program: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args,
    env: { BUILDAH_ISOLATION: "chroot" },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  const said = decoder.decode(stderr);
  assert.equal(code, 0, `${program} ${args.slice(0, 6).join(" ")}: ${said.slice(-3000)}`);
  return decoder.decode(stdout).trim();
}

Deno.test({
  name:
    `the ${target} image is built from the tree alone, holds no secret, goes through a registry, and ` +
    `records into Azurite as no root on a read-only root; its health check tells${skipped}`,
  ignore: skipped !== "",
  fn: () =>
    inTempFolder(async (folder) => {
      try {
        await tryImage(folder);
      } finally {
        await unmountBelow(folder);
      }
    }),
});

async function tryImage(folder: string): Promise<void> {
  const driver = await mayOverlay(folder) ? "overlay" : "vfs";
  const buildah = (...args: string[]) =>
    run(
      "buildah",
      ...["--storage-driver", driver, "--root", `${folder}/store`, "--runroot", `${folder}/run`],
      ...args,
    );
  await prepareBases(folder, buildah);

  // What people have lying in a clone.
  await copyTree(`${folder}/tree`);
  await Deno.mkdir(`${folder}/tree/secrets`);
  for (const name of ["camsink.jsonc", ".env", "secrets/nest_token", "core/.env.local"]) {
    await Deno.writeTextFile(`${folder}/tree/${name}`, CANARY);
  }
  await buildah(
    ...["build", "--quiet", "--format", "docker", "--target", target, "--tag", "camsink:test"],
    // The certificates of this machine, for the way to its registry of packages; and the packages
    // that are here already, held to the hashes in the lock file as ever.
    ...["--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"],
    ...["--volume", `${await packageCache()}:/deno-dir/npm`],
    ...registryArguments(),
    ...["--build-arg", `CAMSINK_COMMIT=${"0123456789".repeat(4)}`, `${folder}/tree`],
  );

  let name = "";
  await withRegistry(folder, async (registry) => {
    name = `${registry}/camsink:test`;
    await buildah("push", "--quiet", "--tls-verify=false", "camsink:test", `docker://${name}`);
    await buildah("rmi", "--all", "--force");
    await buildah("pull", "--quiet", "--tls-verify=false", `docker://${name}`);
  });
  await assertNoCanary(folder, name, buildah);
  const settings = settingsOf(JSON.parse(await buildah("inspect", "--type", "image", name)));

  const container = await buildah("from", "--pull-never", name);
  const root = await buildah("mount", container);
  const sizeBytes = Number((await run("du", "-sb", root)).split("\t")[0]);
  assert.ok(sizeBytes <= MOST_BYTES[target], `the image has ${sizeBytes} bytes unpacked`);
  await record(folder, { root, ...settings });
}

/** buildah keeps its store mounted upon itself, so that the folder could not be removed. */
async function unmountBelow(folder: string): Promise<void> {
  const points = (await Deno.readTextFile("/proc/self/mounts")).split("\n")
    .map((line) => line.split(" ")[1] ?? "").filter((point) => point.startsWith(`${folder}/`));
  // The inner ones first. One that is still used goes when it is not any more.
  for (const point of points.reverse()) await run("umount", "--lazy", point);
}

/** A Debian with this Deno in it, under the two names that the Dockerfile has. */
async function prepareBases(
  folder: string,
  buildah: (...args: string[]) => Promise<string>,
): Promise<void> {
  await run(
    "mmdebstrap",
    "--quiet",
    // Only the full image is made with further packages.
    `--variant=${target === "full" ? "apt" : "essential"}`,
    // It is thrown away: nothing need be on the disk before the next step.
    "--dpkgopt=force-unsafe-io",
    "bookworm",
    `${folder}/base.tar`,
  );
  const base = await buildah("from", "scratch");
  await buildah("add", "--quiet", base, `${folder}/base.tar`, "/");
  await buildah("copy", "--quiet", base, Deno.execPath(), "/usr/bin/deno");
  await buildah(
    ...["config", "--env", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    ...["--env", "DENO_DIR=/deno-dir/", base],
  );
  await buildah("commit", "--quiet", "--rm", base, "docker.io/denoland/deno:2.9.6");
  await buildah("tag", "docker.io/denoland/deno:2.9.6", "docker.io/library/debian:bookworm-slim");
  await Deno.remove(`${folder}/base.tar`);
}

/** Where Deno keeps packages. */
async function packageCache(): Promise<string> {
  const { denoDir } = JSON.parse(await run(Deno.execPath(), "info", "--json"));
  await Deno.mkdir(`${denoDir}/npm`, { recursive: true });
  return `${denoDir}/npm`;
}

/** Another registry of packages than npm's own, where this machine is set to one. */
function registryArguments(): string[] {
  const registry = Deno.env.get("NPM_CONFIG_REGISTRY");
  return registry === undefined ? [] : ["--build-arg", `NPM_CONFIG_REGISTRY=${registry}`];
}

/** Runs Debian's registry on a free port while `body` runs. */
async function withRegistry(folder: string, body: (host: string) => Promise<void>): Promise<void> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  const host = `127.0.0.1:${port}`;
  await Deno.writeTextFile(
    `${folder}/registry.yml`,
    JSON.stringify({
      version: 0.1,
      storage: { filesystem: { rootdirectory: `${folder}/registry` } },
      http: { addr: host },
    }),
  );
  const child = new Deno.Command("docker-registry", {
    args: ["serve", `${folder}/registry.yml`],
    stdout: "null",
    stderr: "null",
  }).spawn();
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    for (let up = false; !up;) {
      signal.throwIfAborted();
      up = await fetch(`http://${host}/v2/`).then(
        async (response) => (await response.body?.cancel(), response.ok),
        () => new Promise((resolve) => setTimeout(() => resolve(false), 50)),
      );
    }
    await body(host);
  } finally {
    child.kill("SIGKILL");
    await child.status;
  }
}

/** Looks at every byte of every layer, and at the image's description. */
async function assertNoCanary(
  folder: string,
  image: string,
  buildah: (...args: string[]) => Promise<string>,
): Promise<void> {
  await buildah("push", "--quiet", "--disable-compression", image, `dir:${folder}/layers`);
  let layers = 0;
  for await (const path of walkFiles(`${folder}/layers`)) {
    layers++;
    const bytes = Buffer.from(await Deno.readFile(path));
    assert.equal(bytes.indexOf(CANARY), -1, `${path} has the canary`);
  }
  assert.ok(layers >= 3, `${layers} files in the image`);
  await Deno.remove(`${folder}/layers`, { recursive: true });
}

/** What engines read. */
function settingsOf(
  inspected: { Docker?: { config?: Record<string, unknown> } },
): { readonly env: readonly string[]; readonly health: readonly string[] } {
  const config = inspected.Docker?.config ?? {};
  assert.equal(config.User, "65532:65532");
  assert.equal(config.StopSignal, "SIGTERM");
  assert.deepEqual(Object.keys(config.Volumes as object), ["/data"]);
  assert.deepEqual(config.Entrypoint, ["/opt/camsink/camsink"]);
  assert.deepEqual(config.Cmd, ["capture", "--json"]);
  assert.match(JSON.stringify(config.Labels), /org\.opencontainers\.image\.licenses/);
  assert.doesNotMatch(JSON.stringify(config.Env), /token|secret|sas/i);
  const [kind, ...health] = (config.Healthcheck as { Test: string[] }).Test;
  assert.equal(kind, "CMD");
  assert.deepEqual(health, ["camsink", "status"]);
  return { env: config.Env as string[], health };
}

/**
 * Runs the image's root as a container engine does: read-only, with `/data` and `/tmp` of its own, as
 * its user, with its variables alone. (buildah's chroot isolation has no read-only root.)
 */
async function record(
  folder: string,
  { root, env, health }: {
    readonly root: string;
    readonly env: readonly string[];
    readonly health: readonly string[];
  },
): Promise<void> {
  await using azurite = await startAzurite();
  await using cloud = await startNestSimulator({ cameras: [{ name: "Front door" }] });
  const data = `${folder}/data`;
  const config = `${folder}/config`;
  await Deno.mkdir(data);
  await Deno.chown(data, 65532, 65532);
  await Deno.mkdir(config);
  await Deno.chmod(config, 0o755);
  await Deno.writeTextFile(
    `${config}/camsink.jsonc`,
    JSON.stringify({
      accounts: {
        home: {
          ...{ type: "nest", accessToken: "env:NEST_TOKEN", endpoints: cloud.endpoints },
          ...{ width: 320, fps: 5 },
        },
      },
      ...(target === "full" ? { encoder: { use: "system" } } : {}),
      clip: { length: "3s" },
      spool: { path: "/data/spool" },
      sinks: {
        azure: { type: "azure-blob", connectionString: "env:AZURE", container: "clips" },
      },
    }),
  );
  const inRoot = ["chroot", "--userspec=65532:65532", root];
  const command = (program: string, args: readonly string[]) =>
    new Deno.Command(program, {
      args: [...args],
      clearEnv: true,
      env: {
        ...Object.fromEntries(env.map((one) => one.split(/=(.*)/s).slice(0, 2))),
        // Of this machine, for the programs before `chroot`.
        PATH: `/opt/camsink:${HOST_PATH}`,
        NEST_TOKEN: cloud.credentials.accessToken,
        AZURE: azurite.connectionString,
      },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
  const decoder = new TextDecoder();
  const start = (...args: string[]) =>
    command("unshare", [
      ...["--mount", "--pid", "--fork", "--kill-child", "sh", "-eu", "-c", CONTAINER, "-"],
      ...[root, data, config, ...inRoot, "/opt/camsink/camsink", ...args],
    ]);
  const version = await start("--version").output();
  assert.match(
    decoder.decode(version.stdout),
    /^camsink \S+ \(0123456\), Deno .*container image\n/,
    decoder.decode(version.stderr),
  );

  const child = start("capture", "--json").spawn();
  const said = Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  const inside = async () =>
    Number((await Deno.readTextFile(`/proc/${child.pid}/task/${child.pid}/children`)).trim());
  /** As `docker exec` does it. */
  const exec = async (...args: string[]) => {
    const { code, stdout, stderr } = await command("nsenter", [
      ...["--mount", "--pid", "--target", String(await inside()), ...args],
    ]).output();
    return { code, text: decoder.decode(stdout) + decoder.decode(stderr) };
  };
  const clips = BlobServiceClient.fromConnectionString(azurite.connectionString)
    .getContainerClient("clips");
  const names = async () =>
    await clips.exists()
      ? (await Array.fromAsync(clips.listBlobsFlat())).map(({ name }) => name)
      : [];
  try {
    const signal = AbortSignal.timeout(600_000);
    let last = "";
    for (let ready = false; !ready;) {
      assert.ok(!signal.aborted, `it does not become healthy: ${last}`);
      await new Promise((resolve) => setTimeout(resolve, 500));
      const { code, text } = await exec(...inRoot, ...health);
      last = text;
      ready = code === 0 && (await names()).length >= 2;
    }
    assert.match(
      (await exec(...inRoot, "id")).text,
      /^uid=65532\S* gid=65532\S*( groups=65532\S*)?$/m,
    );
    // Not even root could write.
    for (const path of ["/", "/etc/", "/opt/camsink/"]) {
      const { text } = await exec("sh", "-c", 'true >"$1"', "-", `${root}${path}written`);
      assert.match(text, /Read-only file system/);
    }
    if (target === "full") {
      assert.match((await exec(...inRoot, "ffmpeg", "-version")).text, /^ffmpeg version 5/);
    }
    Deno.kill(await inside(), "SIGTERM");
    const { code } = await child.status;
    assert.equal(code, 0, (await said).join("\n"));
  } catch (error) {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended by itself, and what it said tells why.
    }
    throw new Error((await said).join("\n").slice(-4000), { cause: error });
  }
  const [stdout] = await said;
  const { sinks: [sink] } = JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
  // How much a busy machine still delivers while it stops is not asked.
  assert.ok(sink.clipsDelivered >= 2, stdout);
  const stored = await names();
  assert.ok(stored.length >= sink.clipsDelivered, stdout);
  let pictures = 0;
  for (const name of stored) {
    const bytes = await clips.getBlobClient(name).downloadToBuffer();
    const { frames } = await readClip(new Uint8Array(bytes));
    assert.ok(frames.every(({ strip }) => strip !== undefined), name);
    pictures += frames.length;
  }
  assert.ok(pictures > 5, `${pictures} pictures arrived: ${stdout}`);
  if (target === "full") assert.match(stdout, /"system/);
  // When nothing runs, the health check says so.
  const after = await start("status").output();
  assert.equal(after.code, 1, decoder.decode(after.stderr));
}

const HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** $1 root, $2 data, $3 configuration, then the command. */
const CONTAINER = `root=$1 data=$2 config=$3
shift 3
mount --bind "$root" "$root"
mount --bind "$data" "$root/data"
mount --bind "$config" "$root/etc/camsink"
mkdir -p "$root/proc" "$root/dev"
mount -t proc none "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 none "$root/tmp"
mount -o remount,bind,ro "$root"
cd "$root"
exec "$@"
`;
