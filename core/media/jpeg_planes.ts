/**
 * Decodes plain JPEGs (ITU-T T.81, one scan, Huffman-coded) to what an H.264 encoder wants: the three
 * planes of a limited-range 4:2:0 picture. Made for a camera that stands still: pictures are compared
 * where they cost least, as the coefficients of their 8 x 8 blocks, and of a picture only those
 * macroblocks are drawn that differ by more than the sensor's noise from what is there.
 *
 * - A macroblock is compared with what was last *drawn* there, so that a slow change is never more than
 *   the threshold behind. Whoever uses it draws all of a picture now and then (a GOP's first).
 * - It differs where a block's mean differs, or its squared distance in the 16 lowest frequencies. The
 *   thresholds follow the noise, which is the median distance over the picture, or more where this
 *   macroblock has always differed, within bounds that no eye sees a change below: see
 *   {@linkcode thresholds}.
 * - Noise has tails: of thousands of macroblocks a few are over their threshold. A picture is worth
 *   coding if one is far over it, if many are, or if one is so again before a picture was coded.
 *
 * The arithmetic is WebAssembly with SIMD, made from `jpeg_planes.as`; here the headers are read and
 * its tables made. The range conversion (full to 16…235) is in the tables of the inverse transform.
 *
 * Memory: zigzag order · quantisers · scales · a macroblock of coefficients · parameters · Huffman
 * tables by 10 bits (of value, run and length, or symbol and length) and for longer codes · noise ·
 * from `DYNAMIC` on: remembered coefficients · planes · places of restart intervals · noise of each
 * macroblock · which of them differed · the JPEG.
 *
 * @module
 */
import type { JpegInfo } from "./jpeg.ts";
import { MODULE } from "./jpeg_planes_wasm.ts";
import { MediaError } from "./media_error.ts";

const ZIGZAG = 0;
const QUANTISERS = 256;
const SCALES = 1024;
const PARAMETERS = 3904;
const FAST_CODES = 4096;
const SLOW_CODES = 36_864;
const NOISE = 40_960;
const DYNAMIC = 65_536;
const FAST_TABLE_BYTES = 4096;
const SLOW_TABLE_BYTES = 512;

/** Of so many macroblocks one may differ, and not for certain, in a picture that shows nothing new. */
const FEW = 512;

/** EOI, with which a JPEG ends. */
const END_BYTES = 2;

/** The longest macroblock that a scan without end could make the decoder read is shorter. */
const READ_AHEAD_BYTES = 4096;

const FAULTS: Readonly<Record<number, string>> = {
  [-1]: "a code that its tables do not have",
  [-2]: "its data ends too early",
  [-3]: "its restart markers do not fit",
};

/** What {@linkcode JpegPlanes} must know of its pictures, which all are alike in it. */
export type PlanesFormat = Pick<JpegInfo, "widthPx" | "heightPx" | "subsampling" | "components">;

/** Samples of Y per sample of the colours, across and down. */
const FACTORS: Partial<Record<JpegInfo["subsampling"], readonly [h: number, v: number]>> = {
  "4:2:0": [2, 2],
  "4:2:2": [2, 1],
  "4:4:0": [1, 2],
  "4:4:4": [1, 1],
  grey: [1, 1],
};

/** Whether a JPEG is of the kind that is decoded here, on this processor. */
export function canDrawPlanes(info: JpegInfo): boolean {
  return info.plain && !info.rgb && FACTORS[info.subsampling] !== undefined &&
    compiledModule() !== undefined;
}

let compiled: WebAssembly.Module | undefined | "missing";

function compiledModule(): WebAssembly.Module | undefined {
  if (compiled === undefined) {
    try {
      compiled = new WebAssembly.Module(Uint8Array.fromBase64(MODULE));
    } catch {
      compiled = "missing"; // a processor without SIMD
    }
  }
  return compiled === "missing" ? undefined : compiled;
}

