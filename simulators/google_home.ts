/**
 * The simulated Google services that a Google Home account is reached through, on loopback: the two
 * ways to a token, the list of the home's devices (gRPC), and the recordings of its cameras. Written
 * from the protocol reference, §7: an access token per scope, a manifest for at most six hours, MP4
 * files for at most a minute, history that runs out.
 *
 * Live streams (§5.2): a camera that was woken answers an offer with a WebRTC peer of the coded scene,
 * and sends for a minute after the last extension.
 *
 * What is in the MP4 files is up to the caller (`footage`). A refused request carries the header
 * `x-simulator-reason`, which says what it lacked.
 *
 * @module
 */
import { systemClock } from "../core/clock.ts";
import type { Clock } from "../core/types.ts";
import { type GrpcReply, startGrpcServer } from "./grpc_server.ts";
import {
  type Answer,
  type Asked,
  json,
  listenOnLoopback,
  type LoopbackServer,
  type Reply,
} from "./http_server.ts";
import { type CodedScene, createCodedScene } from "./scene/coded_scene.ts";
import {
  noPacketCounts,
  noPacketFaults,
  openWebRtcCamera,
  type WebRtcCameraOptions,
  type WebRtcCameraPeer,
} from "./sdm/webrtc_camera.ts";
import { bearerToken, refuse } from "./nest/cloud.ts";
import { answerAccounts } from "./nest/google.ts";
import { createTokens, type TokenKind } from "./nest/tokens.ts";

const HOUR_MS = 3_600_000;
/** A manifest for more is answered with 400. */
const LONGEST_WINDOW_MS = 6 * HOUR_MS;
/** A file for more is answered with 400. */
const LONGEST_CLIP_MS = 60_000;
/** How long a live stream goes on without an extension; the reference says to extend every 30 s. */
const STREAM_LIFE_MS = 60_000;
/** How long a camera stays awake. */
const AWAKE_MS = 60_000;
const NAMESPACE = "nest-phoenix-prod";

/** A camera of the simulated home. */
export interface HomeCameraOptions {
  readonly name: string;
  /** `DEVICE_…`; a camera of the old Nest app has none here. */
  readonly id?: string;
  /** Default `Nest Cam with floodlight`. */
  readonly model?: string;
}

/** Something that a camera saw, wall ms. */
export interface HomeEvent {
  readonly camera: string;
  readonly startMs: number;
  endMs: number;
}

/** What goes wrong with the next requests for recordings. */
export type HomeFault =
  | "cut"
  | "never"
  | "status-403"
  | "status-429"
  | "status-500"
  | "token-expired";

/** What a simulated home is made from. */
export interface GoogleHomeSimulatorOptions {
  readonly cameras: readonly HomeCameraOptions[];
  /** The MP4 file of a stretch of time of a camera. */
  readonly footage: (
    stretch: { readonly camera: string; readonly startMs: number; readonly endMs: number },
  ) => Promise<Uint8Array> | Uint8Array;
  /** Size and rate of live pictures; 640x360 by default. */
  readonly live?: { readonly widthPx: number; readonly heightPx: number };
  /** In place of a real WebRTC peer. */
  readonly openPeer?: (options: WebRtcCameraOptions) => Promise<WebRtcCameraPeer>;
  /** How far back recordings are kept; 3 h by default, as without a subscription. */
  readonly historyMs?: number;
  /** The machine's own by default. */
  readonly clock?: Clock;
  /** Gives numbers in [0, 1); makes the tokens. */
  readonly random?: () => number;
}

