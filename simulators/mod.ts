/**
 * Simulated cameras and clouds, for Camsink's own tests and demo and for whoever writes a plugin: a
 * moving scene whose every frame can be told apart after encoding, the Nest cloud, a snapshot
 * camera, and the Azurite blob emulator.
 *
 * @module
 */
export { createScene, type Scene, type SceneOptions } from "./scene/scene.ts";
export { cameraCode, readStrip, type Strip } from "./scene/strip.ts";