/** The squared distance of two blocks, and of their means, above which they differ. */
interface Thresholds {
  readonly distance: number;
  readonly mean: number;
}

/**
 * From the noise, which is the median squared distance of two blocks that show the same, and the step in
 * which means are stored. Never below what is worth a picture (0.9 of 255 per sample, one step),
 * never above what might be seen (4 per sample, 2 in the mean of a block).
 */
export function thresholds(noise: number, step: number): Thresholds {
  const within = (value: number, least: number, most: number) =>
    Math.floor(Math.min(Math.max(value, least), most));
  return {
    distance: within(4.5 * noise, Math.max(64 * 0.8, 4 * step ** 2), 64 * 16),
    // As a coefficient: eight times the mean.
    mean: within(8 * Math.sqrt(noise / 64), Math.max(8 * 0.75, step), 8 * 2),
  };
}

/** How noisy a camera's pictures are, as was learned from {@linkcode Noise.compared} of them. */
export interface Noise {
  /** Of the whole picture: see {@linkcode thresholds}. */
  readonly luma: number;
  readonly chroma: number;
  readonly compared: number;
  /** Of each macroblock, 16 bits: the mean of its squared distances, 16 times. */
  readonly local: Uint8Array;
}

/**
 * One camera's picture as planes. Not for use from several places at once. The JPEGs that it is given end
 * with their EOI: what stands behind it in a camera's answer is to be cut off, see `sizeBytes` of
 * {@linkcode JpegInfo}.
 */
export class JpegPlanes {
  /** Bytes of a picture: Y, Cb, Cr, each row by row. */
  readonly frameBytes: number;
  /** Macroblocks of a picture. */
  readonly macroblocks: number;
  readonly #format: PlanesFormat;
  readonly #memory: WebAssembly.Memory;
  readonly #decode: (mode: number) => number;
  readonly #planes: readonly Plane[];
  readonly #inputAt: number;
  /** Of each macroblock, how far it is from its reference on an average; 2 bytes each. */
  readonly #localAt: number;
  /** Of each macroblock, whether it differed since the last coded picture. */
  readonly #beforeAt: number;
  #median: { readonly luma: number; readonly chroma: number } | undefined;
  #compared = 0;
  #isWorth = true;
  #view: Uint8Array;
  #header: Uint8Array = new Uint8Array();
  /** In which the means of Y, Cb and Cr are stored, eight times. */
  #steps: readonly number[] = [];
  #hasPicture = false;

