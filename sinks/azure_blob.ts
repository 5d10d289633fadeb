/**
 * The sink that keeps clips in Azure Blob Storage, one container per camera by default.
 *
 * A clip up to two blocks long goes in one request, which Azure takes whole or not at all and checks
 * against its MD5. A longer one goes in blocks with names that follow from its content, each checked
 * by its own MD5: a second try asks which blocks are there already and sends only the others, so a
 * cut costs at most one block. Either way the last request says `If-None-Match: *`, so nothing is
 * ever overwritten; where the name turns out to be taken (an answer may get lost after the commit)
 * length and MD5 decide whether it is this very clip.
 *
 * The least privilege that works is a SAS with `sp=c` (create): clips of any length then go in one
 * request, because Azure wants `w` for blocks; tags need `t`, comparing and resuming need `r`.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import {
  AnonymousCredential,
  BlobServiceClient,
  type BlockBlobClient,
  newPipeline,
  StorageSharedKeyCredential,
} from "@azure/storage-blob";
import * as v from "valibot";
import { formatDuration, httpUrl, secret, size } from "../core/config/values.ts";
import { defineSink, SinkError } from "../mod.ts";
import type {
  Clip,
  Log,
  PutOptions,
  PutResult,
  Secret,
  Sink,
  SinkPlugin,
  StoredObject,
} from "../mod.ts";
import { type Account, may, mayContainers, readAccount } from "./azure/account.ts";
import { type Failure, failureOf, sinkErrorOf } from "./azure/errors.ts";
import { CAMERA, containerName, metadataOf, placeOf, tagsOf } from "./azure/names.ts";

/** Options of the `azure-blob` sink: one of the three credentials, and where to put the clips. */
export interface AzureBlobOptions {
  readonly account?: string;
  readonly sasToken?: Secret;
  readonly connectionString?: Secret;
  readonly containerSasUrl?: Secret;
  /** Template of the container's name; `{camera}` is the camera's folder name. */
  readonly container: string;
  /** In front of every blob's name. */
  readonly prefix: string;
  readonly endpoint?: string;
  readonly tier?: "Hot" | "Cool" | "Cold" | "Archive";
  /** Clips longer than two of these go in blocks of this size, bytes. */
  readonly blockSize: number;
}

const CREDENTIALS = 'expected "account" with "sasToken", or "connectionString", or ' +
  '"containerSasUrl"; credentials are given by reference, such as "env:AZURE_SAS"';

const schema = v.pipe(
  v.strictObject({
    account: v.optional(v.pipe(
      v.string("expected the name of a storage account"),
      v.regex(
        /^[a-z0-9]{3,24}$/,
        "expected the name of a storage account: 3 to 24 lower-case letters and digits",
      ),
      v.description("The storage account's name, used with `sasToken`."),
    )),
    sasToken: v.optional(v.pipe(
      secret(),
      v.description("A shared access signature for the account or the container."),
    )),
    connectionString: v.optional(v.pipe(
      secret(),
      v.description("A connection string; `UseDevelopmentStorage=true` means the local emulator."),
    )),
    containerSasUrl: v.optional(v.pipe(
      secret(),
      v.description("The URL of one container with its shared access signature."),
    )),
    container: v.optional(v.pipe(
      v.string("expected the name of a container"),
      v.regex(
        /^(?=.)[a-z0-9-]*(\{camera\}[a-z0-9-]*)*$/,
        "expected lower-case letters, digits and dashes, and {camera} for the camera's name",
      ),
      v.check(
        (text) => text.includes(CAMERA) || containerName(text, "") === text,
        "expected 3 to 63 letters, digits and single dashes, with a letter or digit at both ends",
      ),
      v.description("The container; `{camera}` gives each camera its own. Made if missing."),
    )),
    prefix: v.optional(
      v.pipe(
        v.string("expected a text"),
        v.description("In front of every blob's name, such as `home/`."),
      ),
      "",
    ),
    endpoint: v.optional(v.pipe(
      httpUrl(),
      v.description("The blob service's URL, for other clouds and emulators."),
    )),
    tier: v.optional(v.pipe(
      v.picklist(
        ["Hot", "Cool", "Cold", "Archive"],
        'expected "Hot", "Cool", "Cold" or "Archive"',
      ),
      v.description("The access tier of the blobs; the account's default if left out."),
    )),
    blockSize: v.optional(
      v.pipe(
        size(),
        v.check(
          (bytes) => bytes >= 64 * 1024 && bytes <= 100 * 2 ** 20,
          'expected a size between "64KiB" and "100MiB"',
        ),
        v.description("Clips longer than two blocks are sent in blocks of this size."),
      ),
      "4MiB",
    ),
  }),
  v.check(
    (options) =>
      [options.sasToken, options.connectionString, options.containerSasUrl]
        .filter((credential) => credential !== undefined).length === 1,
    CREDENTIALS,
  ),
  v.check(
    ({ account, endpoint, sasToken }) =>
      sasToken === undefined || account !== undefined || endpoint !== undefined,
    '"sasToken" needs "account" beside it',
  ),
  v.check(
    ({ container, containerSasUrl }) => container === undefined || containerSasUrl === undefined,
    '"container" cannot be set beside "containerSasUrl", which names the container itself',
  ),
  v.transform((options): AzureBlobOptions => ({
    ...options,
    container: options.container ?? CAMERA,
  })),
);

