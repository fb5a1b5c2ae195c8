// From the record of an operation back to the call that made it.

import type { Ops } from "./ops.ts";
import type { OpCall } from "./signature.ts";

/** Calls the operation again. */
export function applyCall(ops: Ops, call: OpCall): void {
  switch (call.op) {
    case "layerNorm":
      ops.layerNorm(call.out, call.x, call, call.eps);
      return;
    case "groupNorm":
      ops.groupNorm(call.out, call.x, call, call.heads, call.eps);
      return;
    case "tokenShift":
      ops.tokenShift(call.outs, call.x, call.shift, call.mix);
      return;
    case "shiftDelta":
      ops.shiftDelta(call.out, call.x, call.shift);
      return;
    case "addMul":
      ops.addMul(call.out, call.x, call.a, call.b);
      return;
    case "matmul":
      ops.matmul(call.out, call.w, call.x);
      return;
    case "lora":
      ops.lora(call.out, call.x, call, call.inner, call.outer);
      return;
    case "activate":
      ops.activate(call.out, call.x, call.f);
      return;
    case "add":
      ops.add(call.x, call.y, call.scale);
      return;
    case "mul":
      ops.mul(call.x, call.y);
      return;
    case "lerp":
      ops.lerp(call.x, call.target, call.weight);
      return;
    case "copy":
      ops.copy(call.out, call.x);
      return;
    case "selectRows":
      ops.selectRows(call.out, call.x);
      return;
    case "l2NormHeads":
      ops.l2NormHeads(call.out, call.x, call.scale, call.heads, call.eps);
      return;
    case "scaleKey":
      ops.scaleKey(call.k, call.a, call.kA);
      return;
    case "addBonus":
      ops.addBonus(call.y, call.r, call.k, call.v, call.rK, call.heads);
      return;
    case "wkv4":
      ops.wkv4(call.y, call, call.k, call.v, call.decay, call.first);
      return;
    case "wkv6":
      ops.wkv6(call.y, call.wkv, call.r, call.k, call.v, call.decay, call.first);
      return;
    case "wkv7":
      ops.wkv7(call.y, call.wkv, call.r, call.w, call.k, call.v, call.kk, call.a);
      return;
    default:
      return call satisfies never;
  }
}
