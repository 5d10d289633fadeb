/**
 * Cameras of type `onvif`: asked where their stream is, and from there on RTSP cameras; or, where it is
 * wanted, snapshot cameras.
 *
 * @module
 */
import * as v from "valibot";
import { httpUrl } from "../../config/values.ts";
import { type Source, sourceErrorKind } from "../../types.ts";
import { OWN_CAMERA_RETRY_MS, type SourceContext } from "../context.ts";
import { revealLogin, rtspOptions, rtspSource, streamOptions } from "../rtsp/camera.ts";
import { framesPerSecond, snapshotOptions, snapshotSource } from "../snapshot.ts";
import { findOnvifAddress } from "./device.ts";
import { listenToOnvif } from "./events.ts";

/** Options of a camera of type `onvif`. */
export const onvifOptions = v.pipe(
  v.strictObject({
    url: v.pipe(
      httpUrl(),
      v.description(
        'The camera\'s address, such as "http://192.168.1.20". camsink cameras --discover finds it.',
      ),
    ),
    profile: v.optional(
      v.pipe(
        v.string("expected the name or token of a profile"),
        v.nonEmpty("expected the name or token of a profile"),
        v.description(
          "Which profile, by name or token; without it, the one with the largest picture.",
        ),
      ),
    ),
    mode: v.optional(
      v.pipe(
        v.picklist(["stream", "snapshot"], 'expected "stream" or "snapshot"'),
        v.description("stream: live video over RTSP. snapshot: single pictures, fps a second."),
      ),
      "stream",
    ),
    fps: v.optional(
      v.pipe(framesPerSecond(), v.description("Pictures per second in the mode snapshot.")),
      2,
    ),
    ...streamOptions,
  }),
  v.check(
    ({ username, password }) => (username === undefined) === (password === undefined),
    'expected both "username" and "password", or neither',
  ),
  v.description("A camera that speaks ONVIF: its stream's address is found by itself."),
);

/** Validated options of a camera of type `onvif`. */
export type OnvifOptions = v.InferOutput<typeof onvifOptions>;

/** A camera of type `onvif` as a source. */
export function onvifSource(options: OnvifOptions, context: SourceContext): Source {
  const { username, password, ca, transport, audio, mode } = options;
  // Asked once; and again when what was found leads nowhere any more.
  let found: Source | undefined;
  const find = async (signal: AbortSignal): Promise<Source> => {
    const { uri, profile } = await findOnvifAddress({
      url: options.url,
      credentials: await revealLogin(options),
      ca,
      profile: options.profile,
      want: mode,
      clock: context.clock,
      fetch: context.fetch,
      signal,
    });
    context.log.debug(`profile "${profile.name}" is used (${profile.widthPx}x${profile.heightPx})`);
    const login = username === undefined || password === undefined ? {} : { username };
    if (mode === "snapshot") {
      const checked = v.parse(snapshotOptions, { url: uri, fps: options.fps });
      return snapshotSource(
        { ...checked, ...login, ...(password ? { password } : {}), ca },
        context,
      );
    }
    const checked = v.parse(rtspOptions, { url: uri, transport, audio });
    return rtspSource({ ...checked, ...login, ...(password ? { password } : {}), ca }, context);
  };
  return {
    retryMs: OWN_CAMERA_RETRY_MS,
    tellsAlways: true, // a request to a camera of one's own, which it answers after ten seconds
    async *events({ signal }) {
      yield* listenToOnvif({
        url: options.url,
        credentials: await revealLogin(options),
        ca,
        clock: context.clock,
        fetch: context.fetch,
      }, { signal });
    },
    async open({ signal }) {
      signal.throwIfAborted();
      found ??= await find(signal);
      try {
        return await found.open({ signal });
      } catch (error) {
        if (!signal.aborted && sourceErrorKind(error) !== "auth") found = undefined;
        throw error;
      }
    },
  };
}
