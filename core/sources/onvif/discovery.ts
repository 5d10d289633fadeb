/**
 * Cameras on the local network that answer ONVIF's call (WS-Discovery 1.1 §5): one question to
 * everybody, by UDP to 239.255.255.250:3702, and the answers of the next seconds. Nothing is believed
 * of an answer but the address it came from.
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import { createSocket } from "node:dgram";
import type { Clock } from "../../types.ts";
import { elementsOf, textOf } from "./soap.ts";

/** A camera that answered. */
export interface FoundCamera {
  /** Of its device service: what `url` of a camera of type `onvif` takes. */
  readonly url: string;
  /** As it calls itself; empty where it does not say. */
  readonly name: string;
  readonly model: string;
}

const GROUP = { address: "239.255.255.250", port: 3702 };
const MAX_FOUND = 256;

const PROBE = (id: string) =>
  '<?xml version="1.0" encoding="UTF-8"?>' +
  '<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope" ' +
  'xmlns:w="http://schemas.xmlsoap.org/ws/2004/08/addressing" ' +
  'xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery" ' +
  'xmlns:dn="http://www.onvif.org/ver10/network/wsdl"><e:Header>' +
  `<w:MessageID>uuid:${id}</w:MessageID><w:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</w:To>` +
  "<w:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</w:Action></e:Header>" +
  "<e:Body><d:Probe><d:Types>dn:NetworkVideoTransmitter</d:Types></d:Probe></e:Body></e:Envelope>";

/** Asks who is there, and gives who answered within `waitMs`. */
export async function discoverOnvif(
  { clock, waitMs = 3000, to = GROUP, signal }: {
    readonly clock: Clock;
    readonly waitMs?: number;
    /** Whom to ask; everybody where not said. */
    readonly to?: { readonly address: string; readonly port: number };
    readonly signal: AbortSignal;
  },
): Promise<readonly FoundCamera[]> {
  const found = new Map<string, FoundCamera>();
  const socket = createSocket({ type: "udp4", reuseAddr: true });
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});
  socket.on("error", (error) => failed.reject(error));
  socket.on("message", (packet, from) => {
    if (found.size >= MAX_FOUND || packet.length > 65_536) return;
    for (const { inner } of elementsOf(packet.toString("utf8"), "ProbeMatch")) {
      const camera = parseMatch(inner, from.address);
      if (camera !== undefined) found.set(camera.url, camera);
    }
  });
  try {
    await new Promise<void>((resolve) => socket.bind(0, resolve));
    // Twice: a packet to everybody is easily lost.
    for (let asked = 0; asked < 2; asked++) {
      socket.send(PROBE(randomUUID()), to.port, to.address);
      await Promise.race([clock.sleep(waitMs / 2, { signal }), failed.promise]);
    }
  } finally {
    socket.close();
  }
  return [...found.values()];
}

function parseMatch(match: string, fromAddress: string): FoundCamera | undefined {
  const addresses = (textOf(match, "XAddrs") ?? "").split(/\s+/).filter((text) =>
    URL.canParse(text) && /^https?:/.test(text)
  );
  // Some list addresses of networks that they are not in; the packet's sender is where they are.
  const url = addresses.find((text) => new URL(text).hostname === fromAddress) ??
    addresses.map((text) => {
      const moved = new URL(text);
      moved.hostname = fromAddress;
      return moved.href;
    })[0];
  if (url === undefined) return undefined;
  const scopes = textOf(match, "Scopes") ?? "";
  const scope = (name: string) => {
    const text = new RegExp(`onvif://www\\.onvif\\.org/${name}/(\\S+)`, "i").exec(scopes)?.[1] ??
      "";
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  return { url, name: scope("name"), model: scope("hardware") };
}
