/** The two logins of a Nest account: what is sent, what refusals mean, when it is renewed. */
import assert from "node:assert/strict";
import * as v from "valibot";
import { revealedSecrets } from "../../core/config/values.ts";
import { accountTypes } from "../../core/sources/mod.ts";
import { lifetimeMs } from "../../core/sources/nest/login.ts";
import { nestEndpoints } from "../../core/sources/nest/options.ts";
import { sourceErrorKind } from "../../core/types.ts";
import { errorOf, never, pull } from "./world.ts";
import {
  camera,
  COOKIE,
  createSmallCloud,
  GOOGLE,
  idOf,
  ISSUE_TOKEN,
  NEST,
} from "./small_cloud.ts";

const signal = new AbortController().signal;
const html = () => new Response("<!DOCTYPE html><html>Sign in</html>");

Deno.test("a Google login walks from cookie to session and shows the cookie to Google alone", async () => {
  const cloud = createSmallCloud();
  await using account = cloud.open();
  const [first] = await account.cameras({ signal });
  assert.equal(first?.name, "Camera a");
  const [google, proxy, session, launch] = cloud.network.seen;
  assert.equal(google?.url.href, ISSUE_TOKEN);
  assert.equal(google?.headers.get("cookie"), COOKIE);
  assert.equal(google?.headers.get("x-requested-with"), "XmlHttpRequest");
  assert.equal(proxy?.headers.get("authorization"), "Bearer ya29.canary-1");
  assert.deepEqual(JSON.parse(proxy?.body ?? ""), {
    embed_google_oauth_access_token: true,
    expire_after: "3600s",
    google_oauth_access_token: "ya29.canary-1",
    policy_id: "authproxy-oauth-policy",
  });
  assert.equal(session?.headers.get("authorization"), "Basic canary-jwt-1");
  assert.equal(launch?.headers.get("authorization"), "Basic g.0.token-1");
  assert.equal(launch?.headers.get("x-nl-user-id"), "4711");
  for (const { url, headers } of cloud.network.seen) {
    assert.match(headers.get("user-agent") ?? "", /^Nest\/.*jasper/);
    if (url.host !== "accounts.google.com") assert.equal(headers.get("cookie"), null, url.host);
  }
});

Deno.test("cameras of a Google account see the session's token, those of a Nest account a cookie", async () => {
  for (
    const [options, name, value] of [
      [GOOGLE, "authorization", "Basic g.0.token-1"],
      [NEST, "cookie", "website_2=session-1"],
    ] as const
  ) {
    const cloud = createSmallCloud(options);
    await using account = cloud.open();
    const [first] = await account.cameras({ signal });
    await using _session = await first?.source.open({ signal });
    const [image] = cloud.asked("/get_image");
    assert.equal(image?.headers.get(name), value);
    assert.equal(image?.url.host, "nexusapi-eu1.dropcam.com");
    assert.equal(image?.url.searchParams.get("uuid"), idOf("a"));
    assert.equal(image?.url.searchParams.get("width"), "1280");
  }
});

Deno.test("a Nest login shows its token as a form, and asks for the user with it", async () => {
  const cloud = createSmallCloud(NEST);
  await using account = cloud.open();
  await account.cameras({ signal });
  const [login, session] = cloud.network.seen;
  assert.equal(login?.method, "POST");
  assert.equal(login?.headers.get("content-type"), "application/x-www-form-urlencoded");
  assert.equal(login?.body, "access_token=b.canary-access-token");
  assert.equal(session?.headers.get("authorization"), "Basic b.canary-access-token");
});

Deno.test("a session token that comes as a cookie only is found too, also in the field test", async () => {
  for (const [fieldTest, name] of [[false, "website_2"], [true, "website_ft"]] as const) {
    const cloud = createSmallCloud({ ...NEST, fieldTest });
    const endpoints = nestEndpoints({ endpoints: {}, fieldTest });
    const moved = (host: string, path: string, answer: Response) =>
      cloud.state.routes.set(host + path, () => answer);
    moved(
      endpoints.camera.host,
      "/api/v1/login.login_nest",
      Response.json({ status: 0, items: [] }, {
        headers: { "set-cookie": `${name}=session-1; Path=/; Secure` },
      }),
    );
    moved(endpoints.home.host, "/session", Response.json({ userid: "4711" }));
    moved(
      endpoints.home.host,
      "/api/0.1/user/4711/app_launch",
      Response.json({ updated_buckets: [camera(idOf("a"))] }),
    );
    await using account = cloud.open();
    const [first] = await account.cameras({ signal });
    await using _session = await first?.source.open({ signal });
    assert.equal(cloud.asked("/get_image")[0]?.headers.get("cookie"), `${name}=session-1`);
  }
});

