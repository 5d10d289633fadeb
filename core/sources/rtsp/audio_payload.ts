/**
 * Sound out of RTP payloads: AAC as `mpeg4-generic` (RFC 3640) and `MP4A-LATM` (RFC 6416), Opus
 * (RFC 7587), one frame per unit, copied once; and G.711 and raw samples (RFC 3551 §4.5) as `pcm`,
 * a packet per unit.
 *
 *     mpeg4-generic: headers' length in bits (2) · per frame: size (13 bits), index (3) · frames
 *     MP4A-LATM:     per frame: length as 255 + 255 + … + n · frame
 *     Opus:          one packet
 *
 * @module
 */
import { makeAudioSpecificConfig, parseAudioSpecificConfig } from "../../media/aac.ts";
import { BitReader } from "../../media/bits.ts";
import { decodeG711 } from "../../media/g711.ts";
import { MediaError } from "../../media/media_error.ts";
import { makeOpusConfig, opusPacketSamples } from "../../media/opus.ts";
import type { AudioTrack } from "../../types.ts";
import type { RtpHandler } from "./rtp_receiver.ts";
import { parseHex, type SdpMedia } from "./sdp.ts";
import { type CommittedUnit, UnitBuffer } from "../unit_buffer.ts";

/** A frame of sound as it comes out. */
export interface AssembledSound extends CommittedUnit {
  /** In the stream's clock, endless. */
  readonly rtpTime: number;
  /** Length of the frame in the same clock. */
  readonly durationTicks: number;
}

type Payload = Parameters<RtpHandler["onPayload"]>[0];

/** One stream of sound. */
export interface SoundReader {
  readonly track: AudioTrack;
  /** Takes a packet's payload. */
  payload(packet: Payload): void;
  /** Packets are missing. */
  lost(): void;
}

const CHUNK_BYTES = 16_384;
const MAX_FRAME_BYTES = 65_536;
/** Frames in one packet beyond this are not believed. */
const MAX_FRAMES = 64;

/**
 * A reader for the stream, or why its sound cannot be recorded.
 *
 * @param onFrame takes each frame
 */
export function createSoundReader(
  media: SdpMedia,
  { trackId, onFrame }: {
    readonly trackId: number;
    readonly onFrame: (frame: AssembledSound) => void;
  },
): SoundReader | string {
  try {
    switch (media.encoding) {
      case "MPEG4-GENERIC":
        return genericAac(media, trackId, onFrame);
      case "MP4A-LATM":
        return latm(media, trackId, onFrame);
      case "OPUS":
        return opus(media, trackId, onFrame);
      case "PCMA":
        return samples(media, {
          trackId,
          onFrame,
          sampleBytes: 1,
          read: (b) => decodeG711(b, "a"),
        });
      case "PCMU":
        return samples(media, {
          trackId,
          onFrame,
          sampleBytes: 1,
          read: (b) => decodeG711(b, "mu"),
        });
      case "L16":
        return samples(media, { trackId, onFrame, sampleBytes: 2, read: swapBytes });
      default:
        return `its codec is ${media.encoding || `payload type ${media.payloadType}`}`;
    }
  } catch (error) {
    if (!(error instanceof MediaError)) throw error;
    return error.message;
  }
}

function aacTrack(trackId: number, config: Uint8Array): AudioTrack {
  const { sampleRateHz, channels } = parseAudioSpecificConfig(config);
  return { id: trackId, kind: "audio", codec: "aac", sampleRateHz, channels, config };
}

function newBuffer(): UnitBuffer {
  return new UnitBuffer({ chunkBytes: CHUNK_BYTES, maxUnitBytes: MAX_FRAME_BYTES });
}

type OnFrame = (frame: AssembledSound) => void;

/** Samples of a frame: 960 where the configuration says so (`frameLengthFlag`). */
function aacFrameTicks(config: Uint8Array): number {
  return config.length === 2 && ((config[1] ?? 0) & 4) !== 0 ? 960 : 1024;
}

