import { describe, expect, test } from "vitest";
import type { WeightDType } from "../core/dtype.ts";
import { ShapeError } from "../core/errors.ts";
import { createOps } from "./create-ops.ts";
import type { Ops } from "./ops.ts";
import { operandsOf, SIGNATURES, type OpCall, type OpName } from "./signature.ts";
import type { RowKind, Tensor, TensorKind } from "./tensor.ts";

type Tensors = Readonly<Record<string, Tensor>>;

interface CallForm {
  /** Right arguments by name, list elements as `outs[0]`. */
  readonly tensors: Tensors;
  readonly call: (ops: Ops, t: (argument: string) => Tensor) => void;
}

const C = 12;
const [H, N] = [3, 4];

let nMade = 0;
function tensor(
  kind: TensorKind,
  rows: RowKind,
  name: string,
  shape: readonly number[],
  dtype: WeightDType = "f32",
): Tensor {
  return { index: nMade++, kind, rows, name, shape, dtype };
}
const row = (name: string, width = C): Tensor => tensor("scratch", "token", name, [width]);
const weight = (name: string, ...shape: readonly number[]): Tensor => tensor("weight", "none", name, shape);
const state = (name: string, ...shape: readonly number[]): Tensor => tensor("state", "none", name, shape);

/** Tensors named after their arguments. */
function named(make: (name: string) => Tensor, ...names: readonly string[]): Tensors {
  return Object.fromEntries(names.map((name) => [name, make(name)]));
}
const rows = (...names: readonly string[]): Tensors => named(row, ...names);
const vectors = (...names: readonly string[]): Tensors => named((name) => weight(name, C), ...names);

/** One right call of each operation. */
const FORMS: Readonly<Record<OpName, CallForm>> = {
  layerNorm: {
    tensors: { ...rows("out", "x"), ...vectors("weight", "bias") },
    call: (ops, t) => ops.layerNorm(t("out"), t("x"), { weight: t("weight"), bias: t("bias") }, 1e-5),
  },
  groupNorm: {
    tensors: { ...rows("out", "x"), ...vectors("weight", "bias") },
    call: (ops, t) => ops.groupNorm(t("out"), t("x"), { weight: t("weight"), bias: t("bias") }, H, 1e-5),
  },
  tokenShift: {
    tensors: {
      ...rows("outs[0]", "outs[1]", "x"),
      shift: state("shift", C),
      ...vectors("mix[0]", "mix[1]"),
    },
    call: (ops, t) =>
      ops.tokenShift([t("outs[0]"), t("outs[1]")], t("x"), t("shift"), [t("mix[0]"), t("mix[1]")]),
  },
  shiftDelta: {
    tensors: { ...rows("out", "x"), shift: state("shift", C) },
    call: (ops, t) => ops.shiftDelta(t("out"), t("x"), t("shift")),
  },
  addMul: {
    tensors: { ...rows("out", "x", "a"), ...vectors("b") },
    call: (ops, t) => ops.addMul(t("out"), t("x"), t("a"), t("b")),
  },
  matmul: {
    tensors: { out: row("out", 7), w: weight("w", 7, C), x: row("x") },
    call: (ops, t) => ops.matmul(t("out"), t("w"), t("x")),
  },
  lora: {
    tensors: {
      out: row("out", 7),
      x: row("x"),
      down: weight("down", 2, C),
      up: weight("up", 7, 2),
      bias: weight("bias", 7),
    },
    call: (ops, t) =>
      ops.lora(t("out"), t("x"), { down: t("down"), up: t("up"), bias: t("bias") }, "tanh", "none"),
  },
  activate: { tensors: rows("out", "x"), call: (ops, t) => ops.activate(t("out"), t("x"), "silu") },
  add: { tensors: rows("x", "y"), call: (ops, t) => ops.add(t("x"), t("y"), 1) },
  mul: { tensors: rows("x", "y"), call: (ops, t) => ops.mul(t("x"), t("y")) },
  lerp: {
    tensors: rows("x", "target", "weight"),
    call: (ops, t) => ops.lerp(t("x"), t("target"), t("weight")),
  },
  copy: { tensors: rows("out", "x"), call: (ops, t) => ops.copy(t("out"), t("x")) },
  selectRows: {
    tensors: { out: tensor("output", "logit", "out", [C]), x: row("x") },
    call: (ops, t) => ops.selectRows(t("out"), t("x")),
  },
  l2NormHeads: {
    tensors: { ...rows("out", "x"), ...vectors("scale") },
    call: (ops, t) => ops.l2NormHeads(t("out"), t("x"), t("scale"), H, 1e-12),
  },
  scaleKey: {
    tensors: { ...rows("k", "a"), ...vectors("kA") },
    call: (ops, t) => ops.scaleKey(t("k"), t("a"), t("kA")),
  },
  addBonus: {
    tensors: { ...rows("y", "r", "k", "v"), ...vectors("rK") },
    call: (ops, t) => ops.addBonus(t("y"), t("r"), t("k"), t("v"), t("rK"), H),
  },
  wkv4: {
    tensors: {
      ...rows("y", "k", "v"),
      ...named((name) => state(name, C), "aa", "bb", "pp"),
      ...vectors("decay", "first"),
    },
    call: (ops, t) =>
      ops.wkv4(t("y"), { aa: t("aa"), bb: t("bb"), pp: t("pp") }, t("k"), t("v"), t("decay"), t("first")),
  },
  wkv6: {
    tensors: { ...rows("y", "r", "k", "v", "decay"), ...vectors("first"), wkv: state("wkv", H, N, N) },
    call: (ops, t) => ops.wkv6(t("y"), t("wkv"), t("r"), t("k"), t("v"), t("decay"), t("first")),
  },
  wkv7: {
    tensors: { ...rows("y", "r", "w", "k", "v", "kk", "a"), wkv: state("wkv", H, N, N) },
    call: (ops, t) => ops.wkv7(t("y"), t("wkv"), t("r"), t("w"), t("k"), t("v"), t("kk"), t("a")),
  },
};

