/** Cameras of type `snapshot`: pictures, logins, redirects, bad answers. */
import assert from "node:assert/strict";
import * as v from "valibot";
import { startSnapshotCamera } from "../../simulators/mod.ts";
import { snapshotOptions, snapshotSource } from "../../core/sources/snapshot.ts";
import { sourceErrorKind } from "../../core/types.ts";
import { createFakeClock, type FakeClock } from "../support/fake_clock.ts";
import {
  type Answerer,
  createNetwork,
  errorOf,
  type FakeNetwork,
  never,
  picture,
  pull,
  settled,
  testContext,
  tinyJpeg,
} from "./world.ts";

const signal = new AbortController().signal;

function camera(
  answer: Answerer,
  { clock = createFakeClock(), ...options }: Record<string, unknown> & { clock?: FakeClock } = {},
) {
  const network: FakeNetwork = createNetwork(answer);
  const source = snapshotSource(
    v.parse(snapshotOptions, { url: "http://cam.local/snap.jpg?pw=SECRET", fps: 10, ...options }),
    testContext(clock, network),
  );
  return { clock, network, open: () => source.open({ signal }) };
}

/** The error of opening, whose text must not hold the address's query. */
async function refusal(answer: Answerer, options: Record<string, unknown> = {}) {
  const { clock, open } = camera(answer, options);
  const error = await settled(errorOf(open()), clock, { stepMs: 100 });
  assert.doesNotMatch(Deno.inspect(error), /SECRET/);
  return { kind: sourceErrorKind(error), message: error.message, error };
}

Deno.test("units come at the rate asked for, labelled with the middle of request and answer", async () => {
  const clock = createFakeClock();
  let count = 0;
  const { open } = camera(async ({ signal }) => {
    await clock.sleep(40, { signal });
    return picture(++count);
  }, { clock });
  const startMs = clock.now();
  await using session = await settled(open(), clock);
  const units = await pull(session, { count: 5, clock });
  assert.deepEqual(units.map((unit) => unit.ptsUs), [0, 100_000, 200_000, 300_000, 400_000]);
  assert.deepEqual(
    units.map((unit) => unit.capturedAtMs - startMs),
    [20, 120, 220, 320, 420],
  );
  assert.equal(session.counters.missed, 0);
  assert.deepEqual(session.tracks, [
    { id: 1, kind: "video", codec: "jpeg", widthPx: 16, heightPx: 8, config: new Uint8Array() },
  ]);
});

Deno.test("an answer slower than the rate skips moments and never makes a burst", async () => {
  const clock = createFakeClock();
  let count = 0;
  const { open, network } = camera(async ({ signal }) => {
    await clock.sleep(250, { signal });
    return picture(++count);
  }, { clock });
  await using session = await settled(open(), clock);
  const units = await pull(session, { count: 4, clock });
  assert.deepEqual(units.map((unit) => unit.ptsUs), [0, 300_000, 600_000, 900_000]);
  assert.equal(session.counters.missed, 6);
  assert.equal(network.seen.length, 4);
});

Deno.test("a jump of wall time moves the labels and not the media time", async () => {
  const { clock, open } = camera(() => picture(1));
  await using session = await settled(open(), clock);
  const [first] = await pull(session, { count: 1, clock });
  clock.jump(-3_600_000);
  const [second] = await pull(session, { count: 1, clock });
  assert.ok(first && second);
  assert.equal(second.ptsUs - first.ptsUs, 100_000);
  assert.equal(second.capturedAtMs - first.capturedAtMs, 100 - 3_600_000);
});

Deno.test("an unchanged picture is asked for by its ETag and yielded as the same bytes object", async () => {
  let count = 0;
  const { clock, open, network } = camera(({ headers }) =>
    headers.get("if-none-match") === '"1"' && ++count < 3
      ? new Response(null, { status: 304 })
      : picture(count, { etag: `"${count + 1}"` })
  );
  await using session = await settled(open(), clock);
  const units = await pull(session, { count: 4, clock });
  assert.equal(network.seen[1]?.headers.get("if-none-match"), '"1"');
  assert.equal(units[1]?.data, units[0]?.data);
  assert.equal(units[2]?.data, units[0]?.data);
  assert.notEqual(units[3]?.data, units[0]?.data);
  assert.equal(session.counters.same, 2);
});

