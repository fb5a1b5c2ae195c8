// Writes commands, tensors and the context into memory in the layout of abi.ts.

import { rowElements, type Tensor } from "../../ops/tensor.ts";
import type { Activation } from "../../ops/ops.ts";
import type { WeightDType } from "../../core/dtype.ts";
import type { WeightLayout } from "../../core/layout.ts";
import type { Activations } from "../../ops/backend.ts";
import * as abi from "./abi.ts";
import type { Regions } from "./arena.ts";
import { isMatmul, matrixRowBytes, rowsOf } from "./commands.ts";
import type { ScheduledCommand } from "./schedule.ts";

/** Types that the kernels read. */
export type KernelDType = Exclude<WeightDType, "f64">;

const DTYPE_NUMBERS: Readonly<Record<KernelDType, number>> = {
  f32: abi.DTYPE_F32,
  f16: abi.DTYPE_F16,
  bf16: abi.DTYPE_BF16,
  q4_0: abi.DTYPE_Q4_0,
  q4_1: abi.DTYPE_Q4_1,
  q5_0: abi.DTYPE_Q5_0,
  q5_1: abi.DTYPE_Q5_1,
  q8_0: abi.DTYPE_Q8_0,
  q2_k: abi.DTYPE_Q2_K,
  q3_k: abi.DTYPE_Q3_K,
  q4_k: abi.DTYPE_Q4_K,
  q5_k: abi.DTYPE_Q5_K,
  q6_k: abi.DTYPE_Q6_K,
  q8: abi.DTYPE_Q8,
  q4: abi.DTYPE_Q4,
  nf4: abi.DTYPE_NF4,
  sf4: abi.DTYPE_SF4,
};

const LAYOUT_NUMBERS: Readonly<Record<WeightLayout, number>> = {
  rows: abi.LAYOUT_ROWS,
  panels: abi.LAYOUT_PANELS,
  columns: abi.LAYOUT_COLUMNS,
};

/** LAYOUT_... of abi.ts. */
export function layoutNumber(layout: WeightLayout): number {
  return LAYOUT_NUMBERS[layout];
}

const ACTIVATION_NUMBERS: Readonly<Record<Activation, number>> = {
  none: abi.ACTIVATION_NONE,
  sigmoid: abi.ACTIVATION_SIGMOID,
  silu: abi.ACTIVATION_SILU,
  tanh: abi.ACTIVATION_TANH,
  reluSquared: abi.ACTIVATION_RELU_SQUARED,
  decay6: abi.ACTIVATION_DECAY6,
  decay7: abi.ACTIVATION_DECAY7,
};

/** DTYPE_... of abi.ts; f64 was refused when it was uploaded. */
export function dtypeNumber(dtype: WeightDType): number {
  return DTYPE_NUMBERS[dtype as KernelDType];
}

/** Where the data of a tensor lies, and in which order. */
export interface Place {
  readonly address: number;
  readonly layout: WeightLayout;
}

const NOWHERE: Place = { address: 0, layout: "rows" };

/** Where the tables of an encoded command list lie. */
export interface Encoded {
  readonly context: number;
  /** The words by which threads wait for one another. */
  readonly control: number;
  /** Tables that are written anew for each step. */
  readonly runs: number;
  readonly logitRows: number;
  readonly tensors: number;
}

/**
 * Takes memory for the tables of a command list and writes what stays the same for all steps.
 * @param nTensors - of the program; records name them by number
 * @param placeOf - of a weight its address, of a state its offset in a slot; rows get theirs with `setAddress`
 * @throws DeviceError if there is no memory
 */
