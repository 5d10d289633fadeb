/**
 * Faults on demand: what the simulated servers can be told to do wrong, how often, and to whom.
 *
 * @module
 */
import type { Clock } from "../../core/types.ts";
import type { Answer, Asked, Reply } from "../http_server.ts";

/** Every kind of fault, with what it does. */
export const FAULT_KINDS: Readonly<Record<string, string>> = {
  never: "takes the request and never answers",
  slow: "answers after `ms`",
  reset: "breaks the connection before answering",
  empty: "answers 200 with an empty body",
  html: "answers 200 with an HTML page",
  truncated: "answers with half of the body, its length given honestly",
  cut: "announces the whole body and breaks the connection in the middle",
  status: "answers with `status`, and `Retry-After: retryAfterSeconds` if that is given",
  "logged-out": "answers 200 with the error USER_LOGGED_OUT (accounts only)",
  "login-page": "answers 302 to an HTML login page (accounts only)",
  unauthorized: "answers 200 with `status: 403` in the body (camera API only)",
};

/** The hosts of the simulated cloud; `image` is every regional one. */
export const FAULT_HOSTS = ["accounts", "jwt", "home", "transport", "camera", "image"] as const;

/** One of {@linkcode FAULT_HOSTS}. */
export type FaultHost = typeof FAULT_HOSTS[number];

/** A fault that is to happen. */
export interface Fault {
  /** One of {@linkcode FAULT_KINDS}. */
  readonly kind: string;
  /** Where it happens; `image` by default. */
  readonly on?: FaultHost;
  /** Only for the camera of this name or uuid. */
  readonly camera?: string;
  /** Only for paths that contain this. */
  readonly path?: string;
  /** How often; without it until it is removed. */
  readonly count?: number;
  /** How long a `slow` answer takes, ms. */
  readonly ms?: number;
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
}

/** Makes an empty desk. */
export function createFaults(clock: Clock): FaultDesk {
  let active: ActiveFault[] = [];
  let nextId = 1;

  const take = (
    on: FaultHost,
    asked: Asked,
    camera: readonly string[],
  ): ActiveFault | undefined => {
    const fault = active.findLast((candidate) =>
      candidate.on === on &&
      (candidate.camera === undefined || camera.includes(candidate.camera)) &&
      (candidate.path === undefined || asked.path.includes(candidate.path))
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
      active.push({ ...fault, on: fault.on ?? "image", id, happened: 0 });
      return () => this.clear(id);
    },
    list: () => active,
    clear(id) {
      active = id === undefined ? [] : active.filter((fault) => fault.id !== id);
    },
    async around({ on, asked, camera = [] }, proper) {
      const fault = take(on, asked, camera);
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
