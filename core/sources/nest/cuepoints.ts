/**
 * What happens before a Nest camera, as its regional host lists it: `GET /cuepoint/<uuid>/2`, asked
 * every five seconds for the last minute. A cuepoint is told when it is new and, while it lasts, each
 * time again.
 *
 * Times come in seconds or in milliseconds, depending on the field and the server's version: what is
 * beyond 10^10 is milliseconds.
 *
 * @module
 */
import { type CameraEvent, sourceError } from "../../types.ts";
import { passingError } from "../http.ts";
import { below, field, jsonOf, type NestApi, refusal } from "./api.ts";
import type { NestAuth } from "./auth.ts";
import type { NestCamera } from "./discovery.ts";

const POLL_MS = 5000;
const LOOK_BACK_MS = 60_000;
const TIMEOUT_MS = 10_000;
const MAX_BYTES = 2 ** 20;
/** More cuepoints of a minute than this are not believed. */
const MAX_CUEPOINTS = 500;

/** A camera's events from now on, until `signal` is aborted. @throws a source error */
export async function* nestEvents(
  { api, auth, latest, signal }: {
    readonly api: NestApi;
    readonly auth: NestAuth;
    /** The camera as discovered last; `undefined` when it is no longer in the account. */
    latest(): NestCamera | undefined;
    readonly signal: AbortSignal;
  },
): AsyncGenerator<CameraEvent> {
  const { clock } = api;
  const sinceMs = clock.now();
  /** Cuepoints that are over and were told, with their end. */
  const told = new Map<string, number>();
  while (!signal.aborted) {
    const nowMs = clock.now();
    const cuepoints = await ask({ api, auth, latest, signal }, nowMs - LOOK_BACK_MS);
    for (const { id, isOver, ...event } of parseCuepoints(cuepoints, nowMs)) {
      if (told.has(id) || event.endMs < sinceMs) continue;
      if (isOver) told.set(id, event.endMs);
      yield event;
    }
    for (const [id, endMs] of told) if (endMs < nowMs - 10 * LOOK_BACK_MS) told.delete(id);
    await clock.sleep(POLL_MS, { signal });
  }
}

async function ask(
  { api, auth, latest, signal }: Parameters<typeof nestEvents>[0],
  fromMs: number,
): Promise<unknown> {
  const camera = latest();
  if (camera === undefined) throw sourceError("gone", "the camera is no longer in its account");
  const { label, images } = camera;
  if (!(images instanceof URL)) throw sourceError("protocol", `${label}: ${images.problem}`);
  const url = below(images, `/cuepoint/${camera.id}/2`);
  url.searchParams.set("start_time", String(Math.floor(fromMs / 1000)));
  const get = (headers: Readonly<Record<string, string>>) =>
    api.request(url, { signal, headers, timeoutMs: TIMEOUT_MS, maxBytes: MAX_BYTES });
  const response = await auth.use(({ cameraHeaders }) => get(cameraHeaders), {
    signal,
    proven: false,
  });
  if (response.status !== 200) {
    throw refusal(response, {
      clock: api.clock,
      refused: `${label}: the cloud refuses the list of events to this login`,
    });
  }
  const answer = jsonOf(response);
  if (!Array.isArray(answer)) {
    throw passingError("protocol", `${label}: expected a list of events, got something else`);
  }
  return answer;
}

/** A cuepoint. */
export interface Cuepoint extends CameraEvent {
  readonly id: string;
  readonly endMs: number;
  /** It lasts no longer. */
  readonly isOver: boolean;
}

/** The cuepoints of an answer; what has no time is left out. */
export function parseCuepoints(answer: unknown, nowMs: number): Cuepoint[] {
  if (!Array.isArray(answer)) return [];
  return answer.slice(-MAX_CUEPOINTS).flatMap((item: unknown): Cuepoint[] => {
    const startMs = wallMs(field(item, "start_time"));
    if (startMs === undefined || startMs > nowMs + 3_600_000) return [];
    const given = wallMs(field(item, "end_time"));
    const isOver = field(item, "in_progress") !== true && given !== undefined;
    const types = field(item, "types");
    const kind: unknown = Array.isArray(types) ? types[0] : undefined;
    const id = field(item, "id");
    return [{
      id: typeof id === "string" || typeof id === "number" ? String(id) : String(startMs),
      kind: typeof kind === "string" && /^[\w-]{1,40}$/.test(kind) ? kind : "motion",
      startMs,
      endMs: isOver ? Math.max(startMs, given) : Math.max(startMs, nowMs),
      isOver,
    }];
  });
}

function wallMs(value: unknown): number | undefined {
  const number = typeof value === "number" ? value : Number.NaN;
  if (!(number > 0) || !Number.isFinite(number)) return undefined;
  return Math.round(number > 1e10 ? number : number * 1000);
}
