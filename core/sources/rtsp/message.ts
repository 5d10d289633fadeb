/**
 * RTSP messages (RFC 2326): a request or an answer as text, parsed and written. The stream in which
 * they stand is read by `interleaved.ts`.
 *
 *     RTSP/1.0 200 OK            DESCRIBE rtsp://host/path RTSP/1.0
 *     CSeq: 3                    CSeq: 3
 *     Content-Length: 120
 *
 *     … body …
 *
 * @module
 */

/** Bytes from a camera that are not RTSP, SDP or RTP as they should be: the one error of this room's parsers. */
export class RtspError extends Error {
  override readonly name = "RtspError";
}

/** Header fields by lower-case name; a field that came several times is joined with commas. */
export type RtspHeaders = ReadonlyMap<string, string>;

/** An answer to one of our requests. */
export interface RtspResponse {
  readonly kind: "response";
  readonly status: number;
  readonly reason: string;
  readonly headers: RtspHeaders;
  readonly body: Uint8Array;
}

/** What the camera asks of us: some send OPTIONS to see whether we are there. */
export interface RtspRequest {
  readonly kind: "request";
  readonly method: string;
  readonly uri: string;
  readonly headers: RtspHeaders;
  readonly body: Uint8Array;
}

/** Either. */
export type RtspMessage = RtspResponse | RtspRequest;

/** The longest head that is believed. */
export const MAX_HEAD_BYTES = 32_768;
/** The longest body that is believed: a description of a camera has a few kB. */
export const MAX_BODY_BYTES = 65_536;
const MAX_FIELDS = 200;

/** A head with its body still to come. */
export interface RtspHead {
  readonly message: RtspMessage;
  readonly bodyBytes: number;
}

/**
 * Parses start line and header fields, without the empty line at the end.
 *
 * @throws RtspError
 */
export function parseHead(text: string): RtspHead {
  const lines = text.split(/\r?\n/);
  const start = lines[0] ?? "";
  const headers = parseFields(lines.slice(1));
  const body = new Uint8Array();
  const bodyBytes = contentLength(headers);
  const [, status, reason = ""] = /^RTSP\/\d\.\d +(\d{3})(?: +(.*))?$/.exec(start.trimEnd()) ?? [];
  if (status !== undefined) {
    return {
      message: { kind: "response", status: Number(status), reason, headers, body },
      bodyBytes,
    };
  }
  const [, method, uri] = /^([A-Z_]{3,20}) +(\S+) +RTSP\/\d\.\d$/.exec(start.trimEnd()) ?? [];
  if (method !== undefined && uri !== undefined) {
    return { message: { kind: "request", method, uri, headers, body }, bodyBytes };
  }
  throw new RtspError(`expected an RTSP message, got ${JSON.stringify(start.slice(0, 40))}`);
}

function parseFields(lines: readonly string[]): RtspHeaders {
  const fields = new Map<string, string>();
  let last: string | undefined;
  for (const line of lines.slice(0, MAX_FIELDS)) {
    if (/^[ \t]/.test(line) && last !== undefined) { // a folded line goes on
      fields.set(last, `${fields.get(last)} ${line.trim()}`);
      continue;
    }
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const name = line.slice(0, colon).trim().toLowerCase();
    const value = line.slice(colon + 1).trim();
    const before = fields.get(name);
    fields.set(name, before === undefined ? value : `${before}, ${value}`);
    last = name;
  }
  return fields;
}

function contentLength(headers: RtspHeaders): number {
  // Some send the field twice; the first number counts.
  const text = headers.get("content-length")?.split(",")[0]?.trim() ?? "0";
  const bytes = /^\d{1,9}$/.test(text) ? Number(text) : -1;
  if (bytes < 0 || bytes > MAX_BODY_BYTES) {
    throw new RtspError(
      `an RTSP message names a body of ${
        text.slice(0, 20)
      } bytes, expected at most ${MAX_BODY_BYTES}`,
    );
  }
  return bytes;
}

/** Writes a request or an answer as text. */
export function formatMessage(
  startLine: string,
  fields: readonly (readonly [name: string, value: string])[],
): string {
  // What was put together from a camera's words must not begin a line of its own.
  const clean = (text: string) => text.replaceAll(/[\r\n]+/g, " ");
  return [clean(startLine), ...fields.map(([name, value]) => `${name}: ${clean(value)}`), "", ""]
    .join("\r\n");
}

/** `12345678;timeout=60` → id and seconds. */
export function parseSessionField(
  value: string,
): { readonly id: string; readonly timeoutS: number | undefined } {
  const [id = "", ...params] = value.split(";").map((part) => part.trim());
  const timeout = params.map((part) => /^timeout *= *(\d{1,6})/i.exec(part)?.[1]).find(Boolean);
  return { id, timeoutS: timeout === undefined ? undefined : Number(timeout) };
}

/** What an answer's `Transport` agrees to (RFC 2326 §12.39). */
export interface AgreedTransport {
  /** First channel and second, where it is interleaved. */
  readonly channels: readonly [number, number] | undefined;
  /** The camera's ports for RTP and RTCP, where it is UDP. */
  readonly serverPorts: readonly [number, number] | undefined;
  readonly ssrc: number | undefined;
}

/** Parses the `Transport` of an answer; single numbers are taken as pairs. */
export function parseTransport(value: string): AgreedTransport {
  const params = new Map(
    (value.split(",")[0] ?? "").split(";").map((part) => {
      const [name = "", text = ""] = part.split("=", 2);
      return [name.trim().toLowerCase(), text.trim()] as const;
    }),
  );
  const pair = (text: string | undefined, max: number): readonly [number, number] | undefined => {
    const [, first, second] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text ?? "") ?? [];
    if (first === undefined) return undefined;
    const numbers: readonly [number, number] = [Number(first), Number(second ?? Number(first) + 1)];
    return numbers.every((number) => number <= max) ? numbers : undefined;
  };
  const ssrc = params.get("ssrc") ?? "";
  return {
    channels: pair(params.get("interleaved"), 255),
    serverPorts: pair(params.get("server_port"), 65_535),
    ssrc: /^[0-9a-f]{1,8}$/i.test(ssrc) ? Number.parseInt(ssrc, 16) : undefined,
  };
}

/** A stream's entry in `RTP-Info` (RFC 2326 §12.33). */
export interface RtpInfo {
  readonly url: string;
  readonly sequence: number | undefined;
  readonly timestamp: number | undefined;
}

/** Parses `RTP-Info`. */
export function parseRtpInfo(value: string): RtpInfo[] {
  // An address may hold commas: an entry begins at "url=".
  return value.split(/,(?=\s*url=)/i).slice(0, 16).map((entry) => {
    const number = (name: string) => {
      const text = new RegExp(`;\\s*${name}=(\\d{1,10})`, "i").exec(entry)?.[1];
      return text === undefined ? undefined : Number(text);
    };
    return {
      url: /url=([^;\s]*)/i.exec(entry)?.[1] ?? "",
      sequence: number("seq"),
      timestamp: number("rtptime"),
    };
  });
}
