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
import { readFile } from "node:fs/promises";
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import type { TokenCredential } from "@azure/identity";
import { defineSink, SinkError, sinkErrorKind } from "../mod.ts";
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
import { identityCredential, identityError } from "./azure/identity.ts";
import { CAMERA, placeOf } from "./azure/names.ts";
import { type AzureBlobOptions, azureBlobSchema } from "./azure/options.ts";
import {
  type Connection,
  ignoreMissing,
  isSame,
  plainUrl,
  putBlocks,
  putWhole,
  statOf,
  type Upload,
} from "./azure/upload.ts";

export type { AzureBlobOptions } from "./azure/options.ts";

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
    config: azureBlobSchema,
    net: (config) => {
      // Credentials that hold the host are secret, so not known here; the wildcard says so.
      // An identity asks in many places, by what the machine is.
      if (config.identity !== undefined) return ["*"];
      if (config.endpoint !== undefined) return [new URL(config.endpoint).host];
      if (config.account !== undefined) return [`${config.account}.blob.core.windows.net`];
      return ["*"];
    },
    open: async ({ config, log }) => {
      const sink = new AzureBlobSink(config, log, world);
      try {
        await sink.connect();
      } catch (error) {
        // What passes by itself must not keep the cameras from being recorded.
        if (sinkErrorKind(error) !== "retry") throw error;
        log.warn(`${error instanceof Error ? error.message : error}; it is tried again`);
      }
      return sink;
    },
  });
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
    const { account, endpoint, identity, caFile } = this.#options;
    const { sasToken, accountKey, connectionString, containerSasUrl, clientSecret } = this.#options;
    const reveal = async (secret: Secret | undefined) => {
      try {
        return await secret?.reveal();
      } catch (cause) {
        const why = cause instanceof Error ? cause.message : String(cause);
        const passes = cause instanceof Error && "isTemporary" in cause && cause.isTemporary;
        throw new SinkError(passes ? "retry" : "auth", `no credential for Azure: ${why}`, {
          cause,
        });
      }
    };
    const credentials = {
      sasToken: await reveal(sasToken),
      accountKey: await reveal(accountKey),
      clientSecret: await reveal(clientSecret),
      connectionString: await reveal(connectionString),
      containerSasUrl: await reveal(containerSasUrl),
    };
    const texts = JSON.stringify(credentials);
    if (this.#connection?.texts !== texts) {
      const known = readAccount({
        account,
        endpoint,
        identity: identity !== undefined,
        ...credentials,
      });
      const token = identity === undefined ? undefined : await identityCredential({
        ...this.#options,
        kind: identity,
        clientSecret: credentials.clientSecret,
      });
      const ca = caFile === undefined ? undefined : await this.#readCa(caFile);
      // Loaded by who stores there: Azure's library takes more memory than a camera.
      const sdk = await import("@azure/storage-blob");
      this.#connection = this.#makeConnection(sdk, { texts, account: known, token, ca });
    }
    return this.#connection;
  }

  async #readCa(path: string): Promise<string> {
    try {
      return await readFile(path, "utf8");
    } catch (cause) {
      throw new SinkError("auth", `cannot read caFile ${path}: ${String(cause)}`, { cause });
    }
  }

  #makeConnection(
    { AnonymousCredential, BlobServiceClient, newPipeline, StorageSharedKeyCredential }:
      typeof import("@azure/storage-blob"),
    { texts, account, token, ca }: {
      readonly texts: string;
      readonly account: Account;
      readonly token: TokenCredential | undefined;
      readonly ca: string | undefined;
    },
  ): Connection {
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
    const credential = token ??
      (sharedKey
        ? new StorageSharedKeyCredential(sharedKey.name, sharedKey.key)
        : new AnonymousCredential());
    const pipelineOptions = {
      retryOptions: { maxTries: 1 }, // delivery retries; twice over would multiply the waiting
      userAgentOptions: { userAgentPrefix: "camsink" },
      // A connection that is kept may have died unnoticed between two clips. Deno then sends the
      // request again by itself, and one with a streamed body hangs, for its body is used up. A new
      // connection per request costs a handshake and none of that.
      agent: new (account.serviceUrl.startsWith("https:") ? HttpsAgent : HttpAgent)({
        keepAlive: false,
        ...(ca === undefined ? {} : { ca }),
      }),
    };
    const pipeline = newPipeline(credential, pipelineOptions);
    return {
      texts,
      account,
      service: new BlobServiceClient(account.serviceUrl + (sas ? `?${sas.token}` : ""), pipeline),
      containers: new Set(),
      tags: may(account, "t") ?? true,
      blocks: may(account, "w") ?? true,
      read: may(account, "r") ?? true,
    };
  }

  /** When the SAS in use runs out, wall ms. */
  get credentialExpiresAtMs(): number | undefined {
    return this.#connection?.account.sas?.expiresAtMs;
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
      blockSize: this.#options.blockSize,
      log: this.#log,
      sentBytes: 0,
    };
    const id = `${clip.key} ${clip.sha256}`;
    let makesContainers = true;
    try {
      makesContainers = await this.#makeContainer(connection, place.container, signal);
      const small = clip.bytes <= 2 * this.#options.blockSize;
      const result = small || !connection.blocks ? await putWhole(upload) : await putBlocks(upload);
      this.#unanswered.delete(id);
      return result;
    } catch (error) {
      signal.throwIfAborted();
      const refusal = error instanceof SinkError ? error : identityError(error);
      if (refusal !== undefined) throw refusal;
      const failure = failureOf(error, this.#world.now());
      if (isTaken(failure) || isForbiddenOverwrite(failure, connection)) {
        const known = await this.#settleTaken(upload, this.#unanswered.has(id), failure);
        this.#unanswered.delete(id);
        return known;
      }
      if (failure.code === "ContainerNotFound") {
        connection.containers.delete(place.container);
        if (makesContainers) {
          throw new SinkError(
            "retry",
            `cannot store ${clip.key}: the container ${place.container} is gone; it is made again`,
          );
        }
      }
      if (upload.sentBytes >= clip.bytes && (failure.status ?? 500) >= 500) this.#remember(id);
      throw sinkErrorOf(failure, `cannot store ${clip.key}`);
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

  /** Makes a container once. False if the credential cannot; then it must be there. */
  async #makeContainer(
    { account, containers, service }: Connection,
    name: string,
    signal: AbortSignal,
  ): Promise<boolean> {
    if (!mayContainers(account, "c")) return false;
    if (containers.has(name)) return true;
    try {
      await service.getContainerClient(name).create({ abortSignal: signal });
      this.#log.info(`made the container ${name}`);
    } catch (error) {
      const { code, status } = failureOf(error, this.#world.now());
      // It may well be there: the upload will tell.
      if (status === 403) return false;
      if (code !== "ContainerAlreadyExists") throw error;
    }
    containers.add(name);
    return true;
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
    if (!isTaken(failure)) throw sinkErrorOf(failure, `cannot store ${clip.key}`);
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
      throw identityError(error) ?? sinkErrorOf(failureOf(error, this.#world.now()), doing);
    }
  }
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
