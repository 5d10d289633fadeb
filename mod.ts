/**
 * Camsink as a library: what a sink plugin is made of. `docs/plugins.md` tells how to write one.
 *
 * @module
 */
import { isJsonConfigSchema, plainSchema } from "./core/config/plain_schema.ts";
import type { ConfigSchema, JsonConfigSchema, Secret, SinkPlugin } from "./core/types.ts";

export * from "./core/types.ts";
export * from "./core/authoring.ts";
export type * from "./kit/contract.ts";
export {
  duration,
  filePath,
  formatBytes,
  formatDuration,
  httpUrl,
  makeSecret,
  rate,
  secret,
  size,
} from "./core/config/values.ts";
export { isPublicHost } from "./core/sources/hosts.ts";
export type { TextIssue, TextIssuePlace, TextSchema } from "./core/config/values.ts";

/** The version of the contract between Camsink and its sinks that this program speaks. */
export const SINK_API = 1;

/** A value of one of Camsink's own formats in a {@linkcode JsonConfigSchema}. */
export type JsonFormatValue<Format> = Format extends "secret" ? Secret
  : Format extends "duration" | "size" | "rate" ? number
  : string;

/** The type of the values that a JSON Schema describes. */
export type FromJsonSchema<Schema> = Schema extends { readonly const: infer Value } ? Value
  : Schema extends { readonly enum: readonly (infer Value)[] } ? Value
  : Schema extends { readonly type: "string"; readonly format: infer Format }
    ? JsonFormatValue<Format>
  : Schema extends { readonly type: "string" } ? string
  : Schema extends { readonly type: "number" | "integer" } ? number
  : Schema extends { readonly type: "boolean" } ? boolean
  : Schema extends { readonly type: "array"; readonly items: infer Item }
    ? readonly FromJsonSchema<Item>[]
  : Schema extends { readonly type: "object"; readonly properties: infer Properties }
    ? FromJsonProperties<Properties, Schema>
  : unknown;

/** The type of an object of a JSON Schema: what is required or has a default is always there. */
export type FromJsonProperties<Properties, Schema> =
  & {
    readonly [
      Key in keyof Properties as Key extends AlwaysThere<Properties, Schema> ? Key : never
    ]: FromJsonSchema<Properties[Key]>;
  }
  & {
    readonly [
      Key in keyof Properties as Key extends AlwaysThere<Properties, Schema> ? never : Key
    ]?: FromJsonSchema<Properties[Key]>;
  };

/** The keys of an object of a JSON Schema that have a value whatever the user wrote. */
export type AlwaysThere<Properties, Schema> =
  | (Schema extends { readonly required: readonly (infer Key)[] } ? Key : never)
  | {
    [Key in keyof Properties]: Properties[Key] extends { readonly default: unknown } ? Key : never;
  }[keyof Properties];

/** What an author declares: everything of a {@linkcode SinkPlugin} but the version of the contract. */
export type SinkDeclaration<Config, Schema> = Omit<SinkPlugin<Config>, "api" | "config"> & {
  /** Its options. */
  readonly config: Schema;
};

/**
 * Declares a kind of sink; the types of its options come from its schema, which is one of any
 * Standard Schema library (valibot, zod, arktype …) or a plain JSON Schema.
 *
 * @throws TypeError if a JSON Schema has a keyword that is not understood
 */
export function defineSink<Config>(
  plugin: SinkDeclaration<Config, ConfigSchema<Config>>,
): SinkPlugin<Config>;
/** The same with a plain JSON Schema. */
export function defineSink<const Schema extends JsonConfigSchema>(
  plugin: SinkDeclaration<FromJsonSchema<Schema>, Schema>,
): SinkPlugin<FromJsonSchema<Schema>>;
export function defineSink(
  plugin: SinkDeclaration<unknown, ConfigSchema<unknown> | JsonConfigSchema>,
): SinkPlugin<unknown> {
  const { config } = plugin;
  return {
    api: SINK_API,
    ...plugin,
    config: isJsonConfigSchema(config) ? plainSchema(config) : config as ConfigSchema<unknown>,
  };
}
