/**
 * `camsink simulate`: made-up cameras on this machine, with the configuration that records them
 * printed to stdout, so that `camsink simulate nest > camsink.jsonc` is all there is to do.
 *
 * @module
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock, Log } from "../core/types.ts";
import type { NestCameraOptions } from "../simulators/nest/camera.ts";
import { startNestSimulator } from "../simulators/nest/simulator.ts";
import { startSdmSimulator } from "../simulators/sdm/simulator.ts";
import { startMjpegCamera } from "../simulators/mjpeg_camera.ts";
import { startRtspCamera } from "../simulators/rtsp_camera.ts";
import { type SnapshotAuth, startSnapshotCamera } from "../simulators/snapshot_camera.ts";

/** What both kinds have in common. */
interface SimulateOptions {
  /** 0 takes any free port, or several. */
  readonly port: number;
  /** The widest picture; 1280 by default. */
  readonly widthPx?: number;
  /** How often the picture changes, and is asked for in the printed configuration. */
  readonly fps?: number;
  /** Runs until this is aborted. */
  readonly signal: AbortSignal;
  readonly log: Log;
  /** Takes the configuration, for stdout. */
  readonly print: (text: string) => void;
  readonly clock?: Clock;
}

/** How a simulated cloud is started. */
export interface SimulateNestOptions extends SimulateOptions {
  /** How many cameras. */
  readonly cameras: number;
}

/** How a simulated snapshot camera is started. */
export interface SimulateCameraOptions extends SimulateOptions {
  readonly name: string;
  readonly auth?: SnapshotAuth["type"];
  /** `snapshot` by default. */
  readonly protocol?: "snapshot" | "mjpeg" | "rtsp";
}

const NAMES = [
  ...["Front door", "Garden", "Nursery", "Garage"],
  ...["Kitchen", "Yard", "Attic", "Hallway"],
];
/** Every third camera is served by another regional host: a client must ask where each one is. */
const REGIONS = ["us1", "us1", "eu1"];
/** The login of the printed configuration: whoever can reach this machine's loopback may know it. */
const OWNER = { username: "camsink", password: "simulated" };

/** `count` cameras with names, regions and pictures of their own. */
export function madeUpCameras(
  count: number,
  options: { readonly widthPx?: number; readonly fps?: number } = {},
): NestCameraOptions[] {
  const { widthPx = 1280, fps } = options;
  const heightPx = Math.round(widthPx * 9 / 32) * 2;
  return Array.from({ length: count }, (_, index) => {
    const round = Math.floor(index / NAMES.length);
    const name = NAMES[index % NAMES.length] ?? "Camera";
    return {
      name: round === 0 ? name : `${name} ${round + 1}`,
      region: REGIONS[index % REGIONS.length],
      widthPx,
      heightPx,
      fps,
    };
  });
}