Deno.test("the same bytes again are seen without an ETag too, whatever stands behind their end", async () => {
  const jpeg = tinyJpeg(1);
  let count = 0;
  const { clock, open } = camera(() => {
    const padded = new Uint8Array(jpeg.length + 4).fill(++count);
    padded.set(jpeg);
    return new Response(padded);
  });
  await using session = await settled(open(), clock);
  const units = await pull(session, { count: 3, clock });
  assert.deepEqual(units[0]?.data, jpeg);
  assert.equal(units[2]?.data, units[0]?.data);
});

Deno.test("a new picture size comes with its unit", async () => {
  let count = 0;
  const { clock, open } = camera(() =>
    new Response(tinyJpeg(1, count++ < 1 ? {} : { widthPx: 320, heightPx: 180 }))
  );
  await using session = await settled(open(), clock);
  const units = await pull(session, { count: 3, clock });
  assert.deepEqual(
    units.map(({ track }) => track?.kind === "video" ? track.widthPx : undefined),
    [undefined, 320, undefined],
  );
});

Deno.test("what is no picture is named by its kind", async () => {
  for (
    const [body, expected] of [
      ["", /got an empty answer where a JPEG picture was expected/],
      ["<!DOCTYPE html><html>", /got an HTML page \(it begins with "<!DOCTYPE html><html>"\)/],
      ['{"error":1}', /got JSON/],
      ["\x89PNG\r\n\x1a\n", /got a PNG picture/],
      ["RIFF\0\0\0\0WEBPVP8 ", /got a WebP picture/],
      ["--frame\r\nContent-Type: image/jpeg\r\n\r\n", /multipart stream/],
      ["\0\x01\x02", /not a JPEG/],
    ] as const
  ) {
    const bytes = Uint8Array.from(body, (letter) => letter.charCodeAt(0));
    const { kind, message } = await refusal(() => new Response(bytes));
    assert.equal(kind, "protocol");
    assert.match(message, expected);
    assert.match(message, /^http:\/\/cam\.local\/snap\.jpg: /);
  }
});

Deno.test("a JPEG cut at any byte is refused", async () => {
  const whole = tinyJpeg(1);
  for (let length = 1; length < whole.length; length++) {
    const { kind } = await refusal(() => new Response(whole.subarray(0, length)));
    assert.equal(kind, "protocol", `${length} bytes`);
  }
});

Deno.test("bad answers between good ones cost their moment only", async () => {
  let count = 0;
  const { clock, open } = camera(() => {
    count++;
    if (count === 2) return new Response("");
    if (count === 3) return new Response("<html>busy</html>");
    if (count === 4) return new Response(tinyJpeg(1).subarray(0, 12));
    if (count === 5) return new Response("no", { status: 500 });
    return picture(count);
  });
  await using session = await settled(open(), clock);
  const units = await pull(session, { count: 3, clock });
  assert.deepEqual(units.map((unit) => unit.ptsUs), [0, 500_000, 600_000]);
  assert.equal(session.counters.bad, 4);
});

Deno.test("ten seconds without a picture end the session with the last reason", async () => {
  let count = 0;
  const { clock, open } = camera(
    () => ++count < 3 ? picture(count) : new Response("<html>login</html>"),
    { fps: 2 },
  );
  await using session = await settled(open(), clock);
  await pull(session, { count: 2, clock });
  const startMs = clock.monotonic();
  const error = await errorOf(pull(session, { count: 1, clock }));
  assert.match(error.message, /no picture for 10\.0 s \(21 bad answers in a row\).*an HTML page/);
  assert.equal(sourceErrorKind(error), "protocol");
  assert.ok(clock.monotonic() - startMs <= 10_600);
});

