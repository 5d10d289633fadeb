/** The cameras of a Nest account: discovery, pictures, expiry, and one camera that never answers. */
import assert from "node:assert/strict";
import * as v from "valibot";
import { accountTypes } from "../../core/sources/mod.ts";
import { type Account, type DiscoveredCamera, sourceErrorKind } from "../../core/types.ts";
import { startNestSimulator } from "../../simulators/mod.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { camera, createSmallCloud, GOOGLE, idOf, NEST } from "./small_cloud.ts";
import { errorOf, never, picture, pull, settled, testContext } from "./world.ts";

const signal = new AbortController().signal;

async function only(account: Account): Promise<DiscoveredCamera> {
  const [first] = await account.cameras({ signal });
  assert.ok(first);
  return first;
}

Deno.test("cameras are listed with id, name, model and state", async () => {
  const cloud = createSmallCloud();
  cloud.state.buckets = [
    { object_key: "structure.1", value: {} },
    {
      object_key: "where.1",
      value: { wheres: [{ where_id: "w1", name: "Garage" }, { where_id: "w2", name: "Attic" }] },
    },
    camera(idOf("a"), { description: " Front door " }),
    camera(idOf("b"), { description: "", where_id: "w1", streaming_state: "offline" }),
    camera(idOf("c"), {
      description: undefined,
      where_id: "?",
      streaming_state: "streaming-disabled",
    }),
    camera(idOf("d"), { description: 7, streaming_state: null, model: undefined }),
    { object_key: "quartz.", value: {} },
    { object_key: `quartz.${idOf("e")}`, value: "odd" },
    null,
  ];
  await using account = cloud.open();
  const found = await account.cameras({ signal });
  assert.deepEqual(found.map(({ id, name, state, model }) => [id[0], name, state, model]), [
    ["a", "Front door", "online", "Nest Cam Indoor"],
    ["b", "Garage", "offline", "Nest Cam Indoor"],
    ["c", "Nest camera cccccc", "off", "Nest Cam Indoor"],
    ["d", "Nest camera dddddd", "online", undefined],
  ]);
});

Deno.test("cameras of one name are told apart, and keep their names while others come and go", async () => {
  const cloud = createSmallCloud();
  const kitchen = (letter: string) => camera(idOf(letter), { description: "Kitchen" });
  cloud.state.buckets = [kitchen("b"), kitchen("c")];
  await using account = cloud.open();
  const names = async () => (await account.cameras({ signal })).map(({ id, name }) => id[0] + name);
  assert.deepEqual(await names(), ["bKitchen", "cKitchen (cccc)"]);
  cloud.state.buckets = [kitchen("a"), kitchen("b"), kitchen("c")];
  assert.deepEqual(await names(), ["aKitchen (aaaa)", "bKitchen", "cKitchen (cccc)"]);
  cloud.state.buckets = [kitchen("c")];
  assert.deepEqual(await names(), ["cKitchen (cccc)"]);
});

Deno.test("a camera that was moved to Google Home is left out, and said once", async () => {
  const cloud = createSmallCloud();
  const moved = (letter: string, state: string) =>
    camera(idOf(letter), { properties: { "cc2migration.overview_state": state } });
  cloud.state.buckets = [
    moved("a", "NORMAL"),
    moved("b", "REVERSE_MIGRATION_IN_PROGRESS"),
    moved("c", "MIGRATED"),
  ];
  await using account = cloud.open();
  for (let i = 0; i < 2; i++) {
    assert.deepEqual((await account.cameras({ signal })).map(({ id }) => id[0]), ["a", "b"]);
  }
  const warnings = cloud.context.log.lines.filter((line) => line.startsWith("warn"));
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? "", /moved to Google Home.*Camera c/);
});

Deno.test("each camera's pictures come from the regional host that the cloud names now", async () => {
  const cloud = createSmallCloud({ ...GOOGLE, fps: 10 });
  const hosts = ["https://nexusapi-us1.dropcam.com", "https://nexusapi-eu1.dropcam.com"];
  cloud.state.buckets = hosts.map((host, i) =>
    camera(idOf("ab"[i] ?? ""), { nexus_api_http_server_url: host })
  );
  await using account = cloud.open();
  const [first, second] = await account.cameras({ signal });
  await using one = await first?.source.open({ signal });
  await using two = await second?.source.open({ signal });
  assert.ok(one && two);
  const seen = () => cloud.asked("/get_image").map(({ url }) => url.origin);
  assert.deepEqual(seen(), hosts);
  cloud.state.buckets = [camera(idOf("a"), { nexus_api_http_server_url: hosts[1] })];
  await account.cameras({ signal });
  await pull(one, { count: 2, clock: cloud.clock });
  assert.equal(seen().at(-1), hosts[1], "the running session follows its camera");
});

