/**
 * From the packets of a camera's streams to access units with their times: where depacketising, sound,
 * media time and wall time meet. It knows nothing of the network; what comes in is a packet and when
 * it came.
 *
 * Nothing comes out before the first key picture whose parameter sets are known. Sound before it is
 * left out.
 *
 * @module
 */
import type { AccessUnit, AudioTrack, VideoTrack } from "../../types.ts";
import { type AssembledSound, createSoundReader } from "./audio_payload.ts";
import { DecodeTimes, REORDER_STEP_US, SoundPlacer, TrackClock } from "./media_time.ts";
import { parseRtcp, RtpReceiver } from "./rtp_receiver.ts";
import { type SdpMedia, spropNals } from "./sdp.ts";
import { type AssembledPicture, VideoAssembler } from "./video_assembler.ts";
import { takeH264Payload, takeH265Payload } from "./video_payload.ts";

/** What a pipeline is made of. */
export interface PipelineOptions {
  readonly video: SdpMedia;
  readonly codec: "h264" | "h265";
  /** Sound that can be recorded; the rest is told by {@linkcode Pipeline.soundProblem}. */
  readonly audio: SdpMedia | undefined;
  /** Frames by which pictures are reordered, as far as is known. */
  readonly reorderFrames: number;
  /** The first key picture is there. */
  onReady(track: VideoTrack): void;
  onUnit(unit: AccessUnit): void;
  /** Packets are missing; pictures are left out up to the next key picture. */
  onLost(packets: number): void;
  /** Pictures turned out to be reordered by so many frames. */
  onReorder(frames: number): void;
  /** The camera has said good-bye. */
  onBye(): void;
}

/** Names of the tracks within a session. */
export const VIDEO_TRACK_ID = 1;
/** See {@linkcode VIDEO_TRACK_ID}. */
export const AUDIO_TRACK_ID = 2;

/** Packets in, units out. */
export class Pipeline {
  readonly #options: PipelineOptions;
  readonly #assembler: VideoAssembler;
  readonly #rtp: { readonly video: RtpReceiver; readonly audio: RtpReceiver | undefined };
  readonly #videoClock: TrackClock;
  readonly #placer: SoundPlacer | undefined;
  readonly #decodeTimes: DecodeTimes;
  #reorderFrames: number;
  #isReady = false;
  #skipsToKey = false;
  /** Added to all times, so that no decode time is below zero. */
  #shiftUs: number;
  #arrivalMs = 0;
  #arrivalAtMs = 0;
  /** When the newest video packet came, and the one before it. */
  #videoMs = 0;
  #beforeMs = 0;
  #lastCapturedAtMs = -Infinity;
  #lastWallOffsetMs = 0;
  /** The track of the sound, where there is any that can be recorded. */
  readonly audioTrack: AudioTrack | undefined;
  /** Why there is none, where the camera offers some. */
  readonly soundProblem: string | undefined;
  #begins: { video: number | undefined; audio: number | undefined } | undefined;