Deno.test("what people copy along with their secrets is taken off", async () => {
  for (
    const [issueToken, cookie] of [
      [`Request URL: ${ISSUE_TOKEN}`, `cookie: ${COOKIE}`],
      [`"${ISSUE_TOKEN}",`, `Cookie:${COOKIE}\n`],
      [`issueToken: "${ISSUE_TOKEN}"`, COOKIE.replace("; ", ";\r\n  ")],
    ] as const
  ) {
    const cloud = createSmallCloud({ issueToken, cookie });
    await using account = cloud.open();
    await account.cameras({ signal });
    assert.equal(cloud.network.seen[0]?.url.href, ISSUE_TOKEN);
    assert.equal(
      cloud.network.seen[0]?.headers.get("cookie")?.replace(/;\s+/, "; "),
      COOKIE,
    );
  }
});

Deno.test("an issue token that would lead the cookie elsewhere, or is not whole, is refused", async () => {
  for (
    const [issueToken, expected] of [
      ["nonsense", /it is no address/],
      [ISSUE_TOKEN.replace("accounts.google.com", "evil.example"), /its host is evil\.example/],
      [ISSUE_TOKEN.replace("iframerpc", "auth"), /its path is \/o\/oauth2\/auth/],
      [ISSUE_TOKEN.replace("ss_domain", "s"), /no "ss_domain"/],
    ] as const
  ) {
    const cloud = createSmallCloud({ issueToken, cookie: COOKIE });
    await using account = cloud.open();
    const error = await errorOf(account.cameras({ signal }));
    assert.match(error.message, expected);
    assert.equal(sourceErrorKind(error), "auth");
    assert.equal(cloud.network.seen.length, 0);
  }
});

Deno.test("refusals are told in plain words, with what to do", async () => {
  const google = "accounts.google.com/o/oauth2/iframerpc";
  const loggedOut = { error: "USER_LOGGED_OUT", detail: "No active session found." };
  const unauthorized = { status: 403, items: [], status_detail: "Unauthorized." };
  const answer = (body: unknown, status = 200) => () => Response.json(body, { status });
  for (
    const [options, route, respond, kind, expected] of [
      [
        GOOGLE,
        google,
        answer(loggedOut),
        "auth",
        /does not know the login.*anew.*Firefox.*USER_LOGGED_OUT/,
      ],
      [GOOGLE, google, answer(loggedOut, 403), "auth", /USER_LOGGED_OUT/],
      [GOOGLE, google, html, "auth", /anew.*showed its login page/],
      [
        GOOGLE,
        google,
        () =>
          new Response("", { status: 302, headers: { location: "https://accounts.google.com/" } }),
        "auth",
        /showed its login page/,
      ],
      [GOOGLE, google, answer({}, 503), "offline", /problem of its own \(status 503\)/],
      [
        GOOGLE,
        google,
        answer({ token_type: "Bearer" }),
        "protocol",
        /expected JSON with "access_token"/,
      ],
      [
        GOOGLE,
        "nestauthproxyservice-pa.googleapis.com/v1/issue_jwt",
        answer({}, 401),
        "auth",
        /is this the account that the cameras belong to/,
      ],
      [GOOGLE, "home.nest.com/session", answer({}, 406), "auth", /user agent \(406\)/],
      [
        GOOGLE,
        "home.nest.com/session",
        answer({}, 403),
        "auth",
        /Nest refuses this Google account/,
      ],
      [GOOGLE, "home.nest.com/session", answer({}, 429), "rate", /asked too often/],
      [GOOGLE, "home.nest.com/session", html, "protocol", /got something else than JSON/],
      [
        NEST,
        "webapi.camera.home.nest.com/api/v1/login.login_nest",
        answer(unauthorized),
        "auth",
        /refuses "accessToken".*30 days.*home\.nest\.com\/session.*Unauthorized\./,
      ],
      [
        NEST,
        "webapi.camera.home.nest.com/api/v1/login.login_nest",
        answer({ status: 400, status_description: "bad-request" }),
        "auth",
        /status 400, bad-request/,
      ],
      [NEST, "home.nest.com/session", answer({}, 401), "auth", /refuses "accessToken"/],
    ] as const
  ) {
    const cloud = createSmallCloud(options);
    cloud.state.routes.set(route, respond);
    await using account = cloud.open();
    const error = await errorOf(account.cameras({ signal }));
    assert.match(error.message, expected);
    assert.equal(sourceErrorKind(error), kind, error.message);
    assert.doesNotMatch(Deno.inspect(error) + cloud.context.log.lines.join(), /canary/);
  }
});

