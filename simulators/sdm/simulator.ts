/**
 * The simulated Device Access project: Google's OAuth, the device API with its quotas, streams that
 * expire, WebRTC and RTSP cameras, Pub/Sub events, pictures and previews; all on one port of loopback,
 * since the paths of the real hosts differ. A client is pointed at it with
 * {@linkcode SdmEndpoints}.
 *
 * A refused request carries the header `x-simulator-reason`, which says what it lacked.
 *
 * @module
 */
import { systemClock } from "../../core/clock.ts";
import type { Clock } from "../../core/types.ts";
import {
  type Answer,
  type Asked,
  asRecord,
  json,
  listenOnLoopback,
  type LoopbackServer,
} from "../http_server.ts";
import { createFaults, type FaultHost, type Faults } from "../nest/faults.ts";
import { createScene, type Scene } from "../scene/scene.ts";
import { SdmCamera, type SdmCameraOptions, type SdmMedia } from "./camera.ts";
import { answerSdmControl } from "./control.ts";
import { createSdmEvents, type SdmEvents } from "./events.ts";
import { googleError, googleErrorOf } from "./google_error.ts";
import { createSdmMedia, type SdmMediaDesk } from "./media.ts";
import { createOAuth, type OAuth, type SdmCredentials } from "./oauth.ts";
import { createQuotaDesk, type QuotaPeaks } from "./quota.ts";

/** What a simulated project is made from. */
export interface SdmSimulatorOptions {
  readonly cameras: readonly SdmCameraOptions[];
  /** 0, the default, takes any free port. */
  readonly port?: number;
  /** The machine's own clocks by default. */
  readonly clock?: Clock;
  /** Gives numbers in [0, 1); makes tokens and bad luck. */
  readonly random?: () => number;
  /** Life of an access token; an hour by default. */
  readonly tokenLifeMs?: number;
  /** How long a stream lives unless it is extended; five minutes by default. */
  readonly streamLifeMs?: number;
  /** `false` counts what the quotas would refuse, and refuses nothing. */
  readonly quotas?: boolean;
  /** In place of real media, for simulated days. */
  readonly media?: SdmMedia;
  /** Where the scene of the cameras is kept once it is encoded. */
  readonly cacheFolder?: string;
  /** Closes the simulator. */
  readonly signal?: AbortSignal;
}

/** Base URLs by the names of the account option `endpoints`. */
export interface SdmEndpoints {
  /** In place of `https://nestservices.google.com`. */
  readonly consent: string;
  /** In place of `https://oauth2.googleapis.com`. */
  readonly oauth: string;
  /** In place of `https://smartdevicemanagement.googleapis.com`. */
  readonly sdm: string;
  /** In place of `https://pubsub.googleapis.com`. */
  readonly pubsub: string;
}

/** A running project. */
export interface SdmSimulator extends AsyncDisposable {
  readonly endpoints: SdmEndpoints;
  readonly credentials: SdmCredentials;
  /** `projects/…/subscriptions/…`. */
  readonly subscription: string;
  readonly controlUrl: string;
  readonly cameras: readonly SdmCamera[];
  readonly faults: Faults;
  readonly events: SdmEvents;
  readonly oauth: OAuth;
  /** What was used of the quotas. */
  readonly peaks: QuotaPeaks;
  /** How often each route was asked: `"sdm POST GenerateRtspStream"` → 2. */
  readonly requests: ReadonlyMap<string, number>;
  /** The packets of a WebRTC camera, and what goes wrong with them; real media only. */
  readonly media: SdmMediaDesk;
  /** The network without sockets: answers what a request to the endpoints would get. */
  readonly fetch: typeof fetch;
  /** The camera of this name or id. @throws if there is none */
  camera(nameOrId: string): SdmCamera;
  addCamera(options: SdmCameraOptions): SdmCamera;
  removeCamera(nameOrId: string): void;
  close(): Promise<void>;
}

