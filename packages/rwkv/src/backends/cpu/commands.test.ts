import { describe, expect, test } from "vitest";
import { createOps } from "../../ops/create-ops.ts";
import type { Ops } from "../../ops/ops.ts";
import { operandsOf, SIGNATURES, type OpCall } from "../../ops/signature.ts";
import type { RowKind, Tensor } from "../../ops/tensor.ts";
import * as abi from "./abi.ts";
import { lower, matrixRowBytes, roleOf, rowsOf, workPerRow, type Command } from "./commands.ts";

/** Handles by name, the numbers given in order. */
function declareAll(): {
  weight: (name: string, ...shape: number[]) => Tensor;
  rows: (name: string, width: number, rows?: RowKind) => Tensor;
  state: (name: string, ...shape: number[]) => Tensor;
} {
  let index = 0;
  const declare = (kind: Tensor["kind"], rows: RowKind, name: string, shape: number[]): Tensor => ({
    index: index++,
    kind,
    rows,
    name,
    shape,
    dtype: "f32",
  });
  return {
    weight: (name, ...shape) => declare("weight", "none", name, shape),
    rows: (name, width, rows = "token") => declare("scratch", rows, name, [width]),
    state: (name, ...shape) => declare("state", "none", name, shape),
  };
}

function lowered(forward: (ops: Ops) => void): { commands: Command[]; made: Tensor[] } {
  const calls: OpCall[] = [];
  forward(createOps((call) => calls.push(call)));
  const made: Tensor[] = [];
  const commands = lower(calls, (width, rows) => {
    const tensor = declareAll().rows("hidden", width, rows);
    made.push(tensor);
    return tensor;
  });
  return { commands, made };
}

describe("fusing activations", () => {
  const { weight, rows } = declareAll();
  const w = weight("w", 4, 8);
  const x = rows("x", 8);
  const out = rows("out", 4);
  const other = rows("other", 4);

  test("a product that is then activated in place is one command", () => {
    const { commands } = lowered((ops) => {
      ops.matmul(out, w, x);
      ops.activate(out, out, "reluSquared");
    });
    expect(commands).toEqual([
      { op: abi.OP_MATMUL, operands: [out, w, x], heads: 1, scalar: 0, activation: "reluSquared" },
    ]);
  });

  test("a second activation stays a command of its own", () => {
    const { commands } = lowered((ops) => {
      ops.matmul(out, w, x);
      ops.activate(out, out, "tanh");
      ops.activate(out, out, "sigmoid");
    });
    expect(commands.map(({ op, activation }) => [op, activation])).toEqual([
      [abi.OP_MATMUL, "tanh"],
      [abi.OP_ACTIVATE, "sigmoid"],
    ]);
  });

  test("an activation into other rows is not fused, since the product may be read later", () => {
    const { commands } = lowered((ops) => {
      ops.matmul(out, w, x);
      ops.activate(other, out, "tanh");
    });
    expect(commands.map(({ op }) => op)).toEqual([abi.OP_MATMUL, abi.OP_ACTIVATE]);
  });

  test("an activation of other rows, or after another operation, is not fused", () => {
    const { commands } = lowered((ops) => {
      ops.matmul(out, w, x);
      ops.activate(other, other, "tanh");
      ops.matmul(out, w, x);
      ops.mul(other, out);
      ops.activate(out, out, "tanh");
    });
    expect(commands.map(({ op }) => op)).toEqual([
      abi.OP_MATMUL,
      abi.OP_ACTIVATE,
      abi.OP_MATMUL,
      abi.OP_MUL,
      abi.OP_ACTIVATE,
    ]);
  });
});

describe("low-rank maps", () => {
  const { weight, rows } = declareAll();
  const x = rows("x", 8);
  const out = rows("out", 6);
  const down = weight("down", 3, 8);
  const up = weight("up", 6, 3);
  const bias = weight("bias", 6);

  test("become two products with their activations, through rows of their rank", () => {
    const { commands, made } = lowered((ops) => ops.lora(out, x, { down, up, bias }, "tanh", "decay7"));
    const [hidden] = made;
    expect(hidden!.shape).toEqual([3]);
    expect(commands.map(({ op, operands, activation }) => ({ op, operands, activation }))).toEqual([
      { op: abi.OP_MATMUL, operands: [hidden, down, x], activation: "tanh" },
      { op: abi.OP_MATMUL_BIAS, operands: [out, up, hidden, bias], activation: "decay7" },
    ]);
  });

  test("without a bias end in a plain product, and an activation after them is not fused into another", () => {
    const { commands } = lowered((ops) => {
      ops.lora(out, x, { down, up, bias: null }, "none", "sigmoid");
      ops.activate(out, out, "tanh");
    });
    expect(commands.map(({ op, activation }) => [op, activation])).toEqual([
      [abi.OP_MATMUL, "none"],
      [abi.OP_MATMUL, "sigmoid"],
      [abi.OP_ACTIVATE, "tanh"],
    ]);
  });

  test("take turns with six rows of each rank and kind, so that a layer's first factors can all run first", () => {
    const logitX = rows("last", 8, "logit");
    const logitOut = rows("lastOut", 6, "logit");
    const { commands, made } = lowered((ops) => {
      for (let i = 0; i < 8; i++) ops.lora(out, x, { down, up, bias }, "tanh", "none");
      ops.lora(logitOut, logitX, { down, up, bias }, "tanh", "none");
    });
    expect(made.map((tensor) => tensor.rows)).toEqual([...new Array<string>(6).fill("token"), "logit"]);
    const used = commands.filter((_, i) => i % 2 === 0).map(({ operands }) => operands[0]);
    expect(used).toEqual([...made.slice(0, 6), made[0], made[1], made[6]]);
  });
});

