/**
 * The recordings that Google keeps of one camera: a DASH manifest lists them, and each stretch of at
 * most a minute can be had as an MP4 file, as it was recorded.
 *
 * The manifest is asked for in windows of three hours (about six are accepted), the files for at most
 * sixty seconds. An event that goes on grows: each of its minutes is listed a minute after it is
 * whole, and what is left a minute after its end.
 *
 * @module
 */
import { type Archive, type ArchivedClip, type Clock, sourceError } from "../../types.ts";
import { describeUrl } from "../hosts.ts";
import { type Http, type HttpResponse, passingError, retryAfterMs } from "../http.ts";
import { parseManifest } from "./manifest.ts";
import type { TokenKeeper } from "../token_keeper.ts";

const WINDOW_MS = 3 * 3_600_000;
const PIECE_MS = 60_000;
const SETTLED_MS = 60_000;
const MANIFEST = { timeoutMs: 30_000, maxBytes: 16 * 2 ** 20 } as const;
const CLIP = { timeoutMs: 120_000, maxBytes: 256 * 2 ** 20 } as const;

/** Opens a camera's archive; nothing is sent yet. */
export function googleArchive(
  { id, endpoint, historyMs, http, token, clock }: {
    /** `DEVICE_…` */
    readonly id: string;
    readonly endpoint: URL;
    readonly historyMs: number;
    readonly http: Http;
    /** Of the scope for recordings. */
    readonly token: TokenKeeper<string>;
    readonly clock: Clock;
  },
): Archive {
  const urlOf = (kind: string, query: Readonly<Record<string, string>>) => {
    const path = `/${kind}/namespace/nest-phoenix-prod/device/${id}`;
    const url = new URL(endpoint.pathname.replace(/\/$/, "") + path, endpoint);
    url.search = new URLSearchParams(query).toString();
    return url;
  };

  /** One request; with a new token where the first one is refused. */
  const ask = (
    url: URL,
    options: {
      readonly signal: AbortSignal;
      readonly timeoutMs: number;
      readonly maxBytes: number;
    },
  ): Promise<HttpResponse> =>
    token.use(
      (bearer) => http.request(url, { ...options, headers: { authorization: `Bearer ${bearer}` } }),
      { signal: options.signal, isRefused: ({ status }) => status === 401 },
    );

  const failure = (response: HttpResponse) => {
    const { status, headers, url } = response;
    const what = `${describeUrl(url)}: status ${status}`;
    const waitMs = retryAfterMs(headers, clock.now());
    const wait = waitMs === undefined ? {} : { retryAfterMs: waitMs };
    if (status === 401 || status === 403) {
      return sourceError(
        "auth",
        `Google does not give out the recordings of ${id} to this account (${what}): ` +
          "see that it may look at the camera's history in the Google Home app",
        { ...wait, retryAfterMs: waitMs ?? 300_000 },
      );
    }
    if (status === 429) return sourceError("rate", what, { retryAfterMs: waitMs ?? 60_000 });
    return Object.assign(passingError(status >= 500 ? "offline" : "protocol", what), wait);
  };

  return {
    historyMs,
    async list({ from, signal }) {
      const nowMs = clock.now();
      const found = new Map<string, ArchivedClip>();
      for (let startMs = from.getTime(); startMs < nowMs; startMs += WINDOW_MS) {
        const url = urlOf("dashmanifest", {
          start_time: new Date(startMs).toISOString(),
          end_time: new Date(Math.min(startMs + WINDOW_MS, nowMs)).toISOString(),
          types: "4",
          variant: "2",
        });
        const response = await ask(url, { ...MANIFEST, signal });
        if (response.status === 404) continue; // nothing in this window
        if (response.status !== 200) throw failure(response);
        const periods = parseManifest(new TextDecoder().decode(response.bytes));
        for (const { startMs, endMs } of periods) {
          for (let atMs = startMs; atMs < endMs; atMs += PIECE_MS) {
            const untilMs = Math.min(atMs + PIECE_MS, endMs);
            // The last piece of an event that goes on grows; the whole ones before it stay as they are.
            if (untilMs + SETTLED_MS > nowMs) break;
            if (atMs < from.getTime()) continue;
            found.set(`${atMs}-${untilMs}`, { start: new Date(atMs), end: new Date(untilMs) });
          }
        }
      }
      return [...found.values()].sort((a, b) => a.start.getTime() - b.start.getTime());
    },
    async fetch({ start, end }, { signal }) {
      const url = urlOf("mp4clip", {
        start_time: String(start.getTime()),
        end_time: String(end.getTime()),
      });
      const response = await ask(url, { ...CLIP, signal });
      if (response.status === 404) return undefined;
      if (response.status !== 200) throw failure(response);
      return response.bytes;
    },
  };
}
