/**
 * The sink that keeps clips on any machine with an SSH server, by SFTP.
 *
 * A clip is written to a hidden name (`.NAME.part`), flushed where the server can, and renamed. An
 * SFTP rename fails where the name is taken (draft-ietf-secsh-filexfer-02 §6.5), so nothing is ever
 * overwritten. SFTP tells a size but no hash: where a name is taken by something of the same size,
 * it is read back and compared. A connection is kept between puts and dropped at the first trouble.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
// @ts-types="./ssh2_types.d.ts"
import ssh2 from "ssh2";
import * as v from "valibot";
import {
  type Clip,
  defineSink,
  keyParts,
  provenBytes,
  type PutOptions,
  type PutResult,
  type Secret,
  secret,
  type Sink,
  SinkError,
  type SinkPlugin,
  type StoredObject,
} from "camsink";
import type { Client as SshClient, SFTPWrapper } from "./ssh2_types.d.ts";

/** Options of the `sftp` sink. */
export interface SftpOptions {
  /** The server's name or address. */
  readonly host: string;
  /** Of its SSH server. */
  readonly port: number;
  /** Of the login. */
  readonly username: string;
  /** Of the login. */
  readonly password?: Secret;
  /** In place of the password: the text of an OpenSSH private key without a passphrase. */
  readonly privateKey?: Secret;
  /** The server's key, as `ssh-keygen -lf` shows it: `SHA256:…`. */
  readonly hostKey: string;
  /** The folder that receives the clips; it must exist. */
  readonly path: string;
}

const text = (what: string) => v.pipe(v.string(`expected ${what}`), v.nonEmpty(`expected ${what}`));

const schema = v.pipe(
  v.strictObject({
    host: v.pipe(text("a host name"), v.description("The server's name or address.")),
    port: v.optional(
      v.pipe(
        v.number("expected a port"),
        v.integer("expected a port"),
        v.minValue(1, "expected a port: 1 to 65535"),
        v.maxValue(65535, "expected a port: 1 to 65535"),
        v.description("The port of its SSH server."),
      ),
      22,
    ),
    username: v.pipe(text("a user name"), v.description("The user's name.")),
    password: v.optional(v.pipe(secret(), v.description("The password."))),
    privateKey: v.optional(v.pipe(
      secret(),
      v.description("In place of the password: an OpenSSH private key, such as `file:/etc/key`."),
    )),
    hostKey: v.pipe(
      v.string('expected the server\'s key, such as "SHA256:…"'),
      v.regex(
        /^SHA256:[A-Za-z0-9+/]{43}$/,
        'expected the server\'s key as "ssh-keyscan HOST | ssh-keygen -lf -" shows it: "SHA256:…"',
      ),
      v.description(
        "The server's key, `SHA256:…`: `ssh-keyscan HOST | ssh-keygen -lf -` shows it.",
      ),
    ),
    path: v.pipe(
      text("a folder on the server"),
      v.description("The folder on the server that receives the clips; it must exist."),
    ),
  }),
  v.check(
    ({ password, privateKey }) => (password === undefined) !== (privateKey === undefined),
    'expected either "password" or "privateKey", by reference, such as "env:SFTP_PASSWORD"',
  ),
  v.description("Any machine with an SSH server, by SFTP."),
);

/** The `sftp` sink. */
const sftp: SinkPlugin<SftpOptions> = defineSink<SftpOptions>({
  name: "sftp",
  config: schema,
  net: ({ host, port }) => [`${host}:${port}`],
  open: ({ config }): Sink => new SftpSink(config),
});
export default sftp;

/** Written at once, and how many such writes are under way: enough to fill a line of 100 ms. */
const WRITE_BYTES = 32 * 1024;
const MAX_WRITES = 32;
const READ_BYTES = 32 * 1024;
const MAX_READS = 32;
/** SSH_FX_EOF. */
const END_OF_FILE = 1;
const CONNECT_MS = 20_000;
const KEEP_ALIVE_MS = 15_000;

interface Connection {
  /** What it was made with: another one makes another connection. */
  readonly credential: string;
  /** When the login is done. */
  readonly ready: Promise<SFTPWrapper>;
  /** Rejects when it is over. */
  readonly broken: Promise<never>;
  end(): void;
}

