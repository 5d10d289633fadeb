/**
 * A baseline JPEG entropy coder (ITU-T T.81) made for pictures of which most stays the same: it
 * codes single restart intervals, so that a caller can code the parts that changed and copy the
 * bytes of the others. YUV 4:2:0, full range, JFIF; the example Huffman tables of Annex K.3.
 *
 * A picture is `jpegHeader` · interval 0 · RST0 · interval 1 · RST1 · … · EOI. Each interval stands
 * alone: DC prediction starts anew and the last byte is filled with ones (F.1.2.3).
 *
 * @module
 */

// The indices below are all in range by construction; `!` says so where a check would cost time.

/** Edge of a minimum coded unit: four luma blocks and one block of each colour difference. */
export const MCU_PX = 16;

const ZIGZAG = Uint8Array.of(
  ...[0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27],
  ...[20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51],
  ...[58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63],
);

/** Table K.1, in rows. */
const LUMA_QUANT = Uint8Array.of(
  ...[16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55],
  ...[14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62],
  ...[18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92],
  ...[49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99],
);

/** Table K.2, in rows. */
const CHROMA_QUANT = Uint8Array.of(
  ...[17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99],
  ...[24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99],
  ...Array<number>(32).fill(99),
);

/** A Huffman table as a DHT segment gives it: codes per length, then the values (C.2). */
interface HuffmanSpec {
  readonly counts: readonly number[];
  readonly values: readonly number[];
}

