/**
 * The simulated Nest cloud: every host that a Nest web account is reached through, on loopback, as
 * strict as the real ones where that is known. One account that both kinds of credentials open, its
 * cameras spread over regional hosts, tokens that run out, and faults on demand.
 *
 * Each host has a port of its own, because each knows only its own paths. A client is pointed at
 * them with the four {@linkcode NestEndpoints}; the transport host is named by the session and the
 * regional ones by discovery, as with the real cloud. With a fixed port N, home listens on N,
 * accounts on N+1, jwt on N+2, camera on N+3, transport on N+4, and from N+5 on the regions and, where
 * a camera has a live stream, three ports of NexusTalk: two of TLS and the WebSocket.
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
  listenOnLoopback,
  type LoopbackServer,
  type ServerTls,
} from "../http_server.ts";
import { createLoopbackCertificate } from "../certificate.ts";
import { CameraModel, type NestCamera, type NestCameraOptions } from "./camera.ts";
import { answerCameraApi, answerNexus, askedCamera } from "./camera_hosts.ts";
import type { Cloud, NestUrls, PasswordLogin } from "./cloud.ts";
import { answerControl } from "./control.ts";
import { createFaults, type FaultHost, type Faults } from "./faults.ts";
import { answerAccounts, answerJwt } from "./google.ts";
import { answerHome, answerTransport } from "./home.ts";
import { type NexusFronts, startNexusFronts } from "./nexus_fronts.ts";
import { createTokens, type TokenKind } from "./tokens.ts";

const HOUR_MS = 3_600_000;

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** What a simulated cloud is made from. */
export interface NestSimulatorOptions {
  /** The account's cameras at first; names must differ, or uuids be given. */
  readonly cameras: readonly NestCameraOptions[];
  /** The first of several ports in a row; 0, the default, takes any free ones. */
  readonly port?: number;
  /** The machine's own clocks by default; tokens run out by it, pictures show it. */
  readonly clock?: Clock;
  /** Gives numbers in [0, 1); makes the tokens. */
  readonly random?: () => number;
  /** Life of what the Google login gives; an hour by default. */
  readonly googleLifeMs?: number;
  /** Life of a Nest account's tokens and cookie; 30 days by default. */
  readonly nestLifeMs?: number;
  /** Lets the password login work; without it that is as dead as in reality. */
  readonly password?: PasswordLogin;
  /** Longest that `subscribe` is held open; 10 min by default. */
  readonly subscribeMs?: number;
  /** Serve HTTPS with this certificate, which must name 127.0.0.1. */
  readonly tls?: ServerTls;
  /**
   * What a Google account must show to the live streams: the session's token, the JWT behind it, or
   * either, the default.
   */
  readonly oliveToken?: "session" | "jwt" | "either";
  /** Closes the simulator. */
  readonly signal?: AbortSignal;
}

/** Base URLs without a slash at the end, by the names of the account option `endpoints`. */
export interface NestEndpoints {
  /** In place of `https://accounts.google.com`. */
  readonly accounts: string;
  /** In place of `https://nestauthproxyservice-pa.googleapis.com`. */
  readonly jwt: string;
  /** In place of `https://home.nest.com`. */
  readonly home: string;
  /** In place of `https://webapi.camera.home.nest.com`. */
  readonly camera: string;
}

/** What opens the simulated account. */
export interface NestCredentials {
  /** Of a Nest account. */
  readonly accessToken: string;
  /** Of a Google account: the URL that its browser asked for a token. */
  readonly issueToken: string;
  /** Of a Google account: the Cookie header of that request. */
  readonly cookie: string;
  /** The account's number. */
  readonly userId: string;
}

