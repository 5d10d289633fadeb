/**
 * The WebRTC connection to a camera, by werift: an offer as Nest's servers want it, an answer as they
 * give it, and what goes over the wire after that: RTP and sender reports in, requests for key
 * pictures and for lost packets out.
 *
 * **The offer** has audio, video and application in this order, both receive-only, H.264 and Opus
 * alone, and every candidate in it: there is no trickling.
 *
 * **The answer** has candidates with an empty foundation, some of them for TCP, says `sendrecv`
 * although `recvonly` was offered, and describes the data channel in the old way.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import {
  GenericNack,
  PictureLossIndication,
  ReceiverEstimatedMaxBitrate,
  RTCPeerConnection,
  type RtcpPacket,
  RtcpPayloadSpecificFeedback,
  RtcpSrPacket,
  RtcpTransportLayerFeedback,
  RTCRtpCodecParameters,
  type RTCRtpReceiver,
  type RtpPacket,
  useH264,
  useOPUS,
  useTransportWideCC,
} from "werift";
import { isLoopback } from "../hosts.ts";
import { useDenoUdp } from "./udp.ts";
import { TransportFeedback } from "./transport_feedback.ts";

/** Payload types of the offer. */
export const PAYLOAD_TYPES = { opus: 111, h264: 98, rtx: 99 } as const;

/** Who gets what comes in. */
export interface PeerHandler {
  onRtp(kind: "video" | "audio", packet: RtpPacket): void;
  /** A sender report as it came, header and all. */
  onReport(kind: "video" | "audio", bytes: Uint8Array): void;
  /** The connection is gone for good. */
  onLost(reason: string): void;
}

/** A connection to a camera. */
export interface Peer {
  /** What is offered. */
  readonly offerSdp: string;
  /** Takes the answer, and connects. @throws if it is none that can be taken */
  answer(sdp: string): Promise<void>;
  /** Asks for a key picture in both ways: the one gives it without parameter sets, the other with them. */
  requestKey(): void;
  /** Asks for packets once more. */
  requestAgain(sequenceNumbers: readonly number[]): void;
  /** Says how much may come. */
  allow(bitsPerSecond: number): void;
  close(): Promise<void>;
}

/** Opens a peer and makes its offer. `loopback`: what stands in for the cloud runs on this machine. */
export async function openPeer(
  { loopback, handler, nowMs }: {
    readonly loopback: boolean;
    readonly handler: PeerHandler;
    /** Monotonic. */
    readonly nowMs: () => number;
  },
): Promise<Peer> {
  useDenoUdp();
  const pc = new RTCPeerConnection({
    codecs: {
      audio: [useOPUS({ payloadType: PAYLOAD_TYPES.opus })],
      video: [
        useH264({
          payloadType: PAYLOAD_TYPES.h264,
          rtcpFeedback: [
            { type: "nack" },
            { type: "nack", parameter: "pli" },
            { type: "ccm", parameter: "fir" },
            { type: "goog-remb" },
            { type: "transport-cc" },
          ],
        }),
        new RTCRtpCodecParameters({
          mimeType: "video/rtx",
          clockRate: 90_000,
          payloadType: PAYLOAD_TYPES.rtx,
          parameters: `apt=${PAYLOAD_TYPES.h264}`,
        }),
      ],
    },
    headerExtensions: { video: [useTransportWideCC()] },
    // Google's relays have public addresses: nobody has to be asked for ours.
    iceServers: [],
    iceUseIpv6: false,
    iceUseTcp: false,
    ...(loopback ? { iceAdditionalHostAddresses: ["127.0.0.1"] } : {}),
    bundlePolicy: "max-bundle",
  });
  let closed = false;
  let firNumber = 0;
  let video: { readonly receiver: RTCRtpReceiver; ssrc: number } | undefined;

  const send = (packet: RtcpPacket) => {
    if (closed || video === undefined) return;
    // A feedback that cannot be sent now is of no use later.
    video.receiver.dtlsTransport.sendRtcp([packet]).catch(() => {});
  };

  try {
    for (const kind of ["audio", "video"] as const) {
      const { receiver } = pc.addTransceiver(kind, { direction: "recvonly" });
      if (kind === "video") {
        video = { receiver, ssrc: 0 };
        silenceNacks(receiver);
      }
      receiver.onRtcp.subscribe((packet) => {
        if (packet instanceof RtcpSrPacket) handler.onReport(kind, packet.serialize());
      });
    }
    pc.onTrack.subscribe((track) => {
      if (track.kind !== "video" && track.kind !== "audio") return;
      const kind = track.kind;
      // Named by the answer: a key picture has to be asked for before anything has come.
      if (kind === "video" && video) video.ssrc = track.ssrc ?? 0;
      track.onReceiveRtp.subscribe((packet) => {
        if (kind === "video" && video) video.ssrc = packet.header.ssrc;
        handler.onRtp(kind, packet);
      });
    });
    pc.connectionStateChange.subscribe((state) => {
      if (closed || (state !== "failed" && state !== "closed")) return;
      handler.onLost(`the WebRTC connection is ${state}`);
    });
    pc.createDataChannel("dataSendChannel");
    await pc.setLocalDescription(await pc.createOffer());
  } catch (error) {
    closed = true;
    await pc.close();
    throw error;
  }

  /** Tells of everything that arrives, probes and retransmissions too, in place of werift. */
  const tellArrivals = (of: { readonly receiver: RTCRtpReceiver; readonly ssrc: number }) => {
    const feedback = new TransportFeedback({
      ssrcs: () => ({ sender: of.receiver.rtcpSsrc, media: of.ssrc }),
      send: (bytes) => send(asRtcp(new RtcpTransportLayerFeedback({}), bytes)),
    });
    Object.assign(of.receiver, {
      receiverTWCC: {
        handleTWCC(sequence: unknown) {
          if (typeof sequence === "number") feedback.arrived(sequence, nowMs());
        },
      },
    });
  };

  return {
    offerSdp: offerForNest(pc.localDescription?.sdp ?? ""),
    async answer(sdp) {
      await pc.setRemoteDescription({ type: "answer", sdp: answerForWerift(sdp, { loopback }) });
      if (video?.receiver.twccEnabled) tellArrivals(video);
    },
    requestKey() {
      if (video === undefined) return;
      const senderSsrc = video.receiver.rtcpSsrc;
      const mediaSsrc = video.ssrc;
      send(
        new RtcpPayloadSpecificFeedback({
          feedback: new PictureLossIndication({ senderSsrc, mediaSsrc }),
        }),
      );
      firNumber = (firNumber + 1) & 255;
      send(fullIntraRequest({ senderSsrc, mediaSsrc, number: firNumber }));
    },
    requestAgain(sequenceNumbers) {
      if (video === undefined || sequenceNumbers.length === 0) return;
      send(
        new RtcpTransportLayerFeedback({
          feedback: new GenericNack({
            senderSsrc: video.receiver.rtcpSsrc,
            mediaSourceSsrc: video.ssrc,
            lost: [...sequenceNumbers].sort((a, b) => a - b),
          }),
        }),
      );
    },
    allow(bitsPerSecond) {
      if (video === undefined) return;
      send(
        new RtcpPayloadSpecificFeedback({
          feedback: new ReceiverEstimatedMaxBitrate({
            senderSsrc: video.receiver.rtcpSsrc,
            mediaSsrc: 0,
            ssrcNum: 1,
            ssrcFeedbacks: [video.ssrc],
            ...exponent(bitsPerSecond),
          }),
        }),
      );
    },
    async close() {
      closed = true;
      await pc.close();
    },
  };
}

