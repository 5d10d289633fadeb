/** Basic and Digest, against the examples of their standards. */
import assert from "node:assert/strict";
import {
  createAuthenticator,
  digestAuthorization,
  parseChallenges,
} from "../../core/sources/http_auth.ts";

function answer(header: string, input: Partial<Parameters<typeof digestAuthorization>[1]>): string {
  const [challenge] = parseChallenges(header);
  assert.ok(challenge);
  return digestAuthorization(challenge, {
    username: "Mufasa",
    password: "Circle Of Life",
    method: "GET",
    uri: "/dir/index.html",
    cnonce: "0a4f113b",
    nonceCount: 1,
    ...input,
  });
}

function responseOf(authorization: string): string | undefined {
  return /response="([0-9a-f]+)"/.exec(authorization)?.[1];
}

const RFC_2617 = 'Digest realm="testrealm@host.com", qop="auth,auth-int", ' +
  'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"';
const RFC_7616 = 'realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, ' +
  'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", ' +
  'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"';
const RFC_7616_INPUT = {
  password: "Circle of Life",
  cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
};

Deno.test("the example of RFC 2617 §3.5 gives the response printed there", () => {
  const header = answer(RFC_2617, {});
  assert.equal(responseOf(header), "6629fae49393a05397450978507c4ef1");
  assert.match(header, /, qop=auth, nc=00000001, cnonce="0a4f113b"/);
  assert.match(header, /, opaque="5ccc069c403ebaf9f0171e9517f40e41"/);
  assert.doesNotMatch(header, /algorithm/);
});

Deno.test("a challenge without qop is answered as in RFC 2069, without nc and cnonce", () => {
  const header = answer(
    'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"',
    { password: "CircleOfLife" },
  );
  // RFC 2069 §2.4, with the value of its errata.
  assert.equal(responseOf(header), "1949323746fe6a43ef61f9606e7febea");
  assert.doesNotMatch(header, /nc=|cnonce=|qop=/);
});

Deno.test("the examples of RFC 7616 §3.9.1 give the responses printed there", () => {
  assert.equal(
    responseOf(answer(`Digest ${RFC_7616}`, RFC_7616_INPUT)),
    "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
  );
  assert.equal(
    responseOf(answer(`Digest ${RFC_7616.replace("SHA-256", "MD5")}`, RFC_7616_INPUT)),
    "8ca523f5e9506fed4657c9700eebdbec",
  );
});

Deno.test("the user name of RFC 7616 §3.9.2 is sent hashed with SHA-512-256", () => {
  const header = answer(
    'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, charset=UTF-8, ' +
      'nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", userhash=true',
    { username: "Jäsøn Doe", password: "Secret, or not?", uri: "/doe.json" },
  );
  // As corrected in the errata: the value printed in the RFC was made with another hash.
  const hash = /username="([0-9a-f]+)"/.exec(header)?.[1];
  assert.equal(hash, "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b");
  assert.match(header, /userhash=true/);
});

Deno.test("a name outside ASCII is sent as username*", () => {
  assert.match(answer(RFC_2617, { username: "Jäsøn" }), /username\*=UTF-8''J%C3%A4s%C3%B8n,/);
});

Deno.test("of several challenges the strongest is answered", () => {
  const login = createAuthenticator({ username: "u", password: "p", cnonce: () => "c" });
  const offered = 'Basic realm="x", Digest realm="x", nonce="1", qop="auth", algorithm=MD5, ' +
    'Digest realm="x", nonce="2", qop="auth", algorithm=SHA-256';
  assert.equal(login.challenged(offered), "answer");
  assert.match(login.authorize("GET", "/") ?? "", /^Digest .*nonce="2".*algorithm=SHA-256/);
});

Deno.test("Basic sends name and password in UTF-8, and only after it was asked to", () => {
  const login = createAuthenticator({ username: "test", password: "123£" });
  assert.equal(login.authorize("GET", "/"), undefined);
  assert.equal(login.challenged('Basic realm="foo", charset="UTF-8"'), "answer");
  // RFC 7617 §2.1
  assert.equal(login.authorize("GET", "/"), "Basic dGVzdDoxMjPCow==");
});

Deno.test("the count of requests goes up with each use of a nonce, and begins anew with a new one", () => {
  const login = createAuthenticator({ username: "u", password: "p" });
  const nc = () => /nc=(\d+)/.exec(login.authorize("GET", "/") ?? "")?.[1];
  login.challenged('Digest realm="r", nonce="1", qop="auth"');
  assert.deepEqual([nc(), nc()], ["00000001", "00000002"]);
  login.accepted();
  assert.equal(login.challenged('Digest realm="r", nonce="2", qop="auth"'), "answer");
  assert.equal(nc(), "00000001");
});

Deno.test("a second refusal means a wrong password, unless the nonce was stale", () => {
  const login = createAuthenticator({ username: "u", password: "p" });
  login.challenged('Digest realm="r", nonce="1", qop="auth"');
  login.authorize("GET", "/");
  assert.equal(login.challenged('Digest realm="r", nonce="2", qop="auth", stale=TRUE'), "answer");
  login.authorize("GET", "/");
  assert.equal(login.challenged('Digest realm="r", nonce="3", qop="auth"'), "refused");
});

Deno.test("schemes and algorithms that are not known are told apart from wrong passwords", () => {
  const login = createAuthenticator({ username: "u", password: "p" });
  for (
    const header of [
      null,
      "",
      "Negotiate abc==",
      'Bearer realm="x"',
      'Digest realm="x", nonce="1", algorithm=SHA3-256',
      'Digest realm="x", nonce="1", qop="auth-int"',
      'Digest realm="x"',
    ]
  ) {
    assert.equal(login.challenged(header), "unknown", String(header));
  }
});

Deno.test("challenges are parsed with quotes, escapes, token68 and odd spaces", () => {
  assert.deepEqual(
    parseChallenges(
      'Negotiate a87/==, NTLM,Digest  Realm = "a \\"b\\", c" ,nonce=x,, Basic realm=""',
    ),
    [
      { scheme: "negotiate", params: {} },
      { scheme: "ntlm", params: {} },
      { scheme: "digest", params: { realm: 'a "b", c', nonce: "x" } },
      { scheme: "basic", params: { realm: "" } },
    ],
  );
});

Deno.test("10,000 random headers neither hang nor throw", () => {
  let seed = 7;
  const random = () => (seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31) / 2 ** 31;
  const pieces = [
    "Digest",
    "Basic",
    " ",
    ",",
    "=",
    '"',
    "\\",
    "realm",
    "nonce",
    "é",
    "\0",
    "a=b",
    "==",
  ];
  for (let i = 0; i < 10_000; i++) {
    let header = "";
    const length = random() * 24;
    for (let j = 0; j < length; j++) header += pieces[Math.floor(random() * pieces.length)] ?? "";
    const login = createAuthenticator({ username: "u", password: "p" });
    login.challenged(header);
    login.authorize("GET", "/");
  }
});