function genericAac(media: SdpMedia, trackId: number, onFrame: OnFrame): SoundReader {
  const config = parseHex(media.params.get("config"));
  if (config === undefined) throw new MediaError("its description holds no AAC configuration");
  const bits = (name: string, usual: number) => {
    const value = Number(media.params.get(name) ?? usual);
    if (!Number.isInteger(value) || value < 0 || value > 32) {
      throw new MediaError(`its description names ${name}=${media.params.get(name)}`);
    }
    return value;
  };
  // AAC-hbr, what all cameras use; AAC-lbr has 6 and 2.
  const sizeBits = bits("sizelength", 13);
  const indexBits = bits("indexlength", 3);
  const deltaBits = bits("indexdeltalength", indexBits);
  if (sizeBits === 0) throw new MediaError("its description names frames of a constant size");
  const track = aacTrack(trackId, config);
  const durationTicks = aacFrameTicks(config) * media.clockRateHz /
    (track.codec === "aac" ? coreRate(config) : media.clockRateHz);
  const buffer = newBuffer();
  let pieceTime = -1;

  return {
    track,
    payload({ data, from, to, marker, time }) {
      if (to - from < 2) return;
      const headerBits = ((data[from] ?? 0) << 8) | (data[from + 1] ?? 0);
      let at = from + 2 + ((headerBits + 7) >> 3);
      if (at > to || headerBits < sizeBits) return;
      const reader = new BitReader(data.subarray(from + 2, at), "AU headers");
      const sizes: number[] = [];
      for (let left = headerBits; left >= sizeBits && sizes.length < MAX_FRAMES;) {
        const index = sizes.length === 0 ? indexBits : deltaBits;
        if (left < sizeBits + index) break;
        sizes.push(reader.bits(sizeBits));
        reader.skip(index);
        left -= sizeBits + index;
      }
      for (const [i, size] of sizes.entries()) {
        const left = to - at;
        if (size > left) {
          // A frame larger than a packet comes in pieces with the same timestamp (§3.2.3.2).
          if (sizes.length > 1 || buffer.wouldOverflow(left)) return buffer.truncate(0);
          if (pieceTime !== time) buffer.truncate(0);
          pieceTime = time;
          buffer.append(data, at, to);
          if (buffer.length > size) return buffer.truncate(0);
          if (!marker && buffer.length < size) return;
          if (buffer.length < size) return buffer.truncate(0);
          onFrame({ ...buffer.commit(), rtpTime: time, durationTicks });
          return;
        }
        buffer.truncate(0);
        if (size === 0) continue;
        buffer.append(data, at, at + size);
        at += size;
        const { data: frame, release } = buffer.commit();
        onFrame({ data: frame, release, rtpTime: time + i * durationTicks, durationTicks });
      }
    },
    lost: () => buffer.truncate(0),
  };
}

/** The rate at which frames count 1024: for HE-AAC half of the one that is played. */
function coreRate(config: Uint8Array): number {
  const { objectType, sampleRateHz } = parseAudioSpecificConfig(config);
  return objectType === 5 || objectType === 29 ? sampleRateHz / 2 : sampleRateHz;
}

/** The AudioSpecificConfig in a StreamMuxConfig (ISO/IEC 14496-3 §1.7.3) of one program and layer. */
function latmConfig(mux: Uint8Array): Uint8Array {
  const r = new BitReader(mux, "StreamMuxConfig");
  const version = r.bits(1);
  r.skip(1); // all streams have the same framing
  const subFrames = r.bits(6);
  const programs = r.bits(4);
  const layers = r.bits(3);
  if (version !== 0 || subFrames !== 0 || programs !== 0 || layers !== 0) {
    throw new MediaError("its LATM has several programs, layers or frames in one");
  }
  // The rest begins in the middle of a byte.
  const rest: number[] = [];
  while (r.bitsLeft >= 8) rest.push(r.bits(8));
  const config = parseAudioSpecificConfig(Uint8Array.from([...rest, 0, 0, 0]));
  if (config.objectType !== 2) {
    throw new MediaError(`its AAC has object type ${config.objectType}, expected 2 (LC)`);
  }
  return makeAudioSpecificConfig(config);
}