  constructor(options: PipelineOptions) {
    const { video, codec } = options;
    this.#options = options;
    this.#reorderFrames = Math.max(0, options.reorderFrames);
    this.#shiftUs = this.#reorderFrames * REORDER_STEP_US;
    this.#decodeTimes = new DecodeTimes(this.#reorderFrames);
    this.#videoClock = new TrackClock(video.clockRateHz);
    this.#assembler = new VideoAssembler({
      codec,
      trackId: VIDEO_TRACK_ID,
      parameterSets: parameterSetsOf(video),
      onPicture: (picture) => this.#onPicture(picture),
    });
    const assembler = this.#assembler;
    const videoRtp = new RtpReceiver(video.payloadType, {
      onPayload: codec === "h264"
        ? (packet) => takeH264Payload(packet, assembler)
        : (packet) => takeH265Payload(packet, assembler),
      onLost: (packets) => {
        assembler.lost();
        options.onLost(packets);
      },
    });
    const { audio } = options;
    const sound = audio && createSoundReader(audio, {
      trackId: AUDIO_TRACK_ID,
      onFrame: (frame) => this.#onSound(frame),
    });
    let audioRtp: RtpReceiver | undefined;
    if (typeof sound === "string") this.soundProblem = sound;
    else if (sound !== undefined && audio !== undefined) {
      this.audioTrack = sound.track;
      this.#placer = new SoundPlacer({
        video: this.#videoClock,
        audio: new TrackClock(audio.clockRateHz),
      });
      audioRtp = new RtpReceiver(audio.payloadType, {
        onPayload: (packet) => sound.payload(packet),
        onLost: () => sound.lost(),
      });
    }
    this.#rtp = { video: videoRtp, audio: audioRtp };
  }

  /** Counted so far. */
  get counters(): {
    readonly pictures: number;
    readonly dropped: number;
    readonly lostPackets: number;
    readonly withoutParameterSets: number;
    readonly packets: number;
  } {
    const { pictures, droppedPictures, withoutParameterSets } = this.#assembler.counters;
    return {
      pictures,
      dropped: droppedPictures,
      withoutParameterSets,
      packets: this.#rtp.video.counters.packets,
      lostPackets: this.#rtp.video.counters.lost + (this.#rtp.audio?.counters.lost ?? 0),
    };
  }

  /** What is handed in from now on has come at this moment. */
  arrive(monotonicMs: number, wallMs: number): void {
    this.#arrivalMs = monotonicMs;
    this.#arrivalAtMs = wallMs;
  }

  /** Timestamps of both streams for the same moment, by `RTP-Info`. */
  begin(
    timestamps: { readonly video: number | undefined; readonly audio: number | undefined },
  ): void {
    this.#begins = timestamps;
  }

  /** Takes an RTP packet. */
  rtp(kind: "video" | "audio", packet: { data: Uint8Array; from: number; to: number }): void {
    if (kind === "video") {
      this.#beforeMs = this.#videoMs;
      this.#videoMs = this.#arrivalMs;
    }
    this.#rtp[kind]?.packet(packet.data, packet.from, packet.to);
  }

  /** Takes an RTCP packet. */
  rtcp(
    kind: "video" | "audio",
    { data, from, to }: { data: Uint8Array; from: number; to: number },
  ): void {
    const { report, bye } = parseRtcp(data, from, to);
    const receiver = this.#rtp[kind];
    if (report !== undefined && report.ntpUs > 0 && receiver?.hasBegun) {
      this.#placer?.report(kind, report, receiver.timeOf(report.timestamp));
    }
    if (bye) this.#options.onBye();
  }

  #onSound(frame: AssembledSound): void {
    if (!this.#isReady || this.#placer === undefined) return frame.release();
    this.#useBegins();
    const us = this.#placer.take(frame.rtpTime, frame.durationTicks, this.#arrivalMs) +
      this.#shiftUs;
    if (us < 0) return frame.release();
    this.#options.onUnit({
      trackId: AUDIO_TRACK_ID,
      data: frame.data,
      ptsUs: us,
      dtsUs: us,
      isKey: true,
      capturedAtMs: this.#capturedAtMs(us),
      release: frame.release,
    });
  }

  /** Nothing is at hand for a while. */
  rest(): void {
    this.#assembler.rest();
  }

  /** Nothing more will come: what is whole is given out. */
  flush(): void {
    this.#assembler.flush();
  }

  #useBegins(): void {
    const begins = this.#begins;
    const audio = this.#rtp.audio;
    if (begins?.video === undefined || begins.audio === undefined || !audio?.hasBegun) return;
    this.#begins = undefined;
    this.#placer?.begin({
      videoTicks: this.#rtp.video.timeOf(begins.video),
      audioTicks: audio.timeOf(begins.audio),
    });
  }

  #onPicture(picture: AssembledPicture): void {
    const { isKey, track, release } = picture;
    if (this.#skipsToKey && !isKey) {
      this.#assembler.counters.droppedPictures++;
      return release();
    }
    if (isKey && (this.#skipsToKey || track !== undefined)) {
      const depth = Math.max(this.#reorderFrames, this.#assembler.reorderFrames);
      if (this.#skipsToKey || depth !== this.#decodeTimes.depth) {
        this.#decodeTimes.restart(depth);
        if (!this.#isReady) this.#shiftUs = depth * REORDER_STEP_US;
      }
      this.#skipsToKey = false;
    }
    const arrivalMs = picture.byNext ? this.#beforeMs : this.#arrivalMs;
    const ptsUs = this.#videoClock.take(picture.rtpTime, arrivalMs) + this.#shiftUs;
    const dtsUs = this.#decodeTimes.take(ptsUs);
    if (dtsUs === undefined) {
      // Pictures are reordered by more than anything has said: known from the next key picture on.
      this.#reorderFrames = this.#decodeTimes.depth + 1;
      this.#options.onReorder(this.#reorderFrames);
      this.#skipsToKey = true;
      this.#assembler.counters.droppedPictures++;
      return release();
    }
    const isFirst = !this.#isReady;
    if (isFirst && track !== undefined) {
      this.#isReady = true;
      this.#options.onReady(track);
    }
    const unit = {
      trackId: VIDEO_TRACK_ID,
      data: picture.data,
      ptsUs,
      dtsUs,
      isKey,
      capturedAtMs: this.#capturedAtMs(ptsUs),
      release,
    };
    this.#options.onUnit(track === undefined || isFirst ? unit : { ...unit, track });
  }

  /** Wall time of a moment of media time; goes back only when the wall clock does. */
  #capturedAtMs(us: number): number {
    const mediaMs = (us - this.#shiftUs) / 1000;
    const wallOffsetMs = this.#arrivalAtMs - this.#arrivalMs;
    // A reading of both clocks is never quite the same; a clock that was set is off by more.
    if (Math.abs(wallOffsetMs - this.#lastWallOffsetMs) > 50) {
      this.#lastWallOffsetMs = wallOffsetMs;
      this.#lastCapturedAtMs = -Infinity;
    }
    const atMs = Math.round(mediaMs + this.#videoClock.offsetMs + this.#lastWallOffsetMs);
    this.#lastCapturedAtMs = Math.max(this.#lastCapturedAtMs, atMs);
    return this.#lastCapturedAtMs;
  }
}

function parameterSetsOf({ params }: SdpMedia): Uint8Array[] {
  return ["sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps"]
    .flatMap((name) => spropNals(params.get(name)));
}