/** What the sink needs of the world. */
export interface AzureBlobWorld {
  /** Wall time, ms since the epoch. */
  now(): number;
}

/** The `azure-blob` sink with the machine's clock. */
export const azureBlob: SinkPlugin<AzureBlobOptions> = azureBlobWith({ now: () => Date.now() });

/** Makes the `azure-blob` plugin with another clock, for tests. */
export function azureBlobWith(world: AzureBlobWorld): SinkPlugin<AzureBlobOptions> {
  return defineSink<AzureBlobOptions>({
    name: "azure-blob",
    config: schema,
    net: (config) => {
      // Credentials that hold the host are secret, so not known here; the wildcard says so.
      if (config.endpoint !== undefined) return [new URL(config.endpoint).host];
      if (config.account !== undefined) return [`${config.account}.blob.core.windows.net`];
      return ["*"];
    },
    open: async ({ config, log }) => {
      const sink = new AzureBlobSink(config, log, world);
      await sink.connect();
      return sink;
    },
  });
}

/** Azure takes up to 5000 MiB in one request and 50,000 blocks in a blob. */
const MOST_IN_ONE_PUT_BYTES = 5000 * 2 ** 20;
const MOST_BLOCKS = 50_000;
/** Body slices: small enough that progress is seen on a slow line. */
const SLICE_BYTES = 64 * 1024;
const DAY_MS = 86_400_000;
const EXPIRY_WARNING_DAYS = [14, 3, 1] as const;

/** One credential in use, and what was learned about it. */
interface Connection {
  readonly texts: string;
  readonly account: Account;
  readonly service: BlobServiceClient;
  /** Containers known to exist. */
  readonly containers: Set<string>;
  /** Days before expiry of which the user was told. */
  warnedDays: number;
  tags: boolean;
  blocks: boolean;
  read: boolean;
}

class AzureBlobSink implements Sink {
  readonly #options: AzureBlobOptions;
  readonly #log: Log;
  readonly #world: AzureBlobWorld;
  #connection: Connection | undefined;
  /**
   * Clips that were sent whole without an answer. With a SAS that cannot read, this is the only
   * evidence that the blob found at the next try is our own. Bounded by forgetting the oldest.
   */
  readonly #unanswered = new Set<string>();

  constructor(options: AzureBlobOptions, log: Log, world: AzureBlobWorld) {
    this.#options = options;
    this.#log = log;
    this.#world = world;
  }

  /** Reads the credential, as it is now, and makes a client of it; keeps the client while it holds. */
  async connect(): Promise<Connection> {
    const { account, endpoint, sasToken, connectionString, containerSasUrl } = this.#options;
    const reveal = async (secret: Secret | undefined) => {
      try {
        return await secret?.reveal();
      } catch (cause) {
        const why = cause instanceof Error ? cause.message : String(cause);
        throw new SinkError("auth", `no credential for Azure: ${why}`, { cause });
      }
    };
    const credentials = {
      sasToken: await reveal(sasToken),
      connectionString: await reveal(connectionString),
      containerSasUrl: await reveal(containerSasUrl),
    };
    const texts = JSON.stringify(credentials);
    if (this.#connection?.texts !== texts) {
      const known = readAccount({ account, endpoint, ...credentials });
      this.#connection = this.#makeConnection(texts, known);
    }
    this.#watchExpiry(this.#connection);
    return this.#connection;
  }

