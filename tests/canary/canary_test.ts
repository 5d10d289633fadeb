/**
 * Canaries: a secret that is looked for stands in every place where one may stand, every server says
 * no and throws the whole request back in its answer, in several codings; then everything that the
 * real program printed, wrote and showed in `ps` is searched. (Sinks and cameras fail on purpose:
 * errors are where secrets slip out.)
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { startAzureIdentity } from "../../simulators/azure_identity.ts";
import { createLoopbackCertificate } from "../../simulators/certificate.ts";
import { listenOnLoopback } from "../../simulators/http_server.ts";
import { startKeyVault } from "../../simulators/key_vault.ts";
import { startSnapshotCamera } from "../../simulators/snapshot_camera.ts";
import { startEchoCamera } from "./echo_camera.ts";
import { cliCommand, inTempFolder, killAndWait } from "../support/run_cli.ts";
import { until } from "../support/until.ts";
import { walkFiles } from "../support/walk_files.ts";
import { ENCODINGS, leaksIn } from "./encodings.ts";

/** With the signs that get escaped. */
const canary = (name: string) => `Cnry${name}+/="&${randomBytes(9).toString("hex")}`;
const plain = (name: string) => `Cnry${name}${randomBytes(12).toString("hex")}`;

Deno.test("there are 40 encodings, and each one is found", () => {
  assert.equal(Object.keys(ENCODINGS).length, 40);
  const secret = canary("Self");
  for (const [name, code] of Object.entries(ENCODINGS)) {
    assert.ok(
      leaksIn(`before ${code(secret)} after`, { it: secret }).includes(`it as ${name}`),
      name,
    );
  }
});

