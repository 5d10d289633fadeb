/** Where answers from outside may send us. */
import assert from "node:assert/strict";
import {
  describeUrl,
  isLoopback,
  isPublicHost,
  isWithin,
  mayHaveCredentials,
  redirectTarget,
} from "../../core/sources/hosts.ts";
import { imageHost } from "../../core/sources/nest/discovery.ts";
import { nestEndpoints } from "../../core/sources/nest/options.ts";

const url = (text: string) => new URL(text);

Deno.test("private, local and reserved addresses are not public, however they are written", () => {
  for (
    const host of [
      ...["127.0.0.1", "0x7f.1", "2130706433", "0177.0.0.1", "localhost", "LOCALHOST.", "0.0.0.0"],
      ...["10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200"],
      ...["224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[fe80::1]", "[fd00:ec2::254]"],
      ...["[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"],
      ...[
        "router",
        "cam.local",
        "nas.lan",
        "metadata.google.internal",
        "x.home.arpa",
        "a.localhost",
      ],
    ]
  ) {
    assert.equal(isPublicHost(url(`http://${host}/`)), false, host);
  }
  for (const host of ["example.com", "8.8.8.8", "[2001:4860:4860::8888]", "a.local.example"]) {
    assert.equal(isPublicHost(url(`http://${host}/`)), true, host);
  }
});

Deno.test("loopback is told by address and by name", () => {
  for (const host of ["127.0.0.1", "127.9.9.9", "[::1]", "localhost", "x.localhost."]) {
    assert.equal(isLoopback(url(`http://${host}:81/`)), true, host);
  }
  for (const host of ["127.example.com", "10.0.0.1", "localhost.example.com"]) {
    assert.equal(isLoopback(url(`http://${host}/`)), false, host);
  }
});

Deno.test("a zone holds its own name and those below it, not those that merely end alike", () => {
  assert.equal(isWithin(url("https://nexusapi-eu1.dropcam.com"), ["dropcam.com"]), true);
  assert.equal(isWithin(url("https://nest.com."), ["nest.com"]), true);
  assert.equal(isWithin(url("https://evilnest.com"), ["nest.com"]), false);
  assert.equal(isWithin(url("https://nest.com.evil.net"), ["nest.com"]), false);
});

Deno.test("credentials stay with the host that the user named", () => {
  const home = url("http://cam.local/snap.jpg");
  assert.equal(mayHaveCredentials(url("http://cam.local/other"), home), true);
  assert.equal(mayHaveCredentials(url("https://cam.local/snap.jpg"), home), true);
  assert.equal(mayHaveCredentials(url("http://cam.local:8080/"), home), false);
  assert.equal(mayHaveCredentials(url("http://other.local/"), home), false);
  assert.equal(mayHaveCredentials(url("http://cam.local/"), url("https://cam.local/")), false);
});

Deno.test("redirects are followed on the same host, and to public hosts over https", () => {
  const home = url("http://cam.local/snap.jpg?password=x");
  for (
    const [location, target] of [
      ["/new.jpg", "http://cam.local/new.jpg"],
      ["https://cam.local/snap.jpg", "https://cam.local/snap.jpg"],
      ["https://cdn.example.com/1.jpg", "https://cdn.example.com/1.jpg"],
    ] as const
  ) {
    assert.equal(redirectTarget(location, home, home).href, target);
  }
  for (
    const location of [
      ...[null, "http://", "file:///etc/passwd", "ftp://example.com/", "data:image/jpeg,x"],
      ...["http://127.0.0.1/", "http://169.254.169.254/latest/meta-data/", "https://[::1]/"],
      ...["http://example.com/x.jpg", "https://router/", "https://user:pw@example.com/"],
      ...["http://192.168.1.1/", "https://192.168.1.1/", "//169.254.169.254/"],
    ]
  ) {
    assert.throws(
      () => redirectTarget(location, home, home),
      (error: Error) =>
        /refused the redirect/.test(error.message) && !/password=x/.test(error.message),
      String(location),
    );
  }
  const secure = url("https://example.com/x.jpg");
  assert.throws(() => redirectTarget("http://example.com/x.jpg", secure, secure), /https to http/);
});

Deno.test("an address in a message has no query", () => {
  assert.equal(describeUrl(url("http://h:81/a?token=secret#x")), "http://h:81/a");
});

Deno.test("the login goes to Nest's own image hosts over https, and nowhere else", () => {
  const production = nestEndpoints({ endpoints: {}, fieldTest: false });
  for (
    const [named, expected] of [
      ["https://nexusapi-eu1.dropcam.com", "https://nexusapi-eu1.dropcam.com/"],
      ["nexusapi-us1.camera.home.nest.com", "https://nexusapi-us1.camera.home.nest.com/"],
    ] as const
  ) {
    assert.equal(String(imageHost(named, production)), expected);
  }
  for (
    const named of [
      ...[undefined, "", "http://nexusapi-eu1.dropcam.com", "https://evil.example", "https://"],
      ...[
        "https://169.254.169.254/",
        "http://127.0.0.1:80",
        "https://u:p@a.nest.com",
        "ftp://nest.com",
      ],
      ...["https://dropcam.com.evil.net", "localhost"],
    ]
  ) {
    assert.ok("problem" in imageHost(named, production), String(named));
  }
});

Deno.test("a stand-in on this machine may name any port of it, one elsewhere only its own hosts", () => {
  const all = (base: string) =>
    nestEndpoints({
      endpoints: { accounts: base, jwt: base, home: base, camera: base },
      fieldTest: false,
    });
  assert.equal(
    String(imageHost("http://127.0.0.1:9000", all("http://localhost:8000"))),
    "http://127.0.0.1:9000/",
  );
  const nas = all("http://nas.lan:8000");
  assert.equal(String(imageHost("http://nas.lan:9000", nas)), "http://nas.lan:9000/");
  assert.ok("problem" in imageHost("http://127.0.0.1:9000", nas));
  assert.ok("problem" in imageHost("http://169.254.169.254", nas));
});
