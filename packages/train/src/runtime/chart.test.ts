import { expect, test } from "vitest";
import { lossChart, runningMeans } from "./chart.ts";

test("running means look back over a fiftieth of all steps", () => {
  expect(runningMeans([])).toEqual([]);
  expect(runningMeans([3, 1])).toEqual([3, 1]);
  const losses = Array.from({ length: 100 }, (_, i) => i);
  const means = runningMeans(losses);
  expect(means.slice(0, 3)).toEqual([0, 0.5, 1.5]);
  expect(means[99]).toBe(98.5);
});

test("a chart has both lines from the first step to the last, and stays inside its frame", () => {
  const lines = Array.from({ length: 2000 }, (_, i) => ({
    step: i + 1,
    nTokens: 1000 * (i + 1),
    loss: 1.25 + 5 * Math.exp(-i / 300) + 0.2 * Math.sin(i),
    norm: 1,
    rate: 0.001,
  }));
  const svg = lossChart(lines);
  const polylines = [...svg.matchAll(/<polyline points="([^"]*)"/g)].map((match) =>
    match[1]!.split(" ").map((point) => point.split(",").map(Number) as [number, number]),
  );
  expect(polylines).toHaveLength(2);
  for (const points of polylines) {
    expect(points.length).toBeLessThanOrEqual(601);
    expect(points.at(-1)![0]).toBe(700);
    for (const [x, y] of points) {
      expect(x).toBeGreaterThanOrEqual(56);
      expect(x).toBeLessThanOrEqual(700);
      expect(y).toBeGreaterThanOrEqual(36);
      expect(y).toBeLessThanOrEqual(316);
    }
  }
  expect(svg).toContain("Loss (nats per token), 1.2");
  expect(svg).toContain(">2.0 M<");
});

test("no steps give a chart without lines", () => {
  expect(lossChart([])).toContain("Loss</text>");
});
