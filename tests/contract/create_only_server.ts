/**
 * A blob store that holds to the letter what a shared access signature grants, which Azurite does
 * not: `c` makes new blobs and nothing more. It knows just the requests that the sink makes; the
 * signature itself is not checked.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";

/** A running store. */
export interface CreateOnlyServer extends AsyncDisposable {
  readonly url: string;
  /** `/account/container/blob` → bytes. */
  readonly blobs: Map<string, Uint8Array>;
  /** `METHOD comp` of every request. */
  readonly requests: string[];
  /** How an existing name is refused: Azure has been seen to do either. */
  overwriteCode: "BlobAlreadyExists" | "AuthorizationPermissionMismatch";
  /** Stores the next blob but breaks the connection instead of answering. */
  loseNextAnswer: boolean;
}

/** Starts a store with these containers. */
export function startCreateOnlyServer(containers: readonly string[]): CreateOnlyServer {
  const refuse = (status: number, code: string) =>
    new Response(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>no</Message></Error>`, {
      status,
      headers: { "x-ms-error-code": code, "content-type": "application/xml" },
    });
  const mismatch = () => refuse(403, "AuthorizationPermissionMismatch");
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen: () => {}, onError: () => new Response(null) },
    async (request) => {
      const url = new URL(request.url);
      const may = (letter: string) => (url.searchParams.get("sp") ?? "").includes(letter);
      store.requests.push(`${request.method} ${url.searchParams.get("comp") ?? ""}`.trim());
      const body = new Uint8Array(await request.arrayBuffer());
      if (url.searchParams.has("restype")) return mismatch();
      if (request.method === "HEAD" || request.method === "GET") {
        const blob = store.blobs.get(url.pathname);
        if (!may("r")) return mismatch();
        return blob
          ? new Response(null, { headers: { "content-length": String(blob.length) } })
          : refuse(404, "BlobNotFound");
      }
      if (request.method === "DELETE") return mismatch();
      if (url.searchParams.has("comp") && !may("w")) return mismatch();
      if (!may("c") && !may("w")) return mismatch();
      if (request.headers.has("x-ms-tags") && !may("t")) return mismatch();
      if (!containers.includes(url.pathname.split("/")[2] ?? "")) {
        return refuse(404, "ContainerNotFound");
      }
      const md5 = createHash("md5").update(body).digest("base64");
      if (md5 !== (request.headers.get("x-ms-blob-content-md5") ?? md5)) {
        return refuse(400, "Md5Mismatch");
      }
      if (store.blobs.has(url.pathname)) {
        return refuse(store.overwriteCode === "BlobAlreadyExists" ? 409 : 403, store.overwriteCode);
      }
      store.blobs.set(url.pathname, body);
      if (store.loseNextAnswer) {
        store.loseNextAnswer = false;
        return new Response(new ReadableStream({ start: (c) => c.error(new Error("cut")) }), {
          status: 500,
        });
      }
      return new Response(null, {
        status: 201,
        headers: {
          etag: '"1"',
          "content-md5": Buffer.from(md5, "base64").toString("base64"),
          "last-modified": new Date(0).toUTCString(),
        },
      });
    },
  );
  const store: CreateOnlyServer = {
    url: `http://127.0.0.1:${server.addr.port}/account`,
    blobs: new Map(),
    requests: [],
    overwriteCode: "BlobAlreadyExists",
    loseNextAnswer: false,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
  return store;
}
