/**
 * A sink as a plugin in all its forms, and a registry of npm's kind that has it as a package.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";

/** A sink that takes everything. */
export const TOY_SINK = `import { defineSink } from "camsink";
export default defineSink({
  name: "toy",
  config: { type: "object", properties: {}, additionalProperties: false },
  net: () => [],
  open: () => ({
    put: () => Promise.resolve({ state: "stored" }),
    check: () => Promise.resolve(),
  }),
});
`;

/** A configuration with it. */
export const TOY_CONFIG = `{
  "cameras": { "yard": { "type": "snapshot", "url": "http://127.0.0.1:1/x.jpg" } },
  "sinks": { "mine": { "type": "toy" } }
}`;

/** As a folder. */
export async function writeToyFolder(folder: string): Promise<void> {
  await mkdir(folder);
  await writeFile(`${folder}/deno.json`, `{ "version": "4.5.6", "exports": "./sink.ts" }`);
  await writeFile(`${folder}/sink.ts`, `export { default } from "./inner.ts";\n`);
  await writeFile(`${folder}/inner.ts`, TOY_SINK);
}

/** As `npm:@camsink-test/sink-toy`, for whoever has `home` as `HOME`. */
export async function startToyRegistry(home: string): Promise<AsyncDisposable> {
  const folder = `${home}/registry`;
  await mkdir(folder);
  const registry = await startRegistry(folder);
  // For this scope alone: everything else comes from where it always does.
  await writeFile(`${home}/.npmrc`, `@camsink-test:registry=${registry.url}\n`);
  return registry;
}

/** A registry with one package, as npm's is asked. */
async function startRegistry(folder: string): Promise<{ url: string } & AsyncDisposable> {
  await mkdir(`${folder}/package`);
  const about = {
    name: "@camsink-test/sink-toy",
    version: "1.2.3",
    type: "module",
    exports: "./mod.js",
  };
  await writeFile(`${folder}/package/package.json`, JSON.stringify(about));
  await writeFile(`${folder}/package/mod.js`, TOY_SINK);
  const packed = await new Deno.Command("tar", {
    args: ["czf", `${folder}/toy.tgz`, "-C", folder, "package"],
  }).output();
  assert.ok(packed.success);
  const tarball = await readFile(`${folder}/toy.tgz`);
  const integrity = `sha512-${createHash("sha512").update(tarball).digest("base64")}`;
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
    const { pathname, origin } = new URL(request.url);
    if (pathname === "/toy.tgz") return new Response(new Uint8Array(tarball));
    if (decodeURIComponent(pathname) !== `/${about.name}`) {
      return new Response(null, { status: 404 });
    }
    const dist = { tarball: `${origin}/toy.tgz`, integrity };
    return Response.json({
      name: about.name,
      "dist-tags": { latest: about.version },
      versions: { [about.version]: { ...about, dist } },
    });
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}/`,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