  /** @throws MediaError if such pictures are not decoded here: see {@linkcode canDrawPlanes} */
  constructor(format: PlanesFormat) {
    const factors = FACTORS[format.subsampling];
    const module = compiledModule();
    if (!factors || !module) {
      throw new MediaError(`${format.subsampling} JPEGs are not decoded here`);
    }
    const [h, v] = factors;
    const { memory, decode } = new WebAssembly.Instance(module, { env: { abort() {} } }).exports;
    if (!(memory instanceof WebAssembly.Memory) || typeof decode !== "function") {
      throw new MediaError("the JPEG decoder lacks an export");
    }
    this.#format = { ...format };
    this.#memory = memory;
    this.#decode = (mode) => Number(decode(mode));
    const across = Math.ceil(format.widthPx / (8 * h));
    const down = Math.ceil(format.heightPx / (8 * v));
    const blocks = format.components === 1 ? 1 : h * v + 2;
    this.macroblocks = across * down;
    const strideY = across * 8 * h;
    const strideC = across * 4 * h;
    const lumaAt = DYNAMIC + this.macroblocks * blocks * 128;
    const cbAt = lumaAt + strideY * down * 8 * v;
    const crAt = cbAt + strideC * down * 4 * v;
    const startsAt = crAt + strideC * down * 4 * v;
    this.#localAt = startsAt + 4 * (this.macroblocks + 2);
    this.#beforeAt = this.#localAt + 2 * this.macroblocks;
    this.#inputAt = Math.ceil((this.#beforeAt + this.macroblocks) / 16) * 16;
    const width = format.widthPx - format.widthPx % 2;
    const height = format.heightPx - format.heightPx % 2;
    this.#planes = [
      { at: lumaAt, stride: strideY, width, height },
      { at: cbAt, stride: strideC, width: width / 2, height: height / 2 },
      { at: crAt, stride: strideC, width: width / 2, height: height / 2 },
    ];
    this.frameBytes = width * height * 3 / 2;
    this.#view = this.#room(this.#inputAt);
    this.#view.fill(128, cbAt, startsAt); // a grey picture has no colours of its own
    const parameters = this.#parameters();
    parameters.set([across, down, format.components, h, v], 0);
    parameters.set([startsAt, DYNAMIC, lumaAt, cbAt, crAt, strideY, strideC], 8);
    parameters[6] = this.#inputAt;
    parameters.set([this.#localAt, this.#beforeAt], 31);
    for (const [k, natural] of NATURAL_ORDER.entries()) {
      // Columns first, so that the inverse transform turns the block only once.
      this.#view[ZIGZAG + k] = 2 * ((natural & 7) * 8 + (natural >> 3));
    }
    this.#view.fill(128, ZIGZAG + 64, ZIGZAG + 96);
    const scales = new Float32Array(memory.buffer, SCALES, 128);
    for (let i = 0; i < 64; i++) {
      const scale = (AAN[i >> 3] ?? 0) * (AAN[i & 7] ?? 0) / 8;
      scales[i] = scale * 219 / 255;
      scales[64 + i] = scale * 224 / 255;
    }
  }

  /** `undefined` until pictures were compared. */
  get noise(): Noise | undefined {
    const local = this.#view.slice(this.#localAt, this.#beforeAt);
    return this.#median && { ...this.#median, compared: this.#compared, local };
  }

  /** What an earlier session of the same camera found, or nothing. */
  set noise(noise: Noise | undefined) {
    this.#median = noise && { luma: noise.luma, chroma: noise.chroma };
    this.#compared = noise?.compared ?? 0;
    this.#view.fill(0, this.#localAt, this.#beforeAt);
    const known = noise?.local.subarray(0, this.#beforeAt - this.#localAt);
    if (known) this.#view.set(known, this.#localAt);
  }

  /** Whether its pictures are of this form. */
  fits(format: PlanesFormat): boolean {
    return format.widthPx === this.#format.widthPx && format.heightPx === this.#format.heightPx &&
      format.subsampling === this.#format.subsampling &&
      format.components === this.#format.components;
  }

  /**
   * Draws a picture: what differs from the one before, or all of it. Gives how many macroblocks were
   * drawn; the planes are as they were if that is 0.
   *
   * @throws MediaError if the picture is damaged; some of it may be drawn
   */
  draw(jpeg: Uint8Array, options: { readonly all?: boolean } = {}): number {
    const all = options.all === true || !this.#hasPicture;
    const drawn = this.#run(jpeg, all ? 1 : 0);
    this.#hasPicture = true;
    if (!all) this.#learn();
    this.#isWorth = all || this.#isMoreThanNoise(drawn);
    return drawn;
  }

  /**
   * Whether the picture drawn last shows more than {@linkcode settle} had: a few macroblocks that
   * differ just so are noise, until one of them does so again.
   */
  get isWorth(): boolean {
    return this.#isWorth;
  }

  /** What is drawn was shown: later pictures need not show it again. */
  settle(): void {
    this.#view.fill(0, this.#beforeAt, this.#beforeAt + this.macroblocks);
  }

  /** Remembers a picture to compare others with, without drawing it. @throws MediaError */
  remember(jpeg: Uint8Array): void {
    this.#run(jpeg, 3);
    this.#hasPicture = true;
    this.settle();
  }

  /** Whether a picture differs from the one remembered or drawn. @throws MediaError */
  differs(jpeg: Uint8Array): boolean {
    if (!this.#hasPicture) return true;
    const differing = this.#run(jpeg, 2);
    this.#learn();
    return this.#isMoreThanNoise(differing);
  }

  #isMoreThanNoise(differing: number): boolean {
    const sure = this.#parameters()[33] ?? 0;
    return sure > 0 || differing > this.macroblocks / FEW;
  }

  /** Copies bytes of the picture, from `offset` on, and gives how many: as many as there is room. */
  copy(target: Uint8Array, offset: number): number {
    let copied = 0;
    let planeAt = 0;
    for (const { at, stride, width, height } of this.#planes) {
      const end = planeAt + width * height;
      while (offset + copied < end && copied < target.length) {
        const within = offset + copied - planeAt;
        // Rows lie one behind the other where the width is that of whole macroblocks.
        const rest = stride === width ? width * height - within : width - within % width;
        const length = Math.min(rest, target.length - copied);
        const from = at + Math.floor(within / width) * stride + within % width;
        target.set(this.#view.subarray(from, from + length), copied);
        copied += length;
      }
      planeAt = end;
    }
    return copied;
  }

  #run(jpeg: Uint8Array, mode: number): number {
    const scanAt = this.#readHeader(jpeg);
    const scan = jpeg.subarray(scanAt, jpeg.length - END_BYTES);
    const view = this.#room(this.#inputAt + scan.length + READ_AHEAD_BYTES);
    view.set(scan, this.#inputAt);
    const parameters = this.#parameters();
    parameters[7] = scan.length;
    const luma = thresholds(this.#median?.luma ?? 0, this.#steps[0] ?? 1);
    const chroma = thresholds(this.#median?.chroma ?? 0, this.#steps[1] ?? 1);
    parameters.set([luma.distance, luma.mean, chroma.distance, chroma.mean], 27);
    parameters[34] = Math.min(16, this.#compared + 1);
    view.fill(0, NOISE, NOISE + 2048);
    const result = this.#decode(mode);
    if (result < 0) {
      throw new MediaError(`damaged JPEG: ${FAULTS[result] ?? "not decodable"}`);
    }
    return result;
  }

  /** Takes the noise from the distances just found. It follows slowly: a picture may be all motion. */
  #learn(): void {
    this.#compared++;
    const counts = new Uint32Array(this.#memory.buffer, NOISE, 512);
    const luma = medianOf(counts.subarray(0, 256));
    if (luma === undefined) return;
    const chroma = medianOf(counts.subarray(256)) ?? luma;
    const before = this.#median;
    const settle = (now: number, old: number) => Math.min(Math.max(now, old * 0.9), old * 1.2 + 4);
    this.#median = before
      ? { luma: settle(luma, before.luma), chroma: settle(chroma, before.chroma) }
      : { luma, chroma };
  }

  /** Makes the tables of a picture's headers; most cameras' are the same in every picture. */
  #readHeader(jpeg: Uint8Array): number {
    const known = this.#header;
    if (known.length > 0 && known.every((byte, i) => byte === jpeg[i])) return known.length;
    this.#header = new Uint8Array();
    const segments = readSegments(jpeg);
    if (!segments) throw new MediaError("damaged JPEG: its headers do not belong together");
    const parameters = this.#parameters();
    parameters[5] = segments.restartInterval;
    const tables: HuffmanTable[] = [];
    const indexOf = (table: HuffmanTable): number => {
      const known = tables.indexOf(table);
      return known >= 0 ? known : tables.push(table) - 1;
    };
    for (const [i, { quantiser, dc, ac }] of segments.components.entries()) {
      new Int32Array(this.#memory.buffer, QUANTISERS + 256 * i, 64).set(quantiser);
      for (const [first, table] of [[15, dc], [18, ac]] as const) {
        const index = indexOf(table);
        parameters[first + i] = FAST_CODES + FAST_TABLE_BYTES * index;
        parameters[first + 6 + i] = SLOW_CODES + SLOW_TABLE_BYTES * index;
      }
    }
    for (const [i, table] of tables.entries()) {
      writeCodes(table, {
        fast: new Int32Array(this.#memory.buffer, FAST_CODES + FAST_TABLE_BYTES * i, 1024),
        bounds: new Int32Array(this.#memory.buffer, SLOW_CODES + SLOW_TABLE_BYTES * i, 34),
        symbols: new Uint8Array(this.#memory.buffer, SLOW_CODES + SLOW_TABLE_BYTES * i + 136, 256),
      });
    }
    this.#steps = segments.components.map(({ quantiser }) => quantiser[0] ?? 1);
    this.#header = jpeg.slice(0, segments.scanAt);
    return segments.scanAt;
  }

  #parameters(): Int32Array {
    return new Int32Array(this.#memory.buffer, PARAMETERS, 48);
  }

  /** All memory, which is at least so long. */
  #room(bytes: number): Uint8Array {
    const pages = Math.ceil((bytes - this.#memory.buffer.byteLength) / 65_536);
    if (pages > 0) this.#memory.grow(pages);
    if (this.#view === undefined || this.#view.buffer !== this.#memory.buffer) {
      this.#view = new Uint8Array(this.#memory.buffer);
    }
    return this.#view;
  }
}

interface Plane {
  readonly at: number;
  readonly stride: number;
  readonly width: number;
  readonly height: number;
}

/** A Huffman table as a DHT segment has it (§B.2.4.2). */
interface HuffmanTable {
  /** How many codes have 1 … 16 bits. */
  readonly counts: Uint8Array;
  readonly symbols: Uint8Array;
}

interface Segments {
  readonly restartInterval: number;
  readonly components: readonly {
    readonly quantiser: Int32Array;
    readonly dc: HuffmanTable;
    readonly ac: HuffmanTable;
  }[];
  /** Where the coded bytes begin. */
  readonly scanAt: number;
}

/** Reads the segments up to the scan of a JPEG that parseJpeg took; `undefined` if they lack something. */
function readSegments(jpeg: Uint8Array): Segments | undefined {
  const quantisers = new Map<number, Int32Array>();
  const codes = new Map<number, HuffmanTable>();
  const frame = new Map<number, number>();
  let restartInterval = 0;
  for (let at = 2; at + 4 <= jpeg.length;) {
    if (jpeg[at] !== 0xff || jpeg[at + 1] === 0xff) {
      at++;
      continue;
    }
    const marker = jpeg[at + 1] ?? 0;
    const end = at + 2 + ((jpeg[at + 2] ?? 0) << 8 | (jpeg[at + 3] ?? 0));
    const body = jpeg.subarray(at + 4, end);
    at = end;
    if (marker === 0xdb && !readQuantisers(body, quantisers)) return undefined;
    if (marker === 0xc4 && !readCodes(body, codes)) return undefined;
    if (marker === 0xdd) restartInterval = (body[0] ?? 0) << 8 | (body[1] ?? 0);
    if (marker === 0xc0 || marker === 0xc1) {
      for (let i = 6; i + 2 < body.length; i += 3) frame.set(body[i] ?? 0, body[i + 2] ?? 0);
    }
    if (marker !== 0xda) continue;
    const components: Segments["components"][number][] = [];
    const count = body[0] ?? 0;
    if (count !== frame.size) return undefined;
    for (const [i, [id, table]] of [...frame].entries()) {
      const choice = body[2 + 2 * i] ?? 0;
      const quantiser = quantisers.get(table);
      const dc = codes.get(choice >> 4);
      const ac = codes.get(16 + (choice & 15));
      if (body[1 + 2 * i] !== id || !quantiser || !dc || !ac) return undefined;
      components.push({ quantiser, dc, ac });
    }
    return { restartInterval, components, scanAt: end };
  }
  return undefined;
}

/** DQT (§B.2.4.1). */
function readQuantisers(body: Uint8Array, into: Map<number, Int32Array>): boolean {
  for (let at = 0; at < body.length;) {
    const head = body[at++] ?? 0;
    const wide = head >> 4 !== 0;
    const length = wide ? 128 : 64;
    if (at + length > body.length) return false;
    const values = new Int32Array(64);
    for (let k = 0; k < 64; k++) {
      values[k] = wide
        ? (body[at + 2 * k] ?? 0) << 8 | (body[at + 2 * k + 1] ?? 0)
        : body[at + k] ?? 0;
    }
    into.set(head & 15, values);
    at += length;
  }
  return true;
}

/** DHT (§B.2.4.2): tables for DC have keys from 0, those for AC from 16. */
function readCodes(body: Uint8Array, into: Map<number, HuffmanTable>): boolean {
  for (let at = 0; at + 17 <= body.length;) {
    const head = body[at] ?? 0;
    const counts = body.slice(at + 1, at + 17);
    const length = counts.reduce((sum, count) => sum + count, 0);
    at += 17;
    if (length > 256 || at + length > body.length) return false;
    into.set(head, { counts, symbols: body.slice(at, at + length) });
    at += length;
  }
  return true;
}

/** Both tables of a code: by its first ten bits, and by the last code of each length. */
function writeCodes(
  { counts, symbols }: HuffmanTable,
  to: { readonly fast: Int32Array; readonly bounds: Int32Array; readonly symbols: Uint8Array },
): void {
  to.fast.fill(0);
  to.bounds.fill(-1);
  to.symbols.fill(0);
  to.symbols.set(symbols);
  let code = 0;
  let first = 0;
  for (let length = 1; length <= 16; length++) {
    const count = counts[length - 1] ?? 0;
    if (count > 0) {
      to.bounds[2 * length] = code + count - 1;
      to.bounds[2 * length + 1] = first - code;
    }
    for (let i = 0; i < count && length <= 10; i++) {
      const symbol = symbols[first + i] ?? 0;
      const from = code + i << 10 - length;
      for (let rest = 0; rest < 1 << 10 - length && from + rest < 1024; rest++) {
        to.fast[from + rest] = fastEntry(symbol, length, rest);
      }
    }
    code = (code + count) << 1;
    first += count;
  }
}

/** `rest` is what follows the code within ten bits: often the whole value. */
function fastEntry(symbol: number, length: number, rest: number): number {
  const size = symbol & 15;
  const restBits = 10 - length;
  if (size === 0 || size > restBits) return symbol << 8 | length;
  const bits = rest >> (restBits - size);
  const value = bits < 1 << (size - 1) ? bits - (1 << size) + 1 : bits;
  return value << 16 | (symbol >> 4) << 8 | (length + size);
}

/** Twice the middle of the bin in which the median lies; bins are 8 wide. */
function medianOf(counts: Uint32Array): number | undefined {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return undefined;
  let seen = 0;
  const bin = counts.findIndex((count) => (seen += count) * 2 >= total);
  return bin * 8 + 4;
}

/** Scale factors of the transform of Arai, Agui and Nakajima. */
const AAN: readonly number[] = Array.from(
  { length: 8 },
  (_, k) => k === 0 ? 1 : Math.SQRT2 * Math.cos(k * Math.PI / 16),
);

/** Where the coefficients of the zigzag order stand, row by row. */
const NATURAL_ORDER: readonly number[] = (() => {
  const order: number[] = [];
  for (let sum = 0; sum < 15; sum++) {
    for (let i = Math.max(0, sum - 7); i <= Math.min(7, sum); i++) {
      const [row, column] = sum % 2 === 0 ? [sum - i, i] : [i, sum - i];
      order.push(row * 8 + column);
    }
  }
  return order;
})();
