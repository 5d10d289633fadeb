/**
 * The arithmetic of jpeg_planes.ts, in AssemblyScript (`deno task wasm` compiles it): a baseline
 * JPEG's scan (ITU-T T.81 Annex F) to the planes of a limited-range 4:2:0 picture, in which only
 * those MCUs are drawn anew that differ from what is there by more than noise.
 *
 * All tables and bounds are written into memory by jpeg_planes.ts, which has the layout. Nothing here
 * trusts the bytes: a code that does not exist or a scan that is too short gives a negative result.
 */

const ZIGZAG: usize = 0;
const QUANTISERS: usize = 256;
const SCALES: usize = 1024;
const BLOCKS: usize = 2048;
const BLOCK_BYTES: usize = 160;
const SAMPLES: usize = 3648;
const PARAMETERS: usize = 3904;
const NOISE: usize = 40960;
const WORK: usize = 43008;

/** No squared distance beyond this is taken for noise, nor a mean (eight times) so far off. */
const MOST_FAR: i32 = 1024;
const MOST_DC: i32 = 16;
/** What moves is not to be taken for noise: no larger distance is learned. */
const MOST_LEARNED: i32 = 512;

const BAD_CODE: i32 = -1;
const TOO_SHORT: i32 = -2;
const BAD_MARKERS: i32 = -3;

@inline function parameter(index: i32): i32 {
  return load<i32>(PARAMETERS + (<usize>index << 2));
}

/** A code that is longer than the fast table's: symbol << 8 | length, 0 for none. */
function slowCode(table: usize, bits: u64): i32 {
  for (let length: i32 = 11; length <= 16; length++) {
    const code = <i32>(bits >>> (64 - length));
    const entry = table + (<usize>length << 3);
    if (code <= load<i32>(entry)) {
      return (<i32>load<u8>(table + 136 + ((load<i32>(entry, 4) + code) & 255)) << 8) | length;
    }
  }
  return 0;
}

/** The value that `size` bits stand for. */
@inline function extend(value: i32, size: i32): i32 {
  return value < 1 << (size - 1) ? value - (1 << size) + 1 : value;
}

@inline function clear(block: usize): void {
  const zero = v128.splat<i32>(0);
  for (let i: usize = 0; i < 128; i += 16) v128.store(block + i, zero);
}

@inline function copy(to: usize, from: usize): void {
  for (let i: usize = 0; i < 128; i += 16) v128.store(to + i, v128.load(from + i));
}

/**
 * The squared difference of two blocks in their 16 lowest frequencies. Whatever happens before a
 * camera is in those; in the others there is mostly noise, and how much of it depends on the place.
 */
@inline function distance(a: usize, b: usize): i32 {
  const most = v128.splat<i16>(2047);
  const least = v128.splat<i16>(-2047);
  let sum = v128.splat<i32>(0);
  for (let i: usize = 0; i < 64; i += 16) {
    let d = i16x8.sub_sat_s(v128.load(a + i), v128.load(b + i));
    d = i16x8.max_s(i16x8.min_s(d, most), least);
    sum = i32x4.add(sum, i32x4.dot_i16x8_s(d, d));
  }
  return i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 1);
}

/** Four columns of the inverse transform (Arai, Agui, Nakajima), in place; rows 32 bytes apart. */
@inline function transform(p: usize): void {
  const root = f32x4.splat(1.414213562);
  const in0 = v128.load(p), in4 = v128.load(p, 128);
  const in2 = v128.load(p, 64), in6 = v128.load(p, 192);
  const e10 = f32x4.add(in0, in4), e11 = f32x4.sub(in0, in4);
  const e13 = f32x4.add(in2, in6);
  const e12 = f32x4.sub(f32x4.mul(f32x4.sub(in2, in6), root), e13);
  const e0 = f32x4.add(e10, e13), e3 = f32x4.sub(e10, e13);
  const e1 = f32x4.add(e11, e12), e2 = f32x4.sub(e11, e12);
  const in1 = v128.load(p, 32), in3 = v128.load(p, 96);
  const in5 = v128.load(p, 160), in7 = v128.load(p, 224);
  const z13 = f32x4.add(in5, in3), z10 = f32x4.sub(in5, in3);
  const z11 = f32x4.add(in1, in7), z12 = f32x4.sub(in1, in7);
  const o7 = f32x4.add(z11, z13);
  const z5 = f32x4.mul(f32x4.add(z10, z12), f32x4.splat(1.847759065));
  const t10 = f32x4.sub(z5, f32x4.mul(z12, f32x4.splat(1.082392200)));
  const t12 = f32x4.sub(z5, f32x4.mul(z10, f32x4.splat(2.613125930)));
  const o6 = f32x4.sub(t12, o7);
  const o5 = f32x4.sub(f32x4.mul(f32x4.sub(z11, z13), root), o6);
  const o4 = f32x4.sub(t10, o5);
  v128.store(p, f32x4.add(e0, o7));
  v128.store(p, f32x4.sub(e0, o7), 224);
  v128.store(p, f32x4.add(e1, o6), 32);
  v128.store(p, f32x4.sub(e1, o6), 192);
  v128.store(p, f32x4.add(e2, o5), 64);
  v128.store(p, f32x4.sub(e2, o5), 160);
  v128.store(p, f32x4.add(e3, o4), 96);
  v128.store(p, f32x4.sub(e3, o4), 128);
}

