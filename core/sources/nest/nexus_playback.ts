/**
 * What comes out of the packets of a playback: pictures and sound as access units on one line of
 * media time, over all the playbacks that a session goes through.
 *
 * @module
 */
import { makeAudioSpecificConfig, parseAdts } from "../../media/aac.ts";
import { splitAnnexB } from "../../media/annexb.ts";
import { MediaError } from "../../media/media_error.ts";
import type { AccessUnit, AudioTrack, Clock, VideoTrack } from "../../types.ts";
import { UnitBuffer } from "../unit_buffer.ts";
import { type ChannelTime, NexusClock } from "./nexus_clock.ts";
import { type Channel, CODEC, type PlaybackBegin, type PlaybackPart } from "./nexus_packets.ts";
import { type AssembledPicture, PictureAssembler } from "./nexus_video.ts";

/** Where a channel does not say, by the protocol. */
const VIDEO_TICKS = 90_000;
const AUDIO_TICKS = 48_000;
/** More is no rate of ticks. */
const MOST_TICKS = 10_000_000;

/** Sound does not wait any longer for a picture that does not end. */
const MAX_WAITING_SOUND = 64;

const SOUND_CHUNK_BYTES = 16_384;
/** An ADTS frame's length has 13 bits. */
const MOST_ADTS_BYTES = 8192;

const VIDEO_TRACK = 1;
const AUDIO_TRACK = 2;

/** What was lost or odd so far. */
export interface PlaybackCounters {
  /** Pictures that could not be used. */
  readonly picturesDropped: number;
  /** Sound that was no ADTS frame. */
  readonly soundDropped: number;
  /** How often the camera's time was set right. */
  readonly timeCorrections: number;
}

