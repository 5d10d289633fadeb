/**
 * A simulated ONVIF device: the calls with which a recorder finds a stream (device management and
 * media service, version 1), events through pull points (`onvif_events.ts`), a clock that may be wrong,
 * a user name token that is checked by it, and the answer to WS-Discovery. Written from the
 * specifications; it knows nothing of Camsink's client.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { systemClock } from "../core/clock.ts";
import type { Clock } from "../core/types.ts";
import { listenOnLoopback } from "./http_server.ts";
import { createOnvifEvents, type OnvifEvents } from "./onvif_events.ts";

/** What a device is made from. */
export interface OnvifDeviceOptions {
  readonly name: string;
  readonly username: string;
  readonly password: string;
  /** As the device names them; the host in them may be wrong. */
  readonly streamUri: string;
  readonly snapshotUri: string;
  /** How far its clock is ahead, ms. A token that is more than 30 s off is refused. */
  readonly clockAheadMs?: number;
  /** Knows no GetServices, as older ones. */
  readonly isOld?: boolean;
  /** The host that it believes to have. */
  readonly wrongHost?: string;
  /** It has no event service. */
  readonly isDeaf?: boolean;
  readonly clock?: Clock;
}

/** A running device. */
export interface OnvifDevice extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** Where it answers WS-Discovery. */
  readonly discovery: { readonly address: string; readonly port: number };
  /** The calls it got, by name. */
  readonly calls: readonly string[];
  /** What it notices, and what goes wrong in telling it. */
  readonly events: OnvifEvents;
}

const TOLERANCE_MS = 30_000;
const envelope = (body: string) =>
  `<?xml version="1.0"?><env:Envelope xmlns:env="http://www.w3.org/2003/05/soap-envelope" ` +
  `xmlns:tds="http://www.onvif.org/ver10/device/wsdl" xmlns:trt="http://www.onvif.org/ver10/media/wsdl" ` +
  `xmlns:tt="http://www.onvif.org/ver10/schema"><env:Body>${body}</env:Body></env:Envelope>`;

/** Starts a device. */
export async function startOnvifDevice(options: OnvifDeviceOptions): Promise<OnvifDevice> {
  const { clock = systemClock, clockAheadMs = 0 } = options;
  const calls: string[] = [];
  const nowMs = () => clock.now() + clockAheadMs;
  const fault = (text: string, status = 400) => ({
    status,
    body: envelope(
      `<env:Fault><env:Code><env:Value>env:Sender</env:Value></env:Code><env:Reason>` +
        `<env:Text xml:lang="en">${text}</env:Text></env:Reason></env:Fault>`,
    ),
  });
  const events = createOnvifEvents({ clock, nowMs });
  const http = await listenOnLoopback({
    handle: async (asked) => {
      const question = await asked.text();
      const call = /<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)/.exec(question)?.[1] ?? "";
      calls.push(call);
      if (call !== "GetSystemDateAndTime" && !isSigned(question, options, nowMs())) {
        return fault("Sender not Authorized");
      }
      if (asked.path.startsWith("/onvif/events") && options.isDeaf !== true) {
        const host = options.wrongHost ?? `127.0.0.1:${http.port}`;
        const answer = await events.answer(call, {
          question,
          ...{ path: asked.path, address: `http://${host}${asked.path}`, signal: asked.signal },
        });
        if (answer === "reset" || answer === "never") return answer;
        if ("fault" in answer) return fault(answer.fault, answer.status);
        const headers = { "content-type": "application/soap+xml" };
        return { status: 200, headers, body: envelope(answer.body) };
      }
      const body = answerTo(call, question, options, { nowMs: nowMs(), port: http.port });
      return body === undefined ? fault("Optional Action Not Implemented", 500) : {
        status: 200,
        headers: { "content-type": "application/soap+xml" },
        body: envelope(body),
      };
    },
  });
  const url = `http://127.0.0.1:${http.port}`;
  const socket = await answerDiscovery(options.name, `${url}/onvif/device_service`);
  return {
    url,
    calls,
    events,
    discovery: { address: "127.0.0.1", port: socket.address().port },
    async [Symbol.asyncDispose]() {
      socket.close();
      await http.close();
    },
  };
}