Deno.test("a login refused for good is not tried again for five minutes with the same secrets", async () => {
  const cloud = createSmallCloud();
  const google = "accounts.google.com/o/oauth2/iframerpc";
  cloud.state.routes.set(google, () => Response.json({ error: "USER_LOGGED_OUT" }));
  await using account = cloud.open();
  await errorOf(account.cameras({ signal }));
  await cloud.clock.advance(299_000);
  await errorOf(account.cameras({ signal }));
  assert.equal(cloud.network.seen.length, 1);
  await cloud.clock.advance(2000);
  cloud.state.routes.delete(google);
  assert.equal((await account.cameras({ signal })).length, 1);
});

Deno.test("a rotated secret is tried at once", async () => {
  const file = await Deno.makeTempFile();
  await Deno.writeTextFile(file, "old-and-dead");
  const cloud = createSmallCloud({ ...GOOGLE, cookie: `file:${file}` });
  cloud.state.routes.set(
    "accounts.google.com/o/oauth2/iframerpc",
    ({ headers }) =>
      headers.get("cookie") === "old-and-dead"
        ? Response.json({ error: "USER_LOGGED_OUT" })
        : Response.json({ access_token: "ya29.canary", expires_in: 3600 }),
  );
  await using account = cloud.open();
  await errorOf(account.cameras({ signal }));
  await Deno.writeTextFile(file, "cookie: fresh-and-alive");
  assert.equal((await account.cameras({ signal })).length, 1);
  await Deno.remove(file);
});

Deno.test("what a login yields is known to the log as secret", async () => {
  const cloud = createSmallCloud({ ...GOOGLE, cookie: `Cookie: ${COOKIE}` });
  await using account = cloud.open();
  await account.cameras({ signal });
  for (const text of [COOKIE, "ya29.canary-1", "canary-jwt-1", "g.0.token-1"]) {
    assert.ok(revealedSecrets.has(text), text);
  }
});

Deno.test("many who ask at the same time share one login", async () => {
  const cloud = createSmallCloud();
  await using account = cloud.open();
  await Promise.all(Array.from({ length: 8 }, () => account.cameras({ signal })));
  assert.equal(cloud.logins, 1);
});

Deno.test("one who is told to stop while logging in does not stop it for the others", async () => {
  const cloud = createSmallCloud();
  const gate = Promise.withResolvers<void>();
  cloud.state.routes.set("home.nest.com/session", async () => {
    await gate.promise;
    return Response.json({ userid: "4711", access_token: "g.0.token-1" });
  });
  await using account = cloud.open();
  const stop = new AbortController();
  const stopped = errorOf(account.cameras({ signal: stop.signal }));
  const other = account.cameras({ signal });
  const reason = new Error("enough");
  stop.abort(reason);
  assert.equal(await stopped, reason);
  gate.resolve();
  assert.equal((await other).length, 1);
  assert.equal(cloud.logins, 1);
});

