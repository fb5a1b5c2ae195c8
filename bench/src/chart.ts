// Charts as SVG text: bars with whiskers for the spread, and lines over a few named points. No styles but attributes,
// so that they look alike in a browser, on a code host and in an editor.

import type { Spread } from "./statistics.ts";

/** A heading and the bars below it. */
export interface BarGroup {
  readonly label: string;
  readonly bars: readonly Bar[];
}

export interface Bar {
  readonly label: string;
  /** Bars of one kind have one colour, in all groups. */
  readonly kind: string;
  readonly value: Spread;
}

/** A line over the categories of its chart; null where nothing was measured. */
export interface Line {
  readonly label: string;
  /** Lines of one kind have one colour. */
  readonly kind: string;
  readonly isDashed: boolean;
  readonly values: readonly (Spread | null)[];
}

const COLOURS = ["#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626"] as const;
const INK = "#1f2937";
const FAINT = "#d1d5db";
/** Of a letter at that size, more or less: SVG has no layout of its own. */
const LETTER_WIDTH = 6.9;
const FONT = `font-family="system-ui, sans-serif" font-size="12" fill="${INK}"`;

/**
 * Horizontal bars from zero, the medians, with a whisker from the smallest to the largest value.
 * @param reference - where a dashed line stands for comparison; null for none
 */
export function barChart(
  title: string,
  groups: readonly BarGroup[],
  nDecimals: number,
  reference: number | null = null,
): string {
  const labels = groups.flatMap(({ bars }) => bars.map(({ label }) => label));
  const left = Math.max(120, ...labels.map(widthOf)) + 20;
  const [width, right] = [left + 480, 60];
  const values = groups.flatMap(({ bars }) => bars.map(({ value }) => value.max));
  const most = niceCeiling(Math.max(reference ?? 0, ...values));
  const x = (value: number): number => left + (value / most) * (width - left - right);
  const colourOf = colours();
  const bars: string[] = [];
  const numbers: string[] = [];
  let y = 44;
  for (const { label, bars: group } of groups) {
    bars.push(text(12, y + 12, label, "start", "bold"));
    y += 20;
    for (const bar of group) {
      const { median, min, max } = bar.value;
      bars.push(
        text(left - 8, y + 12, bar.label, "end"),
        `<rect x="${left}" y="${y}" width="${round(x(median) - left)}" height="16" fill="${colourOf(bar.kind)}"/>`,
        line(x(min), y + 8, x(max), y + 8, INK),
      );
      const number = median.toFixed(nDecimals);
      const at = Math.max(x(median), x(max)) + 6;
      // On white, so that the dashed line does not cross it.
      numbers.push(
        `<rect x="${round(at - 2)}" y="${y + 1}" width="${round(widthOf(number) + 4)}" height="14" fill="#ffffff"/>`,
        text(at, y + 12, number, "start"),
      );
      y += 20;
    }
    y += 8;
  }
  const mark =
    reference === null ? [] : [line(x(reference), 40, x(reference), y, INK, ' stroke-dasharray="4 3"')];
  return svg(width, y + 12, title, [...bars, ...mark, ...numbers]);
}

