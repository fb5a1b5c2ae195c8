import { expect, test } from "vitest";
import { wildcardSource } from "./wildcard.ts";

const fits = (pattern: string, name: string): boolean =>
  new RegExp(`^${wildcardSource(pattern)}$`, "s").test(name);

test("a star stands for any characters, everything else for itself", () => {
  expect(fits("blocks.*.att.k", "blocks.12.att.k")).toBe(true);
  expect(fits("*", "")).toBe(true);
  expect(fits("*.k", "blocks.0.att.kk")).toBe(false);
  expect(fits("blocks.0", "blocks10")).toBe(false);
  expect(fits("a+(b)[c]{d}^$|?\\", "a+(b)[c]{d}^$|?\\")).toBe(true);
});
