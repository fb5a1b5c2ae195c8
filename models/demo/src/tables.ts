// Results as Markdown, for the terminal and for the model card.

import { meetsFloor, type SuiteResult } from "./evaluate.ts";

export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

/** One row per suite. */
export function resultTable(results: readonly SuiteResult[]): string {
  const rows = results.map((result) => [
    result.isHeldOut ? result.name : `${result.name} (seen)`,
    String(result.nCases),
    percent(result.nRight / result.nCases),
    result.floor === null ? "" : `${percent(result.floor)}${meetsFloor(result) ? "" : " missed"}`,
  ]);
  return markdownTable(["ability", "cases", "right", "floor"], rows);
}

/** The first column is text, the others are numbers. */
export function markdownTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, i) => Math.max(3, title.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(" | ")} |\n`;
  const rule = widths.map((width, i) => (i === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`));
  return line(header) + line(rule) + rows.map(line).join("");
}