function latm(media: SdpMedia, trackId: number, onFrame: OnFrame): SoundReader {
  const mux = parseHex(media.params.get("config"));
  if (media.params.get("cpresent") !== "0" || mux === undefined) {
    throw new MediaError("its LATM configuration is not in the description");
  }
  const track = aacTrack(trackId, latmConfig(mux));
  const buffer = newBuffer();
  const durationTicks = 1024 * media.clockRateHz / track.sampleRateHz;
  let size = -1;
  let openTime = 0;
  return {
    track,
    payload({ data, from, to, time }) {
      let at = from;
      for (let i = 0; at < to && i < MAX_FRAMES; i++) {
        if (size < 0 || openTime !== time || i > 0) { // not the second half of a frame
          size = 0;
          openTime = time;
          buffer.truncate(0);
          while (at < to && data[at] === 255) {
            size += 255;
            at++;
          }
          size += data[at++] ?? 0;
        }
        const end = Math.min(to, at + size - buffer.length);
        if (size > MAX_FRAME_BYTES || end < at) {
          size = -1;
          return;
        }
        buffer.append(data, at, end);
        at = end;
        if (buffer.length < size) return;
        size = -1;
        if (buffer.length > 0) {
          const { data: frame, release } = buffer.commit();
          onFrame({ data: frame, release, rtpTime: time + i * durationTicks, durationTicks });
        }
      }
    },
    lost() {
      size = -1;
      buffer.truncate(0);
    },
  };
}

function opus(media: SdpMedia, trackId: number, onFrame: OnFrame): SoundReader {
  // `sprop-stereo` tells what is sent; the 2 of "opus/48000/2" is always there.
  const channels = media.params.get("sprop-stereo") === "0" ? 1 : 2;
  const buffer = newBuffer();
  return {
    track: {
      id: trackId,
      kind: "audio",
      codec: "opus",
      sampleRateHz: 48_000,
      channels,
      config: makeOpusConfig({ channels }),
    },
    payload({ data, from, to, time }) {
      if (from >= to || buffer.wouldOverflow(to - from)) return;
      buffer.append(data, from, to);
      try {
        const durationTicks = opusPacketSamples(buffer.view(0));
        const { data: frame, release } = buffer.commit();
        onFrame({ data: frame, release, rtpTime: time, durationTicks });
      } catch (error) {
        if (!(error instanceof MediaError)) throw error;
        buffer.truncate(0);
      }
    },
    lost() {},
  };
}

/** Sound that is not coded, or a byte a sample: it is handed on as samples. */
function samples(media: SdpMedia, { trackId, onFrame, sampleBytes, read }: {
  readonly trackId: number;
  readonly onFrame: OnFrame;
  readonly sampleBytes: number;
  /** Makes 16-bit little-endian samples of a payload. */
  readonly read: (payload: Uint8Array) => Uint8Array<ArrayBuffer>;
}): SoundReader {
  const { clockRateHz, channels } = media;
  return {
    track: {
      ...{ id: trackId, kind: "audio", codec: "pcm", sampleRateHz: clockRateHz, channels },
      config: new Uint8Array(),
    },
    payload({ data, from, to, time }) {
      const count = Math.floor((to - from) / (sampleBytes * channels));
      if (count === 0) return;
      onFrame({
        data: read(data.subarray(from, from + count * sampleBytes * channels)),
        release: () => {},
        ...{ rtpTime: time, durationTicks: count },
      });
    },
    lost() {},
  };
}

/** `L16` has the high byte first (RFC 3551 §4.5.11). */
function swapBytes(payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const swapped = new Uint8Array(payload.length);
  for (let i = 0; i + 1 < payload.length; i += 2) {
    swapped[i] = payload[i + 1] ?? 0;
    swapped[i + 1] = payload[i] ?? 0;
  }
  return swapped;
}