  #makeConnection(texts: string, account: Account): Connection {
    if (account.sas?.oneContainer && account.container === undefined) {
      if (this.#options.container.includes(CAMERA)) {
        throw new SinkError(
          "auth",
          "the SAS is for one container only (sr=c), but each camera is to have its own " +
            `("container": ${JSON.stringify(this.#options.container)}): set "container" to the ` +
            "name of that container, or use an account SAS (ss=b&srt=co&sp=c)",
        );
      }
    }
    if (account.sas && may(account, "t") === false) {
      this.#log.info(
        "the SAS lacks t (tags), so clips are stored without tags; they keep their metadata",
      );
    }
    const { sharedKey, sas } = account;
    const credential = sharedKey
      ? new StorageSharedKeyCredential(sharedKey.name, sharedKey.key)
      : new AnonymousCredential();
    const pipeline = newPipeline(credential, {
      retryOptions: { maxTries: 1 }, // delivery retries; twice over would multiply the waiting
      userAgentOptions: { userAgentPrefix: "camsink" },
    });
    return {
      texts,
      account,
      service: new BlobServiceClient(account.serviceUrl + (sas ? `?${sas.token}` : ""), pipeline),
      containers: new Set(),
      warnedDays: Infinity,
      tags: may(account, "t") ?? true,
      blocks: may(account, "w") ?? true,
      read: may(account, "r") ?? true,
    };
  }

  /** Says 14, 3 and 1 days ahead that a SAS runs out. */
  #watchExpiry(connection: Connection): void {
    const expiresAtMs = connection.account.sas?.expiresAtMs;
    if (expiresAtMs === undefined) return;
    const leftMs = expiresAtMs - this.#world.now();
    const days = EXPIRY_WARNING_DAYS.findLast((limit) => leftMs <= limit * DAY_MS);
    if (days === undefined || days >= connection.warnedDays) return;
    connection.warnedDays = days;
    const when = new Date(expiresAtMs).toISOString();
    this.#log.warn(
      leftMs > 0
        ? `the SAS expires in ${
          formatDuration(leftMs)
        } (${when}): put a new one where the configuration points; no restart is needed`
        : `the SAS has expired (${when}): put a new one where the configuration points`,
      { event: "sas-expiry", expiresAt: when },
    );
  }

  /** An expired credential is known without asking, and Azure's own answer is less clear. */
  #refuseExpired({ account: { sas } }: Connection): void {
    const now = this.#world.now();
    if (sas?.expiresAtMs !== undefined && now >= sas.expiresAtMs) {
      throw new SinkError(
        "auth",
        `the SAS expired on ${new Date(sas.expiresAtMs).toISOString()} (it is now ${
          new Date(now).toISOString()
        }): put a new one where the configuration points; no restart is needed`,
      );
    }
  }

  async put(clip: Clip, { signal, progress }: PutOptions): Promise<PutResult> {
    signal.throwIfAborted();
    const connection = await this.connect();
    this.#refuseExpired(connection);
    const place = this.#place(connection, clip.key);
    const target = connection.service.getContainerClient(place.container)
      .getBlockBlobClient(place.blob);
    const upload: Upload = {
      clip,
      target,
      signal,
      progress,
      connection,
      tier: this.#options.tier,
      blockSize: Math.max(this.#options.blockSize, Math.ceil(clip.bytes / MOST_BLOCKS)),
      log: this.#log,
      sentBytes: 0,
    };
    const id = `${clip.key} ${clip.sha256}`;
    try {
      await this.#makeContainer(connection, place.container, signal);
      const small = clip.bytes <= 2 * this.#options.blockSize;
      const result = small || !connection.blocks ? await putWhole(upload) : await putBlocks(upload);
      this.#unanswered.delete(id);
      return result;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof SinkError) throw error;
      const failure = failureOf(error, this.#world.now());
      if (isTaken(failure) || isForbiddenOverwrite(failure, connection)) {
        const known = await this.#settleTaken(upload, this.#unanswered.has(id), failure);
        this.#unanswered.delete(id);
        return known;
      }
      if (failure.code === "ContainerNotFound") connection.containers.delete(place.container);
      if (upload.sentBytes >= clip.bytes && (failure.status ?? 500) >= 500) this.#remember(id);
      throw this.#explain(failure, connection, `cannot store ${clip.key}`);
    }
  }

  async stat(
    key: string,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<StoredObject | undefined> {
    return await this.#ask(`cannot look up ${key}`, signal, async (connection) => {
      const place = this.#place(connection, key);
      return await statOf(
        connection.service.getContainerClient(place.container).getBlockBlobClient(place.blob),
        signal,
      );
    });
  }

  async remove(key: string, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    await this.#ask(`cannot remove ${key}`, signal, async (connection) => {
      const place = this.#place(connection, key);
      await connection.service.getContainerClient(place.container).getBlobClient(place.blob)
        .deleteIfExists({ abortSignal: signal, deleteSnapshots: "include" })
        .catch(ignoreMissing);
    });
  }

  /**
   * Proves that a clip could be stored. With the right to delete, a small blob is written and
   * removed. Without it, a blob is offered with a wrong MD5: Azure checks the right to store it
   * first and the MD5 last, so "MD5 mismatch" proves the right and nothing stays behind.
   */
  async check({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    await this.#ask("the test object could not be stored", signal, async (connection) => {
      this.#refuseExpired(connection);
      const { account, service } = connection;
      const trial = `camsink-check-${crypto.randomUUID().slice(0, 8)}`;
      const fixed = account.container ??
        (this.#options.container.includes(CAMERA) ? undefined : this.#options.container);
      const mayDelete = may(account, "d") === true;
      const mayMakeAndDelete = mayContainers(account, "c") && mayContainers(account, "d");
      if (fixed !== undefined && await this.#tryContainer(connection, fixed, mayDelete, signal)) {
        return;
      }
      if (mayMakeAndDelete) {
        const container = service.getContainerClient(trial);
        await container.create({ abortSignal: signal });
        try {
          await this.#tryContainer(connection, trial, true, signal);
        } finally {
          await container.delete();
        }
        return;
      }
      if (fixed !== undefined && !mayContainers(account, "c")) {
        throw new SinkError(
          "auth",
          `the container ${fixed} does not exist and the credential cannot make it: create it`,
        );
      }
      await this.#tryContainer(connection, trial, false, signal);
    });
  }

  /** Offers a blob to a container. False if the container is missing. */
  async #tryContainer(
    { service }: Connection,
    container: string,
    mayDelete: boolean,
    signal: AbortSignal,
  ): Promise<boolean> {
    const blob = service.getContainerClient(container)
      .getBlockBlobClient(`${this.#options.prefix}camsink-check-${crypto.randomUUID()}.txt`);
    const body = Buffer.from("camsink check");
    const md5 = createHash("md5").update(mayDelete ? body : "something else").digest();
    try {
      await blob.upload(body, body.length, {
        abortSignal: signal,
        conditions: { ifNoneMatch: "*" },
        blobHTTPHeaders: { blobContentMD5: md5 },
      });
    } catch (error) {
      const { code } = failureOf(error, this.#world.now());
      if (code === "ContainerNotFound") return false;
      if (mayDelete || code !== "Md5Mismatch") throw error;
      this.#log.info(
        "the credential cannot delete, so the test object was offered but not stored: what was " +
          "proved is the right to create, not the reading back",
      );
      return true;
    }
    await blob.deleteIfExists();
    return true;
  }

  #place(connection: Connection, key: string) {
    const fixed = connection.account.container;
    return placeOf(key, {
      container: fixed ?? this.#options.container,
      prefix: this.#options.prefix,
    });
  }

  /** Makes a container once, where the credential can; otherwise it must be there. */
  async #makeContainer(
    connection: Connection,
    name: string,
    signal: AbortSignal,
  ): Promise<void> {
    if (connection.containers.has(name) || !mayContainers(connection.account, "c")) return;
    try {
      await connection.service.getContainerClient(name).create({ abortSignal: signal });
      this.#log.info(`made the container ${name}`);
    } catch (error) {
      const { code, status } = failureOf(error, this.#world.now());
      // With a 403 the container may well be there: the upload will tell.
      if (code !== "ContainerAlreadyExists" && status !== 403) throw error;
    }
    connection.containers.add(name);
  }

  /** The name is taken: by this very clip, or by something else. */
  async #settleTaken(upload: Upload, unanswered: boolean, failure: Failure): Promise<PutResult> {
    const { clip, target, connection, signal } = upload;
    const url = plainUrl(target.url);
    if (connection.read) {
      try {
        const found = await statOf(target, signal);
        if (found === undefined) {
          throw new SinkError("retry", `${url} was taken a moment ago and is gone now`);
        }
        if (isSame(clip, upload.md5, found)) {
          return { state: "already-there", url, ...(found.etag ? { etag: found.etag } : {}) };
        }
        throw new SinkError(
          "conflict",
          `${url} already exists with other content (${found.bytes} bytes, expected ` +
            `${clip.bytes} bytes with SHA-256 ${clip.sha256}); it is left as it is`,
        );
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof SinkError) throw error;
        const why = failureOf(error, this.#world.now());
        if (why.status !== 403) throw sinkErrorOf(why, `cannot compare ${clip.key}`);
        connection.read = false;
      }
    }
    if (unanswered) return { state: "already-there", url };
    if (!isTaken(failure)) throw this.#explain(failure, connection, `cannot store ${clip.key}`);
    throw new SinkError(
      "conflict",
      `${url} already exists, and the credential lacks r (read), so it cannot be compared with ` +
        "this clip; it is left as it is",
    );
  }

  #remember(id: string): void {
    this.#unanswered.add(id);
    for (const oldest of this.#unanswered) {
      if (this.#unanswered.size <= 1000) break;
      this.#unanswered.delete(oldest);
    }
  }

  async #ask<T>(
    doing: string,
    signal: AbortSignal,
    question: (connection: Connection) => Promise<T>,
  ): Promise<T> {
    signal.throwIfAborted();
    const connection = await this.connect();
    try {
      return await question(connection);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof SinkError) throw error;
      throw this.#explain(failureOf(error, this.#world.now()), connection, doing);
    }
  }

  /** A container that is missing although it could be made is made at the next try. */
  #explain(failure: Failure, { account }: Connection, doing: string): SinkError {
    if (failure.code === "ContainerNotFound" && mayContainers(account, "c")) {
      return new SinkError("retry", `${doing}: the container is gone; it is made again`);
    }
    return sinkErrorOf(failure, doing);
  }
}

