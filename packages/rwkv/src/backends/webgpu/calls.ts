// Which kernel computes which command, on which operands.

import { isQuantized } from "../../core/dtype.ts";
import type { Activations } from "../../ops/backend.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import type { Command, Product } from "./commands.ts";
import * as elementwise from "./kernels/elementwise.ts";
import type { GridRows, KernelCall, KernelOperand, KernelScalar } from "./kernels/kernel.ts";
import { productVariants } from "./kernels/matmul.ts";
import { ADD_BONUS, HEAD_THREADS, L2_NORM, norm, ROW_THREADS } from "./kernels/norms.ts";
import type { KernelFeatures } from "./kernels/product.ts";
import { WKV4, WKV4_THREADS, wkv6, wkv7 } from "./kernels/wkv.ts";
import type { Place } from "./memory.ts";
import type { Matrix } from "./weights.ts";

/** Where the values of handles are. */
export interface Places {
  /** Of everything but matrices. */
  readonly placeOf: (tensor: Tensor) => Place;
  readonly matrixOf: (tensor: Tensor) => Matrix;
}

/** What kernels are chosen by, beside the command. */
export interface KernelChoice {
  readonly features: KernelFeatures;
  /** Of products with quantised weights. */
  readonly activations: Activations;
}

/** The dispatches of a command: one, or one for each part of a matrix. */
export function kernelCalls(command: Command, places: Places, choice: KernelChoice): KernelCall[] {
  const read = (name: string, tensor: Tensor): KernelOperand => ({
    name,
    place: places.placeOf(tensor),
    isWritten: false,
    type: "f32",
  });
  const write = (name: string, tensor: Tensor): KernelOperand => ({ ...read(name, tensor), isWritten: true });
  const words = (operand: KernelOperand): KernelOperand => ({ ...operand, type: "u32" });

  /** One thread per element of `out`. */
  const forElements = (
    out: Tensor,
    operands: readonly KernelOperand[],
    text: string,
    scalars: readonly KernelScalar[] = [],
  ): KernelCall[] => {
    const width = rowElements(out);
    const nGroups = Math.ceil(width / elementwise.ELEMENTS_PER_GROUP);
    return [call(command.op, out, operands, [u32("width", width), ...scalars], nGroups, rowsOf(out), text)];
  };
  /** One workgroup per group of consecutive elements. */
  const forGroups = (
    out: Tensor,
    nParts: number,
    operands: readonly KernelOperand[],
    text: string,
    scalars: readonly KernelScalar[] = [],
  ): KernelCall[] => {
    const n = rowElements(out) / nParts;
    return [call(command.op, out, operands, [u32("n", n), ...scalars], nParts, rowsOf(out), text)];
  };

  switch (command.op) {
    case "product":
      return products(command, places, choice, read, write);
    case "layerNorm": {
      const { out, x, weight, bias, eps } = command;
      const operands = [write("out", out), read("x", x), read("weight", weight), read("bias", bias)];
      return forGroups(out, 1, operands, norm(ROW_THREADS), [f32("eps", eps)]);
    }
    case "groupNorm": {
      const { out, x, weight, bias, heads, eps } = command;
      const operands = [write("out", out), read("x", x), read("weight", weight), read("bias", bias)];
      return forGroups(out, heads, operands, norm(HEAD_THREADS), [f32("eps", eps)]);
    }
    case "l2NormHeads": {
      const { out, x, scale, heads, eps } = command;
      const operands = [write("out", out), read("x", x), read("scale", scale)];
      return forGroups(out, heads, operands, L2_NORM, [f32("eps", eps)]);
    }
    case "addBonus": {
      const { y, r, k, v, rK, heads } = command;
      const operands = [write("y", y), read("r", r), read("k", k), read("v", v), read("rK", rK)];
      return forGroups(y, heads, operands, ADD_BONUS);
    }
    case "tokenShift": {
      const { outs, x, shift, mix } = command;
      const pairs = outs.flatMap((out, i) => [write(`out${i}`, out), read(`mix${i}`, mix[i]!)]);
      const operands = [read("x", x), write("shift", shift), ...pairs];
      return forElements(x, operands, elementwise.tokenShift(outs.length));
    }
    case "shiftDelta": {
      const { out, x, shift } = command;
      return forElements(
        out,
        [write("out", out), read("x", x), write("shift", shift)],
        elementwise.SHIFT_DELTA,
      );
    }
    case "addMul": {
      const { out, x, a, b } = command;
      return forElements(
        out,
        [write("out", out), read("x", x), read("a", a), read("b", b)],
        elementwise.ADD_MUL,
      );
    }
    case "activate": {
      const { out, x, f } = command;
      const text = f === "none" ? elementwise.COPY : elementwise.activate(f);
      const operands = [write("out", out), read("x", x)];
      return forElements(out, f === "none" ? operands.map(words) : operands, text);
    }
    case "add": {
      const { x, y, scale } = command;
      return forElements(x, [write("x", x), read("y", y)], elementwise.ADD, [f32("scale", scale)]);
    }
    case "mul":
      return forElements(command.x, [write("x", command.x), read("y", command.y)], elementwise.MUL);
    case "lerp": {
      const { x, target, weight } = command;
      return forElements(x, [write("x", x), read("goal", target), read("weight", weight)], elementwise.LERP);
    }
    case "copy":
      return forElements(
        command.out,
        [write("out", command.out), read("x", command.x)].map(words),
        elementwise.COPY,
      );
    case "selectRows":
      return forElements(
        command.out,
        [write("out", command.out), read("x", command.x)].map(words),
        elementwise.SELECT_ROWS,
      );
    case "scaleKey": {
      const { k, a, kA } = command;
      return forElements(k, [write("k", k), read("a", a), read("kA", kA)], elementwise.SCALE_KEY);
    }
    case "wkv4": {
      const { y, aa, bb, pp, k, v, decay, first } = command;
      const states = [write("aa", aa), write("bb", bb), write("pp", pp)];
      const inputs = [read("k", k), read("v", v), read("decay", decay), read("first", first)];
      const width = rowElements(y);
      const operands = [write("y", y), ...states, ...inputs];
      return [call("wkv4", y, operands, [u32("width", width)], Math.ceil(width / WKV4_THREADS), "run", WKV4)];
    }
    case "wkv6": {
      const { y, wkv, r, k, v, decay, first } = command;
      const inputs = [read("r", r), read("k", k), read("v", v), read("decay", decay), read("first", first)];
      const [heads, headSize] = wkv.shape as readonly [number, number, number];
      return [
        call("wkv6", y, [write("y", y), write("wkv", wkv), ...inputs], [], heads, "run", wkv6(headSize)),
      ];
    }
    case "wkv7": {
      const { y, wkv, r, w, k, v, kk, a } = command;
      const inputs = [read("r", r), read("w", w), read("k", k), read("v", v), read("kk", kk), read("a", a)];
      const [heads, headSize] = wkv.shape as readonly [number, number, number];
      return [
        call("wkv7", y, [write("y", y), write("wkv", wkv), ...inputs], [], heads, "run", wkv7(headSize)),
      ];
    }
    default:
      return command satisfies never;
  }
}