function isSigned(
  body: string,
  { username, password }: OnvifDeviceOptions,
  nowMs: number,
): boolean {
  const text = (name: string) =>
    new RegExp(`<(?:\\w+:)?${name}(?:\\s[^>]*)?>([^<]*)<`).exec(body)?.[1] ?? "";
  const created = text("Created");
  const expected = createHash("sha1").update(Uint8Array.fromBase64(text("Nonce"))).update(created)
    .update(password).digest("base64");
  return text("Username") === username && text("Password") === expected &&
    Math.abs(Date.parse(created) - nowMs) <= TOLERANCE_MS;
}

function answerTo(
  call: string,
  body: string,
  { isOld, isDeaf, wrongHost, streamUri, snapshotUri }: OnvifDeviceOptions,
  { nowMs, port }: { readonly nowMs: number; readonly port: number },
): string | undefined {
  const here = `http://${wrongHost ?? `127.0.0.1:${port}`}/onvif`;
  const media = `${here}/media`;
  const token = /ProfileToken>([^<]*)</.exec(body)?.[1];
  switch (call) {
    case "GetSystemDateAndTime": {
      const at = new Date(nowMs);
      return `<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:UTCDateTime><tt:Time>` +
        `<tt:Hour>${at.getUTCHours()}</tt:Hour><tt:Minute>${at.getUTCMinutes()}</tt:Minute>` +
        `<tt:Second>${at.getUTCSeconds()}</tt:Second></tt:Time><tt:Date><tt:Year>${at.getUTCFullYear()}` +
        `</tt:Year><tt:Month>${
          at.getUTCMonth() + 1
        }</tt:Month><tt:Day>${at.getUTCDate()}</tt:Day>` +
        `</tt:Date></tt:UTCDateTime></tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>`;
    }
    case "GetServices":
      return isOld
        ? undefined
        : `<tds:GetServicesResponse><tds:Service><tds:Namespace>http://www.onvif.org/ver10/media/wsdl` +
          `</tds:Namespace><tds:XAddr>${media}</tds:XAddr></tds:Service>` +
          (isDeaf
            ? ""
            : `<tds:Service><tds:Namespace>http://www.onvif.org/ver10/events/wsdl</tds:Namespace>` +
              `<tds:XAddr>${here}/events</tds:XAddr></tds:Service>`) +
          `</tds:GetServicesResponse>`;
    case "GetCapabilities":
      return `<tds:GetCapabilitiesResponse><tds:Capabilities><tt:Media><tt:XAddr>${media}</tt:XAddr>` +
        `</tt:Media>${
          isDeaf ? "" : `<tt:Events><tt:XAddr>${here}/events</tt:XAddr></tt:Events>`
        }</tds:Capabilities></tds:GetCapabilitiesResponse>`;
    case "GetProfiles":
      return `<trt:GetProfilesResponse>${
        [["sub", "H264", 640, 360], ["main", "H264", 1920, 1080], ["photo", "JPEG", 2560, 1440]]
          .map(([name, encoding, width, height]) =>
            `<trt:Profiles token="${name}_token" fixed="true"><tt:Name>${name}</tt:Name>` +
            `<tt:VideoEncoderConfiguration token="e"><tt:Encoding>${encoding}</tt:Encoding>` +
            `<tt:Resolution><tt:Width>${width}</tt:Width><tt:Height>${height}</tt:Height>` +
            `</tt:Resolution></tt:VideoEncoderConfiguration></trt:Profiles>`
          ).join("")
      }</trt:GetProfilesResponse>`;
    case "GetStreamUri":
    case "GetSnapshotUri": {
      const uri = call === "GetStreamUri" ? streamUri : snapshotUri;
      return `<trt:${call}Response><trt:MediaUri><tt:Uri>${`${uri}?profile=${token}&amp;x=1`}</tt:Uri></trt:MediaUri></trt:${call}Response>`;
    }
    default:
      return undefined;
  }
}

async function answerDiscovery(name: string, url: string): Promise<Socket> {
  const socket = createSocket("udp4");
  socket.on("message", (packet, from) => {
    if (!/Probe/.test(packet.toString())) return;
    socket.send(
      envelope(
        `<d:ProbeMatches xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"><d:ProbeMatch>` +
          `<d:Scopes>onvif://www.onvif.org/name/${encodeURIComponent(name)} ` +
          `onvif://www.onvif.org/hardware/SIM-1</d:Scopes>` +
          `<d:XAddrs>http://192.0.2.7/onvif/device_service ${url}</d:XAddrs>` +
          `</d:ProbeMatch></d:ProbeMatches>`,
      ),
      from.port,
      from.address,
    );
  });
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  return socket;
}
