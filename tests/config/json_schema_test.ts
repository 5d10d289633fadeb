/**
 * The published JSON Schema and the reference page: a validator that is not ours agrees with our own
 * loading, every key has its description, and the committed files are up to date.
 *
 * @module
 */
import { Ajv } from "ajv";
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { parse } from "jsonc-parser";
import { importFoggycam } from "../../core/config/foggycam_import.ts";
import { configJsonSchema, type JsonSchema } from "../../core/config/json_schema.ts";
import { parseConfig } from "../../core/config/load.ts";
import { EXAMPLE } from "../../core/config/reference.ts";
import { configTables } from "../../commands/rooms.ts";
import { pages } from "../../commands/write_docs.ts";

const schema = configJsonSchema(configTables);
const validate = new Ajv({ strict: false, validateFormats: false, allErrors: true })
  .compile(schema);

Deno.test("a foreign validator takes the example and an imported configuration", () => {
  for (const text of [EXAMPLE, importFoggycam({}).config]) {
    ok(validate(parse(text)), JSON.stringify(validate.errors));
  }
});

Deno.test("a foreign validator and our own loading agree on what is wrong", async () => {
  const nest = { type: "nest", accessToken: "env:T" };
  const right: readonly unknown[] = [
    { accounts: { a: nest } },
    { accounts: { a: { ...nest, cameras: ["x", "y"] } }, clip: { length: "1h30m" } },
    { accounts: { a: nest }, spool: { limit: "1.5TiB", keep: "7d", whenFull: "drop-oldest" } },
  ];
  const wrong: readonly unknown[] = [
    [],
    { accounts: [] },
    { accounts: { a: { ...nest, type: "nset" } } },
    { accounts: { a: { accessToken: "env:T" } } },
    { accounts: { a: { ...nest, fsp: 5 } } },
    { accounts: { a: { ...nest, fps: "5" } } },
    { accounts: { a: { ...nest, fps: 500 } } },
    { accounts: { a: { ...nest, width: 640.5 } } },
    { accounts: { a: { ...nest, cameras: "some" } } },
    { accounts: { a: { ...nest, accessToken: "" } } },
    { accounts: { a: nest }, clip: { length: 60 } },
    { accounts: { a: nest }, clip: { length: "60" } },
    { accounts: { a: nest }, clip: { lenght: "60s" } },
    { accounts: { a: nest }, spool: { limit: "20 gigabytes" } },
    { accounts: { a: nest }, encoder: { use: "gpu" } },
    { accounts: { a: nest }, encoder: { workers: 0 } },
    { accounts: { a: nest }, sinks: { s: { type: "local-folder" } } },
    { accounts: { a: nest }, sinks: { s: { type: "s3" } } },
    { accounts: { a: nest }, cameras: { c: { type: "snapshot", url: "ftp://x" } } },
  ];
  const options = { path: "/x.json", tables: configTables, env: () => "value" };
  for (const file of right) {
    ok(validate(file), JSON.stringify([file, validate.errors]));
    await parseConfig(JSON.stringify(file), options);
  }
  for (const file of wrong) {
    ok(!validate(file), JSON.stringify(file));
    await rejects(parseConfig(JSON.stringify(file), options), JSON.stringify(file));
  }
});

Deno.test("every key that a person may write has a description", () => {
  const bare: string[] = [];
  const look = (part: unknown, path: string) => {
    if (typeof part !== "object" || part === null) return;
    const { properties, additionalProperties, oneOf } = part as JsonSchema;
    for (const [key, child] of Object.entries(properties ?? {})) {
      const { description } = child as JsonSchema;
      if (!description) bare.push(`${path}${key}`);
      look(child, `${path}${key}.`);
    }
    look(additionalProperties, path);
    for (const choice of oneOf ?? []) look(choice, path);
  };
  look(schema, "");
  deepEqual(bare, []);
});

Deno.test("the schema names the draft that editors know", () => {
  equal(schema.$schema, "http://json-schema.org/draft-07/schema#");
});

for (const [path, text] of Object.entries(pages())) {
  Deno.test(`${path} is up to date with the schema`, async () => {
    const committed = await readFile(new URL(`../../${path}`, import.meta.url), "utf8");
    ok(committed === text, `${path} is behind the schema: run deno task docs`);
  });
}
