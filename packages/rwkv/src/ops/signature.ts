// One table that says, for every operation, which arguments are written, which are read, and which are both. Nothing
// is read or written that is not an argument, so that backends can derive barriers, versions and gradients from it.

import type { Activation } from "./ops.ts";
import type { Tensor } from "./tensor.ts";

/** The arguments of each operation by name, as `createOps` hands them to a backend. */
export interface OpArguments {
  layerNorm: { out: Tensor; x: Tensor; weight: Tensor; bias: Tensor; eps: number };
  groupNorm: { out: Tensor; x: Tensor; weight: Tensor; bias: Tensor; heads: number; eps: number };
  tokenShift: { outs: readonly Tensor[]; x: Tensor; shift: Tensor; mix: readonly Tensor[] };
  shiftDelta: { out: Tensor; x: Tensor; shift: Tensor };
  addMul: { out: Tensor; x: Tensor; a: Tensor; b: Tensor };
  matmul: { out: Tensor; w: Tensor; x: Tensor };
  lora: {
    out: Tensor;
    x: Tensor;
    down: Tensor;
    up: Tensor;
    bias: Tensor | null;
    inner: Activation;
    outer: Activation;
  };
  activate: { out: Tensor; x: Tensor; f: Activation };
  add: { x: Tensor; y: Tensor; scale: number };
  mul: { x: Tensor; y: Tensor };
  lerp: { x: Tensor; target: Tensor; weight: Tensor };
  copy: { out: Tensor; x: Tensor };
  selectRows: { out: Tensor; x: Tensor };
  l2NormHeads: { out: Tensor; x: Tensor; scale: Tensor; heads: number; eps: number };
  scaleKey: { k: Tensor; a: Tensor; kA: Tensor };
  addBonus: { y: Tensor; r: Tensor; k: Tensor; v: Tensor; rK: Tensor; heads: number };
  wkv4: {
    y: Tensor;
    aa: Tensor;
    bb: Tensor;
    pp: Tensor;
    k: Tensor;
    v: Tensor;
    decay: Tensor;
    first: Tensor;
  };
  wkv6: { y: Tensor; wkv: Tensor; r: Tensor; k: Tensor; v: Tensor; decay: Tensor; first: Tensor };
  wkv7: {
    y: Tensor;
    wkv: Tensor;
    r: Tensor;
    w: Tensor;
    k: Tensor;
    v: Tensor;
    kk: Tensor;
    a: Tensor;
  };
}

/** Name of an operation. */
export type OpName = keyof OpArguments;

/** One operation of a forward pass, its arguments checked. */
export type OpCall = { [Name in OpName]: { readonly op: Name } & Readonly<OpArguments[Name]> }[OpName];

/** `out` is written, `in` is read, `inout` both. */
export type Role = "out" | "inout" | "in";

type TensorArguments<Name extends OpName> = {
  [
    Argument in keyof OpArguments[Name] as OpArguments[Name][Argument] extends
      Tensor | null | readonly Tensor[]
      ? Argument
      : never
  ]: Role;
};

/** The role of every tensor argument of every operation. */
export const SIGNATURES: { readonly [Name in OpName]: Readonly<TensorArguments<Name>> } = {
  layerNorm: { out: "out", x: "in", weight: "in", bias: "in" },
  groupNorm: { out: "out", x: "in", weight: "in", bias: "in" },
  tokenShift: { outs: "out", x: "in", shift: "inout", mix: "in" },
  shiftDelta: { out: "out", x: "in", shift: "inout" },
  addMul: { out: "out", x: "in", a: "in", b: "in" },
  matmul: { out: "out", w: "in", x: "in" },
  lora: { out: "out", x: "in", down: "in", up: "in", bias: "in" },
  activate: { out: "out", x: "in" },
  add: { x: "inout", y: "in" },
  mul: { x: "inout", y: "in" },
  lerp: { x: "inout", target: "in", weight: "in" },
  copy: { out: "out", x: "in" },
  selectRows: { out: "out", x: "in" },
  l2NormHeads: { out: "out", x: "in", scale: "in" },
  scaleKey: { k: "inout", a: "in", kA: "in" },
  addBonus: { y: "inout", r: "in", k: "in", v: "in", rK: "in" },
  wkv4: { y: "out", aa: "inout", bb: "inout", pp: "inout", k: "in", v: "in", decay: "in", first: "in" },
  wkv6: { y: "out", wkv: "inout", r: "in", k: "in", v: "in", decay: "in", first: "in" },
  wkv7: { y: "out", wkv: "inout", r: "in", w: "in", k: "in", v: "in", kk: "in", a: "in" },
};

/** A tensor argument of a call, with its name and role. */
export interface Operand {
  readonly argument: string;
  readonly role: Role;
  readonly tensor: Tensor;
}

/** The tensor arguments of a call in the order of the table; an array counts once per element. */
export function operandsOf(call: OpCall): Operand[] {
  const roles = SIGNATURES[call.op] as Readonly<Record<string, Role>>;
  const values = call as unknown as Readonly<Record<string, Tensor | readonly Tensor[] | null>>;
  const operands: Operand[] = [];
  for (const [argument, role] of Object.entries(roles)) {
    const value = values[argument];
    if (value === null || value === undefined) continue;
    if (isTensorList(value)) {
      value.forEach((tensor, i) => operands.push({ argument: `${argument}[${String(i)}]`, role, tensor }));
    } else {
      operands.push({ argument, role, tensor: value });
    }
  }
  return operands;
}

function isTensorList(value: Tensor | readonly Tensor[]): value is readonly Tensor[] {
  return Array.isArray(value);
}