/** Starts a simulated project; it runs until `close`, or until `signal` is aborted. */
export async function startSdmSimulator(options: SdmSimulatorOptions): Promise<SdmSimulator> {
  options.signal?.throwIfAborted();
  const clock = options.clock ?? systemClock;
  const random = options.random ?? Math.random;
  const text = (length: number) =>
    Array.from({ length }, () => Math.floor(random() * 36).toString(36)).join("");
  const credentials: SdmCredentials = {
    projectId: [8, 4, 4, 4, 12].map(text).join("-"),
    clientId: `${Math.floor(random() * 1e12)}-${text(20)}.apps.googleusercontent.com`,
    clientSecret: `GOCSPX-${text(28)}`,
    refreshToken: `1//0${text(90)}`,
  };
  const subscription = `projects/simulated-${text(6)}/subscriptions/camsink`;
  const oauth = createOAuth({
    clock,
    random,
    credentials,
    lifeMs: options.tokenLifeMs ?? 3_600_000,
  });
  const quota = createQuotaDesk({ clock, enforced: options.quotas ?? true });
  const faults = createFaults(clock);
  const requests = new Map<string, number>();
  const cameras = new Map<string, SdmCamera>();
  const desk = createSdmMedia({ clock, random, cacheFolder: options.cacheFolder });
  const scenes = new Map<string, Scene>();
  // Asked only once everything below is there.
  const server: LoopbackServer = await listenOnLoopback({
    port: options.port ?? 0,
    handle: (asked) => answer(asked),
  });
  let pictures = 0;

  const events = createSdmEvents({
    clock,
    random,
    userId: `AVPHwE${text(20)}`,
    baseUrl: () => server.url,
    picture: (camera, wantedPx = camera.widthPx) => {
      const widthPx = Math.min(Math.max(wantedPx - wantedPx % 16, 160), 1920);
      const heightPx = Math.round(widthPx * camera.heightPx / camera.widthPx / 2) * 2;
      const key = `${camera.name} ${widthPx}`;
      const scene = scenes.get(key) ?? createScene({ name: camera.name, widthPx, heightPx });
      scenes.set(key, scene);
      return scene.frame({ counter: ++pictures, takenAtMs: clock.now() });
    },
    preview: (camera) => desk.preview(camera),
  });
  const context = {
    clock,
    random,
    media: options.media ?? desk,
    projectId: credentials.projectId,
    structureId: `AVPHwS${text(20)}`,
    streamLifeMs: options.streamLifeMs ?? 300_000,
  };

  const addCamera = (camera: SdmCameraOptions): SdmCamera => {
    const model = new SdmCamera(camera, context);
    if (cameras.has(model.id)) {
      throw new Error(`there is a camera ${JSON.stringify(model.name)} already: give it a name`);
    }
    cameras.set(model.id, model);
    return model;
  };
  const find = (nameOrId: string): SdmCamera => {
    const found = cameras.get(nameOrId) ??
      [...cameras.values()].find(({ name }) => name === nameOrId);
    if (!found) {
      throw new Error(
        `the simulated project has no camera ${JSON.stringify(nameOrId)}: expected one of ${
          [...cameras.values()].map(({ name }) => JSON.stringify(name)).join(", ")
        }`,
      );
    }
    return found;
  };

  const structurePath = () => `enterprises/${credentials.projectId}/structures`;
  const rooms = () =>
    [...cameras.values()].flatMap(({ roomId, options: { room } }) =>
      roomId === undefined ? [] : [{
        name: `${structurePath()}/${context.structureId}/rooms/${roomId}`,
        traits: { "sdm.structures.traits.RoomInfo": { customName: room } },
      }]
    );

  const answerDevices = async (asked: Asked, project: string): Promise<Answer> => {
    if (!oauth.isAlive(bearer(asked))) {
      return googleError(
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login " +
          "cookie or other valid authentication credential.",
      );
    }
    if (project !== credentials.projectId) {
      return googleError("PERMISSION_DENIED", "The caller does not have permission");
    }
    const path = asked.path.slice(`/v1/enterprises/${project}/`.length);
    if (asked.method === "GET") {
      const api = /^devices\/./.test(path)
        ? "GetDevice"
        : path === "devices"
        ? "ListDevices"
        : path.endsWith("rooms")
        ? "ListRooms"
        : path === "structures"
        ? "ListStructures"
        : "GetStructure";
      const refusal = quota.call(api);
      if (refusal) return refusal;
      if (path === "devices") {
        const devices = [...cameras.values()].map((camera) => camera.describe());
        return json(devices.length === 0 ? {} : { devices });
      }
      if (path === "structures") {
        return json({
          structures: [{
            name: `${structurePath()}/${context.structureId}`,
            traits: { "sdm.structures.traits.Info": { customName: "Home" } },
          }],
        });
      }
      if (path.endsWith("/rooms")) return json({ rooms: rooms() });
      const camera = cameras.get(path.replace(/^devices\//, ""));
      return camera ? json(camera.describe()) : notFound(`enterprises/${project}/${path}`);
    }
    const id = /^devices\/(.+):executeCommand$/.exec(path)?.[1];
    if (asked.method !== "POST" || id === undefined) return { status: 404 };
    const camera = cameras.get(id);
    if (!camera) return notFound(`enterprises/${project}/devices/${id}`);
    let body: Readonly<Record<string, unknown>>;
    try {
      body = asRecord(JSON.parse(await asked.text()));
    } catch {
      return googleError("INVALID_ARGUMENT", "Invalid JSON payload received.");
    }
    const [, trait, command = ""] =
      /^sdm\.devices\.commands\.(\w+)\.(\w+)$/.exec(String(body["command"])) ?? [];
    requests.set(`sdm ${command}`, (requests.get(`sdm ${command}`) ?? 0) + 1);
    const refusal = quota.command(command, id);
    if (refusal) return refusal;
    const params = asRecord(body["params"]);
    if (trait === "CameraLiveStream") return await camera.command(command, params);
    if (trait === "CameraEventImage" && command === "GenerateImage") {
      return events.generateImage(params, server.url);
    }
    return googleError("NOT_FOUND", `Command ${String(body["command"])} not found.`);
  };

  /** An answer is dated by the simulator's clock: clients reckon with it. */
  const answer = async (asked: Asked): Promise<Answer> => {
    const given = await answerUndated(asked);
    if (typeof given === "string") return given;
    return { ...given, headers: { date: new Date(clock.now()).toUTCString(), ...given.headers } };
  };
  const answerUndated = async (asked: Asked): Promise<Answer> => {
    if (asked.path === "/__control") return await answerSdmControl(asked, simulator);
    const [, project] = /^\/v1\/enterprises\/([^/]+)\//.exec(asked.path) ?? [];
    const [host, proper]: [FaultHost, () => Promise<Answer> | Answer] = project !== undefined
      ? ["sdm", () => answerDevices(asked, project)]
      : /^\/(token|oauth2\/v4\/token)$/.test(asked.path)
      ? ["oauth", () => oauth.answerToken(asked)]
      : asked.path === `/partnerconnections/${credentials.projectId}/auth`
      ? ["oauth", () => oauth.answerConsent(asked)]
      : asked.path.startsWith(`/v1/${subscription}:`)
      ? [
        "pubsub",
        () =>
          oauth.isAlive(bearer(asked))
            ? events.answerPubSub(asked)
            : googleError("UNAUTHENTICATED", "Request had invalid authentication credentials."),
      ]
      : /^\/(sdm_event_snapshot|frontend\/encrypted\/clippreview)\//.test(asked.path)
      ? ["media", () => events.answerMedia(asked, (token) => oauth.isAlive(token))]
      : ["sdm", () => googleError("NOT_FOUND", "Requested entity was not found.")];
    const route = `${host} ${asked.method} ${asked.path}`;
    requests.set(route, (requests.get(route) ?? 0) + 1);
    const names = [...cameras.values()].filter(({ id }) => asked.path.includes(id))
      .flatMap(({ id, name }) => [id, name]);
    const given = await faults.around({ on: host, asked, camera: names }, proper);
    // A status that a fault asks for comes as Google would say it.
    return typeof given !== "string" && host !== "media" && (given.status ?? 200) >= 400 &&
        !given.headers?.["content-type"]?.includes("json")
      ? {
        ...googleErrorOf(given.status ?? 500),
        headers: { ...googleErrorOf(given.status ?? 500).headers, ...retryAfter(given.headers) },
      }
      : given;
  };

  const close = async () => {
    options.signal?.removeEventListener("abort", closeQuietly);
    for (const camera of cameras.values()) camera.dropStreams();
    await Promise.all([server.close(), desk.close()]);
  };
  const closeQuietly = () => void close();
  const simulator: SdmSimulator = {
    get endpoints() {
      const url = server.url;
      return { consent: url, oauth: url, sdm: url, pubsub: url };
    },
    credentials,
    subscription,
    get controlUrl() {
      return `${server.url}/__control`;
    },
    get cameras() {
      return [...cameras.values()];
    },
    faults,
    events,
    oauth,
    peaks: quota.peaks,
    requests,
    media: desk,
    fetch: (input, init) => withoutSockets(new Request(input, init), init?.signal, answer),
    camera: find,
    addCamera,
    removeCamera: (nameOrId) => {
      const camera = find(nameOrId);
      camera.dropStreams();
      cameras.delete(camera.id);
    },
    close,
    [Symbol.asyncDispose]: close,
  };
  for (const camera of options.cameras) addCamera(camera);
  options.signal?.addEventListener("abort", closeQuietly, { once: true });
  if (options.signal?.aborted) await close();
  return simulator;
}

function bearer(asked: Asked): string {
  return /^Bearer (\S+)$/.exec(asked.header("authorization"))?.[1] ?? "";
}

function notFound(device: string): Answer {
  return googleError("NOT_FOUND", `Device ${device} not found.`);
}

function retryAfter(headers: Readonly<Record<string, string>> = {}): Record<string, string> {
  const value = headers["retry-after"];
  return value === undefined ? {} : { "retry-after": value };
}

/** One exchange in memory; what the handler decides becomes what a socket would have shown. */
async function withoutSockets(
  request: Request,
  signal: AbortSignal | null | undefined,
  handle: (asked: Asked) => Promise<Answer>,
): Promise<Response> {
  const url = new URL(request.url);
  const body = await request.text();
  const given = await handle({
    method: request.method,
    path: url.pathname,
    query: url.searchParams,
    header: (name) => request.headers.get(name) ?? "",
    cookie: () => undefined,
    text: () => Promise.resolve(body),
    signal: signal ?? new AbortController().signal,
  });
  if (given === "reset") throw new TypeError("connection reset");
  if (given === "never") {
    return await new Promise((_, reject) => {
      if (signal?.aborted) reject(signal.reason);
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  }
  return new Response((given.body ?? "") as BodyInit, {
    status: given.status ?? 200,
    headers: given.headers ?? {},
  });
}
