/**
 * The conformance kit against a real S3 server, s3rver from npm: `camsink plugin test .`
 *
 * @module
 */
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { execPath } from "node:process";
import { AwsClient } from "aws4fetch";
import type { SinkTest } from "camsink";
import { startStrictGate } from "./strict_gate.ts";

const BUCKET = "kit-clips";
/** What s3rver takes; no secret of anybody's. */
const KEY_ID = "S3RVER";
const SECRET_KEY = "S3RVER";

/** A port that is free now. */
async function freePort(): Promise<number> {
  const server = createServer();
  const port = await new Promise<number>((resolve) =>
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    })
  );
  await new Promise<void>((done) => server.close(() => done()));
  return port;
}

const test: SinkTest = {
  start: async ({ folder, signal }) => {
    const port = await freePort();
    const args = [
      ...["run", "--no-lock", "--no-config", "--node-modules-dir=none", "--allow-all"],
      ...["npm:s3rver@3.7.1", "--directory", folder, "--address", "127.0.0.1", "--silent"],
      ...["--port", String(port), "--configure-bucket", BUCKET],
    ];
    const child = spawn(execPath, args, { stdio: ["ignore", "ignore", "pipe"], signal });
    let said = "";
    child.stderr.on("data", (data) => said = (said + data).slice(-2000));
    child.on("error", () => {}); // an abort; the exit is waited for below
    const gone = new Promise<void>((done) => child.on("close", () => done()));
    const url = `http://127.0.0.1:${port}`;
    const client = new AwsClient({
      accessKeyId: KEY_ID,
      secretAccessKey: SECRET_KEY,
      service: "s3",
      region: "us-east-1",
      retries: 0,
    });
    for (let turn = 0;; turn++) {
      const answer = await client.fetch(`${url}/${BUCKET}`).catch(() => undefined);
      await answer?.body?.cancel();
      if (answer?.ok) break;
      if (child.exitCode !== null || turn > 600) throw new Error(`s3rver did not start: ${said}`);
      await new Promise((done) => setTimeout(done, 50));
    }
    const gate = await startStrictGate({
      target: url,
      accessKeyId: KEY_ID,
      secret: SECRET_KEY,
    });
    return {
      url: gate.url,
      config: (endpoint) => ({ endpoint, bucket: BUCKET, accessKeyId: KEY_ID }),
      secrets: { secretAccessKey: SECRET_KEY },
      wrongSecrets: { secretAccessKey: "not-the-key" },
      objects: async () => {
        const names: string[] = [];
        let marker: string | undefined;
        do {
          const query = marker === undefined ? "" : `&marker=${encodeURIComponent(marker)}`;
          const listing = await client.fetch(`${url}/${BUCKET}?max-keys=1000${query}`);
          const xml = await listing.text();
          const page = [...xml.matchAll(/<Key>(.*?)<\/Key>/g)].map(([, key = ""]) => plain(key));
          names.push(...page);
          marker = /<IsTruncated>true/.test(xml) ? page.at(-1) : undefined;
        } while (marker !== undefined);
        return names.map((name) => ({
          name,
          read: async () => {
            const path = name.split("/").map(encodeURIComponent).join("/");
            const { body } = await client.fetch(`${url}/${BUCKET}/${path}`);
            return body ?? new Uint8Array();
          },
        }));
      },
      [Symbol.asyncDispose]: async () => {
        await gate[Symbol.asyncDispose]();
        child.kill("SIGKILL");
        await gone;
      },
    };
  },
};
export default test;

function plain(xml: string): string {
  return xml.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"')
    .replaceAll("&apos;", "'").replaceAll(
      /&#x([0-9a-fA-F]+);/g,
      (_, code) => String.fromCodePoint(parseInt(code, 16)),
    )
    .replaceAll(/&#(\d+);/g, (_, code) => String.fromCodePoint(code))
    .replaceAll("&amp;", "&");
}
