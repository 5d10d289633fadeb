/**
 * Faults on demand: what the simulated servers can be told to do wrong, how often, and to whom.
 *
 * @module
 */
import type { Clock } from "../../core/types.ts";
import type { Answer, Asked, Reply } from "../http_server.ts";

/** Faults of the live streams, all on the host `nexus`; `at` says when. */
const NEXUS_KINDS: Readonly<Record<string, string>> = {
  "redirect": "sends the client to another host; at hello, ok, start or playing",
  "redirect-to": "sends the client to `host`, which is none of the cloud's",
  "auth-error": "answers ERROR 3 and waits for AUTHORIZE_REQUEST; at hello, start or playing",
  "error": "answers ERROR `code`",
  "playback-end": "ends the playback with `reason`",
  "stall": "says nothing more, the connection stays",
  "close": "closes the connection in good order",
  "split": "cuts every packet in two, at another byte each time",
  "joined": "sends packets three at a time",
  "long": "sends every picture and sound in a long packet",
  "zeros": "writes zeros that others leave out",
  "unknown": "sends packets of the types 206, 210 and 250 in between",
  "timestamp-jump": "adds `ticks` to one picture's timestamp delta",
  "negative-delta": "one picture's delta is negative, and the next one's makes up for it",
  "delta-gap": "leaves out the pictures and sound of `ms`, told by the next delta",
  "parameter-change": "goes on in another size, with other parameter sets",
  "garbage": "sends a packet that declares 1 GiB",
};

/** Every kind of fault, with what it does. */
export const FAULT_KINDS: Readonly<Record<string, string>> = {
  never: "takes the request and never answers",
  slow: "answers after `ms`",
  reset: 'breaks the connection before answering; with `on: "nexus"` a live stream\'s',
  empty: "answers 200 with an empty body",
  html: "answers 200 with an HTML page",
  truncated: "answers with half of the body, its length given honestly",
  cut: "announces the whole body and breaks the connection in the middle",
  status: "answers with `status`, and `Retry-After: retryAfterSeconds` if that is given",
  "logged-out": "answers 200 with the error USER_LOGGED_OUT (accounts only)",
  "login-page": "answers 302 to an HTML login page (accounts only)",
  unauthorized: "answers 200 with `status: 403` in the body (camera API only)",
  ...NEXUS_KINDS,
};

/**
 * The hosts of the simulated clouds; `image` is every regional one of Nest's, `nexus` the live
 * streams'. The last four are those of Device Access: the token endpoint, the device API, the events,
 * pictures and clips.
 */
export const FAULT_HOSTS = [
  ...["accounts", "jwt", "home", "transport", "camera", "image", "nexus"] as const,
  ...["oauth", "sdm", "pubsub", "media"] as const,
] as const;

/**
 * When a fault of a live stream happens: with HELLO, right after OK, with START_PLAYBACK, or `ms` into
 * the playing.
 */
export const FAULT_MOMENTS = ["hello", "ok", "start", "playing"] as const;

/** One of {@linkcode FAULT_MOMENTS}. */
export type FaultMoment = typeof FAULT_MOMENTS[number];

/** One of {@linkcode FAULT_HOSTS}. */
export type FaultHost = typeof FAULT_HOSTS[number];

/** A fault that is to happen. */
export interface Fault {
  /** One of {@linkcode FAULT_KINDS}. */
  readonly kind: string;
  /** Where it happens; `image` by default, `nexus` for what only happens there. */
  readonly on?: FaultHost;
  /** Only for the camera of this name or uuid. */
  readonly camera?: string;
  /** Only for paths that contain this. */
  readonly path?: string;
  /** How often; without it until it is removed. */
  readonly count?: number;
  /** How long a `slow` answer takes, or how far into the playing a stream's fault is, ms. */
  readonly ms?: number;
  /** When a fault of a live stream happens; `playing` by default. */
  readonly at?: FaultMoment;
  /** The reason of `playback-end`; 4 by default. */
  readonly reason?: number;
  /** The code of `error`; 6 by default. */
  readonly code?: number;
  /** What `timestamp-jump` adds, in ticks of the channel; an hour of pictures by default. */
  readonly ticks?: number;
  /** Where `redirect-to` leads. */
  readonly host?: string;
  /** The HTTP status of the kind `status`. */
  readonly status?: number;
  /** The `Retry-After` header of the kind `status`, s. */
  readonly retryAfterSeconds?: number;
}

