/**
 * Simulated cameras and clouds, for Camsink's own tests and demo and for whoever writes a plugin: a
 * moving scene whose every frame can be told apart after encoding, the Nest cloud, a snapshot
 * camera, and the Azurite blob emulator.
 *
 * @module
 */
export { createScene, type Scene, type SceneOptions } from "./scene/scene.ts";
export { cameraCode, readStrip, type Strip } from "./scene/strip.ts";
export {
  type NestCredentials,
  type NestEndpoints,
  type NestSimulator,
  type NestSimulatorOptions,
  startNestSimulator,
} from "./nest/simulator.ts";
export type { CameraState, NestCamera, NestCameraOptions, ServedCounts } from "./nest/camera.ts";
export type { PasswordLogin } from "./nest/cloud.ts";
export {
  type ActiveFault,
  type Fault,
  FAULT_HOSTS,
  FAULT_KINDS,
  type FaultHost,
  type Faults,
} from "./nest/faults.ts";
export type { ServerTls } from "./http_server.ts";
export {
  type SnapshotAuth,
  type SnapshotCamera,
  type SnapshotCameraOptions,
  type SnapshotCounts,
  startSnapshotCamera,
} from "./snapshot_camera.ts";
export { type Azurite, type AzuriteOptions, isAzuriteCached, startAzurite } from "./azurite.ts";
export {
  type FaultProxy,
  type ProxiedRequest,
  type ProxyFault,
  startFaultProxy,
} from "./fault_proxy.ts";
export { createLoopbackCertificate, type LoopbackCertificate } from "./certificate.ts";
export type { Clock } from "../core/types.ts";
