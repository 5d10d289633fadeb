/**
 * Plain JSON Schema as a validator: for authors of plugins who want no library, and for the program,
 * which keeps the schema of each approved plugin as JSON and checks a configuration with it without
 * running the plugin. It becomes a valibot schema, so messages, marks and the published schema are
 * those of all other options.
 *
 * The part of JSON Schema that options need is understood: `type`, `enum`, `const`, `properties`,
 * `required`, `additionalProperties`, `items`, `anyOf`/`oneOf`, `default`, `description`, lengths,
 * ranges and `pattern`. The `format`s `secret`, `path`, `duration`, `size`, `rate` and `uri` are those
 * of Camsink: they mean the values of {@link ./values.ts}. Any other keyword is refused by name rather
 * than passed over, since a check that is not made is worse than none.
 *
 * @module
 */
import * as v from "valibot";
import type { JsonConfigSchema } from "../types.ts";
import { duration, filePath, httpUrl, rate, secret, size } from "./values.ts";

const KEYWORDS = new Set([
  ...["type", "enum", "const", "properties", "required", "additionalProperties", "items"],
  ...["anyOf", "oneOf", "default", "title", "description", "examples", "format", "pattern"],
  ...["minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems"],
  ...["$schema", "$id", "$comment", "deprecated"],
]);

/** The texts with a meaning of their own. */
const FORMATS: Readonly<Record<string, () => v.GenericSchema>> = {
  secret,
  path: filePath,
  duration: () => duration(),
  size,
  rate,
  uri: httpUrl,
  url: httpUrl,
};

/**
 * The validator for a JSON Schema.
 *
 * @param at where the schema stands, for messages
 * @throws TypeError that names a keyword or a form that is not understood
 */
export function plainSchema(schema: unknown, at = "config"): v.GenericSchema {
  if (!isObject(schema)) throw new TypeError(`${at}: expected a JSON Schema, got ${typeof schema}`);
  for (const keyword of Object.keys(schema)) {
    if (KEYWORDS.has(keyword)) continue;
    throw new TypeError(
      `${at}: the JSON Schema keyword "${keyword}" is not understood; expected one of ` +
        `${
          [...KEYWORDS].slice(0, 18).join(", ")
        }; for more, declare the options with valibot, zod ` +
        "or another Standard Schema library",
    );
  }
  const { description } = schema;
  const core = bare(schema, at);
  const inner = typeof description === "string" ? v.pipe(core, v.description(description)) : core;
  return "default" in schema ? v.optional(inner, schema.default as never) : inner;
}

const TYPES = new Set(["object", "array", "boolean", "null", "number", "integer", "string"]);

/**
 * The same schema with only the keywords that are understood: a plugin's own validator makes the
 * checks that this leaves out.
 */
export function understoodSchema(schema: unknown): Readonly<Record<string, unknown>> {
  if (!isObject(schema)) return {};
  const kept = Object.entries(schema).filter(([keyword]) => KEYWORDS.has(keyword));
  const result: Record<string, unknown> = Object.fromEntries(kept);
  if (![result.type].flat().every((type) => TYPES.has(String(type)))) delete result.type;
  if (isObject(result.properties)) {
    result.properties = Object.fromEntries(
      Object.entries(result.properties).map(([key, part]) => [key, understoodPart(part)]),
    );
  }
  for (const key of ["items", "additionalProperties"]) result[key] &&= understoodPart(result[key]);
  for (const key of ["anyOf", "oneOf"]) {
    if (Array.isArray(result[key])) result[key] = result[key].map(understoodSchema);
  }
  try {
    new RegExp(String(result.pattern ?? ""), "u");
  } catch {
    delete result.pattern;
  }
  return result;
}

/** What stands where a schema may stand, or something else (`additionalProperties: false`). */
function understoodPart(part: unknown): unknown {
  return isObject(part) ? understoodSchema(part) : part;
}

/** Whether this is a JSON Schema and not a Standard Schema. */
export function isJsonConfigSchema(schema: unknown): schema is JsonConfigSchema {
  return isObject(schema) && !("~standard" in schema);
}

