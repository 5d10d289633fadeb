/**
 * A small object store over HTTP, in memory: PUT (with `If-None-Match: *`), HEAD, GET, DELETE, a
 * bearer token. What the tests of the kit itself store to.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { SinkTest, SinkTestServer } from "../../kit/mod.ts";

/** The token that the store takes. */
export const TOKEN = "kit-token-5f2c81d07a";

/** Starts a store; `config` gets its address as `url`, and the token as the secret `token`. */
export async function startMemoryStore(): Promise<SinkTestServer> {
  const objects = new Map<string, { data: Uint8Array; sha256: string }>();
  const server = createServer(async (request, response) => {
    const answer = (status: number, headers: Record<string, string> = {}) =>
      response.writeHead(status, headers).end();
    const { pathname } = new URL(request.url ?? "/", "http://store");
    const parts: Uint8Array[] = [];
    try {
      for await (const part of request) parts.push(part as Uint8Array);
    } catch {
      return; // cut off: nothing is stored
    }
    if (request.headers.authorization !== `Bearer ${TOKEN}`) return answer(401);
    const known = objects.get(pathname);
    switch (request.method) {
      case "PUT": {
        if (known && request.headers["if-none-match"] === "*") return answer(412);
        const data = Buffer.concat(parts);
        const sha256 = createHash("sha256").update(data).digest("hex");
        const wanted = request.headers["x-sha256"];
        if (wanted !== undefined && wanted !== sha256) return answer(502);
        objects.set(pathname, { data, sha256 });
        return answer(201);
      }
      case "HEAD":
        if (!known) return answer(404);
        return answer(200, { "x-sha256": known.sha256, "x-bytes": String(known.data.length) });
      case "DELETE":
        return answer(objects.delete(pathname) ? 204 : 404);
      default:
        return answer(405);
    }
  });
  const port = await new Promise<number>((resolve) =>
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    })
  );
  return {
    url: `http://127.0.0.1:${port}/`,
    config: (url) => ({ url }),
    secrets: { token: TOKEN },
    objects: () =>
      Promise.resolve(
        [...objects].map(([name, { data }]) => ({ name, read: () => data })),
      ),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise<void>((done) => server.close(() => done()));
    },
  };
}

/** The store as the kit wants it. */
export const memoryStoreTest: SinkTest = { start: () => startMemoryStore() };
