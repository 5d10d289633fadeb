/**
 * A WebRTC camera as Nest's are behind Google's relay: a werift peer that answers an offer with the
 * known quirks (empty foundations, `sendrecv`, `DTLS/SCTP 5000`), says nothing until a key picture is
 * asked for, and then sends the coded scene: H.264 as single NAL units, STAP-A and FU-A (RFC 6184,
 * packetisation mode 1), Opus (RFC 7587), sender reports, retransmissions by RTX.
 *
 * A picture loss indication gives the next key picture *without* parameter sets, a full intra request
 * gives one with them. Packets can be lost, swapped and held back on demand.
 *
 * RTP is written past werift's own sender, so that sequence numbers and time stamps are ours: they
 * begin just below their wrap.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import {
  PictureLossIndication,
  ReceiverEstimatedMaxBitrate,
  RTCPeerConnection,
  type RtcpPacket,
  RtcpPayloadSpecificFeedback,
  RtcpSenderInfo,
  RtcpSrPacket,
  RTCRtpCodecParameters,
  type RTCRtpReceiver,
  type RTCRtpSender,
  RtpHeader,
  RtpPacket,
  serializeTransportWideCC,
  type TransportWideCC,
  useH264,
  useOPUS,
  useTransportWideCC,
  wrapRtx,
} from "werift";
import type { Clock } from "../../core/types.ts";
import type { CodedScene, SceneUnit } from "../scene/coded_scene.ts";

/** What can be wrong with the way of the packets; all of it can be changed while it runs. */
export interface PacketFaults {
  /** Per cent of the packets that never arrive, retransmissions too. */
  lossPercent: number;
  /** Per cent of the packets that are held back behind the next three. */
  reorderPercent: number;
  /** Nothing arrives until this moment of the scene's clock, monotonic ms. */
  silentUntilMs: number;
  /** Retransmissions are refused. */
  deaf: boolean;
  /** Key pictures come without parameter sets, whatever is asked for. */
  withoutSets: boolean;
  /** Sound arrives so much later than pictures of the same moment, ms. */
  soundLateMs: number;
  /** The clock of the sound's time stamps runs too fast by so many parts in a million. */
  soundDriftPpm: number;
}

/** A way on which every packet arrives. */
export const noPacketFaults = (): PacketFaults => ({
  ...{ lossPercent: 0, reorderPercent: 0, silentUntilMs: -Infinity },
  ...{ deaf: false, withoutSets: false, soundLateMs: 0, soundDriftPpm: 0 },
});

/** What went over the wire. */
export interface PacketCounts {
  sent: number;
  lost: number;
  reordered: number;
  retransmitted: number;
  pictureLossIndications: number;
  fullIntraRequests: number;
  /** The newest receiver's estimate, bit/s. */
  rembBitsPerSecond: number;
  /** Packets of pictures that were told to have arrived, by transport-wide feedback. */
  toldByTransport: number;
  /** Packets of pictures by their form (RFC 6184 §5.2), and how many there were. */
  forms: Record<"single NAL unit" | "STAP-A" | "FU-A", number>;
}

/** Nothing yet. */
export const noPacketCounts = (): PacketCounts => ({
  ...{ sent: 0, lost: 0, reordered: 0, retransmitted: 0 },
  ...{ pictureLossIndications: 0, fullIntraRequests: 0, rembBitsPerSecond: 0, toldByTransport: 0 },
  forms: { "single NAL unit": 0, "STAP-A": 0, "FU-A": 0 },
});

/** A camera peer. */
export interface WebRtcCameraPeer {
  readonly answerSdp: string;
  close(): Promise<void>;
}

/** What a peer works with. */
export interface WebRtcCameraOptions {
  readonly offerSdp: string;
  readonly scene: CodedScene;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  readonly faults: PacketFaults;
  readonly counts: PacketCounts;
  /** Looked at before every picture; `false` ends it. */
  readonly isAlive: () => boolean;
  /** While it gives `true`, nothing is sent. */
  readonly hangs: () => boolean;
  /** Sends the answer as werift made it, for a client that is strict. */
  readonly plainAnswer?: boolean;
}

const MTU = 1100;
/** The message type of a full intra request (RFC 5104 §4.3.1), whose class werift keeps to itself. */
const FIR = 4;
const OPUS_PT = 111;
/** So that both wrap within the first seconds. */
const FIRST_SEQUENCE = 0xfff0;
const FIRST_TIMESTAMP = 0xfff0_0000;
const CACHED_PACKETS = 1024;

