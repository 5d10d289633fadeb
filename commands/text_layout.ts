/**
 * Text in columns for terminals: how wide a text is on the screen, cutting it to a width, and a
 * table that leaves out its least important columns when the terminal is narrow.
 *
 * @module
 */

/** Emoji and East Asian characters take two places (Unicode UAX #11, the common ranges). */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|[\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;
const NO_WIDTH = /^[\p{Mn}\p{Me}\p{Cf}\p{Cc}\ufe0f]/u;

const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });

/** How many places a text takes; it must hold no escape sequences. */
export function textWidth(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let width = 0;
  for (const { segment } of segmenter.segment(text)) {
    width += WIDE.test(segment) ? 2 : NO_WIDTH.test(segment) ? 0 : 1;
  }
  return width;
}

/** Cuts a text to at most `width` places; a cut one ends in "…". */
export function fitText(text: string, width: number): string {
  if (textWidth(text) <= width) return text;
  let fitted = "";
  let used = 0;
  for (const { segment } of segmenter.segment(text)) {
    const segmentWidth = textWidth(segment);
    if (used + segmentWidth > width - 1) break;
    fitted += segment;
    used += segmentWidth;
  }
  return width < 1 ? "" : `${fitted}…`;
}

/**
 * Takes what would move the cursor or change colours out of a text that came from outside, such as
 * a camera's name or a server's error message, and makes it one line.
 */
export function plainText(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "").replace(/[\s\x00-\x1f\x7f-\x9f]+/g, " ")
    .trim();
}

/** One place in a table. */
export interface Cell {
  readonly text: string;
  /** Colours the padded text. */
  readonly style?: (text: string) => string;
}

/** A column of a table. */
export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
  /** Columns with a small number go first when there is no room; 0 never goes. */
  readonly dropOrder?: number;
}

/** A row of cells, or the first cell followed by a text that runs across all others. */
export type Row = readonly Cell[] | { readonly first: Cell; readonly across: Cell };

const GAP = 2;

/**
 * Lays out a table in at most `width` places a line. The first column shrinks when dropping others
 * is not enough.
 */
export function layOutTable(
  columns: readonly Column[],
  rows: readonly Row[],
  { width, titleStyle = (text) => text }: {
    readonly width: number;
    readonly titleStyle?: (text: string) => string;
  },
): string[] {
  const cellsOf = (row: Row): readonly Cell[] => "first" in row ? [row.first] : row;
  const widths = columns.map((column, at) =>
    Math.max(
      textWidth(column.title),
      ...rows.map((row) => textWidth(cellsOf(row)[at]?.text ?? "")),
    )
  );
  const kept = new Set(columns.keys());
  const total = () => [...kept].reduce((sum, at) => sum + (widths[at] ?? 0) + GAP, -GAP);
  const droppable = [...columns.entries()]
    .filter(([, column]) => (column.dropOrder ?? 0) > 0)
    .sort(([, a], [, b]) => (a.dropOrder ?? 0) - (b.dropOrder ?? 0));
  for (const [at] of droppable) {
    if (total() <= width) break;
    kept.delete(at);
  }
  const firstWidth = widths[0] ?? 0;
  widths[0] = Math.max(Math.min(firstWidth, 8), firstWidth - Math.max(0, total() - width));

  const line = (cells: readonly Cell[]) => {
    let left = width;
    const parts: string[] = [];
    for (const at of kept) {
      const cellWidth = Math.min(widths[at] ?? 0, left);
      if (cellWidth <= 0) break;
      const { text, style = (same: string) => same } = cells[at] ?? { text: "" };
      const fitted = fitText(text, cellWidth);
      const padding = " ".repeat(cellWidth - textWidth(fitted));
      parts.push(style(columns[at]?.align === "right" ? padding + fitted : fitted + padding));
      left -= cellWidth + GAP;
    }
    return parts.join(" ".repeat(GAP)).trimEnd();
  };

  return [
    line(columns.map(({ title }) => ({ text: title, style: titleStyle }))),
    ...rows.map((row) => {
      if (!("first" in row)) return line(row);
      const { text, style = (same: string) => same } = row.across;
      const firstWidth = Math.min(widths[0] ?? 0, width);
      const { text: firstText, style: firstStyle = (same: string) => same } = row.first;
      const fitted = fitText(firstText, firstWidth);
      const left = width - firstWidth - GAP;
      if (left < 4) return firstStyle(fitted);
      const gap = " ".repeat(firstWidth + GAP - textWidth(fitted));
      return firstStyle(fitted) + gap + style(fitText(text, left));
    }),
  ];
}
