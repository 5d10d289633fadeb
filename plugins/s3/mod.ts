/**
 * The sink that keeps clips in a bucket of any store that speaks S3: AWS, Cloudflare R2, Backblaze
 * B2, MinIO, Garage, Ceph, a NAS.
 *
 * A clip up to one part long goes in one request, a longer one as a multipart upload, part by part,
 * so that memory stays bounded by the size of a part. Each body is proved by its MD5, and the whole
 * by its SHA-256 before the upload is completed; only then does the key appear. An existing object
 * is never overwritten: the key is looked up first, and `If-None-Match: *` guards the moment between
 * where the store knows it (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { AwsV4Signer } from "aws4fetch";
import * as v from "valibot";
import {
  type Clip,
  defineSink,
  encodeKey,
  type HttpAnswer,
  httpSend,
  httpSinkError,
  httpUrl,
  provenBytes,
  type PutOptions,
  type PutResult,
  type Secret,
  secret,
  type Sink,
  SinkError,
  type SinkPlugin,
  size,
  type StoredObject,
} from "camsink";

/** Options of the `s3` sink. */
export interface S3Options {
  /** The store's URL; AWS of the region if left out. */
  readonly endpoint?: string;
  /** As the store names it. */
  readonly region: string;
  /** It must exist. */
  readonly bucket: string;
  /** In front of every key. */
  readonly prefix: string;
  /** The public half of the credential. */
  readonly accessKeyId: string;
  /** The secret half. */
  readonly secretAccessKey: Secret;
  /** Of a temporary credential. */
  readonly sessionToken?: Secret;
  /** Such as `STANDARD_IA`; the bucket's default if left out. */
  readonly storageClass?: string;
  /** Longer clips are sent in parts of this size, bytes. */
  readonly partSize: number;
}

const MiB = 2 ** 20;

const text = (what: string) => v.pipe(v.string(`expected ${what}`), v.nonEmpty(`expected ${what}`));

const schema = v.pipe(
  v.strictObject({
    endpoint: v.optional(v.pipe(
      httpUrl(),
      v.description("The store's URL, such as `https://s3.example.com`; AWS if left out."),
    )),
    region: v.optional(
      v.pipe(text("a region"), v.description("The region, as the store names it.")),
      "us-east-1",
    ),
    bucket: v.pipe(
      v.string("expected the name of a bucket"),
      v.regex(
        /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/,
        "expected the name of a bucket: 3 to 63 lower-case letters, digits, dots and dashes",
      ),
      v.description("The bucket; it must exist."),
    ),
    prefix: v.optional(
      v.pipe(
        v.string("expected a text"),
        v.description("In front of every key, such as `home/`."),
      ),
      "",
    ),
    accessKeyId: v.pipe(text("an access key id"), v.description("The credential's public half.")),
    secretAccessKey: v.pipe(secret(), v.description("The credential's secret half.")),
    sessionToken: v.optional(
      v.pipe(secret(), v.description("The session token of a temporary credential.")),
    ),
    storageClass: v.optional(v.pipe(
      v.string("expected a storage class"),
      v.regex(/^[A-Z_0-9]+$/, 'expected a storage class such as "STANDARD_IA"'),
      v.description("The storage class, such as `STANDARD_IA`."),
    )),
    partSize: v.optional(
      v.pipe(
        size(),
        v.check(
          (bytes) => bytes >= 5 * MiB && bytes <= 100 * MiB,
          'expected a size between "5MiB" and "100MiB"',
        ),
        v.description("Longer clips are sent in parts of this size."),
      ),
      "8MiB",
    ),
  }),
  v.description("A bucket of any store that speaks S3."),
);

/** The `s3` sink. */
const s3: SinkPlugin<S3Options> = defineSink<S3Options>({
  name: "s3",
  config: schema,
  net: (config) => [new URL(bucketUrl(config)).host],
  open: ({ config }) => new S3Sink(config),
});
export default s3;

/** AWS wants the bucket in the host's name; all others take it as the first part of the path. */
function bucketUrl({ endpoint, region, bucket }: S3Options): string {
  return endpoint === undefined
    ? `https://${bucket}.s3.${region}.amazonaws.com`
    : `${endpoint.replace(/\/+$/, "")}/${bucket}`;
}