Deno.test("where discovery names no host, the camera API is asked for it", async () => {
  const cloud = createSmallCloud();
  cloud.state.buckets = [camera(idOf("a"), { nexus_api_http_server_url: undefined })];
  cloud.state.routes.set(
    "webapi.camera.home.nest.com/api/cameras.get_owned_and_member_of_with_properties",
    () =>
      Response.json({
        status: 0,
        items: [{
          uuid: idOf("a"),
          nexus_api_nest_domain_host: "nexusapi-eu2.camera.home.nest.com",
        }],
      }),
  );
  await using account = cloud.open();
  await using _session = await (await only(account)).source.open({ signal });
  assert.equal(cloud.asked("/get_image")[0]?.url.host, "nexusapi-eu2.camera.home.nest.com");
});

Deno.test("a host outside Nest's zones gets no request at all", async () => {
  for (const host of ["https://evil.example", "http://169.254.169.254", "http://127.0.0.1:81"]) {
    const cloud = createSmallCloud();
    cloud.state.buckets = [camera(idOf("a"), { nexus_api_http_server_url: host })];
    await using account = cloud.open();
    const error = await errorOf((await only(account)).source.open({ signal }));
    assert.match(error.message, /Camera a: the cloud sends us to .* which is refused/);
    assert.equal(cloud.asked("/get_image").length, 0);
  }
});

Deno.test("a redirected picture takes neither cookie nor token to another host", async () => {
  for (const options of [GOOGLE, NEST]) {
    const cloud = createSmallCloud(options);
    cloud.state.routes.set(
      "/get_image",
      () =>
        new Response("", { status: 302, headers: { location: "https://evil.example/get_image" } }),
    );
    await using account = cloud.open();
    const error = await errorOf((await only(account)).source.open({ signal }));
    assert.match(error.message, /refused a redirect \(status 302\)/);
    assert.ok(cloud.network.seen.every(({ url }) => url.host !== "evil.example"));
  }
});

Deno.test("a token that ends in mid-session costs no picture: all cameras share one new login", async () => {
  const cloud = createSmallCloud({ ...GOOGLE, fps: 10 });
  cloud.state.buckets = ["a", "b", "c"].map((letter) => camera(idOf(letter)));
  await using account = cloud.open();
  const cameras = await account.cameras({ signal });
  const sessions = await Promise.all(cameras.map(({ source }) => source.open({ signal })));
  const both = sessions.map(async (session) => {
    const ptsUs: number[] = [];
    for await (const unit of session) {
      ptsUs.push(unit.ptsUs);
      if (ptsUs.length === 10) break;
    }
    return ptsUs;
  });
  await cloud.clock.advance(450);
  cloud.state.validFrom = 2;
  await cloud.clock.advance(500);
  const expected = Array.from({ length: 10 }, (_, i) => i * 100_000);
  assert.deepEqual(await Promise.all(both), [expected, expected, expected]);
  assert.equal(cloud.logins, 2);
  for (const session of sessions) await session[Symbol.asyncDispose]();
});

Deno.test("a camera that refuses every login ends with auth, and causes one login a minute at most", async () => {
  const cloud = createSmallCloud();
  cloud.state.validFrom = Infinity;
  await using account = cloud.open();
  const { source } = await only(account);
  const open = () => errorOf(source.open({ signal }));
  const first = await open();
  assert.match(first.message, /Camera a: .* although it was just renewed \(status 403\)/);
  assert.equal(sourceErrorKind(first), "auth");
  assert.equal(cloud.logins, 2);
  for (let second = 0; second < 59; second++) {
    assert.match((await open()).message, /does the camera belong to this account/);
    await cloud.clock.advance(1000);
  }
  assert.equal(cloud.logins, 2);
  await cloud.clock.advance(1000);
  await open();
  assert.equal(cloud.logins, 3);
});