/** A running home. */
export interface GoogleHomeSimulator extends AsyncDisposable {
  /** For the account option `endpoints`. */
  readonly endpoints: {
    readonly accounts: string;
    readonly android: string;
    readonly foyer: string;
    readonly frontend: string;
  };
  /** What opens the account, both ways. */
  readonly credentials: {
    readonly email: string;
    readonly androidId: string;
    readonly masterToken: string;
    /** The cookie of the set-up page, which gives a master token once. */
    readonly oauthToken: string;
    readonly issueToken: string;
    readonly cookie: string;
  };
  /** Everything that the cameras saw. */
  readonly events: readonly HomeEvent[];
  /**
   * How often each kind of request was made: `manifest`, `clip`, `devices`, `token`, `wake`, `offer`,
   * `extend`, `end`.
   */
  readonly requests: ReadonlyMap<string, number>;
  /** A camera sees something; `endMs` may be moved while it lasts. */
  addEvent(event: HomeEvent): HomeEvent;
  /** The next `times` requests for recordings fail so. */
  fail(fault: HomeFault, times?: number): void;
  /** Encodes what the live cameras show; it takes seconds, in which a fake clock would run away. */
  ready(): Promise<void>;
  /** Live streams that are open. */
  readonly openStreams: number;
  /** Whether live streams are extended; `true` at first. */
  extends: boolean;
  /** While `true`, whoever wakes a camera or offers it a stream waits in vain; streams carry nothing. */
  hangs: boolean;
  /** Switches the cameras off or on again; live streams end. */
  setOnline(online: boolean): void;
  /** Ends every access token. */
  expireTokens(): void;
  /** The master token and the cookie are dead from now on. */
  revoke(): void;
}

