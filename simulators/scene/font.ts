/**
 * A bitmap font of 5 x 7 points for what is written into simulated pictures: capital letters,
 * digits and the signs that names and times need. Each glyph is seven rows, two hex digits a row,
 * the leftmost point being the bit 0x10.
 *
 * @module
 */

/** Width of a character with the gap behind it, in points. */
export const GLYPH_ADVANCE = 6;
/** Height of a line with the gap below it, in points. */
export const LINE_ADVANCE = 8;

const ROWS = 7;
const COLUMNS = 5;

const GLYPHS: Readonly<Record<string, string>> = {
  "0": "0e11131519110e",
  "1": "040c040404040e",
  "2": "0e11010204081f",
  "3": "1f02040201110e",
  "4": "02060a121f0202",
  "5": "1f101e0101110e",
  "6": "0608101e11110e",
  "7": "1f010204080808",
  "8": "0e11110e11110e",
  "9": "0e11110f01020c",
  A: "0e11111f111111",
  B: "1e11111e11111e",
  C: "0e11101010110e",
  D: "1c12111111121c",
  E: "1f10101e10101f",
  F: "1f10101e101010",
  G: "0e11101713110e",
  H: "1111111f111111",
  I: "0e04040404040e",
  J: "0702020202120c",
  K: "11121418141211",
  L: "1010101010101f",
  M: "111b1515111111",
  N: "11111915131111",
  O: "0e11111111110e",
  P: "1e11111e101010",
  Q: "0e11111115120d",
  R: "1e11111e141211",
  S: "0f10100e01011e",
  T: "1f040404040404",
  U: "1111111111110e",
  V: "11111111110a04",
  W: "11111115151b11",
  X: "11110a040a1111",
  Y: "11110a04040404",
  Z: "1f01020408101f",
  " ": "00000000000000",
  ".": "00000000000c0c",
  ",": "000000000c0408",
  ":": "000c0c000c0c00",
  ";": "000c0c000c0408",
  "-": "0000001f000000",
  "_": "0000000000001f",
  "/": "00010204081000",
  "\\": "00100804020100",
  "#": "0a0a1f0a1f0a0a",
  "+": "0004041f040400",
  "=": "00001f001f0000",
  "'": "0c040800000000",
  '"': "0a0a0a00000000",
  "(": "02040808080402",
  ")": "08040202020408",
  "&": "0c12140815120d",
  "!": "04040404000004",
  "?": "0e110102040004",
  "@": "0e11010d15150e",
  "%": "18190204081303",
  "*": "0004150e150400",
};

/** The rows of a glyph; small letters show as capitals, accents are left off, the rest is `?`. */
function glyphRows(character: string): readonly number[] {
  const plain = character.normalize("NFKD").charAt(0).toUpperCase();
  const hex = GLYPHS[plain] ?? GLYPHS["?"] ?? "";
  return Array.from({ length: ROWS }, (_, row) => parseInt(hex.slice(row * 2, row * 2 + 2), 16));
}

const cache = new Map<string, readonly number[]>();

function cachedRows(character: string): readonly number[] {
  let rows = cache.get(character);
  if (!rows) {
    rows = glyphRows(character);
    // Names come from outside: the cache stays small whatever they hold.
    if (cache.size < 512) cache.set(character, rows);
  }
  return rows;
}

/** How wide a text is at this scale, px. */
export function textWidthPx(text: string, scale: number): number {
  return [...text].length * GLYPH_ADVANCE * scale;
}

/** Writes one line of text into a luma plane; what would stand outside of it is left off. */
export function drawText(
  luma: Uint8Array,
  text: string,
  at: {
    readonly xPx: number;
    readonly yPx: number;
    readonly scale: number;
    readonly strideBytes: number;
    readonly value: number;
  },
): void {
  let left = at.xPx;
  for (const character of text) {
    if (left + COLUMNS * at.scale > at.strideBytes) return;
    const rows = cachedRows(character);
    for (let row = 0; row < ROWS; row++) {
      const bits = rows[row] ?? 0;
      if (bits === 0) continue;
      for (let column = 0; column < COLUMNS; column++) {
        if (!(bits & 0x10 >> column)) continue;
        const x = left + column * at.scale;
        const y = at.yPx + row * at.scale;
        for (let line = y; line < y + at.scale; line++) {
          const from = line * at.strideBytes + x;
          luma.fill(at.value, from, from + at.scale);
        }
      }
    }
    left += GLYPH_ADVANCE * at.scale;
  }
}
