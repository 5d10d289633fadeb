/**
 * Opus in MP4 ("Encapsulation of Opus in ISO Base Media File Format" §4.3.2): the `dOps` record and
 * the length of a packet in samples, which its first bytes tell (RFC 6716 §3.1). Media time is always
 * counted at 48 kHz.
 *
 * `dOps`: version 0 · channels (1) · pre-skip (2) · input rate (4) · gain (2) · mapping family (1),
 * and for a family other than 0: streams, coupled, one byte per channel.
 *
 * @module
 */
import { MediaError } from "./media_error.ts";

/** Opus counts time in this rate whatever the input's was. */
export const OPUS_RATE_HZ = 48_000;

/** What a `dOps` record says. */
export interface OpusConfig {
  readonly channels: number;
  /** Samples at 48 kHz to leave out at the start. */
  readonly preSkip: number;
  readonly inputRateHz: number;
  /** In 1/256 dB. */
  readonly outputGain: number;
  /** 0 is mono or stereo. */
  readonly mappingFamily: number;
}

/** Makes the body of a `dOps` box for mono or stereo. @throws MediaError for more channels */
export function makeOpusConfig(
  config: Pick<OpusConfig, "channels"> & Partial<Pick<OpusConfig, "preSkip" | "inputRateHz">>,
): Uint8Array {
  if (config.channels !== 1 && config.channels !== 2) {
    throw new MediaError(`Opus with ${config.channels} channels: expected 1 or 2`);
  }
  const out = new Uint8Array(11);
  const view = new DataView(out.buffer);
  out[1] = config.channels;
  view.setUint16(2, config.preSkip ?? 0);
  view.setUint32(4, config.inputRateHz ?? OPUS_RATE_HZ);
  return out;
}

/** Parses the body of a `dOps` box. @throws MediaError */
export function parseOpusConfig(body: Uint8Array): OpusConfig {
  if (body.length < 11 || body[0] !== 0) {
    throw new MediaError(
      `expected a dOps record of version 0 and 11 bytes or more, got version ${
        body[0] ?? "none"
      } and ${body.length} bytes`,
    );
  }
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const channels = view.getUint8(1);
  if (channels === 0) throw new MediaError("the dOps record names no channels");
  const mappingFamily = view.getUint8(10);
  if (mappingFamily !== 0 && body.length < 13 + channels) {
    throw new MediaError(`the dOps record ends before the mapping of its ${channels} channels`);
  }
  return {
    channels,
    preSkip: view.getUint16(2),
    inputRateHz: view.getUint32(4),
    outputGain: view.getInt16(8),
    mappingFamily,
  };
}

/** Samples at 48 kHz in one frame, by the configuration number in the packet's first byte. */
function frameSamples(configuration: number): number {
  if (configuration < 12) return [480, 960, 1920, 2880][configuration & 3] ?? 0;
  if (configuration < 16) return [480, 960][configuration & 1] ?? 0;
  return [120, 240, 480, 960][configuration & 3] ?? 0;
}

/** Length of a packet in samples at 48 kHz. @throws MediaError */
export function opusPacketSamples(packet: Uint8Array): number {
  const toc = packet[0];
  if (toc === undefined) throw new MediaError("an Opus packet is empty");
  const code = toc & 3;
  let frames = code === 0 ? 1 : 2;
  if (code === 3) {
    const second = packet[1];
    if (second === undefined) throw new MediaError("an Opus packet ends before its frame count");
    frames = second & 0x3f;
  }
  const samples = frames * frameSamples(toc >> 3);
  if (samples === 0 || samples > 5760) {
    throw new MediaError(`an Opus packet names ${samples} samples, expected 120 to 5760 (120 ms)`);
  }
  return samples;
}
