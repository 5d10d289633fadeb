/** A plugin trusts the certificates that Camsink itself is told to trust. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { createLoopbackCertificate } from "../../simulators/certificate.ts";
import { inTempFolder } from "../support/run_cli.ts";

const at = (path: string) => new URL(`../../${path}`, import.meta.url);

const TOY = `import { defineSink, httpSend } from "camsink";
export default defineSink({
  name: "toy",
  config: { type: "object", properties: { url: { type: "string" } }, required: ["url"] },
  net: ({ url }) => [new URL(url).host],
  open: ({ config: { url } }) => ({
    async put(_, { signal }) {
      const sent = await httpSend({ method: "GET", url, signal });
      const fetched = await fetch(url, { signal });
      return { state: "stored", etag: [sent.text, await fetched.text()].join() };
    },
  }),
});
`;

const PUTS = `
import { testClip } from ${JSON.stringify(at("kit/clips.ts").href)};
import { isolated } from ${JSON.stringify(at("kit/mod.ts").href)};
const [folder, url] = Deno.args;
const log = { debug() {}, info() {}, warn() {}, error() {} };
await using host = await isolated("./toy.js", { folder });
const { sink, dispose } = await host.open({ config: { url }, log });
const put = { signal: new AbortController().signal, attempt: 1, progress() {} };
console.log(await sink.put(testClip(1), put).then(({ etag }) => etag, ({ message }) => message));
await dispose();
`;

for (const variable of ["DENO_CERT", "NODE_EXTRA_CA_CERTS"]) {
  Deno.test(`a plugin reaches a server whose authority ${variable} names`, () =>
    inTempFolder(async (folder) => {
      const { DENO_CERT: _, NODE_EXTRA_CA_CERTS: __, ...others } = Deno.env.toObject();
      const { certPem, keyPem, caPem } = createLoopbackCertificate();
      await writeFile(`${folder}/ca.pem`, caPem);
      await writeFile(`${folder}/toy.js`, TOY);
      await writeFile(`${folder}/puts.ts`, PUTS);
      await using server = Deno.serve(
        { port: 0, hostname: "127.0.0.1", cert: certPem, key: keyPem, onListen: () => {} },
        () => new Response("heard"),
      );
      const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [
          ...["run", "--allow-all", "--no-check", `--config=${at("deno.json").pathname}`],
          ...[`${folder}/puts.ts`, folder, `https://localhost:${server.addr.port}/`],
        ],
        clearEnv: true,
        env: { ...others, [variable]: `${folder}/ca.pem` },
      }).output();
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
      assert.equal(text(stdout), "heard,heard", text(stderr));
    }));
}
