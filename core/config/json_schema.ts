/**
 * The published JSON Schema of the configuration file, made from the same schemas that validate it.
 * It is draft-07, the draft that editors support best, and tells what a person may write, so a
 * duration is a text with a pattern and not a number of milliseconds.
 *
 * @module
 */
import { type JsonSchema, toJsonSchema } from "@valibot/to-json-schema";
import * as v from "valibot";
import { configShape, type ConfigTables } from "./schema.ts";
import { markOf } from "./shape.ts";
import type { ValueMark } from "./values.ts";

/** A JSON Schema, or a part of one. */
export type { JsonSchema } from "@valibot/to-json-schema";

/** What editors are told about a marked text. */
const MARKS: Readonly<Record<ValueMark["camsink"], JsonSchema>> = {
  duration: {
    pattern: String.raw`^(\d+(\.\d+)?(ms|s|min|m|h|d))+$`,
    examples: ["60s", "5m", "1h30m"],
  },
  size: {
    pattern: String.raw`^\d+(\.\d+)?\s?([kKMGT]i?B|B)$`,
    examples: ["500MB", "20GB", "512MiB"],
  },
  secret: { minLength: 1, examples: ["env:NAME", "file:/path/to/secret"] },
  path: { minLength: 1 },
  url: { pattern: "^[Hh][Tt][Tt][Pp][Ss]?://" },
};

/** The JSON Schema of the configuration file with these types. */
export function configJsonSchema(tables: ConfigTables): JsonSchema {
  const schema = toJsonSchema(configShape(tables), {
    typeMode: "input",
    target: "draft-07",
    // What JSON Schema cannot say (checks across keys) is left to Camsink.
    errorMode: "ignore",
    overrideSchema: ({ valibotSchema, jsonSchema }) => {
      if (valibotSchema.kind !== "schema" || valibotSchema.async) return undefined;
      // Descriptions that stand after a transformation are not carried over by themselves.
      const description = v.getDescription(valibotSchema);
      const mark = jsonSchema.type === "string" ? markOf(valibotSchema) : undefined;
      return {
        ...jsonSchema,
        ...(mark === undefined ? {} : MARKS[mark]),
        ...(description ? { description } : {}),
      };
    },
  });
  return {
    ...schema,
    title: "Camsink configuration",
    // Comments and trailing commas, for editors that ask (VS Code does).
    ...{ allowComments: true, allowTrailingCommas: true },
  };
}

/** The same as the text of a file. */
export function configJsonSchemaText(tables: ConfigTables): string {
  return `${JSON.stringify(configJsonSchema(tables), null, 2)}\n`;
}
