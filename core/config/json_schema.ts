/**
 * The published JSON Schema of the configuration file, made from the same schemas that validate it.
 * It is draft-07, the draft that editors support best, and tells what a person may write, so a
 * duration is a text with a pattern and not a number of milliseconds.
 *
 * @module
 */
import { type JsonSchema, toJsonSchema } from "@valibot/to-json-schema";
import * as v from "valibot";
import { configShape, type ConfigTables, entriesOf, isValibotSchema } from "./schema.ts";
import { choicesOf, markOf, unwrapped } from "./shape.ts";
import type { ConfigSchema } from "../types.ts";
import type { ValueMark } from "./values.ts";

/** A JSON Schema, or a part of one. */
export type { JsonSchema } from "@valibot/to-json-schema";

/** What editors are told about a marked text. */
const MARKS: Readonly<Record<ValueMark["camsink"], JsonSchema>> = {
  duration: {
    title: "duration",
    pattern: String.raw`^(\d+(\.\d+)?(ms|s|min|m|h|d))+$`,
    examples: ["60s", "5m", "1h30m"],
  },
  size: {
    title: "size",
    pattern: String.raw`^\d+(\.\d+)?\s?([kKMGT]i?B|B)$`,
    examples: ["500MB", "20GB", "512MiB"],
  },
  rate: {
    title: "rate",
    pattern: String.raw`^\d+(\.\d+)?\s?([kKMGT]i?B|B)/s$`,
    examples: ["500kB/s", "2MB/s"],
  },
  secret: { title: "secret", minLength: 1, examples: ["env:NAME", "file:/path/to/secret"] },
  path: { title: "path", minLength: 1 },
  url: { title: "URL", format: "uri", pattern: "^[Hh][Tt][Tt][Pp][Ss]?://" },
  // No format: passwords in such addresses are seldom encoded as a URI wants them.
  "rtsp-url": { title: "RTSP address", pattern: "^[Rr][Tt][Ss][Pp][Ss]?://" },
};

/** A schema's own description, or that of what it makes optional. */
function descriptionOf(schema: v.GenericSchema): string | undefined {
  const own = v.getDescription(schema);
  if (own !== undefined) return own;
  return "wrapped" in schema && isValibotSchema(schema.wrapped)
    ? descriptionOf(schema.wrapped)
    : undefined;
}

function isJsonSchema(value: unknown): value is JsonSchema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Adds what the library leaves out: it does not carry over what stands after a transformation, as
 * the description of every duration and secret does.
 */
function described(
  schema: unknown,
  json: JsonSchema["items"] | undefined,
  marks = false,
): JsonSchema {
  if (!isJsonSchema(json)) return {};
  if (!isValibotSchema(schema)) return json;
  const { camsink: _mark, ...result }: JsonSchema & { camsink?: unknown } = json;
  const inner = unwrapped(schema);
  const mark = result.type === "string" ? markOf(schema) : undefined;
  if (mark !== undefined) Object.assign(result, MARKS[mark], marks ? { format: mark } : {});
  const description = descriptionOf(schema);
  if (description) result.description = description;
  else delete result.description;
  const entries = entriesOf(inner);
  if (result.properties && entries) {
    result.properties = Object.fromEntries(
      Object.entries(result.properties).map((
        [key, part],
      ) => [key, described(entries[key], part, marks)]),
    );
  }
  if (isJsonSchema(result.additionalProperties) && "value" in inner) {
    result.additionalProperties = described(inner.value, result.additionalProperties, marks);
  }
  if (isJsonSchema(result.items) && "item" in inner) {
    result.items = described(inner.item, result.items, marks);
  }
  const choices = choicesOf(inner);
  const choice = (part: JsonSchema["items"], index: number) =>
    described(choices[index], part, marks);
  if (result.oneOf) result.oneOf = result.oneOf.map(choice);
  if (result.anyOf) result.anyOf = result.anyOf.map(choice);
  return result;
}

/** What a library can say of its schemas itself: https://standardschema.dev/json-schema. */
interface SaysJsonSchema {
  readonly jsonSchema?: {
    readonly input?: (options: { readonly target: "draft-07" }) => unknown;
  };
}

/**
 * The JSON Schema of a sink's options, with Camsink's own formats marked as such. Of a library that
 * cannot tell, it says no more than that an object is expected.
 */
export function optionsJsonSchema(
  schema: ConfigSchema<unknown>,
): Readonly<Record<string, unknown>> {
  let found: unknown;
  try {
    found = isValibotSchema(schema)
      ? described(
        schema,
        toJsonSchema(schema, { typeMode: "input", target: "draft-07", errorMode: "ignore" }),
        true,
      )
      : (schema["~standard"] as SaysJsonSchema).jsonSchema?.input?.({ target: "draft-07" });
  } catch {
    // A schema with parts that JSON Schema cannot say.
  }
  return isJsonSchema(found) ? { ...found } : { type: "object" };
}

/** The JSON Schema of the configuration file with these types. */
export function configJsonSchema(tables: ConfigTables): JsonSchema {
  const shape = configShape(tables);
  const schema = toJsonSchema(shape, {
    typeMode: "input",
    target: "draft-07",
    // What JSON Schema cannot say (checks across keys) is left to Camsink.
    errorMode: "ignore",
  });
  return {
    ...described(shape, schema),
    title: "Camsink configuration",
    // Comments and trailing commas, for editors that ask (VS Code does).
    ...{ allowComments: true, allowTrailingCommas: true },
  };
}

/** The same as the text of a file. */
export function configJsonSchemaText(tables: ConfigTables): string {
  return `${JSON.stringify(configJsonSchema(tables), null, 2)}\n`;
}
