/**
 * What a plugin in a release gets for `import * as v from "valibot"`: the library that is bundled
 * already, so that nothing has to be fetched. An entry of its own; in a clone the package is used.
 *
 * @module
 */
export * from "valibot";