/** Lines from zero over evenly spaced categories. */
export function lineChart(
  title: string,
  xLabel: string,
  yLabel: string,
  categories: readonly string[],
  lines: readonly Line[],
): string {
  const [width, left, right, bottom] = [640, 64, 24, 48];
  const legend = layLegend(lines, left, width - right);
  const top = 76 + 18 * legend.nRows;
  const height = top + 240 + bottom;
  const present = lines.flatMap(({ values }) => values.filter((value) => value !== null));
  const most = niceCeiling(Math.max(...present.map(({ max }) => max)));
  const step = (width - left - right) / Math.max(1, categories.length - 1);
  const x = (i: number): number => left + (categories.length === 1 ? (width - left - right) / 2 : i * step);
  const y = (value: number): number => height - bottom - (value / most) * (height - top - bottom);
  const parts: string[] = [text(left - 52, top - 14, yLabel, "start")];
  for (let tick = 0; tick <= 4; tick++) {
    const value = (most * tick) / 4;
    parts.push(
      line(left, y(value), width - right, y(value), FAINT),
      text(left - 8, y(value) + 4, shortNumber(value), "end"),
    );
  }
  categories.forEach((category, i) => parts.push(text(x(i), height - bottom + 18, category, "middle")));
  parts.push(text((left + width - right) / 2, height - 10, xLabel, "middle"));
  const colourOf = colours();
  lines.forEach(({ label, kind, isDashed, values }, l) => {
    const colour = colourOf(kind);
    const dashes = isDashed ? ' stroke-dasharray="6 4"' : "";
    const points: string[] = [];
    values.forEach((value, i) => {
      if (value === null) return;
      const [px, py] = [round(x(i)), round(y(value.median))];
      points.push(`${px},${py}`);
      parts.push(
        line(px, y(value.min), px, y(value.max), colour),
        `<circle cx="${px}" cy="${py}" r="3" fill="${colour}"/>`,
      );
    });
    parts.push(
      `<polyline points="${points.join(" ")}" fill="none" stroke="${colour}" stroke-width="2"${dashes}/>`,
    );
    const entry = legend.entries[l]!;
    const entryY = 44 + 18 * entry.row;
    parts.push(
      line(entry.x, entryY, entry.x + 24, entryY, colour, ` stroke-width="2"${dashes}`),
      text(entry.x + 30, entryY + 4, label, "start"),
    );
  });
  return svg(width, height, title, parts);
}

/** Where each line's entry stands: as many side by side as there is room for. */
function layLegend(
  lines: readonly Line[],
  left: number,
  right: number,
): { readonly entries: readonly { readonly x: number; readonly row: number }[]; readonly nRows: number } {
  const entryWidth = 50 + Math.max(0, ...lines.map(({ label }) => widthOf(label)));
  const perRow = Math.max(1, Math.floor((right - left) / entryWidth));
  return {
    entries: lines.map((_, i) => ({ x: left + (i % perRow) * entryWidth, row: Math.floor(i / perRow) })),
    nRows: Math.ceil(lines.length / perRow),
  };
}

/** Gives each kind a colour, in the order in which they come. */
function colours(): (kind: string) => string {
  const known = new Map<string, string>();
  return (kind) => {
    const colour = known.get(kind) ?? COLOURS[known.size % COLOURS.length]!;
    known.set(kind, colour);
    return colour;
  };
}

function widthOf(label: string): number {
  return label.length * LETTER_WIDTH;
}

/** The smallest of 1, 2, 2.5, 4, 5 or 8 times a power of ten that is at least `value`. */
export function niceCeiling(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const factor = [1, 2, 2.5, 4, 5, 8, 10].find((candidate) => candidate * power >= value * (1 - 1e-9));
  return (factor ?? 10) * power;
}

function svg(width: number, height: number, title: string, parts: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<title>${escapeXml(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(12, 24, title, "start", "bold"),
    ...parts,
    "</svg>\n",
  ].join("\n");
}

function text(
  x: number,
  y: number,
  content: string,
  anchor: "start" | "middle" | "end",
  weight: "normal" | "bold" = "normal",
): string {
  const bold = weight === "bold" ? ' font-weight="bold"' : "";
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}" ${FONT}${bold}>${escapeXml(content)}</text>`;
}

function line(x1: number, y1: number, x2: number, y2: number, colour: string, more = ""): string {
  const [a, b, c, d] = [x1, y1, x2, y2].map(round);
  return `<line x1="${a}" y1="${b}" x2="${c}" y2="${d}" stroke="${colour}"${more}/>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function shortNumber(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function escapeXml(content: string): string {
  return content
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
