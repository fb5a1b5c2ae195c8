import { expect, test } from "vitest";
import { operandsOf, SIGNATURES, type OpCall } from "./signature.ts";
import { rowElements, type Tensor } from "./tensor.ts";

const tensor = (name: string, ...shape: readonly number[]): Tensor => ({
  index: 0,
  kind: "scratch",
  rows: "token",
  name,
  shape,
  dtype: "f32",
});

test("operands come in the order of the table, a list once per element", () => {
  const call: OpCall = {
    op: "tokenShift",
    mix: [tensor("m0"), tensor("m1")],
    outs: [tensor("o0"), tensor("o1")],
    shift: tensor("s"),
    x: tensor("x"),
  };
  expect(operandsOf(call).map(({ argument, role, tensor: { name } }) => [argument, role, name])).toEqual([
    ["outs[0]", "out", "o0"],
    ["outs[1]", "out", "o1"],
    ["x", "in", "x"],
    ["shift", "inout", "s"],
    ["mix[0]", "in", "m0"],
    ["mix[1]", "in", "m1"],
  ]);
});

test("an absent bias and arguments that are no tensors are left out", () => {
  const [out, x, down, up] = [tensor("out"), tensor("x"), tensor("down"), tensor("up")];
  const call: OpCall = { op: "lora", out, x, down, up, bias: null, inner: "tanh", outer: "none" };
  expect(operandsOf(call).map(({ tensor: operand }) => operand)).toEqual([out, x, down, up]);
});

test("every operation writes something, and states are read and written", () => {
  const states = ["shift", "aa", "bb", "pp", "wkv"];
  for (const [op, roles] of Object.entries(SIGNATURES)) {
    expect(
      Object.values<string>(roles).some((role) => role !== "in"),
      op,
    ).toBe(true);
    for (const [argument, role] of Object.entries(roles)) {
      if (states.includes(argument)) expect(role, `${op} ${argument}`).toBe("inout");
    }
  }
});

test("a row has the product of its shape, one element for a scalar", () => {
  expect(rowElements(tensor("S", 2, 3, 4))).toBe(24);
  expect(rowElements(tensor("scalar"))).toBe(1);
});