export function encodeProgram(
  arena: Regions,
  nTensors: number,
  commands: readonly ScheduledCommand[],
  maxRows: number,
  nThreads: number,
  activations: Activations,
  placeOf: (tensor: Tensor) => Place,
): Encoded {
  const what = "the command list";
  const nOperands = commands.reduce((sum, { operands }) => sum + operands.length, 0);
  const context = arena.allocate(abi.CONTEXT_BYTES, what);
  const records = arena.allocate(commands.length * abi.RECORD_BYTES, what);
  const operands = arena.allocate(nOperands * 4, what);
  const table = arena.allocate(nTensors * abi.TENSOR_BYTES, what);
  const runs = arena.allocate(maxRows * abi.RUN_BYTES, what);
  const logitRows = arena.allocate(maxRows * 4, what);
  const scratchBytes = widestMatrix(commands) * 4 * abi.SCRATCH_ROWS + SCRATCH_TAIL_BYTES;
  const scratch = arena.allocate(nThreads * scratchBytes, "room to decode weights in");
  const control = arena.allocate(abi.CONTROL_BYTES, what);

  const { words } = arena;
  words.fill(0, context / 4, (context + abi.CONTEXT_BYTES) / 4);
  words.fill(0, control / 4, (control + abi.CONTROL_BYTES) / 4);
  const setContext = (field: number, value: number): void => {
    words[(context + field) / 4] = value;
  };
  setContext(abi.CONTEXT_TENSORS, table);
  setContext(abi.CONTEXT_RECORDS, records);
  setContext(abi.CONTEXT_OPERANDS, operands);
  setContext(abi.CONTEXT_RUNS, runs);
  setContext(abi.CONTEXT_LOGIT_ROWS, logitRows);
  setContext(abi.CONTEXT_SCRATCH, scratch);
  setContext(abi.CONTEXT_SCRATCH_BYTES, scratchBytes);
  setContext(abi.CONTEXT_N_RECORDS, commands.length);
  setContext(abi.CONTEXT_N_THREADS, nThreads);
  setContext(abi.CONTEXT_CONTROL, control);
  setContext(abi.CONTEXT_INT8_ACTIVATIONS, activations === "int8" ? 1 : 0);
  for (const tensor of new Set(commands.flatMap(({ operands }) => operands))) {
    const at = (table + tensor.index * abi.TENSOR_BYTES) / 4;
    const isRows = tensor.rows !== "none";
    const { address, layout } = isRows ? NOWHERE : placeOf(tensor);
    words[at + abi.TENSOR_ADDRESS / 4] = address % 2 ** 32;
    words[at + abi.TENSOR_ADDRESS_HIGH / 4] = Math.floor(address / 2 ** 32);
    words[at + abi.TENSOR_WIDTH / 4] = rowElements(tensor);
    words[at + abi.TENSOR_ROW_BYTES / 4] = isRows ? rowElements(tensor) * 4 : 0;
    words[at + abi.TENSOR_DTYPE / 4] = dtypeNumber(tensor.dtype);
    words[at + abi.TENSOR_LAYOUT / 4] = layoutNumber(layout);
  }
  writeRecords(arena, commands, records, operands);
  return { context, control, runs, logitRows, tensors: table };
}

function writeRecords(
  arena: Regions,
  commands: readonly ScheduledCommand[],
  records: number,
  operands: number,
): void {
  const { words, floats } = arena;
  let nOperands = 0;
  commands.forEach((command, i) => {
    const at = (records + i * abi.RECORD_BYTES) / 4;
    words[at + abi.RECORD_OP / 4] = command.op;
    words[at + abi.RECORD_FIRST_OPERAND / 4] = nOperands;
    words[at + abi.RECORD_N_OPERANDS / 4] = command.operands.length;
    words[at + abi.RECORD_IS_LOGIT / 4] = rowsOf(command) === "logit" ? 1 : 0;
    words[at + abi.RECORD_HEADS / 4] = command.heads;
    floats[at + abi.RECORD_SCALAR / 4] = command.scalar;
    words[at + abi.RECORD_ACTIVATION / 4] = ACTIVATION_NUMBERS[command.activation];
    words[at + abi.RECORD_MATRIX_ROW_BYTES / 4] = matrixRowBytes(command);
    words[at + abi.RECORD_GRANULE / 4] = command.granule;
    words[at + abi.RECORD_BARRIER / 4] = command.needsBarrier ? 1 : 0;
    for (const { index } of command.operands) words[operands / 4 + nOperands++] = index;
  });
}

/** Tells the kernels where the rows of a tensor lie from now on. */
export function setAddress(arena: Regions, { tensors }: Encoded, tensor: Tensor, address: number): void {
  arena.words[(tensors + tensor.index * abi.TENSOR_BYTES + abi.TENSOR_ADDRESS) / 4] = address;
}

/** Room behind the rows: 16 outputs of four rows, or 64 of one. */
const SCRATCH_TAIL_BYTES = 256;

/** Inputs of the widest matrix. */
function widestMatrix(commands: readonly ScheduledCommand[]): number {
  let widest = 0;
  for (const command of commands) {
    if (isMatmul(command)) widest = Math.max(widest, rowElements(command.operands[2]!));
  }
  return widest;
}