interface S3Request {
  readonly method: string;
  /** Encoded; empty for the bucket itself. */
  readonly path: string;
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array<ArrayBuffer>;
  readonly signal: AbortSignal;
  /** Told of the body's bytes as they are taken. */
  readonly onSent?: (bytes: number) => void;
}

class S3Sink implements Sink {
  readonly #options: S3Options;
  /** Some stores (B2, old MinIO) refuse conditional writes: found out once. */
  #conditional = true;

  constructor(options: S3Options) {
    this.#options = options;
  }

  async put(clip: Clip, options: PutOptions): Promise<PutResult> {
    const { signal } = options;
    signal.throwIfAborted();
    const path = this.#path(clip.key);
    const url = `${bucketUrl(this.#options)}/${path}`;
    const known = await this.stat(clip.key, { signal });
    if (known !== undefined) return settle(clip, known, url);
    if (options.attempt > 1) await this.#abortUploads(path, signal);
    const answer = clip.bytes <= this.#options.partSize
      ? await this.#putWhole(clip, path, options)
      : await this.#putParts(clip, path, options);
    if (answer.status === 412 || answer.status === 409) {
      const winner = await this.stat(clip.key, { signal });
      if (winner !== undefined) return settle(clip, winner, url);
    }
    if (!answer.ok) throw failure(answer, `cannot store ${clip.key}`);
    const etag = answer.header("etag") ?? /<ETag>(.*?)<\/ETag>/.exec(answer.text)?.[1];
    return { state: "stored", url, ...(etag === undefined ? {} : { etag: plain(etag) }) };
  }

