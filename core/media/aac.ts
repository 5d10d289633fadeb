/**
 * AAC: the ADTS framing that streams use (ISO/IEC 14496-3 §1.A.3.2) and the AudioSpecificConfig that
 * MP4 uses instead (§1.6.2.1). In MP4 each sample is a raw frame; its ADTS header is stripped.
 *
 * ADTS header: sync 0xFFF (12 bits) · ID, layer, protection_absent · profile - 1 (2) · frequency index
 * (4) · private (1) · channels (3) · 4 bits · frame length with header (13) · fullness (11) · blocks - 1
 * (2); 7 bytes, or 9 with a checksum.
 *
 * @module
 */
import { BitReader, BitWriter } from "./bits.ts";
import { MediaError } from "./media_error.ts";

/** Sampling frequencies by index (§1.6.3.4). */
const SAMPLE_RATES_HZ: readonly number[] = [
  96_000,
  88_200,
  64_000,
  48_000,
  44_100,
  32_000,
  24_000,
  22_050,
  16_000,
  12_000,
  11_025,
  8_000,
  7_350,
];

/** Samples in one frame of AAC-LC. */
export const AAC_FRAME_SAMPLES = 1024;

/** What an AudioSpecificConfig says. */
export interface AacConfig {
  /** 2 is AAC-LC. */
  readonly objectType: number;
  readonly sampleRateHz: number;
  readonly channels: number;
}

/** One ADTS frame. */
export interface AdtsFrame extends AacConfig {
  /** Where the raw frame begins: after the header. */
  readonly headerBytes: number;
  /** Header and raw frame. */
  readonly frameBytes: number;
}

/**
 * Parses the ADTS header at `offset`. The frame itself may reach beyond `data`: compare `frameBytes`.
 *
 * @returns `undefined` where `data` ends within the header
 * @throws MediaError where no header stands
 */
export function parseAdts(data: Uint8Array, offset = 0): AdtsFrame | undefined {
  if (data.length - offset < 7) return undefined;
  const b = (i: number) => data[offset + i] ?? 0;
  if (b(0) !== 0xff || (b(1) & 0xf6) !== 0xf0) {
    throw new MediaError(`expected an ADTS header (ff f1 or ff f9), got ${hex(b(0))} ${hex(b(1))}`);
  }
  const headerBytes = (b(1) & 1) === 1 ? 7 : 9;
  const frequencyIndex = (b(2) >> 2) & 15;
  const sampleRateHz = SAMPLE_RATES_HZ[frequencyIndex];
  const frameBytes = ((b(3) & 3) << 11) | (b(4) << 3) | (b(5) >> 5);
  if (sampleRateHz === undefined) {
    throw new MediaError(
      `the ADTS header names frequency index ${frequencyIndex}, expected 0 to 12`,
    );
  }
  if (frameBytes <= headerBytes) {
    throw new MediaError(`the ADTS header names a frame of ${frameBytes} bytes`);
  }
  if ((b(6) & 3) !== 0) {
    throw new MediaError("the ADTS frame holds several raw blocks, which MP4 cannot take as one");
  }
  return {
    objectType: (b(2) >> 6) + 1,
    sampleRateHz,
    channels: ((b(2) & 1) << 2) | (b(3) >> 6),
    headerBytes,
    frameBytes,
  };
}

/** The raw AAC frame of one whole ADTS frame, as a view. @throws MediaError */
export function stripAdts(data: Uint8Array): Uint8Array {
  const frame = parseAdts(data);
  if (!frame || frame.frameBytes > data.length) {
    throw new MediaError(
      `the ADTS frame is cut: ${data.length} of ${frame?.frameBytes ?? "at least 7"} bytes`,
    );
  }
  return data.subarray(frame.headerBytes, frame.frameBytes);
}

/** Makes an AudioSpecificConfig. */
export function makeAudioSpecificConfig(config: AacConfig): Uint8Array {
  const w = new BitWriter();
  if (config.objectType < 31) w.bits(config.objectType, 5);
  else w.bits(31, 5).bits(config.objectType - 32, 6);
  const index = SAMPLE_RATES_HZ.indexOf(config.sampleRateHz);
  if (index >= 0) w.bits(index, 4);
  else w.bits(15, 4).bits(config.sampleRateHz, 24);
  return w.bits(config.channels === 8 ? 7 : config.channels, 4).bits(0, 3).bytes();
}

/**
 * Parses an AudioSpecificConfig. For the explicitly signalled HE-AAC (object types 5 and 29) the rate
 * is that of the sound played, twice the core's.
 *
 * @throws MediaError
 */
export function parseAudioSpecificConfig(config: Uint8Array): AacConfig {
  const r = new BitReader(config, "AudioSpecificConfig");
  const readObjectType = () => {
    const type = r.bits(5);
    return type === 31 ? 32 + r.bits(6) : type;
  };
  const readRate = () => {
    const index = r.bits(4);
    const rate = index === 15 ? r.bits(24) : SAMPLE_RATES_HZ[index];
    if (!rate) {
      throw new MediaError(
        `the AudioSpecificConfig names frequency index ${index}, expected 0 to 12`,
      );
    }
    return rate;
  };
  const objectType = readObjectType();
  if (objectType === 0) throw new MediaError("the AudioSpecificConfig names object type 0");
  let sampleRateHz = readRate();
  const channelIndex = r.bits(4);
  if (objectType === 5 || objectType === 29) sampleRateHz = readRate();
  return { objectType, sampleRateHz, channels: channelIndex === 7 ? 8 : channelIndex };
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}