/** Answers an offer and connects. @throws if it is none that a Nest camera takes */
export async function openWebRtcCamera(options: WebRtcCameraOptions): Promise<WebRtcCameraPeer> {
  checkOffer(options.offerSdp);
  const payloadType = h264PayloadType(options.offerSdp);
  const peer = new RTCPeerConnection({
    codecs: {
      audio: [useOPUS({ payloadType: OPUS_PT })],
      video: [
        useH264({
          payloadType,
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
          payloadType: payloadType + 1,
          parameters: `apt=${payloadType}`,
        }),
      ],
    },
    headerExtensions: { video: [useTransportWideCC()] },
    iceUseIpv6: false,
    iceUseTcp: false,
    // Loopback alone: a simulator is not for the network.
    iceInterfaceAddresses: { udp4: "127.0.0.1" },
    iceAdditionalHostAddresses: ["127.0.0.1"],
    bundlePolicy: "max-bundle",
  });
  const closing = new AbortController();
  try {
    await peer.setRemoteDescription({ type: "offer", sdp: options.offerSdp });
    for (const transceiver of peer.getTransceivers()) transceiver.setDirection("sendonly");
    await peer.setLocalDescription(await peer.createAnswer());
  } catch (error) {
    await peer.close();
    throw error;
  }
  const of = (kind: "audio" | "video") =>
    peer.getTransceivers().find((transceiver) => transceiver.kind === kind);
  const [video, audio] = [of("video"), of("audio")];
  if (!video || !audio) throw new Error("werift made no sender");
  play(options, {
    video: video.sender,
    receiver: video.receiver,
    audio: audio.sender,
    payloadType,
    peer,
    signal: closing.signal,
  });
  const answer = peer.localDescription?.sdp ?? "";
  return {
    answerSdp: options.plainAnswer ? answer : likeNest(answer),
    async close() {
      closing.abort();
      await peer.close();
    },
  };
}

function checkOffer(sdp: string): void {
  const sections = [...sdp.matchAll(/^m=(\w+)/gm)].map(([, kind]) => kind);
  if (sections.join(" ") !== "audio video application") {
    throw new Error(
      `the offer has the sections ${sections.join(", ")}: expected audio, video, application`,
    );
  }
  const media = sdp.split(/^(?=m=)/m).slice(1, 3);
  if (!media.every((section) => /^a=recvonly\s*$/m.test(section))) {
    throw new Error("audio and video must be recvonly");
  }
  if (/^a=ice-options:.*\btrickle\b/m.test(sdp)) {
    throw new Error("the offer promises candidates later");
  }
  if (!/opus\/48000/i.test(media[0] ?? "")) throw new Error("the offer has no Opus");
  if (!/H264\/90000/i.test(media[1] ?? "")) throw new Error("the offer has no H264");
}

function transportExtension(sdp: string): number | undefined {
  const id = /^a=extmap:(\d+) \S*transport-wide-cc-extensions-01\s*$/m.exec(sdp)?.[1];
  return id === undefined ? undefined : Number(id);
}

function h264PayloadType(sdp: string): number {
  return Number(/^a=rtpmap:(\d+) H264\/90000/mi.exec(sdp)?.[1] ?? 98);
}

/** The answer with the quirks of the real ones. */
function likeNest(sdp: string): string {
  return sdp
    .replaceAll(/^a=candidate:\S+ /gm, "a=candidate: ")
    .replaceAll(/^a=sendonly/gm, "a=sendrecv")
    .replaceAll(/^a=ice-options:trickle\r?\n/gm, "")
    .replace(
      /^m=application \d+ UDP\/DTLS\/SCTP webrtc-datachannel/m,
      "m=application 9 DTLS/SCTP 5000",
    )
    .replace(/^a=sctp-port:5000/m, "a=sctpmap:5000 webrtc-datachannel 1024");
}

interface Wire {
  readonly video: RTCRtpSender;
  readonly receiver: RTCRtpReceiver;
  readonly audio: RTCRtpSender;
  readonly payloadType: number;
  readonly peer: RTCPeerConnection;
  readonly signal: AbortSignal;
}