/** Starts a simulated home; it runs until it is disposed of. */
export async function startGoogleHomeSimulator(
  options: GoogleHomeSimulatorOptions,
): Promise<GoogleHomeSimulator> {
  const { clock = systemClock, random = Math.random, historyMs = 3 * HOUR_MS } = options;
  const tokens = createTokens({ clock, random });
  const digits = (count: number, base = 10) =>
    Array.from({ length: count }, () => Math.floor(random() * base).toString(base)).join("");
  const credentials = {
    email: "owner@example.com",
    androidId: digits(16, 16),
    masterToken: `aas_et/${digits(120, 36)}`,
    oauthToken: `oauth2_4/${digits(60, 36)}`,
    cookie: `SIDCC=${digits(24)}; __Secure-3PSID=${digits(32)}`,
  };
  let masterToken: string | undefined = credentials.masterToken;
  let oauthToken: string | undefined = credentials.oauthToken;
  let googleCookie = credentials.cookie;
  const events: HomeEvent[] = [];
  const faults: HomeFault[] = [];
  const requests = new Map<string, number>();
  const count = (kind: string) => requests.set(kind, (requests.get(kind) ?? 0) + 1);
  const urls = { accounts: "", android: "", foyer: "", frontend: "" };

  /** `android.clients.google.com`, §7.1: lines of `Key=Value`. */
  const answerAndroid = async (asked: Asked): Promise<Answer> => {
    if (asked.path !== "/auth" || asked.method !== "POST") return refuse(404, "no such path");
    count("token");
    const lines = (status: number, values: Readonly<Record<string, string>>) => ({
      status,
      headers: { "content-type": "text/plain; charset=utf-8" },
      body: Object.entries(values).map(([key, value]) => `${key}=${value}`).join("\n") + "\n",
    });
    if (asked.header("user-agent") !== "GoogleAuth/1.4") {
      return lines(403, {
        Error: "BadAuthentication",
        Info: "the User-Agent is not GoogleAuth/1.4",
      });
    }
    const form = new URLSearchParams(await asked.text());
    const isOwner = form.get("Email") === credentials.email &&
      form.get("androidId") === credentials.androidId;
    if (!isOwner || form.get("source") !== "android" || form.get("has_permission") !== "1") {
      return lines(403, { Error: "BadAuthentication" });
    }
    if (form.get("service") === "ac2dm") {
      if (form.get("Token") !== oauthToken || form.get("add_account") !== "1") {
        return lines(403, { Error: "BadAuthentication" });
      }
      oauthToken = undefined; // good for one try
      return lines(200, { Token: credentials.masterToken, Email: credentials.email });
    }
    if (masterToken === undefined || form.get("EncryptedPasswd") !== masterToken) {
      return lines(403, { Error: "BadAuthentication" });
    }
    if (
      form.get("app") !== "com.google.android.apps.chromecast.app" ||
      form.get("client_sig") !== "24bb24c05e47e0aefa68a58a766179d9b613a600"
    ) return lines(403, { Error: "RestrictedClient" });
    const kinds: Readonly<Record<string, TokenKind>> = {
      "oauth2:https://www.googleapis.com/auth/nest-account": "google",
      "oauth2:https://www.google.com/accounts/OAuthLogin": "oauth-login",
    };
    const kind = kinds[form.get("service") ?? ""];
    if (kind === undefined) return lines(403, { Error: "BadScope" });
    return lines(200, {
      SID: "BAD_COOKIE",
      Auth: tokens.issue(kind, HOUR_MS),
      issueAdvice: "auto",
    });
  };

  /** `nest-camera-frontend.googleapis.com`, §7.3. */
  const answerFrontend = async (asked: Asked): Promise<Answer> => {
    const [, kind = "", namespace, id] =
      /^\/(dashmanifest|mp4clip)\/namespace\/([^/]+)\/device\/([^/]+)$/.exec(asked.path) ?? [];
    if (kind === "" || asked.method !== "GET") return refuse(404, "no such path");
    count(kind === "mp4clip" ? "clip" : "manifest");
    const fault = faults.shift();
    if (fault === "never") return "never";
    if (fault === "token-expired") tokens.expire("google", "oauth-login");
    if (fault === "status-429") {
      return refuse(429, "asked to fail", { headers: { "retry-after": "5" } });
    }
    if (fault === "status-403") return refuse(403, "asked to fail");
    if (fault === "status-500") return refuse(500, "asked to fail");
    if (tokens.expiresAtMs(bearerToken(asked), "google") === undefined) {
      return refuse(401, "the bearer token is unknown, expired or of another scope");
    }
    const camera = options.cameras.find((camera) => camera.id === id);
    if (!camera || namespace !== NAMESPACE) return refuse(403, "no camera of this account");
    const own = events.filter((event) => event.camera === camera.name);
    const answer = kind === "mp4clip" ? await clip(asked, camera, own) : manifest(asked, own);
    if (fault !== "cut" || answer.body === undefined) return answer;
    return { ...answer, cutAfterBytes: Math.floor(answer.body.length / 2) };
  };

  const manifest = (asked: Asked, own: readonly HomeEvent[]): Reply => {
    const startMs = Date.parse(asked.query.get("start_time") ?? "");
    const endMs = Date.parse(asked.query.get("end_time") ?? "");
    if (!(endMs >= startMs)) return refuse(400, "start_time and end_time must be ISO times");
    if (endMs - startMs > LONGEST_WINDOW_MS) return refuse(400, "more than six hours");
    if (asked.query.get("types") !== "4" || asked.query.get("variant") !== "2") {
      return refuse(400, "expected types=4 and variant=2");
    }
    const nowMs = clock.now();
    const periods = own
      .filter((event) => event.endMs > startMs && event.startMs < endMs)
      .filter((event) => event.startMs >= nowMs - historyMs && event.startMs <= nowMs)
      .map((event, index) => {
        const seconds = (Math.min(event.endMs, nowMs) - event.startMs) / 1000;
        return `  <Period id="${index}" duration="PT${seconds}S" programDateTime="${
          new Date(event.startMs).toISOString()
        }">\n    <BaseURL>https://example.invalid/periods/${index}/</BaseURL>\n  </Period>`;
      });
    return {
      headers: { "content-type": "application/dash+xml" },
      body: [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">',
        ...periods,
        "</MPD>",
      ].join("\n"),
    };
  };

  const clip = async (
    asked: Asked,
    camera: HomeCameraOptions,
    own: readonly HomeEvent[],
  ): Promise<Reply> => {
    const startMs = Number(asked.query.get("start_time"));
    const endMs = Number(asked.query.get("end_time"));
    if (!(endMs > startMs)) return refuse(400, "start_time and end_time must be ms");
    if (endMs - startMs > LONGEST_CLIP_MS) return refuse(400, "more than a minute");
    const nowMs = clock.now();
    const isThere = startMs >= nowMs - historyMs &&
      own.some((event) => event.startMs <= startMs && Math.min(event.endMs, nowMs) >= endMs);
    if (!isThere) return refuse(404, "no footage of that time");
    const body = await options.footage({ camera: camera.name, startMs, endMs });
    return { headers: { "content-type": "video/mp4" }, body };
  };

  interface LiveStream {
    readonly peer: WebRtcCameraPeer;
    endsAtMs: number;
  }
  const awakeUntilMs = new Map<string, number>();
  const streams = new Map<string, LiveStream>();
  const scenes = new Map<string, Promise<CodedScene>>();
  const { openPeer = openWebRtcCamera, live = { widthPx: 640, heightPx: 360 } } = options;
  const sceneOf = (name: string) => {
    const scene = scenes.get(name) ??
      createCodedScene({ ...live, name, fps: 15, audio: { codec: "opus" }, clock });
    scenes.set(name, scene);
    return scene;
  };
  const drop = (id: string) => {
    streams.get(id)?.peer.close().catch(() => {});
    streams.delete(id);
  };

  let online = true;
  const AWAY = { status: 14, message: "The camera is offline." };
  /** `CameraService/SendCameraViewIntent`. */
  const wake = (message: Uint8Array): GrpcReply | "never" => {
    count("wake");
    if (simulator.hangs) return "never";
    if (!online) return AWAY;
    const request = fieldsOf(message).get(1) ?? EMPTY;
    const device = fieldsOf(fieldsOf(request).get(1) ?? EMPTY).get(1);
    const camera = options.cameras.find(({ name }) => textOfBytes(device) === `uuid of ${name}`);
    if (camera === undefined) return { status: 5, message: "Device not found." };
    if (numbersOf(request).get(2) !== 1) return { status: 3, message: "command: expected START" };
    awakeUntilMs.set(camera.id ?? "", clock.now() + AWAKE_MS);
    return { status: 0, body: EMPTY };
  };
  /** `CameraService/JoinStream`. */
  const join = async (message: Uint8Array): Promise<GrpcReply | "never"> => {
    const fields = fieldsOf(message);
    const [sdp, device, command, id] = [1, 2, 3, 4].map((number) =>
      textOfBytes(fields.get(number))
    );
    count(command ?? "");
    const camera = options.cameras.find((camera) =>
      camera.id !== undefined && camera.id === device
    );
    if (camera === undefined) return { status: 5, message: "Device not found." };
    if (command === "offer") {
      if (simulator.hangs) return "never";
      if (!online) return AWAY;
      if ((awakeUntilMs.get(device ?? "") ?? 0) < clock.now()) {
        return { status: 9, message: "The camera is not awake." };
      }
      const streamId = `stream-${digits(20, 36)}`;
      const isAlive = () => (streams.get(streamId)?.endsAtMs ?? Infinity) > clock.now();
      try {
        const peer = await openPeer({
          ...{ offerSdp: sdp ?? "", clock, random, isAlive },
          ...{ faults: noPacketFaults(), counts: noPacketCounts() },
          hangs: () => simulator.hangs,
          scene: await sceneOf(camera.name),
        });
        streams.set(streamId, { peer, endsAtMs: clock.now() + STREAM_LIFE_MS });
        return {
          status: 0,
          body: joined(
            field(1, utf8(peer.answerSdp)),
            field(2, utf8("answer")),
            field(3, utf8(streamId)),
          ),
        };
      } catch (error) {
        return { status: 3, message: String(error) };
      }
    }
    const stream = streams.get(id ?? "");
    if (command === "end") {
      drop(id ?? "");
      return { status: 0, body: Uint8Array.of(4 * 8, 1) };
    }
    if (command !== "extend") return { status: 3, message: `command: got ${command}` };
    const isExtended = simulator.extends && stream !== undefined && stream.endsAtMs > clock.now();
    if (stream && isExtended) stream.endsAtMs = clock.now() + STREAM_LIFE_MS;
    return { status: 0, body: Uint8Array.of(5 * 8, isExtended ? 1 : 2) };
  };

  const foyer = await startGrpcServer({
    answer: async (path, token, message) => {
      const [, service, method] =
        /^\/google\.internal\.home\.foyer\.v1\.(\w+)\/(\w+)$/.exec(path) ?? [];
      if (service === "StructuresService") count("devices");
      // A browser's token opens it as well as one of the scope OAuthLogin.
      if (tokens.expiresAtMs(token, "oauth-login", "google") === undefined) {
        return { status: 16, message: "Request had invalid authentication credentials." };
      }
      switch (`${service}/${method}`) {
        case "StructuresService/GetHomeGraph":
          return { status: 0, body: homeGraph(options.cameras) };
        case "CameraService/SendCameraViewIntent":
          return wake(message);
        case "CameraService/JoinStream":
          return await join(message);
        default:
          return { status: 12, message: "unimplemented" };
      }
    },
  });
  const servers: LoopbackServer[] = [];
  const listen = async (handle: (asked: Asked) => Promise<Answer> | Answer) => {
    const server = await listenOnLoopback({ handle });
    servers.push(server);
    return server.url;
  };
  urls.foyer = foyer.url;
  urls.accounts = await listen((asked) =>
    answerAccounts(asked, { tokens, googleCookie, googleLifeMs: HOUR_MS, urls })
  );
  urls.android = await listen(answerAndroid);
  urls.frontend = await listen(async (asked) =>
    asked.path === "/" ? json({ ok: true }) : await answerFrontend(asked)
  );

  const simulator: GoogleHomeSimulator = {
    extends: true,
    hangs: false,
    setOnline(now) {
      online = now;
      if (online) return;
      for (const id of streams.keys()) drop(id);
    },
    async ready() {
      await Promise.all(options.cameras.map(({ name }) => sceneOf(name)));
    },
    get openStreams() {
      return streams.size;
    },
    endpoints: urls,
    credentials: {
      ...credentials,
      issueToken: `${urls.accounts}/o/oauth2/iframerpc?${new URLSearchParams({
        action: "issueToken",
        client_id: "733249279899-simulated.apps.googleusercontent.com",
        ss_domain: "https://home.nest.com",
      })}`,
    },
    events,
    requests,
    addEvent(event) {
      events.push(event);
      return event;
    },
    fail: (fault, times = 1) => void faults.push(...Array.from({ length: times }, () => fault)),
    expireTokens: () => tokens.expire("google", "oauth-login"),
    revoke() {
      masterToken = undefined;
      googleCookie = `signed out ${random()}`;
      tokens.expire("google", "oauth-login");
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([...streams.values()].map(({ peer }) => peer.close()));
      await Promise.all([foyer.close(), ...servers.map((server) => server.close())]);
    },
  };
  return simulator;
}