Deno.test("the login is renewed five minutes before its end, and no camera waits for it", async () => {
  const cloud = createSmallCloud({ ...GOOGLE, fps: 0.1 });
  await using account = cloud.open();
  const [first] = await account.cameras({ signal });
  assert.ok(first);
  await using session = await first.source.open({ signal });
  const units = await pull(session, { count: 331, clock: cloud.clock, stepMs: 5000 });
  assert.equal(cloud.logins, 2);
  assert.ok(Math.abs(cloud.clock.monotonic() - 3_300_000) < 15_000);
  const gaps = units.map((unit, i) => unit.ptsUs - (units[i - 1]?.ptsUs ?? -10_000_000));
  assert.ok(gaps.every((gapUs) => Math.abs(gapUs - 10_000_000) < 1000));
});

Deno.test("a renewal that fails in the background is said once, and tried again every 30 s", async () => {
  const cloud = createSmallCloud({ ...GOOGLE, fps: 1 });
  await using account = cloud.open();
  const [first] = await account.cameras({ signal });
  assert.ok(first);
  await using session = await first.source.open({ signal });
  cloud.state.routes.set("home.nest.com/session", () => new Response("", { status: 502 }));
  await pull(session, { count: 3420, clock: cloud.clock, stepMs: 1000 });
  const warnings = cloud.context.log.lines.filter((line) => line.startsWith("warn"));
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? "", /cannot renew the login, which is good for another 5m: .*502/);
  assert.ok(cloud.logins > 3 && cloud.logins < 7, String(cloud.logins));
  cloud.state.routes.clear();
  await pull(session, { count: 60, clock: cloud.clock, stepMs: 1000 });
  cloud.state.validFrom = cloud.logins;
  assert.equal((await pull(session, { count: 3, clock: cloud.clock })).length, 3);
});

Deno.test("closing the account ends a login that is under way", async () => {
  const cloud = createSmallCloud();
  cloud.state.routes.set("home.nest.com/session", never);
  const account = cloud.open();
  const error = errorOf(account.cameras({ signal }));
  await cloud.clock.advance(10);
  await account[Symbol.asyncDispose]();
  assert.match((await error).message, /the account is closed/);
  assert.equal(cloud.clock.sleepers, 0);
});

Deno.test("lifetimes are read as seconds and as dates by the server's clock", () => {
  const headers = new Headers({ date: "Tue, 01 Mar 2022 22:15:55 GMT" });
  const read = (value: unknown) => lifetimeMs(value, { headers }, 0);
  assert.equal(read(3599), 3_599_000);
  assert.equal(read("3599"), 3_599_000);
  assert.equal(read("Tue, 01-Mar-2022 23:15:55 GMT"), 3_600_000);
  assert.equal(read("Tue, 01 Mar 2022 23:15:55 GMT"), 3_600_000);
  assert.equal(read("Tue, 01-Mar-2022 20:15:55 GMT"), undefined);
  assert.equal(read("soon"), undefined);
  assert.equal(read(null), undefined);
});

Deno.test("exactly one login must be given, and be whole", () => {
  for (
    const [options, expected] of [
      [{}, /no credentials: expected "accessToken" .* or "issueToken" with "cookie"/],
      [{ ...GOOGLE, ...NEST }, /two logins are given/],
      [{ ...NEST, cookie: COOKIE }, /two logins are given/],
      [{ cookie: COOKIE }, /"cookie" needs "issueToken"/],
      [{ issueToken: ISSUE_TOKEN }, /"issueToken" needs "cookie"/],
      [{ ...NEST, width: 10 }, /64 to 4096/],
      [{ ...NEST, endpoints: { home: "nest" } }, /http:\/\/ or https:\/\//],
    ] as const
  ) {
    const result = v.safeParse(accountTypes.nest.options, options);
    assert.match((result.issues ?? []).map(({ message }) => message).join("\n"), expected);
  }
  const good = v.parse(accountTypes.nest.options, NEST);
  const none = { ...good, accessToken: undefined };
  const { context } = createSmallCloud();
  assert.throws(() => accountTypes.nest.open(none, context), /no credentials/);
});

Deno.test("every option says what it is for", () => {
  for (const { options } of [...Object.values(accountTypes)]) {
    for (const [key, schema] of Object.entries(options.entries)) {
      const inner = "wrapped" in schema ? schema.wrapped : schema;
      assert.ok(v.getDescription(inner) ?? v.getDescription(schema), key);
    }
  }
});
