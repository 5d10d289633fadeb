/**
 * G.711, the telephone's sound (ITU-T G.711): one byte a sample, by the A-law of Europe or the µ-law
 * of America and Japan. Many cameras send nothing else, and MP4 players take neither, so the bytes are
 * spread out to 16-bit samples here and coded anew elsewhere.
 *
 *     A-law, all bits of even places inverted: sign (1) · segment (3) · step (4)
 *     µ-law, all bits inverted:                sign (1) · segment (3) · step (4)
 *
 * @module
 */

/** Which of the two. */
export type G711Law = "a" | "mu";

function aLawSample(byte: number): number {
  const bits = byte ^ 0x55;
  const segment = (bits >> 4) & 7;
  const step = ((bits & 15) << 4) + 8;
  const size = segment === 0 ? step : (step + 0x100) << (segment - 1);
  return (bits & 0x80) !== 0 ? size : -size;
}

function muLawSample(byte: number): number {
  const bits = ~byte & 0xff;
  const size = (((bits & 15) << 3) + 0x84 << ((bits >> 4) & 7)) - 0x84;
  return (bits & 0x80) !== 0 ? -size : size;
}

const TABLES: Readonly<Record<G711Law, Int16Array>> = {
  a: Int16Array.from({ length: 256 }, (_, byte) => aLawSample(byte)),
  mu: Int16Array.from({ length: 256 }, (_, byte) => muLawSample(byte)),
};

/** The samples of `data` as signed 16-bit little-endian, two bytes each. */
export function decodeG711(data: Uint8Array, law: G711Law): Uint8Array<ArrayBuffer> {
  const table = TABLES[law];
  const samples = new Uint8Array(2 * data.length);
  for (let i = 0; i < data.length; i++) {
    const sample = table[data[i] ?? 0] ?? 0;
    samples[2 * i] = sample & 0xff;
    samples[2 * i + 1] = (sample >> 8) & 0xff;
  }
  return samples;
}
