// From the recorded operations to the commands that become dispatches: low-rank maps are two products, and a product takes
// the activation that follows it. No write is lost: whatever a model file wrote can be read afterwards.

import type { Activation } from "../../ops/ops.ts";
import type { OpCall } from "../../ops/signature.ts";
import type { RowKind, Tensor } from "../../ops/tensor.ts";

/** out = activation(bias + w x) */
export interface Product {
  readonly op: "product";
  readonly out: Tensor;
  readonly w: Tensor;
  readonly x: Tensor;
  readonly bias: Tensor | null;
  readonly activation: Activation;
}

export type Command = Exclude<OpCall, { op: "matmul" | "lora" }> | Product;

/** Makes rows that only the commands know. */
export type DeclareScratch = (width: number, rows: Exclude<RowKind, "none">) => Tensor;

export function lower(calls: readonly OpCall[], declareScratch: DeclareScratch): Command[] {
  const hidden = new Map<string, Tensor>();
  const hiddenRows = (width: number, { rows }: Tensor): Tensor => {
    if (rows === "none") throw new RangeError("rows of a product are token or logit rows");
    const key = `${rows} ${width}`;
    const tensor = hidden.get(key) ?? declareScratch(width, rows);
    hidden.set(key, tensor);
    return tensor;
  };
  const commands: Command[] = [];
  for (const call of calls) {
    switch (call.op) {
      case "matmul": {
        const { out, w, x } = call;
        commands.push({ op: "product", out, w, x, bias: null, activation: "none" });
        break;
      }
      case "lora": {
        const { out, x, down, up, bias, inner, outer } = call;
        const between = hiddenRows(down.shape[0]!, x);
        commands.push(
          { op: "product", out: between, w: down, x, bias: null, activation: inner },
          { op: "product", out, w: up, x: between, bias, activation: outer },
        );
        break;
      }
      case "activate": {
        const before = commands.at(-1);
        if (
          before?.op === "product" &&
          before.activation === "none" &&
          before.out === call.x &&
          call.out === call.x
        ) {
          commands[commands.length - 1] = { ...before, activation: call.f };
        } else {
          commands.push(call);
        }
        break;
      }
      default:
        commands.push(call);
    }
  }
  return commands;
}
