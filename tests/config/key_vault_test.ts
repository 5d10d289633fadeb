/**
 * Secrets that stay in Azure Key Vault: references, what is kept for how long, what a failure says,
 * and the real SDK against a simulated vault over HTTPS.
 *
 * @module
 */
import assert from "node:assert/strict";
import * as v from "valibot";
import {
  createKeyVaults,
  KeyVaultError,
  parseKeyVaultReference,
  readWithSdk,
} from "../../core/config/key_vault.ts";
import { secret } from "../../core/config/values.ts";
import { createDelivery } from "../../core/delivery/mod.ts";
import { type Secret, SinkError } from "../../core/types.ts";
import { startAzureIdentity } from "../../simulators/azure_identity.ts";
import { createLoopbackCertificate } from "../../simulators/certificate.ts";
import { startKeyVault } from "../../simulators/key_vault.ts";
import { FakeSink, FakeSpool, freshStatus, keepLog, makeClip } from "../delivery/fakes.ts";
import { createFakeClock } from "../support/fake_clock.ts";

const X = "https://home.vault.azure.net/secrets/sas";

Deno.test("a reference names a vault, a secret and perhaps a version", () => {
  assert.deepEqual(parseKeyVaultReference(X), {
    vaultUrl: "https://home.vault.azure.net",
    name: "sas",
  });
  assert.equal(parseKeyVaultReference(`${X}/0123abc`)?.version, "0123abc");
  for (
    const wrong of [
      "home/sas",
      "http://home.vault.azure.net/secrets/sas",
      "https://home.vault.azure.net/keys/sas",
      "https://home.vault.azure.net/secrets/",
      "https://home.vault.azure.net/secrets/a_b",
      "https://home.vault.azure.net/secrets/a/b/c",
      "https://me:pw@home.vault.azure.net/secrets/sas",
      `${X}?api-version=7.4`,
    ]
  ) assert.equal(parseKeyVaultReference(wrong), undefined, wrong);
});

Deno.test("a configuration takes a reference and refuses one that is none", () => {
  assert.equal(v.parse(secret(), `keyvault:${X}`).reference, `keyvault:${X}`);
  const { issues } = v.safeParse(secret(), "keyvault:sas");
  assert.match(issues?.[0].message ?? "", /expected "keyvault:https:\/\/NAME\.vault\.azure\.net/);
});

Deno.test("a value is asked for once in five minutes, and by many at once only once", async () => {
  let now = 0;
  let reads = 0;
  const reveal = createKeyVaults({
    read: () => Promise.resolve(`value ${++reads}`),
    monotonic: () => now,
  });
  assert.deepEqual(await Promise.all([reveal(X), reveal(X)]), ["value 1", "value 1"]);
  now = 299_999;
  assert.equal(await reveal(X), "value 1");
  assert.equal(await reveal(X, { maxAgeMs: 5000 }), "value 2");
  assert.equal(await reveal(X), "value 2");
  now += 300_000;
  assert.equal(await reveal(X), "value 3");
});

Deno.test("while the vault is away, the last value is used on; who was refused hears of it", async () => {
  let now = 0;
  let isAway = false;
  let asked = 0;
  const reveal = createKeyVaults({
    read: () => {
      asked++;
      return isAway
        ? Promise.reject(Object.assign(new Error("gone"), { code: "ENOTFOUND" }))
        : Promise.resolve("value");
    },
    monotonic: () => now,
  });
  await reveal(X);
  isAway = true;
  now = 600_000;
  assert.equal(await reveal(X), "value");
  assert.equal(await reveal(X), "value");
  assert.equal(asked, 2, "and the vault is left alone for a while");
  await assert.rejects(reveal(X, { maxAgeMs: 0 }), (error) => {
    assert.ok(error instanceof KeyVaultError && error.isTemporary);
    assert.match(error.message, /"sas" of the vault https:\/\/home.*no such host/);
    return true;
  });
});

const VARIABLES = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"] as const;

Deno.test("the real SDK reads secrets and versions, and every refusal says what to do", async () => {
  const tls = createLoopbackCertificate();
  await using identity = await startAzureIdentity({ tls });
  await using vault = await startKeyVault({ tls, identity });
  const before = VARIABLES.map((name) => [name, Deno.env.get(name)] as const);
  Deno.env.set("AZURE_TENANT_ID", identity.tenantId);
  Deno.env.set("AZURE_CLIENT_ID", identity.clientId);
  Deno.env.set("AZURE_CLIENT_SECRET", identity.clientSecret);
  try {
    const world = { caPem: tls.caPem, authority: identity.authority };
    const reveal = createKeyVaults({ read: readWithSdk(world) });
    const fresh = (path: string) => reveal(`${vault.url}/secrets/${path}`, { maxAgeMs: 0 });
    const first = vault.set("sas", "sv=1&sig=first");
    assert.equal(await fresh("sas"), "sv=1&sig=first");
    assert.match(vault.requests[0] ?? "", / 401$/, "the real SDK waits for the challenge");
    vault.set("sas", "sv=1&sig=second");
    assert.equal(await fresh("sas"), "sv=1&sig=second");
    assert.equal(await fresh(`sas/${first}`), "sv=1&sig=first");

    const refused = async (path: string, words: RegExp, isTemporary = false) => {
      await assert.rejects(fresh(path), (error) => {
        assert.ok(error instanceof KeyVaultError, String(error));
        assert.match(error.message, words);
        assert.equal(error.isTemporary, isTemporary);
        assert.ok(!Deno.inspect(error, { depth: 9 }).includes("sig="));
        return true;
      });
    };
    await refused("none", /the vault has none of this name/);
    vault.disabled.add("sas");
    await refused("sas", /the secret is disabled/);
    vault.disabled.clear();
    vault.isAllowed = false;
    await refused("sas", /role Key Vault Secrets User/);
    vault.isAllowed = true;
    vault.broken = 503;
    await refused("sas", /Azure answered 503/, true);
    vault.broken = undefined;
    assert.equal(await fresh("sas"), "sv=1&sig=second");

    identity.clientSecret = "renewed";
    const other = createKeyVaults({ read: readWithSdk(world) });
    await assert.rejects(
      other(`${vault.url}/secrets/sas`),
      /this machine has no login for Azure .*AADSTS7000215/,
    );
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
  }
});

Deno.test("a parked sink takes up a secret that was rotated in the vault within 10 s", async () => {
  const clock = createFakeClock();
  let stored = "old";
  const reveal = createKeyVaults({
    read: () => Promise.resolve(stored),
    monotonic: () => clock.monotonic(),
  });
  const sas: Secret = { reference: `keyvault:${X}`, reveal: (options) => reveal(X, options) };
  const spool = new FakeSpool();
  spool.add(makeClip(0), makeClip(1));
  const sink = new FakeSink(
    () => clock.monotonic(),
    async () =>
      await sas.reveal() === "new" ? undefined : new SinkError("auth", "403: it has expired"),
  );
  const stop = new AbortController();
  const delivery = createDelivery({
    name: "azure",
    sink,
    spool,
    status: freshStatus("azure"),
    clock,
    random: () => 0.5,
    log: keepLog(),
    secrets: [sas],
  });
  const running = delivery.run(stop.signal);
  await clock.advance(60_000);
  const puts = sink.puts.length;
  assert.ok(puts <= 4, `${puts} tries while it was parked`);
  stored = "new";
  await clock.advance(10_000);
  assert.equal(spool.receipts.size, 2);
  stop.abort();
  await running;
});
