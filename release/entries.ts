/**
 * The modules that a release needs as files of their own: what is started, loaded by path with
 * `programFile`, or imported by plugins. Everything else goes into what these share.
 *
 * @module
 */

/** From the root of the tree. */
export const ENTRIES: readonly string[] = [
  "cli.ts",
  // What a plugin gets for `import … from "camsink"`.
  "mod.ts",
  "core/encode/ffmpeg_wasm_worker.ts",
  // The demo's and the simulators' live pictures, where the system has no ffmpeg.
  "simulators/scene/scene_encoder_worker.ts",
  // The process around a plugin, the worker within, and what a plugin gets for "valibot".
  "core/plugins/child.ts",
  "core/plugins/worker.ts",
  "core/plugins/valibot.ts",
];
