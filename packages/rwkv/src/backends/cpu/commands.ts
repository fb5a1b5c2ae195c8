// From the recorded operations to the commands that the kernels know: each operation's operands in the order of abi.ts,
// and the passes that fuse neighbours. A pass removes no write: whatever a model file wrote can be read afterwards.

import { byteLengthOf } from "../../core/dtype.ts";
import type { Activation } from "../../ops/ops.ts";
import type { OpCall, Role } from "../../ops/signature.ts";
import { rowElements, type RowKind, type Tensor } from "../../ops/tensor.ts";
import * as abi from "./abi.ts";

/** One record of the command list, before it has addresses. */
export interface Command {
  /** OP_... of abi.ts, which also says what the operands are. */
  readonly op: number;
  readonly operands: readonly Tensor[];
  readonly heads: number;
  /** Epsilon or scale. */
  readonly scalar: number;
  /** Applied to the result before it is stored. */
  readonly activation: Activation;
}

/**
 * Low-rank maps that follow one another without sharing the rows between their factors, so that all first factors can
 * run before all second ones. No layer has more.
 */
const HIDDEN_SETS = 6;

export type DeclareScratch = (width: number, rows: RowKind) => Tensor;

/**
 * @param declareScratch - makes rows that only the command list knows
 * @returns the commands in program order, fused
 */
export function lower(calls: readonly OpCall[], declareScratch: DeclareScratch): Command[] {
  const hidden = new Map<string, Tensor>();
  let nMaps = 0;
  const hiddenRows = (width: number, rows: RowKind): Tensor => {
    const key = `${rows} ${width} ${nMaps++ % HIDDEN_SETS}`;
    const tensor = hidden.get(key) ?? declareScratch(width, rows);
    hidden.set(key, tensor);
    return tensor;
  };
  return fuseActivations(calls.flatMap((call) => commandsOf(call, hiddenRows)));
}

/** A product whose result the next command only activates in place becomes one command. */
function fuseActivations(commands: readonly Command[]): Command[] {
  const fused: Command[] = [];
  for (const command of commands) {
    const before = fused.at(-1);
    const [out, x] = command.operands;
    if (
      command.op === abi.OP_ACTIVATE &&
      before?.op === abi.OP_MATMUL &&
      before.activation === "none" &&
      out === x &&
      before.operands[0] === x
    ) {
      fused[fused.length - 1] = { ...before, activation: command.activation };
    } else {
      fused.push(command);
    }
  }
  return fused;
}

type Attributes = Partial<Pick<Command, "heads" | "scalar" | "activation">>;

function command(op: number, operands: readonly Tensor[], attributes: Attributes = {}): Command {
  return { op, operands, heads: 1, scalar: 0, activation: "none", ...attributes };
}

