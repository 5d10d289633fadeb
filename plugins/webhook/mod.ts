/**
 * The sink that tells a web server of each clip by `POST`: with the clip itself as the body, or with
 * a small JSON object about it.
 *
 * The request carries the clip's key and SHA-256 and an `Idempotency-Key`, so that a receiver can
 * tell a repeated clip. It answers 2xx when it has the clip, 208 when it had it already, 409 when
 * it has another one under that key; everything else as HTTP says.
 *
 * @module
 */
import { createHash, createHmac } from "node:crypto";
import * as v from "valibot";
import {
  type Clip,
  defineSink,
  encodeKey,
  type HttpAnswer,
  httpSend,
  httpSinkError,
  httpUrl,
  type PutOptions,
  type PutResult,
  type Secret,
  secret,
  sendClip,
  type Sink,
  SinkError,
  type SinkPlugin,
} from "camsink";

/** Options of the `webhook` sink. */
export interface WebhookOptions {
  /** Where the requests go. */
  readonly url: string;
  /** What the body is. */
  readonly send: "file" | "metadata";
  /** Sent as `Authorization: Bearer …`. */
  readonly token?: Secret;
  /** Signs the metadata: `X-Camsink-Signature: sha256=…`. */
  readonly signingKey?: Secret;
}

const schema = v.pipe(
  v.strictObject({
    url: v.pipe(httpUrl(), v.description("Where the requests go.")),
    send: v.optional(
      v.pipe(
        v.picklist(["file", "metadata"], 'expected "file" or "metadata"'),
        v.description("`file`: the clip itself; `metadata`: JSON about it."),
      ),
      "metadata",
    ),
    token: v.optional(v.pipe(
      secret(),
      v.description("Sent as `Authorization: Bearer …`."),
    )),
    signingKey: v.optional(v.pipe(
      secret(),
      v.description(
        "With `metadata`: the header `X-Camsink-Signature: sha256=…` is the HMAC-SHA-256 of the " +
          "body with this key.",
      ),
    )),
  }),
  v.check(
    ({ send, signingKey }) => send === "metadata" || signingKey === undefined,
    '"signingKey" signs metadata only; leave it out, or set "send" to "metadata"',
  ),
  v.description("A web server that is told of each clip, or is sent it, by POST."),
);

/** The `webhook` sink. */
const webhook: SinkPlugin<WebhookOptions> = defineSink<WebhookOptions>({
  name: "webhook",
  config: schema,
  net: ({ url }) => [new URL(url).host],
  open: ({ config }): Sink => ({
    put: (clip, options) => put(config, clip, options),
    check: ({ signal }) => check(config, signal),
  }),
});
export default webhook;

async function put(
  config: WebhookOptions,
  clip: Clip,
  options: PutOptions,
): Promise<PutResult> {
  options.signal.throwIfAborted();
  const answer = config.send === "file"
    ? await sendFile(config, clip, options)
    : await sendJson(config, metadataOf(clip), {
      signal: options.signal,
      headers: { "idempotency-key": idempotencyKey(clip) },
    });
  if (answer.status === 208) return { state: "already-there" };
  if (answer.status === 409) {
    throw new SinkError("conflict", `the receiver has another clip under ${clip.key}`);
  }
  if (!answer.ok) throw httpSinkError(answer, `cannot tell of ${clip.key}`);
  if (config.send === "metadata") options.progress(clip.bytes);
  return { state: "stored" };
}

async function sendFile(
  config: WebhookOptions,
  clip: Clip,
  options: PutOptions,
): Promise<HttpAnswer> {
  return await sendClip(config.url, {
    clip,
    options,
    method: "POST",
    headers: {
      ...await login(config),
      "idempotency-key": idempotencyKey(clip),
      // A header holds ASCII only.
      "x-camsink-key": encodeKey(clip.key),
      "x-camsink-camera": encodeURIComponent(clip.camera.toWellFormed()),
      "x-camsink-start": clip.start.toISOString(),
      "x-camsink-end": clip.end.toISOString(),
      "x-camsink-sha256": clip.sha256,
    },
  });
}

function metadataOf(clip: Clip): Record<string, unknown> {
  return {
    event: "clip",
    key: clip.key,
    camera: clip.camera,
    start: clip.start.toISOString(),
    end: clip.end.toISOString(),
    bytes: clip.bytes,
    sha256: clip.sha256,
    contentType: clip.contentType,
  };
}

/** The same for every try of the same clip. */
function idempotencyKey({ key, sha256 }: Clip): string {
  return `${encodeKey(key)}:${sha256}`;
}

async function sendJson(
  config: WebhookOptions,
  value: Record<string, unknown>,
  { signal, headers }: {
    readonly signal: AbortSignal;
    readonly headers?: Readonly<Record<string, string>>;
  },
): Promise<HttpAnswer> {
  const body = new TextEncoder().encode(JSON.stringify(value));
  const key = config.signingKey && await reveal(config.signingKey);
  return await httpSend({
    method: "POST",
    url: config.url,
    headers: {
      "content-type": "application/json",
      // RFC 9530: tells what was damaged on the way from what was forged.
      "content-digest": `sha-256=:${createHash("sha256").update(body).digest("base64")}:`,
      ...await login(config),
      ...headers,
      ...(key === undefined ? {} : {
        "x-camsink-signature": `sha256=${createHmac("sha256", key).update(body).digest("hex")}`,
      }),
    },
    body: { bytes: body.length, data: [body] },
    signal,
  });
}

/** Asks the receiver whether it is there, by an event of its own kind that it has to ignore. */
async function check(config: WebhookOptions, signal: AbortSignal): Promise<void> {
  const answer = await sendJson(config, { event: "check" }, { signal });
  if (!answer.ok) throw httpSinkError(answer, "the receiver refused a test");
}

async function login({ token }: WebhookOptions): Promise<Record<string, string>> {
  return token === undefined ? {} : { authorization: `Bearer ${await reveal(token)}` };
}

async function reveal(secret: Secret): Promise<string> {
  try {
    return await secret.reveal();
  } catch (error) {
    throw new SinkError("auth", error instanceof Error ? error.message : String(error));
  }
}
