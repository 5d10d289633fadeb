/** The simulated snapshot camera: logins, ETags, connections. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { type SnapshotCameraOptions, startSnapshotCamera } from "../../simulators/mod.ts";
import { createFakeClock } from "../support/fake_clock.ts";

const SIZE = { name: "Yard", widthPx: 320, heightPx: 180 };
const OWNER = { username: "owner", password: "pässword" };

async function start(options: Partial<SnapshotCameraOptions> = {}) {
  return await startSnapshotCamera({ ...SIZE, ...options });
}

async function ask(url: string, headers: Record<string, string> = {}): Promise<Response> {
  const response = await fetch(url, { headers });
  await response.arrayBuffer();
  return response;
}

/** `Authorization` for the first challenge of this algorithm. */
function digest(
  challenges: string,
  options: { algorithm: "MD5" | "SHA-256"; count: number; password?: string; uri?: string },
): string {
  const nonce = /nonce="([^"]+)"/.exec(challenges)?.[1] ?? "";
  const realm = /realm="([^"]+)"/.exec(challenges)?.[1] ?? "";
  const hash = (text: string) =>
    createHash(options.algorithm === "MD5" ? "md5" : "sha256").update(text).digest("hex");
  const nc = options.count.toString(16).padStart(8, "0");
  const uri = options.uri ?? "/snap.jpg";
  const response = hash([
    hash(`${OWNER.username}:${realm}:${options.password ?? OWNER.password}`),
    nonce,
    nc,
    "abc",
    "auth",
    hash(`GET:${uri}`),
  ].join(":"));
  return `Digest username="${OWNER.username}", realm="${realm}", nonce="${nonce}", uri="${uri}", ` +
    `algorithm=${options.algorithm}, qop=auth, nc=${nc}, cnonce="abc", response="${response}", ` +
    `opaque="5ccc069c"`;
}

Deno.test("an open camera gives a new JPEG to each request", async () => {
  await using camera = await start();
  const response = await fetch(camera.url);
  const jpeg = new Uint8Array(await response.arrayBuffer());
  assert.equal(response.headers.get("content-type"), "image/jpeg");
  assert.deepEqual([...jpeg.subarray(0, 2), ...jpeg.subarray(-2)], [0xff, 0xd8, 0xff, 0xd9]);
  await ask(camera.url);
  assert.equal(camera.served.lastCounter, 2);
});

Deno.test("Basic wants the right name and password, in UTF-8", async () => {
  await using camera = await start({ auth: { type: "basic", ...OWNER } });
  assert.match((await ask(camera.url)).headers.get("www-authenticate") ?? "", /^Basic realm=/);
  const encoded = btoa(
    String.fromCharCode(...new TextEncoder().encode(`${OWNER.username}:${OWNER.password}`)),
  );
  assert.equal((await ask(camera.url, { authorization: `Basic ${encoded}` })).status, 200);
  assert.equal((await ask(camera.url, { authorization: "Basic eDp5" })).status, 401);
});

for (const algorithm of ["MD5", "SHA-256"] as const) {
  Deno.test(`Digest with ${algorithm} opens to the right answer, and not to the same one twice`, async () => {
    await using camera = await start({
      auth: { type: "digest", ...OWNER, algorithms: [algorithm] },
    });
    const challenges = (await ask(camera.url)).headers.get("www-authenticate") ?? "";
    assert.match(challenges, new RegExp(`^Digest .*qop="auth", algorithm=${algorithm}`));
    const authorization = digest(challenges, { algorithm, count: 1 });
    assert.equal((await ask(camera.url, { authorization })).status, 200);
    assert.match(
      (await ask(camera.url, { authorization })).headers.get("www-authenticate") ?? "",
      /stale=true/,
    );
    const next = digest(challenges, { algorithm, count: 2, uri: "/snap.jpg?x=1" });
    assert.equal((await ask(`${camera.url}?x=1`, { authorization: next })).status, 200);
    const wrong = digest(challenges, { algorithm, count: 3, password: "guess" });
    const refused = await ask(camera.url, { authorization: wrong });
    assert.equal(refused.status, 401);
    assert.doesNotMatch(refused.headers.get("www-authenticate") ?? "", /stale/);
  });
}

Deno.test("a nonce that was used too often is stale, and the new one opens", async () => {
  await using camera = await start({ auth: { type: "digest", ...OWNER, nonceUses: 2 } });
  let challenges = (await ask(camera.url)).headers.get("www-authenticate") ?? "";
  const statusAt = async (count: number) => {
    const authorization = digest(challenges, { algorithm: "MD5", count });
    const response = await ask(camera.url, { authorization });
    challenges = response.headers.get("www-authenticate") ?? challenges;
    return response.status;
  };
  assert.deepEqual([await statusAt(1), await statusAt(2), await statusAt(3)], [200, 200, 401]);
  assert.match(challenges, /stale=true/);
  assert.equal(await statusAt(1), 200);
});

Deno.test("with an ETag the same picture is 304 until the next one is there", async () => {
  const clock = createFakeClock();
  await using camera = await start({ etag: true, fps: 2, clock });
  const tag = (await ask(camera.url)).headers.get("etag") ?? "";
  assert.equal((await ask(camera.url, { "if-none-match": tag })).status, 304);
  await clock.advance(500);
  assert.equal((await ask(camera.url, { "if-none-match": tag })).status, 200);
  assert.deepEqual(camera.served, {
    requests: 3,
    pictures: 2,
    unchanged: 1,
    challenged: 0,
    lastCounter: 2,
  });
});

Deno.test("without keep-alive the camera says that it closes the connection", async () => {
  await using open = await start();
  await using closing = await start({ keepAlive: false });
  assert.notEqual((await ask(open.url)).headers.get("connection"), "close");
  assert.equal((await ask(closing.url)).headers.get("connection"), "close");
});

Deno.test("a snapshot camera fails on demand", async () => {
  await using camera = await start();
  camera.faults.add({ kind: "html", count: 1 });
  assert.match(await (await fetch(camera.url)).text(), /<!doctype html>/);
  assert.equal((await ask(camera.url)).status, 200);
});

Deno.test("a port that is taken is told with what to do", async () => {
  await using camera = await start();
  const port = Number(new URL(camera.url).port);
  await assert.rejects(start({ port }), /cannot listen on 127.0.0.1:\d+: .*give another port/);
});