/** One clip on its way. */
interface Upload {
  readonly clip: Clip;
  readonly target: BlockBlobClient;
  readonly signal: AbortSignal;
  readonly progress: (sentBytes: number) => void;
  readonly connection: Connection;
  readonly tier: AzureBlobOptions["tier"];
  readonly blockSize: number;
  readonly log: Log;
  /** So far, bytes. */
  sentBytes: number;
  /** Of the whole clip, once known. */
  md5?: Uint8Array;
}

/** Sends the clip in one request. */
async function putWhole(upload: Upload): Promise<PutResult> {
  const { clip, target, signal } = upload;
  if (clip.bytes > MOST_IN_ONE_PUT_BYTES) {
    throw new SinkError(
      "auth",
      `${clip.key} has ${clip.bytes} bytes, and Azure takes at most ${MOST_IN_ONE_PUT_BYTES} in one ` +
        "request: the SAS needs w (write) to send it in blocks",
    );
  }
  // A short clip is read once and held; a long one (only without the right to send blocks) is read
  // twice, for its MD5 and to be sent.
  let body: () => Readable;
  if (clip.bytes <= 2 * upload.blockSize) {
    const whole = Buffer.alloc(clip.bytes);
    const proof = fingerprint(clip);
    let bytes = 0;
    for await (const chunk of clip.open()) {
      signal.throwIfAborted();
      if (bytes + chunk.length <= whole.length) whole.set(chunk, bytes);
      bytes += chunk.length;
      proof.update(chunk);
    }
    upload.md5 = proof.finish(bytes);
    body = () => Readable.from(slices(whole));
  } else {
    upload.md5 = clip.md5 === undefined
      ? await md5Of(clip, signal)
      : new Uint8Array(Buffer.from(clip.md5, "hex"));
    body = () => Readable.from(clip.open());
  }
  const md5 = upload.md5;
  const stored = await withTags(upload, (tags) =>
    target.upload(body, clip.bytes, {
      abortSignal: signal,
      conditions: { ifNoneMatch: "*" },
      blobHTTPHeaders: { blobContentType: clip.contentType, blobContentMD5: md5 },
      metadata: metadataOf(clip),
      ...(tags ? { tags } : {}),
      ...(upload.tier ? { tier: upload.tier } : {}),
      onProgress: ({ loadedBytes }) => report(upload, loadedBytes),
    }));
  return {
    state: "stored",
    url: plainUrl(target.url),
    ...(stored.etag ? { etag: stored.etag } : {}),
  };
}