function commandsOf(call: OpCall, hiddenRows: DeclareScratch): Command[] {
  switch (call.op) {
    case "layerNorm":
      return [command(abi.OP_LAYER_NORM, [call.out, call.x, call.weight, call.bias], { scalar: call.eps })];
    case "groupNorm": {
      const attributes = { heads: call.heads, scalar: call.eps };
      return [command(abi.OP_GROUP_NORM, [call.out, call.x, call.weight, call.bias], attributes)];
    }
    case "tokenShift": {
      const pairs = call.outs.flatMap((out, i) => [out, call.mix[i]!]);
      return [command(abi.OP_TOKEN_SHIFT, [call.x, call.shift, ...pairs])];
    }
    case "shiftDelta":
      return [command(abi.OP_SHIFT_DELTA, [call.out, call.x, call.shift])];
    case "addMul":
      return [command(abi.OP_ADD_MUL, [call.out, call.x, call.a, call.b])];
    case "matmul":
      return [command(abi.OP_MATMUL, [call.out, call.w, call.x])];
    case "lora": {
      const hidden = hiddenRows(call.down.shape[0]!, call.x.rows);
      const down = command(abi.OP_MATMUL, [hidden, call.down, call.x], { activation: call.inner });
      const outer = { activation: call.outer };
      const up =
        call.bias === null
          ? command(abi.OP_MATMUL, [call.out, call.up, hidden], outer)
          : command(abi.OP_MATMUL_BIAS, [call.out, call.up, hidden, call.bias], outer);
      return [down, up];
    }
    case "activate":
      return [command(abi.OP_ACTIVATE, [call.out, call.x], { activation: call.f })];
    case "add":
      return [command(abi.OP_ADD, [call.x, call.y], { scalar: call.scale })];
    case "mul":
      return [command(abi.OP_MUL, [call.x, call.y])];
    case "lerp":
      return [command(abi.OP_LERP, [call.x, call.target, call.weight])];
    case "copy":
      return [command(abi.OP_COPY, [call.out, call.x])];
    case "selectRows":
      return [command(abi.OP_SELECT_ROWS, [call.out, call.x])];
    case "l2NormHeads": {
      const attributes = { heads: call.heads, scalar: call.eps };
      return [command(abi.OP_L2_NORM_HEADS, [call.out, call.x, call.scale], attributes)];
    }
    case "scaleKey":
      return [command(abi.OP_SCALE_KEY, [call.k, call.a, call.kA])];
    case "addBonus":
      return [command(abi.OP_ADD_BONUS, [call.y, call.r, call.k, call.v, call.rK], { heads: call.heads })];
    case "wkv4": {
      const { y, aa, bb, pp, k, v, decay, first } = call;
      return [command(abi.OP_WKV4, [y, aa, bb, pp, k, v, decay, first])];
    }
    case "wkv6": {
      const { y, wkv, r, k, v, decay, first } = call;
      return [command(abi.OP_WKV6, [y, wkv, r, k, v, decay, first], { heads: wkv.shape[0]! })];
    }
    case "wkv7": {
      const { y, wkv, r, w, k, v, kk, a } = call;
      return [command(abi.OP_WKV7, [y, wkv, r, w, k, v, kk, a], { heads: wkv.shape[0]! })];
    }
    default:
      return call satisfies never;
  }
}

/** Whether a command reads or writes an operand; those are listed in abi.ts. Rows that are only written, are written whole. */
export function roleOf({ op }: Command, operand: number): Role {
  switch (op) {
    case abi.OP_TOKEN_SHIFT:
      if (operand === 1) return "inout";
      return operand >= 2 && operand % 2 === 0 ? "out" : "in";
    case abi.OP_SHIFT_DELTA:
      if (operand === 2) return "inout";
      break;
    case abi.OP_WKV4:
      if (operand >= 1 && operand <= 3) return "inout";
      break;
    case abi.OP_WKV6:
    case abi.OP_WKV7:
      if (operand === 1) return "inout";
      break;
    case abi.OP_ADD:
    case abi.OP_MUL:
    case abi.OP_LERP:
    case abi.OP_SCALE_KEY:
    case abi.OP_ADD_BONUS:
      if (operand === 0) return "inout";
      break;
  }
  return operand === 0 ? "out" : "in";
}

export function isMatmul({ op }: Command): boolean {
  return op === abi.OP_MATMUL || op === abi.OP_MATMUL_BIAS;
}

/** Bytes of one row of the matrix of a product; 0 for other commands. */
export function matrixRowBytes(command: Command): number {
  if (!isMatmul(command)) return 0;
  const [, w, x] = command.operands;
  return byteLengthOf(w!.dtype, [rowElements(x!)]);
}

/** The rows that a command works on: those of its destination. */
export function rowsOf({ op, operands }: Command): RowKind {
  return operands[op === abi.OP_TOKEN_SHIFT ? 2 : 0]!.rows;
}

/** Cost of a command per row, in multiply-adds of a product; only used to cut steps into slices of similar length. */
export function workPerRow(command: Command): number {
  const [first, second, third] = command.operands;
  if (isMatmul(command)) return rowElements(first!) * rowElements(third!);
  if (command.op === abi.OP_WKV6 || command.op === abi.OP_WKV7) return 4 * rowElements(second!);
  return 4 * command.operands.length * rowElements(first!);
}