/** A fault that was added and has not run out. */
export interface ActiveFault extends Fault {
  /** Names the fault to `clear`. */
  readonly id: number;
  /** Where it happens. */
  readonly on: FaultHost;
  /** How often it happened so far. */
  readonly happened: number;
}

/** The faults of one simulator. */
export interface Faults {
  /**
   * Adds a fault; the one added last wins.
   *
   * @returns removes it again
   * @throws if the fault makes no sense, saying what was expected
   */
  add(fault: Fault): () => void;
  /** Those that have not run out. */
  list(): readonly ActiveFault[];
  /** Removes all, or the one with this id. */
  clear(id?: number): void;
}

/** What the servers ask: does something go wrong with this request, and how? */
export interface FaultDesk extends Faults {
  /** Answers with the fault that is due, or with what `proper` gives. */
  around(
    where: { readonly on: FaultHost; readonly asked: Asked; readonly camera?: readonly string[] },
    proper: () => Promise<Answer> | Answer,
  ): Promise<Answer>;
  /** The fault of a live stream that is due now, if any; it counts as happened. */
  due(
    where: {
      readonly at: FaultMoment;
      /** Of a playback: how long it has gone on. */
      readonly playingMs?: number;
      /** Only these that fit. */
      readonly fits?: (fault: ActiveFault) => boolean;
      readonly camera: readonly string[];
    },
  ): ActiveFault | undefined;
}

/** Makes an empty desk. */
export function createFaults(clock: Clock): FaultDesk {
  let active: ActiveFault[] = [];
  let nextId = 1;

  const take = (
    on: FaultHost,
    camera: readonly string[],
    fits: (candidate: ActiveFault) => boolean,
  ): ActiveFault | undefined => {
    const fault = active.findLast((candidate) =>
      candidate.on === on &&
      (candidate.camera === undefined || camera.includes(candidate.camera)) && fits(candidate)
    );
    if (!fault) return undefined;
    const happened = fault.happened + 1;
    active = happened === fault.count
      ? active.filter((candidate) => candidate !== fault)
      : active.map((candidate) => candidate === fault ? { ...fault, happened } : candidate);
    return fault;
  };

  return {
    add(fault) {
      checkFault(fault);
      const id = nextId++;
      const on = fault.on ?? (Object.hasOwn(NEXUS_KINDS, fault.kind) ? "nexus" : "image");
      if ((on === "nexus") !== Object.hasOwn(NEXUS_KINDS, fault.kind) && fault.kind !== "reset") {
        throw new Error(`the fault ${JSON.stringify(fault.kind)} cannot happen on the host ${on}`);
      }
      active.push({ ...fault, on, id, happened: 0 });
      return () => this.clear(id);
    },
    list: () => active,
    clear(id) {
      active = id === undefined ? [] : active.filter((fault) => fault.id !== id);
    },
    due: ({ at, playingMs = Infinity, fits = () => true, camera }) =>
      take(
        "nexus",
        camera,
        (fault) => (fault.at ?? "playing") === at && (fault.ms ?? 0) <= playingMs && fits(fault),
      ),
    async around({ on, asked, camera = [] }, proper) {
      const fault = take(
        on,
        camera,
        ({ path }) => path === undefined || asked.path.includes(path),
      );
      if (!fault) return await proper();
      switch (fault.kind) {
        case "never":
        case "reset":
          return fault.kind;
        case "slow":
          await clock.sleep(fault.ms ?? 0, { signal: asked.signal });
          return await proper();
        case "truncated":
        case "cut":
          return shorten(await proper(), fault.kind);
        default:
          return wrongReply(fault);
      }
    },
  };
}

