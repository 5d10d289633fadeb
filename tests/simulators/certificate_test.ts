/** HTTPS on loopback with a certificate made on the spot. */
import assert from "node:assert/strict";
import {
  createLoopbackCertificate,
  startNestSimulator,
  startSnapshotCamera,
} from "../../simulators/mod.ts";

Deno.test("a client that trusts the authority gets its picture over HTTPS, another one does not", async () => {
  const tls = createLoopbackCertificate();
  await using camera = await startSnapshotCamera({
    name: "Yard",
    widthPx: 320,
    heightPx: 180,
    tls,
  });
  assert.match(camera.url, /^https:/);
  {
    using client = Deno.createHttpClient({ caCerts: [tls.caPem] });
    const response = await fetch(camera.url, { client });
    assert.equal(response.headers.get("content-type"), "image/jpeg");
    await response.body?.cancel();
  }
  await assert.rejects(
    fetch(camera.url),
    (error: Error) => /certificate|UnknownIssuer/i.test(`${error} ${error.cause}`),
  );
});

Deno.test("the simulated cloud serves HTTPS on all of its hosts", async () => {
  const tls = createLoopbackCertificate();
  await using nest = await startNestSimulator({ cameras: [{ name: "Yard" }], tls });
  using client = Deno.createHttpClient({ caCerts: [tls.caPem] });
  for (const url of Object.values(nest.endpoints)) {
    const response = await fetch(`${url}/__control`, { client });
    assert.equal((await response.json()).cameras[0].name, "Yard");
  }
});
