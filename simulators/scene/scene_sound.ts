/**
 * What a simulated camera hears: a hum of its own, some noise, and a tick at every full second. The
 * sound repeats after {@linkcode SOUND_LOOP_MS} without a seam.
 *
 * @module
 */
import { gaussianNoise, seededRandom } from "./random.ts";

/** 8 s hold a whole number of frames of every codec and rate on offer. */
export const SOUND_LOOP_MS = 8000;

const TICK_MS = 40;

/** One loop of sound, mono, 16 bits. */
export function soundLoop(
  options: { readonly seed: number; readonly sampleRateHz: number },
): Int16Array {
  const { seed, sampleRateHz } = options;
  const samples = new Int16Array(SOUND_LOOP_MS * sampleRateHz / 1000);
  const random = seededRandom(seed);
  const noise = gaussianNoise(random, { count: 4000, sigma: 30 });
  // A whole number of periods in the loop, so that its end meets its beginning.
  const humHz = 110 + Math.floor(random() * 110);
  for (let index = 0; index < samples.length; index++) {
    const second = index / sampleRateHz;
    const inSecondMs = second % 1 * 1000;
    const fade = inSecondMs < TICK_MS ? Math.sin(Math.PI * inSecondMs / TICK_MS) : 0;
    samples[index] = 1500 * Math.sin(2 * Math.PI * humHz * second) +
      9000 * fade * Math.sin(2 * Math.PI * 1000 * second) + 4 * (noise[index % 4000] ?? 0);
  }
  return samples;
}

/** G.711 (ITU-T), both laws: one byte a sample. */
export function encodeG711(samples: Int16Array, law: "pcma" | "pcmu"): Uint8Array {
  return Uint8Array.from(samples, law === "pcma" ? aLaw : muLaw);
}

function muLaw(sample: number): number {
  const sign = sample < 0 ? 0x80 : 0;
  const value = Math.min(Math.abs(sample), 32_635) + 132;
  const exponent = Math.max(0, Math.floor(Math.log2(value)) - 7);
  return ~(sign | exponent << 4 | value >> (exponent + 3) & 0x0f) & 0xff;
}

function aLaw(sample: number): number {
  const sign = sample < 0 ? 0 : 0x80;
  const value = Math.min(sample < 0 ? ~sample : sample, 32_767) >> 3;
  const exponent = value < 32 ? 0 : Math.floor(Math.log2(value)) - 4;
  const coded = exponent === 0 ? value >> 1 : exponent << 4 | value >> exponent & 0x0f;
  return (sign | coded) ^ 0x55;
}