const OP_NAMES = Object.keys(SIGNATURES) as OpName[];

/** What reaches the backend from one operation, some of its tensors replaced. */
function emit(op: OpName, replaced: Tensors = {}): OpCall[] {
  const { tensors, call } = FORMS[op];
  const calls: OpCall[] = [];
  call(
    createOps((emitted) => calls.push(emitted)),
    (argument) => replaced[argument] ?? tensors[argument]!,
  );
  return calls;
}

describe.each(OP_NAMES)("%s", (op) => {
  const { tensors } = FORMS[op];
  const argumentNames = Object.keys(tensors);

  test("a right call reaches the backend once, with every tensor under its name", () => {
    const calls = emit(op);
    expect(calls.map((call) => call.op)).toEqual([op]);
    const operands = operandsOf(calls[0]!);
    expect(Object.fromEntries(operands.map(({ argument, tensor: found }) => [argument, found]))).toEqual(
      tensors,
    );
  });

  test.each(argumentNames)("%s of another width is refused with the operation and handles named", (name) => {
    const right = tensors[name]!;
    const shape = [...right.shape.slice(0, -1), right.shape.at(-1)! + 1];
    const wrong = { ...right, name: "wrong", shape };
    const attempt = (): unknown => emit(op, { [name]: wrong });
    expect(attempt).toThrow(ShapeError);
    expect(attempt).toThrow(new RegExp(`^${op}: .*"\\w+(\\[\\d\\])?"`));
  });

  test.each(argumentNames)("%s of another kind is refused", (name) => {
    const right = tensors[name]!;
    const others: Tensor[] = [];
    if (right.kind === "weight") others.push({ ...right, kind: "state" });
    if (right.kind === "state") others.push({ ...right, kind: "scratch", rows: "token" });
    if (right.rows === "token")
      others.push({ ...right, rows: "logit" }, { ...right, kind: "state", rows: "none" });
    if (right.rows === "logit") others.push({ ...right, rows: "token" });
    for (const other of others) {
      // addMul and wkv6 take one row for all or a row for each.
      const isAllowed = ["addMul b", "wkv6 decay"].includes(`${op} ${name}`) && other.kind === "weight";
      if (!isAllowed) expect(() => emit(op, { [name]: other })).toThrow(ShapeError);
    }
  });

  test("a destination that is a weight or an input is refused by name", () => {
    for (const { argument, role, tensor: right } of operandsOf(emit(op)[0]!)) {
      if (role === "in") continue;
      for (const kind of ["weight", "input"] as const) {
        expect(() => emit(op, { [argument]: { ...right, kind } })).toThrow(
          `${op}: ${argument} is written, but ${kind} "${right.name}"`,
        );
      }
    }
  });
});

describe("vectors", () => {
  test.each<[OpName, string]>([
    ["layerNorm", "weight"],
    ["groupNorm", "bias"],
    ["tokenShift", "mix[1]"],
    ["addMul", "b"],
    ["lora", "bias"],
    ["l2NormHeads", "scale"],
    ["scaleKey", "kA"],
    ["addBonus", "rK"],
    ["wkv4", "decay"],
    ["wkv6", "first"],
  ])("%s refuses %s in f16", (op, name) => {
    const half: Tensor = { ...FORMS[op].tensors[name]!, dtype: "f16" };
    expect(() => emit(op, { [name]: half })).toThrow(`${op}: expected an f32 weight of`);
  });
});