/** Writes the 4 x 4 floats at `from` to `to` with rows and columns exchanged, and the other way. */
@inline function exchange(a: usize, b: usize): void {
  const a0 = v128.load(a), a1 = v128.load(a, 32), a2 = v128.load(a, 64), a3 = v128.load(a, 96);
  const b0 = v128.load(b), b1 = v128.load(b, 32), b2 = v128.load(b, 64), b3 = v128.load(b, 96);
  turned(b, a0, a1, a2, a3);
  turned(a, b0, b1, b2, b3);
}

@inline function turned(to: usize, r0: v128, r1: v128, r2: v128, r3: v128): void {
  const l0 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), h0 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
  const l1 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5), h1 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<f64>(l0, l1, 0, 2));
  v128.store(to, v128.shuffle<f64>(l0, l1, 1, 3), 32);
  v128.store(to, v128.shuffle<f64>(h0, h1, 0, 2), 64);
  v128.store(to, v128.shuffle<f64>(h0, h1, 1, 3), 96);
}

/** A block of coefficients, columns first, to 8 x 8 samples. */
function draw(block: usize, scales: usize, to: usize, stride: usize, zero: f32, top: f32): void {
  for (let i: usize = 0; i < 64; i += 4) {
    const four = i32x4.extend_low_i16x8_s(v128.load64_zero(block + (i << 1)));
    const scale = v128.load(scales + (i << 2));
    v128.store(WORK + (i << 2), f32x4.mul(f32x4.convert_i32x4_s(four), scale));
  }
  transform(WORK);
  transform(WORK + 16);
  exchange(WORK, WORK);
  exchange(WORK + 16, WORK + 128);
  exchange(WORK + 144, WORK + 144);
  transform(WORK);
  transform(WORK + 16);
  const offset = f32x4.splat(zero + 0.5);
  const least = f32x4.splat(16.5);
  const most = f32x4.splat(top + 0.5);
  for (let row: usize = 0; row < 8; row++) {
    const from = WORK + (row << 5);
    const a = f32x4.min(f32x4.max(f32x4.add(v128.load(from), offset), least), most);
    const b = f32x4.min(f32x4.max(f32x4.add(v128.load(from, 16), offset), least), most);
    const words = i16x8.narrow_i32x4_s(
      i32x4.trunc_sat_f32x4_s(a),
      i32x4.trunc_sat_f32x4_s(b),
    );
    v128.store64_lane(to + row * stride, i8x16.narrow_i16x8_u(words, words), 0);
  }
}

/** 8 x 8 samples of a colour that is stored finer than 4:2:0, averaged to what is wanted. */
function shrink(to: usize, stride: usize, wide: bool, high: bool): void {
  const columns: usize = wide ? 4 : 8;
  const rows: usize = high ? 4 : 8;
  for (let y: usize = 0; y < rows; y++) {
    for (let x: usize = 0; x < columns; x++) {
      const from = SAMPLES + (high ? y << 4 : y << 3) + (wide ? x << 1 : x);
      const right: usize = wide ? 1 : 0;
      const below: usize = high ? 8 : 0;
      const sum = <u32>load<u8>(from) + load<u8>(from + right) + load<u8>(from + below) +
        load<u8>(from + right + below);
      store<u8>(to + y * stride + x, <u8>((sum + 2) >> 2));
    }
  }
}

/**
 * Takes the zeros out that stand behind each ff, in place, and notes where each restart interval
 * begins. Returns the number of intervals, or a negative result.
 */