function play(options: WebRtcCameraOptions, wire: Wire): void {
  const { counts, faults } = options;
  const { video, audio, payloadType } = wire;
  const videoOut = createSender(options, {
    sender: video,
    payloadType,
    clockHz: 90_000,
    isSound: false,
    transportExtension: transportExtension(options.offerSdp),
  });
  const audioOut = createSender(options, {
    ...{ sender: audio, payloadType: OPUS_PT, clockHz: 48_000, isSound: true },
  });
  /** What was asked for and not given yet; nothing is sent before the first time. */
  let asked: "nothing" | "key" | "key and sets" = "nothing";
  let started = false;

  const onFeedback = (packet: RtcpPacket) => {
    if (!(packet instanceof RtcpPayloadSpecificFeedback)) return;
    const { feedback } = packet;
    if (feedback instanceof PictureLossIndication) {
      counts.pictureLossIndications++;
      if (asked === "nothing") asked = "key";
    } else if (feedback.count === FIR) {
      counts.fullIntraRequests++;
      asked = "key and sets";
    } else if (feedback instanceof ReceiverEstimatedMaxBitrate) {
      counts.rembBitsPerSecond = Number(feedback.bitrate);
    }
  };
  video.onRtcp.subscribe(onFeedback);
  // werift hands feedback to whoever belongs to its sender's number, where that was named in the offer.
  wire.receiver.onRtcp.subscribe(onFeedback);
  // In place of werift's estimate, which knows nothing of packets that were sent past it.
  video.senderBWE.receiveTWCC = ({ recvDeltas }: TransportWideCC) => {
    counts.toldByTransport += recvDeltas.length;
  };
  video.onGenericNack.subscribe((nack) => {
    if (!faults.deaf) videoOut.again(nack.lost, { payloadType: payloadType + 1, video });
  });

  const send = async (unit: SceneUnit): Promise<void> => {
    if (unit.kind === "audio") {
      if (started) await audioOut.send(unit, [Buffer.from(unit.data)]);
      return;
    }
    if (!started && (asked === "nothing" || !unit.isKey)) return;
    started = true;
    // A key picture of its own accord comes without parameter sets, too.
    const hasSets = unit.isKey && asked === "key and sets" && !faults.withoutSets;
    const sets = hasSets ? unit.parameterSets : [];
    if (unit.isKey) asked = "nothing";
    const payloads = packetise([...sets, ...unit.nals]);
    for (const payload of payloads) counts.forms[formOf(payload)]++;
    await videoOut.send(unit, payloads);
  };
  (async () => {
    let lastReportMs = -Infinity;
    for await (const unit of options.scene.play({ signal: wire.signal, from: "next-key" })) {
      if (!options.isAlive() || isGone(wire.peer.connectionState)) break;
      if (wire.peer.connectionState !== "connected" || options.hangs()) continue;
      await send(unit);
      const nowMs = options.clock.monotonic();
      if (started && nowMs - lastReportMs >= 1000) {
        lastReportMs = nowMs;
        await videoOut.report();
        await audioOut.report();
      }
    }
    if (!wire.signal.aborted) await wire.peer.close();
  })().catch(() => {}); // closed
}

function isGone(state: RTCPeerConnection["connectionState"]): boolean {
  return state === "closed" || state === "failed";
}

/** NAL units as payloads: small neighbours together, large ones in pieces. */
function packetise(nals: readonly Uint8Array[]): Buffer[] {
  const payloads: Buffer[] = [];
  for (let i = 0; i < nals.length;) {
    const nal = nals[i] ?? new Uint8Array();
    const together: Uint8Array[] = [];
    let bytes = 1;
    while (i < nals.length && bytes + 2 + (nals[i]?.length ?? 0) <= MTU) {
      const next = nals[i++] ?? new Uint8Array();
      together.push(next);
      bytes += 2 + next.length;
    }
    if (together.length === 1) payloads.push(Buffer.from(nal));
    else if (together.length > 1) payloads.push(stapA(together));
    else {
      payloads.push(...fuA(nal));
      i++;
    }
  }
  return payloads;
}

function formOf(payload: Buffer): keyof PacketCounts["forms"] {
  const type = (payload[0] ?? 0) & 0x1f;
  return type === 24 ? "STAP-A" : type === 28 ? "FU-A" : "single NAL unit";
}

function stapA(nals: readonly Uint8Array[]): Buffer {
  const nri = Math.max(...nals.map((nal) => (nal[0] ?? 0) & 0x60));
  return Buffer.concat([
    Uint8Array.of(nri | 24),
    ...nals.flatMap((nal) => [Uint8Array.of(nal.length >> 8, nal.length & 255), nal]),
  ]);
}

function fuA(nal: Uint8Array): Buffer[] {
  const header = nal[0] ?? 0;
  const pieces: Buffer[] = [];
  for (let at = 1; at < nal.length; at += MTU - 2) {
    const end = Math.min(nal.length, at + MTU - 2);
    const flags = (at === 1 ? 0x80 : 0) | (end === nal.length ? 0x40 : 0);
    pieces.push(Buffer.concat([
      Uint8Array.of((header & 0x60) | 28, flags | (header & 0x1f)),
      nal.subarray(at, end),
    ]));
  }
  return pieces;
}

