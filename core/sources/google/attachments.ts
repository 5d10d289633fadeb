/**
 * What Device Access gives to an event: a picture, which can be had for thirty seconds and costs a
 * command, or, from cameras that have no pictures, a preview of ten frames.
 *
 * @module
 */
import { type CameraEvent, sourceError } from "../../types.ts";
import { hideToken } from "../hidden_tokens.ts";
import { isLoopback, isWithin } from "../hosts.ts";
import { textField } from "../nest/api.ts";
import { googleRefusal, googleStatusOf, type SdmApi } from "./api.ts";
import type { SdmDevice } from "./devices.ts";
import type { SdmEvent } from "./messages.ts";

/** A picture can be had for so long after its event, ms. */
const IMAGE_LIFE_MS = 30_000;
const IMAGE_MAX_BYTES = 8 * 2 ** 20;
const PREVIEW_MAX_BYTES = 32 * 2 ** 20;
const TIMEOUT_MS = 20_000;
const DEFAULT_WIDTH_PX = 1280;
const MAX_WIDTH_PX = 1920;
/** Where pictures may come from: they bring a token of their own. */
const IMAGE_ZONES = ["dropcam.com", "nest.com", "googleapis.com", "google.com"];
/** Where previews may come from: the account's own token is sent there. */
const PREVIEW_ZONES = ["nest-camera-frontend.googleapis.com"];

/** What can be had of an event; `undefined` for nothing. */
export function attachmentOf(
  { api, device, event, atMs }: {
    readonly api: SdmApi;
    readonly device: SdmDevice;
    readonly event: SdmEvent;
    readonly atMs: number;
  },
): CameraEvent["attachment"] {
  const { eventId, previewUrl } = event;
  if (previewUrl !== undefined) {
    return {
      kind: "clip-preview",
      contentType: "video/mp4",
      fetch: ({ signal }) => fetchPreview(previewUrl, { api, device, signal }),
    };
  }
  if (!device.hasEventImage || eventId === undefined) return undefined;
  return {
    kind: "event-image",
    contentType: "image/jpeg",
    fetch: ({ signal }) => fetchImage(eventId, { api, device, atMs, signal }),
  };
}

async function fetchImage(
  eventId: string,
  { api, device, atMs, signal }: {
    readonly api: SdmApi;
    readonly device: SdmDevice;
    readonly atMs: number;
    readonly signal: AbortSignal;
  },
): Promise<Uint8Array | undefined> {
  const { clock } = api;
  const leftMs = Math.min(IMAGE_LIFE_MS, atMs + IMAGE_LIFE_MS - clock.now());
  if (leftMs <= 0) return undefined;
  // A turn that does not come in time is not taken: it would only cost somebody else's.
  const tooLate = new AbortController();
  const timer = new AbortController();
  clock.sleep(leftMs, { signal: timer.signal }).then(
    () => tooLate.abort(new Error("the picture of the event is gone")),
    () => {}, // it came
  );
  let results: unknown;
  try {
    ({ results } = await api.execute({
      signal: AbortSignal.any([signal, tooLate.signal]),
      device: device.id,
      label: device.label,
      command: "CameraEventImage.GenerateImage",
      params: { eventId },
      purpose: "image",
    }));
  } catch (error) {
    if (signal.aborted) throw error;
    if (tooLate.signal.aborted || googleStatusOf(error) === "DEADLINE_EXCEEDED") return undefined;
    throw error;
  } finally {
    timer.abort();
  }
  const token = textField(results, "token") ?? "";
  hideToken(token);
  const url = addressOf(textField(results, "url"), { api, device, zones: IMAGE_ZONES });
  const widthPx = Math.min(device.widthPx ?? DEFAULT_WIDTH_PX, MAX_WIDTH_PX);
  url.searchParams.set("width", String(widthPx));
  const response = await api.download(url, {
    signal,
    authorization: `Basic ${token}`,
    maxBytes: IMAGE_MAX_BYTES,
    timeoutMs: TIMEOUT_MS,
  });
  if (response.status === 404) return undefined;
  if (response.status !== 200) {
    throw googleRefusal(response, { clock, what: `${device.label}: the picture of an event` });
  }
  const { bytes } = response;
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) {
    throw sourceError("protocol", `${device.label}: the picture of an event is no JPEG`);
  }
  return bytes;
}

async function fetchPreview(
  address: string,
  { api, device, signal }: {
    readonly api: SdmApi;
    readonly device: SdmDevice;
    readonly signal: AbortSignal;
  },
): Promise<Uint8Array | undefined> {
  const url = addressOf(address, { api, device, zones: PREVIEW_ZONES });
  const response = await api.authorized(url, {
    signal,
    maxBytes: PREVIEW_MAX_BYTES,
    timeoutMs: TIMEOUT_MS,
  });
  if (response.status === 404) return undefined;
  if (response.status !== 200) {
    throw googleRefusal(response, { clock: api.clock, what: `${device.label}: a clip's preview` });
  }
  return response.bytes;
}

/** An address that Google gave, if it may be gone to with a token. */
function addressOf(
  text: string | undefined,
  { api, device, zones }: {
    readonly api: SdmApi;
    readonly device: SdmDevice;
    readonly zones: readonly string[];
  },
): URL {
  if (text === undefined || !URL.canParse(text)) {
    throw sourceError("protocol", `${device.label}: expected the address of a picture, got none`);
  }
  const url = new URL(text);
  const isOwn = isLoopback(url) && Object.values<URL>({ ...api.endpoints }).every(isLoopback);
  if (isOwn || (url.protocol === "https:" && isWithin(url, zones))) return url;
  throw sourceError(
    "protocol",
    `${device.label}: Google sends us to ${url.protocol}//${url.host} for a picture, which is ` +
      `refused: expected https and a host in ${zones.join(", ")}`,
  );
}