Deno.test("a camera that stops answering ends the session within about ten seconds", async () => {
  let count = 0;
  const { clock, open } = camera(() => ++count < 3 ? picture(count) : never());
  await using session = await settled(open(), clock);
  await pull(session, { count: 2, clock });
  const startMs = clock.monotonic();
  const error = await errorOf(pull(session, { count: 1, clock }));
  assert.match(error.message, /no picture for 1\d\.\d s .*no whole answer within 5 s/);
  assert.equal(sourceErrorKind(error), "offline");
  assert.ok(clock.monotonic() - startMs <= 10_300);
  await session[Symbol.asyncDispose]();
  assert.equal(clock.sleepers, 0);
});

Deno.test("one bad answer at one picture in a hundred seconds does not end the session", async () => {
  let count = 0;
  const { clock, open } = camera(
    () => ++count === 2 ? new Response("") : picture(count),
    { fps: 0.01 },
  );
  await using session = await settled(open(), clock, { stepMs: 1000 });
  const units = await pull(session, { count: 2, clock, stepMs: 1000 });
  assert.deepEqual(units.map((unit) => unit.ptsUs), [0, 200_000_000]);
});

Deno.test("statuses say what they mean and what to do", async () => {
  for (
    const [status, kind, expected] of [
      [401, "auth", /asks for a login \(401\): give "username" and "password"/],
      [403, "auth", /refuses access \(403\)/],
      [404, "protocol", /nothing under this address \(404\): check "url"/],
      [429, "rate", /asked too often \(429\): lower "fps"/],
      [500, "offline", /answered with status 500/],
    ] as const
  ) {
    const found = await refusal(() => new Response("x", { status }));
    assert.equal(found.kind, kind);
    assert.match(found.message, expected);
  }
});

Deno.test("Retry-After is handed to the recorder", async () => {
  for (const status of [429, 503]) {
    const { error, kind } = await refusal(() =>
      new Response("", { status, headers: { "retry-after": "7" } })
    );
    assert.equal(kind, "rate");
    assert.ok("retryAfterMs" in error && error.retryAfterMs === 7000);
  }
});

const LOGIN = { username: "owner", password: "pässword" };

Deno.test("every login that a camera may want works, and goes on when nonces grow stale", async () => {
  for (
    const auth of [
      { type: "none" },
      { type: "basic", ...LOGIN },
      { type: "digest", ...LOGIN },
      { type: "digest", ...LOGIN, algorithms: ["SHA-256", "MD5"], nonceUses: 2 },
    ] as const
  ) {
    const clock = createFakeClock();
    await using real = await startSnapshotCamera({
      ...{ name: "Yard", widthPx: 320, heightPx: 180, clock },
      auth,
    });
    const source = snapshotSource(
      v.parse(snapshotOptions, { url: real.url, fps: 30, ...(auth.type === "none" ? {} : LOGIN) }),
      testContext(clock),
    );
    await using session = await settled(source.open({ signal }), clock, { stepMs: 1 });
    const units = await pull(session, { count: 6, clock, stepMs: 1 });
    assert.equal(units.length, 6);
    assert.equal(session.counters.bad, 0);
    assert.ok(real.served.challenged <= (auth.type === "none" ? 0 : 4));
  }
});

Deno.test("a wrong password is told after one try with it", async () => {
  const clock = createFakeClock();
  await using real = await startSnapshotCamera({
    ...{ name: "Yard", widthPx: 320, heightPx: 180, clock },
    auth: { type: "digest", ...LOGIN },
  });
  const source = snapshotSource(
    v.parse(snapshotOptions, { url: real.url, ...LOGIN, password: "wrong-password" }),
    testContext(clock),
  );
  const error = await settled(errorOf(source.open({ signal })), clock, { stepMs: 1 });
  assert.equal(sourceErrorKind(error), "auth");
  assert.match(error.message, /refused the user name or the password/);
  assert.doesNotMatch(Deno.inspect(error), /wrong-password/);
  assert.equal(real.served.requests, 2);
});

