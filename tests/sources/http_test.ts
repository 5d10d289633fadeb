/** One exchange over real sockets on loopback: bounds, deadlines, errors without secrets. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Http, isPassing, openHttp, retryAfterMs } from "../../core/sources/http.ts";
import { sourceErrorKind } from "../../core/types.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { findProgram, needs } from "../support/programs.ts";
import { errorOf, settled } from "./world.ts";

const signal = new AbortController().signal;
const LIMITS = { signal, timeoutMs: 5000, maxBytes: 1000 };

/** A server that writes exactly these bytes to whoever asks; `close: false` leaves it open. */
function rawServer(answer: string, { close = true } = {}) {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const open = new Set<Deno.Conn>();
  const serving = (async () => {
    for await (const conn of listener) {
      open.add(conn);
      try {
        await conn.read(new Uint8Array(4096));
        await conn.write(new TextEncoder().encode(answer));
        if (close) {
          open.delete(conn);
          conn.close();
        }
      } catch {
        // The client let go.
      }
    }
  })();
  const { port } = listener.addr as Deno.NetAddr;
  return {
    url: new URL(`http://127.0.0.1:${port}/x.jpg?token=SECRET`),
    async [Symbol.asyncDispose]() {
      listener.close();
      for (const conn of open) conn.close();
      await serving;
    },
  };
}

const openClient = (clock = createFakeClock()): Promise<Http> => openHttp({ clock });

Deno.test("an answer comes with its bytes and its times", async () => {
  await using server = rawServer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: x\r\n\r\nabc");
  using http = await openClient();
  const answer = await http.request(server.url, LIMITS);
  assert.equal(answer.status, 200);
  assert.equal(new TextDecoder().decode(answer.bytes), "abc");
  assert.equal(answer.headers.get("etag"), "x");
  assert.ok(answer.respondedMs >= answer.sentMs);
});

Deno.test("the bound is enforced on what comes, whatever length was declared", async () => {
  const endless = "2000\r\n" + "x".repeat(0x2000) + "\r\n";
  for (
    const answer of [
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${endless}`,
      `HTTP/1.1 200 OK\r\nContent-Length: 4294967296\r\n\r\n${"x".repeat(5000)}`,
    ]
  ) {
    await using server = rawServer(answer, { close: false });
    using http = await openClient();
    const error = await errorOf(http.request(server.url, LIMITS));
    assert.match(error.message, /longer than 1000 bytes/);
    assert.ok(isPassing(error));
  }
});

Deno.test("a connection that breaks in the middle of the body is an error, not a short body", async () => {
  await using server = rawServer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
  using http = await openClient();
  const error = await errorOf(http.request(server.url, LIMITS));
  assert.match(error.message, /the connection broke before the answer was whole/);
  assert.ok(isPassing(error));
});

Deno.test("a server that never answers, or stops in the middle, is given up at the deadline", async () => {
  for (const answer of ["", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"]) {
    const clock = createFakeClock();
    await using server = rawServer(answer, { close: false });
    using http = await openClient(clock);
    const error = await settled(errorOf(http.request(server.url, LIMITS)), clock, { stepMs: 100 });
    assert.match(error.message, /no whole answer within 5 s/);
    assert.ok(clock.monotonic() <= 5200);
    assert.equal(clock.sleepers, 0);
  }
});

Deno.test("an abort ends a request with the signal's reason and leaves no timer", async () => {
  const clock = createFakeClock();
  await using server = rawServer("", { close: false });
  using http = await openClient(clock);
  const stop = new AbortController();
  const request = errorOf(http.request(server.url, { ...LIMITS, signal: stop.signal }));
  const reason = new Error("enough");
  stop.abort(reason);
  assert.equal(await request, reason);
  assert.equal(clock.sleepers, 0);
});

Deno.test("a redirect is an answer, not followed", async () => {
  await using server = rawServer(
    "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
  );
  using http = await openClient();
  const answer = await http.request(server.url, LIMITS);
  assert.equal(answer.status, 302);
  assert.equal(answer.headers.get("location"), "http://169.254.169.254/");
});

Deno.test("an unreachable host is named without the query, also in the error's causes", async () => {
  const free = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = free.addr as Deno.NetAddr;
  free.close();
  using http = await openClient();
  for (
    const [url, expected] of [
      [`http://127.0.0.1:${port}/a?token=SECRET`, /\/a: connection refused/],
      ["http://no-such-host.invalid/a?token=SECRET", /the host name is not known/],
    ] as const
  ) {
    const error = await errorOf(http.request(new URL(url), LIMITS));
    assert.match(error.message, expected);
    assert.equal(sourceErrorKind(error), "offline");
    assert.doesNotMatch(Deno.inspect(error), /SECRET/);
  }
});