function bare(schema: Readonly<Record<string, unknown>>, at: string): v.GenericSchema {
  const { type, enum: choices, format } = schema;
  if (Array.isArray(choices)) return oneOf(choices);
  if ("const" in schema) return oneOf([schema.const]);
  const variants = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(variants)) {
    const key = schema.anyOf === undefined ? "oneOf" : "anyOf";
    return v.union(variants.map((one, index) => plainSchema(one, `${at}.${key}[${index}]`)));
  }
  if (Array.isArray(type)) {
    return v.union(type.map((one) => bare({ ...schema, type: one }, at)));
  }
  switch (type) {
    case "object":
      return objectSchema(schema, at);
    case "array":
      return arraySchema(schema, at);
    case "boolean":
      return v.boolean("expected true or false");
    case "null":
      return v.null("expected null");
    case "number":
    case "integer":
      return numberSchema(schema, type);
    case "string":
      return typeof format === "string" && Object.hasOwn(FORMATS, format)
        ? FORMATS[format]?.() ?? v.string()
        : stringSchema(schema, at);
    case undefined:
      return v.unknown();
  }
  throw new TypeError(`${at}.type: ${JSON.stringify(type)} is not a type of JSON Schema`);
}

function oneOf(choices: readonly unknown[]): v.GenericSchema {
  const known = choices.map((choice) => JSON.stringify(choice)).join(", ");
  const message = `expected ${choices.length > 1 ? "one of " : ""}${known}`;
  if (choices.every((choice) => typeof choice === "string")) return v.picklist(choices, message);
  return v.pipe(v.unknown(), v.check((value) => choices.includes(value), message));
}

function objectSchema(schema: Readonly<Record<string, unknown>>, at: string): v.GenericSchema {
  const { properties, required, additionalProperties } = schema;
  const isRequired = new Set(Array.isArray(required) ? required : []);
  const fields = Object.entries(isObject(properties) ? properties : {}).map(([key, part]) => {
    const field = plainSchema(part, `${at}.properties.${key}`);
    const isOptional = !isRequired.has(key) && field.type !== "optional";
    return [key, isOptional ? v.optional(field) : field] as const;
  });
  const entries = Object.fromEntries(fields);
  if (isObject(additionalProperties)) {
    const rest = plainSchema(additionalProperties, `${at}.additionalProperties`);
    return fields.length === 0
      ? v.record(v.string(), rest, "expected an object")
      : v.objectWithRest(entries, rest, "expected an object");
  }
  if (additionalProperties === true || properties === undefined) {
    return v.looseObject(entries, "expected an object");
  }
  return v.strictObject(entries, "expected an object");
}

function arraySchema(schema: Readonly<Record<string, unknown>>, at: string): v.GenericSchema {
  const { items, minItems: least, maxItems: most } = schema;
  const item = items === undefined ? v.unknown() : plainSchema(items, `${at}.items`);
  const message = `expected ${between(least, most)} entries`;
  return checked<unknown[]>(v.array(item, "expected a list"), [
    typeof least === "number" && v.minLength(least, message),
    typeof most === "number" && v.maxLength(most, message),
  ]);
}

function numberSchema(
  { minimum: least, maximum: most }: Readonly<Record<string, unknown>>,
  type: "number" | "integer",
): v.GenericSchema {
  const limits = least === undefined && most === undefined ? "" : ` ${between(least, most)}`;
  const message = `expected a ${type === "integer" ? "whole " : ""}number${limits}`;
  return checked<number>(v.number(message), [
    type === "integer" && v.integer(message),
    typeof least === "number" && v.minValue(least, message),
    typeof most === "number" && v.maxValue(most, message),
  ]);
}

function stringSchema(schema: Readonly<Record<string, unknown>>, at: string): v.GenericSchema {
  const { pattern, minLength: least, maxLength: most } = schema;
  const message = least === 1 && most === undefined
    ? "expected a text that is not empty"
    : `expected ${between(least, most)} characters`;
  let regExp: RegExp | undefined;
  try {
    regExp = typeof pattern === "string" ? new RegExp(pattern, "u") : undefined;
  } catch (cause) {
    throw new TypeError(`${at}.pattern: ${pattern} is not a regular expression`, { cause });
  }
  return checked<string>(v.string("expected a text"), [
    typeof least === "number" && v.minLength(least, message),
    typeof most === "number" && v.maxLength(most, message),
    regExp !== undefined && v.regex(regExp, `expected a text that matches ${pattern}`),
  ]);
}

/** The schema with those of the checks that there are. */
function checked<Value>(
  schema: v.GenericSchema<Value>,
  checks: readonly (false | v.GenericValidation<Value>)[],
): v.GenericSchema {
  return checks.reduce(
    (made: v.GenericSchema<Value>, check) => check === false ? made : v.pipe(made, check),
    schema,
  );
}

function between(least: unknown, most: unknown): string {
  if (most === undefined) return `at least ${least}`;
  return least === undefined ? `at most ${most}` : `${least} to ${most}`;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
