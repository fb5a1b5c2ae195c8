import { expect, test } from "vitest";
import { barChart, lineChart, niceCeiling } from "./chart.ts";
import { spreadOf } from "./statistics.ts";

/** Numbers of an attribute of all elements of a kind. */
function attributes(svg: string, element: string, attribute: string): number[] {
  const elements = svg.match(new RegExp(`<${element} [^>]*>`, "g")) ?? [];
  return elements.map((found) => Number(new RegExp(` ${attribute}="([^"]*)"`).exec(found)![1]));
}

test("bars are as long as their medians, on a common scale from zero", () => {
  const svg = barChart(
    "speed",
    [
      { label: "one", bars: [{ label: "a", kind: "x", value: spreadOf([1, 2, 3]) }] },
      {
        label: "two",
        bars: [
          { label: "a", kind: "x", value: spreadOf([4]) },
          { label: "b", kind: "y", value: spreadOf([1]) },
        ],
      },
    ],
    1,
    1,
  );
  const bars = attributes(svg, "rect", "width").filter((_, i) => attributes(svg, "rect", "height")[i] === 16);
  const [first, second, third] = bars;
  expect(first! / second!).toBeCloseTo(0.5, 2);
  expect(third! / second!).toBeCloseTo(0.25, 2);
  expect(svg).toContain("stroke-dasharray");
});

test("a higher value lies higher, and a missing one leaves a gap and no point", () => {
  const values = [spreadOf([1]), null, spreadOf([2]), spreadOf([4])];
  const svg = lineChart(
    "cost",
    "threads",
    "ms",
    ["1", "2", "3", "4"],
    [{ label: "decode", kind: "a", isDashed: false, values }],
  );
  const heights = attributes(svg, "circle", "cy");
  expect(heights).toHaveLength(3);
  expect(heights[0]!).toBeGreaterThan(heights[1]!);
  expect(heights[1]!).toBeGreaterThan(heights[2]!);
});

test("text is escaped, so that any label gives well-formed XML", () => {
  const svg = barChart('<a> & "b"', [], 1);
  expect(svg).toContain("<title>&lt;a&gt; &amp; &quot;b&quot;</title>");
});

test("axes end at a round number that holds the largest value", () => {
  expect([0, 0.31, 1, 1.01, 23, 430, 9.2].map(niceCeiling)).toEqual([1, 0.4, 1, 2, 25, 500, 10]);
});

test("nothing lies outside the chart, however long or many the labels are", () => {
  const long = "rwkv wasm-relaxed, Node 24, q8";
  const bars = barChart(
    "speed",
    [{ label: "one", bars: [{ label: long, kind: "x", value: spreadOf([1]) }] }],
    1,
  );
  const lines = ["a", "b", "c", "d", "e", "f"].map((kind) => ({
    label: `${long} ${kind}`,
    kind,
    isDashed: kind > "c",
    values: [spreadOf([1]), spreadOf([2])],
  }));
  const chart = lineChart("cost", "threads", "ms", ["1", "2"], lines);
  for (const svg of [bars, chart]) {
    const [width, height] = attributes(svg, "svg", "width").concat(attributes(svg, "svg", "height"));
    const starts = svg.match(/<text [^>]*>[^<]*/g)!.map((element) => {
      const x = Number(/ x="([^"]*)"/.exec(element)![1]);
      const extent = element.split(">")[1]!.length * 6.5;
      const anchor = /text-anchor="([^"]*)"/.exec(element)![1];
      return anchor === "start" ? [x, x + extent] : anchor === "end" ? [x - extent, x] : [x, x];
    });
    for (const [from, to] of starts) {
      expect(from).toBeGreaterThanOrEqual(0);
      expect(to).toBeLessThanOrEqual(width!);
    }
    for (const y of attributes(svg, "text", "y")) expect(y).toBeLessThanOrEqual(height!);
  }
  expect(new Set(chart.match(/polyline [^>]*stroke="(#[0-9a-f]+)"/g)).size).toBeGreaterThan(4);
});
