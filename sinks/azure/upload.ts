/**
 * The way of one clip into a blob: in one request, or in blocks of which those that are there
 * already are not sent again.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import type { BlobServiceClient, BlockBlobClient } from "@azure/storage-blob";
import { SinkError } from "../../mod.ts";
import type { Clip, Log, PutResult, StoredObject } from "../../mod.ts";
import type { Account } from "./account.ts";
import { failureOf } from "./errors.ts";
import { metadataOf, tagsOf } from "./names.ts";

/** Azure takes up to 5000 MiB in one request and 50,000 blocks in a blob. */
const MOST_IN_ONE_PUT_BYTES = 5000 * 2 ** 20;
const MOST_BLOCKS = 50_000;
/** Body slices: small enough that progress is seen on a slow line. */
const SLICE_BYTES = 64 * 1024;

/** One credential in use, and what was learned about it. */
export interface Connection {
  /** The credential as it was read: a change makes a new connection. Secret. */
  readonly texts: string;
  readonly account: Account;
  readonly service: BlobServiceClient;
  /** Containers known to exist. */
  readonly containers: Set<string>;
  /** Whether tags are taken, until a refusal shows that they are not; the next two likewise. */
  tags: boolean;
  /** Whether a clip may be sent in blocks. */
  blocks: boolean;
  /** Whether what is there may be read. */
  read: boolean;
}

/** One clip on its way. */
export interface Upload {
  readonly clip: Clip;
  readonly target: BlockBlobClient;
  readonly signal: AbortSignal;
  readonly progress: (sentBytes: number) => void;
  readonly connection: Connection;
  readonly tier: string | undefined;
  readonly blockSize: number;
  readonly log: Log;
  /** So far, bytes. */
  sentBytes: number;
  /** Of the whole clip, once known. */
  md5?: Uint8Array;
}

/** Sends the clip in one request. */
export async function putWhole(upload: Upload): Promise<PutResult> {
  const { clip, target, signal } = upload;
  if (clip.bytes > MOST_IN_ONE_PUT_BYTES) {
    throw new SinkError(
      "permanent",
      `${clip.key} has ${clip.bytes} bytes, and Azure takes at most ${MOST_IN_ONE_PUT_BYTES} in one ` +
        "request: the SAS needs w (write) to send it in blocks",
    );
  }
  // A short clip is read once and held; a long one (only without the right to send blocks) is read
  // twice, for its MD5 and to be sent.
  report(upload, 0);
  let body: () => Readable;
  if (clip.bytes <= 2 * upload.blockSize) {
    const whole = Buffer.allocUnsafe(clip.bytes);
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
    upload.md5 = await md5OfClip(upload);
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
export async function putBlocks(upload: Upload): Promise<PutResult> {
  const { clip, target, signal } = upload;
  const blockSize = Math.max(upload.blockSize, Math.ceil(clip.bytes / MOST_BLOCKS));
  report(upload, 0);
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
    const list = await target.getBlockList("all", { abortSignal: signal });
    if (list.committedBlocks?.length) {
      // An earlier try may have got this far and lost the answer: as Azure would say in the end, but
      // before everything is sent again.
      upload.md5 = await md5OfClip(upload);
      throw new TakenError();
    }
    return new Map((list.uncommittedBlocks ?? []).map(({ name, size }) => [name, size]));
  } catch (error) {
    if (error instanceof TakenError) throw error;
    const { status } = failureOf(error, 0);
    if (status === 404) return new Map();
    if (status !== 403) throw error;
    connection.read = false; // resuming is a saving, not a need
    return new Map();
  }
}

/** A blob of this name is there already; marked as Azure's own refusal is. */
class TakenError extends Error {
  readonly statusCode = 409;
  readonly code = "BlobAlreadyExists";
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
    // The role that may write blobs may not tag them; that needs Storage Blob Data Owner.
    const isLimited = connection.account.sas || connection.account.identity;
    const maybeTags = code === "AuthorizationPermissionMismatch" && isLimited ||
      status === 400 && /Tag|Feature|Unsupported/i.test(code);
    if (!maybeTags) throw error;
    const result = await request(undefined);
    connection.tags = false;
    log.info(`Azure refuses tags here (${code}), so clips are stored without; metadata is kept`);
    return result;
  }
}

/**
 * Hashes what is sent, and at the end proves that it is the clip. Yields the MD5, which is computed
 * only where the clip does not know its own: MD5 costs three times as much as SHA-256.
 */
function fingerprint(clip: Clip): {
  update(chunk: Uint8Array): void;
  finish(bytes: number): Uint8Array;
} {
  const sha256 = createHash("sha256");
  const md5 = clip.md5 === undefined ? createHash("md5") : undefined;
  return {
    update: (chunk) => {
      sha256.update(chunk);
      md5?.update(chunk);
    },
    finish: (bytes) => {
      if (bytes === clip.bytes && sha256.digest("hex") === clip.sha256) {
        return new Uint8Array(md5?.digest() ?? Buffer.from(clip.md5 ?? "", "hex"));
      }
      throw new SinkError(
        "permanent",
        `the local copy of ${clip.key} is damaged: its ${bytes} bytes do not have the hash of the ` +
          `${clip.bytes} bytes that were recorded`,
      );
    },
  };
}

/** Read for it, where nobody has computed it yet. */
async function md5OfClip({ clip, signal }: Upload): Promise<Uint8Array> {
  if (clip.md5 !== undefined) return new Uint8Array(Buffer.from(clip.md5, "hex"));
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
): AsyncGenerator<Buffer> {
  let block = Buffer.allocUnsafe(blockSize);
  let filled = 0;
  for await (const chunk of stream) {
    for (let at = 0; at < chunk.length;) {
      const part = chunk.subarray(at, at + blockSize - filled);
      block.set(part, filled);
      at += part.length;
      filled += part.length;
      if (filled < blockSize) continue;
      yield block;
      block = Buffer.allocUnsafe(blockSize);
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

export async function statOf(
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

export function isSame(clip: Clip, md5: Uint8Array | undefined, found: StoredObject): boolean {
  if (found.bytes !== clip.bytes) return false;
  const ours = md5 ? Buffer.from(md5).toString("hex") : clip.md5;
  if (found.md5 !== undefined && ours !== undefined) return found.md5 === ours;
  return found.sha256 === clip.sha256;
}

/** For `catch`: nothing there is an answer, not a failure. */
export function ignoreMissing(error: unknown): undefined {
  if (failureOf(error, 0).status === 404) return undefined;
  throw error;
}

/** Without the signature. */
export function plainUrl(url: string): string {
  return url.split("?", 1)[0] ?? "";
}