/**
 * werift asks for lost packets every 5 ms, and loses count where the sequence numbers wrap; the
 * reorder buffer does it in its place.
 */
function silenceNacks(receiver: RTCRtpReceiver): void {
  const nack: unknown = Reflect.get(receiver, "nack");
  if (typeof nack === "object" && nack !== null && "close" in nack) {
    if (typeof nack.close === "function") nack.close();
  }
}

/** RFC 5104 §4.3.1; werift has the class, but keeps it to itself. */
function fullIntraRequest(
  { senderSsrc, mediaSsrc, number }: {
    readonly senderSsrc: number;
    readonly mediaSsrc: number;
    readonly number: number;
  },
): RtcpPayloadSpecificFeedback {
  const bytes = new Uint8Array(20);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, 0x84); // version 2, message type 4
  view.setUint8(1, 206);
  view.setUint16(2, 4);
  view.setUint32(4, senderSsrc);
  view.setUint32(12, mediaSsrc);
  view.setUint8(16, number);
  return asRtcp(new RtcpPayloadSpecificFeedback({}), bytes);
}

/** A packet of our own, as one that werift sends. */
function asRtcp<Packet extends RtcpPacket>(packet: Packet, bytes: Uint8Array): Packet {
  return Object.assign(packet, { serialize: () => Buffer.from(bytes) });
}

/** A bit rate as mantissa of 18 bits and exponent. */
function exponent(bitsPerSecond: number): { readonly brExp: number; readonly brMantissa: number } {
  let brExp = 0;
  let brMantissa = Math.round(bitsPerSecond);
  while (brMantissa >= 2 ** 18) {
    brMantissa >>= 1;
    brExp++;
  }
  return { brExp, brMantissa };
}

/** What werift offers, without the promise to send candidates later. */
export function offerForNest(sdp: string): string {
  return sdp.replaceAll(/^a=ice-options:trickle\r?\n/gm, "");
}

/** More than any answer has. */
const MAX_SDP_CHARS = 65_536;

/**
 * What Nest's servers answer, put right: foundations where they are empty, `sendonly`, no candidate
 * for TCP, and none that leads to this machine or to a cloud machine's metadata service.
 *
 * @throws if it is too long to be one
 */
export function answerForWerift(
  sdp: string,
  { loopback }: { readonly loopback: boolean },
): string {
  if (sdp.length > MAX_SDP_CHARS) {
    throw new Error(`the answer has ${sdp.length} characters, expected at most ${MAX_SDP_CHARS}`);
  }
  let kind = "";
  let foundation = 0;
  const lines = sdp.split(/\r?\n/).flatMap((line) => {
    kind = /^m=(\w+)/.exec(line)?.[1] ?? kind;
    const candidate = /^a=candidate:(\S*) (\d+) (\S+) (\d+) (\S+) (\d+)(.*)$/.exec(line);
    if (candidate) {
      const [, named, component, transport = "", priority, address = "", port, rest] = candidate;
      if (transport.toLowerCase() !== "udp" || !isGoodAddress(address, loopback)) return [];
      const own = named || `nest${++foundation}`;
      return [`a=candidate:${own} ${component} udp ${priority} ${address} ${port}${rest}`];
    }
    if (line.startsWith("a=candidate:")) return [];
    if (line === "a=sendrecv" && (kind === "audio" || kind === "video")) return ["a=sendonly"];
    return [line];
  });
  return lines.join("\r\n");
}

function isGoodAddress(address: string, loopback: boolean): boolean {
  if (!/^[\w.:-]+$/.test(address)) return false;
  const host = address.includes(":") ? `[${address}]` : address;
  if (!URL.canParse(`http://${host}`)) return false;
  if (isLoopback(new URL(`http://${host}`))) return loopback;
  return !/^(169\.254\.|0\.|2(2[4-9]|[3-5]\d)\.)/.test(address);
}
