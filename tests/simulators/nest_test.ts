/** The simulated Nest cloud keeps to the protocol: who shows what gets what, and who does not, not. */
import assert from "node:assert/strict";
import {
  cameraCode,
  type NestSimulator,
  type NestSimulatorOptions,
  readStrip,
  startNestSimulator,
} from "../../simulators/mod.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { decodeLuma } from "../support/ffmpeg.ts";

const USER_AGENT = "Nest/5.87.0 (iOScom.nestlabs.jasper.release) os=26.4";
const FROM_HOME = { "User-Agent": USER_AGENT, Referer: "https://home.nest.com/" };
const CAMERAS = [
  { name: "Front door", region: "us1", widthPx: 640, heightPx: 360 },
  { name: "Yard", region: "eu1", widthPx: 320, heightPx: 180 },
];

async function start(options: Partial<NestSimulatorOptions> = {}): Promise<NestSimulator> {
  return await startNestSimulator({ cameras: CAMERAS, ...options });
}

type Headers = Record<string, string>;

/** Asks for an access token with the account's Google cookie. */
async function askGoogle(nest: NestSimulator, headers: Headers = {}): Promise<Response> {
  return await fetch(nest.credentials.issueToken, {
    redirect: "manual",
    headers: {
      Cookie: nest.credentials.cookie,
      "Sec-Fetch-Mode": "cors",
      "X-Requested-With": "XmlHttpRequest",
      Referer: "https://accounts.google.com/o/oauth2/iframe",
      ...headers,
    },
  });
}

async function askJwt(
  nest: NestSimulator,
  googleToken: string,
  options: { form?: boolean; fields?: Record<string, unknown>; headers?: Headers } = {},
): Promise<Response> {
  const fields = {
    embed_google_oauth_access_token: true,
    expire_after: "3600s",
    google_oauth_access_token: googleToken,
    policy_id: "authproxy-oauth-policy",
    ...options.fields,
  };
  return await fetch(`${nest.endpoints.jwt}/v1/issue_jwt`, {
    method: "POST",
    headers: {
      ...FROM_HOME,
      Authorization: `Bearer ${googleToken}`,
      ...(options.form ? {} : { "Content-Type": "application/json" }),
      ...options.headers,
    },
    body: options.form
      ? new URLSearchParams(Object.entries(fields).map(([key, value]) => [key, String(value)]))
      : JSON.stringify(fields),
  });
}

/** The whole Google login: the session's access token. */
async function googleSession(nest: NestSimulator): Promise<string> {
  const { access_token } = await (await askGoogle(nest)).json();
  const { jwt } = await (await askJwt(nest, access_token)).json();
  return (await (await askSession(nest, jwt)).json()).access_token;
}

async function askSession(nest: NestSimulator, token: string, headers: Headers = {}) {
  return await fetch(`${nest.endpoints.home}/session`, {
    headers: { ...FROM_HOME, Authorization: `Basic ${token}`, ...headers },
  });
}

async function loginNest(nest: NestSimulator, token: string, headers: Headers = FROM_HOME) {
  return await fetch(`${nest.endpoints.camera}/api/v1/login.login_nest`, {
    method: "POST",
    headers,
    body: new URLSearchParams({ access_token: token }),
  });
}

/** The headers that open the camera hosts to a Nest account. */
async function nestCookie(nest: NestSimulator): Promise<Headers> {
  const reply = await (await loginNest(nest, nest.credentials.accessToken)).json();
  return { ...FROM_HOME, Cookie: `website_2=${reply.items[0].session_token}` };
}

async function launch(nest: NestSimulator, token: string, types = ["quartz", "structure"]) {
  return await fetch(`${nest.endpoints.home}/api/0.1/user/${nest.credentials.userId}/app_launch`, {
    method: "POST",
    headers: {
      ...FROM_HOME,
      Authorization: `Basic ${token}`,
      "Content-Type": "application/json",
      "X-nl-protocol-version": "1",
      "X-nl-user-id": nest.credentials.userId,
    },
    body: JSON.stringify({ known_bucket_types: types, known_bucket_versions: [] }),
  });
}

