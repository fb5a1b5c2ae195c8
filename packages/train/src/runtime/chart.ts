// The losses of a training as a picture: SVG text with a faint line of every step and a strong one of running means. No
// styles but attributes, so that it looks alike in a browser, on a code host and in an editor.

import type { LossLine } from "./losses.ts";

const [WIDTH, HEIGHT] = [720, 360];
const [LEFT, RIGHT, TOP, BOTTOM] = [56, 20, 36, 44];
const [INK, FAINT] = ["#1f2937", "#d1d5db"];
const [STEP_COLOUR, MEAN_COLOUR] = ["#bfdbfe", "#2563eb"];
/** Points along the width; more would not be seen. */
const MAX_POINTS = 600;

/** @param lines - of one training, in order; may be empty */
export function lossChart(lines: readonly LossLine[]): string {
  const means = runningMeans(lines.map(({ loss }) => loss));
  const mostTokens = Math.max(1, lines.at(-1)?.nTokens ?? 0);
  const low = Math.floor(2 * Math.min(...lines.map(({ loss }) => loss), 1e9)) / 2;
  const lowest = lines.length === 0 ? 0 : low;
  const highest = Math.max(lowest + 0.5, Math.ceil(2 * Math.max(...lines.map(({ loss }) => loss), 0)) / 2);
  const x = (nTokens: number): number => LEFT + (nTokens / mostTokens) * (WIDTH - LEFT - RIGHT);
  const y = (loss: number): number =>
    HEIGHT - BOTTOM - ((loss - lowest) / (highest - lowest)) * (HEIGHT - TOP - BOTTOM);
  const every = Math.max(1, Math.ceil(lines.length / MAX_POINTS));
  const points = (values: readonly number[]): string =>
    values
      .map((value, i) =>
        i % every === 0 || i + 1 === values.length
          ? `${x(lines[i]!.nTokens).toFixed(1)},${y(value).toFixed(1)}`
          : "",
      )
      .filter((point) => point !== "")
      .join(" ");
  const polyline = (values: readonly number[], colour: string, width: number): string =>
    `<polyline points="${points(values)}" fill="none" stroke="${colour}" stroke-width="${width}"/>`;

  const grid: string[] = [];
  const step = niceStep(highest - lowest);
  for (let value = lowest; value <= highest + 1e-9; value += step) {
    grid.push(
      `<line x1="${LEFT}" y1="${y(value).toFixed(1)}" x2="${WIDTH - RIGHT}" y2="${y(value).toFixed(1)}" stroke="${FAINT}"/>`,
      text(LEFT - 8, y(value) + 4, value.toFixed(step < 1 ? 1 : 0), "end"),
    );
  }
  for (let i = 0; i <= 4; i++) {
    const nTokens = (mostTokens * i) / 4;
    grid.push(text(x(nTokens), HEIGHT - BOTTOM + 18, tokenCount(nTokens), "middle"));
  }
  const last = means.at(-1);
  const title = last === undefined ? "Loss" : `Loss (nats per token), ${last.toFixed(3)} at the end`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    text(LEFT, 22, title, "start"),
    ...grid,
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "tokens", "middle"),
    polyline(
      lines.map(({ loss }) => loss),
      STEP_COLOUR,
      1,
    ),
    polyline(means, MEAN_COLOUR, 2),
    "</svg>",
    "",
  ].join("\n");
}

/** Of the last fiftieth of all steps, or fewer where there are not yet so many. */
export function runningMeans(losses: readonly number[]): number[] {
  const window = Math.max(1, Math.ceil(losses.length / 50));
  let sum = 0;
  return losses.map((loss, i) => {
    sum += loss - (i >= window ? losses[i - window]! : 0);
    return sum / Math.min(window, i + 1);
  });
}

/** About six lines over a range. */
function niceStep(range: number): number {
  return [0.1, 0.2, 0.5, 1, 2, 5].find((step) => range / step <= 7) ?? 10;
}

function tokenCount(nTokens: number): string {
  if (nTokens >= 1e6) return `${(nTokens / 1e6).toFixed(nTokens >= 1e7 ? 0 : 1)} M`;
  return nTokens >= 1e3 ? `${(nTokens / 1e3).toFixed(nTokens >= 1e4 ? 0 : 1)} k` : nTokens.toFixed(0);
}

function text(x: number, y: number, words: string, anchor: "start" | "middle" | "end"): string {
  return (
    `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" font-family="system-ui, sans-serif" ` +
    `font-size="12" fill="${INK}">${words}</text>`
  );
}