/** A running cloud. */
export interface NestSimulator extends AsyncDisposable {
  /** Where a client is to be pointed. */
  readonly endpoints: NestEndpoints;
  /** Where {@linkcode answerControl} is reached: `…/__control` on the home host. */
  readonly controlUrl: string;
  /**
   * The authority behind the live streams, PEM: they are TLS also where the rest is HTTP. Absent
   * where `tls` was given, and where no camera has a live stream.
   */
  readonly caPem: string | undefined;
  /** Lets no connection of a kind through to the live streams, or lets them through again. */
  blockLive(kind: "direct" | "websocket", blocked: boolean): void;
  /** What opens the account. */
  readonly credentials: NestCredentials;
  /** The account's cameras as they are now. */
  readonly cameras: readonly NestCamera[];
  /** What goes wrong on demand. */
  readonly faults: Faults;
  /** How often each route was asked: `"home GET /session"` → 2. */
  readonly requests: ReadonlyMap<string, number>;
  /** The camera of this name or uuid. @throws if there is none */
  camera(nameOrUuid: string): NestCamera;
  /** Gives the account another camera, where needed with a new regional host. */
  addCamera(options: NestCameraOptions): Promise<NestCamera>;
  /** Takes a camera from the account. */
  removeCamera(nameOrUuid: string): void;
  /** Ends every token but the Nest account's access token. */
  expireTokens(): void;
  /** Ends the Nest account's access token, and all that came of it. */
  revokeAccessToken(): void;
  /** Signs the Google account out: its cookie is dead, for good. */
  logOut(): void;
  /** Breaks all connections and frees the ports. */
  close(): Promise<void>;
}

