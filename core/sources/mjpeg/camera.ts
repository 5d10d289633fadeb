/**
 * A camera that sends JPEGs one after the other in an HTTP answer without an end
 * (`multipart/x-mixed-replace`, "MJPEG"). Such streams carry no time: a picture's time is when its
 * last byte came, on the monotonic clock, and wall time is a label on it.
 *
 * @module
 */
import * as v from "valibot";
import { duration, httpUrl } from "../../config/values.ts";
import type { Source } from "../../types.ts";
import {
  bothOrNeither,
  createHttpCamera,
  httpCameraKeys,
  revealHeaders,
  revealLogin,
} from "../camera_http.ts";
import { OWN_CAMERA_RETRY_MS, type SourceContext } from "../context.ts";
import { describeUrl } from "../hosts.ts";
import { openHttp } from "../http.ts";
import { framesPerSecond } from "../snapshot.ts";
import { type MjpegSession, openMjpegSession } from "./session.ts";

/** Options of a camera of type `mjpeg`. */
export const mjpegOptions = v.pipe(
  v.strictObject({
    url: v.pipe(
      httpUrl(),
      v.description(
        "The address of the MJPEG stream. User name and password go into their own keys.",
      ),
    ),
    fps: v.optional(
      v.pipe(
        framesPerSecond(),
        v.description(
          "At most so many pictures per second, 0.01 to 30; what comes beyond that is left out " +
            "evenly. Without it every picture is taken.",
        ),
      ),
    ),
    ...httpCameraKeys,
    timeout: v.optional(
      v.pipe(
        duration({ minMs: 100, maxMs: 300_000 }),
        v.description("How long the camera may take to answer."),
      ),
      "5s",
    ),
  }),
  bothOrNeither(),
  v.description("Any address that gives an MJPEG stream (multipart/x-mixed-replace) over HTTP."),
);

/** Validated options of a camera of type `mjpeg`. */
export type MjpegOptions = v.InferOutput<typeof mjpegOptions>;

/** A {@linkcode Source} of MJPEG sessions. */
export interface MjpegSource extends Source {
  open(options: { readonly signal: AbortSignal }): Promise<MjpegSession>;
}

/** A camera of type `mjpeg` as a source of JPEGs. */
export function mjpegSource(options: MjpegOptions, context: SourceContext): MjpegSource {
  const home = new URL(options.url);
  const what = describeUrl(home);
  const { clock } = context;
  return {
    retryMs: OWN_CAMERA_RETRY_MS,
    async open({ signal }) {
      signal.throwIfAborted();
      const fixedHeaders = await revealHeaders(options);
      const authenticator = await revealLogin(options);
      const http = await openHttp({ clock, ca: options.ca, fetch: context.fetch });
      const connect = createHttpCamera({
        ...{ home, what, fixedHeaders, authenticator },
        accept: "multipart/x-mixed-replace, image/jpeg;q=0.5, */*;q=0.1",
        send: async (url, headers, signal) => {
          const stream = await http.stream(url, { signal, timeoutMs: options.timeout, headers });
          if (stream.status !== 200) stream.close(); // its head is all that is wanted
          return stream;
        },
      });
      return await openMjpegSession({
        ...{ clock, what, signal, connect, fps: options.fps },
        close: () => http[Symbol.dispose](),
      });
    },
  };
}
