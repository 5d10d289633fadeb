/**
 * Writes what is made from the schema: `docs/configuration.md` and the published JSON Schema. Run it
 * by `deno task docs` after a change of any option; a test fails while the page is behind.
 *
 * @module
 */
import { writeFile } from "node:fs/promises";
import { configJsonSchemaText } from "../core/config/json_schema.ts";
import { configReference } from "../core/config/reference.ts";
import { configTables } from "./rooms.ts";

/** The pages by their path from the root of the project. */
export function pages(): Readonly<Record<string, string>> {
  return {
    "docs/configuration.md": configReference(configTables),
    "docs/camsink.schema.json": configJsonSchemaText(configTables),
  };
}

if (import.meta.main) {
  for (const [path, text] of Object.entries(pages())) {
    await writeFile(new URL(`../${path}`, import.meta.url), text);
  }
}
