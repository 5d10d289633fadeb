/**
 * A WebRTC session: pictures and sound of one camera as access units. `peer.ts` is the connection,
 * `reorder.ts` brings the packets into order, and the pipeline that RTSP has as well makes units of
 * them; here they are joined, watched over, and ended.
 *
 * A connection that stands says nothing about media: key pictures are asked for every 1.5 s until one
 * comes. The session is open when the first key picture is whole. After a loss a key picture is asked
 * for again, and what lies between is left out, because it cannot be decoded.
 *
 * A picture loss indication (PLI) gives a Nest camera's key picture without parameter sets, a full
 * intra request (FIR) gives one with them. Both are sent, also after a loss: it may have been new
 * parameter sets that were lost. Where a key picture comes without any, those before it apply.
 *
 * @module
 */
import type { RtpPacket } from "werift";
import {
  type AccessUnit,
  type Clock,
  type Log,
  type Session,
  sourceError,
  type Track,
  type VideoTrack,
} from "../../types.ts";
import { Pipeline, VIDEO_TRACK_ID } from "../rtsp/pipeline.ts";
import type { SdpMedia } from "../rtsp/sdp.ts";
import { createUnitOutput } from "../rtsp/unit_output.ts";
import { openPeer, PAYLOAD_TYPES, type Peer } from "./peer.ts";
import { ReorderBuffer } from "./reorder.ts";

/** What a session is opened with. */
export interface WebRtcSessionOptions {
  /** Takes our offer to the camera, and brings its answer. */
  readonly exchange: (offerSdp: string) => Promise<string>;
  /** Ends it quietly. */
  readonly signal: AbortSignal;
  readonly clock: Clock;
  readonly log: Log;
  /** The camera's stand-in runs on this machine. */
  readonly loopback?: boolean;
  /** So long no picture is endured once there was one, ms. Default ten seconds. */
  readonly silenceMs?: number;
}

/** What a session has been through. */
export interface WebRtcCounters {
  /** Pictures yielded. */
  readonly pictures: number;
  /** Pictures left out because they were damaged or not decodable. */
  readonly dropped: number;
  /** Packets of pictures that never came. */
  readonly lostPackets: number;
  /** Packets of pictures that overtook others. */
  readonly reorderedPackets: number;
  /** Packets that were asked for again. */
  readonly askedAgain: number;
  /** Requests for a key picture. */
  readonly keyRequests: number;
}

/** A {@linkcode Session} that tells how it went. */
export interface WebRtcSession extends Session {
  readonly counters: WebRtcCounters;
}

const WINDOW_MS = { video: 250, audio: 50 } as const;
const KEY_REQUEST_MS = 1500;
/** Cameras take up to 12 s for their first key picture. */
const FIRST_PICTURE_MS = 20_000;
const SILENCE_MS = 10_000;
const ALLOWED_BITS_PER_SECOND = 4_000_000;
const ALLOW_EVERY_MS = 2000;
/** How often missing packets are looked after, while there are some, ms. */
const TICK_MS = 20;
const RTP_HEADER_BYTES = 12;
const MAX_PACKET_BYTES = 65_536;

const VIDEO: SdpMedia = {
  kind: "video",
  payloadType: PAYLOAD_TYPES.h264,
  encoding: "H264",
  clockRateHz: 90_000,
  channels: 1,
  params: new Map(),
  control: undefined,
  isSendOnly: false,
};

/**
 * Opens a camera's stream, and resolves when the first key picture is there.
 *
 * @throws a source error, or the signal's reason when aborted
 */
export async function openWebRtcSession(options: WebRtcSessionOptions): Promise<WebRtcSession> {
  const { signal } = options;
  signal.throwIfAborted();
  const live = new LiveSession(options);
  try {
    await live.open();
    return live;
  } catch (error) {
    await live[Symbol.asyncDispose]();
    throw signal.aborted ? signal.reason : error;
  }
}

