/**
 * The sink that keeps clips on a WebDAV server: Nextcloud, ownCloud, a Synology or QNAP, rclone.
 *
 * A clip is sent to a hidden name (`.NAME.part`) beside its own and given its name by
 * `MOVE` with `Overwrite: F` (RFC 4918 §9.9.3), which fails where something already has it: so the
 * name appears only with the whole clip under it, and nothing is overwritten. WebDAV tells a size
 * but no hash: where a name is taken by something of the same size, it is read back and compared. So
 * is what was sent over plain `http:`, before it gets its name; over `https:` TLS proves it.
 *
 * @module
 */
import { createHash } from "node:crypto";
import * as v from "valibot";
import {
  type Clip,
  defineSink,
  encodeKey,
  type HttpAnswer,
  httpAuth,
  httpSend,
  httpSinkError,
  httpUrl,
  keyParts,
  type PutOptions,
  type PutResult,
  type Secret,
  secret,
  sendClip,
  type Sink,
  SinkError,
  sinkErrorKind,
  type SinkPlugin,
  type StoredObject,
} from "camsink";

/** Options of the `webdav` sink. */
export interface WebdavOptions {
  /** The folder that receives the clips; it must exist. */
  readonly url: string;
  /** Of the login. */
  readonly username: string;
  /** Of the login: with Nextcloud an app password. */
  readonly password: Secret;
}

const schema = v.pipe(
  v.strictObject({
    url: v.pipe(
      httpUrl(),
      v.description(
        "The folder that receives the clips, such as " +
          "`https://cloud.example.com/remote.php/dav/files/me/cameras`; it must exist.",
      ),
    ),
    username: v.pipe(
      v.string("expected a user name"),
      v.nonEmpty("expected a user name"),
      v.description("The user's name."),
    ),
    password: v.pipe(secret(), v.description("The password; with Nextcloud an app password.")),
  }),
  v.description("A WebDAV server: Nextcloud, a NAS."),
);

/** The `webdav` sink. */
const webdav: SinkPlugin<WebdavOptions> = defineSink<WebdavOptions>({
  name: "webdav",
  config: schema,
  net: ({ url }) => [new URL(url).host],
  open: ({ config, fetch }) => new WebdavSink(config, fetch),
});
export default webdav;

/** Folders that are remembered as made; a clip a minute makes one a day per camera. */
const MAX_FOLDERS = 500;

interface Asked {
  readonly signal: AbortSignal;
  readonly headers?: Readonly<Record<string, string>>;
}

class WebdavSink implements Sink {
  readonly #options: WebdavOptions;
  readonly #root: string;
  readonly #fetch: typeof fetch;
  readonly #folders = new Set<string>();
  /** Servers lock what two requests make at once (423): folders are made one after the other. */
  #making: Promise<void> = Promise.resolve();

  constructor(options: WebdavOptions, fetcher: typeof fetch) {
    this.#options = options;
    this.#root = options.url.replace(/\/+$/, "");
    this.#fetch = fetcher;
  }

  async put(clip: Clip, options: PutOptions): Promise<PutResult> {
    const { signal } = options;
    signal.throwIfAborted();
    const url = `${this.#root}/${encodeKey(clip.key)}`;
    const what = `cannot store ${clip.key}`;
    const part = `${this.#root}/${encodeKey(hidden(clip.key))}`;
    const known = await this.stat(clip.key, { signal });
    if (known !== undefined) {
      // Of a try that came too late, and was killed before it could do this.
      await this.#ask("DELETE", part, { signal });
      return await this.#settle(clip, known, options);
    }
    const mine = this.#making.then(() => this.#makeFolders(clip.key, signal));
    this.#making = mine.catch(() => {}); // the next one's turn, whatever became of this one
    await mine;
    try {
      return await this.#send(clip, { part, url, what, options });
    } catch (error) {
      const kind = sinkErrorKind(error);
      if (!signal.aborted && (kind === "permanent" || kind === "full")) {
        // No later try will replace what was sent so far; what is in the way here is told already.
        await this.#ask("DELETE", part, { signal }).catch(() => {});
      }
      throw error;
    }
  }