describe("records", () => {
  const { weight, rows, state } = declareAll();
  const x = rows("x", 8);

  test("token shift names its outputs and mixes in pairs, however many", () => {
    const outs = [rows("a", 8), rows("b", 8), rows("c", 8)];
    const mix = outs.map(({ name }) => weight(`mix ${name}`, 8));
    const shift = state("shift", 8);
    const { commands } = lowered((ops) => ops.tokenShift(outs, x, shift, mix));
    expect(commands[0]!.operands).toEqual([x, shift, outs[0], mix[0], outs[1], mix[1], outs[2], mix[2]]);
    expect(rowsOf(commands[0]!)).toBe("token");
  });

  test("a recurrence takes its heads from the state", () => {
    const S = state("wkv", 2, 4, 4);
    const y = rows("y", 8);
    const { commands } = lowered((ops) => ops.wkv7(y, S, x, x, x, x, x, x));
    expect(commands[0]!.heads).toBe(2);
    expect(workPerRow(commands[0]!)).toBe(4 * 32);
  });

  test("a product knows the bytes of a row of its matrix and its multiply-adds", () => {
    const w: Tensor = { ...weight("w", 5, 64), dtype: "q8_0" };
    const { commands } = lowered((ops) => ops.matmul(rows("out", 5), w, rows("in", 64)));
    expect(matrixRowBytes(commands[0]!)).toBe(2 * 34);
    expect(workPerRow(commands[0]!)).toBe(5 * 64);
  });
});

test("commands read and write what the signatures of their operations say", () => {
  const { weight, rows, state } = declareAll();
  const [x, y] = [rows("x", 8), rows("y", 8)];
  const [a, b, c] = [rows("a", 8), rows("b", 8), rows("c", 8)];
  const [d, e, f] = [rows("d", 8), rows("e", 8), rows("f", 8)];
  const v = weight("v", 8);
  const norm = { weight: v, bias: v };
  const calls: OpCall[] = [];
  const ops = createOps((call) => calls.push(call));
  ops.layerNorm(x, y, norm, 1e-5);
  ops.groupNorm(x, y, norm, 2, 1e-5);
  ops.tokenShift([a, b], x, state("shift", 8), [v, v]);
  ops.shiftDelta(a, x, state("delta", 8));
  ops.addMul(x, y, a, b);
  ops.matmul(x, weight("w", 8, 8), y);
  ops.lora(x, y, { down: weight("down", 2, 8), up: weight("up", 8, 2), bias: v }, "tanh", "none");
  ops.activate(x, y, "tanh");
  ops.add(x, y, 2);
  ops.mul(x, y);
  ops.lerp(x, y, a);
  ops.copy(x, y);
  ops.selectRows(rows("last", 8, "logit"), x);
  ops.l2NormHeads(x, y, v, 2, 1e-5);
  ops.scaleKey(x, y, v);
  ops.addBonus(x, y, a, b, v, 2);
  const [aa, bb, pp] = [state("aa", 8), state("bb", 8), state("pp", 8)];
  ops.wkv4(x, { aa, bb, pp }, a, b, v, v);
  ops.wkv6(x, state("wkv6", 2, 4, 4), y, a, b, v, v);
  ops.wkv7(x, state("wkv7", 2, 4, 4), y, a, b, c, d, e);
  expect(new Set(calls.map(({ op }) => op))).toEqual(new Set(Object.keys(SIGNATURES)));
  for (const call of calls) {
    const roles = new Map(operandsOf(call).map(({ tensor, role }) => [tensor, role]));
    for (const command of lower([call], () => f)) {
      command.operands.forEach((tensor, i) => {
        const isHidden = tensor === f; // between the factors of a low-rank map
        const want = isHidden ? (i === 0 ? "out" : "in") : roles.get(tensor);
        expect(roleOf(command, i), `${call.op}: ${tensor.name}`).toBe(want);
      });
    }
  }
});
