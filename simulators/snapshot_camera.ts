/**
 * A simulated snapshot camera: one HTTP server whose `/snap.jpg` gives the scene, behind no login,
 * Basic (RFC 7617) or Digest (RFC 7616, `qop=auth`, MD5 or SHA-256, with stale nonces), with or
 * without ETags and keep-alive.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { systemClock } from "../core/clock.ts";
import type { Clock } from "../core/types.ts";
import {
  type Answer,
  type Asked,
  listenOnLoopback,
  type Reply,
  type ServerTls,
} from "./http_server.ts";
import { createFaults, type Faults } from "./nest/faults.ts";
import { createScene } from "./scene/scene.ts";

/** How a snapshot camera asks who is there. */
export type SnapshotAuth =
  | { readonly type: "none" }
  | { readonly type: "basic"; readonly username: string; readonly password: string }
  | {
    readonly type: "digest";
    readonly username: string;
    readonly password: string;
    /** `MD5` by default; a list offers several challenges, the best one first. */
    readonly algorithms?: readonly ("MD5" | "SHA-256")[];
    /** How often a nonce may be used before it is called stale; without limit by default. */
    readonly nonceUses?: number;
  };

/** What a snapshot camera is made from. */
export interface SnapshotCameraOptions {
  /** Written into the picture, and the seed of its place. */
  readonly name: string;
  /** 1280 by default. */
  readonly widthPx?: number;
  /** 720 by default. */
  readonly heightPx?: number;
  /** 0, the default, takes any free port. */
  readonly port?: number;
  /** None by default. */
  readonly auth?: SnapshotAuth;
  /** How often the picture changes; without it every request gets a new one. */
  readonly fps?: number;
  /** Gives an ETag, and 304 to who has the picture already. */
  readonly etag?: boolean;
  /** True by default; false closes the connection after each picture. */
  readonly keepAlive?: boolean;
  /** A scene in which nothing moves. */
  readonly still?: boolean;
  /** Serve HTTPS with this certificate, which must name 127.0.0.1. */
  readonly tls?: ServerTls;
  /** The machine's own clocks by default. */
  readonly clock?: Clock;
  /** Gives numbers in [0, 1); makes the nonces. */
  readonly random?: () => number;
  /** Closes the camera. */
  readonly signal?: AbortSignal;
}

/** What a snapshot camera has served. */
export interface SnapshotCounts {
  /** All of them, refused ones too. */
  readonly requests: number;
  /** Pictures given, whole or spoiled by a fault. */
  readonly pictures: number;
  /** Answers 304. */
  readonly unchanged: number;
  /** Answers 401. */
  readonly challenged: number;
  /** Counter of the newest frame; 0 before the first. */
  readonly lastCounter: number;
}

/** A running snapshot camera. */
export interface SnapshotCamera extends AsyncDisposable {
  /** Written into the picture. */
  readonly name: string;
  /** `http://127.0.0.1:PORT/snap.jpg` */
  readonly url: string;
  /** What it has served so far. */
  readonly served: SnapshotCounts;
  /** As in the simulated cloud; all of them on the host `image`. */
  readonly faults: Faults;
  /** Breaks all connections and frees the port. */
  close(): Promise<void>;
}

const REALM = "simulated camera";

