// The one implementation of the `Ops` interface: it checks every call against the shape rule of its operation and
// hands it to the backend as a record. So no backend checks shapes, and all refuse the same calls.

import { ShapeError } from "../core/errors.ts";
import type { Ops } from "./ops.ts";
import { operandsOf, type OpCall } from "./signature.ts";
import { rowElements, type Tensor } from "./tensor.ts";

/**
 * @param emit - receives each call, checked, in program order
 * @returns the interface that model files compute through
 */
export function createOps(emit: (call: OpCall) => void): Ops {
  const send = (call: OpCall): void => {
    check(call);
    emit(call);
  };
  return {
    layerNorm: (out, x, { weight, bias }, eps) => send({ op: "layerNorm", out, x, weight, bias, eps }),
    groupNorm: (out, x, { weight, bias }, heads, eps) =>
      send({ op: "groupNorm", out, x, weight, bias, heads, eps }),
    tokenShift: (outs, x, shift, mix) => send({ op: "tokenShift", outs, x, shift, mix }),
    shiftDelta: (out, x, shift) => send({ op: "shiftDelta", out, x, shift }),
    addMul: (out, x, a, b) => send({ op: "addMul", out, x, a, b }),
    matmul: (out, w, x) => send({ op: "matmul", out, w, x }),
    lora: (out, x, { down, up, bias }, inner, outer) =>
      send({ op: "lora", out, x, down, up, bias, inner, outer }),
    activate: (out, x, f) => send({ op: "activate", out, x, f }),
    add: (x, y, scale) => send({ op: "add", x, y, scale }),
    mul: (x, y) => send({ op: "mul", x, y }),
    lerp: (x, target, weight) => send({ op: "lerp", x, target, weight }),
    copy: (out, x) => send({ op: "copy", out, x }),
    selectRows: (out, x) => send({ op: "selectRows", out, x }),
    l2NormHeads: (out, x, scale, heads, eps) => send({ op: "l2NormHeads", out, x, scale, heads, eps }),
    scaleKey: (k, a, kA) => send({ op: "scaleKey", k, a, kA }),
    addBonus: (y, r, k, v, rK, heads) => send({ op: "addBonus", y, r, k, v, rK, heads }),
    wkv4: (y, { aa, bb, pp }, k, v, decay, first) => send({ op: "wkv4", y, aa, bb, pp, k, v, decay, first }),
    wkv6: (y, wkv, r, k, v, decay, first) => send({ op: "wkv6", y, wkv, r, k, v, decay, first }),
    wkv7: (y, wkv, r, w, k, v, kk, a) => send({ op: "wkv7", y, wkv, r, w, k, v, kk, a }),
  };
}

function check(call: OpCall): void {
  checkDestinations(call);
  switch (call.op) {
    case "layerNorm":
      checkRows(call, [call.out, call.x]);
      checkWeights(call, [call.weight, call.bias], rowElements(call.x));
      return;
    case "groupNorm":
      checkRows(call, [call.out, call.x]);
      checkWeights(call, [call.weight, call.bias], rowElements(call.x));
      checkHeads(call, call.x, call.heads);
      return;
    case "tokenShift":
      if (call.outs.length !== call.mix.length) {
        fail(
          call,
          `${String(call.outs.length)} outputs for ${String(call.mix.length)} mix vectors; give one of each.`,
        );
      }
      checkRows(call, [call.x, ...call.outs]);
      checkTokenRows(call, call.x);
      if (new Set(call.outs).size < call.outs.length) {
        fail(call, `an output stands twice among ${call.outs.map(describe).join(", ")}; give each its own.`);
      }
      checkWeights(call, call.mix, rowElements(call.x));
      checkState(call, call.shift, [rowElements(call.x)]);
      checkApart(call, call.outs, [call.x]);
      return;
    case "shiftDelta":
      checkRows(call, [call.out, call.x]);
      checkTokenRows(call, call.x);
      checkState(call, call.shift, [rowElements(call.x)]);
      checkApart(call, [call.out], [call.x]);
      return;
    case "addMul":
      checkRows(call, [call.out, call.x, call.a]);
      if (call.b.kind === "weight") checkWeights(call, [call.b], rowElements(call.x));
      else checkRows(call, [call.x, call.b]);
      return;
    case "matmul":
      checkMatrix(call, call.w, rowElements(call.out), rowElements(call.x));
      checkSameRowKind(call, [call.out, call.x]);
      checkApart(call, [call.out], [call.x]);
      return;
    case "lora": {
      const rank = call.down.shape[0] ?? 0;
      checkMatrix(call, call.down, rank, rowElements(call.x));
      checkMatrix(call, call.up, rowElements(call.out), rank);
      if (call.bias !== null) checkWeights(call, [call.bias], rowElements(call.out));
      checkSameRowKind(call, [call.out, call.x]);
      checkApart(call, [call.out], [call.x]);
      return;
    }
    case "activate":
    case "copy":
      checkRows(call, [call.out, call.x]);
      return;
    case "add":
    case "mul":
      checkRows(call, [call.x, call.y]);
      return;
    case "lerp":
      checkRows(call, [call.x, call.target, call.weight]);
      return;
    case "selectRows":
      if (
        call.out.rows !== "logit" ||
        call.x.rows !== "token" ||
        rowElements(call.out) !== rowElements(call.x)
      ) {
        fail(
          call,
          `expected logit rows from token rows of the same width, found ${describe(call.out)}, ${describe(call.x)}.`,
        );
      }
      return;
    case "l2NormHeads":
      checkRows(call, [call.out, call.x]);
      checkWeights(call, [call.scale], rowElements(call.x));
      checkHeads(call, call.x, call.heads);
      return;
    case "scaleKey":
      checkRows(call, [call.k, call.a]);
      checkWeights(call, [call.kA], rowElements(call.k));
      return;
    case "addBonus":
      checkRows(call, [call.y, call.r, call.k, call.v]);
      checkWeights(call, [call.rK], rowElements(call.y));
      checkHeads(call, call.y, call.heads);
      checkApart(call, [call.y], [call.r, call.k, call.v]);
      return;
    case "wkv4": {
      const width = rowElements(call.y);
      checkRows(call, [call.y, call.k, call.v]);
      checkTokenRows(call, call.y);
      checkWeights(call, [call.decay, call.first], width);
      for (const state of [call.aa, call.bb, call.pp]) checkState(call, state, [width]);
      checkApart(call, [call.y], [call.k, call.v]);
      return;
    }
    case "wkv6":
      checkRows(call, [call.y, call.r, call.k, call.v]);
      checkTokenRows(call, call.y);
      checkWeights(call, [call.first], rowElements(call.y));
      if (call.decay.kind === "weight") checkWeights(call, [call.decay], rowElements(call.y));
      else checkRows(call, [call.y, call.decay]);
      checkWkvState(call, call.wkv, rowElements(call.y));
      checkApart(call, [call.y], [call.r, call.k, call.v, call.decay]);
      return;
    case "wkv7": {
      const inputs = [call.r, call.w, call.k, call.v, call.kk, call.a];
      checkRows(call, [call.y, ...inputs]);
      checkTokenRows(call, call.y);
      checkWkvState(call, call.wkv, rowElements(call.y));
      checkApart(call, [call.y], inputs);
      return;
    }
    default:
      call satisfies never;
  }
}