interface Sender {
  /** Sends a unit's payloads; the last has the marker. */
  send(unit: SceneUnit, payloads: readonly Buffer[]): Promise<void>;
  /** Sends packets once more, by RTX. */
  again(
    sequenceNumbers: readonly number[],
    rtx: { readonly payloadType: number; readonly video: RTCRtpSender },
  ): void;
  /** Sends a sender report. */
  report(): Promise<void>;
}

function createSender(
  { clock, random, faults, counts }: WebRtcCameraOptions,
  { sender, payloadType, clockHz, isSound, transportExtension }: {
    readonly sender: RTCRtpSender;
    readonly payloadType: number;
    readonly clockHz: number;
    readonly isSound: boolean;
    /** The number that the header extension for transport-wide sequence numbers was offered with. */
    readonly transportExtension?: number | undefined;
  },
): Sender {
  let sequenceNumber = FIRST_SEQUENCE;
  let rtxSequence = 0;
  let transportSequence = 0;
  let packetCount = 0;
  let octetCount = 0;
  let originUs: number | undefined;
  let last: { readonly timestamp: number; readonly atMs: number } | undefined;
  const sentPackets = new Map<number, RtpPacket>();
  let heldBack: { readonly packet: RtpPacket; after: number }[] = [];

  const put = async (packet: RtpPacket): Promise<void> => {
    if (clock.monotonic() < faults.silentUntilMs || random() * 100 < faults.lossPercent) {
      counts.lost++;
      return;
    }
    counts.sent++;
    if (isSound && faults.soundLateMs > 0) {
      clock.sleep(faults.soundLateMs)
        .then(() => sender.dtlsTransport.sendRtp(packet.payload, packet.header))
        .catch(() => {}); // closed meanwhile
      return;
    }
    await sender.dtlsTransport.sendRtp(packet.payload, packet.header);
  };
  const through = async (packet: RtpPacket): Promise<void> => {
    if (random() * 100 < faults.reorderPercent) {
      counts.reordered++;
      heldBack.push({ packet, after: 3 });
      return;
    }
    await put(packet);
    const due = heldBack.filter((held) => --held.after <= 0);
    heldBack = heldBack.filter((held) => held.after > 0);
    for (const held of due) await put(held.packet);
  };

  return {
    async send({ ptsUs, takenAtMs }, payloads) {
      originUs ??= ptsUs;
      const rateHz = clockHz * (isSound ? 1 + faults.soundDriftPpm / 1e6 : 1);
      const ticks = Math.round((ptsUs - originUs) * rateHz / 1e6);
      const timestamp = (FIRST_TIMESTAMP + ticks) % 2 ** 32;
      last = { timestamp, atMs: takenAtMs };
      for (const [index, payload] of payloads.entries()) {
        const header = new RtpHeader({
          version: 2,
          marker: index === payloads.length - 1,
          payloadType,
          sequenceNumber,
          timestamp,
          ssrc: sender.ssrc,
          ...(transportExtension === undefined ? {} : {
            extension: true,
            extensionProfile: 0xbede, // RFC 8285 §4.2
            extensions: [{
              id: transportExtension,
              payload: serializeTransportWideCC(transportSequence++ & 0xffff),
            }],
          }),
        });
        const packet = new RtpPacket(header, payload);
        sentPackets.set(sequenceNumber, packet);
        if (sentPackets.size > CACHED_PACKETS) {
          sentPackets.delete(sentPackets.keys().next().value ?? -1);
        }
        sequenceNumber = (sequenceNumber + 1) & 0xffff;
        packetCount++;
        octetCount += payload.length;
        await through(packet);
      }
    },
    again(sequenceNumbers, { payloadType, video }) {
      for (const number of sequenceNumbers) {
        const packet = sentPackets.get(number);
        if (packet === undefined) continue;
        counts.retransmitted++;
        const again = wrapRtx(packet, payloadType, rtxSequence, video.rtxSsrc);
        rtxSequence = (rtxSequence + 1) & 0xffff;
        put(again).catch(() => {}); // closed
      }
    },
    async report() {
      if (last === undefined) return;
      const ntpSeconds = last.atMs / 1000 + 2_208_988_800;
      const whole = Math.floor(ntpSeconds);
      await sender.dtlsTransport.sendRtcp([
        new RtcpSrPacket({
          ssrc: sender.ssrc,
          senderInfo: new RtcpSenderInfo({
            ntpTimestamp: (BigInt(whole) << 32n) |
              BigInt(Math.floor((ntpSeconds - whole) * 2 ** 32)),
            rtpTimestamp: last.timestamp,
            packetCount,
            octetCount,
          }),
        }),
      ]);
    },
  };
}
