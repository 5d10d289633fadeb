/**
 * The azure-blob sink with identities in place of keys: the token endpoints are simulated, the store
 * that demands the bearer is the real emulator over HTTPS.
 *
 * @module
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { makeSecret } from "../../core/config/values.ts";
import { type Sink, sinkErrorKind } from "../../core/types.ts";
import {
  type AzureIdentitySimulator,
  startAzureIdentity,
} from "../../simulators/azure_identity.ts";
import { type Azurite, startAzurite } from "../../simulators/azurite.ts";
import { createLoopbackCertificate } from "../../simulators/certificate.ts";
import { azureBlob, type AzureBlobOptions } from "../../sinks/azure_blob.ts";
import { CLI_COMMAND } from "../support/run_cli.ts";
import { keepLog } from "../delivery/fakes.ts";
import { clipOf, noise, putOptions } from "./clips.ts";

const tls = createLoopbackCertificate();
const folder = await Deno.makeTempDir({ prefix: "camsink-identity-" });
const caFile = `${folder}/ca.pem`;
await Deno.writeTextFile(caFile, tls.caPem);
await Deno.writeTextFile(`${folder}/cert.pem`, tls.certPem);
await Deno.writeTextFile(`${folder}/key.pem`, tls.keyPem);

let azurite: Azurite | undefined;
let skip: string | undefined;
try {
  azurite = await startAzurite({
    tls: { certPath: `${folder}/cert.pem`, keyPath: `${folder}/key.pem` },
  });
} catch (error) {
  skip = `no Azurite: ${error instanceof Error ? error.message.split("\n", 1)[0] : error}`;
}
Deno.test.afterAll(async () => {
  await azurite?.stop();
  await Deno.remove(folder, { recursive: true });
});

type Environment = Readonly<Record<string, string>>;

interface Bench {
  readonly sim: AzureIdentitySimulator;
  /** What a process with these variables and the program's own permissions makes of the options. */
  run(options: Record<string, unknown>, env?: Environment): Promise<Said>;
  open(options: Partial<AzureBlobOptions>): Promise<Sink>;
}

interface Said {
  readonly states: readonly string[];
  readonly kind?: string;
  readonly message?: string;
}

function fact(text: string, run: (bench: Bench) => Promise<void>): void {
  Deno.test({
    name: `azure-blob: ${text}${skip ? ` (skipped: ${skip})` : ""}`,
    ignore: skip !== undefined,
    fn: async () => {
      await using sim = await startAzureIdentity({ tls });
      const common = { endpoint: azurite!.blobUrl, caFile };
      await run({
        sim,
        run: async (options, env = {}) => {
          const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
            args: [
              ...CLI_COMMAND.slice(0, -1),
              fileURLToPath(new URL("./identity_child.ts", import.meta.url)),
              JSON.stringify({ ...common, ...options }),
            ],
            clearEnv: true,
            env: {
              PATH: Deno.env.get("PATH") ?? "",
              HOME: Deno.env.get("HOME") ?? "",
              ...DENO,
              ...env,
            },
          }).output();
          const text = new TextDecoder().decode(stdout);
          assert.match(text, /^\{/, new TextDecoder().decode(stderr));
          return JSON.parse(text);
        },
        open: async (options) =>
          await azureBlob.open({
            name: "azure",
            config: {
              ...common,
              container: `i-${crypto.randomUUID().slice(0, 8)}`,
              prefix: "",
              blockSize: 64 * 1024,
              ...options,
            },
            log: keepLog(),
            fetch,
          }),
      });
    },
  });
}

const denoDir = Deno.env.get("DENO_DIR");
const DENO: Environment = denoDir === undefined ? {} : { DENO_DIR: denoDir };

const ALL_WELL: Said = {
  states: ["stored", "already-there", "same", "stored", "already-there", "same"],
};

fact("the managed identity of a VM stores clips, with one token for all", async (bench) => {
  const env = { AZURE_POD_IDENTITY_AUTHORITY_HOST: bench.sim.imdsUrl };
  assert.deepEqual(await bench.run({ identity: "managed" }, env), ALL_WELL);
  assert.deepEqual(bench.sim.requests.map(({ where }) => where), ["imds"]);
  assert.match(bench.sim.requests[0]?.text ?? "", /https:\/\/storage\.azure\.com/);
  const { clientId } = bench.sim;
  assert.deepEqual(await bench.run({ identity: "managed", clientId }, env), ALL_WELL);
});

