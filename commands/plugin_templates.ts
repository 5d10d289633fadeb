/**
 * What `camsink plugin new` writes: small plugins that pass the conformance kit as they are. The
 * tests run every one of them.
 *
 * @module
 */
import type { TEMPLATES } from "./plugin_author_arguments.ts";

/** The files of a new plugin, by path within its folder. */
export function templateFiles(
  name: string,
  template: typeof TEMPLATES[number],
): Readonly<Record<string, string>> {
  const fill = (text: string) => text.replaceAll("@NAME@", name);
  return {
    "mod.ts": fill(SINKS[template]),
    "camsink.test.ts": fill(TESTS[template]),
    "deno.json": fill(`{
  "name": "camsink-@NAME@",
  "version": "0.1.0",
  "exports": "./mod.ts"
}
`),
    "README.md": fill(`# @NAME@

A sink plugin for Camsink.

\`\`\`sh
camsink plugin test .     # everything that every sink must do
\`\`\`
`),
    ".github/workflows/test.yml": `name: test
on: [push, pull_request]
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      # Put the camsink of your choice on the PATH here.
      - run: camsink plugin test . --json
`,
  };
}

/** An HTTP store, in memory, that the tests of two templates store to. */
const STORE = `
/** A store in memory. Put your real server here. */
async function startStore(allow: (request: IncomingMessage) => boolean | Promise<boolean>) {
  const stored = new Map<string, Uint8Array>();
  const server = createServer(async (request, response) => {
    const answer = (status: number, headers = {}) => response.writeHead(status, headers).end();
    const parts: Uint8Array[] = [];
    try {
      for await (const part of request) parts.push(part);
    } catch {
      return; // cut off: nothing is stored
    }
    if (!await allow(request)) return answer(403);
    const path = request.url ?? "/";
    const known = stored.get(path);
    const body = Buffer.concat(parts);
    if (request.method === "PUT") {
      const wanted = String(request.headers["x-sha256"] ?? request.headers["x-amz-content-sha256"]);
      if (hash(body) !== wanted) return answer(502); // damaged on the way
      if (known) return answer(412);
      stored.set(path, body);
      return answer(201);
    }
    if (request.method === "DELETE") return answer(stored.delete(path) ? 204 : 404);
    if (!known) return answer(404);
    answer(200, { "x-bytes": known.length, "x-sha256": hash(known), "x-amz-meta-sha256": hash(known) });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : 0;
  return {
    url: \`http://127.0.0.1:\${port}/clips\`,
    objects: () => Promise.resolve([...stored].map(([name, data]) => ({ name, read: () => data }))),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

function hash(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}
`;

const HTTP_TEST = `import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import type { SinkTest } from "camsink";

const TOKEN = "a-token-for-the-test";

const test: SinkTest = {
  start: async () => {
    const store = await startStore(({ headers }) => headers.authorization === \`Bearer \${TOKEN}\`);
    return { ...store, config: (url) => ({ url }), secrets: { token: TOKEN } };
  },
};
export default test;
${STORE}`;

const HTTP_SINK = `/** A sink that stores clips by HTTP PUT. */
import { defineSink, encodeKey, httpSend, httpSinkError, sendClip, SinkError } from "camsink";

export default defineSink({
  name: "@NAME@",
  config: {
    type: "object",
    properties: {
      url: { type: "string", format: "uri", description: "Where the clips go." },
      token: { type: "string", format: "secret", description: "The token, by reference." },
    },
    required: ["url", "token"],
    additionalProperties: false,
  },
  // The hosts that its user is asked to grant.
  net: ({ url }) => [new URL(url).host],
  open: ({ config: { url, token } }) => {
    const place = (key: string) => \`\${url}/\${encodeKey(key)}\`;
    // Revealed each time, so that a new token needs no restart.
    const login = async () => ({ authorization: \`Bearer \${await token.reveal()}\` });
    const stat = async (key: string, { signal }: { signal: AbortSignal }) => {
      const answer = await httpSend({ method: "HEAD", url: place(key), headers: await login(), signal });
      if (answer.status === 404) return undefined;
      if (!answer.ok) throw httpSinkError(answer, \`cannot look up \${key}\`);
      return { bytes: Number(answer.header("x-bytes")), sha256: answer.header("x-sha256") };
    };
    return {
      async put(clip, options) {
        const headers = { ...await login(), "if-none-match": "*", "x-sha256": clip.sha256 };
        const answer = await sendClip(place(clip.key), { clip, options, headers });
        if (answer.ok) return { state: "stored", url: place(clip.key) };
        if (answer.status !== 412) throw httpSinkError(answer, \`cannot store \${clip.key}\`);
        // The name is taken: by this very clip, or by another one.
        const found = await stat(clip.key, options);
        if (found?.sha256 === clip.sha256) return { state: "already-there", url: place(clip.key) };
        throw new SinkError("conflict", \`\${clip.key} is taken by another clip\`);
      },
      stat,
      async remove(key, { signal }) {
        const answer = await httpSend({
          method: "DELETE",
          url: place(key),
          headers: await login(),
          signal,
        });
        if (!answer.ok && answer.status !== 404) throw httpSinkError(answer, \`cannot remove \${key}\`);
      },
    };
  },
});
`;

