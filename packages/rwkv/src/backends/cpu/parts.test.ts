import { describe, expect, test } from "vitest";
import { createOps } from "../../ops/create-ops.ts";
import type { Ops } from "../../ops/ops.ts";
import type { OpCall } from "../../ops/signature.ts";
import type { RowKind, Tensor } from "../../ops/tensor.ts";
import * as abi from "./abi.ts";
import { lower } from "./commands.ts";
import { cutIntoParts, type CommandParts } from "./parts.ts";

let index = 0;
const declare = (kind: Tensor["kind"], rows: RowKind, name: string, shape: number[]): Tensor => ({
  index: index++,
  kind,
  rows,
  name,
  shape,
  dtype: "f32",
});
/** The memory that a weight of these tests lies in is in its name. */
const weight = (name: string, ...shape: number[]): Tensor => declare("weight", "none", name, shape);
const memoryOfWeight = ({ name }: Tensor): number => Number(name.at(-1));
const rows = (name: string, width = 8): Tensor => declare("scratch", "token", name, [width]);
const state = (name: string, ...shape: number[]): Tensor => declare("state", "none", name, shape);

function cut(forward: (ops: Ops) => void): CommandParts {
  const calls: OpCall[] = [];
  forward(createOps((call) => calls.push(call)));
  const commands = lower(calls, (width) => rows("hidden", width));
  return cutIntoParts(commands, 4, memoryOfWeight);
}

/** Of each part its memory, its operations and the names of what is copied before it. */
const described = ({ parts }: CommandParts): unknown[] =>
  parts.map(({ memory, commands, copies }) => [
    memory,
    commands.map(({ op }) => op),
    copies.map(({ tensor, from }) => `${tensor.name} from ${from}`),
  ]);

const input = declare("input", "token", "input", [8]);
const [x, xn, xk, dx] = [rows("x"), rows("xn"), rows("xk"), rows("dx")];
const [w0, w1, w2] = [weight("w0", 8, 8), weight("w1", 8, 8), weight("w2", 8, 8)];
const v0 = weight("v0", 8);
const v1 = weight("v1", 8);

/** A layer in the manner of the models: a norm, a shift, a product, a sum. */
function layer(ops: Ops, w: Tensor, shift: Tensor): void {
  ops.layerNorm(xn, x, { weight: v1, bias: v1 }, 1e-5);
  ops.tokenShift([xk], xn, shift, [v0]);
  ops.matmul(dx, w, xk);
  ops.add(x, dx, 1);
}

const LAYER = [abi.OP_LAYER_NORM, abi.OP_TOKEN_SHIFT, abi.OP_MATMUL, abi.OP_ADD];

test("with all weights in one memory there is one part and no copy", () => {
  const parts = cut((ops) => {
    ops.copy(x, input);
    layer(ops, w0, state("a", 8));
    layer(ops, w0, state("b", 8));
  });
  expect(described(parts)).toEqual([[0, [abi.OP_COPY, ...LAYER, ...LAYER], []]]);
});

test("a program without commands has one empty part", () => {
  expect(described(cut(() => undefined))).toEqual([[0, [], []]]);
});

test("layers are cut where only the stream is alive, wherever the vectors lie", () => {
  const [a, b] = [state("a", 8), state("b", 8)];
  const parts = cut((ops) => {
    ops.copy(x, input);
    layer(ops, w0, a);
    layer(ops, w1, b);
  });
  expect(described(parts)).toEqual([
    [0, [abi.OP_COPY, ...LAYER], []],
    [1, LAYER, ["x from 0"]],
  ]);
  expect([a, b, input].map(parts.memoryOf)).toEqual([0, 1, 0]);
});

test("what comes before the first product and behind the last one goes with them", () => {
  const output = declare("output", "logit", "output", [8]);
  const parts = cut((ops) => {
    ops.layerNorm(x, input, { weight: v0, bias: v0 }, 1e-5);
    ops.matmul(dx, w1, x);
    ops.selectRows(output, dx);
  });
  expect(described(parts)).toEqual([[1, [abi.OP_LAYER_NORM, abi.OP_MATMUL, abi.OP_SELECT_ROWS], []]]);
  expect([input, output].map(parts.memoryOf)).toEqual([1, 1]);
});

test("rows are copied once into each memory that reads them, and anew when they have changed", () => {
  const first = rows("first");
  const parts = cut((ops) => {
    ops.matmul(first, w0, input);
    ops.matmul(x, w1, first);
    ops.matmul(x, w2, first);
    ops.matmul(x, w1, first); // lies there since the second part
    ops.matmul(first, w0, x);
    ops.matmul(x, w1, first); // has changed
  });
  expect(described(parts).map((part) => (part as unknown[])[2])).toEqual([
    [],
    ["first from 0"],
    ["first from 0"],
    [],
    ["x from 1"],
    ["first from 0"],
  ]);
});

test("rows that are changed in place are read, those that are overwritten are not", () => {
  const y = rows("y");
  const changed = cut((ops) => {
    ops.matmul(x, w0, input);
    ops.matmul(y, w1, input);
    ops.mul(y, x);
  });
  expect(described(changed)[1]).toEqual([1, [abi.OP_MATMUL, abi.OP_MUL], ["input from 0", "x from 0"]]);
  const overwritten = cut((ops) => {
    ops.matmul(x, w0, input);
    ops.matmul(y, w0, x);
    ops.matmul(x, w1, y);
  });
  expect(described(overwritten)[1]).toEqual([1, [abi.OP_MATMUL], ["y from 0"]]);
});

describe("a state", () => {
  test("that several commands use keeps them in one memory", () => {
    const shared = state("shared", 8);
    const parts = cut((ops) => {
      ops.matmul(x, w1, input);
      ops.shiftDelta(dx, x, shared);
      ops.matmul(x, w2, dx);
      ops.tokenShift([xn], x, shared, [v1]);
      ops.matmul(dx, w2, xn);
    });
    expect(described(parts).map((part) => (part as unknown[])[0])).toEqual([1, 0, 2, 0, 2]);
    expect(parts.memoryOf(shared)).toBe(0);
  });

  test("that no command uses lies in the first memory", () => {
    const parts = cut((ops) => ops.matmul(x, w2, input));
    expect(parts.memoryOf(state("unused", 8))).toBe(0);
  });
});
