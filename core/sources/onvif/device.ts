/**
 * An ONVIF camera's own account of itself: which profiles it has, and where their stream and picture
 * are.
 *
 * @module
 */
import { sourceError } from "../../types.ts";
import { atHome, type OnvifClientOptions, openOnvifClient } from "./client.ts";
import { attributeOf, elementsOf, escapeXml, textOf } from "./soap.ts";

/** One of a camera's profiles: a way in which it gives its picture. */
export interface OnvifProfile {
  readonly token: string;
  readonly name: string;
  /** `H264`, `H265`, `JPEG` …; empty where it is not said. */
  readonly encoding: string;
  readonly widthPx: number;
  readonly heightPx: number;
}

/** What is asked of a camera. */
export interface OnvifRequest extends OnvifClientOptions {
  /** Name or token of a profile; without it the one with the largest coded picture. */
  readonly profile: string | undefined;
  readonly want: "stream" | "snapshot";
  readonly signal: AbortSignal;
}

/** What came of it. */
export interface OnvifAddress {
  readonly uri: string;
  readonly profile: OnvifProfile;
}

const MEDIA = "http://www.onvif.org/ver10/media/wsdl";
const SCHEMA = "http://www.onvif.org/ver10/schema";

/** Finds out where the stream or the picture is. @throws a source error, or the signal's reason */
export async function findOnvifAddress(request: OnvifRequest): Promise<OnvifAddress> {
  const { want, signal } = request;
  using client = await openOnvifClient(request, { signal });
  const { home, what } = client;
  const call = (url: URL, body: string) => client.call(url, body, { signal });
  const media = await client.service({ namespace: MEDIA, category: "Media" }, { signal }) ??
    new URL("/onvif/media_service", home);
  const profiles = parseProfiles(await call(media, `<GetProfiles xmlns="${MEDIA}"/>`));
  const profile = chooseProfile(profiles, { wanted: request.profile, want, what });
  const token = `<ProfileToken>${escapeXml(profile.token)}</ProfileToken>`;
  const answer = await call(
    media,
    want === "snapshot"
      ? `<GetSnapshotUri xmlns="${MEDIA}">${token}</GetSnapshotUri>`
      : `<GetStreamUri xmlns="${MEDIA}"><StreamSetup><Stream xmlns="${SCHEMA}">RTP-Unicast</Stream>` +
        `<Transport xmlns="${SCHEMA}"><Protocol>RTSP</Protocol></Transport></StreamSetup>${token}</GetStreamUri>`,
  );
  const uri = textOf(answer, "Uri");
  const given = uri === undefined ? undefined : atHome(uri, home);
  if (given === undefined || (want === "stream") !== given.startsWith("rtsp")) {
    throw sourceError(
      "protocol",
      `${what}: expected the address of its ${want}, got ${
        uri === undefined ? "none" : "another kind of address"
      }`,
    );
  }
  return { uri: given, profile };
}

function parseProfiles(answer: string): OnvifProfile[] {
  return elementsOf(answer, "Profiles").slice(0, 64).flatMap(({ tag, inner }) => {
    const token = attributeOf(tag, "token");
    const encoder = elementsOf(inner, "VideoEncoderConfiguration")[0]?.inner;
    if (token === undefined || encoder === undefined) return [];
    const pixels = (name: string) => {
      const value = Number(textOf(encoder, name));
      return Number.isInteger(value) && value > 0 && value <= 65_535 ? value : 0;
    };
    return [{
      token,
      name: textOf(inner, "Name") ?? token,
      encoding: (textOf(encoder, "Encoding") ?? "").toUpperCase(),
      widthPx: pixels("Width"),
      heightPx: pixels("Height"),
    }];
  });
}

/** The profile that is asked for, or the one with the largest picture of a kind that is recorded. */
function chooseProfile(
  profiles: readonly OnvifProfile[],
  { wanted, want, what }: {
    readonly wanted: string | undefined;
    readonly want: "stream" | "snapshot";
    readonly what: string;
  },
): OnvifProfile {
  const names =
    profiles.map(({ name, token, encoding, widthPx, heightPx }) =>
      `"${name}" (${token}: ${encoding || "?"} ${widthPx}x${heightPx})`
    ).join(", ") || "none";
  const fitting = wanted !== undefined
    ? profiles.filter(({ name, token }) => name === wanted || token === wanted)
    : profiles.filter(({ encoding }) => want === "snapshot" || encoding !== "JPEG");
  const best = fitting.toSorted((a, b) => b.widthPx * b.heightPx - a.widthPx * a.heightPx)[0];
  if (best !== undefined) return best;
  throw sourceError(
    "protocol",
    wanted !== undefined
      ? `${what}: it has no profile "${wanted}"; it has: ${names}`
      : `${what}: it has no profile with H.264 or H.265; it has: ${names}`,
  );
}