  async #send(
    clip: Clip,
    { part, url, what, options }: {
      readonly part: string;
      readonly url: string;
      readonly what: string;
      readonly options: PutOptions;
    },
  ): Promise<PutResult> {
    const { signal, progress } = options;
    const isProven = new URL(this.#root).protocol === "https:";
    const sent = await sendClip(part, {
      clip,
      // Reading it back is half of the way.
      options: isProven
        ? options
        : { ...options, progress: (bytes) => progress(Math.floor(bytes / 2)) },
      headers: await httpAuth(this.#options),
    });
    if (!sent.ok) {
      // 404 and 409: the folder is gone; 423: another client holds the file.
      if ([404, 409, 423].includes(sent.status)) {
        this.#folders.clear();
        throw new SinkError("retry", `${what}: its folder is gone or locked (${sent.status})`);
      }
      throw httpSinkError(sent, what);
    }
    if (!isProven) {
      const arrived = await this.#sha256Of(part, {
        signal,
        progress: (bytes) => progress(Math.floor((clip.bytes + bytes) / 2)),
      });
      if (arrived !== clip.sha256) {
        await this.#ask("DELETE", part, { signal });
        throw new SinkError("retry", `${what}: it was damaged on the way`);
      }
    }
    const moved = await this.#ask("MOVE", part, {
      signal,
      headers: { destination: url, overwrite: "F" },
    });
    if (moved.ok) return { state: "stored", url };
    if (moved.status === 412) {
      await this.#ask("DELETE", part, { signal });
      const winner = await this.stat(clip.key, { signal });
      if (winner !== undefined) return await this.#settle(clip, winner, options);
    }
    throw moved.status === 404 || moved.status === 412
      ? new SinkError("retry", `${what}: what was sent is gone again (${moved.status})`)
      : httpSinkError(moved, what);
  }

  async stat(
    key: string,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<StoredObject | undefined> {
    const answer = await this.#ask("HEAD", `${this.#root}/${encodeKey(key)}`, { signal });
    if (answer.status === 404) return undefined;
    if (!answer.ok) throw httpSinkError(answer, `cannot look up ${key}`);
    const etag = answer.header("etag");
    return {
      bytes: Number(answer.header("content-length")),
      ...(etag === undefined ? {} : { etag }),
    };
  }

  async remove(key: string, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    const answer = await this.#ask("DELETE", `${this.#root}/${encodeKey(key)}`, { signal });
    if (!answer.ok && answer.status !== 404) throw httpSinkError(answer, `cannot remove ${key}`);
  }

  /** Stores and removes a small file. */
  async check({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const url = `${this.#root}/.camsink-check-${crypto.randomUUID()}`;
    const body = new TextEncoder().encode("camsink check");
    const put = await httpSend({
      method: "PUT",
      url,
      headers: await httpAuth(this.#options),
      body: { bytes: body.length, data: [body] },
      signal,
    });
    if (put.status === 404 || put.status === 409) {
      throw new SinkError("permanent", `the folder ${this.#root} does not exist: create it`);
    }
    if (!put.ok) throw httpSinkError(put, "the test file could not be stored");
    const removed = await this.#ask("DELETE", url, { signal });
    if (!removed.ok) throw httpSinkError(removed, "the test file was stored but not removed");
  }

  async #ask(method: string, url: string, { signal, headers }: Asked): Promise<HttpAnswer> {
    return await httpSend({
      method,
      url,
      headers: { ...await httpAuth(this.#options), ...headers },
      signal,
    });
  }

  /** The folders of a key; `MKCOL` of one that is there answers 405. */
  async #makeFolders(key: string, signal: AbortSignal): Promise<void> {
    const parts = keyParts(key).slice(0, -1);
    for (let depth = 1; depth <= parts.length; depth++) {
      const folder = encodeKey(parts.slice(0, depth).join("/"));
      if (this.#folders.has(folder)) continue;
      const answer = await this.#ask("MKCOL", `${this.#root}/${folder}`, { signal });
      if (!answer.ok && answer.status !== 405) {
        if (answer.status === 409 || answer.status === 404) {
          throw new SinkError(
            "retry",
            `cannot make the folder ${folder}: ${this.#root} does not exist; create it`,
          );
        }
        if (answer.status === 423) {
          throw new SinkError("retry", `the folder ${folder} is locked by another client`);
        }
        throw httpSinkError(answer, `cannot make the folder ${folder}`);
      }
      if (this.#folders.size >= MAX_FOLDERS) this.#folders.clear();
      this.#folders.add(folder);
    }
  }

  /** The key is taken: by this very clip, or by something else. */
  async #settle(clip: Clip, known: StoredObject, options: PutOptions): Promise<PutResult> {
    const url = `${this.#root}/${encodeKey(clip.key)}`;
    if (known.bytes === clip.bytes && await this.#sha256Of(url, options) === clip.sha256) {
      return { state: "already-there", url };
    }
    throw new SinkError(
      "conflict",
      `${clip.key} is taken by another file of ${known.bytes} bytes; it is left as it is`,
    );
  }

  /** Tells how far it has read: reading a large clip takes its time, too. */
  async #sha256Of(
    url: string,
    { signal, progress }: Pick<PutOptions, "signal" | "progress">,
  ): Promise<string> {
    const hash = createHash("sha256");
    let bytes = 0;
    let response: Response;
    try {
      response = await this.#fetch(url, { headers: await httpAuth(this.#options), signal });
    } catch {
      signal.throwIfAborted();
      throw new SinkError("retry", `no answer from ${new URL(url).host} while reading back`);
    }
    if (!response.ok) {
      await response.body?.cancel();
      throw httpSinkError({
        status: response.status,
        header: (name) => response.headers.get(name) ?? undefined,
      }, "cannot read back what is stored");
    }
    try {
      for await (const chunk of response.body ?? []) {
        hash.update(chunk);
        progress(bytes += chunk.length);
      }
    } catch {
      signal.throwIfAborted();
      throw new SinkError("retry", "the connection broke while reading back");
    }
    return hash.digest("hex");
  }
}

/** `a/b.mp4` → `a/.b.mp4.part`. */
function hidden(key: string): string {
  const slash = key.lastIndexOf("/") + 1;
  return `${key.slice(0, slash)}.${key.slice(slash)}.part`;
}
