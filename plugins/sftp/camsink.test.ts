/**
 * The conformance kit against the real OpenSSH server: `camsink plugin test .` It runs as whoever
 * runs the test, on a port of its own, with keys of its own.
 *
 * @module
 */
import { spawn, spawnSync } from "node:child_process";
import { createReadStream } from "node:fs";
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { userInfo } from "node:os";
import { join, relative } from "node:path";
import { Readable } from "node:stream";
import type { SinkTest } from "camsink";

const SSHD = "/usr/sbin/sshd";

/** A port that is free now. */
async function freePort(): Promise<number> {
  const server = createServer();
  const port = await new Promise<number>((resolve) =>
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    })
  );
  await new Promise<void>((done) => server.close(() => done()));
  return port;
}

function keygen(path: string): void {
  const { status, stderr } = spawnSync("ssh-keygen", [
    ...["-q", "-t", "ed25519", "-N", "", "-C", "kit", "-f", path],
  ]);
  if (status !== 0) throw new Error(`ssh-keygen failed: ${stderr}`);
}

const test: SinkTest = {
  unavailable: () =>
    spawnSync(SSHD, ["-V"]).error === undefined ? undefined : "openssh-server is not installed",
  start: async ({ folder, signal }) => {
    const root = join(folder, "store");
    const keys = join(folder, "keys");
    await mkdir(root);
    await mkdir(keys, { mode: 0o700 });
    for (const name of ["host", "user", "stranger"]) keygen(join(keys, name));
    await writeFile(join(keys, "authorized"), await readFile(join(keys, "user.pub")));
    await chmod(join(keys, "authorized"), 0o600);
    const port = await freePort();
    await writeFile(
      join(keys, "sshd_config"),
      [
        `Port ${port}`,
        "ListenAddress 127.0.0.1",
        `HostKey ${join(keys, "host")}`,
        `AuthorizedKeysFile ${join(keys, "authorized")}`,
        `PidFile ${join(keys, "pid")}`,
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "PermitRootLogin prohibit-password",
        "MaxStartups 100",
        "Subsystem sftp internal-sftp",
      ].join("\n"),
    );
    // sshd wants this folder where it is built to drop its rights.
    await mkdir("/run/sshd", { recursive: true }).catch(() => {});
    const child = spawn(SSHD, ["-D", "-e", "-f", join(keys, "sshd_config")], {
      stdio: ["ignore", "ignore", "pipe"],
      signal,
    });
    const gone = new Promise<void>((done) => child.on("close", () => done()));
    child.on("error", () => {}); // an abort; the exit is waited for below
    await new Promise<void>((resolve, reject) => {
      let said = "";
      child.stderr.on("data", (data) => {
        said = (said + data).slice(-4000);
        if (/Server listening/.test(said)) resolve();
      });
      child.on("close", () => reject(new Error(`sshd did not start: ${said}`)));
    });
    const [, fingerprint = ""] = /(SHA256:\S+)/.exec(
      String(spawnSync("ssh-keygen", ["-lf", join(keys, "host.pub")]).stdout),
    ) ?? [];
    return {
      url: `tcp://127.0.0.1:${port}`,
      config: (url) => ({
        host: new URL(url).hostname,
        port: Number(new URL(url).port),
        username: userInfo().username,
        hostKey: fingerprint,
        path: root,
      }),
      secrets: { privateKey: await readFile(join(keys, "user"), "utf8") },
      wrongSecrets: { privateKey: await readFile(join(keys, "stranger"), "utf8") },
      objects: async () => {
        const entries = await readdir(root, { recursive: true, withFileTypes: true });
        return entries.filter((entry) => entry.isFile()).map((entry) => {
          const path = join(entry.parentPath, entry.name);
          return {
            name: relative(root, path),
            read: () => Readable.toWeb(createReadStream(path)) as ReadableStream<Uint8Array>,
          };
        });
      },
      [Symbol.asyncDispose]: async () => {
        child.kill("SIGKILL");
        await gone;
      },
    };
  },
};
export default test;
