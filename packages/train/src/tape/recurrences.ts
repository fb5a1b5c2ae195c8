// The nodes of the recurrences wkv4, wkv6 (versions 5 and 6) and wkv7.

import type { OpArguments } from "rwkv/ops";
import { anyWanted } from "./nodes.ts";
import type { Tracer } from "./tracer.ts";

export function addWkv4(t: Tracer, call: OpArguments["wkv4"]): void {
  const [aa, bb, pp] = [t.state(call.aa), t.state(call.bb), t.state(call.pp)];
  const [key, v] = [t.read(call.k), t.read(call.v)];
  const [decay, first] = [t.weight(call.decay), t.weight(call.first)];
  const before = [aa.before, bb.before, pp.before];
  const y = t.write(call.y, anyWanted([key, v, ...before], [decay, first]));
  const width = y.elements;
  t.add({
    op: "wkv4",
    reads: [key, v, ...before],
    writes: [y, aa.after, bb.after, pp.after],
    keeps: [key, v, ...before],
    gradientsOf: [y],
    gradients: [key, v],
    forward: (k, m, { runs }) =>
      k.wkv4(
        m.data(y),
        m.data(aa.after),
        m.data(bb.after),
        m.data(pp.after),
        m.data(key),
        m.data(v),
        m.weight(decay),
        m.weight(first),
        m.data(aa.before),
        m.data(bb.before),
        m.data(pp.before),
        runs,
        width,
      ),
    backward: (k, m, { runs }, added) =>
      k.wkv4Backward(
        m.gradient(key),
        m.gradient(v),
        m.weightGradient(decay),
        m.weightGradient(first),
        m.stateGradient(aa.name),
        m.stateGradient(bb.name),
        m.gradient(y),
        m.data(key),
        m.data(v),
        m.weight(decay),
        m.weight(first),
        m.data(aa.before),
        m.data(bb.before),
        m.data(pp.before),
        runs,
        width,
        added,
      ),
  });
}

export function addWkv6(t: Tracer, call: OpArguments["wkv6"]): void {
  const [heads, headSize] = call.wkv.shape as readonly [number, number, number];
  const state = t.state(call.wkv);
  const [r, key, v] = [t.read(call.r), t.read(call.k), t.read(call.v)];
  const first = t.weight(call.first);
  const isPerRow = call.decay.kind !== "weight";
  const decayRows = isPerRow ? [t.read(call.decay)] : [];
  const decayWeights = isPerRow ? [] : [t.weight(call.decay)];
  const checkpoints = t.extra("checkpoints", "chunk", heads * headSize * headSize);
  const rows = [r, key, v, ...decayRows];
  const y = t.write(call.y, anyWanted([...rows, state.before], [first, ...decayWeights]));
  const width = y.elements;
  const [decayRow] = decayRows;
  const [decayWeight] = decayWeights;
  t.add({
    op: "wkv6",
    reads: [...rows, state.before],
    writes: [y, state.after, checkpoints],
    keeps: [...rows, checkpoints],
    gradientsOf: [y],
    gradients: rows,
    forward: (k, m, { runs }) =>
      k.wkv6(
        m.data(y),
        m.data(state.after),
        m.data(checkpoints),
        m.data(r),
        m.data(key),
        m.data(v),
        decayRow === undefined ? m.weight(decayWeight!) : m.data(decayRow),
        m.weight(first),
        m.data(state.before),
        runs,
        width,
        heads,
        isPerRow,
      ),
    backward: (k, m, { runs }, added) =>
      k.wkv6Backward(
        m.gradient(r),
        m.gradient(key),
        m.gradient(v),
        decayRow === undefined ? m.weightGradient(decayWeight!) : m.gradient(decayRow),
        m.weightGradient(first),
        m.stateGradient(state.name),
        m.gradient(y),
        m.data(r),
        m.data(key),
        m.data(v),
        decayRow === undefined ? m.weight(decayWeight!) : m.data(decayRow),
        m.weight(first),
        m.data(checkpoints),
        runs,
        width,
        heads,
        isPerRow,
        added,
      ),
  });
}

export function addWkv7(t: Tracer, call: OpArguments["wkv7"]): void {
  const [heads, headSize] = call.wkv.shape as readonly [number, number, number];
  const state = t.state(call.wkv);
  const [r, w, key] = [t.read(call.r), t.read(call.w), t.read(call.k)];
  const [v, kk, a] = [t.read(call.v), t.read(call.kk), t.read(call.a)];
  const checkpoints = t.extra("checkpoints", "chunk", heads * headSize * headSize);
  const rows = [r, w, key, v, kk, a];
  const y = t.write(call.y, anyWanted([...rows, state.before]));
  const width = y.elements;
  t.add({
    op: "wkv7",
    reads: [...rows, state.before],
    writes: [y, state.after, checkpoints],
    keeps: [...rows, checkpoints],
    gradientsOf: [y],
    gradients: rows,
    forward: (k, m, { runs }) =>
      k.wkv7(
        m.data(y),
        m.data(state.after),
        m.data(checkpoints),
        m.data(r),
        m.data(w),
        m.data(key),
        m.data(v),
        m.data(kk),
        m.data(a),
        m.data(state.before),
        runs,
        width,
        heads,
      ),
    backward: (k, m, { runs }, added) =>
      k.wkv7Backward(
        m.gradient(r),
        m.gradient(w),
        m.gradient(key),
        m.gradient(v),
        m.gradient(kk),
        m.gradient(a),
        m.stateGradient(state.name),
        m.gradient(y),
        m.data(r),
        m.data(w),
        m.data(key),
        m.data(v),
        m.data(kk),
        m.data(a),
        m.data(checkpoints),
        runs,
        width,
        heads,
        added,
      ),
  });
}
