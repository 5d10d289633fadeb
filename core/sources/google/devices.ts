/**
 * Which cameras a Device Access project has: `devices.list`, of which nothing is taken for granted.
 * A camera is whatever can stream; a trait, a type or a protocol that is not known is left alone.
 *
 * @module
 */
import { field, textField } from "../nest/api.ts";
import type { SdmApi } from "./api.ts";

/** How a camera streams. */
export type SdmProtocol = "RTSP" | "WEB_RTC";

/** A camera as the project tells of it. */
export interface SdmDevice {
  /** The last part of its resource name. */
  readonly id: string;
  /** `enterprises/…/devices/…`, as events name it. */
  readonly resource: string;
  /** What its owner calls it, not yet unique. */
  readonly label: string;
  /** The room's name, where one is told. */
  readonly room?: string;
  /** `CAMERA`, `DOORBELL`, `DISPLAY` … */
  readonly type: string;
  /** `undefined`: it names only ways that are not known here. */
  readonly protocol: SdmProtocol | undefined;
  /** What it names, for messages. */
  readonly protocols: readonly string[];
  readonly widthPx?: number;
  readonly heightPx?: number;
  /** It takes pictures of events. */
  readonly hasEventImage: boolean;
}

const TRAITS = "sdm.devices.traits.";

/** Asks for all cameras. */
export async function listDevices(
  api: SdmApi,
  signal: AbortSignal,
): Promise<readonly SdmDevice[]> {
  const devices = field(await api.get("devices", signal), "devices");
  const found = (Array.isArray(devices) ? devices : []).flatMap((device) => parseDevice(device));
  // The order of the answer changes; names that have to be told apart must not.
  return found.sort((a, b) => a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

/** Asks for one camera. */
export async function getDevice(
  api: SdmApi,
  { id, signal }: { readonly id: string; readonly signal: AbortSignal },
): Promise<SdmDevice | undefined> {
  return parseDevice(await api.get(`devices/${encodeURIComponent(id)}`, signal))[0];
}

/** One device of an answer; nothing for what cannot stream. */
export function parseDevice(device: unknown): readonly SdmDevice[] {
  const resource = textField(device, "name") ?? "";
  const id = /^enterprises\/[^/]+\/devices\/([\w.~-]+)$/.exec(resource)?.[1];
  const traits = field(device, "traits");
  const stream = field(traits, `${TRAITS}CameraLiveStream`);
  if (id === undefined || typeof stream !== "object" || stream === null) return [];
  const relations = field(device, "parentRelations");
  const room = (Array.isArray(relations) ? relations : [])
    .map((relation) => textField(relation, "displayName")?.trim())
    .find((name) => name);
  const custom = textField(field(traits, `${TRAITS}Info`), "customName")?.trim();
  const type = (textField(device, "type") ?? "").split(".").at(-1) ?? "";
  const named = field(stream, "supportedProtocols");
  // A camera that names none is an old one.
  const protocols: string[] = Array.isArray(named)
    ? named.filter((name) => typeof name === "string")
    : ["RTSP"];
  const size = field(stream, "maxVideoResolution");
  const pixels = (name: string) => {
    const value = field(size, name);
    return typeof value === "number" && Number.isInteger(value) && value > 0 && value <= 16_384
      ? value
      : undefined;
  };
  const [widthPx, heightPx] = [pixels("width"), pixels("height")];
  return [{
    id,
    resource,
    label: custom || room || `Nest ${type.toLowerCase() || "camera"} ${id.slice(-6)}`,
    ...(room ? { room } : {}),
    type,
    protocol: protocols.includes("WEB_RTC")
      ? "WEB_RTC"
      : protocols.includes("RTSP")
      ? "RTSP"
      : undefined,
    protocols,
    ...(widthPx !== undefined && heightPx !== undefined ? { widthPx, heightPx } : {}),
    hasEventImage: field(traits, `${TRAITS}CameraEventImage`) !== undefined,
  }];
}