const EMPTY = new Uint8Array();
const utf8 = (text: string) => new TextEncoder().encode(text);
const textOfBytes = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes ?? EMPTY);
const field = (number: number, bytes: Uint8Array): Uint8Array =>
  Uint8Array.from([...varint(number * 8 + 2), ...varint(bytes.length), ...bytes]);
const joined = (...fields: readonly Uint8Array[]) =>
  Uint8Array.from(fields.flatMap((field) => [...field]));

/** The fields of wire types 0 and 2 of a message: number → value or bytes. */
function readFields(message: Uint8Array): Map<number, number | Uint8Array> {
  const found = new Map<number, number | Uint8Array>();
  let at = 0;
  const number = () => {
    let value = 0;
    for (let shift = 0;; shift += 7) {
      const byte = message[at++] ?? 0;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const tag = number();
    const value = number();
    if (tag % 8 === 0) found.set(tag >> 3, value);
    else {
      found.set(tag >> 3, message.subarray(at, at + value));
      at += value;
    }
  }
  return found;
}

function fieldsOf(message: Uint8Array): Map<number, Uint8Array> {
  return new Map(
    [...readFields(message)].flatMap(([number, value]) =>
      typeof value === "number" ? [] : [[number, value] as const]
    ),
  );
}

function numbersOf(message: Uint8Array): Map<number, number> {
  return new Map(
    [...readFields(message)].flatMap(([number, value]) =>
      typeof value === "number" ? [[number, value] as const] : []
    ),
  );
}

/** `GetHomeGraphResponse`, §5.2 and §7.2: homes (2) with devices (7). */
function homeGraph(cameras: readonly HomeCameraOptions[]): Uint8Array {
  const message = joined;
  const device = ({ name, id, model = "Nest Cam with floodlight" }: HomeCameraOptions) =>
    field(
      7,
      message(
        field(
          1,
          message(
            field(1, utf8(`uuid of ${name}`)),
            field(
              2,
              message(
                field(1, utf8("nest-home-assistant-prod")),
                field(2, utf8(id ?? `legacy-${name}`)),
              ),
            ),
          ),
        ),
        field(4, utf8(name)),
        field(6, utf8("action.devices.types.CAMERA")),
        field(7, utf8("action.devices.traits.CameraStream")),
        field(17, message(field(2, utf8(model)))),
        Uint8Array.of(...varint(40 * 8), 1), // a field that nobody knows
      ),
    );
  const speaker = field(
    7,
    message(field(4, utf8("Kitchen speaker")), field(17, field(2, utf8("Nest Mini")))),
  );
  return field(2, message(field(1, utf8("home")), speaker, ...cameras.map(device)));
}

function varint(value: number): number[] {
  return value < 0x80 ? [value] : [value % 0x80 + 0x80, ...varint(Math.floor(value / 0x80))];
}