/** Serves a Nest cloud until `signal` is aborted. */
export async function simulateNest(options: SimulateNestOptions): Promise<void> {
  const { widthPx = 1280, fps, signal, log } = options;
  // Every other camera has a live stream with sound, the first one too.
  await using cloud = await startNestSimulator({
    cameras: madeUpCameras(options.cameras, { widthPx, fps }).map((camera, index) =>
      index % 2 === 0 ? { ...camera, live: {} } : camera
    ),
    port: options.port,
    clock: options.clock,
    signal,
  });
  // Live streams are always TLS: whoever records them must know the authority of these.
  const folder = await mkdtemp(join(tmpdir(), "camsink-simulated-"));
  await using _folder = {
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
  const ca = join(folder, "ca.pem");
  await writeFile(ca, cloud.caPem ?? "");
  const account = {
    type: "nest",
    accessToken: cloud.credentials.accessToken,
    cameras: "all",
    ca,
    width: widthPx,
    fps: fps ?? 2,
    endpoints: cloud.endpoints,
  };
  options.print(configuration({ accounts: { simulated: account } }, [
    "Records the simulated Nest cloud. Its token is no secret; a real one goes by reference:",
    '"accessToken": "env:NEST_TOKEN". As a Google account the same cloud takes',
    `"issueToken": ${JSON.stringify(cloud.credentials.issueToken)},`,
    `"cookie": ${JSON.stringify(cloud.credentials.cookie)}`,
  ]));
  log.info(`A Nest cloud with ${options.cameras} cameras is being simulated until Ctrl-C`);
  log.info(
    `What it shall do wrong is told to ${cloud.controlUrl}, for example: curl -d ` +
      `'{"do": "fault", "kind": "slow", "ms": 3000, "camera": "${cloud.cameras[0]?.name}"}' ` +
      cloud.controlUrl,
  );
  await aborted(signal);
}

/** Serves a Device Access project until `signal` is aborted. */
export async function simulateSdm(options: SimulateNestOptions): Promise<void> {
  const { widthPx = 640, signal, log } = options;
  await using cloud = await startSdmSimulator({
    cameras: madeUpCameras(options.cameras, { widthPx }).map(({ name, heightPx }, index) => ({
      customName: name,
      widthPx,
      ...(heightPx === undefined ? {} : { heightPx }),
      // One of each kind, and again: WebRTC, RTSP, a doorbell on a battery.
      ...(index % 3 === 1 ? { protocol: "RTSP" as const } : {}),
      ...(index % 3 === 2 ? { type: "DOORBELL" as const, battery: true } : {}),
    })),
    port: options.port,
    ...(options.clock === undefined ? {} : { clock: options.clock }),
    signal,
  });
  // What the cameras see is encoded first: nobody is to wait for it while a stream is opened.
  for (const camera of cloud.cameras) await cloud.media.scene(camera);
  const { projectId, clientId, clientSecret, refreshToken } = cloud.credentials;
  const account = {
    type: "google-sdm",
    ...{ projectId, clientId, clientSecret, refreshToken },
    subscription: cloud.subscription,
    cameras: "all",
    endpoints: cloud.endpoints,
  };
  options.print(configuration({ accounts: { simulated: account } }, [
    "Records the simulated Device Access project. Its secrets are none; real ones go by reference:",
    '"clientSecret": "env:GOOGLE_CLIENT_SECRET", "refreshToken": "env:GOOGLE_REFRESH_TOKEN".',
  ]));
  log.info(
    `Device Access with ${options.cameras} cameras is being simulated until Ctrl-C, with Google's quotas`,
  );
  log.info(
    `What it shall do wrong is told to ${cloud.controlUrl}, for example: curl -d ` +
      `'{"do": "packets", "name": "${cloud.cameras[0]?.name}", "lossPercent": 5}' ` +
      cloud.controlUrl,
  );
  await aborted(signal);
}

/** Serves one camera until `signal` is aborted. */
export async function simulateCamera(options: SimulateCameraOptions): Promise<void> {
  if (options.protocol === "rtsp") return await simulateRtspCamera(options);
  if (options.protocol === "mjpeg") return await simulateMjpegCamera(options);
  const { name, widthPx = 1280, fps, auth = "none", signal, log } = options;
  await using camera = await startSnapshotCamera({
    name,
    widthPx,
    heightPx: Math.round(widthPx * 9 / 32) * 2,
    port: options.port,
    fps,
    etag: true,
    auth: auth === "none" ? { type: "none" } : { type: auth, ...OWNER },
    clock: options.clock,
    signal,
  });
  const source = {
    type: "snapshot",
    url: camera.url,
    fps: fps ?? 5,
    ...(auth === "none" ? {} : OWNER),
  };
  options.print(configuration({ cameras: { [name]: source } }, ["Records the simulated camera."]));
  log.info(`The camera ${JSON.stringify(name)} is being simulated until Ctrl-C: ${camera.url}`);
  await aborted(signal);
}

async function simulateMjpegCamera(options: SimulateCameraOptions): Promise<void> {
  const { name, widthPx = 1280, fps = 10, auth = "none", port, clock, signal, log } = options;
  await using camera = await startMjpegCamera({
    ...{ name, widthPx, heightPx: Math.round(widthPx * 9 / 32) * 2, fps, port, clock, signal },
    auth: auth === "none" ? { type: "none" } : { type: auth, ...OWNER },
  });
  const source = { type: "mjpeg", url: camera.url, ...(auth === "none" ? {} : OWNER) };
  options.print(configuration({ cameras: { [name]: source } }, ["Records the simulated camera."]));
  log.info(`The camera ${JSON.stringify(name)} is being simulated until Ctrl-C: ${camera.url}`);
  await aborted(signal);
}

async function simulateRtspCamera(options: SimulateCameraOptions): Promise<void> {
  const { name, widthPx = 1280, fps = 15, auth = "none", port, clock, signal, log } = options;
  log.info("The picture is being encoded; that takes some seconds");
  await using camera = await startRtspCamera({
    ...{ name, widthPx, heightPx: Math.round(widthPx * 9 / 32) * 2, fps, port, clock, signal },
    audio: { codec: "aac" },
    auth: auth === "none" ? { type: "none" } : { type: auth, ...OWNER },
  });
  const source = { type: "rtsp", url: camera.url, ...(auth === "none" ? {} : OWNER) };
  options.print(configuration({ cameras: { [name]: source } }, ["Records the simulated camera."]));
  log.info(`The camera ${JSON.stringify(name)} is being simulated until Ctrl-C: ${camera.url}`);
  await aborted(signal);
}

/** A whole configuration file that records these into a folder. */
function configuration(what: object, notes: readonly string[]): string {
  const value = {
    ...what,
    clip: { length: "60s" },
    spool: { path: "./spool" },
    sinks: { local: { type: "local-folder", path: "./clips" } },
  };
  return [...notes.map((note) => `// ${note}`), JSON.stringify(value, null, 2)].join("\n");
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