class SftpSink implements Sink {
  readonly #options: SftpOptions;
  readonly #open = new Set<SshClient>();
  #connection: Connection | undefined;

  constructor(options: SftpOptions) {
    this.#options = options;
  }

  put(clip: Clip, options: PutOptions): Promise<PutResult> {
    const { signal, attempt } = options;
    const target = this.#place(clip.key);
    const part = hidden(target);
    return this.#connected(`cannot store ${clip.key}`, signal, async (files) => {
      // Mostly there is none; one that cannot be removed is no reason to fail, or to fail otherwise.
      const dropPart = () => call((done) => files.unlink(part, done)).catch(() => {});
      const known = await sizeOf(files, target);
      if (known !== undefined) {
        await dropPart(); // of a try that came too late, and was killed before it could do this
        return await settle(files, clip, target, known);
      }
      await this.#makeFolders(files, clip.key);
      if (attempt > 1) await dropPart();
      try {
        await write(files, part, clip, options);
        await call((done) => files.rename(part, target, done));
      } catch (error) {
        const winner = isAnswer(error) ? await sizeOf(files, target) : undefined;
        // Nobody may ever try again: a part would lie there for good, on a full disk too.
        if (isAnswer(error)) await dropPart();
        if (winner === undefined) throw error;
        return await settle(files, clip, target, winner);
      }
      return { state: "stored", url: this.#url(target) };
    });
  }

  stat(
    key: string,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<StoredObject | undefined> {
    const target = this.#place(key);
    return this.#connected(`cannot look up ${key}`, signal, async (files) => {
      const bytes = await sizeOf(files, target);
      return bytes === undefined ? undefined : { bytes };
    });
  }

  async remove(key: string, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    const target = this.#place(key);
    await this.#connected(`cannot remove ${key}`, signal, async (files) => {
      await call((done) => files.unlink(target, done)).catch(ignoreMissing);
    });
  }

  /** Writes and removes a small file. */
  async check({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const path = `${this.#root}/.camsink-check-${crypto.randomUUID()}`;
    await this.#connected(`cannot write in ${this.#root}`, signal, async (files) => {
      const handle = await call<Buffer>((done) => files.open(path, "wx", done));
      await call((done) => files.close(handle, done));
      await call((done) => files.unlink(path, done));
    });
  }

  close(): Promise<void> {
    for (const client of this.#open) client.destroy();
    return Promise.resolve();
  }

  get #root(): string {
    return this.#options.path.replace(/\/+$/, "") || "/";
  }

  #place(key: string): string {
    return `${this.#root}/${keyParts(key).join("/")}`;
  }

  #url(path: string): string {
    const { host, port } = this.#options;
    const place = path.split("/").map(encodeURIComponent).join("/");
    return `sftp://${host}:${port}${place.startsWith("/") ? "" : "/"}${place}`;
  }

  async #makeFolders(files: SFTPWrapper, key: string): Promise<void> {
    const parts = keyParts(key).slice(0, -1);
    const isFolder = (path: string) =>
      call<{ isDirectory(): boolean }>((done) => files.stat(path, done))
        .then((found) => found.isDirectory(), () => false);
    if (await isFolder(`${this.#root}/${parts.join("/")}`)) return;
    if (!await isFolder(this.#root)) {
      throw new SinkError(
        "retry",
        `the folder ${this.#root} does not exist: create it, or mount the disk that should be there`,
      );
    }
    for (let depth = 1; depth <= parts.length; depth++) {
      const path = `${this.#root}/${parts.slice(0, depth).join("/")}`;
      try {
        await call((done) => files.mkdir(path, done));
      } catch (error) {
        if (!await isFolder(path)) throw error; // otherwise it was there, or another put made it
      }
    }
  }

  /** Runs one operation; trouble or an abort drops the connection, and with it whatever else is on it. */
  async #connected<T>(
    what: string,
    signal: AbortSignal,
    run: (files: SFTPWrapper) => Promise<T>,
  ): Promise<T> {
    signal.throwIfAborted();
    const { password, privateKey, host } = this.#options;
    const credential = await reveal(password ?? privateKey);
    if (this.#connection?.credential !== credential) {
      this.#connection = this.#connect(credential);
    }
    const connection = this.#connection;
    const aborted = Promise.withResolvers<never>();
    aborted.promise.catch(() => {}); // raced below
    const abort = () => aborted.reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    const over = (promise: Promise<T | SFTPWrapper>) =>
      Promise.race([promise, connection.broken, aborted.promise]);
    try {
      const files = await over(connection.ready) as SFTPWrapper;
      return await over(run(files)) as T;
    } catch (error) {
      if (!isAnswer(error) || signal.aborted) {
        if (this.#connection === connection) this.#connection = undefined;
        connection.end();
      }
      signal.throwIfAborted();
      throw toSinkError(error, `${what} on ${host}`);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  #connect(credential: string): Connection {
    const { host, port, username, password, hostKey } = this.#options;
    const client = new ssh2.Client();
    const broken = Promise.withResolvers<never>();
    broken.promise.catch(() => {}); // raced by whoever uses the connection
    const end = () => {
      this.#open.delete(client);
      client.destroy();
    };
    let shownKey = "";
    const fail = (error: Error) => {
      if (this.#connection === connection) this.#connection = undefined;
      end();
      broken.reject(
        shownKey === "" || shownKey === hostKey ? error : new SinkError(
          "auth",
          `${host} shows the key ${shownKey}, and "hostKey" is ${hostKey}: if the server was set ` +
            "up anew put the new key there; if not, somebody else answers in its place",
        ),
      );
    };
    client.on("connect", () => client.setNoDelay(true)); // ssh2 writes in pieces: each call would wait 40 ms
    client.on("error", fail);
    client.on("close", () => fail(new Error("the connection broke")));
    this.#open.add(client);
    const ready = new Promise<void>((resolve) => client.on("ready", resolve))
      .then(() => call<SFTPWrapper>((done) => client.sftp(done)));
    ready.then((files) => files.on("error", fail), fail);
    const connection: Connection = { credential, ready, broken: broken.promise, end };
    const login = password ? { password: credential } : { privateKey: credential };
    try {
      client.connect({
        host,
        port,
        username,
        readyTimeout: CONNECT_MS,
        keepaliveInterval: KEEP_ALIVE_MS,
        ...login,
        hostVerifier: (key: Buffer) => {
          const hash = createHash("sha256").update(key).digest("base64").replace(/=+$/, "");
          shownKey = `SHA256:${hash}`;
          return shownKey === hostKey;
        },
      });
    } catch (error) {
      fail(error instanceof Error ? error : new Error(String(error)));
    }
    return connection;
  }
}

/** Writes a clip into a new file, with some writes under way at once. */
async function write(
  files: SFTPWrapper,
  path: string,
  clip: Clip,
  options: PutOptions,
): Promise<void> {
  const handle = await call<Buffer>((done) => files.open(path, "w", done));
  const under = new Set<Promise<void>>();
  let at = 0;
  let toldBytes = 0;
  let failed: unknown;
  const all = async () => {
    for await (const chunk of provenBytes(clip, { ...options, progress: () => {} })) {
      for (let from = 0; from < chunk.length; from += WRITE_BYTES) {
        const piece = Buffer.from(chunk.subarray(from, from + WRITE_BYTES));
        const offset = at;
        at += piece.length;
        const one = call((done) => files.write(handle, piece, 0, piece.length, offset, done))
          .then(() => {
            under.delete(one);
            toldBytes = Math.max(toldBytes, at - (under.size + 1) * WRITE_BYTES);
            options.progress(toldBytes);
          }, (error) => {
            under.delete(one);
            failed ??= error;
          });
        under.add(one);
        while (under.size >= MAX_WRITES) await Promise.race(under);
        if (failed !== undefined) throw failed;
      }
    }
    await Promise.all(under);
    if (failed !== undefined) throw failed;
  };
  try {
    await all();
  } catch (error) {
    if (isAnswer(error)) {
      await Promise.all(under);
      await call((done) => files.close(handle, done)).catch(() => {});
    }
    throw error;
  }
  // OpenSSH's extension; a server without it has no way to be asked.
  await call((done) => files.ext_openssh_fsync(handle, done)).catch(() => {});
  await call((done) => files.close(handle, done));
  options.progress(clip.bytes);
}

/** The key is taken: by this very clip, or by something else. */
async function settle(
  files: SFTPWrapper,
  clip: Clip,
  path: string,
  bytes: number,
): Promise<PutResult> {
  if (bytes === clip.bytes && await sha256Of(files, path, bytes) === clip.sha256) {
    return { state: "already-there" };
  }
  throw new SinkError(
    "conflict",
    `${clip.key} is taken by another file of ${bytes} bytes; it is left as it is`,
  );
}

/** Reads it back, with as many reads under way at once as there are writes. */
async function sha256Of(files: SFTPWrapper, path: string, bytes: number): Promise<string> {
  const hash = createHash("sha256");
  const handle = await call<Buffer>((done) => files.open(path, "r", done));
  try {
    const ahead: Promise<Uint8Array>[] = [];
    for (let asked = 0; asked < bytes || ahead.length > 0;) {
      while (asked < bytes && ahead.length < MAX_READS) {
        const piece = readPiece(files, handle, asked, Math.min(READ_BYTES, bytes - asked));
        piece.catch(() => {}); // awaited in its turn, unless one before it fails
        ahead.push(piece);
        asked += READ_BYTES;
      }
      hash.update(await ahead.shift() ?? new Uint8Array(0));
    }
  } finally {
    call((done) => files.close(handle, done)).catch(() => {}); // the connection may be gone
  }
  return hash.digest("hex");
}

/** Bytes at a place; fewer only where the file ends. A server may give less than was asked for. */
async function readPiece(
  files: SFTPWrapper,
  handle: Buffer,
  from: number,
  length: number,
): Promise<Uint8Array> {
  const piece = Buffer.alloc(length);
  for (let got = 0; got < length;) {
    const read = await call<number>((done) =>
      files.read(handle, piece, got, length - got, from + got, done)
    ).catch((error) => {
      if (codeOf(error) === END_OF_FILE) return 0;
      throw error;
    });
    if (read === 0) return piece.subarray(0, got);
    got += read;
  }
  return piece;
}

async function sizeOf(files: SFTPWrapper, path: string): Promise<number | undefined> {
  const found = await call<{ size: number }>((done) => files.stat(path, done)).catch(ignoreMissing);
  return found?.size;
}

/** `/a/b.mp4` → `/a/.b.mp4.part`. */
function hidden(path: string): string {
  const slash = path.lastIndexOf("/") + 1;
  return `${path.slice(0, slash)}.${path.slice(slash)}.part`;
}

function call<T = void>(
  run: (done: (error: Error | null | undefined, value?: T) => void) => unknown,
): Promise<T> {
  return new Promise((resolve, reject) => {
    run((error, value) => error ? reject(error) : resolve(value as T));
  });
}

async function reveal(secret: Secret | undefined): Promise<string> {
  try {
    return await secret?.reveal() ?? "";
  } catch (error) {
    throw new SinkError("auth", error instanceof Error ? error.message : String(error));
  }
}

/** Status 2 of SFTP: no such file. */
function ignoreMissing(error: unknown): undefined {
  if (codeOf(error) === 2) return undefined;
  throw error;
}

/** What the server or the clip itself is the reason of; the connection is well. */
function isAnswer(error: unknown): boolean {
  return error instanceof SinkError || typeof codeOf(error) === "number";
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

function toSinkError(error: unknown, what: string): SinkError {
  if (error instanceof SinkError) return error;
  const text = error instanceof Error ? error.message : String(error);
  const level = error instanceof Error && "level" in error ? error.level : "";
  if (level === "client-authentication" || /authentication|privateKey/i.test(text)) {
    return new SinkError("auth", `${what}: the login is refused; look at username and credential`);
  }
  switch (codeOf(error)) {
    case 3:
      return new SinkError("auth", `${what}: the user may not write there`);
    case 4:
      return /space|quota|full/i.test(text)
        ? new SinkError("full", `${what}: there is no room left`)
        : new SinkError("retry", `${what}: the server says ${JSON.stringify(text)}`);
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return new SinkError("retry", `${what}: the host is unknown; check its name and the network`);
    case "ECONNREFUSED":
      return new SinkError("retry", `${what}: nothing listens there; check the port`);
    default:
      return new SinkError("retry", `${what}: ${text}`);
  }
}