const COMMAND_SINK = `/** A sink that copies clips with a program: here \`cp\`, yours may be any. */
import { spawn } from "node:child_process";
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { dirname, join } from "node:path";
import { defineSink, keyParts, provenBytes, SinkError } from "camsink";

const PROGRAM = "tee";

export default defineSink({
  name: "@NAME@",
  config: {
    type: "object",
    properties: { folder: { type: "string", format: "path", description: "Where the clips go." } },
    required: ["folder"],
    additionalProperties: false,
  },
  net: () => [],
  needs: ({ folder }) => ({ run: [PROGRAM], read: [folder], write: [folder] }),
  open: ({ config: { folder } }) => {
    const place = (key: string) => join(folder, ...keyParts(key));
    return {
      async put(clip, options) {
        options.signal.throwIfAborted();
        const path = place(clip.key);
        if (await size(path) !== undefined) {
          if (await hash(path) === clip.sha256) return { state: "already-there" };
          throw new SinkError("conflict", \`\${clip.key} is taken by another clip\`);
        }
        await mkdir(dirname(path), { recursive: true });
        const part = \`\${path}.part\`;
        // The program gets the clip on its standard input, at the pace at which it reads.
        const child = spawn(PROGRAM, [part], { stdio: ["pipe", "ignore", "ignore"] });
        const ended = new Promise<number>((done) => {
          child.on("error", () => done(127));
          child.on("close", (code) => done(code ?? 1));
        });
        child.stdin.on("error", () => {}); // its exit code says more
        try {
          for await (const chunk of provenBytes(clip, options)) {
            await new Promise<void>((done) => child.stdin.write(chunk, () => done()));
          }
          child.stdin.end();
          const code = await ended;
          if (code !== 0) throw new SinkError("retry", \`\${PROGRAM} ended with code \${code}\`);
          await rename(part, path);
          return { state: "stored" };
        } finally {
          child.kill();
          await ended;
          await rm(part, { force: true });
        }
      },
      async stat(key) {
        const bytes = await size(place(key));
        return bytes === undefined ? undefined : { bytes };
      },
      remove: (key) => rm(place(key), { force: true }),
    };
  },
});

async function size(path: string): Promise<number | undefined> {
  return await stat(path).then((found) => found.size, () => undefined);
}

async function hash(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest("hex");
}
`;

const COMMAND_TEST = `import { createReadStream } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import type { SinkTest } from "camsink";

const test: SinkTest = {
  start: ({ folder }) =>
    Promise.resolve({
      config: () => ({ folder }),
      objects: async () => {
        const entries = await readdir(folder, { recursive: true, withFileTypes: true });
        return entries.filter((entry) => entry.isFile()).map((entry) => {
          const name = join(entry.parentPath, entry.name);
          return {
            name,
            read: () => Readable.toWeb(createReadStream(name)) as ReadableStream<Uint8Array>,
          };
        });
      },
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }),
};
export default test;
`;

/** What the template imports, and this program does not. */
const AWS4FETCH = 'import { AwsV4Signer } from "npm:aws4fetch@1.0.20";';