/** Finds the camera's regional host the way a client does, and asks it for a picture. */
async function askPicture(
  nest: NestSimulator,
  name: string,
  options: { headers: Headers; width?: number; signal?: AbortSignal; hostOf?: string },
): Promise<Response> {
  const { updated_buckets } = await (await launch(nest, nest.credentials.accessToken)).json();
  const bucketOf = (wanted: string) =>
    updated_buckets.find((bucket: { value: { description?: string } }) =>
      bucket.value.description === wanted
    );
  const uuid = bucketOf(name).object_key.replace("quartz.", "");
  const host = bucketOf(options.hostOf ?? name).value.nexus_api_http_server_url;
  const width = options.width === undefined ? "" : `&width=${options.width}`;
  return await fetch(`${host}/get_image?uuid=${uuid}${width}&cachebuster=1`, {
    headers: options.headers,
    signal: options.signal,
  });
}

/** A response's status; its body is let go. */
async function statusOf(response: Response | Promise<Response>): Promise<number> {
  const { status, body } = await response;
  await body?.cancel();
  return status;
}

async function control(nest: NestSimulator, order: object): Promise<Response> {
  return await fetch(nest.controlUrl, { method: "POST", body: JSON.stringify(order) });
}

Deno.test("a Nest account gets from access token to a picture that tells its camera, number and time", async () => {
  const clock = createFakeClock();
  await using nest = await start({ clock });
  const headers = await nestCookie(nest);
  for (const { name, widthPx, heightPx } of CAMERAS) {
    const response = await askPicture(nest, name, { headers });
    assert.equal(response.headers.get("content-type"), "image/jpeg");
    const jpeg = new Uint8Array(await response.arrayBuffer());
    const [luma = new Uint8Array()] = await decodeLuma(jpeg, { format: "jpg", widthPx, heightPx });
    assert.deepEqual(readStrip(luma, widthPx), {
      camera: cameraCode(name),
      counter: 1,
      takenAtMs: clock.now(),
    });
  }
});

Deno.test("a Google account gets from cookie to picture, by JSON and by form", async () => {
  await using nest = await start();
  const google = await (await askGoogle(nest)).json();
  assert.equal(google.token_type, "Bearer");
  assert.equal(google.expires_in, 3600);
  for (const form of [false, true]) {
    const issued = await (await askJwt(nest, google.access_token, { form })).json();
    assert.equal(issued.claims.subject.nestId.id, nest.credentials.userId);
    const session = await (await askSession(nest, issued.jwt)).json();
    assert.match(session.access_token, /^g\.0\./);
    assert.equal(session.userid, nest.credentials.userId);
    assert.ok(Date.parse(session.expires_in.replaceAll("-", " ")) > Date.now());
    for (const token of [session.access_token, issued.jwt]) {
      const headers = { ...FROM_HOME, Authorization: `Basic ${token}` };
      assert.equal(await statusOf(askPicture(nest, "Yard", { headers })), 200);
    }
  }
});

Deno.test("the accounts host refuses a request without each of the headers it demands", async () => {
  await using nest = await start();
  assert.equal(await statusOf(askGoogle(nest, { "X-Requested-With": "" })), 403);
  assert.equal(await statusOf(askGoogle(nest, { "Sec-Fetch-Mode": "navigate" })), 403);
  assert.equal(await statusOf(askGoogle(nest, { Referer: "https://example.com/" })), 403);
  const noDomain = new URL(nest.credentials.issueToken);
  noDomain.searchParams.delete("ss_domain");
  assert.equal(await statusOf(fetch(noDomain)), 400);
});

Deno.test("a dead Google cookie is told as USER_LOGGED_OUT with status 200", async () => {
  await using nest = await start();
  nest.logOut();
  const response = await askGoogle(nest);
  assert.equal(response.status, 200);
  assert.equal((await response.json()).error, "USER_LOGGED_OUT");
});

