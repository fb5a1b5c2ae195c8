// Markdown tables with aligned columns, as they stand in the docs.

/** @param rows - the heading first; the columns from `firstNumber` on are aligned to the right */
export function markdownTable(rows: readonly (readonly string[])[], firstNumber: number): string {
  const nColumns = rows[0]!.length;
  const widths = Array.from({ length: nColumns }, (_, c) =>
    Math.max(4, ...rows.map((row) => row[c]!.length)),
  );
  const isNumber = (c: number): boolean => c >= firstNumber;
  const lines = rows.map((row) =>
    row.map((cell, c) => (isNumber(c) ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!))),
  );
  const rule = widths.map((width, c) => (isNumber(c) ? `${"-".repeat(width - 1)}:` : "-".repeat(width)));
  return [lines[0]!, rule, ...lines.slice(1)].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}