Deno.test("a list of cameras that is refused is asked for again with a new login", async () => {
  const cloud = createSmallCloud();
  const path = "home.nest.com/api/0.1/user/4711/app_launch";
  cloud.state.routes.set(
    path,
    ({ headers }) =>
      headers.get("authorization") === "Basic g.0.token-1"
        ? new Response("", { status: 401 })
        : Response.json({ updated_buckets: cloud.state.buckets }),
  );
  await using account = cloud.open();
  assert.equal((await account.cameras({ signal })).length, 1);
  assert.equal(cloud.logins, 2);
});

Deno.test("answers to a picture request say what they mean", async () => {
  for (
    const [answer, kind, expected] of [
      [() => new Response("", { status: 404 }), "offline", /offline or switched off \(404\)/],
      [() => new Response("", { status: 429 }), "rate", /asked too often/],
      [() => new Response("", { status: 500 }), "offline", /problem of its own \(status 500\)/],
      [() => new Response(""), "protocol", /got an empty answer/],
      [() => new Response("<html>"), "protocol", /got an HTML page/],
      [() => new Response("", { status: 418 }), "protocol", /expected an answer with status 200/],
    ] as const
  ) {
    const cloud = createSmallCloud();
    cloud.state.routes.set("/get_image", answer);
    await using account = cloud.open();
    const error = await errorOf((await only(account)).source.open({ signal }));
    assert.match(error.message, expected);
    assert.equal(sourceErrorKind(error), kind, error.message);
    assert.doesNotMatch(error.message, /uuid|canary/);
  }
});

Deno.test("Retry-After of the cloud reaches the recorder", async () => {
  const cloud = createSmallCloud();
  cloud.state.routes.set(
    "/get_image",
    () => new Response("", { status: 429, headers: { "retry-after": "30" } }),
  );
  await using account = cloud.open();
  const error = await errorOf((await only(account)).source.open({ signal }));
  assert.ok("retryAfterMs" in error && error.retryAfterMs === 30_000);
});

Deno.test("empty, HTML and 5xx answers in mid-session cost their moment only", async () => {
  const cloud = createSmallCloud({ ...GOOGLE, fps: 10 });
  let count = 0;
  cloud.state.routes.set("/get_image", () => {
    count++;
    if (count === 2) return new Response("");
    if (count === 3) return new Response("<html>");
    if (count === 4) return new Response("", { status: 502 });
    return picture(count);
  });
  await using account = cloud.open();
  await using session = await (await only(account)).source.open({ signal });
  const units = await pull(session, { count: 3, clock: cloud.clock });
  assert.deepEqual(units.map((unit) => unit.ptsUs), [0, 400_000, 500_000]);
});

Deno.test("a camera that goes away ends its session at once", async () => {
  const cloud = createSmallCloud({ ...GOOGLE, fps: 10 });
  await using account = cloud.open();
  const first = await only(account);
  await using session = await first.source.open({ signal });
  await pull(session, { count: 2, clock: cloud.clock });
  cloud.state.routes.set("/get_image", () => new Response("", { status: 404 }));
  const startMs = cloud.clock.monotonic();
  const error = await errorOf(pull(session, { count: 1, clock: cloud.clock }));
  assert.equal(sourceErrorKind(error), "offline");
  assert.ok(cloud.clock.monotonic() - startMs <= 110);
});

Deno.test("a camera that leaves the account ends as gone; one that comes is listed", async () => {
  const cloud = createSmallCloud({ ...GOOGLE, fps: 10 });
  await using account = cloud.open();
  const first = await only(account);
  await using session = await first.source.open({ signal });
  cloud.state.buckets = [camera(idOf("b"))];
  const [second] = await account.cameras({ signal });
  assert.equal(second?.name, "Camera b");
  const error = await errorOf(pull(session, { count: 3, clock: cloud.clock }));
  assert.equal(sourceErrorKind(error), "gone");
});

Deno.test("a camera keeps its source from one listing to the next, and its size once it is known", async () => {
  const cloud = createSmallCloud();
  await using account = cloud.open();
  const before = await only(account);
  assert.equal(before.widthPx, undefined);
  await using _session = await before.source.open({ signal });
  const after = await only(account);
  assert.equal(after.source, before.source);
  assert.deepEqual([after.widthPx, after.heightPx], [16, 8]);
});

