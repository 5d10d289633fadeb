/**
 * What a camera says about its streams: SDP (RFC 8866), as far as RTSP uses it, with the format
 * parameters of H.264 (RFC 6184 §8.1), H.265 (RFC 7798 §7.1), AAC (RFC 3640 §4.1, RFC 6416 §7.3) and
 * Opus (RFC 7587 §6.1).
 *
 *     m=video 0 RTP/AVP 96
 *     a=rtpmap:96 H264/90000
 *     a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0IA…,aM4…
 *     a=control:trackID=1
 *
 * @module
 */
import { RtspError } from "./message.ts";

/** One `m=` section. */
export interface SdpMedia {
  readonly kind: "video" | "audio" | "other";
  /** Payload type: what its packets are marked with. */
  readonly payloadType: number;
  /** Upper case: `H264`, `H265`, `MPEG4-GENERIC`, `OPUS`, `PCMU` …; empty if not said. */
  readonly encoding: string;
  readonly clockRateHz: number;
  readonly channels: number;
  /** Format parameters by lower-case name. */
  readonly params: ReadonlyMap<string, string>;
  readonly control: string | undefined;
  /** What flows is not to be received: a talk-back channel. */
  readonly isSendOnly: boolean;
}

/** A description. */
export interface Sdp {
  /** Of the whole session. */
  readonly control: string | undefined;
  readonly media: readonly SdpMedia[];
}

/** More than any camera has; a description with a million streams is a hostile one. */
const MAX_MEDIA = 32;
const MAX_LINES = 2000;

/** Payload types that need no `a=rtpmap` (RFC 3551 §6). */
const STATIC_TYPES: Readonly<Record<number, readonly [string, number, number]>> = {
  0: ["PCMU", 8000, 1],
  8: ["PCMA", 8000, 1],
  9: ["G722", 8000, 1],
  10: ["L16", 44_100, 2],
  11: ["L16", 44_100, 1],
  14: ["MPA", 90_000, 1],
  26: ["JPEG", 90_000, 1],
  32: ["MPV", 90_000, 1],
  33: ["MP2T", 90_000, 1],
};

interface Draft {
  kind: SdpMedia["kind"];
  payloadType: number;
  encoding: string;
  clockRateHz: number;
  channels: number;
  params: Map<string, string>;
  control: string | undefined;
  isSendOnly: boolean;
}

/**
 * Parses a description. Lines that are not understood are left out, as the standard wants it.
 *
 * @throws RtspError if it has no stream at all
 */
export function parseSdp(text: string): Sdp {
  const media: Draft[] = [];
  let control: string | undefined;
  for (const line of text.split(/\r\n|\n|\r/, MAX_LINES)) {
    const type = line[0];
    if (line[1] !== "=") continue;
    const value = line.slice(2).trim();
    const current = media.at(-1);
    if (type === "m") {
      if (media.length === MAX_MEDIA) break;
      media.push(parseMediaLine(value));
    } else if (type === "a") {
      const [, name = "", rest = ""] = /^([^:\s]+):?\s*(.*)$/s.exec(value) ?? [];
      if (current === undefined) {
        if (name === "control") control = rest;
      } else parseAttribute(name.toLowerCase(), rest, current);
    }
  }
  if (media.length === 0) {
    throw new RtspError(
      `expected a description (SDP) with at least one stream, got ${
        JSON.stringify(text.slice(0, 40))
      }`,
    );
  }
  return { control, media };
}

function parseMediaLine(value: string): Draft {
  const [kind, , , format] = value.split(/\s+/);
  const payloadType = /^\d{1,3}$/.test(format ?? "") ? Number(format) : -1;
  const [encoding = "", clockRateHz = 90_000, channels = 1] = STATIC_TYPES[payloadType] ?? [];
  return {
    kind: kind === "video" || kind === "audio" ? kind : "other",
    payloadType,
    encoding,
    clockRateHz,
    channels,
    params: new Map(),
    control: undefined,
    isSendOnly: false,
  };
}

function parseAttribute(name: string, value: string, media: Draft): void {
  if (name === "control") media.control = value;
  // From the camera's view "recvonly" would be its loudspeaker; ONVIF marks that as "sendonly".
  if (name === "sendonly") media.isSendOnly = true;
  if (name !== "rtpmap" && name !== "fmtp") return;
  const [, type, rest = ""] = /^(\d{1,3})\s+(.*)$/s.exec(value) ?? [];
  if (type === undefined || Number(type) !== media.payloadType) return;
  if (name === "rtpmap") {
    const [encoding = "", rate, channels] = rest.split("/").map((part) => part.trim());
    media.encoding = encoding.toUpperCase();
    const hz = Number(rate);
    if (Number.isInteger(hz) && hz >= 1000 && hz <= 10_000_000) media.clockRateHz = hz;
    const count = Number(channels);
    if (Number.isInteger(count) && count >= 1 && count <= 8) media.channels = count;
    return;
  }
  for (const part of rest.split(";").slice(0, 100)) {
    const equals = part.indexOf("=");
    const key = (equals < 0 ? part : part.slice(0, equals)).trim().toLowerCase();
    if (key !== "") media.params.set(key, equals < 0 ? "" : part.slice(equals + 1).trim());
  }
}

/** NAL units out of a `sprop-…` parameter: base64, joined by commas; what is broken is left out. */
export function spropNals(value: string | undefined): Uint8Array[] {
  return (value ?? "").split(",").slice(0, 32).flatMap((part) => {
    const text = part.trim().replaceAll(/^"|"$/g, "");
    if (text === "") return [];
    try {
      const nal = Uint8Array.fromBase64(text);
      return nal.length > 1 ? [nal] : [];
    } catch {
      return [];
    }
  });
}

/** Bytes written as hexadecimal digits; `undefined` if they are not. */
export function parseHex(text: string | undefined): Uint8Array | undefined {
  const digits = text?.replaceAll(/^"|"$/g, "") ?? "";
  if (digits === "" || digits.length > 512 || !/^[0-9a-f]+$/i.test(digits)) return undefined;
  return Uint8Array.fromHex(digits.length % 2 === 0 ? digits : `${digits}0`);
}