/** Tables K.3 to K.6. */
const DC_LUMA: HuffmanSpec = {
  counts: [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
  values: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
};
const DC_CHROMA: HuffmanSpec = {
  counts: [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
  values: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
};
const AC_LUMA: HuffmanSpec = {
  counts: [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125],
  values: hexBytes(
    "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa",
  ),
};
const AC_CHROMA: HuffmanSpec = {
  counts: [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119],
  values: hexBytes(
    "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa",
  ),
};

function hexBytes(hex: string): number[] {
  return (hex.match(/../g) ?? []).map((pair) => parseInt(pair, 16));
}

/** `code << 8 | length` for every value (C.2). */
function huffmanCodes({ counts, values }: HuffmanSpec): Int32Array {
  const codes = new Int32Array(256);
  let code = 0;
  let next = 0;
  counts.forEach((count, index) => {
    for (let n = 0; n < count; n++) codes[values[next++] ?? 0] = code++ << 8 | (index + 1);
    code <<= 1;
  });
  return codes;
}

/** Scales an Annex K table to a quality of 1 to 100 the way libjpeg does. */
function scaledQuant(base: Uint8Array, quality: number): Uint8Array {
  const percent = quality < 50 ? 5000 / quality : 200 - quality * 2;
  return base.map((value) => Math.max(1, Math.min(255, Math.floor((value * percent + 50) / 100))));
}

/** What the AAN transform leaves to be divided out, joined with the quantiser, in rows. */
function divisors(quant: Uint8Array): Float64Array {
  const scale = Array.from(
    { length: 8 },
    (_, k) => k === 0 ? 1 : Math.SQRT2 * Math.cos(k * Math.PI / 16),
  );
  return Float64Array.from(
    quant,
    (value, index) => 1 / (value * (scale[index >> 3] ?? 1) * (scale[index & 7] ?? 1) * 8),
  );
}

/** The bytes in front of the first interval: SOI, JFIF, tables, frame and scan header. */
export function jpegHeader(
  options: {
    readonly widthPx: number;
    readonly heightPx: number;
    readonly quality: number;
    /** Length of a restart interval, MCUs. */
    readonly restartMcus: number;
  },
): Uint8Array {
  const { widthPx, heightPx, quality, restartMcus } = options;
  const segment = (marker: number, body: readonly number[]) => [
    ...[0xff, marker, (body.length + 2) >> 8, (body.length + 2) & 0xff],
    ...body,
  ];
  const zigzagged = (table: Uint8Array) => [...ZIGZAG].map((index) => table[index] ?? 1);
  const table = (id: number, { counts, values }: HuffmanSpec) => [id, ...counts, ...values];
  return Uint8Array.from([
    ...[0xff, 0xd8],
    ...segment(0xe0, [0x4a, 0x46, 0x49, 0x46, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0]),
    ...segment(0xdb, [
      ...[0, ...zigzagged(scaledQuant(LUMA_QUANT, quality))],
      ...[1, ...zigzagged(scaledQuant(CHROMA_QUANT, quality))],
    ]),
    ...segment(0xc0, [
      ...[8, heightPx >> 8, heightPx & 0xff, widthPx >> 8, widthPx & 0xff, 3],
      ...[1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1],
    ]),
    ...segment(0xc4, [
      ...table(0x00, DC_LUMA),
      ...table(0x10, AC_LUMA),
      ...table(0x01, DC_CHROMA),
      ...table(0x11, AC_CHROMA),
    ]),
    ...segment(0xdd, [restartMcus >> 8, restartMcus & 0xff]),
    ...segment(0xda, [3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0]),
  ]);
}

/** Codes MCUs into {@linkcode IntervalCoder.out}, interval by interval. */
export class IntervalCoder {
  /** Where the bytes go; grows by itself. */
  out: Uint8Array = new Uint8Array(64 * 1024);
  /** The next free byte of {@linkcode IntervalCoder.out}. */
  length = 0;
  readonly #lumaDivisors: Float64Array;
  readonly #chromaDivisors: Float64Array;
  readonly #dcLuma = huffmanCodes(DC_LUMA);
  readonly #acLuma = huffmanCodes(AC_LUMA);
  readonly #dcChroma = huffmanCodes(DC_CHROMA);
  readonly #acChroma = huffmanCodes(AC_CHROMA);
  readonly #work = new Float64Array(64);
  readonly #quantised = new Int32Array(64);
  #bits = 0;
  #bitCount = 0;
  #dcY = 0;
  #dcCb = 0;
  #dcCr = 0;

  constructor(quality: number) {
    this.#lumaDivisors = divisors(scaledQuant(LUMA_QUANT, quality));
    this.#chromaDivisors = divisors(scaledQuant(CHROMA_QUANT, quality));
  }

  /**
   * Codes one MCU.
   *
   * @param samples 384 samples: four 8 x 8 luma blocks (upper left, upper right, lower left, lower
   * right), then Cb, then Cr
   */
  mcu(samples: Uint8ClampedArray): void {
    // An MCU of the worst kind takes 6 blocks of 64 coefficients of 26 bits, each byte stuffed.
    if (this.out.length - this.length < 4096) {
      const grown = new Uint8Array(this.out.length * 2);
      grown.set(this.out.subarray(0, this.length));
      this.out = grown;
    }
    let dc = this.#dcY;
    for (let from = 0; from < 256; from += 64) {
      dc = this.#block(samples, from, dc, this.#lumaDivisors, this.#dcLuma, this.#acLuma);
    }
    this.#dcY = dc;
    const divisors = this.#chromaDivisors;
    this.#dcCb = this.#block(samples, 256, this.#dcCb, divisors, this.#dcChroma, this.#acChroma);
    this.#dcCr = this.#block(samples, 320, this.#dcCr, divisors, this.#dcChroma, this.#acChroma);
  }

  /** Ends an interval: fills the last byte with ones and forgets the DC predictions. */
  endInterval(): void {
    if (this.#bitCount > 0) this.#put((1 << (8 - this.#bitCount)) - 1, 8 - this.#bitCount);
    this.#dcY = this.#dcCb = this.#dcCr = 0;
  }

  #put(code: number, length: number): void {
    let bits = this.#bits << length | code;
    let count = this.#bitCount + length;
    while (count >= 8) {
      count -= 8;
      const byte = bits >>> count & 0xff;
      this.out[this.length++] = byte;
      if (byte === 0xff) this.out[this.length++] = 0;
    }
    bits &= (1 << count) - 1;
    this.#bits = bits;
    this.#bitCount = count;
  }

  /** Transforms, quantises and codes one block (F.1.2); returns its DC value. */
  #block(
    samples: Uint8ClampedArray,
    from: number,
    lastDc: number,
    divisors: Float64Array,
    dcCodes: Int32Array,
    acCodes: Int32Array,
  ): number {
    const quantised = this.#quantised;
    const first = samples[from]!;
    let same = 1;
    while (same < 64 && samples[from + same] === first) same++;
    let last = 0;
    if (same === 64) {
      // A plain block has nothing but its mean: most of the strip and the text box.
      quantised[0] = Math.round((first - 128) * 64 * divisors[0]!);
    } else {
      forwardDct(samples, from, this.#work);
      for (let k = 0; k < 64; k++) {
        const index = ZIGZAG[k]!;
        const value = this.#work[index]! * divisors[index]!;
        // Rounds to the nearest without a branch; the values are far below 2^14.
        const rounded = (value + 16384.5 | 0) - 16384;
        quantised[k] = rounded;
        if (rounded !== 0) last = k;
      }
    }

    const dc = quantised[0]!;
    const difference = dc - lastDc;
    let magnitude = difference < 0 ? -difference : difference;
    let size = 32 - Math.clz32(magnitude);
    let code = dcCodes[size]!;
    this.#put(code >> 8, code & 0xff);
    if (size > 0) {
      this.#put(difference < 0 ? difference + (1 << size) - 1 : difference, size);
    }
    let run = 0;
    for (let k = 1; k <= last; k++) {
      const value = quantised[k]!;
      if (value === 0) {
        run++;
        continue;
      }
      while (run > 15) {
        code = acCodes[0xf0]!;
        this.#put(code >> 8, code & 0xff);
        run -= 16;
      }
      magnitude = value < 0 ? -value : value;
      size = 32 - Math.clz32(magnitude);
      code = acCodes[run << 4 | size]!;
      this.#put(code >> 8, code & 0xff);
      this.#put(value < 0 ? value + (1 << size) - 1 : value, size);
      run = 0;
    }
    if (last < 63) {
      code = acCodes[0]!;
      this.#put(code >> 8, code & 0xff);
    }
    return dc;
  }
}

const C4 = Math.SQRT1_2;
const C6 = Math.cos(3 * Math.PI / 8);
const C2_MINUS_C6 = Math.cos(Math.PI / 8) - C6;
const C2_PLUS_C6 = Math.cos(Math.PI / 8) + C6;

/**
 * The 8 x 8 forward transform of Arai, Agui and Nakajima (1988): five multiplications a row; its
 * output is scaled, which {@linkcode divisors} makes good.
 */
function forwardDct(samples: Uint8ClampedArray, from: number, out: Float64Array): void {
  for (let row = 0; row < 64; row += 8) {
    const at = from + row;
    const s0 = samples[at]! - 128, s1 = samples[at + 1]! - 128;
    const s2 = samples[at + 2]! - 128, s3 = samples[at + 3]! - 128;
    const s4 = samples[at + 4]! - 128, s5 = samples[at + 5]! - 128;
    const s6 = samples[at + 6]! - 128, s7 = samples[at + 7]! - 128;
    const a0 = s0 + s7, a7 = s0 - s7, a1 = s1 + s6, a6 = s1 - s6;
    const a2 = s2 + s5, a5 = s2 - s5, a3 = s3 + s4, a4 = s3 - s4;
    const b0 = a0 + a3, b3 = a0 - a3, b1 = a1 + a2, b2 = a1 - a2;
    out[row] = b0 + b1;
    out[row + 4] = b0 - b1;
    const z1 = (b2 + b3) * C4;
    out[row + 2] = b3 + z1;
    out[row + 6] = b3 - z1;
    const c0 = a4 + a5, c1 = a5 + a6, c2 = a6 + a7;
    const z5 = (c0 - c2) * C6;
    const z2 = C2_MINUS_C6 * c0 + z5;
    const z4 = C2_PLUS_C6 * c2 + z5;
    const z3 = c1 * C4;
    const d1 = a7 + z3, d3 = a7 - z3;
    out[row + 5] = d3 + z2;
    out[row + 3] = d3 - z2;
    out[row + 1] = d1 + z4;
    out[row + 7] = d1 - z4;
  }
  for (let at = 0; at < 8; at++) {
    const s0 = out[at]!, s1 = out[at + 8]!, s2 = out[at + 16]!, s3 = out[at + 24]!;
    const s4 = out[at + 32]!, s5 = out[at + 40]!, s6 = out[at + 48]!, s7 = out[at + 56]!;
    const a0 = s0 + s7, a7 = s0 - s7, a1 = s1 + s6, a6 = s1 - s6;
    const a2 = s2 + s5, a5 = s2 - s5, a3 = s3 + s4, a4 = s3 - s4;
    const b0 = a0 + a3, b3 = a0 - a3, b1 = a1 + a2, b2 = a1 - a2;
    out[at] = b0 + b1;
    out[at + 32] = b0 - b1;
    const z1 = (b2 + b3) * C4;
    out[at + 16] = b3 + z1;
    out[at + 48] = b3 - z1;
    const c0 = a4 + a5, c1 = a5 + a6, c2 = a6 + a7;
    const z5 = (c0 - c2) * C6;
    const z2 = C2_MINUS_C6 * c0 + z5;
    const z4 = C2_PLUS_C6 * c2 + z5;
    const z3 = c1 * C4;
    const d1 = a7 + z3, d3 = a7 - z3;
    out[at + 40] = d3 + z2;
    out[at + 24] = d3 - z2;
    out[at + 8] = d1 + z4;
    out[at + 56] = d1 - z4;
  }
}