  async stat(
    key: string,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<StoredObject | undefined> {
    const answer = await this.#send({ method: "HEAD", path: this.#path(key), signal });
    if (answer.status === 404) return undefined;
    if (!answer.ok) throw failure(answer, `cannot look up ${key}`);
    const sha256 = answer.header("x-amz-meta-sha256");
    const etag = answer.header("etag");
    return {
      bytes: Number(answer.header("content-length")),
      ...(sha256 === undefined ? {} : { sha256 }),
      ...(etag === undefined ? {} : { etag: plain(etag) }),
    };
  }

  async remove(key: string, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    const answer = await this.#send({ method: "DELETE", path: this.#path(key), signal });
    if (!answer.ok && answer.status !== 404) throw failure(answer, `cannot remove ${key}`);
  }

  /** Stores and removes an object whose name is always the same, so that at worst one is left. */
  async check({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const path = this.#path("camsink-check");
    const body = new TextEncoder().encode("camsink check");
    const put = await this.#send({ method: "PUT", path, body, signal });
    if (!put.ok) throw failure(put, "the test object could not be stored");
    const removed = await this.#send({ method: "DELETE", path, signal });
    if (!removed.ok) {
      throw failure(removed, "the test object was stored as camsink-check but not removed");
    }
  }

  async #putWhole(clip: Clip, path: string, options: PutOptions): Promise<HttpAnswer> {
    const parts: Uint8Array[] = [];
    for await (const part of provenBytes(clip, { ...options, progress: () => {} })) {
      parts.push(part);
    }
    const body = new Uint8Array(Buffer.concat(parts));
    return await this.#sendOnce((conditions) => ({
      method: "PUT",
      path,
      body,
      headers: { ...this.#headers(clip), ...conditions },
      signal: options.signal,
      onSent: options.progress,
    }));
  }

  async #putParts(clip: Clip, path: string, options: PutOptions): Promise<HttpAnswer> {
    const { signal } = options;
    const what = `cannot store ${clip.key}`;
    const started = await this.#send({
      method: "POST",
      path,
      query: "uploads=",
      headers: this.#headers(clip),
      signal,
    });
    if (!started.ok) throw failure(started, what);
    const id = /<UploadId>(.*?)<\/UploadId>/.exec(started.text)?.[1];
    if (id === undefined) {
      throw new SinkError("retry", `${what}: the store's answer names no upload`);
    }
    const query = `uploadId=${encodeURIComponent(id)}`;
    try {
      const etags: string[] = [];
      let sentBytes = 0;
      for await (const body of this.#parts(clip, options)) {
        const part = await this.#send({
          method: "PUT",
          path,
          query: `partNumber=${etags.length + 1}&${query}`,
          body,
          signal,
          onSent: (bytes) => options.progress(sentBytes + bytes),
        });
        if (!part.ok) throw failure(part, `${what}, part ${etags.length + 1}`);
        etags.push(part.header("etag") ?? "");
        sentBytes += body.length;
      }
      const list = etags.map((etag, index) =>
        `<Part><PartNumber>${index + 1}</PartNumber><ETag>${etag}</ETag></Part>`
      );
      const body = `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${
        list.join("")
      }</CompleteMultipartUpload>`;
      const done = await this.#sendOnce((conditions) => ({
        method: "POST",
        path,
        query,
        headers: conditions,
        body: new TextEncoder().encode(body),
        signal,
      }));
      // S3 may say 200 first and the error in the body, for completing takes long.
      const isError = done.ok && /<Error>/.test(done.text);
      if (isError) throw failure({ ...done, status: 500 }, what);
      return done;
    } catch (error) {
      // Parts that nobody completes are stored, and paid for, for ever.
      await this.#abortUpload(path, query).catch(() => {});
      throw error;
    }
  }

  /** The clip in pieces of a part's size; the last comes only when the whole is proved. */
  async *#parts(clip: Clip, options: PutOptions): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    let part = new Uint8Array(this.#options.partSize);
    let filled = 0;
    for await (const chunk of provenBytes(clip, { ...options, progress: () => {} })) {
      for (let at = 0; at < chunk.length;) {
        const piece = chunk.subarray(at, at + part.length - filled);
        part.set(piece, filled);
        filled += piece.length;
        at += piece.length;
        if (filled === part.length) {
          yield part;
          part = new Uint8Array(this.#options.partSize);
          filled = 0;
        }
      }
    }
    if (filled > 0) yield part.subarray(0, filled);
  }

  /** What an earlier try left when the line broke before it could tidy up. */
  async #abortUploads(path: string, signal: AbortSignal): Promise<void> {
    const query = `prefix=${encodeURIComponent(decodeURIComponent(path))}&uploads=`;
    const answer = await this.#send({ method: "GET", path: "", query, signal });
    if (!answer.ok) return; // a right that the credential need not have
    for (
      const [, key, id] of answer.text.matchAll(
        /<Upload>.*?<Key>(.*?)<\/Key>.*?<UploadId>(.*?)<\/UploadId>.*?<\/Upload>/gs,
      )
    ) {
      if (key === decodeURIComponent(path) && id !== undefined) {
        await this.#abortUpload(path, `uploadId=${encodeURIComponent(id)}`);
      }
    }
  }

  async #abortUpload(path: string, query: string): Promise<void> {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(new Error("too slow")), 2000);
    try {
      await this.#send({ method: "DELETE", path, query, signal: limit.signal });
    } finally {
      clearTimeout(timer);
    }
  }

  #path(key: string): string {
    return encodeKey(this.#options.prefix + key);
  }

  #headers(clip: Clip): Record<string, string> {
    const { storageClass } = this.#options;
    return {
      "content-type": clip.contentType,
      "x-amz-meta-camera": encodeURIComponent(clip.camera.toWellFormed()).slice(0, 500),
      "x-amz-meta-start": clip.start.toISOString(),
      "x-amz-meta-end": clip.end.toISOString(),
      "x-amz-meta-sha256": clip.sha256,
      ...(storageClass === undefined ? {} : { "x-amz-storage-class": storageClass }),
    };
  }

  /** Sends a request that must not overwrite anything. */
  async #sendOnce(
    request: (conditions: Record<string, string>) => S3Request,
  ): Promise<HttpAnswer> {
    if (this.#conditional) {
      const answer = await this.#send(request({ "if-none-match": "*" }));
      if (answer.status !== 501) return answer;
      this.#conditional = false;
    }
    return await this.#send(request({}));
  }

  async #send(request: S3Request): Promise<HttpAnswer> {
    const { method, path, query, headers, body, signal, onSent } = request;
    const { accessKeyId, secretAccessKey, sessionToken, region } = this.#options;
    const reveal = async (secret: Secret) => {
      try {
        return await secret.reveal();
      } catch (error) {
        throw new SinkError("auth", error instanceof Error ? error.message : String(error));
      }
    };
    const token = sessionToken === undefined ? undefined : await reveal(sessionToken);
    const url = `${bucketUrl(this.#options)}/${path}${query === undefined ? "" : `?${query}`}`;
    const data = body ?? new Uint8Array();
    const signed = await new AwsV4Signer({
      method,
      url,
      headers: {
        ...headers,
        "x-amz-content-sha256": createHash("sha256").update(data).digest("hex"),
        ...(body ? { "content-md5": createHash("md5").update(data).digest("base64") } : {}),
      },
      accessKeyId,
      secretAccessKey: await reveal(secretAccessKey),
      ...(token === undefined ? {} : { sessionToken: token }),
      service: "s3",
      region,
    }).sign();
    return await httpSend({
      method,
      url: signed.url.href,
      headers: Object.fromEntries(signed.headers),
      ...(body ? { body: { bytes: body.length, data: pieces(body, onSent) } } : {}),
      signal,
    });
  }
}