fact("a machine without an identity parks the sink and says why", async (bench) => {
  bench.sim.hasManagedIdentity = false;
  const env = { AZURE_POD_IDENTITY_AUTHORITY_HOST: bench.sim.imdsUrl };
  const { kind, message } = await bench.run({ identity: "managed" }, env);
  assert.equal(kind, "auth");
  assert.match(message ?? "", /no token for Azure .*not found.*switch the managed identity on/i);
});

fact("the managed identity of App Service and Container Apps stores clips", async (bench) => {
  const { sim } = bench;
  const env = { IDENTITY_ENDPOINT: sim.identityEndpoint, IDENTITY_HEADER: sim.identityHeader };
  assert.deepEqual(await bench.run({ identity: "managed" }, env), ALL_WELL);
  assert.deepEqual(sim.requests.map(({ where }) => where), ["app-service"]);
  // Nothing else is there: the default finds the same.
  const prod = { ...env, AZURE_TOKEN_CREDENTIALS: "prod" };
  assert.deepEqual(await bench.run({ identity: "default" }, prod), ALL_WELL);
});

fact("a workload identity trades its token file for a token", async ({ sim, run }) => {
  await Deno.writeTextFile(`${folder}/federated`, sim.federatedToken);
  const env = {
    AZURE_CLIENT_ID: sim.clientId,
    AZURE_TENANT_ID: sim.tenantId,
    AZURE_FEDERATED_TOKEN_FILE: `${folder}/federated`,
    AZURE_AUTHORITY_HOST: sim.authority,
  };
  assert.deepEqual(await run({ identity: "workload" }, env), ALL_WELL);
  sim.federatedToken = "another";
  const refused = await run({ identity: "workload" }, env);
  assert.equal(refused.kind, "auth");
  assert.match(refused.message ?? "", /AADSTS70021.*check the federated credential/);
});

fact("an account key stores clips", async ({ run }) => {
  const { account, key } = azurite!;
  assert.deepEqual(await run({ account, accountKey: key }), ALL_WELL);
});

fact("an app stores clips by its secret, and a new one is taken up at once", async (bench) => {
  const { sim } = bench;
  let secret = "wrong-secret-value";
  const sink = await bench.open({
    identity: "app",
    tenantId: sim.tenantId,
    clientId: sim.clientId,
    clientSecret: { reference: "file:x", reveal: () => Promise.resolve(secret) },
    authority: sim.authority,
  });
  await assert.rejects(sink.put(clipOf(noise(10)), putOptions()), (error) => {
    assert.equal(sinkErrorKind(error), "auth");
    assert.match(String(error), /AADSTS7000215.*put the app's present secret where clientSecret/);
    assert.ok(!Deno.inspect(error, { depth: 9 }).includes(secret));
    return true;
  });
  secret = sim.clientSecret;
  assert.equal((await sink.put(clipOf(noise(10)), putOptions())).state, "stored");
});

fact("an Entra that is down is a retry, not a wrong credential", async (bench) => {
  const { sim } = bench;
  sim.broken = 501;
  const sink = await bench.open({
    identity: "app",
    tenantId: sim.tenantId,
    clientId: sim.clientId,
    clientSecret: makeSecret(sim.clientSecret),
    authority: sim.authority,
  });
  await assert.rejects(sink.put(clipOf(noise(10)), putOptions()), (error) => {
    assert.equal(sinkErrorKind(error), "retry", String(error));
    return true;
  });
});

Deno.test("azure-blob: a token is never sent without TLS", async () => {
  await assert.rejects(
    async () =>
      await azureBlob.open({
        name: "azure",
        config: {
          endpoint: "http://127.0.0.1:1/account",
          identity: "managed",
          container: "yard",
          prefix: "",
          blockSize: 64 * 1024,
        },
        log: keepLog(),
        fetch,
      }),
    /never sent without TLS/,
  );
});
