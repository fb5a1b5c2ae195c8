// Which kernel computes which command, on which operands.

import { operandsOf, type OpCall } from "../../ops/signature.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import { accessOf } from "./access.ts";
import {
  writtenBy,
  type Chain,
  type FusedCommand,
  type Heads,
  type Recurrence,
  type Shift,
  type Stage,
} from "./fusion.ts";
import { activationNumber } from "./kernels/activations.ts";
import type { GridRows, KernelCall, KernelOperand, KernelScalar } from "./kernels/kernel.ts";
import { SHIFT_COLUMNS, shiftText } from "./kernels/shift.ts";
import {
  ELEMENT_THREADS,
  HEAD_THREADS,
  ROW_THREADS,
  stageFunctions,
  stagesText,
  stageStatements,
} from "./kernels/stages.ts";
import { wkv4, WKV4_THREADS, wkv6, wkv7 } from "./kernels/wkv.ts";
import { bytesOfRows, f32, operandOf, rowsOf, u32, type Places } from "./operands.ts";
import { productCalls, type KernelChoice } from "./product-calls.ts";

/** The dispatches of a command: one in a step, but for products in several buffers and heads in longer runs. */
export function kernelCalls(command: FusedCommand, places: Places, choice: KernelChoice): KernelCall[] {
  switch (command.op) {
    case "products":
      return productCalls(command.products, places, choice);
    case "chain":
      return [chainCall(command, places)];
    case "shift":
      return [shiftCall(command, places)];
    case "heads": {
      const { before, recurrence, after } = command;
      if (before === null && after === null) return [headsCall(command, places)];
      const bare = { op: "heads", before: null, recurrence, after: null } as const;
      const apart = [
        ...(before === null ? [] : [chainCall(before, places)]),
        headsCall(bare, places),
        ...(after === null ? [] : [chainCall(after, places)]),
      ];
      return [
        { ...headsCall(command, places), steps: "single rows" },
        ...apart.map((call): KernelCall => ({ ...call, steps: "longer runs" })),
      ];
    }
    default:
      return command satisfies never;
  }
}

function chainCall(command: Chain, places: Places): KernelCall {
  const { nGroups, stages } = command;
  const out = writtenBy(stages[0]!);
  const width = rowElements(out);
  const n = nGroups === null ? ELEMENT_THREADS : width / nGroups;
  const nThreads = nGroups === null ? ELEMENT_THREADS : nGroups === 1 ? ROW_THREADS : HEAD_THREADS;
  // What is only moved is moved as words, so that no value is touched.
  const type = stages.every(({ op }) => op === "copy" || op === "selectRows") ? "u32" : "f32";
  return makeCall({
    command,
    label: `${namesOf(stages)} -> ${outsOf(stages)}`,
    rows: rowsOf(out),
    nGroups: Math.ceil(width / n),
    operands: stageOperands(stages, places).map((operand) => ({ ...operand, type })),
    scalars: [u32("width", width), u32("n", n), ...stages.flatMap(stageScalars)],
    text: stagesText(stages, nThreads),
  });
}

function headsCall(command: Heads, places: Places): KernelCall {
  const { recurrence } = command;
  const before = command.before?.stages ?? [];
  const after = command.after?.stages ?? [];
  const stages = [...before, ...after];
  const width = rowElements(recurrence.y);
  const [nGroups, nThreads] =
    recurrence.op === "wkv4"
      ? [Math.ceil(width / WKV4_THREADS), WKV4_THREADS]
      : (recurrence.wkv.shape as readonly [number, number, number]);
  const around = {
    functions: stages.length === 0 ? "" : stageFunctions(stages, nThreads),
    before: stageStatements(before, 0),
    after: stageStatements(after, before.length),
  };
  const texts = {
    wkv4: () => wkv4(around),
    wkv6: () => wkv6(nThreads, around),
    wkv7: () => wkv7(nThreads, around),
  };
  return makeCall({
    command,
    label: `${namesOf([...before, recurrence, ...after])} -> ${outsOf([...before, recurrence, ...after])}`,
    rows: "run",
    nGroups,
    operands: [
      ...operandsOf(recurrence).map(({ argument, role, tensor }) =>
        operandOf(argument, tensor, places, role !== "in"),
      ),
      ...stageOperands(stages, places),
    ],
    scalars: [u32("width", width), ...stages.flatMap(stageScalars)],
    text: texts[recurrence.op](),
  });
}

function stageOperands(stages: readonly Stage[], places: Places): KernelOperand[] {
  return stages.flatMap((stage, k) =>
    operandsOf(stage).map(({ argument, role, tensor }) =>
      operandOf(`${argument}_${k}`, tensor, places, role !== "in"),
    ),
  );
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
  return makeCall({
    command,
    label: `${norm === null ? "" : "layerNorm, "}tokenShift -> ${written.map(({ name }) => name).join(", ")}`,
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
function makeCall({ command, label, rows, nGroups, operands, scalars, text }: CallOptions): KernelCall {
  return {
    label,
    parts: [{ operands, scalars, nGroups: [nGroups] }],
    isGrouped: false,
    steps: "all",
    rows,
    variants: [{ maxRows: Infinity, rowsPerGroup: 1, text }],
    work: 0,
    traffic: { matrices: 0, sparse: 0, others: bytesOfRows(accessOf(command)) },
  };
}

const namesOf = (calls: readonly OpCall[]): string => calls.map(({ op }) => op).join(", ");

const outsOf = (calls: readonly (Stage | Recurrence)[]): string =>
  [...new Set(calls.map((call) => writtenBy(call).name))].join(", ");