/** Small enough that an abort is noticed. */
function* pieces(body: Uint8Array, onSent?: (bytes: number) => void): Generator<Uint8Array> {
  for (let at = 0; at < body.length;) {
    const piece = body.subarray(at, at + 256 * 1024);
    yield piece;
    at += piece.length;
    onSent?.(at);
  }
}

/** The key is taken: by this very clip, or by something else. */
function settle(clip: Clip, known: StoredObject, url: string): PutResult {
  if (known.bytes === clip.bytes && known.sha256 === clip.sha256) {
    return {
      state: "already-there",
      url,
      ...(known.etag === undefined ? {} : { etag: known.etag }),
    };
  }
  throw new SinkError(
    "conflict",
    `${clip.key} is taken by another object of ${known.bytes} bytes; it is left as it is`,
  );
}

function plain(etag: string): string {
  return etag.replaceAll(/^"|"$|&quot;/g, "");
}

/** What S3 means by its codes (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html). */
const CODES: Readonly<Record<string, readonly ["retry" | "auth" | "full" | "permanent", string]>> =
  {
    NoSuchBucket: ["retry", "the bucket does not exist: create it, or correct its name"],
    InvalidAccessKeyId: ["auth", "the store does not know this accessKeyId"],
    SignatureDoesNotMatch: ["auth", "the secretAccessKey is wrong, or the region is"],
    RequestTimeTooSkewed: ["auth", "the clock of this machine is wrong: set it"],
    ExpiredToken: ["auth", "the session token has expired"],
    AccessDenied: ["auth", "the credential lacks a right: it needs s3:PutObject and s3:GetObject"],
    QuotaExceeded: ["full", "the quota is used up"],
    XMinioStorageFull: ["full", "the store is full"],
    BadDigest: ["retry", "the clip was damaged on the way"],
    XAmzContentSHA256Mismatch: ["retry", "the clip was damaged on the way"],
    IncompleteBody: ["retry", "the clip was cut on the way"],
    RequestTimeout: ["retry", "the store waited too long for the clip"],
    NoSuchUpload: ["retry", "the store has forgotten the upload"],
    SlowDown: ["retry", "the store is asked too often"],
  };

function failure(answer: HttpAnswer, what: string): SinkError {
  const code = /<Code>(\w+)<\/Code>/.exec(answer.text)?.[1] ?? "";
  const known = CODES[code];
  const plainError = httpSinkError(answer, what);
  if (known === undefined) {
    const hint = answer.status === 403 ? " (is the clock right? is the key?)" : "";
    return new SinkError(plainError.sinkErrorKind, plainError.message + hint, plainError);
  }
  const [kind, words] = known;
  return new SinkError(kind, `${what}: ${words} (${answer.status} ${code})`, {
    ...(plainError.retryAfterMs === undefined ? {} : { retryAfterMs: plainError.retryAfterMs }),
  });
}
