/** The MJPEG camera against a simulated one, a network in memory, and ffmpeg's own server. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import * as v from "valibot";
import { systemClock } from "../../core/clock.ts";
import { mjpegOptions, mjpegSource } from "../../core/sources/mjpeg/camera.ts";
import { createRateCap } from "../../core/sources/mjpeg/session.ts";
import { parseJpeg } from "../../core/media/jpeg.ts";
import { sourceErrorKind } from "../../core/types.ts";
import {
  createLoopbackCertificate,
  type MjpegCameraOptions,
  startMjpegCamera,
} from "../../simulators/mod.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { needs } from "../support/programs.ts";
import {
  createNetwork,
  createTestLog,
  errorOf,
  pull,
  settled,
  testContext,
  tinyJpeg,
} from "./world.ts";

const { signal } = new AbortController();
const SIZE = { name: "Yard", widthPx: 160, heightPx: 96 };
const LOGIN = { username: "owner", password: "pässword" };

async function start(
  { camera: options = {}, ...more }: {
    readonly camera?: Partial<MjpegCameraOptions>;
    readonly [option: string]: unknown;
  } = {},
) {
  const clock = createFakeClock();
  const sent: { readonly jpeg: Uint8Array; readonly takenAtMs: number }[] = [];
  const onPicture = (jpeg: Uint8Array, takenAtMs: number) =>
    void sent.push({ jpeg: jpeg.slice(), takenAtMs });
  const camera = await startMjpegCamera({ ...SIZE, clock, fps: 20, onPicture, ...options });
  const source = mjpegSource(
    v.parse(mjpegOptions, { url: `${camera.url}?pw=SECRET`, ...more }),
    testContext(clock),
  );
  const open = () => settled(source.open({ signal }), clock, { stepMs: 1 });
  return { clock, camera, sent, open, [Symbol.asyncDispose]: () => camera.close() };
}

Deno.test("whatever a camera says of boundary and length, every picture comes, timed by its arrival", async () => {
  for (const boundary of ["plain", "quoted", "dashes", "missing", "wrong"] as const) {
    for (const length of ["right", "none", "small", "large"] as const) {
      await using world = await start({ camera: { boundary, length } });
      await using session = await world.open();
      const units = await pull(session, { count: 4, clock: world.clock, stepMs: 5 });
      assert.equal(units.length, 4, `${boundary}, ${length}`);
      for (const [i, unit] of units.entries()) {
        const { jpeg, takenAtMs = NaN } = world.sent[i] ?? {};
        assert.equal(Buffer.compare(unit.data, jpeg ?? new Uint8Array()), 0, `picture ${i + 1}`);
        // A picture whose end nothing tells is whole when the next one begins, 50 ms later.
        const lateMs = unit.capturedAtMs - takenAtMs;
        assert.ok(lateMs >= 0 && lateMs <= 60, `picture ${i + 1} came ${lateMs} ms late`);
      }
      assert.equal(session.counters.bad, 0, `${boundary}, ${length}`);
    }
  }
});

Deno.test("empty parts, texts and half pictures are left out, and the stream goes on", async () => {
  await using world = await start();
  for (const kind of ["empty", "text", "truncated"] as const) world.camera.trouble(kind);
  await using session = await world.open();
  const units = await pull(session, { count: 3, clock: world.clock, stepMs: 5 });
  // The first three parts held none; what follows is the fourth, fifth and sixth.
  for (const [i, { data }] of units.entries()) {
    assert.equal(Buffer.compare(data, world.sent[i + 3]?.jpeg ?? new Uint8Array()), 0);
  }
});

Deno.test("half pictures are counted, and with a rate cap what was left out is too", async () => {
  await using world = await start({ fps: 5 });
  await using session = await world.open();
  world.camera.trouble("truncated");
  const units = await pull(session, { count: 5, clock: world.clock, stepMs: 2 });
  assert.equal(session.counters.bad, 1);
  assert.equal(session.counters.pictures, 5);
  assert.ok(session.counters.skipped >= 5, `${session.counters.skipped} of 20 a second`);
  const lengthMs = ((units.at(-1)?.ptsUs ?? 0) - (units[0]?.ptsUs ?? 0)) / 1000;
  assert.ok(lengthMs >= 700, `5 pictures in ${lengthMs} ms`);
});

Deno.test("a redirect on the camera's own host is followed, and the login goes with it", async () => {
  const clock = createFakeClock();
  const network = createNetwork(({ url, headers }) => {
    if (headers.get("authorization") === null) {
      return new Response("", { status: 401, headers: { "www-authenticate": 'Basic realm="x"' } });
    }
    return url.pathname === "/live"
      ? new Response(tinyJpeg(1))
      : new Response("", { status: 302, headers: { location: "/live" } });
  });
  const source = mjpegSource(
    v.parse(mjpegOptions, { url: "http://cam.local/s", ...LOGIN }),
    testContext(clock, network),
  );
  await using session = await settled(source.open({ signal }), clock);
  assert.equal((await pull(session, { count: 1, clock })).length, 1);
  assert.deepEqual(network.seen.map(({ url }) => url.pathname), ["/s", "/s", "/live"]);
});

Deno.test("a picture without end ends the session with a protocol error, without the query", async () => {
  await using world = await start();
  await using session = await world.open();
  await pull(session, { count: 2, clock: world.clock });
  world.camera.trouble("endless");
  const error = await errorOf(pull(session, { count: 3, clock: world.clock, stepMs: 1 }));
  assert.equal(sourceErrorKind(error), "protocol");
  assert.match(error.message, /\/stream: a picture of more than 8388608 bytes/);
  assert.doesNotMatch(Deno.inspect(error), /SECRET/);
});

Deno.test("a stream that ends is told, also in the middle of a picture", async () => {
  await using world = await start();
  await using session = await world.open();
  world.camera.trouble("cut");
  const error = await errorOf(pull(session, { count: 5, clock: world.clock }));
  assert.equal(sourceErrorKind(error), "offline");
  assert.match(error.message, /ended the stream|connection broke/);
});

Deno.test("basic and digest logins work; a wrong password is told without being shown", async () => {
  for (const type of ["basic", "digest"] as const) {
    await using world = await start({ camera: { auth: { type, ...LOGIN } }, ...LOGIN });
    await using session = await world.open();
    assert.equal((await pull(session, { count: 2, clock: world.clock })).length, 2);
    await using wrong = await start({
      ...{ camera: { auth: { type, ...LOGIN } } },
      ...{ username: "owner", password: "wrong-password" },
    });
    const error = await errorOf(wrong.open());
    assert.equal(sourceErrorKind(error), "auth");
    assert.match(error.message, /refused the user name or the password/);
    assert.doesNotMatch(Deno.inspect(error), /wrong-password|SECRET/);
  }
});

Deno.test("https is taken with the camera's own authority, and refused without", async () => {
  const { caPem, ...tls } = await createLoopbackCertificate();
  const folder = await Deno.makeTempDir();
  try {
    const ca = join(folder, "ca.pem");
    await Deno.writeTextFile(ca, caPem);
    await using world = await start({ camera: { tls }, ca });
    await using session = await world.open();
    assert.equal((await pull(session, { count: 2, clock: world.clock })).length, 2);
    await using other = await start({ camera: { tls } });
    assert.match((await errorOf(other.open())).message, /certificate was not accepted/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("answers that are no stream are told by what they are", async () => {
  for (
    const [body, init, kind, expected] of [
      ["<html>", { headers: { "content-type": "text/html" } }, "protocol", /got text\/html/],
      [tinyJpeg(1), { headers: { "content-type": "image/jpeg" } }, "protocol", /type "snapshot"/],
      ["", { headers: { "content-type": "a/b" } }, "protocol", /\(a\/b\) ended without/],
      ["", { status: 404 }, "protocol", /nothing under this address \(404\)/],
      ["", { status: 503 }, "offline", /status 503/],
      ["", { status: 302, headers: { location: "http://127.0.0.1/" } }, "protocol", /redirect/],
    ] as const
  ) {
    const clock = createFakeClock();
    const network = createNetwork(() => new Response(body, init));
    const source = mjpegSource(
      v.parse(mjpegOptions, { url: "http://cam.local/s?pw=SECRET" }),
      testContext(clock, network),
    );
    const error = await settled(
      errorOf(
        source.open({ signal }).then(async (session) => {
          for await (const _unit of session);
        }),
      ),
      clock,
    );
    assert.equal(sourceErrorKind(error), kind);
    assert.match(error.message, expected);
    assert.doesNotMatch(Deno.inspect(error), /SECRET/);
    assert.equal(clock.sleepers, 0);
  }
});

Deno.test("a rate cap drops evenly, keeps its rate on the average, and loses nothing to jitter", () => {
  const taken = (fps: number | undefined, times: readonly number[]) =>
    times.filter(createRateCap(fps));
  const at25 = Array.from({ length: 250 }, (_, i) => i * 40);
  assert.equal(taken(undefined, at25).length, 250);
  assert.equal(taken(10, at25).length, 100);
  const gaps = taken(10, at25).map((at, i, all) => at - (all[i - 1] ?? -100));
  assert.ok(gaps.every((gap) => gap >= 80 && gap <= 120), gaps.join(" "));
  const jittery = Array.from({ length: 100 }, (_, i) => i * 100 + (i % 3) * 7);
  assert.equal(taken(10, jittery).length, 100);
  assert.deepEqual(taken(10, [0, 5000, 5010, 5020, 5100]), [0, 5000, 5100]); // no burst after a gap
});

const ffmpeg = needs("ffmpeg");
Deno.test({
  name: `ffmpeg's own server: its pictures come whole${ffmpeg.reason}`,
  ignore: ffmpeg.ignore,
  fn: async () => {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const url = `http://127.0.0.1:${listener.addr.port}/live.mjpg`;
    listener.close();
    await using server = new Deno.Command("ffmpeg", {
      args: [
        ...["-v", "error", "-nostdin", "-re", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=25"],
        ...["-c:v", "mjpeg", "-t", "60", "-f", "mpjpeg", "-listen", "1", url],
      ],
      stdout: "null",
      stderr: "null",
    }).spawn();
    const context = { clock: systemClock, log: createTestLog(), random: Math.random };
    const source = mjpegSource(v.parse(mjpegOptions, { url, timeout: "20s" }), context);
    let session;
    for (let tries = 0; session === undefined; tries++) {
      try {
        session = await source.open({ signal });
      } catch (error) {
        if (tries > 2400) throw error; // it takes its time to listen
        await systemClock.sleep(50);
      }
    }
    let count = 0;
    for await (const unit of session) {
      const { widthPx, heightPx, sizeBytes } = parseJpeg(unit.data);
      assert.deepEqual([widthPx, heightPx, sizeBytes], [320, 180, unit.data.length]);
      if (++count === 30) break;
    }
    assert.equal(count, 30);
    assert.equal(session.counters.bad, 0);
    server.kill("SIGKILL");
  },
});