Deno.test("issue_jwt answers 401 to an unknown bearer and 400 to wrong fields", async () => {
  await using nest = await start();
  assert.equal(await statusOf(askJwt(nest, "ya29.wrong")), 401);
  const { access_token } = await (await askGoogle(nest)).json();
  assert.equal(await statusOf(askJwt(nest, access_token, { fields: { policy_id: "other" } })), 400);
  assert.equal(await statusOf(askJwt(nest, access_token, { fields: { expire_after: 3600 } })), 400);
  assert.equal(await statusOf(askJwt(nest, access_token, { headers: { Referer: "" } })), 403);
});

Deno.test("home answers 406 to a User-Agent that is neither a browser's nor the app's", async () => {
  await using nest = await start();
  const { accessToken } = nest.credentials;
  assert.equal(await statusOf(askSession(nest, accessToken, { "User-Agent": "Deno/2.9.6" })), 406);
});

Deno.test("home wants the raw token after Basic, not its base64", async () => {
  await using nest = await start();
  const { accessToken } = nest.credentials;
  assert.equal(await statusOf(askSession(nest, accessToken)), 200);
  assert.equal(await statusOf(askSession(nest, btoa(accessToken))), 401);
});

Deno.test("the password login is dead unless told to work, and then asks for the PIN", async () => {
  const login = { email: "a@example.com", password: "secret" };
  const post = async (nest: NestSimulator, path: string, body: object) =>
    await fetch(nest.endpoints.home + path, {
      method: "POST",
      headers: { ...FROM_HOME, "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  {
    await using nest = await start();
    assert.equal(await statusOf(post(nest, "/session", login)), 401);
  }
  await using nest = await start({ password: { ...login, pin: "123456" } });
  const pending = await post(nest, "/session", login);
  assert.equal(pending.status, 401);
  const { status, "2fa_token": token } = await pending.json();
  assert.equal(status, "VERIFICATION_PENDING");
  assert.equal(
    await statusOf(post(nest, "/api/0.1/2fa/verify_pin", { pin: "0", "2fa_token": token })),
    401,
  );
  const verified = await (await post(nest, "/api/0.1/2fa/verify_pin", {
    pin: "123456",
    "2fa_token": token,
  })).json();
  assert.equal(verified.status, "id_match_positive");
  assert.equal(await statusOf(askSession(nest, verified.access_token)), 200);
});

Deno.test("login_nest tells a wrong token in the body of a 200, and gives the cookie for a right one", async () => {
  await using nest = await start();
  const wrong = await loginNest(nest, "b.wrong");
  assert.equal(wrong.status, 200);
  assert.deepEqual(await wrong.json(), {
    status: 403,
    items: [],
    status_description: "unauthorized",
    status_detail: "Unauthorized.",
  });
  assert.equal((await (await loginNest(nest, "")).json()).status, 400);
  assert.equal(await statusOf(loginNest(nest, nest.credentials.accessToken, {})), 403);
  const right = await loginNest(nest, nest.credentials.accessToken);
  const { items: [{ session_token }] } = await right.json();
  assert.match(right.headers.get("set-cookie") ?? "", new RegExp(`^website_2=${session_token};`));
});

Deno.test("app_launch gives only the kinds of buckets that were asked for", async () => {
  await using nest = await start();
  const { accessToken } = nest.credentials;
  const keys = async (types: string[]) =>
    (await (await launch(nest, accessToken, types)).json()).updated_buckets
      .map((bucket: { object_key: string }) => bucket.object_key.split(".")[0]);
  assert.deepEqual(await keys(["quartz"]), ["quartz", "quartz"]);
  assert.deepEqual(await keys(["where", "structure"]), ["structure", "where"]);
  assert.equal(await statusOf(launch(nest, "b.wrong")), 401);
});

Deno.test("a camera asked at another region's host is unknown there", async () => {
  await using nest = await start();
  const headers = await nestCookie(nest);
  assert.equal(await statusOf(askPicture(nest, "Yard", { headers, hostOf: "Front door" })), 404);
  assert.equal(await statusOf(askPicture(nest, "Yard", { headers })), 200);
});

Deno.test("get_image answers 403 without login, and to a Nest account's token in place of its cookie", async () => {
  await using nest = await start();
  const basic = { Authorization: `Basic ${nest.credentials.accessToken}` };
  assert.equal(await statusOf(askPicture(nest, "Yard", { headers: {} })), 403);
  assert.equal(await statusOf(askPicture(nest, "Yard", { headers: basic })), 403);
});

Deno.test("a picture is as wide as asked, but never wider than its camera", async () => {
  await using nest = await start();
  const headers = await nestCookie(nest);
  for (const [asked, served] of [[400, 400], [640, 640], [4000, 640], [10, 160]] as const) {
    const response = await askPicture(nest, "Front door", { headers, width: asked });
    const view = new DataView(await response.arrayBuffer());
    // The frame header stands behind SOI, APP0 (18 bytes) and the quantisers (134 bytes).
    assert.equal(view.getUint16(2 + 18 + 134), 0xffc0);
    assert.equal(view.getUint16(2 + 18 + 134 + 7), served);
  }
});

Deno.test("Google's tokens run out after their hour and Nest's after thirty days", async () => {
  const clock = createFakeClock();
  await using nest = await start({ clock });
  const cookie = await nestCookie(nest);
  const google = { ...FROM_HOME, Authorization: `Basic ${await googleSession(nest)}` };
  await clock.advance(3_599_000);
  assert.equal(await statusOf(askPicture(nest, "Yard", { headers: google })), 200);
  await clock.advance(2000);
  assert.equal(await statusOf(askPicture(nest, "Yard", { headers: google })), 403);
  assert.equal(await statusOf(askPicture(nest, "Yard", { headers: cookie })), 200);
  await clock.advance(31 * 24 * 3_600_000);
  assert.equal(await statusOf(askSession(nest, nest.credentials.accessToken)), 401);
});

Deno.test("expired tokens are refused everywhere, and a new login helps", async () => {
  await using nest = await start();
  const headers = await nestCookie(nest);
  nest.expireTokens();
  assert.equal(await statusOf(askPicture(nest, "Yard", { headers })), 403);
  const again = await nestCookie(nest);
  assert.equal(await statusOf(askPicture(nest, "Yard", { headers: again })), 200);
  nest.revokeAccessToken();
  assert.equal((await (await loginNest(nest, nest.credentials.accessToken)).json()).status, 403);
});

Deno.test("a camera that is off or away gives 404, and discovery says which", async () => {
  await using nest = await start();
  const headers = await nestCookie(nest);
  for (const [state, said] of [["off", "streaming-disabled"], ["offline", "offline"]] as const) {
    nest.camera("Yard").setState(state);
    assert.equal(await statusOf(askPicture(nest, "Yard", { headers })), 404);
    const { updated_buckets } = await (await launch(nest, nest.credentials.accessToken, ["quartz"]))
      .json();
    assert.equal(updated_buckets[1].value.streaming_state, said);
  }
});

Deno.test("the camera API lists the cameras, one camera, the user, and switches a camera off", async () => {
  await using nest = await start();
  const headers = await nestCookie(nest);
  const call = async (path: string, init: RequestInit = {}) =>
    await (await fetch(`${nest.endpoints.camera}/api/${path}`, { headers, ...init })).json();
  const all = await call("cameras.get_owned_and_member_of_with_properties");
  assert.deepEqual(all.items.map((item: { name: string }) => item.name), ["Front door", "Yard"]);
  const { uuid } = nest.camera("Yard");
  const one = await call(`cameras.get_with_properties?uuid=${uuid}`);
  assert.equal(one.items[0].nexus_api_http_server.startsWith("http://127.0.0.1:"), true);
  assert.equal((await call("v1/users.get_current")).items[0].nest_user_id, nest.credentials.userId);
  const body = new URLSearchParams({ uuid, "streaming.enabled": "false" });
  assert.equal((await call("dropcams.set_properties", { method: "POST", body })).status, 0);
  assert.equal(nest.camera("Yard").state, "off");
  const anonymous = await call("cameras.get_with_properties", { headers: FROM_HOME });
  assert.equal(anonymous.status, 403);
});

Deno.test("subscribe waits until a camera changes, and ends empty when none does", async () => {
  const clock = createFakeClock();
  await using nest = await start({ clock });
  const session = await (await askSession(nest, nest.credentials.accessToken)).json();
  const key = `quartz.${nest.camera("Yard").uuid}`;
  const subscribe = async () =>
    await fetch(`${session.urls.transport_url}/v5/subscribe`, {
      method: "POST",
      headers: {
        Authorization: `Basic ${nest.credentials.accessToken}`,
        "Content-Type": "application/json",
      },
      body: JSON.stringify({
        objects: [{ object_key: key, object_revision: 1, object_timestamp: 0 }],
        timeout: 60,
      }),
    });
  const asleep = async () => {
    while (clock.sleepers === 0) await new Promise((resolve) => setImmediate(resolve));
  };
  const quiet = subscribe();
  await asleep();
  await clock.advance(60_000);
  assert.equal(await (await quiet).text(), "");
  const waiting = subscribe();
  await asleep();
  nest.camera("Yard").setState("off");
  const { objects } = await (await waiting).json();
  assert.equal(objects[0].object_key, key);
  assert.equal(objects[0].object_revision, 2);
});

Deno.test("events are listed for the time asked, and there are no clips of them", async () => {
  const clock = createFakeClock();
  await using nest = await start({ clock });
  const headers = await nestCookie(nest);
  const { updated_buckets } = await (await launch(nest, nest.credentials.accessToken)).json();
  const { nexus_api_http_server_url: host } = updated_buckets.at(-1).value;
  const { uuid } = nest.camera("Yard");
  const nowS = Math.floor(clock.now() / 1000);
  const events =
    await (await fetch(`${host}/cuepoint/${uuid}/2?start_time=${nowS - 300}`, { headers }))
      .json();
  assert.equal(events.length, 5);
  const clip = `${host}/get_event_clip?uuid=${uuid}&cuepoint_id=${events[0].id}&format=mp4`;
  assert.equal(await statusOf(fetch(clip, { headers })), 404);
});

Deno.test("every fault of a picture does what it says, as often as it is told, to one camera only", async () => {
  await using nest = await start();
  const headers = await nestCookie(nest);
  const yard = async () => await askPicture(nest, "Yard", { headers });
  const control5xx = { kind: "status", camera: "Yard", status: 503, count: 1 };
  nest.faults.add(control5xx);
  assert.equal(await statusOf(askPicture(nest, "Front door", { headers })), 200);
  assert.equal(await statusOf(yard()), 503);
  assert.equal(await statusOf(yard()), 200);

  nest.faults.add({ kind: "status", status: 429, retryAfterSeconds: 7, count: 1 });
  const limited = await yard();
  assert.equal(limited.headers.get("retry-after"), "7");
  await limited.body?.cancel();

  nest.faults.add({ kind: "empty", count: 1 });
  assert.equal((await (await yard()).arrayBuffer()).byteLength, 0);
  nest.faults.add({ kind: "html", count: 1 });
  assert.match(await (await yard()).text(), /<!doctype html>/);
  nest.faults.add({ kind: "truncated", count: 1 });
  const half = new Uint8Array(await (await yard()).arrayBuffer());
  assert.deepEqual([...half.subarray(0, 2)], [0xff, 0xd8]);
  assert.notDeepEqual([...half.subarray(-2)], [0xff, 0xd9]);
  nest.faults.add({ kind: "cut", count: 1 });
  await assert.rejects(async () => await (await yard()).arrayBuffer());
  nest.faults.add({ kind: "reset", count: 1 });
  await assert.rejects(yard);
  assert.equal(await statusOf(yard()), 200);
  assert.deepEqual(nest.faults.list(), []);
});

Deno.test("a slow camera answers when its time has come, one that never answers does not", async () => {
  const clock = createFakeClock();
  await using nest = await start({ clock });
  const headers = await nestCookie(nest);
  nest.faults.add({ kind: "slow", ms: 5000, count: 1 });
  const slow = askPicture(nest, "Yard", { headers });
  while (clock.sleepers === 0) await new Promise((resolve) => setImmediate(resolve));
  await clock.advance(5000);
  assert.equal(await statusOf(slow), 200);
  nest.faults.add({ kind: "never", camera: "Yard" });
  const leave = new AbortController();
  const before = nest.camera("Yard").served.requests;
  const never = askPicture(nest, "Yard", { headers, signal: leave.signal });
  const left = assert.rejects(never);
  while (nest.camera("Yard").served.requests === before) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(await statusOf(askPicture(nest, "Front door", { headers })), 200);
  leave.abort();
  await left;
});

Deno.test("the control route does what the object does, and refuses nonsense with what it expects", async () => {
  await using nest = await start();
  await using _ = { [Symbol.asyncDispose]: () => nest.close() };
  assert.equal(await statusOf(control(nest, { do: "fault", kind: "empty", camera: "Yard" })), 200);
  assert.equal(
    await statusOf(control(nest, { do: "add-camera", name: "Attic", region: "au1" })),
    200,
  );
  assert.equal(await statusOf(control(nest, { do: "camera", name: "Attic", state: "off" })), 200);
  assert.equal(await statusOf(control(nest, { do: "remove-camera", name: "Front door" })), 200);
  const shown = await (await fetch(nest.controlUrl)).json();
  assert.deepEqual(
    shown.cameras.map(({ name, region, state }: Record<string, string>) => [name, region, state]),
    [["Yard", "eu1", "online"], ["Attic", "au1", "off"]],
  );
  assert.deepEqual(shown.faults.map((fault: { kind: string }) => fault.kind), ["empty"]);
  await statusOf(control(nest, { do: "clear" }));
  assert.deepEqual(nest.faults.list(), []);
  for (
    const [order, expected] of [
      [{ do: "dance" }, /expected "do" to be one of fault, clear/],
      [{ do: "fault", kind: "melt" }, /there is no fault "melt": expected one of never, slow/],
      [{ do: "fault", kind: "slow" }, /needs "ms"/],
      [{ do: "fault", kind: "empty", count: 0 }, /count is 0: expected a number from 1/],
      [
        { do: "camera", name: "Cellar", state: "off" },
        /no camera "Cellar": expected one of "Yard"/,
      ],
      [{ do: "camera", name: "Yard", state: "broken" }, /state is "broken": expected "online"/],
      [{ do: "add-camera", name: "Yard" }, /has a camera "Yard" already/],
    ] as const
  ) {
    const refused = await control(nest, order);
    assert.equal(refused.status, 400);
    assert.match((await refused.json()).error, expected);
  }
});

Deno.test("what was served is counted per camera", async () => {
  await using nest = await start();
  const headers = await nestCookie(nest);
  for (let n = 0; n < 3; n++) await statusOf(askPicture(nest, "Yard", { headers }));
  nest.faults.add({ kind: "empty", count: 1 });
  await statusOf(askPicture(nest, "Yard", { headers }));
  const { requests, pictures, lastCounter } = nest.camera("Yard").served;
  assert.deepEqual({ requests, pictures, lastCounter }, {
    requests: 4,
    pictures: 3,
    lastCounter: 3,
  });
  assert.equal(nest.camera("Front door").served.requests, 0);
});

Deno.test("a camera with a rate of its own gives the same picture twice within a frame", async () => {
  const clock = createFakeClock();
  await using nest = await start({
    clock,
    cameras: [{ name: "Slow", widthPx: 320, heightPx: 180, fps: 1 }],
  });
  const headers = await nestCookie(nest);
  const picture = async () =>
    new Uint8Array(await (await askPicture(nest, "Slow", { headers })).arrayBuffer());
  const first = await picture();
  await clock.advance(500);
  assert.deepEqual(await picture(), first);
  await clock.advance(500);
  assert.notDeepEqual(await picture(), first);
});
