/**
 * What the hosts of the simulated Nest cloud have in common: the one account, its cameras, the
 * tokens that are alive, and the rules by which a caller is recognised.
 *
 * @module
 */
import type { Clock } from "../../core/types.ts";
import type { Asked, Reply } from "../http_server.ts";
import type { CameraModel } from "./camera.ts";
import type { FaultDesk } from "./faults.ts";
import type { Tokens } from "./tokens.ts";

/** Where the simulated hosts listen. */
export interface NestUrls {
  readonly accounts: string;
  readonly jwt: string;
  readonly home: string;
  readonly camera: string;
  readonly transport: string;
  /** By region: `us1`, `eu1` … */
  readonly regions: ReadonlyMap<string, string>;
  /** Where the live streams are, as discovery names it; only where a camera has one. */
  readonly nexus?: { readonly direct: string; readonly webSocket: string };
}

/** The password login, where it is simulated as still working. */
export interface PasswordLogin {
  /** The account's e-mail address. */
  readonly email: string;
  /** The account's password. */
  readonly password: string;
  /** Asked for as a second factor. */
  readonly pin?: string;
}

/** The state that the hosts share. */
export interface Cloud {
  readonly clock: Clock;
  readonly random: () => number;
  readonly tokens: Tokens;
  readonly faults: FaultDesk;
  readonly cameras: Map<string, CameraModel>;
  readonly urls: NestUrls;
  readonly userId: string;
  readonly structureId: string;
  readonly email: string;
  /** The cookie of the signed-in Google account; changes when it is signed out. */
  googleCookie: string;
  readonly googleLifeMs: number;
  readonly nestLifeMs: number;
  readonly password: PasswordLogin | undefined;
  /** Longest that `subscribe` is held open. */
  readonly subscribeMs: number;
  /** Called at every change of a camera. */
  readonly listeners: Set<() => void>;
  /** How often each route was asked, by host, method and path. */
  readonly requests: Map<string, number>;
}

/** A reply that tells whoever writes a client what this request lacked; real servers do not. */
export function refuse(status: number, reason: string, reply: Reply = {}): Reply {
  return {
    status,
    body: "",
    ...reply,
    headers: { "x-simulator-reason": reason, ...reply.headers },
  };
}

/** The raw token of `Authorization: Basic <token>`; the home and camera hosts do not use base64. */
export function basicToken(asked: Asked): string {
  return /^Basic (\S+)$/.exec(asked.header("authorization"))?.[1] ?? "";
}

/** The token of `Authorization: Bearer <token>`. */
export function bearerToken(asked: Asked): string {
  return /^Bearer (\S+)$/.exec(asked.header("authorization"))?.[1] ?? "";
}

/** Does the request say that it comes from the page `https://home.nest.com`, or the simulated one? */
export function comesFromHome(asked: Asked, cloud: Cloud): boolean {
  const from = asked.header("referer") || asked.header("origin");
  return from.startsWith("https://home.nest.com") || from.startsWith(cloud.urls.home);
}

/**
 * May this caller use the camera hosts? Nest accounts show the cookie of `login_nest`, Google
 * accounts the session's access token, or the JWT behind it.
 */
export function mayUseCameras(asked: Asked, { tokens }: Cloud): boolean {
  const known = (token: string | undefined, ...kinds: Parameters<Tokens["expiresAtMs"]>[1][]) =>
    token !== undefined && tokens.expiresAtMs(token, ...kinds) !== undefined;
  return known(asked.cookie("website_2"), "cookie") ||
    known(basicToken(asked), "session", "jwt") ||
    known(asked.cookie("user_token"), "jwt");
}

/** An instant as the session's `expires_in` has it: `Tue, 01-Mar-2022 23:15:55 GMT`. */
export function sessionDate(atMs: number): string {
  return new Date(atMs).toUTCString().replace(/^(\w+, \d\d) (\w+) (\d+)/, "$1-$2-$3");
}