/** Makes units out of parts; `take` gives what is whole. */
export class NexusPlayback {
  readonly #time: NexusClock;
  readonly #pictures = new PictureAssembler(VIDEO_TRACK);
  readonly #frames = new UnitBuffer({
    chunkBytes: SOUND_CHUNK_BYTES,
    maxUnitBytes: MOST_ADTS_BYTES,
  });
  #videoChannel: number | undefined;
  #audioChannel: number | undefined;
  /** When the picture under way was taken, µs of media time. */
  #pictureAtUs: number | undefined;
  #units: AccessUnit[] = [];
  /** Sound from while a picture is under way: it comes behind it, as the times have it. */
  #sound: AccessUnit[] = [];
  #video: VideoTrack | undefined;
  #audio: AudioTrack | undefined;
  #soundDropped = 0;

  constructor(clock: Clock) {
    this.#time = new NexusClock(clock);
  }

  /** The description of the pictures, once the first key picture is whole. */
  get video(): VideoTrack | undefined {
    return this.#video;
  }

  /** The description of the sound, once the first frame came. */
  get audio(): AudioTrack | undefined {
    return this.#audio;
  }

  /** Whether this playback has sound. */
  get hasSound(): boolean {
    return this.#audioChannel !== undefined;
  }

  get counters(): PlaybackCounters {
    return {
      picturesDropped: this.#pictures.counters.dropped,
      soundDropped: this.#soundDropped,
      timeCorrections: this.#time.corrections,
    };
  }

  /** A playback begins, the first or another one. @returns whether it has pictures */
  begin({ channels }: PlaybackBegin): boolean {
    this.#pictures.interrupt();
    this.#pictureAtUs = undefined;
    this.#releaseSound();
    const video = channels.find(({ codec }) => codec === CODEC.h264);
    const audio = channels.find(({ codec }) => codec === CODEC.aac);
    this.#videoChannel = video?.id;
    this.#audioChannel = audio?.id;
    this.#time.begin([
      ...(video ? [timeOf(video, "video", VIDEO_TICKS)] : []),
      ...(audio ? [timeOf(audio, "audio", AUDIO_TICKS)] : []),
    ]);
    return video !== undefined;
  }

  /** Takes what a packet brings. */
  add({ channelId, timestampDelta, payload }: PlaybackPart): void {
    if (channelId === this.#videoChannel) this.#addVideo(timestampDelta, payload);
    else if (channelId === this.#audioChannel) this.#addAudio(timestampDelta, payload);
  }

  /** Nothing more comes: the last picture too, if it seems whole. */
  end({ brokenOff }: { readonly brokenOff: boolean }): void {
    this.#flush(this.#pictures.take({ brokenOff }));
    this.#releaseSound();
  }

  /** The units that are whole, in the order in which they became so. */
  take(): AccessUnit[] {
    const units = this.#units;
    if (units.length > 0) this.#units = [];
    return units;
  }

  #addVideo(delta: number, payload: Uint8Array): void {
    // One NAL unit without start code; a few servers put one in front.
    const hasCode = payload[0] === 0 && payload[1] === 0 &&
      (payload[2] === 1 || (payload[2] === 0 && payload[3] === 1));
    const nals = hasCode ? splitAnnexB(payload) : [payload];
    let ticks = delta;
    for (const nal of nals) {
      if (nal.length === 0) continue;
      if (this.#pictures.isUnderWay && (ticks !== 0 || this.#pictures.begins(nal))) {
        this.#flush(this.#pictures.take());
      }
      if (ticks !== 0) this.#time.advance("video", ticks);
      ticks = 0;
      this.#pictures.add(nal);
      if (this.#pictures.isUnderWay) this.#pictureAtUs ??= this.#time.takeUs("video");
    }
    if (ticks !== 0) this.#time.advance("video", ticks);
  }

  #flush(picture: AssembledPicture | undefined): void {
    const atUs = this.#pictureAtUs;
    this.#pictureAtUs = undefined;
    if (!picture || atUs === undefined) return this.#releaseSound();
    const isFirst = this.#video === undefined;
    if (picture.track) this.#video = picture.track;
    this.#units.push({
      trackId: VIDEO_TRACK,
      data: picture.data,
      release: picture.release,
      ptsUs: atUs,
      dtsUs: atUs,
      isKey: picture.isKey,
      capturedAtMs: this.#time.wallMs(atUs),
      ...(picture.track && !isFirst ? { track: picture.track } : {}),
    });
    this.#releaseSound();
  }

  #releaseSound(): void {
    for (const unit of this.#sound) this.#units.push(unit);
    this.#sound.length = 0;
  }

  #addAudio(delta: number, payload: Uint8Array): void {
    this.#time.advance("audio", delta);
    try {
      // Mostly one frame; the time of a second one follows from its length.
      for (let at = 0; at < payload.length;) {
        const frame = parseAdts(payload, at);
        if (!frame || at + frame.frameBytes > payload.length || frame.channels === 0) {
          this.#soundDropped++;
          return;
        }
        const { sampleRateHz, channels } = frame;
        let track: AudioTrack | undefined;
        if (this.#audio?.sampleRateHz !== sampleRateHz || this.#audio.channels !== channels) {
          const isFirst = this.#audio === undefined;
          const config = makeAudioSpecificConfig(frame);
          this.#audio = {
            ...{ id: AUDIO_TRACK, kind: "audio", codec: "aac" },
            ...{ sampleRateHz, channels, config },
          };
          if (!isFirst) track = this.#audio;
        }
        const atUs = this.#time.takeUs("audio");
        this.#frames.append(payload, at + frame.headerBytes, at + frame.frameBytes);
        this.#sound.push({
          trackId: AUDIO_TRACK,
          ...this.#frames.commit(),
          ptsUs: atUs,
          dtsUs: atUs,
          isKey: true,
          capturedAtMs: this.#time.wallMs(atUs),
          ...(track ? { track } : {}),
        });
        at += frame.frameBytes;
      }
      const waits = this.#pictureAtUs !== undefined && this.#sound.length < MAX_WAITING_SOUND;
      if (!waits) this.#releaseSound();
    } catch (error) {
      if (!(error instanceof MediaError)) throw error;
      this.#soundDropped++;
    }
  }
}

function timeOf(channel: Channel, kind: ChannelTime["kind"], standard: number): ChannelTime {
  const { sampleRate, startTime } = channel;
  const isSensible = sampleRate > 0 && sampleRate <= MOST_TICKS;
  return {
    kind,
    ticksPerSecond: isSensible ? sampleRate : standard,
    startTime: Number.isFinite(startTime) ? startTime : 0,
  };
}