function unstuff(from: usize, end: usize, starts: usize, most: i32): i32 {
  const ff = v128.splat<i8>(-1);
  let to = from;
  let intervals: i32 = 1;
  store<u32>(starts, <u32>from);
  while (from < end) {
    if (from + 16 <= end) {
      const sixteen = v128.load(from);
      if (!v128.any_true(i8x16.eq(sixteen, ff))) {
        v128.store(to, sixteen);
        from += 16;
        to += 16;
        continue;
      }
    }
    const stop = min(from + 16, end);
    while (from < stop) {
      const byte = load<u8>(from++);
      if (byte != 0xff) {
        store<u8>(to++, byte);
        continue;
      }
      if (from >= end) break;
      const next = load<u8>(from);
      if (next == 0) {
        store<u8>(to++, 0xff);
        from++;
      } else if (next >= 0xd0 && next <= 0xd7) {
        from++;
        if (intervals >= most) return BAD_MARKERS;
        store<u32>(starts + (<usize>intervals << 2), <u32>to);
        intervals++;
      } else if (next != 0xff) {
        return BAD_MARKERS;
      }
    }
  }
  store<u32>(starts + (<usize>intervals << 2), <u32>to);
  // What is read ahead.
  store<u64>(to, 0);
  store<u64>(to + 8, 0);
  return intervals;
}

/**
 * Decodes a scan. Returns how many MCUs differ (or were drawn anew), or a negative result. Parameter 33
 * is then how many of them differ beyond doubt.
 *
 * @param mode 0: draw what differs; 1: draw all; 2: only compare; 3: only remember all
 */
