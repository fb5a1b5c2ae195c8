import { expect, test } from "vitest";
import type { OpCall } from "./signature.ts";
import { withTaps } from "./taps.ts";
import type { Tensor } from "./tensor.ts";

const tensors = ["x", "y"].map((name, index): Tensor => ({
  index,
  kind: "scratch",
  rows: "token",
  name,
  shape: [4],
  dtype: "f32",
}));
const [x, y] = tensors as [Tensor, Tensor];
const CALLS: readonly OpCall[] = [
  { op: "activate", out: y, x, f: "tanh" },
  { op: "add", x: y, y: x, scale: 1 },
];

test("a copy stands behind as many operations as the tap says, several in the order of the taps", () => {
  const taps = [
    { tensor: y, nCalls: 2 },
    { tensor: x, nCalls: 0 },
    { tensor: y, nCalls: 1 },
    { tensor: x, nCalls: 1 },
  ];
  const tapped = withTaps(CALLS, tensors, taps);
  const [afterAll, before, between, alsoBetween] = tapped.copies;
  expect(tapped.calls).toEqual([
    { op: "copy", out: before, x },
    CALLS[0],
    { op: "copy", out: between, x: y },
    { op: "copy", out: alsoBetween, x },
    CALLS[1],
    { op: "copy", out: afterAll, x: y },
  ]);
});

test("copies are outputs like what they copy, numbered behind all handles", () => {
  const { copies, tensors: all } = withTaps(CALLS, tensors, [{ tensor: y, nCalls: 1 }]);
  expect(copies).toEqual([{ ...y, index: 2, kind: "output" }]);
  expect(all).toEqual([x, y, copies[0]]);
});

test("without taps nothing changes", () => {
  expect(withTaps(CALLS, tensors, [])).toEqual({ calls: CALLS, tensors, copies: [] });
});
