/**
 * Simulated cameras and clouds, for Camsink's own tests and demo and for whoever writes a plugin: a
 * moving scene whose every frame can be told apart after encoding, the Nest cloud, a snapshot
 * camera, and the Azurite blob emulator.
 *
 * @module
 */
export { createScene, type Scene, type SceneOptions } from "./scene/scene.ts";
export {
  adtsFrame,
  type CodedScene,
  type CodedSceneOptions,
  createCodedScene,
  type PlayOptions,
  type SceneAudioUnit,
  type SceneOrigin,
  type SceneUnit,
  type SceneVideoUnit,
} from "./scene/coded_scene.ts";
export { readMarkAac, readMarkNal, readMarkOpus, type SceneMark } from "./scene/scene_mark.ts";
export { cameraCode, readStrip, type Strip } from "./scene/strip.ts";
export {
  type NestCredentials,
  type NestEndpoints,
  type NestSimulator,
  type NestSimulatorOptions,
  startNestSimulator,
} from "./nest/simulator.ts";
export type {
  CameraState,
  LiveOptions,
  NestCamera,
  NestCameraOptions,
  ServedCounts,
} from "./nest/camera.ts";
export type { PasswordLogin } from "./nest/cloud.ts";
export {
  type ActiveFault,
  type Fault,
  FAULT_HOSTS,
  FAULT_KINDS,
  FAULT_MOMENTS,
  type FaultHost,
  type FaultMoment,
  type Faults,
} from "./nest/faults.ts";
export {
  type GoogleHomeSimulator,
  type GoogleHomeSimulatorOptions,
  type HomeCameraOptions,
  type HomeEvent,
  type HomeFault,
  startGoogleHomeSimulator,
} from "./google_home.ts";
export {
  type SdmEndpoints,
  type SdmSimulator,
  type SdmSimulatorOptions,
  startSdmSimulator,
} from "./sdm/simulator.ts";
export type { SdmCamera, SdmCameraOptions, SdmProtocol } from "./sdm/camera.ts";
export type { SdmCredentials } from "./sdm/oauth.ts";
export type { ServerTls } from "./http_server.ts";
export {
  type SnapshotAuth,
  type SnapshotCamera,
  type SnapshotCameraOptions,
  type SnapshotCounts,
  startSnapshotCamera,
} from "./snapshot_camera.ts";
export {
  type MjpegCamera,
  type MjpegCameraOptions,
  type MjpegFraming,
  type MjpegTrouble,
  startMjpegCamera,
} from "./mjpeg_camera.ts";
export { type OnvifDevice, type OnvifDeviceOptions, startOnvifDevice } from "./onvif_device.ts";
export {
  type RtspAuth,
  type RtspCamera,
  type RtspCameraCounts,
  type RtspCameraOptions,
  startRtspCamera,
} from "./rtsp_camera.ts";
export { type Azurite, type AzuriteOptions, isAzuriteCached, startAzurite } from "./azurite.ts";
export {
  type FaultProxy,
  type ProxiedRequest,
  type ProxyFault,
  startFaultProxy,
} from "./fault_proxy.ts";
export {
  startTcpFaultProxy,
  type TcpConnection,
  type TcpFault,
  type TcpFaultProxy,
} from "./tcp_fault_proxy.ts";
export {
  startTelegramBotApi,
  type TelegramBotApi,
  type TelegramBotApiOptions,
  type TelegramChat,
  type TelegramMessage,
} from "./telegram_bot_api.ts";
export { createLoopbackCertificate, type LoopbackCertificate } from "./certificate.ts";
export type { Clock } from "../core/types.ts";
