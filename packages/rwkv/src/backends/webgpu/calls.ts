// Which kernel computes which command, on which operands.

import { operandsOf, type OpCall } from "../../ops/signature.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import { accessOf } from "./access.ts";
import { writtenBy, type Chain, type FusedCommand, type Shift, type Stage } from "./fusion.ts";
import { activationNumber } from "./kernels/activations.ts";
import type { GridRows, KernelCall, KernelOperand, KernelScalar } from "./kernels/kernel.ts";
import { SHIFT_COLUMNS, shiftText } from "./kernels/shift.ts";
import { ELEMENT_THREADS, HEAD_THREADS, ROW_THREADS, stagesText } from "./kernels/stages.ts";
import { WKV4, WKV4_THREADS, wkv6, wkv7 } from "./kernels/wkv.ts";
import { bytesOfRows, f32, operandOf, rowsOf, u32, type Places } from "./operands.ts";
import { productCalls, type KernelChoice } from "./product-calls.ts";

/** The dispatches of a command: one, but for products in several buffers. */
export function kernelCalls(command: FusedCommand, places: Places, choice: KernelChoice): KernelCall[] {
  switch (command.op) {
    case "products":
      return productCalls(command.products, places, choice);
    case "chain":
      return [chainCall(command, places)];
    case "shift":
      return [shiftCall(command, places)];
    case "wkv4": {
      const width = rowElements(command.y);
      return [wkvCall(command, places, Math.ceil(width / WKV4_THREADS), [u32("width", width)], WKV4)];
    }
    case "wkv6":
    case "wkv7": {
      const [heads, headSize] = command.wkv.shape as readonly [number, number, number];
      const text = command.op === "wkv6" ? wkv6(headSize) : wkv7(headSize);
      return [wkvCall(command, places, heads, [], text)];
    }
    default:
      return command satisfies never;
  }
}

function chainCall(command: Chain, places: Places): KernelCall {
  const { nGroups, stages } = command;
  const outs = stages.map(writtenBy);
  const width = rowElements(outs[0]!);
  const n = nGroups === null ? ELEMENT_THREADS : width / nGroups;
  const nThreads = nGroups === null ? ELEMENT_THREADS : nGroups === 1 ? ROW_THREADS : HEAD_THREADS;
  // What is only moved is moved as words, so that no value is touched.
  const type = stages.every(({ op }) => op === "copy" || op === "selectRows") ? "u32" : "f32";
  return call({
    command,
    label: `${stages.map(({ op }) => op).join(", ")} -> ${namesOf(outs)}`,
    rows: rowsOf(outs[0]!),
    nGroups: Math.ceil(width / n),
    operands: stages.flatMap((stage, k) =>
      operandsOf(stage).map(({ argument, role, tensor }) => ({
        ...operandOf(`${argument}_${k}`, tensor, places, role !== "in"),
        type,
      })),
    ),
    scalars: [u32("width", width), u32("n", n), ...stages.flatMap(stageScalars)],
    text: stagesText(stages, nThreads),
  });
}

function stageScalars(stage: Stage, k: number): KernelScalar[] {
  switch (stage.op) {
    case "layerNorm":
    case "groupNorm":
    case "l2NormHeads":
      return [f32(`eps_${k}`, stage.eps)];
    case "add":
      return [f32(`scale_${k}`, stage.scale)];
    case "activate":
      return [u32(`f_${k}`, activationNumber(stage.f))];
    default:
      return [];
  }
}

function shiftCall(command: Shift, places: Places): KernelCall {
  const { norm, x, isXKept, shift, delta, outs, mix } = command;
  const read = (name: string, tensor: Tensor): KernelOperand => operandOf(name, tensor, places, false);
  const write = (name: string, tensor: Tensor): KernelOperand => operandOf(name, tensor, places, true);
  const width = rowElements(x);
  const kernel = {
    hasNorm: norm !== null,
    isXKept: norm !== null && isXKept,
    hasDelta: delta !== null,
    nOuts: outs.length,
  };
  const written = [...(kernel.isXKept ? [x] : []), ...(delta === null ? [] : [delta]), ...outs];
  return call({
    command,
    label: `${norm === null ? "" : "layerNorm, "}tokenShift -> ${namesOf(written)}`,
    rows: "token",
    nGroups: Math.ceil(width / SHIFT_COLUMNS),
    operands: [
      read("x", norm?.x ?? x),
      write("shift", shift),
      ...(norm === null ? [] : [read("weight", norm.weight), read("bias", norm.bias)]),
      ...(kernel.isXKept ? [write("xn", x)] : []),
      ...(delta === null ? [] : [write("delta", delta)]),
      ...outs.flatMap((out, i) => [write(`out${i}`, out), read(`mix${i}`, mix[i]!)]),
    ],
    scalars: [u32("width", width), ...(norm === null ? [] : [f32("eps", norm.eps)])],
    text: shiftText(kernel),
  });
}

function wkvCall(
  command: Extract<OpCall, { op: "wkv4" | "wkv6" | "wkv7" }>,
  places: Places,
  nGroups: number,
  scalars: readonly KernelScalar[],
  text: string,
): KernelCall {
  const operands = operandsOf(command).map(({ argument, role, tensor }) =>
    operandOf(argument, tensor, places, role !== "in"),
  );
  const label = `${command.op} -> ${command.y.name}`;
  return call({ command, label, rows: "run", nGroups, operands, scalars, text });
}

interface CallOptions {
  readonly command: FusedCommand;
  readonly label: string;
  readonly rows: GridRows;
  readonly nGroups: number;
  readonly operands: readonly KernelOperand[];
  readonly scalars: readonly KernelScalar[];
  readonly text: string;
}

/** A dispatch of one part and one variant. */
function call({ command, label, rows, nGroups, operands, scalars, text }: CallOptions): KernelCall {
  return {
    label,
    parts: [{ operands, scalars, nGroups: [nGroups] }],
    isGrouped: false,
    rows,
    variants: [{ maxRows: Infinity, rowsPerGroup: 1, text }],
    work: 0,
    traffic: { matrices: 0, others: bytesOfRows(accessOf(command)) },
  };
}

const namesOf = (tensors: readonly Tensor[]): string =>
  [...new Set(tensors.map(({ name }) => name))].join(", ");