/** Starts a simulated cloud; it runs until `close`, or until `signal` is aborted. */
export async function startNestSimulator(options: NestSimulatorOptions): Promise<NestSimulator> {
  options.signal?.throwIfAborted();
  const clock = options.clock ?? systemClock;
  const random = options.random ?? Math.random;
  const tokens = createTokens({ clock, random });
  const nestLifeMs = options.nestLifeMs ?? 30 * 24 * HOUR_MS;
  const digits = (count: number) => Array.from({ length: count }, () => Math.floor(random() * 10));
  const accessToken = tokens.issue("nest", nestLifeMs);
  const cookie = `SIDCC=${digits(24).join("")}; __Secure-3PSID=${digits(32).join("")}; ` +
    `__Host-3PLSID=o.nest|s.${digits(20).join("")}`;
  const listeners = new Set<() => void>();
  const requests = new Map<string, number>();
  const servers: LoopbackServer[] = [];
  const regions = new Map<string, string>();
  const cameras = new Map<string, CameraModel>();
  const faults = createFaults(clock);
  const userId = String(1_000_000 + Math.floor(random() * 9_000_000));

  const listen = async (
    host: FaultHost,
    handle: (asked: Asked) => Promise<Answer> | Answer,
    cameraOf: (asked: Asked) => CameraModel | undefined = () => undefined,
  ): Promise<string> => {
    const first = options.port ?? 0;
    const server = await listenOnLoopback({
      port: first === 0 ? 0 : first + servers.length,
      tls: options.tls,
      handle: async (asked) => {
        if (asked.path === "/__control") return await answerControl(asked, simulator);
        const route = `${host} ${asked.method} ${asked.path}`;
        requests.set(route, (requests.get(route) ?? 0) + 1);
        const camera = cameraOf(asked);
        if (asked.path === "/get_image") camera?.countRequest();
        const names = camera ? [camera.name, camera.uuid] : [];
        return await faults.around({ on: host, asked, camera: names }, () => handle(asked));
      },
    });
    servers.push(server);
    return server.url;
  };
  const close = async () => {
    options.signal?.removeEventListener("abort", closeQuietly);
    await Promise.all([
      fronts?.close(),
      ...servers.splice(0).map((server) => server.close()),
    ]);
  };
  const closeQuietly = () => void close();

  let fronts: NexusFronts | undefined;
  let caPem: string | undefined;
  const startNexus = async () => {
    const made = options.tls ? undefined : createLoopbackCertificate();
    caPem = made?.caPem;
    const first = options.port ?? 0;
    const oliveKinds: readonly TokenKind[] = options.oliveToken === "session"
      ? ["session"]
      : options.oliveToken === "jwt"
      ? ["jwt"]
      : ["session", "jwt"];
    const alive = (token: string, kinds: readonly TokenKind[]) =>
      token !== "" && tokens.expiresAtMs(token, ...kinds) !== undefined;
    fronts = await startNexusFronts({
      port: first === 0 ? 0 : first + servers.length,
      tls: options.tls ?? made ?? createLoopbackCertificate(),
      host: {
        clock,
        faults,
        camera: (uuid) => {
          const camera = cameras.get(uuid);
          return camera?.live && camera.migration === "NORMAL" ? camera : undefined;
        },
        mayWatch: ({ sessionToken, oliveToken }) =>
          alive(sessionToken, ["cookie"]) || alive(oliveToken, oliveKinds),
        count: (what) => {
          const route = `nexus ${what}`;
          requests.set(route, (requests.get(route) ?? 0) + 1);
        },
      },
    });
    urls.nexus = { direct: fronts.directHost, webSocket: fronts.webSocketHost };
  };

  const addCamera = async (camera: NestCameraOptions): Promise<NestCamera> => {
    const model = new CameraModel(camera, {
      clock,
      onChange: () => listeners.forEach((listener) => listener()),
    });
    if (cameras.has(model.uuid)) {
      throw new Error(
        `the simulated account has a camera ${
          JSON.stringify(camera.name)
        } already: give another name or a uuid`,
      );
    }
    const { region } = model;
    if (!regions.has(region)) {
      const url = await listen(
        "image",
        (asked) => answerNexus(asked, region, cloud),
        (asked) => askedCamera(asked, region, cloud),
      );
      regions.set(region, url);
    }
    if (model.live) {
      if (!fronts) await startNexus();
      const [best = 0] = model.liveProfiles;
      model.scene(best).catch(() => {}); // said to whoever asks for it
    }
    cameras.set(model.uuid, model);
    return model;
  };
  const find = (nameOrUuid: string): CameraModel => {
    const found = cameras.get(nameOrUuid) ??
      [...cameras.values()].find((camera) => camera.name === nameOrUuid);
    if (!found) {
      throw new Error(
        `the simulated account has no camera ${JSON.stringify(nameOrUuid)}: expected one of ${
          [...cameras.values()].map((camera) => JSON.stringify(camera.name)).join(", ")
        }`,
      );
    }
    return found;
  };

  // The hosts are asked only once all of them listen, and by then `urls` is complete.
  const urls: Mutable<NestUrls> = {
    ...{ accounts: "", jwt: "", home: "", camera: "", transport: "" },
    regions,
  };
  const cloud: Cloud = {
    clock,
    random,
    tokens,
    faults,
    cameras,
    urls,
    userId,
    structureId: digits(12).join(""),
    email: options.password?.email ?? "owner@example.com",
    googleCookie: cookie,
    googleLifeMs: options.googleLifeMs ?? HOUR_MS,
    nestLifeMs,
    password: options.password,
    subscribeMs: options.subscribeMs ?? 600_000,
    listeners,
    requests,
  };
  const simulator: NestSimulator = {
    get endpoints() {
      const { accounts, jwt, home, camera } = urls;
      return { accounts, jwt, home, camera };
    },
    get controlUrl() {
      return `${urls.home}/__control`;
    },
    get credentials() {
      const query = new URLSearchParams({
        action: "issueToken",
        response_type: "token id_token",
        login_hint: "simulated",
        client_id: "733249279899-simulated.apps.googleusercontent.com",
        origin: "https://home.nest.com",
        scope: "openid profile email https://www.googleapis.com/auth/nest-account",
        ss_domain: "https://home.nest.com",
      });
      return {
        accessToken,
        issueToken: `${urls.accounts}/o/oauth2/iframerpc?${query}`,
        cookie,
        userId,
      };
    },
    get caPem() {
      return caPem;
    },
    blockLive: (kind, blocked) => fronts?.block(kind, blocked),
    get cameras() {
      return [...cameras.values()];
    },
    faults,
    requests,
    camera: find,
    addCamera,
    removeCamera: (nameOrUuid) => {
      cameras.delete(find(nameOrUuid).uuid);
    },
    expireTokens: () => tokens.expire("google", "jwt", "session", "cookie", "pending"),
    revokeAccessToken: () => tokens.expire("nest", "cookie"),
    logOut: () => {
      cloud.googleCookie = `signed out ${random()}`;
    },
    close,
    [Symbol.asyncDispose]: close,
  };

  try {
    urls.home = await listen("home", (asked) => answerHome(asked, cloud));
    urls.accounts = await listen("accounts", (asked) => answerAccounts(asked, cloud));
    urls.jwt = await listen("jwt", (asked) => answerJwt(asked, cloud));
    urls.camera = await listen("camera", (asked) => answerCameraApi(asked, cloud));
    urls.transport = await listen("transport", (asked) => answerTransport(asked, cloud));
    for (const camera of options.cameras) await addCamera(camera);
  } catch (error) {
    await close();
    throw error;
  }
  options.signal?.addEventListener("abort", closeQuietly, { once: true });
  if (options.signal?.aborted) await close();
  return simulator;
}
