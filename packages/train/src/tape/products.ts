// The nodes of products: matrices, low-rank maps, and adapters beside a frozen matrix.

import type { OpArguments } from "rwkv/ops";
import { anyWanted } from "./nodes.ts";
import type { Adapter, Tracer } from "./tracer.ts";
import type { Value, Weight } from "./graph.ts";

export function addMatmul(t: Tracer, call: OpArguments["matmul"]): void {
  const x = t.read(call.x);
  const w = t.weight(call.w);
  const adapter = t.adapter(w);
  if (adapter !== undefined) {
    addAdapted(t, t.write(call.out, true), x, w, adapter);
    return;
  }
  const out = t.write(call.out, anyWanted([x], [w]));
  const [nOut, nIn] = w.shape as readonly [number, number];
  t.add({
    op: "matmul",
    reads: [x],
    writes: [out],
    keeps: w.isTrained ? [x] : [],
    gradientsOf: [out],
    gradients: x.isWanted ? [x] : [],
    forward: (k, m, { rows }) => k.gemm(m.data(out), m.data(x), m.weight(w), rows, nOut, nIn, "nt", false),
    backward(k, m, { rows }, added) {
      const dw = m.weightGradient(w);
      if (dw !== null) k.gemm(dw, m.gradient(out), m.data(x), nOut, nIn, rows, "tn", true);
      if (x.isWanted) k.gemm(m.gradient(x), m.gradient(out), m.weight(w), rows, nIn, nOut, "nn", added !== 0);
    },
  });
}

/** out = x W^T + (scale x A^T) B^T: the matrix itself gets no gradient, which saves a third of the work. */
function addAdapted(t: Tracer, out: Value, x: Value, w: Weight, { down, up, scale }: Adapter): void {
  const [nOut, nIn] = w.shape as readonly [number, number];
  const rank = down.shape[0]!;
  const z = t.extra("adapter", "row", rank);
  const dz = t.extra("adapter gradient", "row", rank);
  t.add({
    op: "adapted",
    reads: [x],
    writes: [out, z],
    keeps: [x, z],
    gradientsOf: [out],
    gradients: x.isWanted ? [x] : [],
    scratch: [dz],
    forward(k, m, { rows }) {
      k.gemm(m.data(out), m.data(x), m.weight(w), rows, nOut, nIn, "nt", false);
      k.gemm(m.data(z), m.data(x), m.weight(down), rows, rank, nIn, "nt", false);
      k.addScaled(m.data(z), m.data(z), m.data(z), scale - 1, rows * rank);
      k.gemm(m.data(out), m.data(z), m.weight(up), rows, nOut, rank, "nt", true);
    },
    backward(k, m, { rows }, added) {
      const dOut = m.gradient(out);
      k.gemm(m.weightGradient(up)!, dOut, m.data(z), nOut, rank, rows, "tn", true);
      k.gemm(m.gradient(dz), dOut, m.weight(up), rows, rank, nOut, "nn", false);
      k.addScaled(m.gradient(dz), m.gradient(dz), m.gradient(dz), scale - 1, rows * rank);
      k.gemm(m.weightGradient(down)!, m.gradient(dz), m.data(x), rank, nIn, rows, "tn", true);
      if (!x.isWanted) return;
      k.gemm(m.gradient(x), dOut, m.weight(w), rows, nIn, nOut, "nn", added !== 0);
      k.gemm(m.gradient(x), m.gradient(dz), m.weight(down), rows, nIn, rank, "nn", true);
    },
  });
}

/** out = outer(bias + up inner(down x)), in four steps whose middle ones are left out where they change nothing. */
export function addLora(t: Tracer, call: OpArguments["lora"]): void {
  const { inner, outer } = call;
  const x = t.read(call.x);
  const down = t.weight(call.down);
  const up = t.weight(call.up);
  const bias = call.bias === null ? null : t.weight(call.bias);
  const [nOut, rank] = up.shape as readonly [number, number];
  const nIn = x.elements;
  const isWanted = anyWanted([x], bias === null ? [down, up] : [down, up, bias]);

  const z = t.extra("rank", "row", rank);
  const activated = inner === "none" ? z : t.extra("rank activated", "row", rank);
  const dz = t.extra("rank gradient", "row", rank);
  const hasOuter = outer !== "none" || bias !== null;
  const product = hasOuter ? t.extra("product", "row", nOut) : null;
  const out = t.write(call.out, isWanted);
  const raw = product ?? out;
  t.add({
    op: "lora",
    reads: [x],
    writes: [out, z, ...(activated === z ? [] : [activated]), ...(product === null ? [] : [product])],
    keeps: [x, z, activated, ...(product === null ? [] : [product, out])],
    gradientsOf: [out],
    overwrites: hasOuter,
    gradients: x.isWanted ? [x] : [],
    scratch: [dz],
    forward(k, m, { rows }) {
      k.gemm(m.data(z), m.data(x), m.weight(down), rows, rank, nIn, "nt", false);
      if (activated !== z) k.activate(m.data(activated), m.data(z), null, rows, rank, inner);
      k.gemm(m.data(raw), m.data(activated), m.weight(up), rows, nOut, rank, "nt", false);
      if (product === null) return;
      k.activate(m.data(out), m.data(product), bias === null ? null : m.weight(bias), rows, nOut, outer);
    },
    backward(k, m, { rows }, added) {
      const dOut = m.gradient(out);
      if (product !== null) {
        const values = bias === null ? null : m.weight(bias);
        const dBias = bias === null ? null : m.weightGradient(bias);
        k.activateBackward(dOut, dBias, dOut, m.data(product), m.data(out), values, rows, nOut, outer);
      }
      const dUp = m.weightGradient(up);
      if (dUp !== null) k.gemm(dUp, dOut, m.data(activated), nOut, rank, rows, "tn", true);
      k.gemm(m.gradient(dz), dOut, m.weight(up), rows, rank, nOut, "nn", false);
      if (activated !== z) {
        const d = m.gradient(dz);
        k.activateBackward(d, null, d, m.data(z), m.data(activated), null, rows, rank, inner);
      }
      const dDown = m.weightGradient(down);
      if (dDown !== null) k.gemm(dDown, m.gradient(dz), m.data(x), rank, nIn, rows, "tn", true);
      if (x.isWanted)
        k.gemm(m.gradient(x), m.gradient(dz), m.weight(down), rows, nIn, rank, "nn", added !== 0);
    },
  });
}
