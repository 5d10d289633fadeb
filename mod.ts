/**
 * Camsink as a library: what a sink plugin is made of.
 *
 * @module
 */
export * from "./core/types.ts";
import type { SinkPlugin } from "./core/types.ts";

/** Declares a kind of sink; the types of its options come from its schema. */
export function defineSink<Config>(plugin: Omit<SinkPlugin<Config>, "api">): SinkPlugin<Config> {
  return { api: 1, ...plugin };
}
