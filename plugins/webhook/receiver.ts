/**
 * A receiver of webhooks as one should be: it takes clips and events, tells a repeated one (208)
 * from another one under the same key (409), and wants the token. In memory, for the test; a model
 * for a real one.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, createHmac } from "node:crypto";
import { createServer } from "node:http";

/** A running receiver. */
export interface Receiver extends AsyncDisposable {
  /** Where it takes requests. */
  readonly url: string;
  /** What came, by key: the clip, or the event as JSON. */
  readonly received: ReadonlyMap<string, Uint8Array>;
}

/** Starts one on loopback. */
export async function startReceiver(
  options: { readonly token: string; readonly signingKey?: string },
): Promise<Receiver> {
  const received = new Map<string, Uint8Array>();
  const hashes = new Map<string, string>();
  const server = createServer(async (request, response) => {
    const answer = (status: number) => response.writeHead(status).end();
    const parts: Uint8Array[] = [];
    try {
      for await (const part of request) parts.push(part as Uint8Array);
    } catch {
      return; // cut off: nothing came
    }
    const body = Buffer.concat(parts);
    const hash = createHash("sha256").update(body);
    const digest = request.headers["content-digest"];
    // Damaged on the way: it will be sent again. RFC 9530.
    if (digest !== undefined && digest !== `sha-256=:${hash.copy().digest("base64")}:`) {
      return answer(503);
    }
    if (request.headers.authorization !== `Bearer ${options.token}`) return answer(401);
    const { signingKey } = options;
    if (signingKey !== undefined) {
      const wanted = `sha256=${createHmac("sha256", signingKey).update(body).digest("hex")}`;
      if (request.headers["x-camsink-signature"] !== wanted) return answer(403);
    }
    const isEvent = request.headers["content-type"] === "application/json";
    const event = isEvent ? JSON.parse(new TextDecoder().decode(body)) : undefined;
    if (event?.event === "check") return answer(204);
    const key = String(event?.key ?? request.headers["x-camsink-key"]);
    const sha256 = String(event?.sha256 ?? request.headers["x-camsink-sha256"]);
    if (!isEvent && hash.digest("hex") !== sha256) return answer(503);
    const known = hashes.get(key);
    if (known !== undefined) return answer(known === sha256 ? 208 : 409);
    hashes.set(key, sha256);
    received.set(key, body);
    answer(201);
  });
  const port = await new Promise<number>((resolve) =>
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    })
  );
  return {
    url: `http://127.0.0.1:${port}/clips`,
    received,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise<void>((done) => server.close(() => done()));
    },
  };
}
