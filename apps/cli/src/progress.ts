// A progress bar on stderr, drawn on a terminal only.

const BAR_WIDTH = 24;
const REDRAW_MS = 100;

export interface ProgressBar {
  /** @param detail - what follows the bar, such as a rate */
  update(done: number, total: number, detail: string): void;
  /** Removes the bar. */
  clear(): void;
}

export function createProgressBar(label: string, isQuiet: boolean): ProgressBar {
  const { stderr } = process;
  if (isQuiet || !stderr.isTTY) return { update: () => undefined, clear: () => undefined };
  let lastDrawnMs = -Infinity;
  return {
    update(done, total, detail) {
      const now = performance.now();
      if (now - lastDrawnMs < REDRAW_MS && done < total) return;
      lastDrawnMs = now;
      const share = total > 0 ? done / total : 1;
      const filled = Math.round(share * BAR_WIDTH);
      const bar = "#".repeat(filled).padEnd(BAR_WIDTH, ".");
      const percent = String(Math.floor(share * 100)).padStart(3);
      stderr.write(`\r\u001b[K${label} [${bar}] ${percent} % ${detail}`);
    },
    clear: () => void stderr.write("\r\u001b[K"),
  };
}

export function megabytes(byteLength: number): string {
  return `${(byteLength / 1e6).toFixed(byteLength < 1e7 ? 2 : 0)} MB`;
}