export function decode(mode: i32): i32 {
  const mcusWide = parameter(0), mcusHigh = parameter(1), components = parameter(2);
  const h = parameter(3), v = parameter(4), restart = parameter(5);
  const starts = <usize>parameter(8);
  const strideY = <usize>parameter(13), strideC = <usize>parameter(14);
  const total = mcusWide * mcusHigh;
  const expected = restart ? (total + restart - 1) / restart : 1;
  const intervals = unstuff(
    <usize>parameter(6),
    <usize>(parameter(6) + parameter(7)),
    starts,
    expected,
  );
  if (intervals < 0) return intervals;
  if (intervals != expected) return BAD_MARKERS;
  const lumaBlocks = h * v;
  const blocks = components == 1 ? 1 : lumaBlocks + 2;
  const lumaFar = parameter(27), lumaDc = parameter(28);
  const chromaFar = parameter(29), chromaDc = parameter(30);
  const comparing = mode == 0 || mode == 2;
  // Of each MCU: how far it is from its reference on an average, in sixteenths, and whether it differed
  // since the last picture that was coded.
  let local = <usize>parameter(31);
  let before = <usize>parameter(32);
  const weight = parameter(34);
  let sure: i32 = 0;
  let reference = <usize>parameter(9);
  let dc0: i32 = 0, dc1: i32 = 0, dc2: i32 = 0;
  let left: i32 = 0;
  let interval: usize = 0;
  let stop: usize = 0;
  let changed: i32 = 0;
  // Local, because a global of WebAssembly lives in memory: the next bits, the highest first, how many
  // there are, and where those after them stand.
  let bits: u64 = 0;
  let count: i32 = 0;
  let at: usize = 0;
  for (let y: i32 = 0; y < mcusHigh; y++) {
    for (let x: i32 = 0; x < mcusWide; x++) {
      if (left == 0) {
        if (interval > 0 && at - <usize>(count >> 3) > stop) return TOO_SHORT;
        at = load<u32>(starts + (interval << 2));
        stop = load<u32>(starts + (interval << 2), 4);
        interval++;
        bits = 0;
        count = 0;
        dc0 = 0;
        dc1 = 0;
        dc2 = 0;
        left = restart ? restart : total;
      }
      left--;
      let differs = !comparing;
      let beyondDoubt = false;
      let farthest: i32 = 0;
      const usual = comparing ? <i32>load<u16>(local) : 0;
      const usualFar = min(usual >> 2, MOST_FAR);
      for (let b: i32 = 0; b < blocks; b++) {
        const block = BLOCKS + <usize>b * BLOCK_BYTES;
        const component = b < lumaBlocks ? 0 : b - lumaBlocks + 1;
        const quantiser = QUANTISERS + (<usize>component << 8);
        clear(block);
        const slowDc = <usize>parameter(21 + component);
        const fastDc = <usize>parameter(15 + component);
        const slowAc = <usize>parameter(24 + component);
        const fastAc = <usize>parameter(18 + component);
        // Always enough bits for a code of 16 and a value of 15.
        if (count <= 32) {
          bits |= (<u64>bswap<u32>(load<u32>(at)) << 32) >> count;
          count += 32;
          at += 4;
        }
        let entry = load<i32>(fastDc + (<usize>(bits >>> 54) << 2));
        let value = entry >> 16;
        if (!(entry & 255)) {
          entry = slowCode(slowDc, bits);
          if (!entry) return BAD_CODE;
        }
        bits <<= entry & 255;
        count -= entry & 255;
        if (value == 0) {
          const size = (entry >> 8) & 15;
          if (size) {
            value = extend(<i32>(bits >>> (64 - size)), size);
            bits <<= size;
            count -= size;
          }
        }
        if (component == 0) value = dc0 = dc0 + value;
        else if (component == 1) value = dc1 = dc1 + value;
        else value = dc2 = dc2 + value;
        store<i16>(block, <i16>(value * load<i32>(quantiser)));
        let k: usize = 1;
        while (k < 64) {
          if (count <= 32) {
            bits |= (<u64>bswap<u32>(load<u32>(at)) << 32) >> count;
            count += 32;
            at += 4;
          }
          let entry = load<i32>(fastAc + (<usize>(bits >>> 54) << 2));
          let value = entry >> 16;
          if (value != 0) {
            k += (entry >> 8) & 15;
            bits <<= entry & 255;
            count -= entry & 255;
          } else {
            if (!(entry & 255)) {
              entry = slowCode(slowAc, bits);
              if (!entry) return BAD_CODE;
            }
            bits <<= entry & 255;
            count -= entry & 255;
            const size = (entry >> 8) & 15;
            const run = (entry >> 12) & 15;
            if (!size) {
              if (run != 15) break;
              k += 16;
              continue;
            }
            k += run;
            value = extend(<i32>(bits >>> (64 - size)), size);
            bits <<= size;
            count -= size;
          }
          // Beyond the 64th there is room that nobody reads.
          store<i16>(block + load<u8>(ZIGZAG + k), <i16>(value * load<i32>(quantiser + (k << 2))));
          k++;
        }
        if (comparing) {
          const known = reference + (<usize>b << 7);
          const far = distance(block, known);
          const step = abs(<i32>load<i16>(block) - <i32>load<i16>(known));
          const luma = component == 0;
          const limit = max(luma ? lumaFar : chromaFar, usualFar);
          // The mean of a block whose noise is known may be off by as much as any other coefficient.
          const most = luma ? lumaDc : chromaDc;
          const stepOver = step > most && (step > MOST_DC || step * step > usualFar);
          if (far > limit || stepOver) {
            differs = true;
            if (far > 2 * limit || step > 2 * MOST_DC) beyondDoubt = true;
          }
          farthest = max(farthest, min(far, MOST_LEARNED));
          const bin = NOISE + (luma ? 0 : 1024) + (<usize>min(far >> 3, 255) << 2);
          store<u32>(bin, load<u32>(bin) + 1);
        }
      }
      if (at > stop + 16) return TOO_SHORT;
      if (comparing) {
        store<u16>(local, <u16>(usual + ((farthest << 4) - usual) / weight));
        if (differs) {
          if (beyondDoubt || load<u8>(before)) sure++;
          store<u8>(before, 1);
        }
      }
      local += 2;
      before++;
      if (differs) {
        changed++;
        for (let b: i32 = 0; b < blocks && mode != 2; b++) {
          copy(reference + (<usize>b << 7), BLOCKS + <usize>b * BLOCK_BYTES);
        }
        if (mode < 2) {
          const luma = <usize>parameter(10) + <usize>(y * v) * 8 * strideY + <usize>(x * h) * 8;
          for (let b: i32 = 0; b < lumaBlocks; b++) {
            const column = h == 2 ? <usize>b & 1 : 0;
            const row = h == 2 ? <usize>b >> 1 : <usize>b;
            draw(
              BLOCKS + <usize>b * BLOCK_BYTES,
              SCALES,
              luma + row * 8 * strideY + column * 8,
              strideY,
              125.929411,
              235,
            );
          }
          for (let c: i32 = 0; c < components - 1; c++) {
            const block = BLOCKS + <usize>(lumaBlocks + c) * BLOCK_BYTES;
            const plane = <usize>parameter(11 + c);
            const to = plane + <usize>(y * v) * 4 * strideC + <usize>(x * h) * 4;
            if (h == 2 && v == 2) draw(block, SCALES + 256, to, strideC, 128, 240);
            else {
              draw(block, SCALES + 256, SAMPLES, 8, 128, 240);
              shrink(to, strideC, h == 1, v == 1);
            }
          }
        }
      }
      reference += <usize>blocks << 7;
    }
  }
  if (at - <usize>(count >> 3) > stop) return TOO_SHORT;
  store<i32>(PARAMETERS + (33 << 2), sure);
  return changed;
}
