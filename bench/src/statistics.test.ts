import { expect, test } from "vitest";
import { formatSpread, spreadOf } from "./statistics.ts";

test("the median of an odd count is the middle value, that of an even count lies between the two", () => {
  expect(spreadOf([3, 10, 1])).toEqual({ median: 3, min: 1, max: 10 });
  expect(spreadOf([4, 10, 2, 1])).toEqual({ median: 3, min: 1, max: 10 });
  expect(spreadOf([7])).toEqual({ median: 7, min: 7, max: 7 });
});

test("a spread is shown only where there is one", () => {
  expect(formatSpread(spreadOf([1.25, 2, 3.5]), 1)).toBe("2.0 (1.3 to 3.5)");
  expect(formatSpread(spreadOf([2]), 2)).toBe("2.00");
});