Deno.test("a CA file that is missing or holds no certificate is named", async () => {
  const clock = createFakeClock();
  assert.match(
    (await errorOf(openHttp({ clock, ca: "/nowhere/ca.pem" }))).message,
    /ca: cannot read/,
  );
  const folder = await mkdtemp(join(tmpdir(), "camsink-"));
  const path = join(folder, "ca.pem");
  await writeFile(path, "hello");
  assert.match((await errorOf(openHttp({ clock, ca: path }))).message, /holds no certificate/);
  await rm(folder, { recursive: true });
});

const openssl = needs("openssl");
Deno.test({
  name:
    `a server with a certificate of its own is trusted through the CA file only${openssl.reason}`,
  ignore: openssl.ignore,
  async fn() {
    const folder = await mkdtemp(join(tmpdir(), "camsink-"));
    const run = async (args: string) => {
      const { success, stderr } = await new Deno.Command(findProgram("openssl") ?? "", {
        args: args.split(" "),
        cwd: folder,
      }).output();
      assert.ok(success, new TextDecoder().decode(stderr));
    };
    const newKey = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    await run(`${newKey} -x509 -keyout ca.key -out ca.pem -days 2 -subj /CN=ca`);
    await run(`${newKey} -keyout key.pem -out csr.pem -subj /CN=cam`);
    await writeFile(join(folder, "san"), "subjectAltName=IP:127.0.0.1\n");
    await run(
      "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile san",
    );
    const server = Deno.serve({
      hostname: "127.0.0.1",
      port: 0,
      cert: await Deno.readTextFile(join(folder, "cert.pem")),
      key: await Deno.readTextFile(join(folder, "key.pem")),
      onListen: () => {},
    }, () => new Response("hello"));
    const url = new URL(`https://127.0.0.1:${server.addr.port}/`);
    const clock = createFakeClock();
    {
      using http = await openHttp({ clock, ca: join(folder, "ca.pem") });
      assert.equal(new TextDecoder().decode((await http.request(url, LIMITS)).bytes), "hello");
      using stranger = await openHttp({ clock });
      const error = await errorOf(stranger.request(url, LIMITS));
      assert.match(error.message, /certificate was not accepted .*give the file .* in "ca"/);
    }
    await server.shutdown();
    await rm(folder, { recursive: true });
  },
});

Deno.test("Retry-After is read as seconds and as a date by the server's own clock", () => {
  const nowMs = Date.UTC(1970, 0, 1);
  const read = (headers: Record<string, string>) => retryAfterMs(new Headers(headers), nowMs);
  assert.equal(read({ "retry-after": "7" }), 7000);
  assert.equal(
    read({
      "retry-after": "Fri, 21 Aug 2026 14:05:30 GMT",
      "date": "Fri, 21 Aug 2026 14:05:00 GMT",
    }),
    30_000,
  );
  assert.equal(read({}), undefined);
  assert.equal(read({ "retry-after": "soon" }), undefined);
  assert.equal(read({ "retry-after": "-5" }), undefined);
});