function checkFault(fault: Fault): void {
  if (!Object.hasOwn(FAULT_KINDS, fault.kind)) {
    throw new Error(
      `there is no fault ${JSON.stringify(fault.kind)}: expected one of ${
        Object.keys(FAULT_KINDS).join(", ")
      }`,
    );
  }
  if (fault.on !== undefined && !FAULT_HOSTS.includes(fault.on)) {
    throw new Error(
      `there is no host ${JSON.stringify(fault.on)}: expected one of ${FAULT_HOSTS.join(", ")}`,
    );
  }
  const numbers: readonly (readonly [string, unknown, number, number])[] = [
    ["count", fault.count, 1, Infinity],
    ["ms", fault.ms, 0, Infinity],
    ["status", fault.status, 200, 599],
    ["reason", fault.reason, 0, 255],
    ["code", fault.code, 0, 255],
    ["ticks", fault.ticks, -(2 ** 31), 2 ** 31],
    ["retryAfterSeconds", fault.retryAfterSeconds, 0, Infinity],
  ];
  for (const [name, value, least, most] of numbers) {
    if (value === undefined) continue;
    if (typeof value !== "number" || !(value >= least && value <= most)) {
      throw new Error(
        `the fault's ${name} is ${
          JSON.stringify(value)
        }: expected a number from ${least} to ${most}`,
      );
    }
  }
  if (fault.at !== undefined && !FAULT_MOMENTS.includes(fault.at)) {
    throw new Error(
      `the fault's moment is ${JSON.stringify(fault.at)}: expected one of ${
        FAULT_MOMENTS.join(", ")
      }`,
    );
  }
  if (fault.kind === "redirect-to" && typeof fault.host !== "string") {
    throw new Error('a fault of the kind "redirect-to" needs "host": where it leads');
  }
  if (fault.kind === "slow" && fault.ms === undefined) {
    throw new Error('a fault of the kind "slow" needs "ms": how long the answer takes');
  }
  if (fault.kind === "status" && fault.status === undefined) {
    throw new Error('a fault of the kind "status" needs "status": an HTTP status such as 503');
  }
}

function shorten(answer: Answer, kind: "truncated" | "cut"): Answer {
  if (typeof answer === "string") return answer;
  const body = typeof answer.body === "string"
    ? new TextEncoder().encode(answer.body)
    : answer.body ?? new Uint8Array();
  const half = body.length >> 1;
  return kind === "cut"
    ? { ...answer, body, cutAfterBytes: half }
    : { ...answer, body: body.subarray(0, half) };
}

function wrongReply(fault: Fault): Reply {
  const html = { "content-type": "text/html; charset=utf-8" };
  switch (fault.kind) {
    case "empty":
      return { status: 200, body: "" };
    case "logged-out":
      return {
        headers: { "content-type": "application/json" },
        body: '{"error":"USER_LOGGED_OUT","detail":"No active session found."}',
      };
    case "login-page":
      return {
        status: 302,
        headers: { ...html, location: "https://accounts.google.com/ServiceLogin" },
        body: "<!doctype html><title>Sign in - Google Accounts</title>",
      };
    case "unauthorized":
      return {
        headers: { "content-type": "application/json" },
        body:
          '{"status":403,"items":[],"status_description":"unauthorized","status_detail":"Unauthorized."}',
      };
    case "status":
      return {
        status: fault.status ?? 500,
        headers: {
          ...html,
          ...(fault.retryAfterSeconds === undefined
            ? {}
            : { "retry-after": String(fault.retryAfterSeconds) }),
        },
        body: `<!doctype html><title>${fault.status}</title>`,
      };
    default:
      return {
        headers: html,
        body: "<!doctype html><title>Nest</title><p>We are down for maintenance.</p>",
      };
  }
}
