/**
 * The machine-readable strip in the upper left corner of every simulated picture: a test that
 * decodes a delivered clip reads from it which camera's which frame it sees and when it was taken.
 *
 * Layout: 3 rows of 40 square cells, black for 0 and white for 1, in reading order, most
 * significant bit first:
 *
 * | bits | what |
 * |---|---|
 * | 24 | {@linkcode cameraCode} of the camera's name |
 * | 32 | frame counter |
 * | 48 | time the picture was taken, ms since the Unix epoch |
 * | 16 | CRC-16/CCITT-FALSE over the 13 bytes before |
 *
 * A cell is 16 px from a width of 640 px on, 8 px from 320 px on, and 4 px below: whole transform
 * blocks of JPEG and H.264 in the first two cases, which is why it outlives coarse coding.
 *
 * @module
 */

const COLUMNS = 40;
const ROWS = 3;
const PAYLOAD_BYTES = 13;
/** Cell means between these are no strip: a picture of something else, or one too damaged. */
const DARK_BELOW = 96;
const BRIGHT_ABOVE = 160;

/** What a strip tells. */
export interface Strip {
  /** {@linkcode cameraCode} of the camera's name. */
  readonly camera: number;
  /** The frame's number, 32 bits. */
  readonly counter: number;
  /** Ms since the Unix epoch. */
  readonly takenAtMs: number;
}

/** The edge of one cell in a picture of this width, px. */
export function stripCellPx(widthPx: number): number {
  return widthPx >= 640 ? 16 : widthPx >= 320 ? 8 : 4;
}

/** The area that the strip covers, px. */
export function stripSize(
  widthPx: number,
): { readonly widthPx: number; readonly heightPx: number } {
  const cellPx = stripCellPx(widthPx);
  return { widthPx: COLUMNS * cellPx, heightPx: ROWS * cellPx };
}

/** The 24-bit number that stands for a camera's name in its strip (FNV-1a over UTF-8, folded). */
export function cameraCode(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) {
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  }
  return (hash >>> 24) ^ (hash & 0xffffff);
}

function crc16(bytes: Uint8Array): number {
  let crc = 0xffff;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) {
      crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
    }
  }
  return crc;
}

/** Draws the strip into the upper left corner of a luma plane with rows of `strideBytes`. */
export function drawStrip(
  luma: Uint8Array,
  strip: Strip,
  options: { readonly widthPx: number; readonly strideBytes: number },
): void {
  const bytes = new Uint8Array(PAYLOAD_BYTES + 2);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, strip.camera << 8);
  view.setUint32(3, strip.counter);
  view.setUint16(7, Math.floor(strip.takenAtMs / 2 ** 32));
  view.setUint32(9, strip.takenAtMs % 2 ** 32);
  view.setUint16(PAYLOAD_BYTES, crc16(bytes.subarray(0, PAYLOAD_BYTES)));
  const cellPx = stripCellPx(options.widthPx);
  for (let cell = 0; cell < COLUMNS * ROWS; cell++) {
    const bit = (bytes[cell >> 3] ?? 0) >> (7 - (cell & 7)) & 1;
    const left = cell % COLUMNS * cellPx;
    const top = Math.floor(cell / COLUMNS) * cellPx;
    for (let y = top; y < top + cellPx; y++) {
      const from = y * options.strideBytes + left;
      luma.fill(bit ? 235 : 16, from, from + cellPx);
    }
  }
}

/**
 * Reads the strip of a decoded picture.
 *
 * @param gray the luma plane, one byte per pixel, rows of `widthPx` bytes without padding; full or
 * limited range
 * @returns `undefined` when there is no readable strip
 */
export function readStrip(gray: Uint8Array, widthPx: number): Strip | undefined {
  const cellPx = stripCellPx(widthPx);
  if (widthPx < COLUMNS * cellPx || gray.length < widthPx * ROWS * cellPx) return undefined;
  const bytes = new Uint8Array(PAYLOAD_BYTES + 2);
  // The outer quarter of each cell is left out: that is where ringing and deblocking act.
  const inset = cellPx >> 2;
  for (let cell = 0; cell < COLUMNS * ROWS; cell++) {
    const left = cell % COLUMNS * cellPx;
    const top = Math.floor(cell / COLUMNS) * cellPx;
    let sum = 0;
    for (let y = top + inset; y < top + cellPx - inset; y++) {
      for (let x = left + inset; x < left + cellPx - inset; x++) sum += gray[y * widthPx + x] ?? 0;
    }
    const mean = sum / (cellPx - 2 * inset) ** 2;
    if (mean > DARK_BELOW && mean < BRIGHT_ABOVE) return undefined;
    if (mean >= BRIGHT_ABOVE) bytes[cell >> 3] = (bytes[cell >> 3] ?? 0) | 0x80 >> (cell & 7);
  }
  const view = new DataView(bytes.buffer);
  if (view.getUint16(PAYLOAD_BYTES) !== crc16(bytes.subarray(0, PAYLOAD_BYTES))) return undefined;
  return {
    camera: view.getUint32(0) >>> 8,
    counter: view.getUint32(3),
    takenAtMs: view.getUint16(7) * 2 ** 32 + view.getUint32(9),
  };
}
