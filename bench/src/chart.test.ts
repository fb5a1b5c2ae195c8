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
      { label: "one", bars: [{ label: "a", value: spreadOf([1, 2, 3]) }] },
      {
        label: "two",
        bars: [
          { label: "a", value: spreadOf([4]) },
          { label: "b", value: spreadOf([1]) },
        ],
      },
    ],
    1,
    1,
  );
  const [background, first, second, third] = attributes(svg, "rect", "width");
  expect(background).toBe(720);
  expect(first! / second!).toBeCloseTo(0.5, 2);
  expect(third! / second!).toBeCloseTo(0.25, 2);
  expect(svg).toContain("stroke-dasharray");
});

test("a higher value lies higher, and a missing one leaves a gap and no point", () => {
  const values = [spreadOf([1]), null, spreadOf([2]), spreadOf([4])];
  const svg = lineChart("cost", "threads", "ms", ["1", "2", "3", "4"], [{ label: "decode", values }]);
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
