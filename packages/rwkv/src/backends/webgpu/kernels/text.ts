// Helpers for writing WGSL.

/** One text for each number below n. */
export function repeat(n: number, text: (i: number) => string, separator = "\n"): string {
  return Array.from({ length: n }, (_, i) => text(i)).join(separator);
}