test("matmul and lora take matrices of any weight type", () => {
  const w: Tensor = { ...FORMS.matmul.tensors["w"]!, dtype: "q8_0" };
  expect(emit("matmul", { w })).toHaveLength(1);
  const up: Tensor = { ...FORMS.lora.tensors["up"]!, dtype: "bf16" };
  expect(emit("lora", { up })).toHaveLength(1);
});

test("addMul and wkv6 take their last operand as a weight or as rows", () => {
  expect(emit("addMul", { b: row("b") })).toHaveLength(1);
  expect(emit("wkv6", { decay: weight("decay", C) })).toHaveLength(1);
});

test("rows handed in by the caller can be read", () => {
  expect(emit("matmul", { x: tensor("input", "token", "x", [C]) })).toHaveLength(1);
});

test("lora without a bias has no operand for it", () => {
  const calls: OpCall[] = [];
  const { out, x, down, up } = FORMS.lora.tensors as Readonly<Record<"out" | "x" | "down" | "up", Tensor>>;
  createOps((call) => calls.push(call)).lora(out, x, { down, up, bias: null }, "none", "none");
  expect(operandsOf(calls[0]!).map(({ argument }) => argument)).toEqual(["out", "x", "down", "up"]);
});

test("tokenShift refuses another number of outputs than of mix vectors", () => {
  const { x, shift } = FORMS.tokenShift.tensors as Readonly<Record<"x" | "shift", Tensor>>;
  const ops = createOps(() => undefined);
  expect(() => {
    ops.tokenShift([row("a"), row("b")], x, shift, [weight("mix", C)]);
  }).toThrow("tokenShift: 2 outputs for 1 mix vectors");
});

test("tokenShift refuses one output given twice", () => {
  const both = row("both");
  expect(() => emit("tokenShift", { "outs[0]": both, "outs[1]": both })).toThrow(
    "tokenShift: an output stands twice",
  );
});

test.each<OpName>(["tokenShift", "shiftDelta", "wkv4", "wkv6", "wkv7"])(
  "%s works on token rows only",
  (op) => {
    const logitRows = Object.entries(FORMS[op].tensors)
      .filter(([, { rows: kind }]) => kind === "token")
      .map(([name, right]) => [name, { ...right, rows: "logit" }] as [string, Tensor]);
    expect(() => emit(op, Object.fromEntries(logitRows))).toThrow(
      `${op}: works on whole runs, so on token rows`,
    );
  },
);

test.each<[OpName, string, string]>([
  ["tokenShift", "outs[1]", "x"],
  ["shiftDelta", "out", "x"],
  ["addBonus", "y", "r"],
  ["wkv4", "y", "v"],
  ["wkv6", "y", "decay"],
  ["wkv7", "y", "kk"],
])("%s refuses %s that is also %s", (op, out, input) => {
  const both = row("both");
  expect(() => emit(op, { [out]: both, [input]: both })).toThrow(
    `${op}: scratch "both" (token rows of [12], f32) is both written and read`,
  );
});

test("matmul and lora refuse out that is also x", () => {
  const both = row("both");
  expect(() => emit("matmul", { out: both, x: both, w: weight("w", C, C) })).toThrow("both written and read");
  expect(() => emit("lora", { out: both, x: both, up: weight("up", C, 2), bias: weight("bias", C) })).toThrow(
    "both written and read",
  );
});

test.each<[OpName, string]>([
  ["layerNorm", "x"],
  ["groupNorm", "x"],
  ["addMul", "a"],
  ["activate", "x"],
  ["l2NormHeads", "x"],
])("%s works in place", (op, input) => {
  const both = row("both");
  expect(emit(op, { out: both, [input]: both })).toHaveLength(1);
});

describe("heads", () => {
  const ops = createOps(() => undefined);
  const [x, w] = [row("x"), weight("w", C)];
  test.each([0, -3, 1.5, 5, NaN])("%d heads do not divide 12 channels", (heads) => {
    const message = `${heads} heads do not divide scratch "x"`;
    expect(() => {
      ops.groupNorm(x, x, { weight: w, bias: w }, heads, 1e-5);
    }).toThrow(message);
    expect(() => {
      ops.l2NormHeads(x, x, w, heads, 1e-12);
    }).toThrow(message);
    expect(() => {
      ops.addBonus(x, x, x, x, w, heads);
    }).toThrow(message);
  });

  test.each([[[H, N + 1, N]], [[H + 1, N, N]], [[C * N]], [[H, N * N]]])(
    "a wkv state of shape %j is refused",
    (shape) => {
      const message = "expected a state [H, N, N] with H * N = 12";
      expect(() => emit("wkv6", { wkv: state("S", ...shape) })).toThrow(message);
      expect(() => emit("wkv7", { wkv: state("S", ...shape) })).toThrow(message);
    },
  );
});