const S3_SINK = `/** A sink that stores clips in a bucket, each by one signed PUT that streams. */
${AWS4FETCH}
import { defineSink, encodeKey, httpSend, httpSinkError, sendClip, SinkError } from "camsink";

const EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

export default defineSink({
  name: "@NAME@",
  config: {
    type: "object",
    properties: {
      url: { type: "string", format: "uri", description: "The bucket's URL." },
      region: { type: "string", default: "us-east-1" },
      accessKeyId: { type: "string" },
      secretAccessKey: { type: "string", format: "secret" },
    },
    required: ["url", "accessKeyId", "secretAccessKey"],
    additionalProperties: false,
  },
  net: ({ url }) => [new URL(url).host],
  open: ({ config }) => {
    const place = (key: string) => \`\${config.url}/\${encodeKey(key)}\`;
    /** The headers of a request whose body has this SHA-256. */
    const sign = async (method: string, url: string, sha256: string, extra = {}) => {
      const signed = await new AwsV4Signer({
        method,
        url,
        headers: { "x-amz-content-sha256": sha256, ...extra },
        accessKeyId: config.accessKeyId,
        secretAccessKey: await config.secretAccessKey.reveal(),
        service: "s3",
        region: config.region,
      }).sign();
      return Object.fromEntries(signed.headers);
    };
    const ask = async (method: string, key: string, signal: AbortSignal) =>
      await httpSend({
        method,
        url: place(key),
        headers: await sign(method, place(key), EMPTY),
        signal,
      });
    const stat = async (key: string, { signal }: { signal: AbortSignal }) => {
      const answer = await ask("HEAD", key, signal);
      if (answer.status === 404) return undefined;
      if (!answer.ok) throw httpSinkError(answer, \`cannot look up \${key}\`);
      return {
        bytes: Number(answer.header("x-bytes") ?? answer.header("content-length")),
        sha256: answer.header("x-amz-meta-sha256"),
      };
    };
    return {
      async put(clip, options) {
        const url = place(clip.key);
        const headers = await sign("PUT", url, clip.sha256, {
          "if-none-match": "*",
          "x-amz-meta-sha256": clip.sha256,
        });
        const answer = await sendClip(url, { clip, options, headers });
        if (answer.ok) return { state: "stored", url };
        if (answer.status !== 412) throw httpSinkError(answer, \`cannot store \${clip.key}\`);
        // The name is taken: by this very clip, or by another one.
        const found = await stat(clip.key, options);
        if (found?.sha256 === clip.sha256) return { state: "already-there", url };
        throw new SinkError("conflict", \`\${clip.key} is taken by another object\`);
      },
      stat,
      async remove(key, { signal }) {
        const answer = await ask("DELETE", key, signal);
        if (!answer.ok && answer.status !== 404) {
          throw httpSinkError(answer, \`cannot remove \${key}\`);
        }
      },
    };
  },
});
`;

const S3_TEST = HTTP_TEST
  .replace('const TOKEN = "a-token-for-the-test";', 'const SECRET = "a-secret-for-the-test";')
  .replace("({ headers }) => headers.authorization === `Bearer ${TOKEN}`", "isSigned")
  .replace('import type { SinkTest } from "camsink";', `${AWS4FETCH}\n$&`)
  .replace(
    "return { ...store, config: (url) => ({ url }), secrets: { token: TOKEN } };",
    `return {
      ...store,
      config: (url) => ({ url, accessKeyId: "kit" }),
      secrets: { secretAccessKey: SECRET },
    };`,
  ) + `
/** Whether a request is signed with the secret: the same is signed again, and compared. */
async function isSigned({ method = "GET", url, headers }: IncomingMessage): Promise<boolean> {
  const given = String(headers.authorization);
  const [, names = ""] = /SignedHeaders=([^,]+)/.exec(given) ?? [];
  const others = names.split(";").filter((name) => name !== "host");
  const signed = await new AwsV4Signer({
    method,
    url: \`http://\${headers.host}\${url}\`,
    headers: Object.fromEntries(others.map((name) => [name, String(headers[name])])),
    datetime: String(headers["x-amz-date"]),
    accessKeyId: "kit",
    secretAccessKey: SECRET,
    service: "s3",
    region: "us-east-1",
  }).sign();
  return signed.headers.get("authorization") === given;
}
`;

const SINKS: Readonly<Record<typeof TEMPLATES[number], string>> = {
  http: HTTP_SINK,
  s3: S3_SINK,
  command: COMMAND_SINK,
};
const TESTS: Readonly<Record<typeof TEMPLATES[number], string>> = {
  http: HTTP_TEST,
  s3: S3_TEST,
  command: COMMAND_TEST,
};
