// From the record of an operation back to the call that made it.

import type { Ops } from "./ops.ts";
import type { OpCall } from "./signature.ts";

/** Calls the operation again. */
export function applyCall(ops: Ops, call: OpCall): void {
  switch (call.op) {
    case "layerNorm":
      return ops.layerNorm(call.out, call.x, call, call.eps);
    case "groupNorm":
      return ops.groupNorm(call.out, call.x, call, call.heads, call.eps);
    case "tokenShift":
      return ops.tokenShift(call.outs, call.x, call.shift, call.mix);
    case "shiftDelta":
      return ops.shiftDelta(call.out, call.x, call.shift);
    case "addMul":
      return ops.addMul(call.out, call.x, call.a, call.b);
    case "matmul":
      return ops.matmul(call.out, call.w, call.x);
    case "lora":
      return ops.lora(call.out, call.x, call, call.inner, call.outer);
    case "activate":
      return ops.activate(call.out, call.x, call.f);
    case "add":
      return ops.add(call.x, call.y, call.scale);
    case "mul":
      return ops.mul(call.x, call.y);
    case "lerp":
      return ops.lerp(call.x, call.target, call.weight);
    case "copy":
      return ops.copy(call.out, call.x);
    case "selectRows":
      return ops.selectRows(call.out, call.x);
    case "l2NormHeads":
      return ops.l2NormHeads(call.out, call.x, call.scale, call.heads, call.eps);
    case "scaleKey":
      return ops.scaleKey(call.k, call.a, call.kA);
    case "addBonus":
      return ops.addBonus(call.y, call.r, call.k, call.v, call.rK, call.heads);
    case "wkv4":
      return ops.wkv4(call.y, call, call.k, call.v, call.decay, call.first);
    case "wkv6":
      return ops.wkv6(call.y, call.wkv, call.r, call.k, call.v, call.decay, call.first);
    case "wkv7":
      return ops.wkv7(call.y, call.wkv, call.r, call.w, call.k, call.v, call.kk, call.a);
    default:
      return call satisfies never;
  }
}
