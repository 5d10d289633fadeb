/**
 * One camera of a Nest account as a source: `get_image` of its regional host, asked at a steady
 * rate with the login that all cameras share. A login that has just expired is renewed and the
 * picture asked for again at once, so that its moment is not lost.
 *
 * @module
 */
import { sourceError } from "../../types.ts";
import { passingError } from "../http.ts";
import { openPollingSession, type PollingSource } from "../polling.ts";
import { MAX_PICTURE_BYTES } from "../snapshot.ts";
import { below, type NestApi, refusal } from "./api.ts";
import type { NestAuth } from "./auth.ts";
import type { NestCamera } from "./discovery.ts";
import type { NestOptions } from "./options.ts";

/** What a camera of an account works with. */
export interface NestCameraOptions {
  readonly api: NestApi;
  readonly auth: NestAuth;
  readonly options: Pick<NestOptions, "width" | "fps" | "timeout">;
  /** Ends every session when the account is closed. */
  readonly closing: AbortSignal;
  /** The camera as discovered last; `undefined` when it is no longer in the account. */
  latest(): NestCamera | undefined;
  /** Called with the size of the pictures when a session begins. */
  onSize(widthPx: number, heightPx: number): void;
}

/** The camera as a source. Its session always uses what the last discovery said about it. */
export function nestCameraSource(
  { api, auth, options, closing, latest, onSize }: NestCameraOptions,
): PollingSource {
  /** Whether a login has worked for this camera. */
  let proven = false;

  const shoot = async (signal: AbortSignal) => {
    const camera = latest();
    if (camera === undefined) throw sourceError("gone", "the camera is no longer in its account");
    const { label, images } = camera;
    if (!(images instanceof URL)) throw sourceError("protocol", `${label}: ${images.problem}`);
    const get = (headers: Readonly<Record<string, string>>) => {
      const url = below(images, "/get_image");
      url.searchParams.set("uuid", camera.id);
      url.searchParams.set("width", String(options.width));
      url.searchParams.set("cachebuster", String(api.clock.now()));
      return api.request(url, {
        signal,
        headers: { ...headers, accept: "image/jpeg, image/*;q=0.5" },
        timeoutMs: options.timeout,
        maxBytes: MAX_PICTURE_BYTES,
      });
    };
    const response = await auth.use(({ cameraHeaders }) => get(cameraHeaders), { signal, proven });
    const { status, bytes: picture, sentMs, respondedMs, respondedAtMs } = response;
    if (status === 200) {
      proven = true;
      return { sentMs, respondedMs, respondedAtMs, picture };
    }
    if (status === 403 || status === 401) proven = false;
    if (status === 404) {
      throw sourceError(
        "offline",
        camera.state === "off"
          ? `${label}: the camera is switched off (404): switch it on in the Nest app`
          : `${label}: the camera is offline or switched off (404)`,
      );
    }
    if (status >= 300 && status < 400) {
      // An honest cloud names another host in its next discovery; the login goes nowhere else.
      throw passingError(
        "protocol",
        `${label}: refused a redirect (status ${status}) to another address`,
      );
    }
    throw refusal(response, {
      clock: api.clock,
      refused: `${label}: the cloud refuses the login for this camera although it was just renewed`,
    });
  };

  return {
    async open({ signal }) {
      const both = AbortSignal.any([signal, closing]);
      const session = await openPollingSession({
        clock: api.clock,
        fps: options.fps,
        what: latest()?.label ?? "Nest camera",
        signal: both,
        silenceMs: Math.max(10_000, options.timeout),
        shoot,
      });
      const [{ widthPx, heightPx }] = session.tracks;
      onSize(widthPx, heightPx);
      return session;
    },
  };
}