Deno.test("a missing secret is told as a login that cannot be had", async () => {
  const { kind, message } = await refusal(() => picture(1), {
    username: "owner",
    password: "env:CAMSINK_TEST_NOT_SET",
  });
  assert.equal(kind, "auth");
  assert.match(message, /set the environment variable CAMSINK_TEST_NOT_SET/);
});

Deno.test("after a redirect to another host, login and headers stay behind", async () => {
  const { clock, open, network } = camera(({ url, headers }) => {
    if (url.host !== "cam.local") return picture(1);
    if (headers.get("authorization") === null) {
      return new Response("", { status: 401, headers: { "www-authenticate": 'Basic realm="x"' } });
    }
    return new Response("", {
      status: 302,
      headers: { location: "https://cdn.example.com/1.jpg" },
    });
  }, { ...LOGIN, headers: { "Cookie": "session=SECRET", "x-key": "SECRET" } });
  await using session = await settled(open(), clock);
  await pull(session, { count: 2, clock });
  const own = network.seen.filter(({ url }) => url.host === "cam.local");
  const other = network.seen.filter(({ url }) => url.host === "cdn.example.com");
  assert.equal(own.at(-1)?.headers.get("cookie"), "session=SECRET");
  assert.ok(own.at(-1)?.headers.has("authorization"));
  assert.equal(other.length, 2);
  for (const { headers } of other) {
    assert.deepEqual(
      ["authorization", "cookie", "x-key"].map((name) => headers.get(name)),
      [null, null, null],
    );
  }
});

Deno.test("another host that asks for a login gets none", async () => {
  const { kind, message } = await refusal(
    ({ url }) =>
      url.host === "cam.local"
        ? new Response("", { status: 302, headers: { location: "https://evil.example/" } })
        : new Response("", { status: 401, headers: { "www-authenticate": 'Basic realm="x"' } }),
    LOGIN,
  );
  assert.equal(kind, "auth");
  assert.match(message, /evil\.example, which asks for a login .* never sent to another host/);
});

Deno.test("a redirect into the local network or to a metadata service is refused", async () => {
  for (
    const location of ["http://169.254.169.254/latest/", "http://127.0.0.1/", "file:///etc/passwd"]
  ) {
    const network: string[] = [];
    const { message } = await refusal(({ url }) => {
      network.push(url.host);
      return new Response("", { status: 302, headers: { location } });
    });
    assert.match(message, /refused the redirect/);
    assert.deepEqual(network, ["cam.local"]);
  }
});

Deno.test("redirects in a circle end", async () => {
  const { message } = await refusal(() =>
    new Response("", { status: 302, headers: { location: "/snap.jpg" } })
  );
  assert.match(message, /more than 5 redirects/);
});

Deno.test("options are checked, and the messages say what is expected", () => {
  const url = "http://cam.local/snap.jpg";
  for (
    const [options, expected] of [
      [{}, /url/],
      [{ url: "cam.local" }, /http:\/\/ or https:\/\//],
      [{ url: "http://u:p@cam.local/" }, /must not hold credentials/],
      [{ url, fps: 0 }, /0\.01 to 30/],
      [{ url, fps: 31 }, /0\.01 to 30/],
      [{ url, username: "u" }, /both "username" and "password"/],
      [{ url, headers: { "a b": "c" } }, /name of an HTTP header/],
      [{ url, headers: { "Authorization": "x" } }, /goes into "username"/],
      [{ url, timeout: "1ms" }, /between 100ms and 5m/],
      [{ url, speed: 5 }, /speed/],
    ] as const
  ) {
    const result = v.safeParse(snapshotOptions, options);
    const messages = (result.issues ?? []).map(({ message, path }) =>
      `${path?.map(({ key }) => key).join(".")}: ${message}`
    );
    assert.match(messages.join("\n"), expected, JSON.stringify(options));
  }
});
