/**
 * A camera that gives a JPEG under a URL, asked at a steady rate. Basic and digest logins, an
 * `ETag` used to ask for a picture only if it is new, redirects followed with care (`hosts.ts`).
 *
 * `If-Modified-Since` is not used: its dates count whole seconds, so a camera asked twice a second
 * would seem to stand still.
 *
 * @module
 */
import * as v from "valibot";
import { duration, httpUrl } from "../config/values.ts";
import {
  bothOrNeither,
  createHttpCamera,
  httpCameraKeys,
  revealHeaders,
  revealLogin,
  statusError,
} from "./camera_http.ts";
import { OWN_CAMERA_RETRY_MS, type SourceContext } from "./context.ts";
import { describeUrl } from "./hosts.ts";
import { type Http, openHttp } from "./http.ts";
import type { Authenticator } from "./http_auth.ts";
import { openPollingSession, type PollingSource, type Shot } from "./polling.ts";

/** How many pictures per second a camera may be asked for. */
export function framesPerSecond() {
  const message = "expected a number of pictures per second from 0.01 to 30";
  return v.pipe(v.number(message), v.minValue(0.01, message), v.maxValue(30, message));
}

/** The largest picture that is accepted: an 8K JPEG at the best quality stays below it. */
export const MAX_PICTURE_BYTES = 32 * 2 ** 20;

/** Options of a camera of type `snapshot`. */
export const snapshotOptions = v.pipe(
  v.strictObject({
    url: v.pipe(
      httpUrl(),
      v.description(
        "The address that gives a JPEG picture. User name and password go into their own keys.",
      ),
    ),
    fps: v.optional(
      v.pipe(
        framesPerSecond(),
        v.description("Pictures per second, 0.01 to 30. 0.1 is one picture in ten seconds."),
      ),
      2,
    ),
    ...httpCameraKeys,
    timeout: v.optional(
      v.pipe(
        duration({ minMs: 100, maxMs: 300_000 }),
        v.description("How long one picture may take to come."),
      ),
      "5s",
    ),
  }),
  bothOrNeither(),
  v.description("Any address that gives a JPEG picture over HTTP."),
);

/** Validated options of a camera of type `snapshot`. */
export type SnapshotOptions = v.InferOutput<typeof snapshotOptions>;

/** A camera of type `snapshot` as a source of JPEGs. */
export function snapshotSource(
  options: SnapshotOptions,
  context: SourceContext,
): PollingSource {
  const home = new URL(options.url);
  const what = describeUrl(home);
  return {
    retryMs: OWN_CAMERA_RETRY_MS,
    async open({ signal }) {
      signal.throwIfAborted();
      const fixedHeaders = await revealHeaders(options);
      const authenticator = await revealLogin(options);
      const http = await openHttp({ clock: context.clock, ca: options.ca, fetch: context.fetch });
      const camera = createCamera({
        options,
        home,
        what,
        http,
        fixedHeaders,
        authenticator,
        context,
      });
      return await openPollingSession({
        clock: context.clock,
        fps: options.fps,
        what,
        signal,
        silenceMs: Math.max(10_000, options.timeout),
        shoot: camera.shoot,
        close: () => http[Symbol.dispose](),
      });
    },
  };
}

function createCamera(
  { options, home, what, http, fixedHeaders, authenticator, context: { clock } }: {
    readonly options: SnapshotOptions;
    readonly home: URL;
    readonly what: string;
    readonly http: Http;
    readonly fixedHeaders: Readonly<Record<string, string>>;
    readonly authenticator: Authenticator | undefined;
    readonly context: SourceContext;
  },
): { shoot(signal: AbortSignal): Promise<Shot> } {
  /** The `ETag` of the last picture, and where it came from. */
  let known: { readonly etag: string; readonly url: string } | undefined;

  const ask = createHttpCamera({
    ...{ home, what, fixedHeaders, authenticator },
    accept: "image/jpeg, image/*;q=0.5",
    send: (url, headers, signal) =>
      http.request(url, {
        signal,
        timeoutMs: options.timeout,
        maxBytes: MAX_PICTURE_BYTES,
        headers: {
          ...headers,
          ...(known?.url === url.href ? { "if-none-match": known.etag } : {}),
        },
      }),
  });

  return {
    async shoot(signal) {
      const { url, status, headers, bytes, sentMs, respondedMs, respondedAtMs } = await ask(signal);
      const times = { sentMs, respondedMs, respondedAtMs };
      if (status === 304 && known !== undefined) return { ...times, picture: "same" };
      if (status !== 200) throw statusError({ status, headers }, what, clock.now());
      const etag = headers.get("etag");
      known = etag === null ? undefined : { etag, url: url.href };
      return { ...times, picture: bytes };
    },
  };
}