/** Sends the clip in blocks, but not those that an earlier try has sent already. */
async function putBlocks(upload: Upload): Promise<PutResult> {
  const { clip, target, signal, blockSize } = upload;
  const there = await blocksThere(upload);
  const ids: string[] = [];
  const proof = fingerprint(clip);
  let bytes = 0;
  for await (const block of blocksOf(clip.open(), blockSize)) {
    signal.throwIfAborted();
    proof.update(block);
    const id = blockId(clip, blockSize, ids.length);
    ids.push(id);
    const before = bytes;
    if (there.get(id) !== block.length) {
      try {
        await target.stageBlock(id, () => Readable.from(slices(block)), block.length, {
          abortSignal: signal,
          transactionalContentMD5: createHash("md5").update(block).digest(),
          onProgress: ({ loadedBytes }) => report(upload, before + loadedBytes),
        });
      } catch (error) {
        // A stored policy may hide that w is missing; then the clip can still go in one request.
        if (failureOf(error, 0).code !== "AuthorizationPermissionMismatch" || ids.length > 1) {
          throw error;
        }
        upload.connection.blocks = false;
        return await putWhole(upload);
      }
    }
    bytes += block.length;
    report(upload, bytes);
  }
  const md5 = upload.md5 = proof.finish(bytes);
  const stored = await withTags(upload, (tags) =>
    target.commitBlockList(ids, {
      abortSignal: signal,
      conditions: { ifNoneMatch: "*" },
      blobHTTPHeaders: { blobContentType: clip.contentType, blobContentMD5: md5 },
      metadata: metadataOf(clip),
      ...(tags ? { tags } : {}),
      ...(upload.tier ? { tier: upload.tier } : {}),
    }));
  return {
    state: "stored",
    url: plainUrl(target.url),
    ...(stored.etag ? { etag: stored.etag } : {}),
  };
}

