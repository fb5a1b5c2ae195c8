// From the recorded operations to the commands that fusion.ts works on: a matrix product is a command with room for what
// follows it, and a low-rank map is two of them.

import type { Activation } from "../../ops/ops.ts";
import type { OpCall } from "../../ops/signature.ts";
import type { RowKind, Tensor } from "../../ops/tensor.ts";

/** out = base + scale * factor * activation(bias + w x); base and out may be the same rows. */
export interface Product {
  readonly op: "product";
  readonly out: Tensor;
  readonly w: Tensor;
  readonly x: Tensor;
  /** A weight; null for 0. */
  readonly bias: Tensor | null;
  readonly activation: Activation;
  /** As wide as `out`: rows, or a weight used for every row; null for 1. */
  readonly factor: Tensor | null;
  /** Null for 0. */
  readonly base: Tensor | null;
  readonly scale: number;
}

export type Command = Exclude<OpCall, { op: "matmul" | "lora" }> | Product;

/** Makes rows that only the commands know. */
export type DeclareScratch = (name: string, width: number, rows: Exclude<RowKind, "none">) => Tensor;

/** Inner rows that low-rank maps of one width take in turn, more than a layer has maps: maps side by side share none. */
const LOW_RANK_TURNS = 8;

const AS_IT_IS = { bias: null, activation: "none", factor: null, base: null, scale: 1 } as const;

export function lower(calls: readonly OpCall[], declareScratch: DeclareScratch): Command[] {
  const inner = new Map<string, Tensor>();
  const nMaps = new Map<string, number>();
  const innerRows = (width: number, { rows }: Tensor): Tensor => {
    if (rows === "none") throw new RangeError("rows of a product are token or logit rows");
    const kind = `${rows} ${width}`;
    const turn = (nMaps.get(kind) ?? 0) % LOW_RANK_TURNS;
    nMaps.set(kind, turn + 1);
    const key = `${kind} ${turn}`;
    const tensor = inner.get(key) ?? declareScratch(`low-rank ${width}.${turn}`, width, rows);
    inner.set(key, tensor);
    return tensor;
  };
  return calls.flatMap((call): Command[] => {
    switch (call.op) {
      case "matmul": {
        const { out, w, x } = call;
        return [{ ...AS_IT_IS, op: "product", out, w, x }];
      }
      case "lora": {
        const { out, x, down, up, bias } = call;
        const between = innerRows(down.shape[0]!, x);
        return [
          { ...AS_IT_IS, op: "product", out: between, w: down, x, activation: call.inner },
          { ...AS_IT_IS, op: "product", out, w: up, x: between, bias, activation: call.outer },
        ];
      }
      case "activate":
        return [call.f === "none" ? { op: "copy", out: call.out, x: call.x } : call];
      default:
        return [call];
    }
  });
}