type MakeOperand = (name: string, tensor: Tensor) => KernelOperand;

function products(
  { out, w, x, bias, activation }: Product,
  { matrixOf }: Places,
  { features, activations }: KernelChoice,
  read: MakeOperand,
  write: MakeOperand,
): KernelCall[] {
  const { dtype, parts } = matrixOf(w);
  const nIn = rowElements(x);
  const from = (operand: KernelOperand, row: number): KernelOperand => ({
    ...operand,
    place: { ...operand.place, at: operand.place.at + row },
  });
  const rows = rowsOf(out);
  const isRounded = activations === "int8" && isQuantized(dtype);
  const kind = { dtype, rows, activation, hasBias: bias !== null, isRounded };
  return parts.map(({ firstRow, nRows, place }) => ({
    label: `product ${w.name} -> ${out.name}`,
    operands: [
      from(write("out", out), firstRow),
      read("x", x),
      { name: "w", place, isWritten: false, type: "vec4u" },
      ...(bias === null ? [] : [from(read("bias", bias), firstRow)]),
    ],
    scalars: [u32("n_in", nIn), u32("n_out", nRows)],
    rows,
    variants: productVariants(kind, features, nRows),
    work: nIn * nRows,
  }));
}

function call(
  op: string,
  out: Tensor,
  operands: readonly KernelOperand[],
  scalars: readonly KernelScalar[],
  nGroups: number,
  rows: GridRows,
  text: string,
): KernelCall {
  const variants = [{ maxRows: Infinity, rowsPerGroup: 1, nGroups, text }];
  return { label: `${op} -> ${out.name}`, operands, scalars, rows, variants, work: 0 };
}

const u32 = (name: string, value: number): KernelScalar => ({ name, type: "u32", value });
const f32 = (name: string, value: number): KernelScalar => ({ name, type: "f32", value });

function rowsOf({ rows }: Tensor): "token" | "logit" {
  return rows === "logit" ? "logit" : "token";
}