/** The blocks of this clip that wait at Azure, with their lengths; it keeps them for a week. */
async function blocksThere(upload: Upload): Promise<Map<string, number>> {
  const { connection, target, signal } = upload;
  if (!connection.read) return new Map();
  try {
    const list = await target.getBlockList("uncommitted", { abortSignal: signal });
    return new Map((list.uncommittedBlocks ?? []).map(({ name, size }) => [name, size]));
  } catch (error) {
    const { status } = failureOf(error, 0);
    if (status === 404) return new Map();
    if (status !== 403) throw error;
    connection.read = false; // resuming is a saving, not a need
    return new Map();
  }
}

/** Says the clip, the block size and the position, so that blocks of two clips never mix. */
function blockId(clip: Clip, blockSize: number, index: number): string {
  const position = `${blockSize}`.padStart(10, "0") + `${index}`.padStart(6, "0");
  return Buffer.from(clip.sha256.slice(0, 32) + position).toString("base64");
}

/** Runs a request with tags; once more without them if they are what is refused. */
async function withTags<T>(
  upload: Upload,
  request: (tags: Record<string, string> | undefined) => Promise<T>,
): Promise<T> {
  const { clip, connection, log } = upload;
  if (!connection.tags) return await request(undefined);
  try {
    return await request(tagsOf(clip));
  } catch (error) {
    const { code, status } = failureOf(error, 0);
    const maybeTags = code === "AuthorizationPermissionMismatch" && connection.account.sas ||
      status === 400 && /Tag|Feature|Unsupported/i.test(code);
    if (!maybeTags) throw error;
    const result = await request(undefined);
    connection.tags = false;
    log.info(`Azure refuses tags here (${code}), so clips are stored without; metadata is kept`);
    return result;
  }
}