/** Starts a snapshot camera; it runs until `close`, or until `signal` is aborted. */
export async function startSnapshotCamera(
  options: SnapshotCameraOptions,
): Promise<SnapshotCamera> {
  options.signal?.throwIfAborted();
  const { name, widthPx = 1280, heightPx = 720, still, fps, etag = false } = options;
  const clock = options.clock ?? systemClock;
  const faults = createFaults(clock);
  const scene = createScene({ name, widthPx, heightPx, still });
  const door = createDoor(options.auth ?? { type: "none" }, options.random ?? Math.random);
  const counts = { requests: 0, pictures: 0, unchanged: 0, challenged: 0, lastCounter: 0 };
  let last: { readonly slot: number; readonly tag: string; readonly jpeg: Uint8Array } | undefined;

  const picture = () => {
    const takenAtMs = clock.now();
    const slot = fps === undefined ? NaN : Math.floor(takenAtMs * fps / 1000);
    if (last?.slot !== slot) {
      const counter = ++counts.lastCounter;
      last = { slot, tag: `"${counter}"`, jpeg: scene.frame({ counter, takenAtMs }) };
    }
    return last;
  };
  const answer = (asked: Asked): Answer => {
    if (asked.path !== "/snap.jpg") return { status: 404, body: "the picture is at /snap.jpg\n" };
    const challenge = door(asked);
    if (challenge) {
      counts.challenged++;
      return challenge;
    }
    const { tag, jpeg } = picture();
    const tagHeader: Record<string, string> = etag ? { etag: tag } : {};
    if (etag && asked.header("if-none-match").split(",").map((one) => one.trim()).includes(tag)) {
      counts.unchanged++;
      return { status: 304, headers: tagHeader };
    }
    counts.pictures++;
    return { headers: { "content-type": "image/jpeg", ...tagHeader }, body: jpeg };
  };
  const server = await listenOnLoopback({
    port: options.port,
    keepAlive: options.keepAlive,
    tls: options.tls,
    handle: async (asked) => {
      counts.requests++;
      return await faults.around({ on: "image", asked, camera: [name] }, () => answer(asked));
    },
  });
  const close = async () => {
    options.signal?.removeEventListener("abort", closeQuietly);
    await server.close();
  };
  const closeQuietly = () => void close();
  options.signal?.addEventListener("abort", closeQuietly, { once: true });
  if (options.signal?.aborted) await close();
  return {
    name,
    url: `${server.url}/snap.jpg`,
    get served() {
      return { ...counts };
    },
    faults,
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Decides who may come in: `undefined` for yes, else the challenge. */
export type Door = (asked: Asked) => Reply | undefined;

/** The door of a camera with this login. */
export function createDoor(auth: SnapshotAuth, random: () => number): Door {
  switch (auth.type) {
    case "none":
      return () => undefined;
    case "basic": {
      const right = Buffer.from(`${auth.username}:${auth.password}`).toString("base64");
      return (asked) =>
        asked.header("authorization") === `Basic ${right}`
          ? undefined
          : challenge([`Basic realm="${REALM}", charset="UTF-8"`]);
    }
    case "digest":
      return createDigestDoor(auth, random);
  }
}

function challenge(challenges: readonly string[]): Reply {
  return {
    status: 401,
    headers: { "www-authenticate": challenges.join(", "), "content-type": "text/plain" },
    body: "401 Unauthorized\n",
  };
}

function createDigestDoor(
  auth: Extract<SnapshotAuth, { type: "digest" }>,
  random: () => number,
): Door {
  const algorithms = auth.algorithms ?? ["MD5"];
  /** Highest `nc` seen of each nonce: a request may not be played again. */
  const lastCount = new Map<string, number>();
  const challengeAnew = (stale: boolean): Reply => {
    const nonce = Math.floor(random() * 2 ** 48).toString(16).padStart(12, "0") + lastCount.size;
    lastCount.set(nonce, 0);
    return challenge(
      algorithms.map((algorithm) =>
        `Digest realm="${REALM}", qop="auth", algorithm=${algorithm}, nonce="${nonce}"` +
        `, opaque="5ccc069c"${stale ? ", stale=true" : ""}`
      ),
    );
  };
  return (asked) => {
    const given = parseDigest(asked.header("authorization"));
    if (!given) return challengeAnew(false);
    const algorithm = algorithms.find((one) => one === (given["algorithm"] ?? "MD5"));
    const nonce = given["nonce"] ?? "";
    const used = lastCount.get(nonce);
    const count = parseInt(given["nc"] ?? "", 16);
    if (!algorithm || given["qop"] !== "auth" || given["opaque"] !== "5ccc069c") {
      return challengeAnew(false);
    }
    const hash = (text: string) =>
      createHash(algorithm === "MD5" ? "md5" : "sha256").update(text).digest("hex");
    const query = asked.query.toString();
    const uri = given["uri"] ?? "";
    const secret = hash(`${auth.username}:${REALM}:${auth.password}`);
    const expected = hash(
      [secret, nonce, given["nc"], given["cnonce"], "auth", hash(`${asked.method}:${uri}`)]
        .join(":"),
    );
    const rightUri = new URL(URL.canParse(uri, "http://loopback") ? uri : "", "http://loopback");
    if (
      given["username"] !== auth.username || given["response"] !== expected ||
      rightUri.pathname !== asked.path || rightUri.searchParams.toString() !== query
    ) return challengeAnew(false);
    // The password is right from here on: what is wrong with the nonce is only its age.
    if (used === undefined || !(count > used) || count > (auth.nonceUses ?? Infinity)) {
      return challengeAnew(true);
    }
    lastCount.set(nonce, count);
    return undefined;
  };
}

/** The parameters of `Authorization: Digest …`; `undefined` if it is none. */
function parseDigest(header: string): Readonly<Record<string, string>> | undefined {
  if (!/^Digest /i.test(header)) return undefined;
  const found: Record<string, string> = {};
  for (
    const [, name, quoted, plain] of header.matchAll(/(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))/g)
  ) {
    if (name) found[name.toLowerCase()] = quoted?.replace(/\\(.)/g, "$1") ?? plain ?? "";
  }
  return found;
}