class LiveSession implements WebRtcSession {
  readonly #options: WebRtcSessionOptions;
  /** Aborted when the session is over, for whatever reason. */
  readonly #over = new AbortController();
  readonly #opened = Promise.withResolvers<void>();
  readonly #output = createUnitOutput({
    onDrained: () => {},
    onLeft: () => this[Symbol.asyncDispose](),
  });
  readonly #buffers = {
    video: new ReorderBuffer<RtpPacket>({
      windowMs: WINDOW_MS.video,
      onPacket: (packet) => this.#inOrder("video", packet),
    }),
    audio: new ReorderBuffer<RtpPacket>({
      windowMs: WINDOW_MS.audio,
      onPacket: (packet) => this.#inOrder("audio", packet),
    }),
  };
  /** Where a packet stands while the pipeline reads it. */
  readonly #scratch = new Uint8Array(RTP_HEADER_BYTES + MAX_PACKET_BYTES);
  readonly #scratchView = new DataView(this.#scratch.buffer);
  #pipeline: Pipeline | undefined;
  #peer: Peer | undefined;
  #videoTrack: VideoTrack | undefined;
  /** A key picture is needed before anything can be decoded. */
  #wantsKey = true;
  #keyRequestedMs = -Infinity;
  #keyRequests = 0;
  #askedAgain = 0;
  #lastPictureMs: number;
  #ticking = false;
  #closing: Promise<void> | undefined;

  constructor(options: WebRtcSessionOptions) {
    this.#options = options;
    this.#lastPictureMs = options.clock.monotonic();
    this.#opened.promise.catch(() => {});
    options.signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  get tracks(): readonly Track[] {
    return [this.#videoTrack, this.#pipeline?.audioTrack].filter((track) => track !== undefined);
  }

  get counters(): WebRtcCounters {
    const { lost, reordered } = this.#buffers.video.counters;
    return {
      pictures: this.#pipeline?.counters.pictures ?? 0,
      dropped: this.#pipeline?.counters.dropped ?? 0,
      lostPackets: lost,
      reorderedPackets: reordered,
      askedAgain: this.#askedAgain,
      keyRequests: this.#keyRequests,
    };
  }

  [Symbol.asyncIterator](): AsyncIterator<AccessUnit> {
    return this.#output;
  }

  readonly #onAbort = () => {
    this.#opened.reject(this.#options.signal.reason);
    this.#output.close();
    this.#close();
  };

  /** Connects and waits for the first key picture. */
  async open(): Promise<void> {
    const { clock, exchange, loopback = false } = this.#options;
    this.#peer = await openPeer({
      loopback,
      nowMs: () => clock.monotonic(),
      handler: {
        onRtp: (kind, packet) => this.#onRtp(kind, packet),
        onReport: (kind, bytes) =>
          this.#pipeline?.rtcp(kind, { data: bytes, from: 0, to: bytes.length }),
        onLost: (reason) => this.#fail(sourceError("offline", `${reason}`)),
      },
    });
    this.#over.signal.throwIfAborted();
    const answer = await exchange(this.#peer.offerSdp);
    this.#over.signal.throwIfAborted();
    this.#pipeline = new Pipeline({
      video: VIDEO,
      codec: "h264",
      audio: opusOf(answer),
      reorderFrames: 0,
      onReady: (track) => {
        this.#videoTrack = track;
        this.#opened.resolve();
      },
      onUnit: (unit) => this.#onUnit(unit),
      onLost: () => {
        this.#wantsKey = true;
        this.#requestKey();
      },
      onReorder: () => {},
      onBye: () => this.#fail(sourceError("offline", "the camera has ended the stream")),
    });
    try {
      await this.#peer.answer(answer);
    } catch (cause) {
      throw sourceError(
        "protocol",
        `the camera's WebRTC answer was not understood: ${
          cause instanceof Error ? cause.message : String(cause)
        }`,
        { cause },
      );
    }
    this.#lastPictureMs = clock.monotonic();
    this.#watch().catch(() => {}); // over
    this.#nag().catch(() => {});
    await this.#opened.promise;
  }

  #onRtp(kind: "video" | "audio", packet: RtpPacket): void {
    if (this.#over.signal.aborted) return;
    const { sequenceNumber: sequence, ssrc } = packet.header;
    const nowMs = this.#options.clock.monotonic();
    this.#pipeline?.arrive(nowMs, this.#options.clock.now());
    this.#buffers[kind].push(packet, { sequence, ssrc, nowMs });
    if (this.#buffers[kind].isWaiting && !this.#ticking) this.#tick().catch(() => {}); // over
  }

  /** Looks after missing packets for as long as there are some. */
  async #tick(): Promise<void> {
    const { clock } = this.#options;
    this.#ticking = true;
    try {
      while (this.#buffers.video.isWaiting || this.#buffers.audio.isWaiting) {
        await clock.sleep(TICK_MS, { signal: this.#over.signal });
        this.#buffers.audio.tick(clock.monotonic());
        const again = this.#buffers.video.tick(clock.monotonic());
        this.#askedAgain += again.length;
        this.#peer?.requestAgain(again);
      }
    } finally {
      this.#ticking = false;
    }
  }

  /** A packet's turn: as bytes, the way in which the pipeline takes it. */
  #inOrder(kind: "video" | "audio", { header, payload }: RtpPacket): void {
    const to = RTP_HEADER_BYTES + payload.length;
    if (to > this.#scratch.length) return;
    const view = this.#scratchView;
    view.setUint8(0, 0x80);
    const type = kind === "video" ? PAYLOAD_TYPES.h264 : PAYLOAD_TYPES.opus;
    view.setUint8(1, (header.marker ? 0x80 : 0) | type);
    view.setUint16(2, header.sequenceNumber);
    view.setUint32(4, header.timestamp);
    view.setUint32(8, header.ssrc);
    this.#scratch.set(payload, RTP_HEADER_BYTES);
    this.#pipeline?.rtp(kind, { data: this.#scratch, from: 0, to });
  }

  #onUnit(unit: AccessUnit): void {
    if (unit.trackId === VIDEO_TRACK_ID) {
      this.#lastPictureMs = this.#options.clock.monotonic();
      if (unit.isKey) this.#wantsKey = false;
    }
    // A reader that is so far behind loses what comes now, not us our memory.
    if (this.#output.isFull) return unit.release?.();
    this.#output.push(unit);
  }

  #requestKey(): void {
    const nowMs = this.#options.clock.monotonic();
    if (nowMs - this.#keyRequestedMs < KEY_REQUEST_MS / 3) return;
    this.#keyRequestedMs = nowMs;
    this.#keyRequests++;
    this.#peer?.requestKey();
  }

  /** Asks for a key picture as long as one is needed, and says now and then what may come. */
  async #nag(): Promise<void> {
    const { clock } = this.#options;
    let allowedMs = -Infinity;
    while (true) {
      if (this.#wantsKey) this.#requestKey();
      if (clock.monotonic() - allowedMs >= ALLOW_EVERY_MS) {
        allowedMs = clock.monotonic();
        this.#peer?.allow(ALLOWED_BITS_PER_SECOND);
      }
      // Nothing is heard before the connection stands: the first requests go out more often.
      const pauseMs = this.#videoTrack === undefined && this.#keyRequests < 6
        ? 500
        : KEY_REQUEST_MS;
      await clock.sleep(pauseMs, { signal: this.#over.signal });
    }
  }

  /** Ends the session when no picture has come for too long. */
  async #watch(): Promise<void> {
    const { clock, silenceMs = SILENCE_MS } = this.#options;
    while (true) {
      const patienceMs = this.#videoTrack === undefined ? FIRST_PICTURE_MS : silenceMs;
      const restMs = this.#lastPictureMs + patienceMs - clock.monotonic();
      if (restMs <= 0) break;
      await clock.sleep(Math.min(restMs, silenceMs), { signal: this.#over.signal });
    }
    const packets = this.#buffers.video.counters.packets;
    const noSets = this.#pipeline?.counters.withoutParameterSets ?? 0;
    const seconds = Math.round((clock.monotonic() - this.#lastPictureMs) / 1000);
    this.#fail(sourceError(
      "offline",
      `no picture for ${seconds} s` +
        (packets === 0
          ? ": the WebRTC connection brought nothing; UDP to the Internet must be allowed"
          : noSets > 0
          ? ": the camera sends no parameter sets (SPS, PPS)"
          : `: ${packets} packets came, but no whole key picture`),
    ));
  }

  /** The session has ended by itself. */
  #fail(error: unknown): void {
    if (this.#over.signal.aborted) return;
    this.#pipeline?.flush();
    this.#opened.reject(error);
    this.#output.end(error);
    this.#close();
  }

  #close(): Promise<void> {
    this.#closing ??= (async () => {
      this.#options.signal.removeEventListener("abort", this.#onAbort);
      this.#over.abort(sourceError("offline", "the session is over"));
      await this.#peer?.close();
    })();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#output.close();
    await this.#close();
  }
}

/** The sound of an answer; `undefined` where the camera sends none. */
export function opusOf(answerSdp: string): SdpMedia | undefined {
  const section = answerSdp.split(/^(?=m=)/m).find((part) => part.startsWith("m=audio "));
  const payloadType = /^a=rtpmap:(\d+) opus\/48000/mi.exec(section ?? "")?.[1];
  if (section === undefined || payloadType === undefined || /^m=audio 0 /.test(section)) {
    return undefined;
  }
  if (/^a=(inactive|recvonly)\s*$/m.test(section)) return undefined;
  const stereo = /^a=fmtp:\d+ .*\bsprop-stereo=(\d)/m.exec(section)?.[1];
  return {
    kind: "audio",
    payloadType: PAYLOAD_TYPES.opus,
    encoding: "OPUS",
    clockRateHz: 48_000,
    channels: 2,
    params: new Map(stereo === undefined ? [] : [["sprop-stereo", stereo]]),
    control: undefined,
    isSendOnly: false,
  };
}
