/**
 * Cameras of type `rtsp`: any camera or recorder that speaks RTSP. Coded video and sound are taken as
 * they are.
 *
 * @module
 */
import * as v from "valibot";
import { filePath, revealedSecrets } from "../../config/values.ts";
import { type Source, sourceError } from "../../types.ts";
import { OWN_CAMERA_RETRY_MS, type SourceContext } from "../context.ts";
import { loginKeys } from "../login_options.ts";
import { openRtspSession } from "./session.ts";
import { parseRtspUrl } from "./url.ts";

/** An `rtsp:` or `rtsps:` address. */
export function rtspUrl() {
  const message = "expected an address that starts with rtsp:// or rtsps://, such as " +
    '"rtsp://192.168.1.30/stream1"';
  return v.pipe(
    v.string(message),
    v.metadata({ camsink: "rtsp-url" }),
    v.check((text) => parseRtspUrl(text) !== undefined, message),
  );
}

/** The options that `rtsp` and `onvif` share. */
export const streamOptions = {
  ...loginKeys,
  transport: v.optional(
    v.pipe(
      v.picklist(["auto", "tcp", "udp"], 'expected "auto", "tcp" or "udp"'),
      v.description(
        "How the stream comes. auto: over TCP, or over UDP where the camera refuses TCP. With rtsps " +
          "only TCP is encrypted.",
      ),
    ),
    "auto",
  ),
  audio: v.optional(
    v.pipe(
      v.picklist(["auto", "off"], 'expected "auto" or "off"'),
      v.description("auto: the camera's sound is recorded where it has any. off: never."),
    ),
    "auto",
  ),
  ca: v.optional(
    v.pipe(
      filePath(),
      v.description(
        "PEM file of the authority that signed the camera's certificate, for rtsps or https with a " +
          "certificate of its own.",
      ),
    ),
  ),
} as const;

/** Options of a camera of type `rtsp`. */
export const rtspOptions = v.pipe(
  v.strictObject({
    url: v.pipe(
      rtspUrl(),
      v.description(
        "The stream's address. Give user name and password in their own keys: in the address " +
          "they would stand in the file for all to read.",
      ),
    ),
    ...streamOptions,
  }),
  v.check(
    ({ username, password }) => (username === undefined) === (password === undefined),
    'expected both "username" and "password", or neither',
  ),
  v.check(
    ({ url, username }) => username === undefined || parseRtspUrl(url)?.credentials === undefined,
    'expected the login either in "username" and "password" or in "url", not in both',
  ),
  v.description("Any camera or recorder that speaks RTSP: H.264 or H.265, with AAC or Opus."),
);

/** Validated options of a camera of type `rtsp`. */
export type RtspOptions = v.InferOutput<typeof rtspOptions>;

/** A camera of type `rtsp` as a source. */
export function rtspSource(options: RtspOptions, context: SourceContext): Source {
  // What a session finds out about reordering, the next one knows.
  let reorderFrames = 0;
  return {
    retryMs: OWN_CAMERA_RETRY_MS,
    async open({ signal }) {
      signal.throwIfAborted();
      const session = await openRtspSession({
        url: options.url,
        ...loginOf(options.url, await revealLogin(options)),
        ca: options.ca,
        transport: options.transport,
        audio: options.audio,
        clock: context.clock,
        log: context.log,
        reorderFrames,
        onReorder: (frames) => reorderFrames = frames,
      }, { signal });
      return session;
    },
  };
}

/** The login of the options, or the one in the address, which from here on is a secret too. */
function loginOf(
  url: string,
  login: { readonly username: string; readonly password: string } | undefined,
): { readonly credentials?: { readonly username: string; readonly password: string } } {
  const inUrl = parseRtspUrl(url)?.credentials;
  if (inUrl !== undefined && inUrl.password.length >= 6) revealedSecrets.add(inUrl.password);
  const credentials = login ?? inUrl;
  return credentials === undefined ? {} : { credentials };
}

/** User name and password of the options. @throws a source error where the secret cannot be read */
export async function revealLogin(
  { username, password }: {
    readonly username?: string | undefined;
    readonly password?: { reveal(): Promise<string> } | undefined;
  },
): Promise<{ readonly username: string; readonly password: string } | undefined> {
  if (username === undefined || password === undefined) return undefined;
  try {
    return { username, password: await password.reveal() };
  } catch (cause) {
    throw sourceError("auth", cause instanceof Error ? cause.message : String(cause), { cause });
  }
}
