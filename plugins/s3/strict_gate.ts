/**
 * Stands before s3rver in the test and does what AWS does and s3rver does not: it verifies version 4
 * signatures (https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html), the
 * body's `x-amz-content-sha256` and `Content-MD5`, and holds `If-None-Match: *`. Written from the
 * documents, without the library that the sink signs with.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, createHmac } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

/** A running gate. */
export interface StrictGate extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
}

const sha256 = (data: string | Uint8Array) => createHash("sha256").update(data).digest("hex");
const hmac = (key: string | Uint8Array, data: string) =>
  createHmac("sha256", key).update(data).digest();
/** RFC 3986's unreserved characters stay; everything else is coded. */
const coded = (text: string) =>
  encodeURIComponent(text).replace(
    /[!'()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
  );

/** The signature that a request with this secret must have. */
function signatureOf(
  { method, url, headers }: IncomingMessage,
  { scope, signed, secret }: {
    readonly scope: string;
    readonly signed: readonly string[];
    readonly secret: string;
  },
): string {
  const { pathname, searchParams } = new URL(url ?? "/", "http://gate");
  const query = [...searchParams].map(([key, value]) => `${coded(key)}=${coded(value)}`).sort();
  const canonical = [
    method,
    pathname.split("/").map((part) => coded(decodeURIComponent(part))).join("/"),
    query.join("&"),
    ...signed.map((name) => `${name}:${String(headers[name] ?? "").trim()}`),
    "",
    signed.join(";"),
    headers["x-amz-content-sha256"],
  ].join("\n");
  const [day = "", region = "", service = ""] = scope.split("/");
  const key = hmac(hmac(hmac(hmac(`AWS4${secret}`, day), region), service), "aws4_request");
  const text = ["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, sha256(canonical)].join("\n");
  return hmac(key, text).toString("hex");
}

/** Starts a gate before the server at `target`. */
export async function startStrictGate(
  options: { readonly target: string; readonly accessKeyId: string; readonly secret: string },
): Promise<StrictGate> {
  /** Passes a request on; s3rver does not look at the signature, so the host may be its own. */
  const ask = async (
    method: string,
    { url, headers }: Pick<IncomingMessage, "url" | "headers">,
    body?: Uint8Array<ArrayBuffer>,
  ) => {
    const passed = Object.entries(headers).filter(([name]) =>
      /^(authorization|content-type|range|x-amz-)/.test(name)
    );
    return await fetch(options.target + url, {
      method,
      headers: Object.fromEntries(passed.map(([name, value]) => [name, String(value)])),
      ...(body && body.length > 0 ? { body } : {}),
    });
  };

  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const refuse = (status: number, code: string) =>
      outgoing.writeHead(status, { "content-type": "application/xml" })
        .end(`<?xml version="1.0"?><Error><Code>${code}</Code></Error>`);
    const parts: Uint8Array[] = [];
    for await (const part of incoming) parts.push(part as Uint8Array);
    const body = new Uint8Array(Buffer.concat(parts));
    const { headers } = incoming;
    const [, keyId, scope, signed, signature] =
      /^AWS4-HMAC-SHA256 Credential=([^/]+)\/([^,]+), *SignedHeaders=([^,]+), *Signature=(\w+)$/
        .exec(headers.authorization ?? "") ?? [];
    if (keyId === undefined) return refuse(403, "AccessDenied");
    if (keyId !== options.accessKeyId) return refuse(403, "InvalidAccessKeyId");
    const wanted = signatureOf(incoming, {
      scope: scope ?? "",
      signed: (signed ?? "").split(";"),
      secret: options.secret,
    });
    if (signature !== wanted) return refuse(403, "SignatureDoesNotMatch");
    if (headers["x-amz-content-sha256"] !== sha256(body)) {
      return refuse(400, "XAmzContentSHA256Mismatch");
    }
    const md5 = headers["content-md5"];
    if (md5 !== undefined && md5 !== createHash("md5").update(body).digest("base64")) {
      return refuse(400, "BadDigest");
    }
    if (headers["if-none-match"] === "*") {
      const known = await ask("HEAD", { url: incoming.url?.replace(/\?.*/, ""), headers });
      if (known.ok) return refuse(412, "PreconditionFailed");
    }
    const answer = await ask(incoming.method ?? "GET", incoming, body);
    const data = new Uint8Array(await answer.arrayBuffer());
    // An answer to HEAD has a length and no body.
    outgoing.writeHead(answer.status, Object.fromEntries(answer.headers));
    if (incoming.method !== "HEAD") outgoing.write(data);
    outgoing.end();
  };

  const server = createServer((incoming, outgoing) => {
    handle(incoming, outgoing).catch(() => outgoing.destroy());
  });
  const port = await new Promise<number>((resolve) =>
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    })
  );
  return {
    url: `http://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise<void>((done) => server.close(() => done()));
    },
  };
}