/** Hashes what is sent, and at the end proves that it is the clip. Yields the MD5. */
function fingerprint(clip: Clip): {
  update(chunk: Uint8Array): void;
  finish(bytes: number): Uint8Array;
} {
  const md5 = createHash("md5");
  const sha256 = clip.md5 === undefined ? createHash("sha256") : undefined;
  return {
    update: (chunk) => {
      md5.update(chunk);
      sha256?.update(chunk);
    },
    finish: (bytes) => {
      const digest = md5.digest();
      const same = sha256 === undefined
        ? digest.toString("hex") === clip.md5
        : sha256.digest("hex") === clip.sha256;
      if (bytes === clip.bytes && same) return new Uint8Array(digest);
      throw new SinkError(
        "permanent",
        `the local copy of ${clip.key} is damaged: its ${bytes} bytes do not have the hash of the ` +
          `${clip.bytes} bytes that were recorded`,
      );
    },
  };
}

async function md5Of(clip: Clip, signal: AbortSignal): Promise<Uint8Array> {
  const proof = fingerprint(clip);
  let bytes = 0;
  for await (const chunk of clip.open()) {
    signal.throwIfAborted();
    proof.update(chunk);
    bytes += chunk.length;
  }
  return proof.finish(bytes);
}

/** Regroups a stream into blocks of one size; the last one is shorter. */
async function* blocksOf(
  stream: ReadableStream<Uint8Array>,
  blockSize: number,
): AsyncGenerator<Buffer<ArrayBuffer>> {
  let block = Buffer.alloc(blockSize);
  let filled = 0;
  for await (const chunk of stream) {
    for (let at = 0; at < chunk.length;) {
      const part = chunk.subarray(at, at + blockSize - filled);
      block.set(part, filled);
      at += part.length;
      filled += part.length;
      if (filled < blockSize) continue;
      yield block;
      block = Buffer.alloc(blockSize);
      filled = 0;
    }
  }
  if (filled > 0) yield block.subarray(0, filled);
}

function* slices(whole: Buffer): Generator<Buffer> {
  for (let at = 0; at < whole.length; at += SLICE_BYTES) {
    yield whole.subarray(at, at + SLICE_BYTES);
  }
}

function report(upload: Upload, sentBytes: number): void {
  upload.sentBytes = sentBytes;
  upload.progress(sentBytes);
}

async function statOf(
  target: BlockBlobClient,
  signal: AbortSignal,
): Promise<StoredObject | undefined> {
  const found = await target.getProperties({ abortSignal: signal }).catch(ignoreMissing);
  if (found === undefined) return undefined;
  const sha256 = found.metadata?.sha256;
  return {
    bytes: found.contentLength ?? 0,
    ...(sha256 ? { sha256 } : {}),
    ...(found.contentMD5 ? { md5: Buffer.from(found.contentMD5).toString("hex") } : {}),
    ...(found.etag ? { etag: found.etag } : {}),
  };
}

function isSame(clip: Clip, md5: Uint8Array | undefined, found: StoredObject): boolean {
  if (found.bytes !== clip.bytes) return false;
  const ours = md5 ? Buffer.from(md5).toString("hex") : clip.md5;
  if (found.md5 !== undefined && ours !== undefined) return found.md5 === ours;
  return found.sha256 === clip.sha256;
}

function isTaken({ status, code }: Failure): boolean {
  return code === "BlobAlreadyExists" || code === "UnauthorizedBlobOverwrite" ||
    code === "BlobImmutableDueToPolicy" || code === "InvalidBlobType" ||
    status === 412 && code !== "LeaseIdMissing";
}

/** With create but not write, Azure may call an existing name a missing permission. */
function isForbiddenOverwrite({ code }: Failure, { account }: Connection): boolean {
  return code === "AuthorizationPermissionMismatch" && may(account, "w") === false &&
    may(account, "c") === true;
}

/** For `catch`: nothing there is an answer, not a failure. */
function ignoreMissing(error: unknown): undefined {
  if (failureOf(error, 0).status === 404) return undefined;
  throw error;
}

/** Without the signature. */
function plainUrl(url: string): string {
  return url.split("?", 1)[0] ?? "";
}