/** Only scratch, outputs and state are written. */
function checkDestinations(call: OpCall): void {
  for (const { argument, role, tensor } of operandsOf(call)) {
    if (role !== "in" && (tensor.kind === "weight" || tensor.kind === "input")) {
      fail(call, `${argument} is written, but ${describe(tensor)} is a read-only ${tensor.kind}.`);
    }
  }
}

function checkSameRowKind(call: OpCall, tensors: readonly Tensor[]): void {
  const first = tensors[0];
  for (const tensor of tensors) {
    if (tensor.rows === "none" || tensor.rows !== first?.rows) {
      fail(call, `expected rows of one kind, found ${tensors.map(describe).join(", ")}.`);
    }
  }
}

/** Operations per run know the rows of a run only among all tokens. */
function checkTokenRows(call: OpCall, x: Tensor): void {
  if (x.rows !== "token") fail(call, `works on whole runs, so on token rows; found ${describe(x)}.`);
}

function checkRows(call: OpCall, tensors: readonly Tensor[]): void {
  checkSameRowKind(call, tensors);
  const width = rowElements(tensors[0]!);
  for (const tensor of tensors) {
    if (rowElements(tensor) !== width) {
      fail(call, `expected rows of one width, found ${tensors.map(describe).join(", ")}.`);
    }
  }
}

function checkWeights(call: OpCall, tensors: readonly Tensor[], width: number): void {
  for (const tensor of tensors) {
    if (tensor.kind !== "weight" || tensor.dtype !== "f32" || rowElements(tensor) !== width) {
      fail(call, `expected an f32 weight of ${String(width)} elements, found ${describe(tensor)}.`);
    }
  }
}

function checkMatrix(call: OpCall, w: Tensor, outputs: number, inputs: number): void {
  if (w.kind !== "weight" || w.shape.length !== 2 || w.shape[0] !== outputs || w.shape[1] !== inputs) {
    fail(call, `expected a weight [${String(outputs)}, ${String(inputs)}], found ${describe(w)}.`);
  }
}

function checkState(call: OpCall, state: Tensor, shape: readonly number[]): void {
  if (state.kind !== "state" || state.shape.join() !== shape.join()) {
    fail(call, `expected a state [${shape.join(", ")}], found ${describe(state)}.`);
  }
}

function checkWkvState(call: OpCall, wkv: Tensor, width: number): void {
  const [heads = 0, rows, columns] = wkv.shape;
  if (wkv.kind !== "state" || wkv.shape.length !== 3 || rows !== columns || heads * (rows ?? 0) !== width) {
    fail(call, `expected a state [H, N, N] with H * N = ${String(width)}, found ${describe(wkv)}.`);
  }
}

function checkHeads(call: OpCall, x: Tensor, heads: number): void {
  if (!Number.isInteger(heads) || heads < 1 || rowElements(x) % heads !== 0) {
    fail(call, `${String(heads)} heads do not divide ${describe(x)}.`);
  }
}

function checkApart(call: OpCall, outs: readonly Tensor[], inputs: readonly Tensor[]): void {
  for (const out of outs) {
    if (inputs.includes(out))
      fail(call, `${describe(out)} is both written and read; use another destination.`);
  }
}

function describe(tensor: Tensor): string {
  const rows = tensor.rows === "none" ? "" : `${tensor.rows} rows of `;
  return `${tensor.kind} "${tensor.name}" (${rows}[${tensor.shape.join(", ")}], ${tensor.dtype})`;
}

function fail(call: OpCall, reason: string): never {
  throw new ShapeError(`${call.op}: ${reason}`);
}