Deno.test("no secret is in anything that the program prints, writes or shows in ps", () =>
  inTempFolder(async (folder) => {
    const tls = createLoopbackCertificate();
    await Deno.writeTextFile(`${folder}/ca.pem`, tls.caPem);
    await using identity = await startAzureIdentity({ tls });
    await using vault = await startKeyVault({ tls, identity });
    await using camera = await startSnapshotCamera({ name: "Good" });
    let asked = 0;
    /** All that was said to the servers, so that no secret is looked for that was never used. */
    let heard = "";
    await using echoCamera = startEchoCamera((text) => heard += text);
    const echo = await listenOnLoopback({
      handle: async (request) => {
        asked++;
        const text = await request.text();
        const headers = ["authorization", "cookie", "x-token", "content-type"]
          .map((name) => `${name}: ${request.header(name)}`).join("\n");
        const all = `${request.path}?${request.query}\n${headers}\n${text}`;
        heard += [all, ...all.split(/[?&=\s]+/).map(decoded)].join("\n");
        const [, basic = ""] = /^basic (.*)$/i.exec(request.header("authorization")) ?? [];
        heard += Buffer.from(basic, "base64").toString();
        const message = `${all} ${Buffer.from(all).toString("base64")} ${JSON.stringify(all)}`;
        return {
          // A camera's login is only sent to one that asks for it.
          status: request.path === "/snap.jpg" && !request.header("authorization")
            ? 401
            : [400, 401, 403, 500][asked % 4] ?? 500,
          headers: {
            "content-type": asked % 2 ? "application/xml" : "application/json",
            "x-ms-error-code": "AuthenticationFailed",
            "www-authenticate": 'Basic realm="shut"',
          },
          body: asked % 2
            ? `<?xml version="1.0"?><Error><Code>No</Code><Message>${message}</Message></Error>`
            : JSON.stringify({ error: "no", error_description: message, message }),
        };
      },
    });
    const secrets: Record<string, string> = {
      sasSignature: plain("Sas"),
      accountKey: Buffer.from(plain("Key")).toString("base64"),
      connectionKey: Buffer.from(plain("Con")).toString("base64"),
      containerSignature: plain("Url"),
      clientSecret: canary("App"),
      accessToken: `b.0.${plain("Tok")}`,
      issueToken: plain("Iss"),
      cookie: plain("Coo"),
      cameraPassword: canary("Cam"),
      cameraHeader: plain("Hdr"),
      rtspPassword: canary("Rtsp"),
      refreshToken: plain("Rfr"),
      googleClientSecret: plain("Gcs"),
      masterToken: `aas_et/${plain("Mas")}`,
      webhook: plain("Hook"),
      heartbeat: plain("Beat"),
      vaultSecret: plain("Vault"),
      vaultLogin: identity.clientSecret,
    };
    const values: Record<string, string> = {
      SAS:
        `sv=2024-11-04&ss=b&srt=co&sp=rwdlac&se=2099-01-01T00:00:00Z&sig=${secrets.sasSignature}`,
      KEY: secrets.accountKey!,
      CONNECTION:
        `DefaultEndpointsProtocol=http;AccountName=abc;AccountKey=${secrets.connectionKey};` +
        `BlobEndpoint=${echo.url}/abc;`,
      CONTAINER:
        `${echo.url}/abc/clips?sv=2024-11-04&sr=c&sp=rwdlac&sig=${secrets.containerSignature}`,
      APP: secrets.clientSecret!,
      TOKEN: secrets.accessToken!,
      ISSUE:
        `https://accounts.google.com/o/oauth2/iframerpc?action=issueToken&login_hint=${secrets.issueToken}&ss_domain=https%3A%2F%2Fhome.nest.com`,
      COOKIE: `SID=${secrets.cookie}; HSID=abc`,
      CAM: secrets.cameraPassword!,
      HEADER: secrets.cameraHeader!,
      RTSP: secrets.rtspPassword!,
      REFRESH: secrets.refreshToken!,
      GCS: secrets.googleClientSecret!,
      MASTER: secrets.masterToken!,
      HOOK: `${echo.url}/hook/${secrets.webhook}`,
      BEAT: `${echo.url}/beat/${secrets.heartbeat}`,
    };
    vault.set("password", secrets.vaultSecret!);
    const env = Object.fromEntries(
      Object.entries(values).map(([name, value]) => [`CANARY_${name}`, value]),
    );
    const ref = (name: string) => `env:CANARY_${name}`;
    const azure = { type: "azure-blob", container: "clips" };
    const nest = (endpoints: Record<string, string>) =>
      Object.fromEntries(Object.keys(endpoints).map((name) => [name, echo.url]));
    await Deno.writeTextFile(
      `${folder}/camsink.json`,
      JSON.stringify({
        accounts: {
          a: {
            type: "nest",
            accessToken: ref("TOKEN"),
            endpoints: nest({ home: "", camera: "" }),
          },
          b: {
            type: "nest",
            issueToken: ref("ISSUE"),
            cookie: ref("COOKIE"),
            endpoints: nest({ accounts: "", jwt: "", home: "", camera: "" }),
          },
          c: {
            type: "google-sdm",
            projectId: "11111111-2222-3333-4444-555555555555",
            clientId: "1-a.apps.googleusercontent.com",
            clientSecret: ref("GCS"),
            refreshToken: ref("REFRESH"),
            endpoints: nest({ oauth: "", sdm: "", pubsub: "" }),
          },
          d: {
            type: "google-home",
            masterToken: ref("MASTER"),
            email: "me@example.com",
            androidId: "0123456789abcdef",
            endpoints: nest({ accounts: "", android: "", foyer: "", frontend: "" }),
          },
        },
        cameras: {
          good: { type: "snapshot", url: camera.url, fps: 5 },
          shut: {
            type: "snapshot",
            url: `${echo.url}/snap.jpg`,
            username: "me",
            password: ref("CAM"),
            headers: { "X-Token": ref("HEADER") },
          },
          vaulted: {
            type: "snapshot",
            url: `${echo.url}/snap.jpg`,
            headers: { "X-Token": `keyvault:${vault.url}/secrets/password` },
          },
          rtsp: {
            type: "rtsp",
            url: echoCamera.url,
            username: "me",
            password: ref("RTSP"),
          },
        },
        clip: { length: "2s" },
        spool: { path: "./spool" },
        sinks: {
          sas: { ...azure, account: "abc", endpoint: `${echo.url}/abc`, sasToken: ref("SAS") },
          key: { ...azure, account: "abc", endpoint: `${echo.url}/abc`, accountKey: ref("KEY") },
          connection: { ...azure, connectionString: ref("CONNECTION") },
          container: { type: "azure-blob", containerSasUrl: ref("CONTAINER") },
          app: {
            ...azure,
            account: "abc",
            identity: "app",
            tenantId: identity.tenantId,
            clientId: identity.clientId,
            clientSecret: ref("APP"),
            authority: identity.authority,
            caFile: "./ca.pem",
          },
          local: { type: "local-folder", path: "./clips" },
        },
        alerts: { webhook: ref("HOOK"), heartbeat: ref("BEAT") },
      }),
    );
    const outputs: Record<string, string> = {};
    const start = (args: readonly string[]) =>
      cliCommand(args, {
        cwd: folder,
        env: {
          ...env,
          DENO_CERT: `${folder}/ca.pem`,
          NODE_EXTRA_CA_CERTS: "",
          AZURE_TENANT_ID: identity.tenantId,
          AZURE_CLIENT_ID: identity.clientId,
          AZURE_CLIENT_SECRET: identity.clientSecret,
          AZURE_AUTHORITY_HOST: identity.authority,
          AZURE_TOKEN_CREDENTIALS: "EnvironmentCredential",
        },
      });
    const keep = async (name: string, args: readonly string[]) => {
      const { code, stdout, stderr } = await start(args).output();
      const decoder = new TextDecoder();
      outputs[name] = decoder.decode(stdout) + decoder.decode(stderr);
      return code;
    };
    const valid = await keep("validate", ["config", "validate"]);
    assert.equal(valid, 0, outputs.validate);
    // A key signs and is not sent; what goes over TLS is seen by the servers there. The heartbeat is
    // called below.
    const unsent = new Set([
      "heartbeat",
      "accountKey",
      "connectionKey",
      "vaultLogin",
      "clientSecret",
    ]);
    const silent = () =>
      Object.keys(secrets).filter((name) => !unsent.has(name) && !heard.includes(secrets[name]!));
    const child = start(["capture", "--json", "--log-level", "debug"]).spawn();
    await using running = readAll(child);
    const speakers = ["sas", "key", "connection", "container", "app", "shut", "rtsp", "vaulted"];
    await until(
      () =>
        silent().length === 0 && running.text.includes('"event":"clip-delivered"') &&
        speakers.every((name) => running.text.includes(`"${name}"`)),
      () => `never sent: ${silent()}; the program said:\n${running.text.slice(-4000)}`,
    );
    await keep("ps", ["status", "--json"]);
    outputs.processes = (await Array.fromAsync(commandLines())).join("\n");
    child.kill("SIGINT");
    await running.ended;
    outputs.capture = running.text;
    // Killed in the middle: what lies about afterwards is searched too.
    // It has one camera and records it, for only then is the heartbeat called.
    await Deno.writeTextFile(
      `${folder}/calm.json`,
      JSON.stringify({
        cameras: { good: { type: "snapshot", url: camera.url, fps: 5 } },
        spool: { path: "./calm" },
        sinks: { local: { type: "local-folder", path: "./clips" } },
        alerts: { heartbeat: ref("BEAT") },
      }),
    );
    const calm = ["capture", "--config", "calm.json", "--debug", "--log-level", "debug"];
    const victim = start(calm).spawn();
    await using dying = readAll(victim);
    await until(() => heard.includes(secrets.heartbeat!), () => dying.text.slice(-4000));
    victim.kill("SIGABRT");
    await dying.ended;
    outputs.crash = dying.text;
    await Promise.all([
      keep("check", ["check", "--debug"]),
      keep("check --json", ["check", "--json"]),
      keep("status", ["status"]),
      keep("cameras", ["cameras"]),
      keep("verify", ["verify", "--json"]),
      keep("clips", ["clips", "--json"]),
    ]);
    for await (const path of walkFiles(folder)) {
      if (/\.mp4$/.test(path)) continue;
      outputs[`file ${path.slice(folder.length)}`] = Buffer.from(await Deno.readFile(path))
        .toString("latin1");
    }
    await echo.close();
    await camera.close();
    assert.ok(asked > 20, `only ${asked} requests reached the server that throws them back`);
    assert.ok(vault.requests.some((line) => line.endsWith(" 200")), "the vault was not asked");
    const leaks = Object.entries(outputs).flatMap(([name, text]) =>
      leaksIn(text, secrets).map((leak) => `${name}: ${leak}`)
    );
    assert.deepEqual(leaks, []);
  }));

/** As a server understands a value of a form or of an address. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    return text;
  }
}

/** All that a child prints, as it comes; it does not outlive the test. */
interface Printed extends AsyncDisposable {
  readonly text: string;
  readonly ended: Promise<unknown>;
}

function readAll(child: Deno.ChildProcess): Printed {
  let text = "";
  const read = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    for await (const part of stream.pipeThrough(new TextDecoderStream())) text += part;
  };
  const ended = Promise.all([child.status, read(child.stdout), read(child.stderr)]);
  return {
    get text() {
      return text;
    },
    ended,
    [Symbol.asyncDispose]: () => killAndWait(child, ended),
  };
}

async function* commandLines(): AsyncGenerator<string> {
  if (Deno.build.os !== "linux") return;
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      yield (await Deno.readTextFile(`/proc/${name}/cmdline`)).replaceAll("\0", " ");
    } catch {
      // It has just ended.
    }
  }
}
