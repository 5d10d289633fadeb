/**
 * Reads a file beside its shape: which schema stands behind each value, which values are secrets or
 * paths, which keys nobody knows. Works on the plain structure made by `configShape`; it validates
 * nothing, so it also works on files that are wrong.
 *
 * @module
 */
import * as v from "valibot";
import { entriesOf, isValibotSchema } from "./schema.ts";
import type { ValueMark } from "./values.ts";

/** Keys and indices from the top of the file. */
export type Path = readonly (string | number)[];

/** One value of the file with what is known about it. */
export interface Place {
  readonly path: Path;
  readonly value: unknown;
  /** The schema that stands behind it; none for an unknown key or an unknown type. */
  readonly schema?: v.GenericSchema;
  readonly mark?: ValueMark["camsink"];
  /** Set for a key that its object does not have: the keys that it has. */
  readonly knownKeys?: readonly string[];
}

/** The schema behind `optional` and the like. */
export function unwrapped(schema: v.GenericSchema): v.GenericSchema {
  return "wrapped" in schema && isValibotSchema(schema.wrapped)
    ? unwrapped(schema.wrapped)
    : schema;
}

/** What kind of text the schema stands for, if it says so. */
export function markOf(schema: v.GenericSchema): ValueMark["camsink"] | undefined {
  const { camsink } = v.getMetadata(schema) as { camsink?: ValueMark["camsink"] };
  if (camsink !== undefined) return camsink;
  return "wrapped" in schema && isValibotSchema(schema.wrapped)
    ? markOf(schema.wrapped)
    : undefined;
}

/** The schemas that a union or variant chooses from. */
export function choicesOf(schema: v.GenericSchema): readonly v.GenericSchema[] {
  return "options" in schema && Array.isArray(schema.options)
    ? schema.options.filter(isValibotSchema)
    : [];
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The one that fits the value best: by `type` in a variant, by kind of value in a union. */
function chosen(choices: readonly v.GenericSchema[], value: unknown): v.GenericSchema | undefined {
  if (isObject(value) && Object.hasOwn(value, "type")) {
    const byType = choices.find((choice) => {
      const type = entriesOf(choice)?.type;
      return type !== undefined && v.is(type, value.type);
    });
    if (byType !== undefined) return byType;
    if (choices.some((choice) => entriesOf(choice)?.type !== undefined)) return undefined;
  }
  const kinds = isObject(value)
    ? ["strict_object", "object", "loose_object", "record"]
    : Array.isArray(value)
    ? ["array", "tuple"]
    : [typeof value];
  return choices.find((choice) => v.is(choice, value)) ??
    choices.find((choice) => kinds.includes(unwrapped(choice).type));
}

/** Every value of the file, from the top down. */
export function* placesOf(
  schema: v.GenericSchema,
  value: unknown,
  path: Path = [],
): Generator<Place> {
  const mark = markOf(schema);
  yield { path, value, schema, ...(mark === undefined ? {} : { mark }) };
  const inner = unwrapped(schema);
  const choices = choicesOf(inner);
  if (inner.type === "picklist" || inner.type === "enum") return;
  if (choices.length > 0) {
    const choice = chosen(choices, value);
    if (choice !== undefined) {
      // The place itself was given above; what is inside it comes from the choice.
      let first = true;
      for (const place of placesOf(choice, value, path)) {
        if (!first || place.mark !== undefined) yield place;
        first = false;
      }
    }
    return;
  }
  if (Array.isArray(value)) {
    if (!("item" in inner) || !isValibotSchema(inner.item)) return;
    for (const [index, item] of value.entries()) {
      yield* placesOf(inner.item, item, [...path, index]);
    }
    return;
  }
  if (!isObject(value)) return;
  const entries = entriesOf(inner);
  for (const [key, child] of Object.entries(value)) {
    const field = entries !== undefined && Object.hasOwn(entries, key)
      ? entries[key]
      : "value" in inner && isValibotSchema(inner.value)
      ? inner.value
      : undefined;
    if (field !== undefined) yield* placesOf(field, child, [...path, key]);
    else if (inner.type === "strict_object") {
      yield { path: [...path, key], value: child, knownKeys: Object.keys(entries ?? {}) };
    }
  }
}

/**
 * The schema that stands behind a path, also where the file has nothing there, and the objects on
 * the way are chosen by what the file has.
 */
export function schemaAt(
  schema: v.GenericSchema,
  value: unknown,
  path: Path,
): v.GenericSchema | undefined {
  const [key, ...rest] = path;
  if (key === undefined) return schema;
  const inner = unwrapped(schema);
  const choices = choicesOf(inner);
  if (choices.length > 0) {
    const choice = chosen(choices, value);
    return choice === undefined ? undefined : schemaAt(choice, value, path);
  }
  const child = isObject(value)
    ? value[String(key)]
    : Array.isArray(value)
    ? value[Number(key)]
    : undefined;
  const entries = entriesOf(inner);
  const field = entries?.[String(key)] ?? ("value" in inner ? inner.value : undefined) ??
    ("item" in inner ? inner.item : undefined);
  return isValibotSchema(field) ? schemaAt(field, child, rest) : undefined;
}

/** A copy of the file with one value replaced. */
export function replaced(value: unknown, path: Path, by: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return by;
  if (Array.isArray(value)) {
    return value.map((item, index) => index === key ? replaced(item, rest, by) : item);
  }
  if (!isObject(value)) return value;
  return { ...value, [key]: replaced(value[String(key)], rest, by) };
}

/** `sinks.azure.container`, `cameras["front door"].url`, `accounts.home.cameras[2]`. */
export function formatPath(path: Path): string {
  return path.map((key, index) =>
    typeof key === "number"
      ? `[${key}]`
      : /^[A-Za-z_$][\w$-]*$/.test(key)
      ? `${index === 0 ? "" : "."}${key}`
      : `[${JSON.stringify(key)}]`
  ).join("");
}