Deno.test("a camera that never answers costs only itself", async () => {
  const cloud = createSmallCloud({ ...GOOGLE, fps: 10 });
  cloud.state.buckets = [camera(idOf("a")), camera(idOf("b"))];
  cloud.state.routes.set(
    "/get_image",
    (seen) => seen.url.searchParams.get("uuid") === idOf("a") ? never() : picture(1),
  );
  await using account = cloud.open();
  const [silent, good] = await account.cameras({ signal });
  assert.ok(silent && good);
  const silence = errorOf(silent.source.open({ signal }));
  await using session = await good.source.open({ signal });
  const units = await pull(session, { count: 60, clock: cloud.clock });
  assert.deepEqual(units.map((unit) => unit.ptsUs), Array.from(units, (_, i) => i * 100_000));
  assert.match((await silence).message, /no whole answer within 5 s/);
});

Deno.test("closing the account ends its sessions quietly and leaves nothing behind", async () => {
  const cloud = createSmallCloud();
  const account = cloud.open();
  const session = await (await only(account)).source.open({ signal });
  const ended = pull(session, { count: 1000, clock: cloud.clock });
  await cloud.clock.advance(1000);
  await account[Symbol.asyncDispose]();
  assert.ok((await ended).length > 0);
  assert.equal(cloud.clock.sleepers, 0);
  await assert.rejects(account.cameras({ signal }), /the account is closed/);
});

for (const kind of ["accessToken", "issueToken and cookie"]) {
  Deno.test(`the simulated cloud is recorded with ${kind}: two regions, expiry, a new camera`, async () => {
    const clock = createFakeClock();
    const size = { widthPx: 320, heightPx: 180 };
    await using cloud = await startNestSimulator({
      clock,
      cameras: [{ name: "Yard", region: "us1", ...size }, { name: "Door", region: "eu1", ...size }],
    });
    const { accessToken, issueToken, cookie } = cloud.credentials;
    const login = kind === "accessToken" ? { accessToken } : { issueToken, cookie };
    const options = v.parse(accountTypes.nest.options, {
      ...login,
      endpoints: cloud.endpoints,
      fps: 10,
      width: 320,
    });
    await using account = accountTypes.nest.open(options, testContext(clock));
    const cameras = await settled(account.cameras({ signal }), clock);
    assert.deepEqual(cameras.map(({ name }) => name).sort(), ["Door", "Yard"]);
    for (const { source } of cameras) {
      await using session = await settled(source.open({ signal }), clock, { stepMs: 1 });
      assert.equal((await pull(session, { count: 3, clock, stepMs: 1 })).length, 3);
      cloud.expireTokens();
      const units = await pull(session, { count: 3, clock, stepMs: 1 });
      assert.equal(units.length, 3);
      cloud.faults.add({ kind: "empty", count: 1 });
      cloud.faults.add({ kind: "cut", count: 1 });
      cloud.faults.add({ kind: "html", count: 1 });
      assert.equal((await pull(session, { count: 2, clock, stepMs: 1 })).length, 2);
    }
    await cloud.addCamera({ name: "Attic", region: "ap1", ...size });
    cloud.removeCamera("Yard");
    const later = await settled(account.cameras({ signal }), clock);
    assert.deepEqual(later.map(({ name }) => name).sort(), ["Attic", "Door"]);
    cloud.camera("Door").setState("off");
    const door = (await settled(account.cameras({ signal }), clock)).find(({ name }) =>
      name === "Door"
    );
    assert.equal(door?.state, "off");
    const error = await settled(errorOf(door?.source.open({ signal }) ?? never()), clock);
    assert.match(error.message, /Door: the camera is switched off \(404\)/);
  });
}

Deno.test("a wrong token and a dead cookie are told by the simulated cloud too", async () => {
  const clock = createFakeClock();
  await using cloud = await startNestSimulator({ clock, cameras: [{ name: "Yard" }] });
  const { issueToken, cookie } = cloud.credentials;
  cloud.logOut();
  for (
    const [login, expected] of [
      [{ accessToken: "b.wrong-token" }, /refuses "accessToken"/],
      [{ issueToken, cookie }, /USER_LOGGED_OUT/],
    ] as const
  ) {
    const options = v.parse(accountTypes.nest.options, { ...login, endpoints: cloud.endpoints });
    await using account = accountTypes.nest.open(options, testContext(clock));
    const error = await settled(errorOf(account.cameras({ signal })), clock);
    assert.match(error.message, expected);
    assert.equal(sourceErrorKind(error), "auth");
  }
});
